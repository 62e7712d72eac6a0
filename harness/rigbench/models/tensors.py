"""The tensors of a model of a given shape: names and dimensions as GGUF files and llama.cpp have them.

One list serves the count of parameters, the bytes of a step and the synthetic file, so the three cannot disagree.
Dimensions are in GGUF's order: the first is the row, which is what a matrix-vector product sums over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from rigbench.models.shapes import Shape


class Tensor(NamedTuple):
    """`dims` as in GGUF: row length first."""

    name: str
    dims: tuple[int, ...]


FUSED_QKV = frozenset({"phi3"})
FUSED_GATE_UP = frozenset({"phi3", "glm4", "chatglm"})
WITHOUT_PRE_NORMS = frozenset({"olmo2", "exaone4"})
PARALLEL_BLOCKS = frozenset({"command-r", "cohere2"})
POST_ATTENTION_NORM = frozenset({"gpt-oss", "glm4moe", "qwen3next", "qwen35", "qwen35moe", "seed_oss"})
"""Architectures whose norm before the feed-forward part is called post_attention_norm."""

ALTUP_STREAMS, LAUREL_RANK = 4, 64
"""Gemma 3n: parallel residual streams, and the rank of its low-rank residual."""

_ROUTED = re.compile(r"\.ffn_(?:gate|up|down|gate_up)(?:_exps\.|\.\d+\.)")
_LOOKED_UP = ("token_embd.weight", "per_layer_token_embd.weight", "token_types.weight", "position_embd.weight")


def is_routed(name: str) -> bool:
    """Whether the tensor belongs to routed experts (one of 3 dimensions for all, or one per expert in old files)."""
    return _ROUTED.search(name) is not None


def is_looked_up(name: str, tied: bool) -> bool:
    """Whether a step reads single rows of the tensor instead of all of it: an input embedding that is not also the output."""
    return name in _LOOKED_UP and not (tied and name == "token_embd.weight")


def tensors(shape: Shape) -> list[Tensor]:
    """Every tensor of a model of this shape, token embedding first, output last."""
    listed = [Tensor("token_embd.weight", (shape.hidden, shape.vocab))]
    if shape.per_layer_dim:
        width = shape.per_layer_dim * shape.layers
        listed += [
            Tensor("per_layer_token_embd.weight", (width, shape.vocab)),
            Tensor("per_layer_model_proj.weight", (shape.hidden, width)),
            Tensor("per_layer_proj_norm.weight", (shape.per_layer_dim,)),
        ]
    if shape.architecture == "gemma4":
        listed.append(Tensor("rope_freqs.weight", (shape.full_head_dim // 2,)))
    if shape.architecture == "gemma3n":
        streams = (shape.hidden, shape.hidden, ALTUP_STREAMS - 1)
        listed += [Tensor("altup_proj.weight", streams), Tensor("altup_unembd_proj.weight", streams)]
    for layer in range(shape.layers):
        attention = _attention(shape, layer)
        if shape.is_recurrent(layer):
            attention = _gated_delta_net(shape)
        elif shape.kv_lora_rank:
            attention = _latent_attention(shape)
        block = (*_norms(shape, layer), *attention, *_feed_forward(shape, layer), *_per_layer_embedding(shape))
        listed += [Tensor(f"blk.{layer}.{name}", dims) for name, dims in block]
    listed.append(Tensor("output_norm.weight", (shape.hidden,)))
    if not shape.tied:
        listed.append(Tensor("output.weight", (shape.hidden, shape.vocab)))
    return listed


def parameters(shape: Shape) -> tuple[int, int]:
    """(total, active): all weights, and those that one token goes through (routed experts count k of E)."""
    counts = [(math.prod(dims), is_routed(name)) for name, dims in tensors(shape)]
    total, routed = sum(count for count, _ in counts), sum(count for count, is_expert in counts if is_expert)
    return total, total - (routed - routed * shape.experts_used // shape.experts if shape.experts else 0)


def _norms(shape: Shape, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    width = (shape.hidden,)
    if shape.architecture not in WITHOUT_PRE_NORMS:
        yield "attn_norm.weight", width
        if shape.architecture in POST_ATTENTION_NORM:
            yield "post_attention_norm.weight", width
        elif shape.architecture not in PARALLEL_BLOCKS:
            yield "ffn_norm.weight", width
    if shape.post_norms:
        yield "post_attention_norm.weight", width
        yield "post_ffw_norm.weight", width
    if shape.architecture == "gemma4":
        yield "layer_output_scale.weight", (1,)
        if shape.has_experts(layer):
            for name in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"):
                yield f"{name}.weight", width


def _per_layer_embedding(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = shape.hidden, shape.per_layer_dim
    if inner:
        yield "inp_gate.weight", (hidden, inner)
        yield "proj.weight", (inner, hidden)
        yield "post_norm.weight", (hidden,)
    if shape.architecture == "gemma3n":
        yield "altup_correct_coef.weight", (ALTUP_STREAMS, ALTUP_STREAMS)
        yield "altup_correct_scale.weight", (hidden,)
        yield "altup_predict_coef.weight", (ALTUP_STREAMS, ALTUP_STREAMS**2)
        yield "altup_router.weight", (hidden, ALTUP_STREAMS)
        yield "altup_router_norm.weight", (hidden,)
        yield "laurel_l.weight", (hidden, LAUREL_RANK)
        yield "laurel_r.weight", (LAUREL_RANK, hidden)
        yield "laurel_post_norm.weight", (hidden,)


def kv_shape(shape: Shape, layer: int) -> tuple[int, int]:
    """(key-value heads, head size) of a layer's attention."""
    if shape.full_every and shape.is_full(layer):
        return shape.full_kv_heads or shape.kv_heads, shape.full_head_dim or shape.head_dim
    return shape.kv_heads, shape.head_dim


def _attention(shape: Shape, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    kv_heads, head_dim = kv_shape(shape, layer)
    q, kv = shape.heads * head_dim, kv_heads * head_dim
    gated = 2 if shape.linear_v_heads else 1  # these models gate the attention's output with a second half of q
    if shape.architecture in FUSED_QKV:
        yield "attn_qkv.weight", (shape.hidden, q + 2 * kv)
    else:
        yield "attn_q.weight", (shape.hidden, q * gated)
        yield "attn_k.weight", (shape.hidden, kv)
        alike = (
            shape.architecture == "gemma4" and shape.full_head_dim and shape.per_layer_dim == 0
        )  # values are the keys
        if not (alike and shape.is_full(layer)):
            yield "attn_v.weight", (shape.hidden, kv)
    if shape.qkv_bias:
        yield "attn_q.bias", (q,)
        yield "attn_k.bias", (kv,)
        yield "attn_v.bias", (kv,)
    yield "attn_output.weight", (q, shape.hidden)
    if shape.out_bias:
        yield "attn_output.bias", (shape.hidden,)
    if shape.architecture == "gpt-oss":
        yield "attn_sinks.weight", (shape.heads,)
    if shape.qk_norm:
        q_norm, k_norm = {
            "head": ((head_dim,), (head_dim,)),
            "full": ((q,), (kv,)),
            "heads": ((head_dim, shape.heads), (head_dim, kv_heads)),
        }[shape.qk_norm]
        yield "attn_q_norm.weight", q_norm
        yield "attn_k_norm.weight", k_norm


def _latent_attention(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    key = shape.nope_dim + shape.rope_dim
    if shape.q_lora_rank:
        yield "attn_q_a.weight", (shape.hidden, shape.q_lora_rank)
        yield "attn_q_a_norm.weight", (shape.q_lora_rank,)
        yield "attn_q_b.weight", (shape.q_lora_rank, shape.heads * key)
    else:
        yield "attn_q.weight", (shape.hidden, shape.heads * key)
    yield "attn_kv_a_mqa.weight", (shape.hidden, shape.kv_lora_rank + shape.rope_dim)
    yield "attn_kv_a_norm.weight", (shape.kv_lora_rank,)
    yield "attn_k_b.weight", (shape.nope_dim, shape.kv_lora_rank, shape.heads)
    yield "attn_v_b.weight", (shape.kv_lora_rank, shape.v_dim, shape.heads)
    yield "attn_output.weight", (shape.heads * shape.v_dim, shape.hidden)


def _gated_delta_net(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    keys, values = shape.linear_k_heads * shape.linear_head_dim, shape.linear_v_heads * shape.linear_head_dim
    yield "attn_qkv.weight", (shape.hidden, 2 * keys + values)
    yield "attn_gate.weight", (shape.hidden, values)
    yield "ssm_conv1d.weight", (shape.linear_conv, 2 * keys + values)
    yield "ssm_dt.bias", (shape.linear_v_heads,)
    yield "ssm_a", (shape.linear_v_heads,)
    if shape.architecture == "qwen3next":
        yield "ssm_ba.weight", (shape.hidden, 2 * shape.linear_v_heads)
    else:
        yield "ssm_beta.weight", (shape.hidden, shape.linear_v_heads)
        yield "ssm_alpha.weight", (shape.hidden, shape.linear_v_heads)
    yield "ssm_norm.weight", (shape.linear_head_dim,)
    yield "ssm_out.weight", (values, shape.hidden)


def _feed_forward(shape: Shape, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner, experts = shape.hidden, shape.expert_ffn, shape.experts
    parallel = shape.architecture == "gemma4"  # its dense part runs beside the experts
    if parallel or not shape.has_experts(layer):
        if shape.architecture in FUSED_GATE_UP:
            yield "ffn_up.weight", (hidden, 2 * shape.ffn)
        else:
            yield "ffn_gate.weight", (hidden, shape.ffn)
            yield "ffn_up.weight", (hidden, shape.ffn)
        yield "ffn_down.weight", (shape.ffn, hidden)
    if not shape.has_experts(layer):
        return
    yield "ffn_gate_inp.weight", (hidden, experts)
    if shape.router_bias:
        yield "exp_probs_b.bias", (experts,)
    if parallel:
        yield "ffn_gate_inp.scale", (hidden,)
        yield "ffn_gate_up_exps.weight", (hidden, 2 * inner, experts)
        yield "ffn_down_exps.scale", (experts,)
    else:
        yield "ffn_gate_exps.weight", (hidden, inner, experts)
        yield "ffn_up_exps.weight", (hidden, inner, experts)
    yield "ffn_down_exps.weight", (inner, hidden, experts)
    if shape.architecture == "gpt-oss":
        yield "ffn_gate_inp.bias", (experts,)
        yield "ffn_gate_exps.bias", (inner, experts)
        yield "ffn_up_exps.bias", (inner, experts)
        yield "ffn_down_exps.bias", (hidden, experts)
    if shape.shared_ffn:
        if shape.architecture in ("qwen2moe", "qwen3next", "qwen35moe"):
            yield "ffn_gate_inp_shexp.weight", (hidden,)
        yield "ffn_gate_shexp.weight", (hidden, shape.shared_ffn)
        yield "ffn_up_shexp.weight", (hidden, shape.shared_ffn)
        yield "ffn_down_shexp.weight", (shape.shared_ffn, hidden)
