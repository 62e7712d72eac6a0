from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rigbench.errors import InputError
from rigbench.models.kv import Cache, Settings, cache_from_metadata, cache_from_shape, gguf_settings
from rigbench.models.shapes import Shape, shape
from rigbench.models.synthetic.gguf import write_synthetic


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        ("llama-3.1-8b", Cache(2 * 32 * 2 * 8 * 128, 0, 0)),
        ("gemma-3-27b", Cache(2 * 10 * 2 * 16 * 128, 2 * 52 * 2 * 16 * 128, 1024)),  # every sixth of 62 layers is full
        ("gpt-oss-20b", Cache(2 * 12 * 2 * 8 * 64, 2 * 12 * 2 * 8 * 64, 128)),
        (
            "deepseek-r1",
            Cache(2 * 61 * (512 + 64), 0, 0),
        ),  # one latent vector and the rotated part serve keys and values
        ("gemma-4-31b", Cache(2 * 10 * 2 * 4 * 512, 2 * 50 * 2 * 16 * 256, 1024)),
        ("gemma-3n-e4b", Cache(2 * 4 * 2 * 2 * 256, 2 * 16 * 2 * 2 * 256, 512)),  # 15 of 35 layers share another's
        # 12 full layers; 36 states of 32 heads x 128 x 128 and 3 x (32 + 2 x 16) x 128 for the convolution, 4 bytes each
        ("qwen3-next-80b-a3b", Cache(2 * 12 * 2 * 2 * 256, 4 * 36 * (32 * 128 * 128 + 3 * 64 * 128), 1)),
    ],
)
def test_caches_worked_out_by_hand(model_id: str, expected: Cache) -> None:
    assert cache_from_shape(shape(model_id)) == expected


@pytest.mark.parametrize(
    "model_id", ["tiny", "tiny-moe", "deepseek-v3", "gemma-3-4b", "qwen3-next-80b-a3b", "olmo-2-7b"]
)
def test_llama_cpp_sets_aside_as_much(model_id: str, small: Callable[[str], Shape], llama: Any, tmp_path: Path) -> None:
    one = shape(model_id) if model_id.startswith("tiny") else small(model_id)
    one = replace(one, window=1024 if one.window else 0)
    write_synthetic(one, "F16", path := tmp_path / "m.gguf")
    cache = cache_from_shape(one)
    tokens = 512  # below the window, so that windowed layers keep as much as the others
    expected = cache.per_token * tokens + cache.window_per_token * min(tokens, cache.window_tokens)
    assert llama.cache_mib(path, tokens) == pytest.approx(expected / 2**20, abs=0.011)


def _meta(**values: Any) -> Settings:
    usual = {"block_count": 4, "embedding_length": 64, "attention.head_count": 4, "attention.head_count_kv": 2}
    named = {f"llama.{key}": value for key, value in {**usual, **values}.items() if value is not None}
    return gguf_settings({"general.architecture": "llama", **named}, "f.gguf")


def test_files_that_say_things_in_other_ways() -> None:
    assert cache_from_metadata(_meta()) == Cache(2 * 4 * 2 * 2 * 16, 0, 0)
    assert cache_from_metadata(_meta(**{"attention.head_count_kv": None})).per_token == 2 * 4 * 2 * 4 * 16
    assert cache_from_metadata(_meta(**{"attention.head_count_kv": (2, 0, 2, 0)})).per_token == 2 * 2 * 2 * 2 * 16
    assert (
        cache_from_metadata(_meta(**{"attention.key_length": 8, "attention.value_length": 4})).per_token
        == 2 * 4 * 2 * 12
    )
    assert cache_from_metadata(_meta(nextn_predict_layers=1)).per_token == 2 * 3 * 2 * 2 * 16
    windowed = _meta(**{"attention.sliding_window": 8, "attention.sliding_window_pattern": (True, True, True, False)})
    assert cache_from_metadata(windowed) == Cache(2 * 2 * 2 * 16, 3 * 2 * 2 * 2 * 16, 8)
    # llama.cpp keeps no window for architectures that it knows none of, such as the first Mistral 7B
    assert cache_from_metadata(_meta(**{"attention.sliding_window": 8})) == Cache(2 * 4 * 2 * 2 * 16, 0, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"block_count": None}, "llama.block_count is missing"),
        ({"block_count": "four"}, "llama.block_count is 'four'"),
        ({"block_count": -4}, "llama.block_count is -4"),
        ({"block_count": 10**9}, "1000000000 layers are impossible"),
        ({"block_count": 2, "nextn_predict_layers": 2}, "0 layers are impossible"),
        ({"attention.head_count_kv": (2, 2)}, "does not hold one whole number for each of 4 layers"),
        ({"attention.sliding_window": 8, "attention.sliding_window_pattern": (True,)}, "names 1 of 4 layers"),
    ],
)
def test_metadata_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cache_from_metadata(_meta(**values))


def test_a_file_of_no_language_model() -> None:
    with pytest.raises(InputError, match="does not name its architecture"):
        gguf_settings({}, "f.gguf")
