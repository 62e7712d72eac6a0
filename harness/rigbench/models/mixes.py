"""Which type llama.cpp gives each tensor of a quantisation, and how many bytes each type takes.

A file called Q4_K_M is a mix: the output matrix and the more sensitive half of attn_v and ffn_down are kept in Q6_K, and
rows that are no multiple of 256 fall back to 32-wide blocks. The rules are those of `llama_tensor_get_type_impl` and
`tensor_type_fallback` in llama.cpp's src/llama-quant.cpp (without an importance matrix); a test has llama.cpp quantise
a file and compares every tensor's type.

    python -c "from rigbench.models.mixes import tensor_bytes; print(tensor_bytes((4096, 14336), 'Q4_K'))"
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from rigbench.models.names import QUANTS
from rigbench.models.shapes import Shape
from rigbench.models.tensors import Tensor


class Block(NamedTuple):
    """A type's number in GGUF, and the elements and bytes of its block."""

    number: int
    elements: int
    size_bytes: int


# fmt: off
BLOCKS = {
    "F32": Block(0, 1, 4), "F16": Block(1, 1, 2), "Q4_0": Block(2, 32, 18), "Q4_1": Block(3, 32, 20),
    "Q5_0": Block(6, 32, 22), "Q5_1": Block(7, 32, 24), "Q8_0": Block(8, 32, 34), "Q8_1": Block(9, 32, 36),
    "Q2_K": Block(10, 256, 84), "Q3_K": Block(11, 256, 110), "Q4_K": Block(12, 256, 144), "Q5_K": Block(13, 256, 176),
    "Q6_K": Block(14, 256, 210), "Q8_K": Block(15, 256, 292), "IQ2_XXS": Block(16, 256, 66), "IQ2_XS": Block(17, 256, 74),
    "IQ3_XXS": Block(18, 256, 98), "IQ1_S": Block(19, 256, 50), "IQ4_NL": Block(20, 32, 18), "IQ3_S": Block(21, 256, 110),
    "IQ2_S": Block(22, 256, 82), "IQ4_XS": Block(23, 256, 136), "I8": Block(24, 1, 1), "I16": Block(25, 1, 2),
    "I32": Block(26, 1, 4), "I64": Block(27, 1, 8), "F64": Block(28, 1, 8), "IQ1_M": Block(29, 256, 56),
    "BF16": Block(30, 1, 2), "TQ1_0": Block(34, 256, 54), "TQ2_0": Block(35, 256, 66), "MXFP4": Block(39, 32, 17),
    "NVFP4": Block(40, 64, 36), "Q1_0": Block(41, 128, 18), "Q2_0": Block(42, 64, 18),
}
# fmt: on
MIXES = tuple(quant.name for quant in QUANTS.values() if quant.mix == quant.name)
"""The quantisations whose tensors' types are known here."""

_FALLBACK = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}
_UNQUANTISED = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|altup|laurel|per_layer_model_proj|ssm_conv1d|shortconv\.conv\.weight"
)


def tensor_bytes(dims: tuple[int, ...], kind: str) -> int:
    """Bytes of a tensor of these dimensions (row first) in this type."""
    block = BLOCKS[kind]
    return math.prod(dims) // block.elements * block.size_bytes


def tensor_types(shape: Shape, listed: Iterable[Tensor], quant: str) -> list[str]:
    """The type of each tensor, in order, as `llama-quantize` chooses it for `quant` (one of MIXES)."""
    listed = list(listed)
    base = "_".join(quant.split("_")[:2])  # Q4_K_M is mostly Q4_K
    values = _by_layer(tensor.name for tensor in listed if _is_attention_value(tensor.name))
    downs = _by_layer(tensor.name for tensor in listed if "ffn_down" in tensor.name)

    def kind(name: str, dims: tuple[int, ...]) -> str:
        if len(dims) < 2 or not name.endswith("weight") or _UNQUANTISED.search(name):
            return "F32"
        if base in ("F32", "F16", "BF16"):
            return base
        down = _layer(name) if shape.experts else downs.get(name, 0)
        return _fit(dims[0], _choose(shape, name, dims, quant, base, (values.get(name, 0), len(values)), down))

    return [kind(*tensor) for tensor in listed]


def _by_layer(names: Iterable[str]) -> dict[str, int]:
    """The place of each in the order of layers."""
    return {name: index for index, name in enumerate(sorted(names, key=_layer))}


def _layer(name: str) -> int:
    match = re.match(r"blk\.(\d+)\.", name)
    return int(match[1]) if match else -1


def _is_attention_value(name: str) -> bool:
    return any(part in name for part in ("attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight"))


def _use_more_bits(index: int, count: int) -> bool:
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


def _choose(
    shape: Shape, name: str, dims: tuple[int, ...], quant: str, base: str, value: tuple[int, int], down: int
) -> str:
    embedding = name in ("token_embd.weight", "per_layer_token_embd.weight")
    if name == "output.weight" or (shape.tied and embedding):
        return "Q8_0" if base in ("MXFP4", "Q8_0") or dims[0] % BLOCKS[base].elements else "Q6_K"
    if quant == "MXFP4":
        return "MXFP4" if len(dims) == 3 and dims[2] > 1 else "Q8_0"
    if embedding:
        return base
    if _is_attention_value(name):
        return _attention_value(shape, quant, base, *value)
    if "attn_k.weight" in name:
        return "Q8_0" if shape.experts == 8 else base
    if "ffn_down" in name:
        return _feed_forward_down(quant, base, down, shape.layers)
    if "attn_output.weight" in name:
        if shape.experts == 8:
            return "Q5_K" if quant in ("Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_NL", "IQ4_XS", "Q4_K_S", "Q4_K_M") else base
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(quant, base)
    return base


def _attention_value(shape: Shape, quant: str, base: str, index: int, count: int) -> str:
    grouped = shape.heads // (shape.kv_heads or shape.heads) >= 4
    best = base
    if quant == "Q2_K":
        best = "Q4_K" if grouped else "Q3_K"
    elif quant == "Q3_K_M":
        best = "Q5_K" if index < 2 else "Q4_K"
    elif quant == "Q3_K_L" or (quant in ("IQ4_NL", "IQ4_XS") and grouped):
        best = "Q5_K"
    elif quant in ("Q4_K_M", "Q5_K_M") and _use_more_bits(index, count):
        best = "Q6_K"
    elif quant == "Q4_K_S" and index < 4:
        best = "Q5_K"
    # llama.cpp knows its 70B type by 80 layers with grouped heads; for qwen2 by 80 layers alone
    if shape.layers == 80 and (
        shape.architecture == "qwen2" or (shape.architecture == "llama" and shape.heads != shape.kv_heads)
    ):
        best = "Q5_K" if best in ("Q3_K", "Q4_K") else best
    return "Q8_0" if shape.experts == 8 else best


def _feed_forward_down(quant: str, base: str, index: int, layers: int) -> str:
    if quant == "Q2_K":
        return "Q3_K"
    if quant == "Q3_K_M":
        return "Q5_K" if index < layers // 16 else "Q4_K"
    if quant == "Q3_K_L":
        return "Q5_K"
    if quant in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if _use_more_bits(index, layers) else base
    if quant in ("Q4_K_S", "IQ4_NL", "IQ4_XS") and index < layers // 8:
        return "Q5_K"
    return base


def _fit(row: int, kind: str) -> str:
    """`kind`, or what llama.cpp falls back to where the row is not a whole number of blocks."""
    if row % BLOCKS[kind].elements == 0:
        return kind
    kind = _FALLBACK.get(kind, kind)
    return kind if row % BLOCKS[kind].elements == 0 else "F16"
