"""From a model's name as people write it to what a decode step reads of it.

Benchmark tables say 'Qwen3-30B-A3B-UD-Q4_K_XL', 30.5 B parameters, 3.3 B active, 16.5 GiB. The name finds the catalogued
shape (layers, cache, experts); where none is found, the shape nearest in total and active parameters stands in for it.
The quantisation says which part of the stated size is experts and which every step reads:

    python -c "from rigbench.predict.named import named_facts; print(named_facts('gpt-oss-20b', 'MXFP4', size_bytes=12.1e9))"
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache

from rigbench.errors import InputError
from rigbench.models.footprint import active_parameters, sum_weights
from rigbench.models.kv import cache_from_shape
from rigbench.models.mixes import known_quant, tensor_bytes, tensor_types
from rigbench.models.shapes import Shape, shapes
from rigbench.models.shapes import shape as shape_of
from rigbench.models.tensors import tensors
from rigbench.records import ModelFacts


def tokens(name: str) -> frozenset[str]:
    """The words of a model's name: 'Llama-3.1-8B', 'llama3.1 8b' and 'meta-llama/Llama-3.1-8B' share all of theirs."""
    text = name.lower().rsplit("/", 1)[-1]
    text = re.sub(r"([a-z]{3,})(\d)", r"\1 \2", text)
    return frozenset(re.findall(r"\d+x\d+b|[a-z]*\d+(?:\.\d+)?[a-z]*|[a-z]+", text))


def find_shape(name: str, parameters: float | None = None, active: float | None = None) -> tuple[Shape, bool]:
    """The catalogued shape for a name, and whether it is this very model (False: the nearest in size stands in).

    Raises InputError where neither the name nor the parameters tell anything.
    """
    words = tokens(name)
    fitting = [shape for shape in shapes().values() if _is_called(shape.id, words) and _near(shape, parameters)]
    if fitting:
        return max(fitting, key=lambda shape: (len(tokens(shape.id)), -_distance(shape, parameters, active))), True
    if parameters is None:
        raise InputError(f"no model {name!r} in the catalogue, and its number of parameters is not stated")
    return min(shapes().values(), key=lambda shape: _distance(shape, parameters, active)), False


@cache
def _id_tokens(model_id: str) -> frozenset[str]:
    return tokens(model_id)


def _is_called(model_id: str, words: frozenset[str]) -> bool:
    return _id_tokens(model_id) <= words


def _near(shape: Shape, parameters: float | None) -> bool:
    return parameters is None or 0.85 < shape.parameters / parameters < 1.18


def _distance(shape: Shape, parameters: float | None, active: float | None) -> float:
    if parameters is None:
        return 0.0
    own_active = shape.active_parameters or shape.parameters
    return abs(math.log(shape.parameters / parameters)) + abs(math.log(own_active / (active or parameters)))


def bits_of(quant: str) -> tuple[str, float]:
    """The llama.cpp mix nearest to a quantisation as people write it, and its mean bits per weight.

    'UD-Q4_K_XL' -> Q4_K_M; 'i1-Q4_K_M' -> Q4_K_M; '4bit' (MLX, groups of 64) -> 4.5 bits; 'AWQ', 'int4', 'FP8', 'NVFP4'.
    """
    text = quant.upper().replace("-", "_")
    if "MXFP4" in text:
        return "MXFP4", 4.25
    plain = {
        "4BIT": 4.5,
        "8BIT": 8.5,
        "6BIT": 6.5,
        "5BIT": 5.5,
        "3BIT": 3.5,
        "2BIT": 2.5,
        "FP8": 8.0,
        "INT8": 8.0,
        "W8A8": 8.0,
    }
    plain |= {
        "AWQ": 4.25,
        "GPTQ": 4.25,
        "INT4": 4.25,
        "NVFP4": 4.5,
        "FP4": 4.25,
        "W4A16": 4.25,
        "BF16": 16.0,
        "FP16": 16.0,
    }
    for word, bits in plain.items():
        if word in text:
            near = "BF16" if bits == 16 else "Q8_0" if bits >= 6.5 else "Q4_0"
            return near, bits
    found = re.search(r"I?Q\d_(?:K_)?(?:XL|XXS|XS|NL|[0-9LMSK])|I?Q\d|F16|F32", text)
    if not found:
        raise InputError(
            f"the quantisation {quant!r} is not known; write for example Q4_K_M, Q8_0, MXFP4, BF16 or 4bit"
        )
    word = found.group(0)
    word = re.sub(r"^(Q[2345]_K)(?:_X?L|_K)?$", r"\1_M", word)
    word = {"Q2_K_M": "Q2_K", "Q6_K_XL": "Q6_K", "Q6_K_L": "Q6_K", "Q6_K_M": "Q6_K", "Q8_K_XL": "Q8_0"}.get(word, word)
    word = re.sub(
        r"^I?Q([23])_.*$|^I?Q([23])$", lambda m: f"Q{m[1] or m[2]}_K" if (m[1] or m[2]) == "2" else "Q3_K_M", word
    )
    word = {"Q4": "Q4_K_M", "Q5": "Q5_K_M", "Q6": "Q6_K", "Q8": "Q8_0"}.get(word, word)
    bits = {"Q2": 2.9, "Q3": 3.8, "Q4": 4.8, "Q5": 5.7, "Q6": 6.6, "Q8": 8.5}.get(word[:2], 4.5)
    return known_quant(word), bits


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


def named_facts(
    name: str,
    quant: str,
    *,
    parameters: float | None = None,
    active: float | None = None,
    size_bytes: float | None = None,
) -> ModelFacts:
    """Facts of a model that is only named: from its catalogued shape, scaled to the stated parameters and size.

    Raises InputError for what is neither known nor stated.
    """
    if size_bytes is not None and not (math.isfinite(size_bytes) and size_bytes > 0):
        raise InputError(f"a model size of {size_bytes:g} bytes is impossible")
    for count in (parameters, active):
        if count is not None and not (math.isfinite(count) and count > 0):
            raise InputError(f"{count:g} parameters are impossible")
    shape, exact = find_shape(name, parameters, active)
    if size_bytes is not None:
        try:
            mix, _ = bits_of(quant)
        except InputError:
            mix = "Q4_0"
        facts = _unscaled(shape.id, mix)
    else:
        facts, mix = catalogued_facts(shape.id, quant), ""
    facts = replace(facts, name=name, quantization=quant)
    if not exact and parameters is not None:
        facts = _resized(facts, parameters / facts.parameters, (active or parameters) / facts.active_parameters)
    return facts if size_bytes is None else _to_size(facts, size_bytes, mix)


def catalogued_facts(model_id: str, quant: str) -> ModelFacts:
    """Facts of a catalogued model in a quantisation as people write it. Raises InputError for either that is not known."""
    known = shape_of(model_id)
    mix, bits = bits_of(quant)
    facts = replace(_unscaled(known.id, mix), name=known.id, quantization=quant)
    if re.search(r"Q\d|MXFP4|F32", quant.upper()):
        return facts
    return _to_size(facts, facts.parameters * bits / 8, mix)


def _resized(facts: ModelFacts, total: float, active: float) -> ModelFacts:
    """Another number of parameters in the same layers: what a token reads grows by `active`, the rest with the file."""
    used = facts.expert_bytes * facts.experts_used / facts.experts if facts.experts else 0.0
    dense = facts.dense_bytes * active
    rest = facts.file_bytes - facts.dense_bytes - facts.expert_bytes
    expert = max(facts.file_bytes * total - dense - rest, 0.0) if facts.experts else 0.0
    share = min(1.0, used * active / expert) if expert else 0.0
    return replace(
        facts,
        file_bytes=round(facts.file_bytes * total),
        parameters=round(facts.parameters * total),
        active_parameters=round(facts.active_parameters * active),
        dense_bytes=round(dense),
        expert_bytes=round(expert),
        experts_used=max(1, round(facts.experts * share)) if expert else facts.experts_used,
    )


def _to_size(facts: ModelFacts, size_bytes: float, mix: str) -> ModelFacts:
    """Scaled to the stated size; where the experts' type is certain (MXFP4), they keep their bytes and the rest scales."""
    fixed = facts.expert_bytes if mix == "MXFP4" and size_bytes > facts.file_bytes else 0
    scale = (size_bytes - fixed) / (facts.file_bytes - fixed)
    return replace(
        facts,
        file_bytes=round(size_bytes),
        dense_bytes=round(facts.dense_bytes * scale),
        expert_bytes=fixed or round(facts.expert_bytes * scale),
    )
