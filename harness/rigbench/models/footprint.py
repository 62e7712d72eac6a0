"""What a decode step reads: exact bytes from a model's own files, or from its shape and a quantisation.

Rules (the same for every source):
- Every tensor counts in full for each step, norms, biases and rope tables included, but for those named here.
- An input embedding is looked up one row at a time and does not count; where it doubles as the output matrix (the file
  has no `output.weight`) it counts, once. Per-layer embeddings (Gemma 3n) are looked up too.
- Routed experts: one token reads k of E. N tokens of N users choose independently, so a step reads
  E (1 - (1 - k/E)^N) of them on average. Shared experts and routers count in full.
- Layers for predicting several tokens at once (`nextn`) are in the file, but a plain decode step does not read them.
- The cache is 16 bits per value unless `kv_bits` says otherwise: per token 2 x kv_heads x head_dim per full layer; a layer
  with a sliding window reads back min(context, window) tokens; multi-head latent attention keeps kv_lora_rank + rope_dim
  per layer, once for keys and values alike, as llama.cpp stores it; layers that share another's cache add nothing.
- A recurrent layer reads a state of fixed size (32 bits a value). It is kept as a window of one token: the same whatever
  the context. Where a model has both windows and states, the states are added to the window's bytes at its full length.

    python -c "from rigbench.models.footprint import *; print(decode_bytes(catalogued_facts('qwen3-8b', 'Q4_K_M'), 4, 2048))"
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from rigbench.errors import InputError
from rigbench.models.kv import Cache, cache_from_shape
from rigbench.models.mixes import tensor_bytes, tensor_types
from rigbench.models.names import QUANTS, quantisation
from rigbench.models.shapes import Shape
from rigbench.models.shapes import shape as catalogued
from rigbench.models.tensors import is_looked_up, is_routed, tensors
from rigbench.records import ModelFacts
from rigbench.workloads import Training

Parts = Iterable[tuple[str, int, int]]
"""Of each tensor: what reads it (`routed`: experts, `dense`: every step, `rest`: not a plain decode step), elements, bytes."""


def gguf_parts(rows: Iterable[tuple[str, int, int]], layers: int) -> Parts:
    """From (name as in GGUF files, elements, bytes); a plain decode step does not read blocks from `layers` on."""
    rows = list(rows)
    tied = all(name != "output.weight" for name, _, _ in rows)
    for name, elements, size_bytes in rows:
        block = re.match(r"blk\.(\d{1,6})\.", name)
        unread = (block and int(block[1]) >= layers) or (not is_routed(name) and is_looked_up(name, tied))
        yield "rest" if unread else "routed" if is_routed(name) else "dense", elements, size_bytes


def model_facts(parts: Parts, cache: Cache, experts: int, experts_used: int, **others: Any) -> ModelFacts:
    """ModelFacts of these tensors; `others` are its remaining fields."""
    elements, sizes = Counter[str](), Counter[str]()
    for part, count, size_bytes in parts:
        elements[part] += count
        sizes[part] += size_bytes
    unused = elements["routed"] * (experts - experts_used) // experts if experts else 0
    return ModelFacts(
        parameters=elements.total(),
        active_parameters=elements.total() - unused,
        dense_bytes=sizes["dense"],
        expert_bytes=sizes["routed"],
        experts=experts,
        experts_used=experts_used,
        kv_bytes_per_token=cache.per_token,
        kv_window_bytes_per_token=cache.window_per_token,
        kv_window_tokens=cache.window_tokens,
        **others,
    )


def shape_facts(shape: Shape, rows: Iterable[tuple[str, int, int]], **others: Any) -> ModelFacts:
    """Facts of a catalogued shape whose tensors are these rows of `gguf_parts`."""
    query_dim = shape.kv_lora_rank + shape.rope_dim if shape.kv_lora_rank else shape.full_head_dim or shape.head_dim
    return model_facts(
        gguf_parts(rows, shape.layers),
        cache_from_shape(shape),
        shape.experts,
        shape.experts_used,
        architecture=shape.architecture,
        layers=shape.layers,
        context_limit=shape.context,
        vocab_size=shape.vocab,
        embedding_length=shape.hidden,
        attention_length=shape.heads * query_dim,
        **others,
    )


@cache
def _mix_facts(model_id: str, mix: str) -> ModelFacts:
    shape = catalogued(model_id)
    listed = tensors(shape)
    typed = zip(listed, tensor_types(shape, listed, mix), strict=True)
    rows = [(name, math.prod(dims), tensor_bytes(dims, kind)) for (name, dims), kind in typed]
    file_bytes = sum(size_bytes for _, _, size_bytes in rows)
    return shape_facts(shape, rows, name=shape.id, format="shape", quantization=mix, file_bytes=file_bytes)


def catalogued_facts(model_id: str, quant: str) -> ModelFacts:
    """Facts of a catalogued model in a quantisation as people write it. Raises InputError for either that is not known."""
    kind = quantisation(quant)
    facts = replace(_mix_facts(catalogued(model_id).id, kind.mix), quantization=quant)
    if kind.bits == QUANTS[kind.mix].bits:
        return facts
    return to_size(facts, facts.parameters * kind.bits / 8, kind.mix)


def to_size(facts: ModelFacts, size_bytes: float, mix: str) -> ModelFacts:
    """Scaled to a stated size of the file; where the experts' type is certain (MXFP4), they keep their bytes."""
    fixed = facts.expert_bytes if mix == "MXFP4" and size_bytes > facts.file_bytes else 0
    scale = (size_bytes - fixed) / (facts.file_bytes - fixed)
    return replace(
        facts,
        file_bytes=round(size_bytes),
        dense_bytes=round(facts.dense_bytes * scale),
        expert_bytes=fixed or round(facts.expert_bytes * scale),
    )


def expert_share(experts: int, experts_used: int, users: float) -> float:
    """Share of the routed experts that one step of `users` tokens reads: 1 - (1 - k/E)^N; exactly k/E for one user."""
    if experts == 0:
        return 0.0
    share = experts_used / experts
    return share if users == 1 else 1.0 - (1.0 - share) ** users


def weight_bytes(facts: ModelFacts, users: float) -> float:
    """Bytes of weights that one decode step of `users` sequences reads (for experts: on average)."""
    if users < 1:
        raise InputError(f"{users:g} users are impossible; name at least 1.")
    return facts.dense_bytes + facts.expert_bytes * expert_share(facts.experts, facts.experts_used, users)


def kv_bytes(facts: ModelFacts, context_tokens: float, kv_bits: float = 16) -> float:
    """Bytes of the KV cache that one step of one sequence reads at this depth, with `kv_bits` per value (8.5 for q8_0)."""
    window = facts.kv_window_bytes_per_token * min(context_tokens, facts.kv_window_tokens)
    scale = kv_bits / 16
    return facts.kv_bytes_per_token * context_tokens * scale + window * (1.0 if facts.kv_window_tokens == 1 else scale)


def decode_flops(facts: ModelFacts) -> float:
    """Operations of one decoded token: two for each weight that it goes through (attention is left out)."""
    return 2 * weight_bytes(facts, 1) * facts.parameters / facts.file_bytes


def prompt_flops(facts: ModelFacts) -> float:
    """The least operations of one token of a prompt: the input embedding is looked up, and only the last token needs the output
    matrix."""
    outside = 2 * (facts.vocab_size or 0) * (facts.embedding_length or 0)
    return 2 * max(facts.active_parameters - outside, facts.active_parameters / 5)


def passes(work: Training) -> int:
    """How often a trained token goes through the weights: forwards, back to the inputs, and of a full training to the weights."""
    return 3 if work.method == "full" else 2


def training_flops(facts: ModelFacts, work: Training) -> float:
    """The least operations of one optimizer step: 4 for each active weight and trained token with adapters, 6 where all weights are
    trained (the attention and the adapters themselves are left out)."""
    return passes(work) * decode_flops(facts) * work.step_units


def training_bytes(facts: ModelFacts, work: Training) -> float:
    """What a training keeps beside the weights, about: the activations of a batch (34 bytes for each token, layer and width, after
    Korthikanti et al. 2022, arXiv:2205.05198), its logits and their gradient in 32 bits, of a full training gradients and two
    moments."""
    tokens, width = work.step_units, facts.embedding_length or 0
    activations = 34 * tokens * facts.layers * width + 8 * tokens * (facts.vocab_size or 0)
    return activations + (3 * facts.file_bytes if work.method == "full" else 0)


def decode_bytes(facts: ModelFacts, users: int, context_tokens: float, kv_bits: float = 16) -> float:
    """Bytes that one decode step of `users` sequences reads, each at a depth of `context_tokens`."""
    return weight_bytes(facts, users) + users * kv_bytes(facts, context_tokens, kv_bits)
