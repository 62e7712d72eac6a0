"""One grammar for a model's name and one for a quantisation's, and no other anywhere in the product."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rigbench.errors import InputError
from rigbench.models.mixes import MIXES
from rigbench.models.names import QUANTS, ModelName, model_name, one_of, quantisation, unpacking
from rigbench.models.shapes import shapes
from rigbench.paths import configs_dir

ROOT = Path(__file__).resolve().parents[2]


def written_in_configs() -> set[str]:
    """Every quantisation that the catalogue, the reference data and the suites name."""
    quants = {
        quant for shape in shapes().values() for where in shape.where.values() for quant in (*where.files, *where.repos)
    }
    with (configs_dir() / "reference" / "measured_train.csv").open(encoding="utf-8", newline="") as file:
        quants |= {row["quant"] for row in csv.DictReader(file)} - {"not stated"}
    for suite in (configs_dir() / "suites").glob("*.toml"):
        quants |= {
            name.rpartition(":")[2] for name in re.findall(r'"(synthetic:[^"]+)"', suite.read_text(encoding="utf-8"))
        }
    return quants


CANONICAL = {
    **{
        name: (name, QUANTS[name].bits) for name in ("Q4_0", "Q4_1", "Q3_K_S", "Q4_K_M", "Q8_0", "F16", "BF16", "MXFP4")
    },
    **{"4bit": ("4bit", 4.5), "8bit": ("8bit", 8.5), "Q4_K_XL": ("Q4_K_XL", 4.89), "Q5_K_XL": ("Q5_K_XL", 5.70)},
    **{"Q8_K_XL": ("Q8_K_XL", 8.5), "UD-Q3_K_XL": ("Q3_K_XL", 4.0), "UD-Q4_K_XL": ("Q4_K_XL", 4.89)},
    **{"UD-Q4_K_M": ("Q4_K_M", 4.89), "UD-Q6_K_XL": ("Q6_K_XL", 6.56), "i1-Q4_K_M": ("Q4_K_M", 4.89)},
    **{"F16 (MXFP4 experts)": ("MXFP4", 4.25), "IQ2_XXS/Q2_K mix (q2)": ("IQ2_XXS", 2.38)},
}


def test_every_quantisation_in_the_configs_has_one_canonical_name_and_its_bits() -> None:
    written = written_in_configs()
    assert {text: quantisation(text)[:2] for text in written} == {text: CANONICAL[text] for text in written}
    assert written == set(CANONICAL)


def test_canonical_names_are_their_own_and_stand_for_a_mix_that_is_known() -> None:
    for name, quant in QUANTS.items():
        assert quantisation(name) is quant and quantisation(name.lower()) is quant
        assert quant.mix in MIXES
    assert all(QUANTS[mix].mix == mix for mix in MIXES)


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
    assert quantisation(quant).mix == mix


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", "Q4_K_M"),
        ("q4", "Q4_K_M"),
        ("Q4_0_4_4", "Q4_0"),
        ("q4-k-m", "Q4_K_M"),
        ("4-bit", "4bit"),
        ("MXFP4_MOE", "MXFP4"),
        ("GPTQ-Int8", "INT8"),
        ("GPTQ", "GPTQ"),
        ("w4a16", "INT4"),
        ("FP16", "F16"),
        ("F8_E4M3", "FP8"),
        ("NVFP4", "NVFP4"),
        ("TQ1_0", "TQ1_0"),
    ],
)
def test_names_inside_other_text(text: str, name: str) -> None:
    assert quantisation(text).name == name


@pytest.mark.parametrize("text", ["", "nonsense", "QUANTUM", "128bit", "F64", "Q9"])
def test_what_names_no_quantisation_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="is not known; write for example Q4_K_M"):
        quantisation(text)


def test_unpacking() -> None:
    for kind, texts in {
        "f16": ("F32", "BF16", "FP16"),
        "q8": ("Q8_0", "8bit", "F8_E4M3", "W8A8"),
        "q4": ("Q4_0", "Q5_1", "4bit", "AWQ", "IQ4_NL"),
        "k": ("Q4_K_M", "Q6_K", "IQ4_XS", "COMPRESSED-TENSORS"),
        "mx": ("MXFP4", "NVFP4", "F16 (MXFP4 experts)"),
    }.items():
        assert {text: unpacking(text) for text in texts} == dict.fromkeys(texts, kind)


def test_one_of_some_names_alone() -> None:
    assert one_of("4BIT", ("F16", "4bit")) == "4bit"
    with pytest.raises(InputError, match="No quantisation '4bit ' among F16, 4bit; did you mean 4BIT"):
        one_of("4bit ", ("F16", "4bit"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("synthetic:tiny:Q8_0", ("synthetic", "tiny", "Q8_0", "")),
        ("synthetic:tiny", ("synthetic", "tiny", "", "")),
        ("hf:me/models/sub/m.gguf", ("hf", "me/models", "", "sub/m.gguf")),
        ("hf:me/models", ("hf", "me/models", "", "")),
        ("remote:org/name:latest", ("remote", "org/name:latest", "", "")),
        ("models/a.gguf", ("path", "models/a.gguf", "", "")),
        ("~/a", ("path", "~/a", "", "")),
        ("qwen3-8b", ("catalogue", "qwen3-8b", "", "")),
        ("qwen3-8b:4bit", ("catalogue", "qwen3-8b", "4bit", "")),
    ],
)
def test_forms_of_a_models_name(text: str, expected: tuple[str, str, str, str]) -> None:
    assert model_name(text) == ModelName(text, *expected)


@pytest.mark.parametrize(
    "text", ["", " ", "remote:", "hf:", "hf:me", "hf:/x", "hf:me/", "hf:me/models/", "hf:me/m/x.bin"]
)
def test_what_is_no_models_name(text: str) -> None:
    with pytest.raises(InputError):
        model_name(text)


QUANT_PATTERN = re.compile(r"Q[\[(\\]*[\dd]|bit\b|BIT|F16|F32|FP[48]|INT[48]|AWQ|GPTQ")


def patterns(source: str) -> Iterator[str]:
    """The text of every pattern that a module hands to `re`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.") and node.args:
            yield ast.unparse(node.args[0])


def test_no_other_module_reads_a_quantisation_by_a_pattern() -> None:
    modules = [*(ROOT / "harness").rglob("*.py"), *(ROOT / "backends").rglob("*.py")]
    assert len(modules) > 80
    faults = [
        f"{path}: {pattern}"
        for path in modules
        if path != ROOT / "harness/rigbench/models/names.py"
        for pattern in patterns(path.read_text("utf-8"))
        if QUANT_PATTERN.search(pattern)
    ]
    assert faults == []


@pytest.mark.parametrize(
    "source",
    [
        r're.search(r"Q\d|MXFP4|F32", text)',
        r're.compile(r"Q8|8.?BIT|FP8")',
        r're.sub(r"^(Q[2345]_K)$", "", x)',
        r're.match("I?Q([23])_", x)',
    ],
)
def test_such_a_pattern_is_seen(source: str) -> None:
    assert any(QUANT_PATTERN.search(quants) for quants in patterns(source))
