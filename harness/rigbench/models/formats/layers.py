"""What each layer of a model keeps for each user, from its config.json.

    full     keys and values of every token        conv     what a short convolution looks back on
    window   of the last tokens                     mamba, mamba1, state, lightning, rwkv, lru   a state of fixed size
    none     nothing: a feed-forward layer, or one that takes another layer's keys and values

A layer of which this is not known ends in an InputError that names it: to take it for attention would be wrong by a factor.

    python -c "from rigbench.models.formats.layers import LAYERS; print(LAYERS)"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rigbench.models.kv import Cache, Settings, state_values, total_cache

LAYERS = "num_hidden_layers num_layers n_layer n_layers num_transformer_layers"
WIDTH = "hidden_size hidden_dim n_embd d_model model_dim"
HEADS = "num_attention_heads num_heads n_head n_heads num_query_heads"
KV_HEADS = "num_key_value_heads num_kv_heads n_kv_heads kv_n_heads num_attention_groups"
HEAD_DIM = "head_dim kv_channels hidden_size_per_head"
CONTEXT = "max_position_embeddings n_positions n_ctx max_seq_len block_size model_max_length"
"""Names of one setting, which differ by the family."""

_KINDS = {
    **dict.fromkeys(("full_attention", "attention", "global_attention", "hybrid"), ("full",)),
    **dict.fromkeys(("sliding_attention", "local_attention", "sliding_window"), ("window",)),
    **dict.fromkeys(("linear_attention", "gated_delta_net"), ("state",)),
    **dict.fromkeys(("mamba", "mamba2"), ("mamba",)),
    **dict.fromkeys(("mlp", "moe"), ("none",)),
    **{"conv": ("conv",), "recurrent": ("lru",)},
}
"""`layer_types` and its like -> what of it is kept for each user."""
_LETTERS = {"M": ("mamba",), "*": ("full",), "-": ("none",), "E": ("none",)}
"""Of `hybrid_override_pattern`, a layer each: Mamba-2, attention, feed-forward, experts."""
_NOT_KNOWN = {
    "compress_rope_theta": "layers that keep compressed keys and values",
    "loop_num": "layers that a token goes through several times (loop_num)",
}
_SHARED = "num_kv_shared_layers num_kv_reuse_layers"
"""Layers at the end that take the keys of earlier ones."""
_WINDOWED = {"gemma2": 2, "gpt_oss": 2, "gemma3_text": 6, "gemma3": 6, "cohere2": 4}
"""Every which layer is full, where a file does not tell."""
Kinds = tuple[str, ...]


def cache_of(text: Settings, layers: int, with_attention: set[int]) -> Cache:
    """The cache of a model with these settings, of whose layers those have tensors of keys. Raises InputError for a layer that is
    not known."""
    kinds = _kinds(text, layers, with_attention)
    sizes = _sizes(text, {kind for each in kinds for kind in each})
    shared = text.number(_SHARED, 0)
    groups = _heads_of_blocks(text, layers)
    window = _window(text)

    def parts() -> Iterator[tuple[str, int]]:
        for layer, each in enumerate(kinds[: layers - min(layers, shared)]):
            for kind in each:
                size = groups[layer] * 2 * head_dim(text) if groups else sizes.get(kind, 0)
                yield kind if kind in ("full", "window") else "state", size
        if convolved := text.number("conv_window", 0):  # of keys and values, before they are kept
            yield "state", layers * (convolved - 1) * 2 * _kv_heads(text) * head_dim(text)

    return total_cache(parts(), window)


def head_dim(text: Settings) -> int:
    """Values of a head's key."""
    return text.number(HEAD_DIM, text.number(WIDTH) // max(1, text.number(HEADS, 1)))


def keeps_keys(text: Settings, layers: int, with_attention: set[int]) -> bool:
    """Whether any layer attends to earlier tokens."""
    return any({"full", "window"} & set(each) for each in _kinds(text, layers, with_attention))


def _kv_heads(text: Settings) -> int:
    heads = text.number(HEADS)
    if (shared := text.number("n_shared_head", 0)) > 0:
        return -(-heads // shared)
    if text.get("multi_query") is True:
        return 1
    return text.number(KV_HEADS, heads)


def _window(text: Settings) -> int:
    off = text.get("use_sliding_window") is False
    return 0 if off else text.number("sliding_window sliding_window_size attention_window_size window_size", 0)


def _sizes(text: Settings, kinds: set[str]) -> dict[str, int]:
    """Values of each kind: of a token of `full` and `window`, else of the whole state."""
    width, sizes = text.number(WIDTH), {"none": 0}
    conv = text.number("mamba_d_conv conv_kernel linear_conv_kernel_dim short_conv_kernel_size conv1d_width", 4)
    if {"full", "window"} & kinds:
        sizes |= _attention(text, kinds)
    if "state" in kinds:
        sizes["state"] = _delta_net(text, conv)
    if "lightning" in kinds:
        sizes["lightning"] = text.number(HEADS) * head_dim(text) ** 2
    if {"mamba", "mamba1"} & kinds:
        size = text.number("mamba_d_state ssm_state_size state_size", 0)
        heads = text.number("mamba_n_heads mamba_num_heads num_heads", 0)
        inner = text.number(
            "mamba_d_ssm", heads * text.number("mamba_d_head mamba_head_dim hidden_size_per_head head_dim", 0)
        )
        groups = text.number("mamba_n_groups n_groups", 0 if text.get("mamba_step") else 1)
        if "mamba1" in kinds:
            inner = text.number("mamba_expand", 0) * width or text.number("intermediate_size", 0)
            groups = 0
        if not inner * size:
            text.fail("the size of the state of its Mamba layers is not known.")
        sizes["mamba"] = sizes["mamba1"] = state_values(groups * size, inner, size, conv)
    if "conv" in kinds:
        sizes["conv"] = max(0, text.number("conv_L_cache", 3) - 1) * width
    if "rwkv" in kinds:
        sizes["rwkv"] = width * (2 + text.number("head_dim", 64))
    if "lru" in kinds:
        sizes["lru"] = conv * text.number("lru_width", width)
    return sizes


def _attention(text: Settings, kinds: set[str]) -> dict[str, int]:
    dim, kv_heads, latent = head_dim(text), _kv_heads(text), text.number("kv_lora_rank", 0)
    if latent:
        values = latent + text.number("qk_rope_head_dim", 0) + text.number("index_head_dim", 0)
        return {"full": values, "window": values}
    full = window = kv_heads * (dim + text.number("v_head_dim", dim))
    if "window" in kinds:
        other = text.get("attention_other_setting")
        swa_heads = other.get("num_attention_groups") if isinstance(other, dict) else None
        swa_heads = (
            swa_heads
            if isinstance(swa_heads, int)
            else text.number("swa_num_key_value_heads num_swa_key_value_heads", kv_heads)
        )
        swa_dim = text.number("swa_head_dim", dim)
        window = swa_heads * (swa_dim + text.number("swa_v_head_dim v_head_dim", swa_dim))
        full_heads, full_dim = text.number("num_global_key_value_heads", kv_heads), text.number("global_head_dim", dim)
        full = full_heads * (full_dim + text.number("v_head_dim", full_dim))
    return {"full": full, "window": window}


def _delta_net(text: Settings, conv: int) -> int:
    own = text.get("linear_attn_config")
    if isinstance(own, dict):
        text = Settings(own, text.source)
        keys = values = text.number("num_heads") * text.number("head_dim")
        return state_values(keys, values, text.number("head_dim"), text.number("short_conv_kernel_size", 4))
    key_dim = text.number("linear_key_head_dim", 0)
    if not key_dim:  # as wide as its attention
        key_dim = head_dim(text)
        return state_values(text.number(HEADS) * key_dim, text.number(HEADS) * key_dim, key_dim, conv)
    values = text.number("linear_num_value_heads", 0) * text.number("linear_value_head_dim", 0)
    return state_values(text.number("linear_num_key_heads", 0) * key_dim, values, key_dim, conv)


def _heads_of_blocks(text: Settings, layers: int) -> list[int]:
    """Heads of keys where each layer has its own number of them, else []."""
    blocks = text.get("block_configs")
    if isinstance(blocks, list) and len(blocks) >= layers:
        own = [block.get("attention") if isinstance(block, dict) else None for block in blocks[:layers]]
        shared = [each.get("n_heads_in_group") if isinstance(each, dict) else None for each in own]
        return [text.number(HEADS) // each if isinstance(each, int) and each > 0 else 0 for each in shared]
    each = text.get("num_kv_heads")
    if isinstance(each, list):
        if len(each) < layers or any(not isinstance(heads, int) or heads < 0 for heads in each):
            text.fail(f"num_kv_heads does not hold one whole number for each of {layers} layers.")
        return [int(heads) for heads in each[:layers]]
    return []


def _kinds(text: Settings, layers: int, with_attention: set[int]) -> list[Kinds]:
    for name, what in _NOT_KNOWN.items():
        if (value := text.get(name)) and value != 1:
            text.fail(f"{what} are not known, so what they keep for each user is not either.")
    pattern = text.get("hybrid_override_pattern")
    if isinstance(pattern, str | list) and len(pattern) >= layers:
        return [_lettered(text, str(letter)) for letter in pattern[:layers]]
    for name in ("layers_block_type", "layer_types", "block_types"):
        named = text.get(name)
        if isinstance(named, list) and named and (len(named) >= layers or name == "block_types"):
            return [_named(text, str(named[layer % len(named)]), layer in with_attention) for layer in range(layers)]
    if (heads := _heads_of_blocks(text, layers)) and text.get("block_configs"):
        return [("full",) if each else ("none",) for each in heads]
    if (kinds := _mixed(text, layers)) is not None:
        return kinds
    own = range(layers - min(layers, text.number(_SHARED, 0)))
    without = next((layer for layer in own if layer not in with_attention), None)
    if with_attention and without is not None:
        text.fail(f"layer {without} has no keys and values, and what it keeps for each user is not known.")
    return [("window",) if each else ("full",) for each in _windowed(text, layers, _window(text))]


def _lettered(text: Settings, letter: str) -> Kinds:
    if letter not in _LETTERS:
        text.fail(f"layers of kind {letter[:40]!r} in hybrid_override_pattern are not known.")
    return _LETTERS[letter]


def _named(text: Settings, name: str, has_keys: bool) -> Kinds:
    if name not in _KINDS and not has_keys:
        text.fail(f"layers of type {name[:40]!r} are not known, so what they keep for each user is not either.")
    kinds = _KINDS.get(name, ("full",))
    if name == "attention" and text.get("attention_window_size"):  # RecurrentGemma's is local
        kinds = ("window",)
    if kinds == ("window",) and not _window(text):
        return ("full",)
    return (
        ("mamba1",)
        if kinds == ("mamba",) and text.get("mamba_dt_rank") is not None and not text.get("mamba_n_heads")
        else kinds
    )


def _mixed(text: Settings, layers: int) -> list[Kinds] | None:
    """Of layers that are told by a rule of their family; None where there is none."""
    numbers = range(layers)
    own = text.get("linear_attn_config")
    full = own.get("full_attn_layers") if isinstance(own, dict) else None
    if isinstance(full, list):  # counted from 1
        return [("full",) if layer + 1 in full else ("state",) for layer in numbers]
    if period := text.number("attn_layer_period", 0):
        return [
            ("full",) if layer % period == text.number("attn_layer_offset", 0) else ("mamba1",) for layer in numbers
        ]
    if group := text.number("layer_group_size", 0):
        linear = "state" if text.get("short_conv_kernel_size") else "lightning"
        whole = layers // group * group
        return [("full",) if (layer + 1) % group == 0 or layer >= whole else (linear,) for layer in numbers]
    if interval := text.number("full_attention_interval", 0):
        return [("full",) if layer % interval == interval - 1 else ("state",) for layer in numbers]
    if step := text.number("mamba_step", 0):
        listed = text.get("full_attention_idx")
        attention = [
            ("window",) if isinstance(listed, list) and layer not in listed else ("full",) for layer in numbers
        ]
        return [attention[layer] if layer % step == step // 2 else ("mamba",) for layer in numbers]
    if text.get("use_cla") is True:
        every = max(1, text.number("cla_share_factor", 1))
        return [("none",) if layer % every else ("full",) for layer in numbers]
    if text.get("mamba_d_ssm"):
        return [("full", "mamba")] * layers
    if text.get("decay_low_rank_dim"):
        return [("rwkv",)] * layers
    if text.get("state_size") and not text.get("num_attention_heads"):
        return [("mamba",) if text.get("num_heads") else ("mamba1",)] * layers
    if text.get("attention_method") == "MLA" or text.get("zero_expert_num") is not None:  # two attentions in a layer
        return [("full", "full")] * layers
    return None


def _windowed(text: Settings, layers: int, window: int) -> list[bool]:
    listed: Any = text.get("sliding_window_layers")
    if isinstance(listed, list):
        return [layer in listed for layer in range(layers)]
    listed = text.get("hybrid_layer_pattern")
    if isinstance(listed, list) and len(listed) >= layers:
        return [each == 1 for each in listed[:layers]]
    if window == 0:
        return [False] * layers
    every = text.get("sliding_window_pattern")
    if isinstance(every, str) and every:
        return [every[layer % len(every)] == "L" for layer in range(layers)]
    default = _WINDOWED.get(str(text.get("model_type")), 0)
    every = default if every is None else every if isinstance(every, int) and every > 0 else 0
    return [not (every and layer % every == every - 1) for layer in range(layers)]
