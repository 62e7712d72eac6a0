"""Synthetic models as folders, as Hugging Face and MLX keep them: config.json, tokenizer, one safetensors file of random weights.

The same shapes, gains and random buffer as synthetic.py, laid out as folder_layout.py plans it, to the byte, so that a whole
folder is known from a half one by its size and its header. What MLX packs is value = scale x code + bias: the codes are
random bits, the scales of random sign, the biases what makes a group's mean zero.

    python -c "from rigbench.models.synthetic.folder import ensure_synthetic_folder as make; print(make('tiny', '4bit'))"
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from rigbench.errors import UnavailableError
from rigbench.models import Progress
from rigbench.models.formats.folders import Row, facts_from_rows
from rigbench.models.names import one_of
from rigbench.models.shapes import Shape
from rigbench.models.shapes import shape as catalogued
from rigbench.models.synthetic.folder_layout import FOLDER_QUANTS, FolderPlan, PlannedTensor, plan_folder
from rigbench.models.synthetic.gguf import block_buffer, check_room, pieces, random_buffer, synthetic_folder
from rigbench.records import ModelFacts


def synthetic_folder_path(shape_id: str, quant: str) -> Path:
    """Where the folder is kept. Raises InputError for an unknown shape or quantisation."""
    return synthetic_folder() / f"{catalogued(shape_id).id}-{one_of(quant, FOLDER_QUANTS['mlx'])}"


def ensure_synthetic_folder(shape_id: str, quant: str, progress: Progress | None = None) -> Path:
    """The path of the synthetic folder, written now if it is not there whole.

    Raises InputError for an unknown shape or quantisation, UnavailableError where this shape cannot be made, the disk is
    too small or the folder cannot be written. Two processes at once write it once.
    """
    path = synthetic_folder_path(shape_id, quant)
    write_synthetic_folder(catalogued(shape_id), one_of(quant, FOLDER_QUANTS["mlx"]), path, progress)
    return path


def write_synthetic_folder(shape: Shape, quant: str, path: Path, progress: Progress | None = None) -> None:
    """Makes `path` the synthetic folder of this shape, unless it is that already. Raises UnavailableError."""
    planned = plan_folder(shape, quant)
    from filelock import FileLock  # here: only those who make a model need it

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not is_whole_folder(path, planned):
                _write_whole(planned, path, progress)
    except OSError as error:
        raise UnavailableError(
            f"{path.name} could not be written to {path.parent}: {error.strerror or error}."
        ) from None


def facts_of_synthetic_folder(shape: Shape, quant: str) -> ModelFacts:
    """Facts of the folder that `ensure_synthetic_folder(shape.id, quant)` writes, without writing it. Raises as it does."""
    planned = plan_folder(shape, quant)
    rows = [Row(one.name, one.kind, math.prod(one.dims), one.size_bytes) for one in planned.tensors]
    return facts_from_rows(
        Path(f"{shape.id}-{one_of(quant, FOLDER_QUANTS['mlx'])}"),
        planned.config,
        rows,
        planned.weights_bytes,
        planned.made_for_mlx,
    )


def is_whole_folder(path: Path, planned: FolderPlan) -> bool:
    """Whether the small files are there as they should be, and the weights with their size, table and names."""
    try:
        if any((path / name).read_bytes() != content for name, content in planned.small.items()):
            return False
        weights = path / "model.safetensors"
        if weights.stat().st_size != planned.weights_bytes:
            return False
        with weights.open("rb") as file:
            return file.read(len(planned.header)) == planned.header
    except OSError:
        return False


def _write_whole(planned: FolderPlan, path: Path, progress: Progress | None) -> None:
    check_room(path, planned.weights_bytes + sum(map(len, planned.small.values())))
    part = path.with_name(path.name + ".part")
    _remove(part)  # of a process that was killed
    try:
        part.mkdir()
        for name, content in planned.small.items():
            (part / name).write_bytes(content)
        with (part / "model.safetensors").open("wb") as file:
            file.write(planned.header)
            done = len(planned.header)
            for tensor in planned.tensors:
                for piece in _pieces(tensor):
                    file.write(piece)
                    done += len(piece)
                    if progress:
                        progress(path.name, done, planned.weights_bytes)
            file.flush()
            os.fsync(file.fileno())
        _remove(path)
        part.replace(path)
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _pieces(tensor: PlannedTensor) -> Iterator[memoryview]:
    if tensor.fill == "codes":
        # Four bytes at a time, as a group's scale and bias are found by their own place, not by the codes'.
        return pieces(memoryview(random_buffer()), 4, tensor.size_bytes, tensor.seed)
    if tensor.fill == "values":
        view = memoryview(_values(tensor.kind, tensor.mean, tensor.deviation))
    else:
        view = memoryview(_scales(tensor.kind, tensor.bits, tensor.deviation)[tensor.fill == "biases"])
    return pieces(view, 2, tensor.size_bytes, tensor.seed)


@lru_cache(maxsize=8)
def _values(kind: str, mean: float, deviation: float) -> Any:
    """16-bit values of this mean and deviation: a numpy array of bytes."""
    import numpy as np

    if mean == 0.0:
        return block_buffer(kind, mean, deviation)
    return _sixteen(kind, block_buffer("F32", mean, deviation).view(np.float32))


@lru_cache(maxsize=8)
def _scales(kind: str, bits: int, deviation: float) -> tuple[Any, Any]:
    """(scales, biases) that give codes of `bits` bits zero mean and this deviation; the sign is random, which makes the mean
    of all weights zero where rounding leaves that of a group a little off."""
    import numpy as np

    top = 2**bits - 1
    scale = np.float32(deviation / math.sqrt(((top + 1) ** 2 - 1) / 12))
    half = random_buffer()[: len(random_buffer()) // 2]  # values are twice as wide as the bytes they are made of
    signed = np.where(half & 1, scale, -scale)
    return _sixteen(kind, signed), _sixteen(kind, signed * np.float32(-top / 2))


def _sixteen(kind: str, values: Any) -> Any:
    import numpy as np

    if kind == "F16":
        return values.astype("<f2").view(np.uint8)
    rounded = values.view(np.uint32) + np.uint32(0x8000)
    return (rounded >> np.uint32(16)).astype("<u2").view(np.uint8)
