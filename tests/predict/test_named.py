"""From a model's written name to its bytes."""

from __future__ import annotations

import pytest

from rigbench.errors import InputError
from rigbench.predict.named import bits_of, catalogued_facts, find_shape, named_facts


@pytest.mark.parametrize(
    ("name", "billions", "active", "shape"),
    [
        ("Meta-Llama-3-8B-Instruct", 8.03, 8.03, "llama-3-8b"),
        ("meta-llama/Llama-3.1-8B-Instruct", 8.0, 8.0, "llama-3.1-8b"),
        ("shisa-v2-llama3.3-70b.i1-Q4_K_M", 70.55, 70.55, "llama-3.3-70b"),
        ("DeepSeek-R1 14B (Qwen2.5)", 14.77, 14.77, "qwen2.5-14b"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL", 30.53, 3.3, "qwen3-30b-a3b"),
        ("Llama-4-Scout-17B-16E-Instruct-UD-Q4_K_XL", 107.77, 17, "llama-4-scout"),
        ("gpt-oss-120b-mxfp4", 116.83, 5.1, "gpt-oss-120b"),
        ("google/gemma-3-27b-it", 27.0, 27.0, "gemma-3-27b"),
    ],
)
def test_names_find_their_shape(name: str, billions: float, active: float, shape: str) -> None:
    found, exact = find_shape(name, billions * 1e9, active * 1e9)
    assert (found.id, exact) == (shape, True)


def test_a_name_with_the_wrong_size_is_not_believed() -> None:
    found, exact = find_shape("llama-3.1-8b", 70e9, 70e9)
    assert not exact and found.layers >= 60


def test_an_unknown_model_gets_the_layers_of_the_nearest_and_its_own_bytes() -> None:
    facts = named_facts("Nobody-13B", "Q8_0", parameters=13e9, active=13e9, size_bytes=13.8e9)
    assert facts.file_bytes == 13_800_000_000
    assert 0.9 * facts.file_bytes < facts.dense_bytes <= facts.file_bytes
    assert 36 <= facts.layers <= 50


def test_the_stated_size_is_the_file_and_experts_keep_their_type() -> None:
    plain = named_facts("gpt-oss-20b", "MXFP4", size_bytes=12.11e9)
    wide = named_facts("gpt-oss-20b-F16", "F16 (MXFP4 experts)", size_bytes=13.78e9)
    assert plain.expert_bytes == pytest.approx(wide.expert_bytes, rel=0.01)
    assert wide.dense_bytes - plain.dense_bytes == pytest.approx(13.78e9 - 12.11e9, rel=0.45)
    assert wide.file_bytes == 13_780_000_000


def test_hand_worked_llama_2_7b_q4_0() -> None:
    # 6.738 B weights in blocks of 32 at 18 bytes; the 32000 x 4096 input table is looked up, the output matrix is Q6_K
    facts = catalogued_facts("llama-2-7b", "Q4_0")
    table = 32000 * 4096 * 18 // 32
    assert facts.file_bytes - facts.dense_bytes == table
    assert facts.dense_bytes == pytest.approx(6.476e9 * 18 / 32 + 32000 * 4096 * 210 / 256, rel=0.001)


@pytest.mark.parametrize(
    ("quant", "mix"),
    [
        ("UD-Q4_K_XL", "Q4_K_M"),
        ("i1-Q4_K_M", "Q4_K_M"),
        ("Q8_K_XL", "Q8_0"),
        ("UD-Q3_K_XL", "Q3_K_M"),
        ("IQ2_XXS/Q2_K mix (q2)", "Q2_K"),
        ("BF16", "BF16"),
        ("4bit", "Q4_0"),
        ("MXFP4", "MXFP4"),
        ("F16 (MXFP4 experts)", "MXFP4"),
    ],
)
def test_quantisations_as_people_write_them(quant: str, mix: str) -> None:
    assert bits_of(quant)[0] == mix


@pytest.mark.parametrize(
    ("name", "quant", "size", "parameters"),
    [("", "Q4_0", None, None), ("x", "nonsense", None, 7e9), ("x", "Q4_0", 0.0, 7e9), ("x", "Q4_0", 4e9, -7e9)],
)
def test_what_is_neither_known_nor_stated_is_an_error(name, quant, size, parameters) -> None:
    with pytest.raises(InputError):
        named_facts(name, quant, parameters=parameters, size_bytes=size)
