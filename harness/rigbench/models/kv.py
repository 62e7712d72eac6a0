"""The KV cache of a model: bytes per token of context and sequence, for 16 bits a value, from its shape or a GGUF's metadata.

A step reads back the keys and values of every earlier token in full layers, of at most a window's in windowed ones, and a
state of fixed size in recurrent ones (32 bits a value, kept here as a window of one token). The defaults for files that
do not say which layers are windowed are those of llama.cpp's src/models/*.cpp (`load_swa_pattern`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rigbench.errors import InputError
from rigbench.models.shapes import Shape
from rigbench.models.tensors import kv_shape

_BYTES = 2
_STATE_BYTES = 4
_EVERY = {
    "gemma2": 2,
    "gpt-oss": 2,
    "cohere2": 4,
    "exaone4": 4,
    "olmo2": 4,
    "llama4": 4,
    "gemma3n": 5,
    "gemma3": 6,
    "plamo3": 8,
}
_DEFAULT_WINDOW = {"gemma2": 4096, "llama4": 8192}
_DELTA_NETS = ("qwen3next", "qwen35", "qwen35moe")
_MAX_LAYERS = 4096


class Cache(NamedTuple):
    """`per_token` bytes of full layers; `window_per_token` bytes for each of at most `window_tokens` tokens."""

    per_token: int
    window_per_token: int
    window_tokens: int


def total_cache(
    *,
    full_values: int,
    windowed_values: int = 0,
    window: int = 0,
    states: int = 0,
    conv: int = 1,
    conv_width: int = 0,
    state_values: int = 0,
) -> Cache:
    """Values per token of all full and of all windowed layers; `states` layers that keep (conv - 1) x width + values each."""
    state = states * _STATE_BYTES * ((conv - 1) * conv_width + state_values)
    if windowed_values and window:
        return Cache(_BYTES * full_values, _BYTES * windowed_values + round(state / window), window)
    return Cache(_BYTES * full_values, state, 1 if state else 0)


def cache_from_shape(shape: Shape) -> Cache:
    """The cache of a catalogued shape."""
    full = windowed = states = 0
    for layer in range(shape.layers - shape.shared_kv_layers):
        if shape.is_recurrent(layer):
            states += 1
            continue
        kv_heads, head_dim = kv_shape(shape, layer)
        values = shape.kv_lora_rank + shape.rope_dim if shape.kv_lora_rank else 2 * kv_heads * head_dim
        if shape.window and not (shape.full_every and shape.is_full(layer)):
            windowed += values
        else:
            full += values
    keys, values = shape.linear_k_heads * shape.linear_head_dim, shape.linear_v_heads * shape.linear_head_dim
    return total_cache(
        full_values=full,
        windowed_values=windowed,
        window=shape.window,
        states=states,
        conv=shape.linear_conv,
        conv_width=values + 2 * keys,
        state_values=shape.linear_head_dim * values,
    )


class Metadata:
    """A GGUF's metadata of one architecture, with every value's type checked, since files come from anywhere."""

    def __init__(self, values: Mapping[str, Any], file_name: str) -> None:
        self.values, self.file_name = values, file_name
        self.architecture = values.get("general.architecture")
        if not isinstance(self.architecture, str) or not self.architecture:
            raise InputError(
                f"{file_name} does not name its architecture (general.architecture); it is no language model."
            )

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number that is not negative."""
        value = self.values.get(f"{self.architecture}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(
                f"{self.file_name}: {self.architecture}.{key} is {'missing' if value is None else repr(value)}."
            )
        return value

    def per_layer(self, key: str, layers: int, default: int | None = None) -> list[int]:
        """The same, of which a file may have one for all layers or one for each."""
        value = self.values.get(f"{self.architecture}.{key}")
        if not isinstance(value, tuple):
            return [self.number(key, default)] * layers
        if len(value) < layers or any(not isinstance(item, int) or item < 0 for item in value):
            raise InputError(
                f"{self.file_name}: {self.architecture}.{key} does not hold one whole number for each of {layers} layers."
            )
        return [int(item) for item in value[:layers]]

    def layers(self) -> int:
        """Layers that a plain decode step goes through."""
        count = self.number("block_count") - self.number("nextn_predict_layers", 0)
        if not 0 < count <= _MAX_LAYERS:
            raise InputError(f"{self.file_name}: {count} layers are impossible.")
        return count


def cache_from_metadata(meta: Metadata) -> Cache:
    """The cache of a GGUF file. Raises InputError where the metadata make no sense."""
    layers = meta.layers()
    heads = meta.per_layer("attention.head_count", layers)
    kv_heads = meta.per_layer("attention.head_count_kv", layers, heads[0])
    head_dim = meta.number("embedding_length") // max(1, heads[0])
    key = meta.number("attention.key_length", head_dim)
    value = meta.number("attention.value_length", head_dim)
    latent = meta.number("attention.key_length_mla", 0) > 0
    windowed_layers, window = _windows(meta, layers)
    key_swa, value_swa = meta.number("attention.key_length_swa", key), meta.number("attention.value_length_swa", value)
    recurrent = _recurrent_layers(meta, layers, kv_heads)
    inner, size = meta.number("ssm.inner_size", 0), meta.number("ssm.state_size", 0)
    shared = {35: 15, 30: 10}.get(layers, 0) if meta.architecture == "gemma3n" else 0
    full = windowed = states = 0
    for layer in range(layers - min(layers, meta.number("attention.shared_kv_layers", shared))):
        if recurrent[layer]:
            states += 1
        elif windowed_layers[layer]:
            windowed += kv_heads[layer] * (key_swa + value_swa)
        else:
            full += kv_heads[layer] * (key if latent else key + value)
    return total_cache(
        full_values=full,
        windowed_values=windowed,
        window=window,
        states=states,
        conv=max(1, meta.number("ssm.conv_kernel", 1)),
        conv_width=inner + 2 * meta.number("ssm.group_count", 0) * size,
        state_values=size * inner,
    )


def _windows(meta: Metadata, layers: int) -> tuple[list[bool], int]:
    window = meta.number("attention.sliding_window", _DEFAULT_WINDOW.get(str(meta.architecture), 0))
    pattern = meta.values.get(f"{meta.architecture}.attention.sliding_window_pattern")
    if window == 0:
        return [False] * layers, 0
    if isinstance(pattern, tuple):
        if len(pattern) < layers:
            raise InputError(f"{meta.file_name}: the sliding window's pattern names {len(pattern)} of {layers} layers.")
        return [bool(item) for item in pattern[:layers]], window
    every = meta.number("attention.sliding_window_pattern", _EVERY.get(str(meta.architecture), 1))
    return [every == 0 or layer % every < every - 1 for layer in range(layers)], window


def _recurrent_layers(meta: Metadata, layers: int, kv_heads: list[int]) -> list[bool]:
    if meta.number("ssm.inner_size", 0) == 0:
        return [False] * layers
    if meta.architecture in _DELTA_NETS:
        if f"{meta.architecture}.attention.recurrent_layers" in meta.values:
            return [bool(item) for item in meta.per_layer("attention.recurrent_layers", layers)]
        every = max(1, meta.number("full_attention_interval", 4))
        return [(layer + 1) % every != 0 for layer in range(layers)]
    inner = meta.per_layer("feed_forward_length", layers, 0)
    mixed = (
        len(set(inner)) > 1
    )  # where layers are of one kind each (Nemotron-H), those with a feed-forward part have no state
    return [kv_heads[layer] == 0 and not (mixed and inner[layer]) for layer in range(layers)]
