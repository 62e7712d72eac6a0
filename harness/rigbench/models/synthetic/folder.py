"""Models of random weights as folders: config.json, tokenizer, one safetensors file, planned to the byte before it is written.

The names and settings are those that transformers, vLLM and MLX know: a file for everyone has 16-bit rows, and a matrix for
each expert; MLX's `4bit` and `8bit` have rows packed into 32-bit words with a scale and a bias for each 64 values (rows that
are no multiple of 64: 32), and all experts of a layer in one tensor. What MLX packs is value = scale x code + bias: the codes
are random bits, the scales of random sign, the biases what makes a group's mean zero.
Formats: https://huggingface.co/docs/safetensors and https://ml-explore.github.io/mlx (mx.quantize)

    python -c "from rigbench.models.synthetic.folder import ensure_synthetic; print(ensure_synthetic('tiny', '4bit'))"
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from rigbench.errors import UnavailableError
from rigbench.models import Progress
from rigbench.models.formats.folders import Row, facts_from_rows
from rigbench.models.names import one_of
from rigbench.models.shapes import Shape
from rigbench.models.shapes import shape as catalogued
from rigbench.models.synthetic.gguf import MIN_VOCAB, SPECIAL, check_vocabulary, first_tokens
from rigbench.models.synthetic.weights import (
    WEIGHTS,
    Plan,
    block_buffer,
    make,
    pieces,
    random_buffer,
    spread,
    synthetic_folder,
)
from rigbench.models.tensors import tensors
from rigbench.records import ModelFacts

FOLDER_VERSION = 1
"""Goes into config.json: raise it when the contents of synthetic folders change, so that old ones are made anew."""
ARCHITECTURES = {
    "llama": ("LlamaForCausalLM", "llama"),
    "qwen2": ("Qwen2ForCausalLM", "qwen2"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
    "qwen3moe": ("Qwen3MoeForCausalLM", "qwen3_moe"),
}
"""As GGUF files call them -> the class and the model_type of config.json."""
FOLDER_QUANTS = {"mlx": ("BF16", "F16", "4bit", "8bit"), "safetensors": ("BF16", "F16")}
"""Which synthetic folders a backend that opens the format can use."""
_GROUPS = (64, 32)
_ROUTER_BITS = 8
# fmt: off
_NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.{}.gate_proj", "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
}
# fmt: on


class PlannedTensor(NamedTuple):
    """One tensor of the file. `values` makes the numpy array that it is laid down from, at a place that `seed` chooses: one for a
    weight's codes, scales and biases, as a group's bias must belong to its scale. `packing`: bits and group of packed codes."""

    name: str
    kind: str
    dims: tuple[int, ...]
    values: Callable[[], Any]
    seed: int
    packing: tuple[int, int] | None = None

    @property
    def item_bytes(self) -> int:
        return 4 if self.kind == "U32" else 2

    @property
    def size_bytes(self) -> int:
        return math.prod(self.dims) * self.item_bytes


def plan(shape: Shape, quant: str) -> Plan:
    """The folder of this shape in this quantisation. Raises InputError, and UnavailableError for a shape that cannot be made."""
    quant = one_of(quant, FOLDER_QUANTS["mlx"])
    _check_shape(shape)
    bits = {"4bit": 4, "8bit": 8}.get(quant, 16)
    planned = tuple(_planned(shape, bits, "F16" if quant == "F16" else "BF16"))
    config = _config(shape, "float16" if quant == "F16" else "bfloat16")
    if bits < 16:
        usual = (bits, _GROUPS[0])
        quantization = _packing(*usual) | {
            one.name.removesuffix(".weight"): _packing(*one.packing)
            for one in planned
            if one.packing and one.packing != usual
        }
        config |= {"quantization": quantization, "quantization_config": quantization}
    table: dict[str, Any] = {"__metadata__": {"format": "mlx" if bits < 16 else "pt"}}
    place = 0
    for one in planned:
        end = place + one.size_bytes
        table[one.name] = {"dtype": one.kind, "shape": list(one.dims), "data_offsets": [place, end]}
        place = end
    raw = _json(table)
    raw += b" " * (-len(raw) % 8)
    index = {"metadata": {"total_size": place}, "weight_map": {one.name: WEIGHTS for one in planned}}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.context,
    }
    small = {
        "config.json": _json(config),
        f"{WEIGHTS}.index.json": _json(index),  # MLX looks here for what each machine of a pipeline must read
        "tokenizer.json": _tokenizer(shape.vocab),
        "tokenizer_config.json": _json(tokenizer_config),
    }
    header = struct.pack("<Q", len(raw)) + raw
    return Plan(header, planned, len(header) + place, small)


def _packing(bits: int, group: int) -> dict[str, Any]:
    return {"group_size": group, "bits": bits}


def _check_shape(shape: Shape) -> None:
    if shape.architecture not in ARCHITECTURES or (shape.experts > 0) != (shape.architecture == "qwen3moe"):
        raise UnavailableError(
            f"{shape.id} cannot be made as a folder of safetensors: rigbench writes those of {', '.join(ARCHITECTURES)} "
            "models (mixtures of experts: qwen3moe alone); use a real folder of it."
        )
    check_vocabulary(shape.vocab)


def _planned(shape: Shape, bits: int, kind: str) -> Iterator[PlannedTensor]:
    seed = count()
    for tensor in tensors(shape):
        name, dims = _folder_name(tensor.name), tensor.dims[::-1]
        mean, deviation = spread(tensor.name, tensor.dims)
        row = dims[-1]
        values = partial(_values, kind, mean, deviation)
        group = next((size for size in _GROUPS if row % size == 0), 0) if bits < 16 and len(dims) > 1 else 0
        if bits == 16:  # files for everyone have a matrix for each expert
            for expert in range(dims[0] if len(dims) == 3 else 1):
                yield PlannedTensor(name.format(expert), kind, dims[-2:], values, next(seed))
        elif not group:  # MLX's have the experts of a layer in one tensor
            yield PlannedTensor(name.replace("experts.{}", "switch_mlp"), kind, dims, values, next(seed))
        else:
            own = _ROUTER_BITS if "ffn_gate_inp" in tensor.name else bits  # as mlx-lm quantises them
            stem = name.replace("experts.{}", "switch_mlp").removesuffix(".weight")
            packed, groups, place = (*dims[:-1], row * own // 32), (*dims[:-1], row // group), next(seed)
            yield PlannedTensor(f"{stem}.weight", "U32", packed, random_buffer, place, (own, group))
            for part in ("scales", "biases"):
                values = partial(_scales, kind, own, deviation, part)
                yield PlannedTensor(f"{stem}.{part}", kind, groups, values, place)


def _folder_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    *prefix, stem, suffix = name.split(".")
    return ".".join([*(("model", "layers", prefix[1]) if prefix else ()), _NAMES[stem], suffix])


def _config(shape: Shape, dtype: str) -> dict[str, Any]:
    name, model_type = ARCHITECTURES[shape.architecture]
    config: dict[str, Any] = {
        "architectures": [name],
        "model_type": model_type,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": shape.rope_base,
        "tie_word_embeddings": shape.tied,
        "attention_bias": shape.qkv_bias,
        "mlp_bias": False,
        "use_sliding_window": False,
        "bos_token_id": MIN_VOCAB - 2,
        "eos_token_id": MIN_VOCAB - 1,
        "torch_dtype": dtype,
        "rigbench_synthetic": True,
        "rigbench_synthetic_version": FOLDER_VERSION,
    }
    if shape.experts:
        config |= {
            "num_experts": shape.experts,
            "num_experts_per_tok": shape.experts_used,
            "moe_intermediate_size": shape.expert_ffn,
            "decoder_sparse_step": shape.moe_every,
            "mlp_only_layers": list(range(shape.dense_layers)),
            "norm_topk_prob": True,
        }
    return config


@lru_cache(maxsize=4)
def _tokenizer(vocab: int) -> bytes:
    """tokenizer.json of a byte-level BPE: 256 symbols, one merge, begin and end of text, unused tokens up to `vocab`."""
    texts = [*first_tokens(), *(f"[PAD{index:06d}]" for index in range(vocab - MIN_VOCAB))]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return _json(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": texts.index(text), "content": text, **special} for text in SPECIAL],
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {text: index for index, text in enumerate(texts)},
                "merges": ["Ġ t"],
            },
        }
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def synthetic_path(shape_id: str, quant: str) -> Path:
    """Where the folder is kept. Raises InputError for an unknown shape or quantisation."""
    return synthetic_folder() / f"{catalogued(shape_id).id}-{one_of(quant, FOLDER_QUANTS['mlx'])}"


def ensure_synthetic(shape_id: str, quant: str, progress: Progress | None = None) -> Path:
    """The path of the synthetic folder, written now if it is not there whole. Raises as gguf.ensure_synthetic does."""
    path = synthetic_path(shape_id, quant)
    write_synthetic(catalogued(shape_id), quant, path, progress)
    return path


def write_synthetic(shape: Shape, quant: str, path: Path, progress: Progress | None = None) -> None:
    """Makes `path` the synthetic folder of this shape, unless it is that already. Raises UnavailableError."""
    planned = plan(shape, quant)
    make(path, planned, _content(planned), progress)


def facts_from_shape(shape: Shape, quant: str) -> ModelFacts:
    """Facts of the folder that `ensure_synthetic(shape.id, quant)` writes, without writing it. Raises as it does."""
    planned = plan(shape, quant)
    rows = [Row(one.name, one.kind, math.prod(one.dims), one.size_bytes) for one in planned.tensors]
    config = json.loads(planned.small["config.json"])
    return facts_from_rows(Path(f"{shape.id}-{one_of(quant, FOLDER_QUANTS['mlx'])}"), config, rows, planned.file_bytes)


def _content(planned: Plan) -> Iterator[bytes | memoryview]:
    """The file of weights in pieces. Codes are laid down word by word, as a group's scale and bias are found by their own place."""
    yield planned.header
    for one in planned.tensors:
        yield from pieces(memoryview(one.values()), one.item_bytes, one.size_bytes, one.seed)


@lru_cache(maxsize=8)
def _values(kind: str, mean: float, deviation: float) -> Any:
    """16-bit values of this mean and deviation: a numpy array of bytes."""
    import numpy as np

    if mean == 0.0:
        return block_buffer(kind, mean, deviation)
    return _sixteen(kind, block_buffer("F32", mean, deviation).view(np.float32))


@lru_cache(maxsize=16)
def _scales(kind: str, bits: int, deviation: float, part: str) -> Any:
    """The `scales` or `biases` that give codes of `bits` bits zero mean and this deviation; the sign is random, which makes the
    mean of all weights zero where rounding leaves that of a group a little off."""
    import numpy as np

    top = 2**bits - 1
    scale = np.float32(deviation / math.sqrt(((top + 1) ** 2 - 1) / 12))
    half = random_buffer()[: len(random_buffer()) // 2]  # values are twice as wide as the bytes they are made of
    signed = np.where(half & 1, scale, -scale)
    return _sixteen(kind, signed if part == "scales" else signed * np.float32(-top / 2))


def _sixteen(kind: str, values: Any) -> Any:
    import numpy as np

    if kind == "F16":
        return values.astype("<f2").view(np.uint8)
    rounded = values.view(np.uint32) + np.uint32(0x8000)
    return (rounded >> np.uint32(16)).astype("<u2").view(np.uint8)
