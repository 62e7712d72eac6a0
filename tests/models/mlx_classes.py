"""Every architecture class of the installed mlx-lm, tiny: what its own arrays hold.

    .venv-mlx/bin/python tests/models/mlx_classes.py FOLDER [NAMES THAT ARE DONE]

Run by test_mlx_classes.py in the interpreter with MLX. Makes FOLDER/NAME with config.json and model.safetensors for each class that
can be made, lets it decode, and prints a JSON line before it begins, with its name alone (some end the process), and one after:

    name, error         why it could not be made or did not decode, else null
    dense, expert       bytes of the arrays that a step reads whole, and of the experts', of which it reads `used` of `experts`
    cache               {tokens: [bytes of keys and values, bytes of states]} that the class's own cache holds of one user
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.models
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

LAYERS, WIDTH, TOKENS = 4, 64, (8, 12)
KINDS = ["sliding_attention", "full_attention"] * 2
COMMON: dict[str, Any] = {
    **{"vocab_size": 128, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128, "max_position_embeddings": 512},
    **{"rms_norm_eps": 1e-5, "layer_norm_eps": 1e-5, "layer_norm_epsilon": 1e-5, "norm_eps": 1e-5, "rope_theta": 1e4},
    **{"tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False, "rope_traditional": False},
    **{
        "sliding_window": TOKENS[0],
        "sliding_window_pattern": 2,
        "layer_types": KINDS,
        "original_max_position_embeddings": 512,
    },
    **{"num_experts": 8, "num_local_experts": 8, "n_routed_experts": 8, "moe_num_experts": 8, "num_experts_per_tok": 2},
    **{"moe_topk": 2, "moe_k": 2, "moe_top_k": 2, "num_experts_per_token": 2, "top_k_experts": 2},
    **{"moe_intermediate_size": 32, "n_shared_experts": 1, "num_shared_experts": 1, "num_shared_expert": 1},
    **{
        "shared_expert_intermediate_size": 32,
        "shared_intermediate_size": 32,
        "moe_shared_expert_intermediate_size": 32,
    },
    **{"norm_topk_prob": True, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_dense_layers": 1},
    **{"routed_scaling_factor": 1.0, "decoder_sparse_step": 1, "mlp_only_layers": [], "moe_layer_freq": 1},
    **{"kv_lora_rank": 16, "q_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16},
    **{"index_head_dim": 16, "index_n_heads": 2, "index_topk": 32},
    **{"mamba_d_state": 16, "mamba_d_conv": 4, "mamba_d_head": 16, "mamba_n_heads": 8, "mamba_n_groups": 1},
    **{"mamba_d_ssm": 128, "mamba_expand": 2, "mamba_proj_bias": False, "mamba_conv_bias": True, "mamba_dt_rank": 4},
    **{
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "ssm_state_size": 16,
        "state_size": 16,
        "conv_kernel": 4,
        "n_groups": 1,
    },
    **{"use_bias": False, "use_conv_bias": True, "time_step_rank": 4, "time_step_limit": [0.001, 0.1]},
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16},
    **{"linear_conv_kernel_dim": 4, "full_attention_interval": 2, "layer_group_size": 2, "group_norm_size": 1},
    **{"n_embd": WIDTH, "n_head": 4, "n_layer": LAYERS, "n_positions": 512, "n_ctx": 512, "n_inner": 128},
    **{"num_layers": LAYERS, "n_layers": LAYERS, "num_heads": 4, "n_heads": 4, "d_model": WIDTH, "model_dim": WIDTH},
    **{
        "num_kv_heads": 2,
        "hidden_dim": WIDTH,
        "rotary_dim": 16,
        "partial_rotary_factor": 1.0,
        "query_pre_attn_scalar": 16,
    },
    **{"embedding_multiplier": 1.0, "attention_multiplier": 0.25, "logits_scaling": 1.0, "residual_multiplier": 1.0},
    **{
        "conv_L_cache": 3,
        "conv_bias": False,
        "bias": False,
        "qkv_bias": False,
        "use_qk_norm": False,
        "dim_model_base": WIDTH,
    },
    **{"scale_depth": 1.0, "scale_emb": 1.0, "no_rope_layers": [1] * LAYERS, "use_expert_bias": True},
}
"""By the name of a setting, whichever class has it."""
ROPE = {"rope_theta": 1e4, "rope_type": "default"}
ROPE_OF = {"full_attention": ROPE, "sliding_attention": ROPE}
DELTA = {"linear_attention": 0, "full_attention": 1}
HYBRID = ["linear_attention", "full_attention"] * 2
KIMI = {"kda_layers": [1, 3], "full_attn_layers": [2, 4], "head_dim": 16, "num_heads": 4, "short_conv_kernel_size": 4}
CONV = {
    **{"block_dim": WIDTH, "block_ff_dim": 128, "block_multiple_of": 16, "block_ffn_dim_multiplier": 1.0},
    **{"block_auto_adjust_ff_dim": False, "full_attn_idxs": [1, 3], "layer_types": ["conv", "full_attention"] * 2},
}
NO_WINDOW = {"layer_types": ["full_attention"] * LAYERS, "sliding_window": None}
OWN: dict[str, dict[str, Any]] = {
    "afm7": {"num_kv_reuse_layers": 1},
    "apertus": {"post_norm": False, "qk_norm": True},
    "baichuan_m1": {"sliding_window_layers": [0, 2], "conv_window": 2},
    "bitnet": {},
    "dbrx": {
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 8, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
    },
    "exaone4": {"rope_scaling": None, "sliding_window_pattern": "LG"},
    "exaone_moe": {"is_moe_layer": [False, True, True, True]},
    "gemma3": {},
    "gemma3n": {
        **{"num_kv_shared_layers": 2, "vocab_size_per_layer_input": 128, "rope_local_base_freq": 1e4},
        **{
            "final_logit_softcapping": 30.0,
            "activation_sparsity_pattern": [0.0] * LAYERS,
            "hidden_size_per_layer_input": 16,
        },
        **{"altup_num_inputs": 2, "altup_coef_clip": 120.0, "altup_correct_scale": True, "altup_active_idx": 0},
        "laurel_rank": 8,
    },
    "gemma4_text": {
        **{"num_kv_shared_layers": 2, "vocab_size_per_layer_input": 128, "hidden_size_per_layer_input": 16},
        **{"global_head_dim": 32, "tie_word_embeddings": True, "rope_parameters": None},
    },
    "glm4_moe": {"rope_scaling": None},
    "glm_moe_dsa": {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "rope_parameters": ROPE},
    "gpt2": {"num_key_value_heads": 4},
    "gpt_neox": {"num_key_value_heads": 4, "rotary_emb_base": 10000, "rotary_pct": 0.25},
    "granitemoehybrid": {"layer_types": ["mamba", "mamba", "attention", "mamba"], "position_embedding_type": "nope"},
    "deepseek_v2": {
        "rope_scaling": {"type": "yarn", "factor": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 512}
    },
    "hunyuan": {
        "rope_scaling": {"type": "dynamic", "factor": 1.0, "alpha": 1.0},
        "use_mixed_mlp_moe": True,
        "use_cla": True,
        "cla_share_factor": 2,
        "tie_word_embeddings": True,
    },
    "jamba": {
        **{"attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1, "expert_layer_period": 2},
    },
    "kimi_k3": {"linear_attn_config": KIMI, "activation_situ_beta": 1.0, "activation_situ_linear_beta": 1.0},
    "kimi_linear": {"linear_attn_config": KIMI, "model_max_length": 512},
    "lfm2": CONV,
    "lfm2-vl": {},
    "lfm2_moe": {"full_attn_idxs": [1, 3], "layer_types": ["conv", "full_attention"] * 2},
    "lille-130m": {"block_size": 512, "n_kv_heads": 2},
    "llama4": {
        "num_experts_per_tok": 1,
        **{
            "attention_chunk_size": 8,
            "interleave_moe_layer_step": 2,
            "intermediate_size_mlp": 128,
            "rope_scaling": None,
        },
    },
    "llama4_text": {"intermediate_size_mlp": 128},
    "longcat_flash": {
        **{
            "attention_method": "MLA",
            "zero_expert_type": "identity",
            "ffn_hidden_size": 128,
            "expert_ffn_hidden_size": 32,
        },
        **{"zero_expert_num": 2, "mla_scale_q_lora": True, "mla_scale_kv_lora": True},
    },
    "longcat_flash_ngram": {
        **{"ffn_hidden_size": 128, "expert_ffn_hidden_size": 32, "zero_expert_num": 2},
        **{"mla_scale_q_lora": True, "mla_scale_kv_lora": True, "ngram_vocab_size_ratio": 2},
    },
    "mellum": {"rope_parameters": ROPE_OF},
    "mimo_v2_flash": {
        **{"hybrid_layer_pattern": [1, 0, 1, 0], "moe_layer_freq": [0, 1, 1, 1], "add_swa_attention_sink_bias": True},
        **{"add_full_attention_sink_bias": False, "sliding_window_size": 8, "topk_method": "noaux_tc"},
        **{"scoring_func": "sigmoid", "layernorm_epsilon": 1e-5, "swa_rope_theta": 1e4, "swa_num_attention_heads": 4},
        **{"swa_num_key_value_heads": 2, "swa_head_dim": 16, "swa_v_head_dim": 16, "n_shared_experts": None},
    },
    "minicpm3": {
        "rope_scaling": {
            "type": "longrope",
            "original_max_position_embeddings": 512,
            "short_factor": [1.0] * 4,
            "long_factor": [1.0] * 4,
        }
    },
    "ministral3": {"rope_parameters": {**ROPE, "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 512}},
    "mistral4": {"rope_parameters": {**ROPE, "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 512}},
    "muse_spark": {
        **{
            "post_norm_eps": 1e-5,
            "rope_parameters": ROPE,
            "layer_rope_theta": [1e4] * LAYERS,
            "final_logit_softcapping": 30.0,
        },
        **{"output_multiplier": 1.0, "moe_hidden_size": 32, "num_shared_experts": 0},
    },
    "nemotron": {"hidden_act": "relu2"},
    "nemotron-nas": {
        "block_configs": [
            {
                "attention": {"no_op": layer == 1, "n_heads_in_group": None if layer == 1 else 2},
                "ffn": {"ffn_mult": 2.0},
            }
            for layer in range(LAYERS)
        ]
    },
    "nemotron_h": {
        "hybrid_override_pattern": list("M-*E"),
        "layer_types": None,
        "layers_block_type": None,
        "n_group": 1,
    },
    "olmo_hybrid": {"linear_allow_neg_eigval": False, "layer_types": HYBRID},
    "openelm": {
        **{"num_transformer_layers": LAYERS, "ffn_dim_divisor": 16, "num_query_heads": [4] * LAYERS},
        **{"num_kv_heads": [2] * LAYERS, "ffn_multipliers": [1.0] * LAYERS},
    },
    # its code writes to tokens of its own vocabulary, whatever its size
    "phi3small": {
        "vocab_size": 100352,
        "dense_attention_every_n_layers": 2,
        "ff_intermediate_size": 128,
        "gegelu_limit": 20.0,
    },
    "plamo": {"n_shared_head": 2},
    "plamo2": {"hidden_size_per_head": 16, "attention_window_size": 8},
    "plamo3": {"window_size": 8},
    "qwen": {"kv_channels": 16},
    "qwen3_next": {"full_attention_interval": 2},
    "qwen3_5": {"layer_types": HYBRID},
    "recurrent_gemma": {
        "num_key_value_heads": 1,
        "conv1d_width": 4,
        "logits_soft_cap": 30.0,
        "attention_window_size": 8,
        "block_types": ["recurrent", "attention"],
    },
    "rwkv7": {"a_low_rank_dim": 8, "v_low_rank_dim": 8, "gate_low_rank_dim": 8, "decay_low_rank_dim": 8},
    "smollm3": NO_WINDOW,
    "mistral3": NO_WINDOW,
    "pixtral": NO_WINDOW,
    "spark2_5": {"rope_parameters": ROPE_OF},
    "stablelm": {"use_qkv_bias": False},
    "step3p5": {"num_attention_groups": 2, "share_expert_dim": 32, "moe_layers_enum": "1,2,3"},
    "talkie": {},
}
INSIDE = {
    **{"gemma3": "gemma3_text", "gemma4": "gemma4_text", "lfm2-vl": "lfm2", "minimax_m3_vl": "minimax"},
    **{"kimi_vl": "deepseek_v3", "kimi_k25": "deepseek_v3", "mistral3": "ministral3", "pixtral": "llama"},
    **{"qwen2_vl": "qwen2", "qwen3_vl": "qwen3", "qwen3_vl_moe": "qwen3_moe", "qwen3_5_moe": "qwen3_5"},
}
"""Of classes whose text has a config of its own: whose settings it is."""


def settings(name: str, arguments: Any) -> dict[str, Any]:
    """A config.json for a class: all its settings, tiny where their names are known, else as the class has them."""
    own = OWN.get(name, {})
    config = {"model_type": name}
    for field in dataclasses.fields(arguments):
        if field.name in own or field.name in COMMON:
            config[field.name] = own.get(field.name, COMMON.get(field.name))
        elif field.default is not dataclasses.MISSING and field.default is not None:
            config.setdefault(field.name, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            config.setdefault(field.name, field.default_factory())
    if "text_config" in {field.name for field in dataclasses.fields(arguments)}:
        inside = INSIDE.get(name, name)
        inner = importlib.import_module(f"mlx_lm.models.{inside}")
        classes = (getattr(inner, each, None) for each in ("TextArgs", "TextModelArgs", "TextConfig"))
        config["text_config"] = settings(inside, next(filter(None, classes), inner.ModelArgs)) | OWN.get(name, {})
        return config
    return config | own


def measured(name: str, folder: Path) -> dict[str, Any]:
    module = importlib.import_module(f"mlx_lm.models.{name}")
    config = settings(name, module.ModelArgs)
    mx.random.seed(1)
    model = module.Model(module.ModelArgs.from_dict(config))
    mx.eval(model.parameters())
    folder.mkdir(parents=True)
    arrays = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    choices: list[int] = []
    looked_up: dict[str, nn.Module] = {}
    multiplied: set[int] = set()
    experts = 0
    expert_names: set[str] = set()
    for path, one in model.named_modules():
        if isinstance(one, SwitchLinear | QuantizedSwitchLinear):
            experts = one.num_experts
            expert_names |= {f"{path}.{each}" for each, _ in tree_flatten(one.parameters())}
        elif isinstance(one, nn.Embedding):
            looked_up[path] = one

    def switch(self: Any, x: Any, indices: Any, *rest: Any, **more: Any) -> Any:
        choices.append(indices.shape[-1] if indices.ndim > 1 else 0)
        return real_switch(self, x, indices, *rest, **more)

    def as_linear(self: Any, x: Any) -> Any:
        multiplied.add(id(self))
        return real_linear(self, x)

    real_switch, real_linear = SwitchLinear.__call__, nn.Embedding.as_linear
    SwitchLinear.__call__, nn.Embedding.as_linear = switch, as_linear
    try:
        cache = make_prompt_cache(model)
        sizes: dict[str, tuple[int, int]] = {}
        for count in range(1, TOKENS[-1] + 1):
            logits = model(mx.array([[count]]), cache=cache)
            mx.eval(logits)
            if count in TOKENS:
                sizes[str(count)] = size_of(cache)
    finally:
        SwitchLinear.__call__, nn.Embedding.as_linear = real_switch, real_linear
    rows = {f"{path}.weight" for path, one in looked_up.items() if id(one) not in multiplied}
    size = {name: array.nbytes for name, array in arrays.items()}
    return {
        "dense": sum(each for name, each in size.items() if name not in rows and name not in expert_names),
        "expert": sum(each for name, each in size.items() if name in expert_names),
        "experts": experts,
        "used": max(choices, default=0),
        "cache": sizes,
    }


def size_of(cache: Any) -> tuple[int, int]:
    """Bytes of keys and values, without the room for tokens to come, and of states of a fixed size."""
    keys_bytes = states = 0
    for one in cache if isinstance(cache, list | tuple) else [cache]:
        keys, values = getattr(one, "keys", None), getattr(one, "values", None)
        if hasattr(one, "caches"):
            more = size_of(list(one.caches))
            keys_bytes, states = keys_bytes + more[0], states + more[1]
        elif keys is not None:
            room = keys.shape[-2]
            keys_bytes += (
                sum(array.nbytes for array in (keys, values) if array is not None) * min(one.offset, room) // room
            )
        elif not hasattr(one, "keys"):
            states += sum(array.nbytes for _, array in tree_flatten(one.state) if isinstance(array, mx.array))
    return keys_bytes, states


def main() -> None:
    mx.set_default_device(mx.cpu)
    root, done = Path(sys.argv[1]), sys.argv[2:]
    for info in pkgutil.iter_modules(mlx_lm.models.__path__):
        if info.name in done:
            continue
        print(json.dumps({"name": info.name}), flush=True)
        try:
            module = importlib.import_module(f"mlx_lm.models.{info.name}")
            if not (hasattr(module, "Model") and hasattr(module, "ModelArgs")):
                continue  # parts of others
            line = {"error": None, **measured(info.name, root / info.name)}
        except BaseException as error:  # one ends the interpreter where a package is missing
            line = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"name": info.name, **line}), flush=True)


if __name__ == "__main__":
    main()
