"""A model's identity: SHA-256 of its file, or of its edges and its table of tensors where reading all of it takes too long.

The first and last 8 MiB and the table of names, types and places change with any other quantisation, conversion or
version of a model. Results are kept with the file's size and time of change, so that each file is read once.

    python -c "from rigbench.models.hashes import sha256_of; print(sha256_of('model.gguf'))"
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from rigbench.errors import InputError
from rigbench.models.formats.folders import header_length, weight_files
from rigbench.models.formats.gguf import parts_of, read_gguf
from rigbench.paths import cache_dir, read_json, write_json

FULL_UP_TO_BYTES = 256 << 20
EDGE_BYTES = 8 << 20


def sha256_of(path: str | Path) -> tuple[str, str]:
    """(hex digest, `file` or `edges`) of a GGUF file, of all parts of a split one, or of a folder's safetensors.

    Several files have their digests' digest. Raises InputError where a file cannot be read.
    """
    path = Path(path)
    files = weight_files(path) if path.is_dir() else parts_of(path)
    try:
        hashes = [_remembered(file) for file in files]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if len(hashes) == 1:
        return hashes[0]
    joined = hashlib.sha256("".join(digest for digest, _ in hashes).encode())
    return joined.hexdigest(), "edges" if any(of == "edges" for _, of in hashes) else "file"


def _remembered(file: Path) -> tuple[str, str]:
    state = file.stat()
    key = hashlib.sha256(os.fsencode(file.resolve())).hexdigest()[:32]
    note = cache_dir() / "hashes" / f"{key}.json"
    stamp = {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
    known = read_json(note)
    if stamp.items() <= known.items() and {"sha256", "of"} <= known.keys():
        return str(known["sha256"]), str(known["of"])
    of = "file" if state.st_size <= FULL_UP_TO_BYTES else "edges"
    if of == "file":
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    else:
        digest = _edges(file, state.st_size)
    write_json(note, {**stamp, "sha256": digest, "of": of})
    return digest, of


def _edges(file: Path, size_bytes: int) -> str:
    if file.suffix == ".gguf":
        header = read_gguf(file)
        start, end = header.table_start, header.data_start
    else:
        start, end = 0, header_length(file)
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        for place, length in ((0, EDGE_BYTES), (size_bytes - EDGE_BYTES, EDGE_BYTES), (start, end - start)):
            opened.seek(place)
            digest.update(opened.read(length))
    return digest.hexdigest()
