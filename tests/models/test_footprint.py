from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rigbench.errors import InputError
from rigbench.models.footprint import catalogued_facts, decode_bytes, expert_share, kv_bytes, weight_bytes
from rigbench.models.formats.gguf import facts_from_gguf, header_bytes, value_bytes
from rigbench.models.shapes import shape
from rigbench.models.synthetic.gguf import facts_from_shape, write_synthetic


@pytest.mark.parametrize("model_id", ["tiny", "tiny-moe"])
@pytest.mark.parametrize("quant", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K"])
def test_shape_and_file_agree_to_the_byte(model_id: str, quant: str, tmp_path: Path) -> None:
    path = tmp_path / f"{model_id}-{quant}.gguf"
    write_synthetic(shape(model_id), quant, path)
    assert facts_from_gguf(path) == facts_from_shape(shape(model_id), quant)
    assert facts_from_gguf(path).file_bytes == path.stat().st_size


def test_bytes_of_a_step_worked_out_by_hand() -> None:
    facts = facts_from_shape(shape("tiny"), "F16")
    layer = 2 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512) + 4 * 2 * 256  # matrices in 16, norms in 32 bits
    assert (
        facts.dense_bytes == 4 * layer + 2 * 512 * 256 + 4 * 256
    )  # the output matrix counts, the input embedding does not
    assert facts.kv_bytes_per_token == 4 * 2 * 2 * 64 * 2
    assert decode_bytes(facts, 3, 100) == facts.dense_bytes + 3 * 100 * 2048
    assert decode_bytes(facts, 1, 100, kv_bits=8.5) == facts.dense_bytes + 100 * 2048 * 8.5 / 16


def test_a_tied_embedding_counts_once() -> None:
    untied, tied = (facts_from_shape(replace(shape("tiny"), tied=tied), "F16") for tied in (False, True))
    assert tied.dense_bytes == untied.dense_bytes
    assert tied.file_bytes < untied.file_bytes - 2 * 512 * 256


def test_experts() -> None:
    facts = facts_from_shape(shape("qwen3-30b-a3b"), "Q8_0")
    assert facts.expert_bytes == 48 * 128 * 3 * 2048 * 768 // 32 * 34
    assert weight_bytes(facts, 1) == facts.dense_bytes + facts.expert_bytes * 8 / 128
    assert expert_share(128, 8, 1) == 8 / 128
    assert expert_share(128, 8, 2) == pytest.approx(1 - (120 / 128) ** 2)
    assert expert_share(8, 8, 1) == 1.0
    assert expert_share(0, 0, 5) == 0.0
    assert weight_bytes(facts, 10_000) == pytest.approx(facts.dense_bytes + facts.expert_bytes)
    with pytest.raises(InputError, match="0 users are impossible"):
        weight_bytes(facts, 0)


def test_a_window_stops_growing_and_a_state_does_not_grow() -> None:
    windowed = facts_from_shape(shape("gpt-oss-20b"), "MXFP4")
    layer = 2 * 8 * 64 * 2
    assert kv_bytes(windowed, 100) == 24 * layer * 100
    assert kv_bytes(windowed, 1000) == 12 * layer * (1000 + 128)
    recurrent = facts_from_shape(shape("qwen3-next-80b-a3b"), "Q4_K_M")
    state = recurrent.kv_window_bytes_per_token
    assert kv_bytes(recurrent, 1000) - kv_bytes(recurrent, 500) == recurrent.kv_bytes_per_token * 500
    assert kv_bytes(recurrent, 100, kv_bits=8) == recurrent.kv_bytes_per_token * 50 + state  # a state stays in 32 bits
    assert kv_bytes(recurrent, 0) == 0


def _file(path: Path, names: dict[str, tuple[int, ...]], **more: int | str) -> Path:
    usual = {"block_count": 2, "embedding_length": 64, "attention.head_count": 4, "attention.head_count_kv": 2, **more}
    keys = [
        value_bytes("general.architecture", "llama"),
        *(value_bytes(f"llama.{key}", value) for key, value in usual.items()),
    ]
    header, _, size = header_bytes(keys, [(name, dims, "F32") for name, dims in names.items()])
    path.write_bytes(header + bytes(size - len(header)))
    return path


def test_files_of_other_tools(tmp_path: Path) -> None:
    path = _file(
        tmp_path / "other.gguf",
        {
            "token_embd.weight": (64, 100),  # tied: there is no output.weight
            "rope_freqs.weight": (8,),
            "blk.0.attn_q.weight": (64, 64),
            "blk.0.ffn_gate_inp.weight": (64, 4),
            "blk.0.ffn_gate.0.weight": (64, 32),  # an old file: a tensor per expert
            "blk.0.ffn_gate.1.weight": (64, 32),
            "blk.0.ffn_down_exps.weight": (32, 64, 2),
            "blk.0.ffn_up_shexp.weight": (64, 32),
            "blk.1.nextn.eh_proj.weight": (128, 64),  # predicts a second token: in the file, not in a step
        },
        nextn_predict_layers=1,
        expert_count=2,
        expert_used_count=1,
    )
    facts = facts_from_gguf(path)
    assert facts.dense_bytes == 4 * (64 * 100 + 8 + 64 * 64 + 64 * 4 + 64 * 32)
    assert facts.expert_bytes == 4 * (2 * 64 * 32 + 32 * 64 * 2)
    assert facts.parameters == 64 * 100 + 8 + 64 * 64 + 64 * 4 + 3 * 64 * 32 + 32 * 64 * 2 + 128 * 64
    assert facts.active_parameters == facts.parameters - (2 * 64 * 32 + 32 * 64 * 2) // 2
    assert (facts.layers, facts.quantization, facts.context_limit, facts.synthetic) == (1, "F32", None, False)


def test_a_split_file_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    first = _file(tmp_path / "m-00001-of-00002.gguf", {"token_embd.weight": (64, 10), "blk.0.attn_q.weight": (64, 64)})
    second = _file(tmp_path / "m-00002-of-00002.gguf", {"blk.1.attn_q.weight": (64, 64), "output.weight": (64, 10)})
    facts = facts_from_gguf(second)
    assert facts == facts_from_gguf(first)
    assert facts.name == "m"
    assert facts.file_bytes == first.stat().st_size + second.stat().st_size
    assert facts.dense_bytes == 4 * (2 * 64 * 64 + 64 * 10)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vocab\.gguf holds no tensors; it is a vocabulary"):
        facts_from_gguf(_file(tmp_path / "vocab.gguf", {}))
    with pytest.raises(InputError, match="10 experts used of 8 is impossible"):
        facts_from_gguf(_file(tmp_path / "x.gguf", {"a.weight": (4,)}, expert_count=8, expert_used_count=10))
    with pytest.raises(InputError, match="No quantisation 'Q9'"):
        facts_from_shape(shape("tiny"), "Q9")


def test_hand_worked_llama_2_7b_q4_0() -> None:
    # 6.738 B weights in blocks of 32 at 18 bytes; the 32000 x 4096 input table is looked up, the output matrix is Q6_K
    facts = catalogued_facts("llama-2-7b", "Q4_0")
    table = 32000 * 4096 * 18 // 32
    assert facts.file_bytes - facts.dense_bytes == table
    assert facts.dense_bytes == pytest.approx(6.476e9 * 18 / 32 + 32000 * 4096 * 210 / 256, rel=0.001)


@pytest.mark.parametrize(
    ("quant", "bits"), [("F16", 16), ("BF16", 16), ("4bit", 4.5), ("AWQ", 4.25), ("IQ2_XXS", 2.38)]
)
def test_a_quantisation_without_a_known_mix_has_its_own_bits(quant: str, bits: float) -> None:
    facts = catalogued_facts("llama-3-8b", quant)
    assert facts.quantization == quant
    assert 8 * facts.file_bytes / facts.parameters == pytest.approx(bits, rel=0.001)
