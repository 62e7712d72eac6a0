"""Models of random weights as GGUF files, in any catalogued shape, planned to the byte before anything is written.

The speed of a decode step depends on shapes and bytes, not on values, so a 70 B or a mixture of experts can be measured on
a machine that never downloaded it (power may differ a little: results made so are marked synthetic). The vocabulary is a
byte-level BPE that llama.cpp loads as tokenizer `gpt2`, pre-tokenizer `llama-bpe`: the 256 byte symbols, one merge (it wants
at least one), begin and end of text, and unused tokens up to the shape's vocabulary size.

    python -c "from rigbench.models.synthetic.gguf import ensure_synthetic; print(ensure_synthetic('llama-160m', 'Q8_0'))"
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from rigbench.errors import InputError, UnavailableError
from rigbench.models import Progress
from rigbench.models.footprint import shape_facts
from rigbench.models.formats.gguf import ALIGNMENT, TensorInfo, header_bytes, key_bytes, text_bytes, value_bytes
from rigbench.models.mixes import BLOCKS, MIXES, tensor_bytes, tensor_types
from rigbench.models.names import QUANTS, one_of
from rigbench.models.shapes import Shape
from rigbench.models.shapes import shape as catalogued
from rigbench.models.synthetic.weights import WRITTEN_TYPES, Plan, block_buffer, make, pieces, spread, synthetic_folder
from rigbench.models.tensors import kv_shape, tensors
from rigbench.records import ModelFacts

# fmt: off
ARCHITECTURES = frozenset({
    "command-r", "cohere2", "deepseek2", "dots1", "ernie4_5-moe", "exaone4", "gemma2", "gemma3", "gemma3n",
    "gemma4", "glm4", "glm4moe", "gpt-oss", "granite", "granitemoe", "hunyuan-moe", "internlm2", "llama",
    "llama4", "minimax-m2", "mistral3", "olmo2", "olmoe", "phi3", "qwen2", "qwen3", "qwen35", "qwen35moe",
    "qwen3moe", "qwen3next", "seed_oss", "smollm3",
})
# fmt: on
"""Those whose synthetic files llama.cpp is known to load and run (a test tries each)."""
SYNTHETIC_VERSION = 1
"""Goes into the header: raise it when the contents of synthetic files change, so that old ones are made anew."""
_SIGMOID_GATING = 2
_LOGIT_SCALED = ("command-r", "cohere2", "granite", "granitemoe")
_STRING, _INT32, _ARRAY = 8, 5, 9
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5
SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>")
MIN_VOCAB, MAX_VOCAB = 256 + 1 + len(SPECIAL), 1 << 19
_PADDING_BYTES = 8 + 11


def synthetic_path(shape_id: str, quant: str) -> Path:
    """Where the file is kept. Raises InputError for an unknown shape or quantisation."""
    return synthetic_folder() / f"{catalogued(shape_id).id}-{one_of(quant, MIXES)}.gguf"


def ensure_synthetic(shape_id: str, quant: str, progress: Progress | None = None) -> Path:
    """The path of the synthetic file, written now if it is not there whole.

    Raises InputError for an unknown shape or quantisation, UnavailableError where this shape cannot be made, the disk is
    too small or the file cannot be written. Two processes at once write it once.
    """
    path = synthetic_path(shape_id, quant)
    write_synthetic(catalogued(shape_id), quant, path, progress)
    return path


def write_synthetic(shape: Shape, quant: str, path: Path, progress: Progress | None = None) -> None:
    """Makes `path` the synthetic file of this shape, unless it is that already. Raises UnavailableError."""
    if shape.architecture not in ARCHITECTURES:
        raise UnavailableError(
            f"{shape.id} cannot be made synthetically: rigbench does not write {shape.architecture} models yet; "
            f"it writes {', '.join(sorted(ARCHITECTURES))}. Use a real file of it."
        )
    layout = plan(shape, quant)
    if strange := ", ".join(sorted({tensor.kind for tensor in layout.tensors} - WRITTEN_TYPES)):
        raise UnavailableError(f"Synthetic models are not made in {quant} (it needs {strange}); take Q4_K_M.")
    make(path, layout, _content(shape, layout), progress)


def _content(shape: Shape, layout: Plan) -> Iterator[bytes | memoryview]:
    """The whole file in pieces of at most the buffer's size, each from another place of the buffer."""
    scaled_embedding = shape.architecture.startswith("gemma")
    yield layout.header
    for index, tensor in enumerate(layout.tensors):
        view = memoryview(block_buffer(tensor.kind, *spread(tensor.name, tensor.dims, scaled_embedding)))
        yield from pieces(view, BLOCKS[tensor.kind].size_bytes, tensor.size_bytes, index)
        yield bytes(-tensor.size_bytes % ALIGNMENT)


def plan(shape: Shape, quant: str) -> Plan:
    """The file of this shape in this quantisation. Raises InputError for an unknown quantisation."""
    quant = one_of(quant, MIXES)
    listed = tensors(shape)
    kinds = tensor_types(shape, listed, quant)
    rows = [(*tensor, kind) for tensor, kind in zip(listed, kinds, strict=True)]
    header, offsets, file_bytes = header_bytes([*_metadata(shape, quant), *_vocabulary(shape.vocab)], rows)
    infos = (TensorInfo(*row, tensor_bytes(*row[1:]), offset) for row, offset in zip(rows, offsets, strict=True))
    return Plan(header, tuple(infos), file_bytes)


def facts_from_shape(shape: Shape, quant: str) -> ModelFacts:
    """Facts of the file that `ensure_synthetic(shape.id, quant)` writes, to the byte, without writing it. Raises InputError."""
    quant = one_of(quant, MIXES)
    layout = plan(shape, quant)
    return shape_facts(
        shape,
        ((row.name, math.prod(row.dims), row.size_bytes) for row in layout.tensors),
        name=f"{shape.id}-{quant}",
        format="gguf",
        quantization=quant,
        file_bytes=layout.file_bytes,
        synthetic=True,
    )


def _metadata(shape: Shape, quant: str) -> list[bytes]:
    general: dict[str, Any] = {
        "general.architecture": shape.architecture,
        "general.name": "rigbench synthetic",  # not the model's: llama.cpp looks for some families' own tokens by this name
        "general.file_type": QUANTS[quant].file_type or 0,
        "general.quantization_version": 2,
        "rigbench.synthetic": True,
        "rigbench.synthetic_version": SYNTHETIC_VERSION,
    }
    latent = shape.kv_lora_rank > 0
    own: dict[str, Any] = {
        "vocab_size": shape.vocab,
        "context_length": shape.context,
        "embedding_length": shape.hidden,
        "block_count": shape.layers,
        "feed_forward_length": shape.ffn,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": 1 if latent else shape.kv_heads,
        "attention.key_length": shape.kv_lora_rank + shape.rope_dim if latent else shape.head_dim,
        "attention.value_length": shape.kv_lora_rank if latent else shape.head_dim,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.layer_norm_epsilon": 1e-5,
        "rope.freq_base": shape.rope_base,
        "rope.dimension_count": shape.rope_dim or shape.head_dim,
    }
    if latent:
        own |= {
            "attention.kv_lora_rank": shape.kv_lora_rank,
            "attention.key_length_mla": shape.nope_dim + shape.rope_dim,
            "attention.value_length_mla": shape.v_dim,
        }
        if shape.q_lora_rank:
            own["attention.q_lora_rank"] = shape.q_lora_rank
    if shape.window:
        own["attention.sliding_window"] = shape.window
        own["attention.sliding_window_pattern"] = tuple(map(shape.is_windowed, range(shape.layers)))
    if shape.experts:
        own |= {
            "expert_count": shape.experts,
            "expert_used_count": shape.experts_used,
            "expert_feed_forward_length": shape.expert_ffn,
            "leading_dense_block_count": shape.dense_layers,
            "interleave_moe_layer_step": shape.moe_every,
        }
    if shape.shared_ffn:
        own["expert_shared_feed_forward_length"] = shape.shared_ffn
        own["expert_shared_count"] = max(1, shape.shared_ffn // shape.expert_ffn)
    if shape.router_bias:
        own |= {"expert_gating_func": _SIGMOID_GATING, "expert_weights_norm": True, "expert_weights_scale": 1.0}
    if shape.linear_v_heads:
        own |= {
            "full_attention_interval": shape.full_every,
            "ssm.conv_kernel": shape.linear_conv,
            "ssm.inner_size": shape.linear_v_heads * shape.linear_head_dim,
            "ssm.state_size": shape.linear_head_dim,
            "ssm.time_step_rank": shape.linear_v_heads,
            "ssm.group_count": shape.linear_k_heads,
        }
    if shape.full_head_dim:
        own |= {
            "attention.key_length": shape.full_head_dim,
            "attention.value_length": shape.full_head_dim,
            "attention.key_length_swa": shape.head_dim,
            "attention.value_length_swa": shape.head_dim,
            "attention.head_count_kv": tuple(kv_shape(shape, layer)[0] for layer in range(shape.layers)),
            "rope.dimension_count": shape.full_head_dim,
            "rope.dimension_count_swa": shape.head_dim,
            "embedding_length_per_layer_input": shape.per_layer_dim,
        }
    if shape.shared_kv_layers:
        own["attention.shared_kv_layers"] = shape.shared_kv_layers
    if shape.architecture in _LOGIT_SCALED:
        own["logit_scale"] = 1.0
    if shape.architecture in ("qwen35", "qwen35moe"):
        own["rope.dimension_sections"] = (shape.head_dim // 8, shape.head_dim // 8, shape.head_dim // 8, 0)
    named = {f"{shape.architecture}.{key}": value for key, value in own.items()}
    return [value_bytes(*item) for item in (general | named).items()]


def check_vocabulary(size: int) -> None:
    """Raises InputError unless a synthetic model can have a vocabulary of this size."""
    if not MIN_VOCAB <= size <= MAX_VOCAB:
        raise InputError(f"A vocabulary of {size} cannot be written; it needs {MIN_VOCAB} to {MAX_VOCAB} tokens.")


def _vocabulary(size: int) -> tuple[bytes, ...]:
    check_vocabulary(size)
    known, padding = first_tokens(), size - MIN_VOCAB
    kinds = struct.pack(f"<{MIN_VOCAB}i", *[_NORMAL] * (MIN_VOCAB - len(SPECIAL)), *[_CONTROL] * len(SPECIAL))
    texts = b"".join(map(text_bytes, known)) + _padding()[: padding * _PADDING_BYTES]
    length = struct.pack("<Q", size)
    return (
        value_bytes("tokenizer.ggml.model", "gpt2"),
        value_bytes("tokenizer.ggml.pre", "llama-bpe"),
        key_bytes("tokenizer.ggml.tokens", _ARRAY, struct.pack("<I", _STRING) + length + texts),
        key_bytes(
            "tokenizer.ggml.token_type",
            _ARRAY,
            struct.pack("<I", _INT32) + length + kinds + struct.pack("<i", _UNUSED) * padding,
        ),
        key_bytes("tokenizer.ggml.merges", _ARRAY, struct.pack("<IQ", _STRING, 1) + text_bytes("Ġ t")),
        value_bytes("tokenizer.ggml.bos_token_id", MIN_VOCAB - 2),
        value_bytes("tokenizer.ggml.eos_token_id", MIN_VOCAB - 1),
        value_bytes("tokenizer.ggml.add_bos_token", False),
    )


@lru_cache(maxsize=1)
def _padding() -> bytes:
    """Unused tokens, all of one length, so that a vocabulary's are the first of these: a catalogue is planned in a blink."""
    return b"".join(b"\x0b\0\0\0\0\0\0\0[PAD%06d]" % index for index in range(MAX_VOCAB))


def first_tokens() -> list[str]:
    """All but the unused: GPT-2's symbol of each byte (itself where it prints, else a character from 256 on, in the order of the
    bytes), the one merge, begin and end of text."""
    plain = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    extra = count(256)
    return [*(chr(byte if byte in plain else next(extra)) for byte in range(256)), "Ġt", *SPECIAL]
