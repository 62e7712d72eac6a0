from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rigbench.errors import InputError
from rigbench.models.shapes import find_shape, shape, shape_from_table, shapes, shapes_from_files
from rigbench.models.tensors import parameters, tensors
from rigbench.text import did_you_mean

SMALL: dict[str, Any] = {
    **{"id": "x", "name": "X", "architecture": "llama", "parameters": 1e6, "layers": 2, "hidden": 64},
    **{"heads": 4, "kv_heads": 2, "head_dim": 16, "ffn": 128, "vocab": 300, "context": 512},
}


@pytest.mark.parametrize("model_id", shapes())
def test_the_count_from_the_shape_is_the_published_one(model_id: str) -> None:
    total, active = parameters(shape(model_id))
    published = shape(model_id).parameters
    assert total == pytest.approx(published, rel=0.01)
    assert 0 < active <= total


@pytest.mark.parametrize(
    ("model_id", "published"),
    [  # as the hub shows them, to the last parameter
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.1-405b", 405_853_388_800),
        ("qwen3-8b", 8_190_735_360),
        ("qwen3-30b-a3b", 30_532_122_624),
        ("mixtral-8x7b", 46_702_792_704),
        ("gemma-2-9b", 9_241_705_984),
        ("deepseek-v3", 671_026_419_200),
        ("gpt-oss-20b", 20_914_757_184),
    ],
)
def test_the_count_is_exact(model_id: str, published: int) -> None:
    assert parameters(shape(model_id))[0] == published


def test_counts_worked_out_by_hand() -> None:
    layer = 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512 + 2 * 256  # q and o, k and v, feed-forward, two norms
    assert parameters(shape("tiny")) == (4 * layer + 2 * 512 * 256 + 256,) * 2
    unused = 48 * (128 - 8) * 3 * 2048 * 768
    assert parameters(shape("qwen3-30b-a3b"))[1] == 30_532_122_624 - unused


def test_most_models_that_people_run_are_there() -> None:
    trained = [one for one in shapes().values() if one.family != "synthetic"]
    assert len(trained) >= 40
    assert all(one.source for one in shapes().values())
    assert all(place.repo.count("/") == 1 or place.repos for one in trained for place in one.where.values())


def test_layers_of_mixed_models() -> None:
    gemma = shape("gemma-3-27b")
    assert [layer for layer in range(gemma.layers) if gemma.is_full(layer)] == [5, 11, 17, 23, 29, 35, 41, 47, 53, 59]
    assert [layer for layer in range(48) if shape("llama-4-maverick").has_experts(layer)] == list(range(1, 48, 2))
    assert [layer for layer in range(61) if not shape("deepseek-r1").has_experts(layer)] == [0, 1, 2]
    assert [layer for layer in range(8) if not shape("qwen3-next-80b-a3b").is_recurrent(layer)] == [3, 7]


def test_every_tensor_has_its_own_name() -> None:
    for one in shapes().values():
        names = [tensor.name for tensor in tensors(one)]
        assert len(set(names)) == len(names), one.id


def test_upper_case_is_the_same_model() -> None:
    assert shape("Qwen3-8B") is shape("qwen3-8b")


def test_an_unknown_model_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r"No model 'qwen3-30b' .* did you mean qwen3-30b-a3b or qwen3-30b-a3b-2507"):
        shape("qwen3-30b")
    with pytest.raises(InputError, match=r"did you mean llama-3\.1-8b"):
        shape("lama-3.1-8b")
    assert did_you_mean("zzzz", ["a", "b"]) == "."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hiden": 3}, "unknown key 'hiden'; did you mean hidden"),
        ({"layers": None}, "'layers' is missing"),
        ({"layers": "2"}, "layers = '2' is not of type int"),
        ({"layers": True}, "layers = True is not of type int"),
        ({"layers": 0}, "layers must be more than 0"),
        ({"vocab": -1}, "must not be negative"),
        ({"parameters": float("nan")}, "must not be negative"),
        ({"experts": 8, "experts_used": 10}, "10 experts used of 8 is impossible"),
        ({"kv_heads": 3}, "4 heads cannot share 3 kv_heads evenly"),
        ({"qk_norm": "both"}, "qk_norm = 'both' must be"),
        ({"gguf": {"repository": "a/b"}}, "gguf must be a table of repo, files"),
    ],
)
def test_a_wrong_table_is_named(change: dict[str, Any], message: str) -> None:
    table = {key: value for key, value in {**SMALL, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        shape_from_table(table, "here")


def test_defaults_of_a_family_and_repositories_by_quantisation(tmp_path: Path) -> None:
    file = tmp_path / "fam.toml"
    rows = "\n".join(f"{key} = {value!r}" for key, value in SMALL.items() if key != "architecture")
    file.write_text(
        f'[defaults]\narchitecture = "qwen2"\n[[model]]\n{rows}\n[model.gguf]\nrepo = "a/b"\nfiles = "x-{{quant}}.gguf"\n'
        'quants = ["Q8_0"]\n'
    )
    (match,) = shapes_from_files([file]).values()
    assert (match.architecture, match.family) == ("qwen2", "fam")
    assert match.where["gguf"].files == {"Q8_0": "x-Q8_0.gguf"}


def test_an_id_twice_and_a_file_that_is_no_toml(tmp_path: Path) -> None:
    file = tmp_path / "twice.toml"
    table = "[[model]]\n" + "\n".join(f"{key} = {value!r}" for key, value in SMALL.items()) + "\n"
    file.write_text(table * 2)
    with pytest.raises(InputError, match="the id is there twice"):
        shapes_from_files([file])
    file.write_text("[[model")
    with pytest.raises(InputError, match=r"twice\.toml in configs/models cannot be read"):
        shapes_from_files([file])


@pytest.mark.parametrize(
    ("name", "billions", "active", "shape"),
    [
        ("Meta-Llama-3-8B-Instruct", 8.03, 8.03, "llama-3-8b"),
        ("meta-llama/Llama-3.1-8B-Instruct", 8.0, 8.0, "llama-3.1-8b"),
        ("shisa-v2-llama3.3-70b.i1-Q4_K_M", 70.55, 70.55, "llama-3.3-70b"),
        ("DeepSeek-R1 14B (Qwen2.5)", 14.77, 14.77, "deepseek-r1-distill-qwen-14b"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL", 30.53, 3.3, "qwen3-30b-a3b"),
        ("Llama-4-Scout-17B-16E-Instruct-UD-Q4_K_XL", 107.77, 17, "llama-4-scout"),
        ("gpt-oss-120b-mxfp4", 116.83, 5.1, "gpt-oss-120b"),
        ("google/gemma-3-27b-it", 27.0, 27.0, "gemma-3-27b"),
    ],
)
def test_names_find_their_shape(name: str, billions: float, active: float, shape: str) -> None:
    match, exact = find_shape(name, billions * 1e9, active * 1e9)
    assert (match.id, exact) == (shape, True)


def test_a_name_with_the_wrong_size_is_not_believed() -> None:
    match, exact = find_shape("llama-3.1-8b", 70e9, 70e9)
    assert not exact and match.layers >= 60
