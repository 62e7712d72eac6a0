from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rigbench.errors import InputError
from rigbench.models.footprint import weight_bytes
from rigbench.models.formats.folders import facts_from_safetensors

CONFIG: dict[str, Any] = {
    **{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 512},
}
SIZES = {"BF16": 2, "F32": 4, "U32": 4, "I32": 4, "I64": 8, "F16": 2, "U8": 1, "F8_E4M3": 1, "F8_E4M3FNUZ": 1}


MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 32, "mamba_d_conv": 4, "mamba_n_groups": 1}
MAMBA_STATE = 4 * (8 * 16 * 32 + 3 * (8 * 16 + 2 * 32))
"""Bytes: a matrix of 128 x 32, and three looks back of 128 + 2 x 32 channels."""
PER_LAYER = 2 * 2 * 2 * 16
"""Bytes a token: keys and values of two heads of 16 numbers, two bytes each."""


def weights(path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], source: str | None = None) -> Path:
    table: dict[str, Any] = {"__metadata__": {"format": source}} if source else {}
    place = 0
    for name, (kind, shape) in tensors.items():
        size = math.prod(shape) * SIZES[kind]
        table[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    raw = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(place))
    return path


def folder(
    path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], source: str | None = None, **config: Any
) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    weights(path / "model.safetensors", tensors, source)
    return path


def test_a_plain_model_worked_out_by_hand(tmp_path: Path) -> None:
    path = folder(
        tmp_path / "plain",
        {
            "model.embed_tokens.weight": ("BF16", (100, 64)),
            "model.layers.0.self_attn.q_proj.weight": ("BF16", (64, 64)),
            "model.layers.1.mlp.up_proj.weight": ("BF16", (128, 64)),
            "model.layers.2.mlp.up_proj.weight": (
                "BF16",
                (128, 64),
            ),  # beyond num_hidden_layers: predicts a second token
            "model.norm.weight": ("F32", (64,)),
            "visual.patch.weight": ("BF16", (7, 7)),
            "lm_head.weight": ("BF16", (100, 64)),
        },
    )
    facts = facts_from_safetensors(path)
    assert facts.dense_bytes == 2 * (64 * 64 + 128 * 64 + 100 * 64) + 4 * 64
    assert facts.parameters == 2 * 100 * 64 + 64 * 64 + 2 * 128 * 64 + 64 + 49
    assert (facts.format, facts.quantization, facts.name, facts.layers) == ("safetensors", "BF16", "plain", 2)
    assert facts.kv_bytes_per_token == 2 * 2 * 2 * 2 * 16
    assert facts.file_bytes == (path / "model.safetensors").stat().st_size


def test_a_tied_model_reads_its_embedding(tmp_path: Path) -> None:
    path = folder(tmp_path / "tied", {"model.embed_tokens.weight": ("BF16", (100, 64))})
    assert facts_from_safetensors(path).dense_bytes == 2 * 100 * 64


def test_mlx_with_four_bits_and_experts(tmp_path: Path) -> None:
    packed = {
        "model.embed_tokens.weight": ("U32", (100, 8)),
        "model.embed_tokens.scales": ("BF16", (100, 1)),
        "model.embed_tokens.biases": ("BF16", (100, 1)),
        "model.layers.0.mlp.switch_mlp.up_proj.weight": ("U32", (4, 32, 8)),
        "model.layers.0.mlp.switch_mlp.up_proj.scales": ("BF16", (4, 32, 1)),
        "model.layers.0.mlp.switch_mlp.up_proj.biases": ("BF16", (4, 32, 1)),
        "model.layers.0.mlp.shared_expert.up_proj.weight": ("BF16", (32, 64)),
        "lm_head.weight": ("U32", (100, 8)),
        "lm_head.scales": ("BF16", (100, 1)),
        "lm_head.biases": ("BF16", (100, 1)),
    }
    path = folder(
        tmp_path / "m-4bit",
        packed,
        "mlx",
        quantization={"bits": 4, "group_size": 64},
        num_experts=4,
        num_experts_per_tok=1,
    )
    facts = facts_from_safetensors(path)
    assert (facts.format, facts.quantization, facts.experts, facts.experts_used) == ("mlx", "4bit", 4, 1)
    assert (
        facts.parameters == 2 * 100 * 64 + 4 * 32 * 64 + 32 * 64
    )  # 8 packed weights in each 32 bits; scales are not parameters
    assert facts.expert_bytes == 4 * 32 * (8 * 4 + 2 + 2)
    assert facts.dense_bytes == 100 * (8 * 4 + 2 + 2) + 2 * 32 * 64
    assert weight_bytes(facts, 1) == facts.dense_bytes + facts.expert_bytes / 4


def test_unquantised_mlx_is_known_by_its_files(tmp_path: Path) -> None:
    assert facts_from_safetensors(folder(tmp_path / "m", {"lm_head.weight": ("F16", (4, 4))}, "mlx")).format == "mlx"


def test_other_quantisations(tmp_path: Path) -> None:
    eight = {"lm_head.weight": ("F8_E4M3", (64, 64)), "lm_head.weight_scale_inv": ("F32", (1, 1))}
    facts = facts_from_safetensors(folder(tmp_path / "fp8", eight, quantization_config={"quant_method": "fp8"}))
    assert (facts.quantization, facts.parameters, facts.dense_bytes) == ("FP8", 4096, 4100)
    four = {
        "model.layers.0.mlp.experts.down_proj_blocks": ("U8", (2, 64, 4, 16)),
        "model.layers.0.mlp.experts.down_proj_scales": ("U8", (2, 64, 4)),
    }
    facts = facts_from_safetensors(
        folder(
            tmp_path / "oss",
            four,
            quantization_config={"quant_method": "mxfp4"},
            num_local_experts=2,
            num_experts_per_tok=1,
        )
    )
    assert (facts.parameters, facts.expert_bytes) == (2 * 64 * 128, 2 * 64 * 4 * 17)


@pytest.mark.parametrize(
    ("config", "full", "window_bytes", "window"),
    [
        ({"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 32}, 128, 128, 32),
        ({"sliding_window": 32, "use_sliding_window": False}, 256, 0, 0),
        ({"sliding_window": 32}, 0, 256, 32),
        ({"sliding_window": 32, "model_type": "gemma2"}, 128, 128, 32),
        ({"kv_lora_rank": 32, "qk_rope_head_dim": 8}, 2 * 2 * 40, 0, 0),
        ({"head_dim": 8}, 2 * 2 * 2 * 2 * 8, 0, 0),
        ({"num_key_value_heads": None}, 512, 0, 0),
        (
            {
                **{
                    "layer_types": ["linear_attention", "full_attention"],
                    "linear_num_key_heads": 2,
                    "linear_key_head_dim": 4,
                },
                **{"linear_num_value_heads": 4, "linear_value_head_dim": 4, "linear_conv_kernel_dim": 4},
            },
            *(128, 4 * (3 * (16 + 16) + 4 * 4 * 4), 1),
        ),
    ],
)
def test_caches(config: dict[str, Any], full: int, window_bytes: int, window: int, tmp_path: Path) -> None:
    facts = facts_from_safetensors(folder(tmp_path / "m", {"lm_head.weight": ("BF16", (4, 4))}, **config))
    assert (facts.kv_bytes_per_token, facts.kv_window_bytes_per_token, facts.kv_window_tokens) == (
        full,
        window_bytes,
        window,
    )


@pytest.mark.parametrize(
    ("config", "tensors", "name", "parameters", "dense"),
    [
        # ModelOpt's NVFP4: two numbers in a byte, a scale of 8 bits for 16 of them, and one of 32 bits
        (
            {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}},
            {
                "weight": ("U8", (64, 32)),
                "weight_scale": ("F8_E4M3", (64, 4)),
                "weight_scale_2": ("F32", (1,)),
                "input_scale": ("F32", (1,)),
            },
            *("NVFP4", 64 * 64, 64 * 32 + 64 * 4 + 8),
        ),
        # the same of compressed-tensors
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "format": "nvfp4-pack-quantized",
                    "config_groups": {"group_0": {"weights": {"num_bits": 4}}},
                }
            },
            {
                "weight_packed": ("U8", (64, 32)),
                "weight_scale": ("F8_E4M3", (64, 4)),
                "weight_global_scale": ("F32", (1,)),
            },
            *("NVFP4", 64 * 64, 64 * 32 + 64 * 4 + 4),
        ),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "format": "pack-quantized",
                    "config_groups": {"group_0": {"weights": {"num_bits": 8}}},
                }
            },
            {"weight_packed": ("I32", (64, 16)), "weight_scale": ("BF16", (64, 1)), "weight_shape": ("I64", (2,))},
            *("PACK", 64 * 64, 64 * 64 + 128 + 16),
        ),
        # MLX's own NVFP4 and MXFP4
        (
            {"quantization": {"bits": 4, "group_size": 16, "mode": "nvfp4"}},
            {"weight": ("U32", (64, 8)), "scales": ("U8", (64, 4))},
            *("nvfp4", 64 * 64, 64 * 32 + 64 * 4),
        ),
        # bitsandbytes: NF4 in bytes
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
            {"weight": ("U8", (2048, 1)), "weight.absmax": ("U8", (64,)), "weight.quant_map": ("F32", (16,))},
            *("BITSANDBYTES", 64 * 64, 2048 + 64 + 64),
        ),
        # 1.58 bits, four to a byte
        ({"quantization_config": {"quant_method": "bitnet"}}, {"weight": ("U8", (16, 64))}, "BITNET", 64 * 64, 1024),
        # the type of a scale that is newer than this reader has the size that its places tell
        (
            {"quantization_config": {"quant_method": "fp8"}},
            {"weight": ("F8_E4M3FNUZ", (64, 64))},
            "FP8",
            64 * 64,
            64 * 64,
        ),
    ],
)
def test_packed_weights_of_each_kind(
    config: dict[str, Any], tensors: dict[str, Any], name: str, parameters: int, dense: int, tmp_path: Path
) -> None:
    path = folder(
        tmp_path / "m", {f"model.layers.0.mlp.up_proj.{each}": tensor for each, tensor in tensors.items()}, **config
    )
    facts = facts_from_safetensors(path)
    assert (facts.quantization, facts.parameters, facts.dense_bytes) == (name, parameters, dense)


@pytest.mark.parametrize(
    "inside",
    [
        {"thinker_config": {"text_config": CONFIG}, "talker_config": {"text_config": {"num_hidden_layers": 9}}},
        {"language_config": CONFIG},
        {"llm_config": CONFIG, "vision_config": {"num_hidden_layers": 9}},
    ],
)
def test_the_text_model_within_others(inside: dict[str, Any], tmp_path: Path) -> None:
    """Its layers alone count; towers, projectors and the model that speaks are not read by a step of text."""
    tensors = {
        "thinker.model.layers.0.mlp.up_proj.weight": ("BF16", (128, 64)),
        "thinker.lm_head.weight": ("BF16", (100, 64)),
    }
    others = ("thinker.visual.blocks.5.attn.qkv.weight", "thinker.audio_tower.layers.5.k_proj.weight")
    others = (*others, "talker.model.layers.5.self_attn.k_proj.weight", "token2wav.x.weight", "mm_projector.0.weight")
    path = folder(tmp_path / "m", tensors | dict.fromkeys(others, ("BF16", (64, 64))))
    (path / "config.json").write_text(json.dumps({"model_type": "omni", **inside}))
    facts = facts_from_safetensors(path)
    assert (facts.layers, facts.kv_bytes_per_token) == (2, 2 * PER_LAYER)
    assert facts.dense_bytes == 2 * (128 * 64 + 100 * 64)


def test_the_names_of_gpt2(tmp_path: Path) -> None:
    """The table of places is looked up, and the tokens' one is the output's too."""
    path = folder(
        tmp_path / "m", {"h.0.attn.c_attn.weight": ("F32", (64, 192)), "h.1.attn.c_attn.weight": ("F32", (64, 192))}
    )
    old = {"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 512, "vocab_size": 100}
    tables = {"wte.weight": ("F32", (100, 64)), "wpe.weight": ("F32", (512, 64))}
    (path / "config.json").write_text(json.dumps(old))
    weights(path / "tables.safetensors", tables)
    facts = facts_from_safetensors(path)
    assert (facts.layers, facts.context_limit, facts.kv_bytes_per_token) == (2, 512, 2 * 2 * 2 * 64)
    assert facts.dense_bytes == 4 * (2 * 64 * 192 + 100 * 64)


def test_a_model_without_attention(tmp_path: Path) -> None:
    """Mamba: a state of 128 x 16 and three looks back of 128, in each of two layers, however long the text is."""
    path = folder(tmp_path / "m", {"backbone.layers.0.mixer.in_proj.weight": ("BF16", (256, 64))})
    mamba = {"model_type": "mamba", "num_hidden_layers": 2, "hidden_size": 64, "state_size": 16, "conv_kernel": 4}
    (path / "config.json").write_text(json.dumps(mamba | {"intermediate_size": 128, "vocab_size": 100}))
    facts = facts_from_safetensors(path)
    assert (facts.kv_bytes_per_token, facts.kv_window_bytes_per_token, facts.attention_length) == (
        0,
        2 * 4 * (128 * 16 + 3 * 128),
        0,
    )


def test_a_model_with_images_has_its_settings_one_level_down(tmp_path: Path) -> None:
    path = folder(tmp_path / "m", {"lm_head.weight": ("BF16", (4, 4))})
    (path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": CONFIG}))
    assert facts_from_safetensors(path).layers == 2


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no folder .*none"):
        facts_from_safetensors(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no config\.json, so it is no safetensors or MLX model"):
        facts_from_safetensors(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(InputError, match=r"holds no \*\.safetensors files"):
        facts_from_safetensors(tmp_path)
    for text in ("[1, 2]", "{", "[" * 100_000, '{"text_config": 3}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match=r"config\.json"):
            facts_from_safetensors(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "t5", "is_encoder_decoder": True},
            r"has an encoder \(model_type t5\): it generates no text token",
        ),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "is an encoder, which makes embeddings or classes"),
        ({"architectures": ["ModernBertForMaskedLM"]}, "is an encoder"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "is an encoder"),
    ],
)
def test_folders_of_models_that_generate_no_text(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "reads", {"embed_tokens.weight": ("BF16", (100, 64))}, **config)
    with pytest.raises(InputError, match=message):
        facts_from_safetensors(path)


def test_a_folder_with_an_adapter_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="holds a LoRA adapter, which changes a model"):
        facts_from_safetensors(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers is missing"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers is '2'"),
        ({"num_hidden_layers": 10**9}, "1000000000 layers are impossible"),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"num_experts": 8, "num_experts_per_tok": 10}, "10 experts used of 8 is impossible"),
    ],
)
def test_settings_that_make_no_sense(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        facts_from_safetensors(folder(tmp_path / "m", {"lm_head.weight": ("BF16", (4, 4))}, **config))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), max_size=4))
def test_damaged_weights_never_give_anything_but_facts_or_an_input_error(
    cut: int, flips: list[tuple[int, int]], tmp_path: Path
) -> None:
    path = folder(tmp_path / "m", {"lm_head.weight": ("BF16", (4, 4)), "model.layers.0.a.weight": ("F32", (2,))})
    content = bytearray((path / "model.safetensors").read_bytes())
    for place, change in flips:
        content[place % len(content)] ^= change
    (path / "model.safetensors").write_bytes(content[:cut])
    try:
        facts_from_safetensors(path)
    except InputError as error:
        assert "\n" not in str(error)


def test_only_the_files_of_the_index_count_and_each_must_be_there(tmp_path: Path) -> None:
    embedding, head = {"model.embed_tokens.weight": ("BF16", (100, 64))}, {"lm_head.weight": ("BF16", (100, 64))}
    path = folder(tmp_path / "parts", embedding)
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    second = weights(path / "model-00002-of-00002.safetensors", head)
    weights(path / "consolidated.safetensors", {"output.weight": ("BF16", (100, 64))})
    assert facts_from_safetensors(path).dense_bytes == 2 * 100 * 64  # without an index, too
    names = {"model.embed_tokens.weight": "model-00001-of-00002.safetensors", "lm_head.weight": second.name}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    facts = facts_from_safetensors(path)
    assert (facts.dense_bytes, facts.parameters) == (2 * 100 * 64, 2 * 100 * 64)
    second.unlink()
    with pytest.raises(InputError, match="lacks 1 of 2 files of weights, the first model-00002-of-00002"):
        facts_from_safetensors(path)
    (path / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    with pytest.raises(InputError, match="is damaged; download it again"):
        facts_from_safetensors(path)


@pytest.mark.parametrize(
    ("config", "per_token", "state"),
    [
        ({"layer_types": ["mamba", "attention"], **MAMBA}, PER_LAYER, MAMBA_STATE),
        ({"layer_types": ["conv", "full_attention"], "conv_L_cache": 3}, PER_LAYER, 4 * 2 * 64),
        (
            {
                "num_hidden_layers": 4,
                "hybrid_override_pattern": "M-*E",
                **{"mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 32, "conv_kernel": 4, "n_groups": 1},
            },
            PER_LAYER,
            MAMBA_STATE,
        ),
        ({"layer_types": ["of_tomorrow", "attention"]}, 2 * PER_LAYER, 0),  # its tensors have keys: it is attention
        ({"hybrid_override_pattern": ["-", "*"]}, PER_LAYER, 0),
        # of each user 4 heads of 16 x 16, and three looks back of queries, keys and values
        (
            {"linear_attn_config": {"kda_layers": [1], "full_attn_layers": [2], "head_dim": 16, "num_heads": 4}},
            *(PER_LAYER, 4 * (4 * 16 * 16 + 3 * 3 * 64)),
        ),
        ({"layer_group_size": 2}, PER_LAYER, 4 * 4 * 16 * 16),
        (
            {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_expand": 2, "mamba_d_state": 16},
            PER_LAYER,
            4 * (128 * 16 + 3 * 128),
        ),
        ({"mamba_d_ssm": 128, "mamba_d_state": 16, "mamba_n_groups": 1}, 2 * PER_LAYER, 2 * 4 * (128 * 16 + 3 * 160)),
        ({"num_kv_shared_layers": 1}, PER_LAYER, 0),
        ({"block_configs": [{"attention": {"n_heads_in_group": 2}}, {"attention": {"no_op": True}}]}, PER_LAYER, 0),
        ({"layer_types": ["attention"] * 2, "num_kv_heads": [1, 3], "num_key_value_heads": None}, 2 * PER_LAYER, 0),
        ({"use_cla": True, "cla_share_factor": 2}, PER_LAYER, 0),
        ({"zero_expert_num": 2}, 4 * PER_LAYER, 0),
        (
            {"layer_types": ["attention"] * 2, "kv_lora_rank": 32, "qk_rope_head_dim": 8, "index_head_dim": 16},
            2 * 2 * (32 + 8 + 16),
            0,
        ),
    ],
)
def test_a_hybrid_keeps_what_each_layer_keeps(
    config: dict[str, Any], per_token: int, state: int, tmp_path: Path
) -> None:
    path = folder(tmp_path / "hybrid", {"model.layers.0.self_attn.k_proj.weight": ("BF16", (32, 64))}, **config)
    facts = facts_from_safetensors(path)
    assert (facts.kv_bytes_per_token, facts.kv_window_bytes_per_token) == (per_token, state)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layer_types": ["attention", "of_tomorrow"]}, "layers of type 'of_tomorrow' are not known"),
        ({"hybrid_override_pattern": "M?"}, "layers of kind '\\?' in hybrid_override_pattern are not known"),
        ({"layer_types": ["mamba", "attention"]}, "the size of the state of its Mamba layers is not known"),
        ({}, "layer 1 has no keys and values, and what it keeps for each user is not known"),
        ({"compress_rope_theta": 1e4}, "layers that keep compressed keys and values are not known"),
        ({"loop_num": 2}, "layers that a token goes through several times"),
    ],
)
def test_a_layer_that_is_not_known_is_named(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    keys = {} if "layer_types" in config else {"model.layers.0.self_attn.k_proj.weight": ("BF16", (32, 64))}
    path = folder(tmp_path / "new", {"model.embed_tokens.weight": ("BF16", (100, 64)), **keys}, **config)
    with pytest.raises(InputError, match=message):
        facts_from_safetensors(path)


@pytest.mark.parametrize(
    ("tensor", "config"),
    [
        ("mlp.experts.0.up_proj", {"moe_num_experts": 8, "moe_k": 2}),
        ("block_sparse_moe.input_linear", {"num_local_experts": 8, "num_experts_per_tok": 2}),
    ],
)
def test_experts_under_other_names(tensor: str, config: dict[str, Any], tmp_path: Path) -> None:
    path = folder(tmp_path / "moe", {f"model.layers.0.{tensor}.weight": ("BF16", (8, 32, 64))}, **config)
    facts = facts_from_safetensors(path)
    assert (facts.expert_bytes, facts.dense_bytes) == (2 * 8 * 32 * 64, 0)
    assert (facts.experts, facts.experts_used) == (8, 2)
