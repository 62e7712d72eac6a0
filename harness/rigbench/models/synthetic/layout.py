"""A GGUF file of a shape, planned to the byte before anything is written: metadata, vocabulary, tensor table, offsets.

The vocabulary is a byte-level BPE that llama.cpp loads as tokenizer `gpt2`, pre-tokenizer `llama-bpe`: the 256 byte
symbols, one merge (it wants at least one), begin and end of text, and unused tokens up to the shape's vocabulary size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

from rigbench.errors import InputError
from rigbench.models.formats.gguf import TensorInfo, header_bytes, key_bytes, text_bytes, value_bytes
from rigbench.models.mixes import MIXES, tensor_bytes, tensor_types
from rigbench.models.names import QUANTS, one_of
from rigbench.models.shapes import Shape
from rigbench.models.tensors import kv_shape, tensors

SYNTHETIC_VERSION = 1
"""Goes into the header: raise it when the contents of synthetic files change, so that old ones are made anew."""
_SIGMOID_GATING = 2
_LOGIT_SCALED = ("command-r", "cohere2", "granite", "granitemoe")
_STRING, _INT32, _ARRAY = 8, 5, 9
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5
_SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>")
MIN_VOCAB, MAX_VOCAB = 256 + 1 + len(_SPECIAL), 1 << 19
_PADDING_BYTES = 8 + 11


@dataclass(frozen=True, slots=True)
class Layout:
    """`header` is everything before the first tensor's data; `tensors` have their offsets from the start of the file."""

    header: bytes
    tensors: tuple[TensorInfo, ...]
    file_bytes: int


def plan(shape: Shape, quant: str) -> Layout:
    """The file of this shape in this quantisation. Raises InputError for an unknown quantisation."""
    quant = one_of(quant, MIXES)
    listed = tensors(shape)
    kinds = tensor_types(shape, listed, quant)
    rows = [(tensor.name, tensor.dims, kind) for tensor, kind in zip(listed, kinds, strict=True)]
    header, offsets, file_bytes = header_bytes([*_metadata(shape, quant), *_vocabulary(shape.vocab)], rows)
    infos = (
        TensorInfo(name, dims, kind, tensor_bytes(dims, kind), offset)
        for (name, dims, kind), offset in zip(rows, offsets, strict=True)
    )
    return Layout(header, tuple(infos), file_bytes)


def _metadata(shape: Shape, quant: str) -> list[bytes]:
    general: dict[str, bool | int | float | str] = {
        "general.architecture": shape.architecture,
        "general.name": "rigbench synthetic",  # not the model's: llama.cpp looks for some families' own tokens by this name
        "general.file_type": QUANTS[quant].file_type or 0,
        "general.quantization_version": 2,
        "rigbench.synthetic": True,
        "rigbench.synthetic_version": SYNTHETIC_VERSION,
    }
    latent = shape.kv_lora_rank > 0
    own: dict[str, bool | int | float | tuple[int, ...]] = {
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
        own["attention.sliding_window_pattern"] = tuple(
            not (shape.full_every and shape.is_full(layer)) for layer in range(shape.layers)
        )
    if shape.experts:
        own |= _expert_metadata(shape)
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
    return [value_bytes(key, value) for key, value in {**general, **named}.items()]


def _expert_metadata(shape: Shape) -> dict[str, bool | int | float]:
    own: dict[str, bool | int | float] = {
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
    return own


def _vocabulary(size: int) -> tuple[bytes, ...]:
    if not MIN_VOCAB <= size <= MAX_VOCAB:
        raise InputError(f"A vocabulary of {size} cannot be written; it needs {MIN_VOCAB} to {MAX_VOCAB} tokens.")
    symbols, padding = [*byte_symbols(), "Ġt"], size - MIN_VOCAB
    kinds = struct.pack(f"<{MIN_VOCAB}i", *[_NORMAL] * len(symbols), *[_CONTROL] * len(_SPECIAL))
    texts = b"".join(map(text_bytes, [*symbols, *_SPECIAL])) + _padding()[: padding * _PADDING_BYTES]
    count = struct.pack("<Q", size)
    return (
        value_bytes("tokenizer.ggml.model", "gpt2"),
        value_bytes("tokenizer.ggml.pre", "llama-bpe"),
        key_bytes("tokenizer.ggml.tokens", _ARRAY, struct.pack("<I", _STRING) + count + texts),
        key_bytes(
            "tokenizer.ggml.token_type",
            _ARRAY,
            struct.pack("<I", _INT32) + count + kinds + struct.pack("<i", _UNUSED) * padding,
        ),
        key_bytes("tokenizer.ggml.merges", _ARRAY, struct.pack("<IQ", _STRING, 1) + text_bytes("Ġ t")),
        value_bytes("tokenizer.ggml.bos_token_id", len(symbols)),
        value_bytes("tokenizer.ggml.eos_token_id", len(symbols) + 1),
        value_bytes("tokenizer.ggml.add_bos_token", False),
    )


@lru_cache(maxsize=1)
def _padding() -> bytes:
    """Unused tokens, all of one length, so that a vocabulary's are the first of these: a catalogue is planned in a blink."""
    return b"".join(b"\x0b\0\0\0\0\0\0\0[PAD%06d]" % index for index in range(MAX_VOCAB))


def byte_symbols() -> list[str]:
    """GPT-2's symbol of each byte: itself where it prints, else a character from 256 on, in the order of the bytes."""
    plain = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    symbols, extra = [], 0
    for byte in range(256):
        symbols.append(chr(byte if byte in plain else 256 + extra))
        extra += byte not in plain
    return symbols
