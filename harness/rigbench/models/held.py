"""Models that other programs of this machine hold as GGUF files: Ollama's blobs, which no name shows, and LM Studio's folder.

ollama:llama3.1:8b        the file of a model of Ollama (OLLAMA_MODELS, ~/.ollama/models)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from rigbench.errors import InputError
from rigbench.text import hint

MODEL_LAYER = "application/vnd.ollama.image.model"
REGISTRY = "registry.ollama.ai/"
LIBRARY = f"{REGISTRY}library/"
SYSTEM_FOLDER = Path("/usr/share/ollama/.ollama/models")
"""Of Ollama as a service of Linux."""


def ollama_models() -> dict[str, Path]:
    """The file of each model that Ollama holds, by the name that `ollama list` shows."""
    own = os.environ.get("OLLAMA_MODELS")
    folders = [Path(own).expanduser()] if own else [Path.home() / ".ollama" / "models", SYSTEM_FOLDER]
    return {name: file for folder in reversed(folders) for name, file in _manifests(folder)}


def _manifests(folder: Path) -> Iterator[tuple[str, Path]]:
    for manifest in sorted((folder / "manifests").glob("*/*/*/*")):
        try:
            layers = json.loads(manifest.read_bytes())["layers"]
            digest = next(str(each["digest"]) for each in layers if each["mediaType"] == MODEL_LAYER)
        except (OSError, ValueError, LookupError, TypeError, StopIteration):
            continue
        file = folder / "blobs" / digest.replace(":", "-")
        if file.is_file():
            *where, tag = manifest.relative_to(folder / "manifests").parts
            yield f"{'/'.join(where)}:{tag}".removeprefix(LIBRARY).removeprefix(REGISTRY), file


def ollama_file(name: str) -> Path:
    """The file of a model of Ollama. InputError with what there is."""
    known = ollama_models()
    path = known.get(name) or known.get(f"{name}:latest")
    if path is None:
        raise InputError(
            f"Ollama holds no model {name!r} here; {hint(name, known) if known else 'it holds none at all'}"
        )
    return path


def lmstudio_files() -> list[Path]:
    """GGUF files of LM Studio, without projectors of images."""
    folders = [Path.home() / ".lmstudio" / "models", Path.home() / ".cache" / "lm-studio" / "models"]
    files = [file for folder in folders for file in folder.glob("*/*/*.gguf")]
    return sorted(file for file in files if not file.name.startswith("mmproj"))
