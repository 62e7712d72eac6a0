"""Facts of a model that is a folder: config.json beside *.safetensors, as Hugging Face and MLX keep them.

Only headers are read: each file begins with 8 bytes that give the length of a JSON table of names, types, shapes and
places. Rules as in footprint.py, on these names; quantised weights count with their scales and biases. Towers for images
and sound, and layers for predicting several tokens at once, are in the files but not read by a decode step of text.
Format: https://huggingface.co/docs/safetensors

    python -c "from rigbench.models.formats.folders import facts_from_safetensors; print(facts_from_safetensors('Qwen3-8B-4bit'))"
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from rigbench.errors import InputError
from rigbench.models.footprint import Parts, model_facts
from rigbench.models.formats.layers import CONTEXT, HEADS, LAYERS, WIDTH, cache_of, head_dim, keeps_keys
from rigbench.models.kv import Settings
from rigbench.records import ModelFacts

MAX_HEADER_BYTES = 64 << 20
_BITS = {
    **{"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}
_ROUTED = re.compile(r"\.(?:experts|switch_mlp)\.|\.block_sparse_moe\.(?:input|output)_linear\.")
_EMBEDDING = re.compile(
    r"(?:^|\.)(?:embed_tokens|tok_embeddings|token_embeddings|word_embeddings|wte|wpe|embed_in|embed_tokens_per_layer)\."
    r"|^(?:model|backbone)\.(?:embeddings?|embed)\.|\.ngram_embeddings\.embedders\."
)
_NO_OUTPUT = re.compile(r"per_layer|(?:^|\.)wpe\.")
"""Embeddings that are looked up even where the output is tied to the tokens' one."""
_OUTPUT = re.compile(r"(?:^|\.)(?:lm_head|embed_out)(?:\.|$)|^output\.")
_UNREAD = re.compile(
    r"(?:^|\.)(?:vision_tower|vision_model|vision_encoder|vision_embed_tokens|visual|audio_tower|audio_model|audio_encoder|sam_model"
    r"|multi_modal_projector|mm_projector|vision_projector|vision_proj|audio_projector|projector|embed_tokens_extend|embed_vision|embed_audio"
    r"|talker|token2wav|code2wav|mtp)\."
)
_ATTENTION = re.compile(
    r"\.(?:k_proj|qkv_proj|qkvg_proj|q_k_v_proj|kv_proj|kv_a_proj_with_mqa|query_key_value|wk|wqkv|Wqkv|W_pack|c_attn|c_k|attn_key)\."
)
_ENCODER = re.compile(
    r"(?:Bert|Roberta|Electra|MPNet|Deberta\w*|CLIP|Siglip\w*)(?:Model|For(?!Causal)\w+)$|For(?:Masked|\w+Classification)"
)
"""Classes of models that read a text at once."""
INDEX = "model.safetensors.index.json"
_LAYER = re.compile(r"(?:^|\.)(?:layers|blocks|h)\.(\d{1,6})\.")
_SCALES = re.compile(
    r"\.(?:scales|biases|qzeros|g_idx|absmax|quant_map|nested_\w+|weight_shape|weight_zero_point|input_scale)$"
    r"|_(?:scale|scales|scale_inv|scale_2)$|\.quant_state\."
)
_PACKED_BITS = {"fp8": 8, "fbgemm_fp8": 8, "mxfp4": 4, "nvfp4": 4, "bitnet": 2}
"""Bits of a weight in methods whose settings do not tell."""


class Row(NamedTuple):
    """A tensor as a safetensors file's table has it."""

    name: str
    kind: str
    elements: int
    size_bytes: int


def facts_from_safetensors(folder: str | Path) -> ModelFacts:
    """Facts of a model's folder. Raises InputError in one sentence: no config, no weights, cut off, damaged."""
    folder = Path(folder)
    config = _read_config(folder)
    files = weight_files(folder)
    tables = [_read_table(file) for file in files]
    rows = [row for more, _ in tables for row in more]
    made_for_mlx = any(source == "mlx" for _, source in tables)
    return facts_from_rows(folder, config, rows, sum(file.stat().st_size for file in files), made_for_mlx)


def facts_from_rows(
    folder: Path, config: dict[str, Any], rows: list[Row], file_bytes: int, made_for_mlx: bool = False
) -> ModelFacts:
    """Facts of a folder with this config.json and these tensors, which need not be there yet. Raises InputError."""
    _must_generate_text(folder, config)
    # the part that describes the language model, where others stand beside it
    own = _text_config(config)
    nested = [each for name in ("attn_config", "ffn_config") if isinstance(each := own.get(name), dict)]
    text = Settings(
        {key: value for each in (*nested, own) for key, value in each.items()}, f"{folder.name}/config.json"
    )
    layers = text.layers(LAYERS)
    quantization, bits = _quantization(config, rows)
    own_bits = _own_bits(config)
    tied = not any(_OUTPUT.search(row.name) for row in rows)

    def parts() -> Parts:
        for row in rows:
            layer = _LAYER.search(row.name)
            looked_up = _EMBEDDING.search(row.name) and not (tied and not _NO_OUTPUT.search(row.name))
            if _UNREAD.search(row.name) or (layer and int(layer[1]) >= layers):
                part = "rest"
            else:
                part = "routed" if _ROUTED.search(row.name) else "rest" if looked_up else "dense"
            yield part, _parameters(row, own_bits.get(row.name.removesuffix(".weight"), bits)), row.size_bytes

    with_attention = {
        int(layer[1])
        for row in rows
        if _ATTENTION.search(row.name)
        and not _UNREAD.search(row.name)
        and (layer := _LAYER.search(row.name)) is not None
    }
    attends = keeps_keys(text, layers, with_attention)
    heads, latent = text.number(HEADS, 1) if attends else 0, text.number("kv_lora_rank", 0)
    used = "num_experts_per_tok num_experts_per_token moe_topk top_k_experts moe_k moe_top_k"
    return model_facts(
        parts(),
        cache_of(text, layers, with_attention),
        *text.experts("num_local_experts num_experts n_routed_experts moe_num_experts", used, layers),
        name=folder.resolve().name,
        format="mlx" if made_for_mlx or "quantization" in config else "safetensors",
        architecture=str(config.get("model_type") or text.get("model_type") or "unknown"),
        quantization=quantization,
        file_bytes=file_bytes,
        layers=layers,
        context_limit=text.number(CONTEXT, 0) or None,
        vocab_size=text.number("vocab_size", 0) or None,
        embedding_length=text.number(WIDTH),
        attention_length=heads
        * (latent + text.number("qk_rope_head_dim", 0) if latent else text.number("global_head_dim", head_dim(text))),
        synthetic=config.get("rigbench_synthetic") is True,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model's folder. Raises InputError."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    if (folder / "adapter_config.json").is_file() and not path.is_file():
        raise InputError(f"{folder.name} holds a LoRA adapter, which changes a model: name the model's own folder.")
    if not path.is_file():
        raise InputError(f"{folder} holds no config.json, so it is no safetensors or MLX model.")
    try:
        config = json.loads(path.read_bytes()) if path.stat().st_size <= 16 << 20 else None
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{folder.name}/config.json cannot be read: {error}.") from None
    if not isinstance(config, dict):
        raise InputError(f"{folder.name}/config.json is not a table of settings.")
    if not isinstance(config.get("text_config", config), dict):
        raise InputError(f"{folder.name}/config.json is damaged: text_config is no table.")
    return config


def _must_generate_text(folder: Path, config: dict[str, Any]) -> None:
    classes = config.get("architectures")
    if config.get("is_encoder_decoder") is True:
        what = "has an encoder"
    elif isinstance(classes, list) and classes and all(_ENCODER.search(str(name)) for name in classes):
        what = "is an encoder, which makes embeddings or classes"
    else:
        return
    kind = str(config.get("model_type"))[:40]
    raise InputError(
        f"{folder.name} {what} (model_type {kind}): it generates no text token by token, and rigbench measures that alone."
    )


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that describes the language model: all of it, or what vision and omni models have it in."""
    for name in ("thinker_config", "text_config", "language_config", "llm_config"):
        if isinstance(inner := config.get(name), dict):
            return _text_config(inner)
    return config


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: all that the index names, and no others: several publishers put the same weights beside them
    once more, as consolidated*.safetensors. Raises InputError where one is missing."""
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted({Path(name).name for name in json.loads(index.read_bytes())["weight_map"].values()})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InputError(f"{folder.name}/{INDEX} is damaged; download it again.") from None
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"{folder.name} lacks {len(missing)} of {len(names)} files of weights, the first {missing[0]}: "
                "the download is not complete."
            )
        if names:
            return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder} holds no *.safetensors files; it is not a whole model.")
    return [file for file in files if not file.name.startswith("consolidated")] or files


def header_length(file: Path) -> int:
    """Bytes of a safetensors file before its weights. Raises InputError."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
    if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
        raise InputError(f"{file.name} is cut off or is no safetensors file; download it again.")
    return 8 + int(length)


def _read_table(file: Path) -> tuple[list[Row], str | None]:
    end, size = header_length(file), file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(8)
        raw = opened.read(end - 8)
    try:
        table = json.loads(raw)
        source = table.pop("__metadata__", {}).get("format")
        rows = [_row(name, entry, size - end) for name, entry in table.items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        fault = "is cut off or damaged: its table of tensors makes no sense; download it again."
        raise InputError(f"{file.name} {fault}") from None
    return rows, source if isinstance(source, str) else None


def _row(name: str, entry: dict[str, Any], space: int) -> Row:
    kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    elements = math.prod(shape)
    if not all(isinstance(one, int) and one >= 0 for one in (*shape, start, end)) or not start <= end <= space:
        raise ValueError(name)
    if kind in _BITS and end - start != elements * _BITS[kind] // 8:
        raise ValueError(name)
    return Row(name, kind, elements, end - start)


def _quantization(config: dict[str, Any], rows: list[Row]) -> tuple[str, int]:
    """(name, bits of a packed weight)."""
    own, other = config.get("quantization"), config.get("quantization_config")
    table = own if isinstance(own, dict) else other if isinstance(other, dict) else {}
    groups = table.get("config_groups")
    weights = (
        [each.get("weights") for each in groups.values() if isinstance(each, dict)] if isinstance(groups, dict) else []
    )
    named = (table.get(key) for key in ("bits", "w_bit"))
    packed = (each.get("num_bits") for each in weights if isinstance(each, dict))
    bits = next((value for value in (*named, *packed) if isinstance(value, int) and 1 <= value <= 32), 0)
    if isinstance(own, dict) and bits:
        mode = own.get("mode")
        return (mode if isinstance(mode, str) and mode != "affine" else f"{bits}bit"), bits
    # ModelOpt and compressed-tensors name the tool there, and what it did elsewhere
    method = next(
        (
            each
            for each in (table.get("quant_algo"), table.get("format"), table.get("quant_method"))
            if isinstance(each, str)
        ),
        None,
    )
    if method is not None:
        method = method.removesuffix("-pack-quantized").removesuffix("-quantized")[:32]
        four = 4 if table.get("load_in_4bit") is True else 0
        return method.upper(), bits or four or _PACKED_BITS.get(
            method.lower(), 8 if table.get("load_in_8bit") is True else 4
        )
    sizes: Counter[str] = Counter()
    for row in rows:
        sizes[row.kind] += row.size_bytes
    return sizes.most_common(1)[0][0] if sizes else "unknown", bits or 4


def _own_bits(config: dict[str, Any]) -> dict[str, int]:
    """Bits of the layers that MLX packed otherwise than the rest (routers, in mixed quantisations embedding and output)."""
    table = config.get("quantization")
    named = table.items() if isinstance(table, dict) else ()
    own_bits = {name: own.get("bits") for name, own in named if isinstance(own, dict)}
    return {name: bits for name, bits in own_bits.items() if isinstance(bits, int) and 1 <= bits <= 32}


def _parameters(row: Row, bits: int) -> int:
    if _SCALES.search(row.name):
        return 0
    if row.kind in ("U32", "I32"):
        return row.elements * 32 // bits
    return row.elements * 8 // bits if row.kind == "U8" and bits < 8 else row.elements
