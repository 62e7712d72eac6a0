"""GGUF files: read the header and the tensor table (never the weights), and write a header.

Every count and length is held against the size of the file before anything is read or kept, so that a cut, damaged or
hostile file gives one InputError quickly, in little memory. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

    python -c "from rigbench.models.formats.gguf import read_gguf; print(read_gguf('model.gguf').tensors[:3])"
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from rigbench.errors import InputError
from rigbench.models.footprint import gguf_parts, model_facts
from rigbench.models.kv import cache_from_metadata, gguf_settings
from rigbench.models.mixes import BLOCKS, tensor_bytes
from rigbench.models.names import QUANTS
from rigbench.records import ModelFacts

MAGIC = b"GGUF"
ALIGNMENT = 32
MAX_HEADER_BYTES = 128 << 20
"""Larger than any vocabulary in use (a 262 k vocabulary with its merges takes 20 MB)."""
_KEPT_ARRAY = 4096
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TYPE_NAMES = {block.number: name for name, block in BLOCKS.items()}
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_MAX_PARTS = 999


class TensorInfo(NamedTuple):
    """One row of the tensor table; `offset` counts from the start of the file."""

    name: str
    dims: tuple[int, ...]
    kind: str
    size_bytes: int
    offset: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a file says of itself. Of arrays that are long or hold text only the length is kept (`lengths`)."""

    path: Path
    metadata: Mapping[str, Any]
    lengths: Mapping[str, int]
    tensors: tuple[TensorInfo, ...]
    table_start: int
    data_start: int
    file_bytes: int


class _Cursor:
    """Walks the header; reads the file in large steps, and never past its end or past MAX_HEADER_BYTES."""

    def __init__(self, file: IO[bytes], name: str, size: int) -> None:
        self.file, self.name, self.size = file, name, size
        self.buffer, self.at = bytearray(), 0

    def fail(self, fault: str) -> NoReturn:
        raise InputError(f"{self.name} {fault}")

    def need(self, count: int, what: str) -> int:
        """Makes `count` more bytes available; gives the place where they start."""
        start, end = self.at, self.at + count
        if end > self.size:
            self.fail(f"is cut off or damaged: {what} runs past the end of the file; download it again.")
        if end > MAX_HEADER_BYTES:
            self.fail(f"is damaged: its header is larger than {MAX_HEADER_BYTES >> 20} MiB.")
        if end > len(self.buffer):
            self.buffer += self.file.read(max(end - len(self.buffer), 1 << 20))
            if end > len(self.buffer):
                self.fail("changed while it was read.")
        self.at = end
        return start

    def scalar(self, code: str, what: str) -> Any:
        return self.scalars(1, code, what)[0]

    def scalars(self, count: int, code: str, what: str) -> tuple[Any, ...]:
        layout = f"<{count}{code}"
        return struct.unpack_from(layout, self.buffer, self.need(struct.calcsize(layout), what))

    def text(self, what: str, limit: int = 1 << 20) -> str:
        length = self.scalar("Q", what)
        if length > limit:
            self.fail(f"is damaged: {what} is {length} bytes long.")
        start = self.need(length, what)
        return self.buffer[start : self.at].decode("utf-8", "replace")


def read_gguf(path: str | Path) -> GgufHeader:
    """Header and tensor table of one file. Raises InputError: no such file, not a GGUF, cut off, damaged."""
    path = Path(path)
    try:
        state = path.stat()
        return _read_once(path, state.st_size, state.st_mtime_ns)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, not a GGUF file.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


@lru_cache(maxsize=4)
def _read_once(path: Path, size: int, _mtime_ns: int) -> GgufHeader:
    """A large vocabulary takes a tenth of a second, and facts, parts and hash of a file each begin with it."""
    with path.open("rb") as file:
        return _read(_Cursor(file, path.name, size), path)


def _read(cursor: _Cursor, path: Path) -> GgufHeader:
    if cursor.size < 24 or cursor.buffer[cursor.need(4, "the magic") : 4] != MAGIC:
        cursor.fail("is not a GGUF file (it does not begin with the letters GGUF).")
    version = cursor.scalar("I", "the version")
    if version not in (2, 3):
        kind = "of a big-endian machine" if version in (2 << 24, 3 << 24) else f"of version {version}"
        cursor.fail(f"is a GGUF file {kind}; rigbench reads versions 2 and 3.")
    tensor_count, key_count = cursor.scalars(2, "Q", "the number of tensors and keys")
    if tensor_count * 24 + key_count * 13 > cursor.size:
        cursor.fail(f"is cut off or damaged: it announces {tensor_count} tensors and {key_count} keys.")
    metadata: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for _ in range(key_count):
        key = cursor.text("a key", 1 << 16)
        value, length = _value(cursor, f"the value of {key[:80]!r}")
        if value is not None:
            metadata[key] = value
        else:
            lengths[key] = length
    table_start = cursor.at
    rows = [_tensor(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
        cursor.fail(f"is damaged: general.alignment is {alignment!r}.")
    data_start = cursor.at + -cursor.at % alignment
    tensors = tuple(row._replace(offset=row.offset + data_start) for row in rows)
    for tensor in tensors:
        if tensor.offset + tensor.size_bytes > cursor.size:
            cursor.fail(f"is cut off: tensor {tensor.name[:80]!r} runs past the end of the file; download it again.")
    return GgufHeader(path, metadata, lengths, tensors, table_start, data_start, cursor.size)


def _value(cursor: _Cursor, what: str) -> tuple[Any, int]:
    """(value, number of its elements); None for a list that is long or holds text."""
    kind = cursor.scalar("I", what)
    if kind == _STRING:
        return cursor.text(what), 1
    if kind in _SCALARS:
        return cursor.scalar(_SCALARS[kind], what), 1
    if kind != _ARRAY:
        cursor.fail(f"is damaged: {what} has the unknown type {kind}.")
    inner, count = cursor.scalar("I", what), cursor.scalar("Q", what)
    if inner == _STRING:
        if count * 8 > cursor.size:
            cursor.fail(f"is cut off or damaged: {what} announces {count} entries.")
        for _ in range(count):
            cursor.need(struct.unpack_from("<Q", cursor.buffer, cursor.need(8, what))[0], what)  # the quickest way
    elif inner not in _SCALARS:
        cursor.fail(f"is damaged: {what} is a list of the unknown type {inner}.")
    elif count <= _KEPT_ARRAY:
        return cursor.scalars(count, _SCALARS[inner], what), count
    else:
        cursor.need(count * struct.calcsize("<" + _SCALARS[inner]), what)
    return None, count


def _tensor(cursor: _Cursor) -> TensorInfo:
    name = cursor.text("a tensor's name", 1 << 10)
    what = f"tensor {name[:80]!r}"
    dimensions = cursor.scalar("I", what)
    if not 0 < dimensions <= 4:
        cursor.fail(f"is damaged: {what} has {dimensions} dimensions.")
    dims = cursor.scalars(dimensions, "Q", what)
    number, offset = cursor.scalar("I", what), cursor.scalar("Q", what)
    kind = _TYPE_NAMES.get(number)
    if kind is None:
        cursor.fail(f"holds {what} of type {number}, which rigbench does not know (damaged, or newer than it).")
    if min(dims) == 0 or dims[0] % BLOCKS[kind].elements:
        cursor.fail(f"is damaged: {what} of type {kind} has the dimensions {dims}.")
    return TensorInfo(name, dims, kind, tensor_bytes(dims, kind), offset)


def part_names(name: str) -> list[str]:
    """The names of all files of a model split as `NAME-00001-of-00003.gguf`, or of the file alone."""
    part = _PART.search(name)
    if part is None or not 1 <= int(part[1]) <= int(part[2]) <= _MAX_PARTS:
        return [name]
    return [f"{name[: part.start()]}-{index:05d}-of-{part[2]}.gguf" for index in range(1, int(part[2]) + 1)]


def parts_of(path: str | Path) -> list[Path]:
    """All files of a model that may be split, in their order: by their names, or by what they say of themselves where the names do
    not tell. Raises InputError for a missing part."""
    path = Path(path)
    parts = [path.with_name(name) for name in part_names(path.name)]
    if len(parts) == 1:
        return _renamed_parts(path) if path.is_file() else parts
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        with suppress(InputError):
            if path.is_file() and len(renamed := _renamed_parts(path)) > 1:
                return renamed
        raise InputError(f"{path.name} is one of {len(parts)} parts, and {missing[0]} is not beside it; get all parts.")
    return parts


def _split(header: GgufHeader) -> tuple[int, int, int]:
    """(number from 0, parts, tensors in all parts) as a part of a split file has them; (0, 1, 0) of a whole one."""
    numbers = [header.metadata.get(f"split.{name}") for name in ("no", "count", "tensors.count")]
    no, count, tensors = (number if isinstance(number, int) else 0 for number in numbers)
    return (no, count, tensors) if 0 <= no < count <= _MAX_PARTS else (0, 1, 0)


def _renamed_parts(path: Path) -> list[Path]:
    """The parts of a model of which this one has a name of its own. Beside it may be those of another model, all of them."""
    own, count, tensors = _split(read_gguf(path))
    if count == 1:
        return [path]
    candidates: dict[int, list[Path]] = {number: [] for number in range(count)}
    for file in sorted(path.parent.glob("*.gguf")):
        with suppress(InputError):
            number, *same = _split(read_gguf(file))
            if same == [count, tensors] and number != own:
                candidates[number].append(file)
    candidates[own] = [path]
    for number, files in candidates.items():
        if len(files) > 1:
            candidates[number] = files = [file for file in files if not _named_with(file, own, count)]
        if len(files) != 1:
            fault = "more than one file may be" if files else "nothing beside it is"
            raise InputError(
                f"{path.name} is part {own + 1} of {count}, and {fault} part {number + 1}: "
                f"put all parts together as NAME-00001-of-{count:05d}.gguf and so on."
            )
    return [candidates[number][0] for number in range(count)]


def _named_with(file: Path, number: int, count: int) -> bool:
    """Whether a file's name says that it is one of so many, and that part with this number is there too."""
    names = part_names(file.name)
    return len(names) == count > 1 and file.with_name(names[number]).is_file()


def file_in(folder: Path) -> Path | None:
    """The first file of the one GGUF model that a folder holds, None where it holds none. InputError where it holds several, or
    nothing that can be read."""
    models, faults = [], []
    for file in sorted(folder.glob("*.gguf")):
        try:
            header = read_gguf(file)
        except InputError as error:
            faults.append(error)
            continue
        if _split(header)[0] == 0 and _no_model(header) is None:
            models.append(file)
    if len(models) > 1:
        names = ", ".join(file.name for file in models[:8])
        raise InputError(f"{folder} holds {len(models)} GGUF models: name one of {names}.")
    if faults and not models:
        raise faults[0]
    return models[0] if models else None


_PROJECTOR = "the projector for images or sound, which lies beside a model"
_NO_MODELS = {
    **{"mmproj": _PROJECTOR, "clip": _PROJECTOR},
    **{"adapter": "a LoRA adapter, which changes a model", "imatrix": "an importance matrix, which quantising takes"},
    "vocab": "a vocabulary",
}
"""`general.type` and architecture of what bears the same ending and is no model."""


def _no_model(header: GgufHeader) -> str | None:
    names = (header.metadata.get("general.type"), header.metadata.get("general.architecture"))
    return next((_NO_MODELS[name] for name in names if isinstance(name, str) and name in _NO_MODELS), None)


def _must_generate_text(header: GgufHeader, rows: Iterable[TensorInfo]) -> None:
    architecture, name = header.metadata.get("general.architecture"), header.path.name
    if (what := _no_model(header)) is not None:
        raise InputError(f"{name} is {what}: name the model's own file.")
    if any(row.name.startswith("enc.") for row in rows):
        what = f"has an encoder (architecture {architecture})"
    elif header.metadata.get(f"{architecture}.attention.causal") is False:
        what = f"is an encoder (architecture {architecture}), which makes embeddings"
    else:
        return
    raise InputError(f"{name} {what}: it generates no text token by token, and rigbench measures that alone.")


def holds_tokenizer(path: Path) -> bool:
    """Whether a GGUF file, the first of its parts, can turn text into tokens."""
    header = read_gguf(path)
    return (
        header.metadata.get("tokenizer.ggml.model") not in (None, "none") and "tokenizer.ggml.tokens" in header.lengths
    )


def facts_from_gguf(path: str | Path) -> ModelFacts:
    """Facts of a GGUF file, or of all parts of a split one. Reads headers only. Raises InputError in one sentence."""
    parts = [read_gguf(part) for part in parts_of(path)]
    first = parts[0]
    rows = [tensor for part in parts for tensor in part.tensors]
    _must_generate_text(first, rows)
    meta = gguf_settings(first.metadata, first.path.name)
    if not rows:
        raise InputError(f"{first.path.name} holds no tensors; it is a vocabulary, not a model.")
    layers = meta.layers("block_count")
    heads = max(meta.per_layer("attention.head_count", layers))
    bytes_of: Counter[str] = Counter()
    for row in rows:
        bytes_of[row.kind] += row.size_bytes
    file_type = meta.values.get("general.file_type", -1)
    named = [quant.name for quant in QUANTS.values() if quant.file_type == file_type]
    return model_facts(
        gguf_parts(((row.name, math.prod(row.dims), row.size_bytes) for row in rows), layers),
        cache_from_metadata(meta),
        *meta.experts("expert_count", "expert_used_count", layers),
        name=re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", first.path.name),
        format="gguf",
        architecture=meta.architecture,
        quantization=named[0] if named else bytes_of.most_common(1)[0][0],
        file_bytes=sum(part.file_bytes for part in parts),
        layers=layers,
        context_limit=meta.number("context_length", 0) or None,
        vocab_size=first.lengths.get("tokenizer.ggml.tokens") or meta.number("vocab_size", 0) or None,
        embedding_length=meta.number("embedding_length"),
        attention_length=heads * meta.number("attention.key_length", meta.number("embedding_length") // max(1, heads)),
        synthetic=meta.values.get("rigbench.synthetic") is True,
    )


def text_bytes(text: str) -> bytes:
    """A GGUF string."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def key_bytes(key: str, kind: int, payload: bytes) -> bytes:
    """One key with its encoded value."""
    return text_bytes(key) + struct.pack("<I", kind) + payload


def value_bytes(key: str, value: bool | int | float | str | tuple[int, ...] | tuple[bool, ...]) -> bytes:
    """A key with the value's own type: bool, uint32, float32, string, or a list of bool or int32."""
    if isinstance(value, bool):
        return key_bytes(key, 7, struct.pack("<?", value))
    if isinstance(value, int):
        return key_bytes(key, 4, struct.pack("<I", value))
    if isinstance(value, float):
        return key_bytes(key, 6, struct.pack("<f", value))
    if isinstance(value, str):
        return key_bytes(key, _STRING, text_bytes(value))
    inner, code = (7, "?") if all(isinstance(item, bool) for item in value) else (5, "i")
    return key_bytes(key, _ARRAY, struct.pack(f"<IQ{len(value)}{code}", inner, len(value), *value))


def header_bytes(
    metadata: Iterable[bytes], tensors: Iterable[tuple[str, tuple[int, ...], str]]
) -> tuple[bytes, list[int], int]:
    """(header, offset of each tensor from the start of the file, size of the whole file) for tensors of (name, dims, type)."""
    keys, table, sizes, place = list(metadata), [], [], 0
    for name, dims, kind in tensors:
        table.append(text_bytes(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, BLOCKS[kind].number, place))
        sizes.append(place)
        place += math.ceil(tensor_bytes(dims, kind) / ALIGNMENT) * ALIGNMENT
    head = b"".join([MAGIC, struct.pack("<IQQ", 3, len(table), len(keys)), *keys, *table])
    head += bytes(-len(head) % ALIGNMENT)
    return head, [len(head) + offset for offset in sizes], len(head) + place
