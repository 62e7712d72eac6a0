from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rigbench.errors import InputError, UnavailableError
from rigbench.models.formats.folders import facts_from_safetensors
from rigbench.models.resolve import local_models, resolve
from rigbench.models.shapes import Shape, shape
from rigbench.models.synthetic import folder as synthetic_folder
from rigbench.models.synthetic.folder import ensure_synthetic, facts_from_shape, plan, write_synthetic
from rigbench.models.synthetic.weights import is_whole
from rigbench.models.tensors import parameters as counted

QUANTS = ("BF16", "F16", "4bit", "8bit")
NUMPY = {"BF16": "<u2", "F16": "<f2", "U32": "<u4"}


def tensors_of(folder: Path) -> dict[str, Any]:
    """Every tensor of the file as numbers: read here anew, by the format's description."""
    import numpy as np

    raw = (folder / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    table = json.loads(raw[8:end])
    table.pop("__metadata__")
    tensors = {}
    for name, entry in table.items():
        start, stop = entry["data_offsets"]
        values = np.frombuffer(raw[end + start : end + stop], NUMPY[entry["dtype"]])
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def unpacked(tensors: dict[str, Any], stem: str, bits: int) -> Any:
    """MLX's affine quantisation undone, as mx.dequantize documents it: scale x code + bias, lowest bits first."""
    import numpy as np

    words, scales, biases = (tensors[f"{stem}.{part}"] for part in ("weight", "scales", "biases"))
    codes = (words[..., None] >> (np.arange(32 // bits, dtype=np.uint32) * bits)) & (2**bits - 1)
    rows = codes.reshape(*scales.shape, -1).astype(np.float32)
    return (rows * scales[..., None] + biases[..., None]).reshape(*words.shape[:-1], -1)


@pytest.mark.parametrize("model_id", ["tiny", "tiny-moe"])
@pytest.mark.parametrize("quant", QUANTS)
def test_the_facts_of_the_file_are_those_of_its_plan(model_id: str, quant: str, cache: Path) -> None:
    facts = facts_from_safetensors(ensure_synthetic(model_id, quant))
    assert facts == facts_from_shape(shape(model_id), quant)
    assert facts.synthetic
    assert (facts.parameters, facts.active_parameters) == counted(shape(model_id))
    assert (facts.quantization, facts.name) == (quant, f"{model_id}-{quant}")


def test_the_bytes_of_a_step_worked_out_by_hand(cache: Path) -> None:
    """tiny: 4 layers of 256 wide, 4 heads and 2 key-value heads of 64, 512 inner; vocabulary of 512, not tied."""
    matrices = 4 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512) + 512 * 256
    norms = (2 * 4 + 1) * 256
    assert facts_from_shape(shape("tiny"), "BF16").dense_bytes == 2 * (matrices + norms)
    packed = matrices // 2 + matrices // 64 * 4  # 4 bits, and 16 bits each for scale and bias of 64
    assert facts_from_shape(shape("tiny"), "4bit").dense_bytes == packed + 2 * norms
    assert facts_from_shape(shape("tiny"), "8bit").dense_bytes == packed + matrices // 2 + 2 * norms


def test_rows_that_are_no_multiple_of_64_are_packed_in_groups_of_32(cache: Path) -> None:
    """tiny-moe's experts are 96 wide; the router has 8 bits in every quantisation, as mlx-lm makes it."""
    folder = ensure_synthetic("tiny-moe", "4bit")
    quantization = json.loads((folder / "config.json").read_bytes())["quantization"]
    assert (quantization["bits"], quantization["group_size"]) == (4, 64)
    assert quantization["model.layers.0.mlp.switch_mlp.down_proj"] == {"group_size": 32, "bits": 4}
    assert quantization["model.layers.3.mlp.gate"] == {"group_size": 64, "bits": 8}
    assert len(quantization) == 2 + 2 * 4
    down = tensors_of(folder)["model.layers.0.mlp.switch_mlp.down_proj.scales"]
    assert down.shape == (16, 256, 3)


@pytest.mark.parametrize("quant", QUANTS)
def test_weights_have_zero_mean_and_the_deviation_that_keeps_activations_finite(quant: str, cache: Path) -> None:
    tensors = tensors_of(ensure_synthetic("tiny", quant))
    bits = {"4bit": 4, "8bit": 8}.get(quant, 16)
    for stem, deviation in [
        ("model.layers.1.mlp.down_proj", 2 / 512**0.5),
        ("model.layers.2.self_attn.o_proj", 1.5 / 256**0.5),
        ("lm_head", 1 / 256**0.5),
        ("model.embed_tokens", 0.05),
    ]:
        values = unpacked(tensors, stem, bits) if bits < 16 else tensors[f"{stem}.weight"].astype("f4")
        # 16-bit values are one random mantissa under one exponent: their deviation is within a factor of the square root of 2
        assert values.std() == pytest.approx(deviation, rel=0.02 if bits < 16 else 0.45)
        assert abs(values.mean()) < 0.03 * deviation
    norm = tensors["model.layers.0.input_layernorm.weight"].astype("f4")
    assert norm.mean() == pytest.approx(1.0, abs=0.02) and norm.std() == pytest.approx(0.05, rel=0.2)


@pytest.mark.parametrize(
    ("quant", "digest"),
    [
        ("BF16", "a536f3355bb193fa906da18d6a54f7d24cd854b6c60ff0d39bb89aa8a60c1e8e"),
        ("F16", "26c5923807cab4b1aee10db8cae691cdf79e198103b0a42aabce7a8147b51359"),
        ("4bit", "e6a038589ea37307f42208a650801fb35d451d33f1624d8acc23bb6ade2cf094"),
        ("8bit", "087fd043ac85d682d1e5defc928f005fd5938ca23815dc841985a646568f0c47"),
    ],
)
def test_the_bytes_are_the_same_everywhere(quant: str, digest: str, cache: Path) -> None:
    """A change here makes results of synthetic models incomparable: raise FOLDER_VERSION with it."""
    content = (ensure_synthetic("tiny", quant) / "model.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest


@pytest.mark.parametrize("model_id", ["llama-3.2-1b", "qwen2.5-0.5b", "qwen3-0.6b", "qwen3-30b-a3b"])
@pytest.mark.parametrize("quant", ["BF16", "4bit"])
def test_each_architecture_as_the_readers_know_it(
    model_id: str, quant: str, small: Callable[[str], Shape], tmp_path: Path
) -> None:
    """The safetensors library reads the file, the tokenizers library the vocabulary: neither is ours."""
    safetensors = pytest.importorskip("safetensors")
    tokenizers = pytest.importorskip("tokenizers")
    one = small(model_id)
    write_synthetic(one, quant, tmp_path / "m")
    with safetensors.safe_open(tmp_path / "m" / "model.safetensors", "numpy") as file:
        names = set(file.keys())
        assert ("lm_head.weight" in names) != one.tied
        assert ("model.layers.0.self_attn.q_proj.bias" in names) == one.qkv_bias
        assert ("model.layers.0.self_attn.q_norm.weight" in names) == bool(one.qk_norm)
        assert ("model.layers.3.mlp.experts.7.up_proj.weight" in names) == (one.experts > 0 and quant == "BF16")
        assert ("model.layers.3.mlp.switch_mlp.up_proj.scales" in names) == (one.experts > 0 and quant == "4bit")
        assert file.get_slice("model.layers.0.self_attn.k_proj.weight").get_shape() == [
            128,
            32 if quant == "4bit" else 256,
        ]
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "m" / "tokenizer.json"))
    text = "Hello, world!  tt\n äöü 漢字"
    assert tokenizer.get_vocab_size() == one.vocab
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.encode("a t").ids[1] == 256  # the one merge: a space and a t


def test_resolve_gives_each_backend_what_it_opens(cache: Path) -> None:
    for quant, formats, kind in [
        ("BF16", ("mlx", "safetensors"), "safetensors"),
        ("4bit", ("mlx", "safetensors"), "mlx"),
        ("f16", ("safetensors",), "safetensors"),
        ("F16", ("gguf",), "gguf"),
        ("F16", ("safetensors", "gguf"), "safetensors"),
        ("Q8_0", ("safetensors", "gguf"), "gguf"),
    ]:
        model = resolve(f"synthetic:tiny:{quant}", formats=formats)
        assert model.file.format == kind
        assert model.facts is not None and model.facts.synthetic
        assert model.file.path is not None and Path(model.file.path).exists()
        assert resolve(f"synthetic:tiny:{quant}", formats=formats, fetch=False) == model
    assert [(one.spec, one.format) for one in local_models()] == [
        ("synthetic:tiny:4bit", "mlx"),
        ("synthetic:tiny:BF16", "safetensors"),
        ("synthetic:tiny:F16", "gguf"),
        ("synthetic:tiny:F16", "safetensors"),
        ("synthetic:tiny:Q8_0", "gguf"),
    ]


def test_a_plan_and_the_simulator_need_no_folder(cache: Path) -> None:
    for formats in (("mlx", "safetensors", "shape"), ("shape", "gguf", "mlx")):
        model = resolve("synthetic:llama-3.1-70b:4bit", formats=formats, fetch=False)
        assert model.file.path is None
        assert model.facts is not None and model.facts.dense_bytes == pytest.approx(4.5 / 8 * 69.5e9, rel=0.01)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("spec", "formats", "message"),
    [
        ("tiny:Q4_K_M", ("mlx", "safetensors"), "opens mlx and safetensors, .* made in BF16, F16, 4bit, 8bit"),
        ("tiny:Q4_K_M", ("mlx", "safetensors", "shape"), "made in BF16, F16, 4bit, 8bit"),
        ("tiny:4bit", ("safetensors",), r"opens safetensors, synthetic models are made in BF16, F16\."),
        ("tiny:4bit", ("gguf",), "No quantisation '4bit' among"),
        ("tiny:Q9", ("shape", "gguf", "mlx"), "No quantisation 'Q9' among F32, F16"),
    ],
)
def test_a_quantisation_that_the_format_does_not_have(
    spec: str, formats: tuple[str, ...], message: str, cache: Path
) -> None:
    with pytest.raises(InputError, match=message):
        resolve(f"synthetic:{spec}", formats=formats)


@pytest.mark.parametrize("model_id", ["mixtral-8x7b", "gemma-2-2b"])
def test_a_shape_that_is_not_written_as_a_folder(model_id: str, cache: Path) -> None:
    with pytest.raises(UnavailableError, match=f"{model_id} cannot be made as a folder of safetensors"):
        ensure_synthetic(model_id, "4bit")


def test_what_is_not_here_is_said_without_fetching(cache: Path) -> None:
    with pytest.raises(
        UnavailableError, match="has not been made yet; `rigbench models make tiny 4bit --format mlx` makes it"
    ):
        resolve("synthetic:tiny:4bit", formats=("mlx",), fetch=False)
    assert not (cache / "models").exists()


def test_a_whole_folder_is_left_alone_and_a_wrong_one_is_made_anew(cache: Path) -> None:
    folder = ensure_synthetic("tiny", "4bit")
    weights = folder / "model.safetensors"
    good, before = weights.read_bytes(), weights.stat().st_mtime_ns
    assert ensure_synthetic("TINY", "4BIT") == folder
    assert weights.stat().st_mtime_ns == before
    for wrong in (good[:-1], b"", b"x" + good[1:]):
        weights.write_bytes(wrong)
        ensure_synthetic("tiny", "4bit")
        assert weights.read_bytes() == good
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
        ensure_synthetic("tiny", "4bit")
        assert is_whole(folder, plan(shape("tiny"), "4bit"))
    assert [one.name for one in folder.parent.iterdir() if one.suffix == ".part"] == []


def test_what_a_killed_writer_left_is_swept_away(cache: Path) -> None:
    left = synthetic_folder.synthetic_path("tiny", "4bit").with_name("tiny-4bit.part")
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    assert is_whole(ensure_synthetic("tiny", "4bit"), plan(shape("tiny"), "4bit"))
    assert not left.exists()


def test_a_disk_that_fills_leaves_nothing_behind(cache: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1 << 20, hard)
    )  # the kernel refuses what goes beyond, as a full disk does
    try:
        with pytest.raises(UnavailableError, match=r"tiny-BF16 could not be written to .*: File too large"):
            ensure_synthetic("tiny", "BF16")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [one.name for one in (cache / "models" / "synthetic").iterdir() if one.suffix != ".lock"] == []


def test_too_little_room_is_said_before_anything_is_written(cache: Path) -> None:
    huge = replace(shape("llama-3.1-405b"), layers=2_000, vocab=512)
    with pytest.raises(UnavailableError, match=r"big needs 12\.8 TB and .* free; make room, or set RIGBENCH_CACHE"):
        write_synthetic(huge, "BF16", cache / "big")
    assert not (cache / "big").exists()


def test_two_processes_at_once_write_one_whole_folder(cache: Path) -> None:
    line = "from rigbench.models.synthetic.folder import *; ensure_synthetic('tiny-moe', '8bit')"
    started = [subprocess.Popen([sys.executable, "-c", line]) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    folder = synthetic_folder.synthetic_path("tiny-moe", "8bit")
    assert is_whole(folder, plan(shape("tiny-moe"), "8bit"))


def test_progress_ends_at_the_whole_size(cache: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    folder = ensure_synthetic("tiny", "8bit", lambda *call: steps.append(call))
    size = (folder / "model.safetensors").stat().st_size
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert steps[-1] == ("tiny-8bit", size, size)


def test_memory_is_constant() -> None:
    """70 B are laid down out of a few buffers of 8 MB; only the pieces' lengths are summed here."""
    planned = plan(replace(shape("llama-3.1-70b"), vocab=512), "4bit")
    tracemalloc.start()
    written = sum(len(piece) for piece in synthetic_folder._content(planned))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert written == planned.file_bytes > 35e9
    assert peak < 250e6
