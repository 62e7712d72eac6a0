"""A GGUF file in parts, as llama.cpp's gguf-split makes them."""

from __future__ import annotations

from pathlib import Path

import pytest


def split(path: Path, folder: Path, names: list[str]) -> list[Path]:
    """The file in parts, as gguf-split makes them: each says which it is, and the first has all else."""
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(path)
    folder.mkdir(exist_ok=True)
    parts = [folder / name for name in names]
    each = -(-len(reader.tensors) // len(parts))
    for number, part in enumerate(parts):
        writer = gguf.GGUFWriter(part, reader.fields["general.architecture"].contents())
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", len(parts))
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for field in reader.fields.values() if number == 0 else ():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
        for tensor in reader.tensors[number * each : (number + 1) * each]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return parts
