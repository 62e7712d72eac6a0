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

    python -c "from rigbench.models.footprint import *; f = facts_from_gguf('model.gguf'); print(decode_bytes(f, 4, 2048))"
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rigbench.errors import InputError
from rigbench.models.formats.gguf import parts_of, read_gguf
from rigbench.models.kv import Metadata, cache_from_metadata, cache_from_shape
from rigbench.models.mixes import MIXES, tensor_bytes, tensor_types
from rigbench.models.names import QUANTS, one_of, quantisation
from rigbench.models.shapes import Shape, shapes
from rigbench.models.shapes import shape as catalogued
from rigbench.models.synthetic.layout import plan
from rigbench.models.tensors import is_looked_up, is_routed, tensors
from rigbench.records import ModelFacts


class Weights(NamedTuple):
    """Sums over a tensor table. Bytes; `routed` are experts, `dense` what every step reads besides."""

    parameters: int
    routed_parameters: int
    dense_bytes: int
    routed_bytes: int


def sum_weights(rows: Iterable[tuple[str, int, int]], layers: int) -> Weights:
    """Rows are (name, elements, bytes); tensors of blocks from `layers` on are not read by a plain decode step."""
    rows = list(rows)
    tied = all(name != "output.weight" for name, _, _ in rows)
    parameters = routed_parameters = dense_bytes = routed_bytes = 0
    for name, elements, size_bytes in rows:
        parameters += elements
        if _block(name) >= layers:
            continue
        if is_routed(name):
            routed_parameters += elements
            routed_bytes += size_bytes
        elif not is_looked_up(name, tied):
            dense_bytes += size_bytes
    return Weights(parameters, routed_parameters, dense_bytes, routed_bytes)


def _block(name: str) -> int:
    found = re.match(r"blk\.(\d{1,6})\.", name)
    return int(found[1]) if found else -1


def active_parameters(weights: Weights, experts: int, experts_used: int) -> int:
    """Parameters that one token goes through."""
    unused = weights.routed_parameters * (experts - experts_used) // experts if experts else 0
    return weights.parameters - unused


def facts_from_gguf(path: str | Path) -> ModelFacts:
    """Facts of a GGUF file, or of all parts of a split one. Reads headers only. Raises InputError in one sentence."""
    parts = [read_gguf(part) for part in parts_of(path)]
    first = parts[0]
    meta = Metadata(first.metadata, first.path.name)
    rows = [tensor for part in parts for tensor in part.tensors]
    if not rows:
        raise InputError(f"{first.path.name} holds no tensors; it is a vocabulary, not a model.")
    layers, experts = meta.layers(), meta.number("expert_count", 0)
    used = max(meta.per_layer("expert_used_count", layers, 0))
    if used > experts:
        raise InputError(f"{first.path.name}: {used} experts used of {experts} is impossible.")
    weights = sum_weights(((row.name, math.prod(row.dims), row.size_bytes) for row in rows), layers)
    cache = cache_from_metadata(meta)
    file_type = first.metadata.get("general.file_type", -1)
    named = next((quant.name for quant in QUANTS.values() if quant.file_type == file_type), None)
    return ModelFacts(
        name=re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", first.path.name),
        format="gguf",
        architecture=str(meta.architecture),
        quantization=named or _most_bytes((row.kind, row.size_bytes) for row in rows),
        file_bytes=sum(part.file_bytes for part in parts),
        parameters=weights.parameters,
        active_parameters=active_parameters(weights, experts, used),
        dense_bytes=weights.dense_bytes,
        expert_bytes=weights.routed_bytes,
        experts=experts,
        experts_used=used,
        layers=layers,
        kv_bytes_per_token=cache.per_token,
        kv_window_bytes_per_token=cache.window_per_token,
        kv_window_tokens=cache.window_tokens,
        context_limit=meta.number("context_length", 0) or None,
        vocab_size=first.lengths.get("tokenizer.ggml.tokens") or meta.number("vocab_size", 0) or None,
        embedding_length=meta.number("embedding_length"),
        synthetic=first.metadata.get("rigbench.synthetic") is True,
    )


def _most_bytes(pairs: Iterable[tuple[str, int]]) -> str:
    total: Counter[str] = Counter()
    for kind, size_bytes in pairs:
        total[kind] += size_bytes
    return total.most_common(1)[0][0]


def facts_from_shape(shape: Shape, quant: str) -> ModelFacts:
    """Facts of the file that `ensure_synthetic(shape.id, quant)` writes, to the byte, without writing it. Raises InputError."""
    quant = one_of(quant, MIXES)
    layout = plan(shape, quant)
    weights = sum_weights(((row.name, math.prod(row.dims), row.size_bytes) for row in layout.tensors), shape.layers)
    cache = cache_from_shape(shape)
    return ModelFacts(
        name=f"{shape.id}-{quant}",
        format="gguf",
        architecture=shape.architecture,
        quantization=quant,
        file_bytes=layout.file_bytes,
        parameters=weights.parameters,
        active_parameters=active_parameters(weights, shape.experts, shape.experts_used),
        dense_bytes=weights.dense_bytes,
        expert_bytes=weights.routed_bytes,
        experts=shape.experts,
        experts_used=shape.experts_used,
        layers=shape.layers,
        kv_bytes_per_token=cache.per_token,
        kv_window_bytes_per_token=cache.window_per_token,
        kv_window_tokens=cache.window_tokens,
        context_limit=shape.context,
        vocab_size=shape.vocab,
        embedding_length=shape.hidden,
        synthetic=True,
    )


@cache
def _unscaled(model_id: str, quant: str) -> ModelFacts:
    shape = shapes()[model_id]
    listed = tensors(shape)
    kinds = tensor_types(shape, listed, quant)
    sizes = [tensor_bytes(tensor.dims, kind) for tensor, kind in zip(listed, kinds, strict=True)]
    rows = [(tensor.name, math.prod(tensor.dims), size) for tensor, size in zip(listed, sizes, strict=True)]
    weights = sum_weights(rows, shape.layers)
    kv = cache_from_shape(shape)
    return ModelFacts(
        name=model_id,
        format="shape",
        architecture=shape.architecture,
        quantization=quant,
        file_bytes=sum(sizes),
        parameters=weights.parameters,
        active_parameters=active_parameters(weights, shape.experts, shape.experts_used),
        dense_bytes=weights.dense_bytes,
        expert_bytes=weights.routed_bytes,
        experts=shape.experts,
        experts_used=shape.experts_used,
        layers=shape.layers,
        kv_bytes_per_token=kv.per_token,
        kv_window_bytes_per_token=kv.window_per_token,
        kv_window_tokens=kv.window_tokens,
        context_limit=shape.context,
        vocab_size=shape.vocab,
        embedding_length=shape.hidden,
    )


def catalogued_facts(model_id: str, quant: str) -> ModelFacts:
    """Facts of a catalogued model in a quantisation as people write it. Raises InputError for either that is not known."""
    found = quantisation(quant)
    facts = replace(_unscaled(catalogued(model_id).id, found.mix), quantization=quant)
    if found.bits == QUANTS[found.mix].bits:
        return facts
    return to_size(facts, facts.parameters * found.bits / 8, found.mix)


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


def decode_bytes(facts: ModelFacts, users: int, context_tokens: float, kv_bits: float = 16) -> float:
    """Bytes that one decode step of `users` sequences reads, each at a depth of `context_tokens`."""
    return weight_bytes(facts, users) + users * kv_bytes(facts, context_tokens, kv_bits)
