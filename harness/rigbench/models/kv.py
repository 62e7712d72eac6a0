"""The KV cache of a model: bytes per token of context and sequence, for 16 bits a value, from its shape or a GGUF's metadata.

A step reads back the keys and values of every earlier token in full layers, of at most a window's in windowed ones, and a
state of fixed size in recurrent ones (32 bits a value, kept here as a window of one token). The defaults for files that
do not say which layers are windowed are those of llama.cpp's src/models/*.cpp (`load_swa_pattern`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from rigbench.errors import InputError
from rigbench.models.shapes import Shape
from rigbench.models.tensors import kv_shape

_BYTES = 2
_STATE_BYTES = 4
_EVERY = {
    **{"gemma2": 2, "gpt-oss": 2, "cohere2": 4, "exaone4": 4, "olmo2": 4, "llama4": 4, "gemma3n": 5, "gemma3": 6},
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


def total_cache(layers: Iterable[tuple[str, int]], window: int = 0) -> Cache:
    """From (kind, values) of each layer: values a token of `full` and `window` layers, of the whole state of `state` ones."""
    values: Counter[str] = Counter()
    for kind, count in layers:
        values[kind] += count
    state = _STATE_BYTES * values["state"]
    if values["window"] and window:
        return Cache(_BYTES * values["full"], _BYTES * values["window"] + round(state / window), window)
    return Cache(_BYTES * values["full"], state, 1 if state else 0)


def state_values(keys: int, values: int, key_dim: int, conv: int) -> int:
    """Values of a recurrent layer's state: what its convolution looks back on, and a matrix of each head."""
    return (conv - 1) * (2 * keys + values) + key_dim * values


def cache_from_shape(shape: Shape) -> Cache:
    """The cache of a catalogued shape."""
    keys, values = shape.linear_k_heads * shape.linear_head_dim, shape.linear_v_heads * shape.linear_head_dim

    def of(layer: int) -> tuple[str, int]:
        if shape.is_recurrent(layer):
            return "state", state_values(keys, values, shape.linear_head_dim, shape.linear_conv)
        kv_heads, head_dim = kv_shape(shape, layer)
        latent = shape.kv_lora_rank
        return "window" if shape.is_windowed(
            layer
        ) else "full", latent + shape.rope_dim if latent else 2 * kv_heads * head_dim

    return total_cache(map(of, range(shape.layers - shape.shared_kv_layers)), shape.window)


class Settings:
    """What a model's own file says of it, with every value's type checked, since files come from anywhere.

    `source` is the file's name for messages. A GGUF's keys begin with its `architecture`.
    """

    def __init__(self, values: Mapping[str, Any], source: str, architecture: str = "") -> None:
        self.values, self.source, self.architecture = values, source, architecture
        self.prefix = f"{architecture}." if architecture else ""

    def fail(self, fault: str) -> NoReturn:
        raise InputError(f"{self.source}: {fault}")

    def get(self, name: str) -> Any:
        """The value as the file has it, or None."""
        return self.values.get(self.prefix + name)

    def number(self, names: str, default: int | None = None) -> int:
        """The first of these (separated by spaces) that is there, as a whole number that is not negative; of a list the largest."""
        value = next((self.get(name) for name in names.split() if self.get(name) is not None), default)
        if isinstance(value, list) and value:
            value = max(value, key=lambda item: item if isinstance(item, int) else -1)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
            self.fail(f"{self.prefix}{names.split()[0]} is {'missing' if value is None else repr(value)[:80]}.")
        return value

    def per_layer(self, name: str, layers: int, default: int | None = None) -> list[int]:
        """Such numbers, of which a file may have one for all layers or one for each."""
        value = self.get(name)
        if not isinstance(value, tuple):
            return [self.number(name, default)] * layers
        if len(value) < layers or any(not isinstance(item, int) or item < 0 for item in value):
            self.fail(f"{self.prefix}{name} does not hold one whole number for each of {layers} layers.")
        return [int(item) for item in value[:layers]]

    def layers(self, names: str) -> int:
        """Layers that a plain decode step goes through."""
        count = self.number(names) - self.number("nextn_predict_layers", 0)
        if not 0 < count <= _MAX_LAYERS:
            self.fail(f"{count} layers are impossible.")
        return count

    def experts(self, names: str, used_names: str, layers: int) -> tuple[int, int]:
        """(routed experts, those of them that a token goes through)."""
        experts = self.number(names, 0)
        used = max(self.per_layer(used_names, layers, 0)) if experts else 0
        if used > experts:
            self.fail(f"{used} experts used of {experts} is impossible.")
        return experts, used


def gguf_settings(values: Mapping[str, Any], file_name: str) -> Settings:
    """A GGUF's metadata. Raises InputError where they name no architecture."""
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise InputError(f"{file_name} does not name its architecture (general.architecture); it is no language model.")
    return Settings(values, file_name, architecture)


def cache_from_metadata(meta: Settings) -> Cache:
    """The cache of a GGUF file. Raises InputError where the metadata make no sense."""
    layers = meta.layers("block_count")
    heads = meta.per_layer("attention.head_count", layers)
    kv_heads = meta.per_layer("attention.head_count_kv", layers, heads[0])
    head_dim = meta.number("embedding_length") // max(1, heads[0])
    key = meta.number("attention.key_length", head_dim)
    value = meta.number("attention.value_length", head_dim)
    latent = meta.number("attention.key_length_mla", 0) > 0
    windowed, window = _windows(meta, layers)
    key_swa, value_swa = meta.number("attention.key_length_swa", key), meta.number("attention.value_length_swa", value)
    recurrent = _recurrent_layers(meta, layers, kv_heads)
    inner, size = meta.number("ssm.inner_size", 0), meta.number("ssm.state_size", 0)
    keys, conv = meta.number("ssm.group_count", 0) * size, max(1, meta.number("ssm.conv_kernel", 1))

    def of(layer: int) -> tuple[str, int]:
        if recurrent[layer]:
            return "state", state_values(keys, inner, size, conv)
        if windowed[layer]:
            return "window", kv_heads[layer] * (key_swa + value_swa)
        return "full", kv_heads[layer] * (key if latent else key + value)

    shared = {35: 15, 30: 10}.get(layers, 0) if meta.architecture == "gemma3n" else 0
    return total_cache(map(of, range(layers - min(layers, meta.number("attention.shared_kv_layers", shared)))), window)


def _windows(meta: Settings, layers: int) -> tuple[list[bool], int]:
    window = meta.number("attention.sliding_window", _DEFAULT_WINDOW.get(meta.architecture, 0))
    pattern = meta.get("attention.sliding_window_pattern")
    if window == 0:
        return [False] * layers, 0
    if isinstance(pattern, tuple):
        if len(pattern) < layers:
            meta.fail(f"the sliding window's pattern names {len(pattern)} of {layers} layers.")
        return [bool(item) for item in pattern[:layers]], window
    every = meta.number("attention.sliding_window_pattern", _EVERY.get(meta.architecture, 1))
    return [every == 0 or layer % every < every - 1 for layer in range(layers)], window


def _recurrent_layers(meta: Settings, layers: int, kv_heads: list[int]) -> list[bool]:
    if meta.number("ssm.inner_size", 0) == 0:
        return [False] * layers
    if meta.architecture in _DELTA_NETS:
        if meta.get("attention.recurrent_layers") is not None:
            return [bool(item) for item in meta.per_layer("attention.recurrent_layers", layers)]
        every = max(1, meta.number("full_attention_interval", 4))
        return [(layer + 1) % every != 0 for layer in range(layers)]
    inner = meta.per_layer("feed_forward_length", layers, 0)
    # where layers are of one kind each (Nemotron-H), those with a feed-forward part have no state
    mixed = len(set(inner)) > 1
    return [kv_heads[layer] == 0 and not (mixed and inner[layer]) for layer in range(layers)]
