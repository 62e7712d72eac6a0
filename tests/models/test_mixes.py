from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rigbench.errors import InputError
from rigbench.models.mixes import BLOCKS, MIXES, tensor_bytes
from rigbench.models.names import QUANTS, one_of
from rigbench.models.shapes import shape
from rigbench.models.synthetic.gguf import facts_from_shape, plan


def test_block_sizes_are_those_of_the_gguf_package() -> None:
    gguf = pytest.importorskip("gguf")
    sizes = {kind.name: (kind.value, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    for name, (number, elements, size_bytes) in sizes.items():
        if name in BLOCKS and name != "Q8_1":  # the package has an older layout of this type, which no file holds
            assert BLOCKS[name] == (number, elements, size_bytes), name


def test_bytes_worked_out_by_hand() -> None:
    assert tensor_bytes((4096, 14336), "Q4_K") == 4096 * 14336 // 256 * 144
    assert tensor_bytes((32, 2, 3), "Q8_0") == 6 * 34
    assert tensor_bytes((7,), "F32") == 28


@pytest.mark.parametrize(
    "model_id",
    [
        *(
            "tiny",
            "tiny-moe",
            "llama-3-70b",
            "qwen2.5-0.5b",
            "qwen2.5-72b",
            "mixtral-8x7b",
            "qwen3-30b-a3b",
            "gemma-3-4b",
        ),
        *("phi-4", "deepseek-v2-lite", "gpt-oss-20b", "qwen3-next-80b-a3b", "command-r-35b", "gemma-3n-e2b"),
    ],
)
def test_types_are_those_that_llama_cpp_chooses(model_id: str, llama: Any, tmp_path: Path) -> None:
    """llama.cpp says for each tensor what it would make of it (a dry run, which reads no weights: the file is one hole)."""
    one = replace(shape(model_id), vocab=512)
    layout = plan(one, "F16")
    source = tmp_path / "hole.gguf"
    with source.open("wb") as file:
        file.write(layout.header)
        file.truncate(layout.file_bytes)
    for quant in sorted(set(MIXES) - {"F32", "F16"}):
        llama.log.clear()
        parameters = llama.api.llama_model_quantize_default_params()
        parameters.ftype, parameters.nthread, parameters.dry_run = QUANTS[quant].file_type, 1, True
        assert (
            llama.api.llama_model_quantize(
                str(source).encode(), str(tmp_path / "none").encode(), ctypes.byref(parameters)
            )
            == 0
        )
        quants = {}
        for name, before, rest in re.findall(r"\] +(\S+) +- \[.*?type = +(\S+?),(.*)", "".join(llama.log)):
            after = re.search(r"-> .*?\((\S+)\)", rest)
            quants[name] = (after[1] if after else before).upper()
        assert quants == {tensor.name: tensor.kind for tensor in plan(one, quant).tensors}, quant


@pytest.mark.parametrize(
    ("model_id", "quant", "published_gib"),
    [  # sizes that llama-bench printed for real files
        ("llama-2-7b", "Q4_0", 3.56),
        ("llama-2-7b", "Q4_1", 3.95),
        ("llama-2-7b", "Q4_K_M", 3.80),
        ("llama-2-7b", "Q8_0", 6.67),
        ("llama-2-7b", "F16", 12.55),
        ("llama-3-8b", "Q4_K_M", 4.58),
        ("llama-3-70b", "Q4_K_M", 39.59),
        ("qwen2.5-14b", "Q4_K_M", 8.37),
        ("qwen2.5-coder-7b", "Q8_0", 7.54),
        ("qwen3-coder-30b-a3b", "Q8_0", 30.25),
        ("gpt-oss-20b", "MXFP4", 11.27),
        ("gpt-oss-120b", "MXFP4", 59.02),
        ("gemma-4-26b-a4b", "BF16", 47.02),
        ("gemma-4-31b", "BF16", 57.18),
        ("glm-4.7-flash", "Q8_0", 29.65),
        ("qwen3.6-35b-a3b", "BF16", 64.60),
    ],
)
def test_files_have_the_published_size(model_id: str, quant: str, published_gib: float) -> None:
    assert facts_from_shape(shape(model_id), quant).file_bytes / 2**30 == pytest.approx(published_gib, rel=0.002)


def test_names_of_quantisations() -> None:
    assert one_of("q4_k_m", MIXES) == "Q4_K_M"
    with pytest.raises(InputError, match=r"No quantisation 'Q4_KM' among .*; did you mean Q4_K_M"):
        one_of("Q4_KM", MIXES)
