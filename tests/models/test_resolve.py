from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rigbench.errors import InputError, UnavailableError
from rigbench.models import hub
from rigbench.models.formats.gguf import header_bytes, value_bytes
from rigbench.models.resolve import _choose, local_models, resolve
from rigbench.models.shapes import shape, shapes
from rigbench.models.synthetic.gguf import ensure_synthetic, facts_from_shape, write_synthetic

GGUF = ("gguf",)


def _folder(path: Path, kind: str = "BF16", **config: Any) -> Path:
    path.mkdir()
    settings = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1, **config}
    (path / "config.json").write_text(json.dumps(settings))
    size = 16 * (2 if kind == "BF16" else 4)
    raw = json.dumps({"lm_head.weight": {"dtype": kind, "shape": [4, 4], "data_offsets": [0, size]}}).encode()
    (path / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(size))
    return path


def test_a_synthetic_model_is_made_and_described(cache: Path) -> None:
    model = resolve("synthetic:tiny:Q8_0", formats=GGUF)
    facts = facts_from_shape(shape("tiny"), "Q8_0")
    assert model.file.path == str(ensure_synthetic("tiny", "Q8_0"))
    read = model.file.step_bytes
    assert read is not None
    assert (model.file.format, read.context_limit) == ("gguf", 2048)
    assert read.dense_bytes == facts.dense_bytes
    assert read.kv_bytes_per_token == 2048
    assert model.facts.synthetic and model.facts.sha256_of == "file"
    assert model.facts.dense_bytes == facts.dense_bytes


def test_the_simulator_needs_no_file(cache: Path) -> None:
    for spec in ("synthetic:llama-3.1-405b:Q4_K_M", "llama-3.1-405b:Q4_K_M", "llama-3.1-405b"):
        model = resolve(spec, formats=("shape", "gguf"), fetch=False)
        assert model.file.path is None and model.file.format == "shape"
        assert model.facts.parameters == 405_853_388_800
    assert not cache.exists()


def test_a_path(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_synthetic(shape("tiny"), "Q4_0", path := tmp_path / "mine.gguf")
    assert resolve(str(path), formats=GGUF).facts.name == "mine"
    monkeypatch.chdir(tmp_path)
    assert resolve("mine.gguf", formats=GGUF).file.path == str(path)
    with pytest.raises(InputError, match=r"mine\.gguf is a gguf model, and this backend opens mlx"):
        resolve("mine.gguf", formats=("mlx",))


def test_a_folder_of_one_gguf_model(cache: Path, tmp_path: Path) -> None:
    """As a hub's folder is: the model, its projector, a config.json. Two models are a choice that nobody but the user can make."""
    write_synthetic(shape("tiny"), "Q4_0", tmp_path / "mine.gguf")
    (tmp_path / "config.json").write_text("{}")
    projector = [value_bytes("general.architecture", "clip"), value_bytes("general.type", "mmproj")]
    (tmp_path / "mmproj-mine.gguf").write_bytes(header_bytes(projector, [])[0])
    model = resolve(str(tmp_path), formats=GGUF)
    assert (model.name, model.file.path, model.tokenizer) == ("mine", str(tmp_path / "mine.gguf"), True)
    write_synthetic(shape("tiny"), "Q8_0", tmp_path / "other.gguf")
    with pytest.raises(InputError, match=r"holds 2 GGUF models: name one of mine\.gguf, other\.gguf"):
        resolve(str(tmp_path), formats=GGUF)


def test_folders(cache: Path, tmp_path: Path) -> None:
    plain, packed = _folder(tmp_path / "plain"), _folder(tmp_path / "packed", "U32", quantization={"bits": 4})
    for formats in (("mlx",), ("safetensors",)):
        assert resolve(str(plain), formats=formats).file.path == str(plain)
    assert resolve(str(packed), formats=("mlx",)).facts.quantization == "4bit"
    with pytest.raises(InputError, match="packed is a mlx model, and this backend opens safetensors"):
        resolve(str(packed), formats=("safetensors",))


def test_a_file_from_a_hub_with_all_its_parts(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[tuple[str, str]] = []

    def download(repo: str, file: str, progress: object) -> Path:
        fetched.append((repo, file))
        return ensure_synthetic("tiny", "Q8_0")

    monkeypatch.setattr(hub, "download_file", download)
    resolve("hf:me/models/sub/m-00001-of-00002.gguf", formats=GGUF)
    resolve("qwen3-30b-a3b:q4_k_m", formats=GGUF)
    resolve("gpt-oss-20b", formats=GGUF)
    assert fetched == [
        ("me/models", "sub/m-00001-of-00002.gguf"),
        ("me/models", "sub/m-00002-of-00002.gguf"),
        ("unsloth/Qwen3-30B-A3B-GGUF", "Qwen3-30B-A3B-Q4_K_M.gguf"),
        ("ggml-org/gpt-oss-20b-GGUF", "gpt-oss-20b-mxfp4.gguf"),
    ]


def test_a_folder_from_a_hub_for_each_backend(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    folder = _folder(tmp_path / "plain")
    monkeypatch.setattr(hub, "download_folder", lambda repo, progress: fetched.append(repo) or folder)
    resolve("qwen3-30b-a3b", formats=("mlx",))
    resolve("qwen3-30b-a3b:8bit", formats=("mlx",))
    resolve("qwen3-30b-a3b", formats=("safetensors",))
    resolve("hf:me/models", formats=("safetensors",))
    assert fetched == [
        *("mlx-community/Qwen3-30B-A3B-4bit", "mlx-community/Qwen3-30B-A3B-8bit", "Qwen/Qwen3-30B-A3B", "me/models")
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "The model's name is empty"),
        ("synthetic:tiny", "write for example synthetic:llama-1.5b:Q4_K_M"),
        ("synthetic:tinny:Q8_0", "did you mean tiny"),
        ("synthetic:tiny:Q9", "No quantisation 'Q9'"),
        ("hf:me", "is not hf:OWNER/REPO/FILE.gguf"),
        ("hf:me/models/m.bin", "does not name a .gguf file"),
        ("hf:../models/m.gguf", "is no repository of a hub"),
        ("nothing.gguf", "There is no file nothing.gguf"),
        ("./nothing", "There is no file nothing"),
        ("qwen3-30b", "'qwen3-30b' is no file and no model of the catalogue; did you mean qwen3-30b-a3b"),
        ("qwen3-30b-a3b:Q9", "The catalogue has qwen3-30b-a3b for gguf in Q4_K_M, Q8_0, not in Q9"),
        ("llama-160m", "exists only as a synthetic model; write synthetic:llama-160m:Q4_K_M"),
        ("llama-3.1-405b", "knows no gguf repository of llama-3.1-405b; .*, or synthetic:llama-3.1-405b:Q4_K_M"),
    ],
)
def test_names_that_lead_nowhere(
    spec: str, message: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        resolve(spec, formats=GGUF)
    assert "\n" not in str(raised.value)


def test_bad_files(cache: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.gguf"
    text.write_text("these are notes about models, and no model")
    with pytest.raises(InputError, match=r"notes\.gguf is not a GGUF file"):
        resolve(str(text), formats=GGUF)
    whole = ensure_synthetic("tiny", "Q8_0").read_bytes()
    half = tmp_path / "half.gguf"
    half.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"half\.gguf is cut off"):
        resolve(str(half), formats=GGUF)
    with pytest.raises(InputError, match=r"half\.gguf is cut off"):
        resolve(str(tmp_path), formats=GGUF)
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no config\.json"):
        resolve(str(empty), formats=GGUF)


@pytest.mark.parametrize(
    "spec", ["synthetic:tiny:F16", "hf:me/models/m.gguf", "hf:me/models", "qwen3-8b", "qwen3-8b:Q8_0"]
)
def test_without_fetching_what_is_not_here_is_said(spec: str, cache: Path) -> None:
    with pytest.raises(UnavailableError, match=r"has not been made yet|is not on this machine"):
        resolve(spec, formats=("gguf", "safetensors"), fetch=False)
    assert not (cache / "models").exists()


def test_a_format_that_synthetic_models_do_not_have(cache: Path) -> None:
    with pytest.raises(InputError, match="opens mlx, synthetic models are made in BF16, F16, 4bit, 8bit"):
        resolve("synthetic:tiny:Q8_0", formats=("mlx",))


def test_a_plan_speaks_of_the_quantisation_that_a_run_fetches(cache: Path) -> None:
    """Among them 30.5 billion weights at the 4.5 bits that MLX stores for each."""
    for spec, formats, name in (
        ("qwen3-30b-a3b", ("gguf",), "qwen3-30b-a3b-Q4_K_M"),
        ("qwen3-30b-a3b", ("mlx", "safetensors"), "qwen3-30b-a3b-4bit"),
        ("qwen3-30b-a3b:8bit", ("mlx", "safetensors"), "qwen3-30b-a3b-8bit"),
        ("qwen3-30b-a3b", ("safetensors",), "qwen3-30b-a3b-BF16"),
        ("gpt-oss-20b", ("gguf",), "gpt-oss-20b-MXFP4"),
        ("gpt-oss-20b", ("mlx", "safetensors"), "gpt-oss-20b-MXFP4"),
        ("gemma-3-27b", ("mlx", "safetensors"), "gemma-3-27b-4bit"),
    ):
        planned = resolve(spec, formats=(*formats, "shape"), fetch=False)
        assert planned.facts and planned.facts.name == name
        if name == "qwen3-30b-a3b-4bit":
            assert planned.facts.dense_bytes + planned.facts.expert_bytes == pytest.approx(30.5e9 * 4.5 / 8, rel=0.01)
    for spec in ("qwen3-30b-a3b:Q9", "llama-160m", "llama-3.1-405b"):
        with pytest.raises(InputError):
            resolve(spec, formats=("gguf", "shape"), fetch=False)
    assert not (cache / "models").exists()


def test_every_place_of_the_catalogue_can_be_asked_for() -> None:
    for one in shapes().values():
        for place, location in one.where.items():
            for quant in ["", *location.files, *location.repos]:
                repo, file = _choose(one, place, quant)
                hub.check_names(repo, file or None)
                assert not file or file.endswith(".gguf")


def test_models_at_hand(cache: Path, tmp_path: Path) -> None:
    assert local_models() == []
    ensure_synthetic("tiny-moe", "Q4_K_M")
    ensure_synthetic("tiny", "Q8_0")
    own = cache / "models/hub/me/models/sub"
    own.mkdir(parents=True)
    (own / "m.gguf").write_bytes(b"123")
    (own / "n.gguf.part").write_bytes(b"1")
    _folder(cache / "models/hub/me/folder")
    shared = tmp_path / "hf/models--you--more-names/snapshots/abc"
    shared.mkdir(parents=True)
    (shared / "o.gguf").write_bytes(b"1")
    assert [(one.spec, one.format) for one in local_models()] == [
        ("hf:me/folder", "safetensors"),
        ("hf:me/models/sub/m.gguf", "gguf"),
        ("hf:you/more-names/o.gguf", "gguf"),
        ("synthetic:tiny-moe:Q4_K_M", "gguf"),
        ("synthetic:tiny:Q8_0", "gguf"),
    ]
    for one in local_models():
        if one.spec.startswith("synthetic:"):
            assert resolve(one.spec, formats=GGUF, fetch=False).file.path == one.path
