"""Models that Ollama and LM Studio hold, by the names that people know them by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rigbench.errors import InputError
from rigbench.models.resolve import facts_of, local_models, resolve
from rigbench.models.synthetic.gguf import ensure_synthetic


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = ensure_synthetic("tiny", "Q8_0").read_bytes()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    ollama = tmp_path / ".ollama" / "models"
    (ollama / "blobs").mkdir(parents=True)
    (ollama / "blobs" / "sha256-00ff").write_bytes(model)
    for place in ("registry.ollama.ai/library/llama3.1/8b", "registry.ollama.ai/me/own/latest", "hf.co/a/b/Q4"):
        manifest = ollama / "manifests" / place
        manifest.parent.mkdir(parents=True)
        layers = [{"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:11"}]
        layers.append({"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:00ff"})
        manifest.write_text(json.dumps({"layers": layers}))
    (ollama / "manifests" / "hf.co" / "a" / "b" / "broken").write_text("{")
    studio = tmp_path / ".lmstudio" / "models" / "pub" / "repo"
    studio.mkdir(parents=True)
    (studio / "small.gguf").write_bytes(model)
    (studio / "mmproj-small.gguf").write_bytes(model)
    return tmp_path


def test_they_are_listed_by_what_to_write(home: Path) -> None:
    specs = {model.spec for model in local_models()}
    assert {"ollama:llama3.1:8b", "ollama:me/own:latest", "ollama:hf.co/a/b:Q4"} <= specs
    assert str(home / ".lmstudio" / "models" / "pub" / "repo" / "small.gguf") in specs
    assert not any("mmproj" in spec for spec in specs)


def test_a_model_of_ollama_is_opened_under_its_own_name(home: Path) -> None:
    model = resolve("ollama:llama3.1:8b", formats=("gguf",))
    assert model.name == "llama3.1-8b" and model.facts and model.facts.name == "llama3.1-8b"
    assert model.file.path == str(home / ".ollama" / "models" / "blobs" / "sha256-00ff")
    assert facts_of("ollama:llama3.1:8b", "").file_bytes == model.facts.file_bytes


def test_an_unknown_one_is_answered_with_what_there_is(home: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean llama3.1:8b\?"):
        resolve("ollama:lama3.1:8b", formats=("gguf",))
