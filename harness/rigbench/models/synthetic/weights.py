"""What models of random weights are made of: one buffer of seeded bits, laid down again and again, in constant memory.

A tensor is a run of blocks of one type, so pieces of the buffer follow each other from other places, with the scale of each block
set to what keeps activations finite: weights of zero mean and a deviation of gain / sqrt(row), as in a freshly initialised
network. The same shape, quantisation and version give the same bytes on every machine.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rigbench.errors import UnavailableError
from rigbench.models import Progress
from rigbench.models.mixes import BLOCKS
from rigbench.paths import cache_dir
from rigbench.units import bytes_text

WEIGHTS = "model.safetensors"
"""The file of weights in a folder."""
_SPARE_BYTES = 64 << 20
_BUFFER_BYTES = 8 << 20
_SEED = 20_240_601


def synthetic_folder() -> Path:
    """Where synthetic models are kept."""
    return cache_dir() / "models" / "synthetic"


@dataclass(frozen=True, slots=True)
class Plan:
    """A model to the byte, but for its weights. `header` precedes them in their file of `file_bytes`; `small` are the whole
    contents of the other files where the model is a folder."""

    header: bytes
    tensors: tuple[Any, ...]
    file_bytes: int
    small: Mapping[str, bytes] = field(default_factory=dict)


def is_whole(path: Path, plan: Plan) -> bool:
    """Whether the model is there with the size, and with the header, which names every tensor, that it should have."""
    weights = path / WEIGHTS if plan.small else path
    try:
        with weights.open("rb") as file:
            whole = weights.stat().st_size == plan.file_bytes and file.read(len(plan.header)) == plan.header
        return whole and all((path / name).read_bytes() == content for name, content in plan.small.items())
    except OSError:
        return False


def make(path: Path, plan: Plan, content: Iterable[bytes | memoryview], progress: Progress | None) -> None:
    """Makes `path`, a file or a folder, unless it is whole already. `content` is the file of weights in pieces.

    Raises UnavailableError where the disk is too small or cannot be written. Two processes at once write it once.
    """
    from filelock import FileLock  # here: only those who make a model need it

    needed_bytes = plan.file_bytes + sum(map(len, plan.small.values()))
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if is_whole(path, plan):
                return
            free = shutil.disk_usage(path.parent).free
            if free < needed_bytes + _SPARE_BYTES:
                raise UnavailableError(
                    f"{path.name} needs {bytes_text(needed_bytes)} and {path.parent} has {bytes_text(free)} free; "
                    "make room, or set RIGBENCH_CACHE to a folder on a larger disk."
                )
            _remove(part)  # of a process that was killed
            try:
                if plan.small:
                    part.mkdir()
                for name, text in plan.small.items():
                    (part / name).write_bytes(text)
                done = 0
                with (part / WEIGHTS if plan.small else part).open("wb") as file:
                    for piece in content:
                        file.write(piece)
                        done += len(piece)
                        if progress:
                            progress(path.name, done, plan.file_bytes)
                    file.flush()
                    os.fsync(file.fileno())
                if path.is_dir():
                    _remove(path)
                part.replace(path)
            finally:
                _remove(part)
    except OSError as error:
        reason = error.strerror or error
        raise UnavailableError(f"{path.name} could not be written to {path.parent}: {reason}.") from None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def pieces(view: memoryview, block: int, size_bytes: int, index: int) -> Iterator[memoryview]:
    """`size_bytes` in pieces of `view`, each from another place, a whole number of `block` bytes from its start."""
    blocks = len(view) // block
    left, turn = size_bytes, 0
    while left:
        start = (index * 7919 + turn * 104_729) % (blocks // 2 + 1) * block
        piece = view[start : start + left]
        yield piece
        left -= len(piece)
        turn += 1


def spread(name: str, dims: tuple[int, ...], scaled_embedding: bool = False) -> tuple[float, float]:
    """(mean, standard deviation) of a tensor's values, by its GGUF name and dimensions.

    The gains (2 for queries, keys and the feed-forward part, 1.5 for values and outputs, a small embedding) make greedy
    decoding wander over the vocabulary: with gains of 1 it falls into one repeated token, and experts are then not drawn evenly.
    """
    row = dims[0]
    if "attn_q_norm" in name or "attn_k_norm" in name:
        return 2.0, 0.05
    if "_norm" in name:
        return 1.0, 0.05
    if "rope_freqs" in name:
        return 1.0, 0.0
    if name.endswith("ssm_a"):
        return -0.5, 0.1  # the decay of a recurrent state: if positive, it grows without bound
    if len(dims) == 1 or name.endswith(".bias"):
        return 0.0, 0.02
    if name.startswith("token_embd"):
        return 0.0, 0.05 if not scaled_embedding else 0.5 / math.sqrt(row)
    if "attn_v" in name or "attn_output" in name:
        return 0.0, 1.5 / math.sqrt(row)
    if "ffn_gate_inp" in name or name == "output.weight":
        return 0.0, 1.0 / math.sqrt(row)
    return 0.0, 2.0 / math.sqrt(row)


@lru_cache(maxsize=1)
def random_buffer() -> Any:
    """8 MiB of seeded random bits: a numpy array of bytes."""
    import numpy as np

    # raw bits, whose sequence numpy promises to keep for ever, so that a file's SHA-256 is a constant
    return np.random.PCG64(_SEED).random_raw(_BUFFER_BYTES // 8).view(np.uint8)


@lru_cache(maxsize=16)
def block_buffer(kind: str, mean: float, deviation: float) -> Any:
    """The random buffer as whole blocks of this type with scales set: a numpy array of bytes."""
    import numpy as np

    raw = random_buffer()
    if kind == "F32":
        uniform = raw[: 1 << 20].view(np.uint32).astype(np.float32) / np.float32(2**32) - np.float32(0.5)
        return (np.float32(mean) + np.float32(deviation * math.sqrt(12)) * uniform).view(np.uint8)
    if kind in ("F16", "BF16"):
        # a random sign and mantissa under one exponent: magnitudes from 2^e to 2^(e+1), of deviation 1.53 x 2^e
        exponent = round(math.log2(deviation / 1.53))
        mantissa, bias = (10, 15) if kind == "F16" else (7, 127)
        field = max(1, exponent + bias) << mantissa
        return ((raw.view(np.uint16) & (0x8000 | ((1 << mantissa) - 1))) | field).astype("<u2").view(np.uint8)
    size = BLOCKS[kind].size_bytes
    data = raw[: len(raw) // size * size].reshape(-1, size).copy()
    if kind == "MXFP4":
        data[:, 0] = 127 + round(math.log2(deviation / 3.0))
        return data.reshape(-1)
    for place, scale in _SCALES[kind]:
        # the sign of a block's scale stays random: it makes the mean of all weights zero where the codes' mean is not
        high = data[:, place + 1] & 0x80 if kind != "Q6_K" else np.uint8(0)
        low_byte, high_byte = np.float16(deviation * scale).tobytes()
        data[:, place] = low_byte
        data[:, place + 1] = high_byte | high
    if len(_SCALES[kind]) == 2:
        data[:, 3] = (data[:, 3] & 0x7F) | (data[:, 1] & 0x80)
    return data.reshape(-1)


_SCALES = {
    "Q8_0": ((0, 1 / 73.9),),
    "Q4_0": ((0, 1 / 4.64),),
    "Q5_0": ((0, 1 / 9.25),),
    "Q4_1": ((0, 1 / 4.61), (2, -7.5 / 4.61)),
    "Q5_1": ((0, 1 / 9.23), (2, -15.5 / 9.23)),
    "Q4_K": ((0, 1 / 230.0), (2, 7.5 / 230.0)),
    "Q5_K": ((0, 1 / 465.0), (2, 15.5 / 465.0)),
    "Q6_K": ((208, 1 / 1366.0),),
}
"""Where the 16-bit scales of each block are, and their size for a deviation of 1."""
WRITTEN_TYPES = {*_SCALES, "F32", "F16", "BF16", "MXFP4"}
"""The types that `block_buffer` fills."""
