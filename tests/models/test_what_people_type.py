"""Names as people type them: Ollama's tags, file names and repositories find their model, and never another one."""

import pytest

from rigbench.errors import InputError
from rigbench.models.shapes import find_shape, sizes_in


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("deepseek-r1:14b", "deepseek-r1-distill-qwen-14b"),
        ("deepseek-r1:671b", "deepseek-r1"),
        ("DeepSeek-R1-0528-Qwen3-8B", "qwen3-8b"),
        ("Mistral-Nemo-Instruct-2407", "mistral-nemo-12b"),
        ("Devstral-Small-2507", "mistral-small-24b"),
        ("devstral:24b", "mistral-small-24b"),
        ("Magistral-Small-2507", "mistral-small-24b"),
        ("qwen3:30b", "qwen3-30b-a3b"),
        ("qwen3.6:35b", "qwen3.6-35b-a3b"),
        ("Qwen3.5-9B", "qwen3.5-9b"),
        ("gemma4-26b", "gemma-4-26b-a4b"),
        ("gemma3n:e4b", "gemma-3n-e4b"),
        ("GLM-4.6", "glm-4.5"),
        ("DeepSeek-V3.1", "deepseek-v3"),
        ("llama3.3:latest", "llama-3.3-70b"),
        ("qwq", "qwq-32b"),
        ("Hermes-4-70B", "llama-3.1-70b"),
        ("Hermes-3-Llama-3.1-8B", "llama-3.1-8b"),
        ("Llama-3.1-Tulu-3-8B", "llama-3.1-8b"),
        ("Llama-4-Scout-17B-16E-Instruct", "llama-4-scout"),
        ("unsloth/Qwen3-30B-A3B-GGUF", "qwen3-30b-a3b"),
    ],
)
def test_the_very_model(name: str, model_id: str) -> None:
    match, exact = find_shape(name)
    assert (match.id, exact) == (model_id, True)


def test_a_rounded_number_of_parameters_does_not_lose_the_model() -> None:
    assert find_shape("gemma-2-2b-it", 2e9)[0].id == "gemma-2-2b"  # it has 2.6
    assert find_shape("Llama-3.2-1B-Instruct", 1e9)[1]  # 1.24


@pytest.mark.parametrize(
    ("name", "experts"),
    [("Nobody-30B-A3B", True), ("Nobody-30B", False), ("LFM2-8B-A1B", True), ("Mistral-Large-3", True)],
)
def test_a_mixture_stands_in_for_a_mixture_and_a_dense_model_for_a_dense_one(name: str, experts: bool) -> None:
    match, exact = find_shape(name)
    assert (match.experts > 0, exact) == (experts, False)


def test_a_family_without_a_size_is_asked_for_by_the_models_that_it_may_be() -> None:
    with pytest.raises(InputError, match="may be mixtral-8x7b, mixtral-8x22b: name one"):
        find_shape("mixtral")
    with pytest.raises(InputError, match="did you mean mistral-large-123b"):
        find_shape("Mistral-Large-9")


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Qwen3.6-35B-A3B-UD-Q4_K_XL", (35e9, 3e9)),
        ("SmallThinker-4BA0.6B", (4e9, 0.6e9)),
        ("gemma-3-270m-it", (270e6, None)),
        ("Phi-3-medium-4k-instruct", (None, None)),
        ("Mixtral-8x7B", (56e9, None)),
    ],
)
def test_the_size_that_a_name_states(name: str, sizes: tuple[float | None, float | None]) -> None:
    assert sizes_in(name) == sizes
