"""From what a person writes to a model that can be opened: its facts, and the file or folder where it is.

The forms of a name are those of models/names.py. A backend that needs no file (format `shape`) gets the facts of `synthetic:`
and catalogued models without any being made.

    python -c "from rigbench.models.resolve import resolve; print(resolve('synthetic:tiny:Q8_0', formats=('gguf',)))"
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

from rigbench.errors import InputError, UnavailableError
from rigbench.models import Progress, held, hub
from rigbench.models.footprint import catalogued_facts
from rigbench.models.formats.folders import facts_from_safetensors
from rigbench.models.formats.gguf import facts_from_gguf, file_in, holds_tokenizer, part_names, parts_of
from rigbench.models.hashes import sha256_of
from rigbench.models.mixes import MIXES
from rigbench.models.names import ModelName, model_name, one_of, quantisation
from rigbench.models.shapes import Location, Shape, shapes
from rigbench.models.shapes import shape as catalogued
from rigbench.models.synthetic import folder, gguf
from rigbench.models.synthetic.folder import FOLDER_QUANTS
from rigbench.models.synthetic.weights import synthetic_folder
from rigbench.paths import cache_dir
from rigbench.records import ModelFacts
from rigbench.text import did_you_mean
from rigbench.units import bytes_text
from rigbench_backends.base import TOKENIZER_FILES, ModelFile, StepBytes

FREE_FORMATS = ("shape", "remote")
"""Formats of backends that read no file: the facts are all there is to resolve."""
MADE_IN = {"gguf": MIXES, **FOLDER_QUANTS}
"""In which quantisations synthetic models are made, by the format."""
FOLDER_FORMATS = ("mlx", "safetensors")
_PLAIN = ("BF16", "F16", "F32")
_MLX_ONLY = ("4bit", "8bit")
_DEFAULT_QUANT = "Q4_K_M"
_SUGGESTED = {"mlx": "4bit", "safetensors": "BF16"}
"""What to write in place of the default for backends that open these first."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model's facts (None where a server alone knows them), and what a backend is given to open."""

    facts: ModelFacts | None
    file: ModelFile
    tokenizer: bool | None = None
    """Whether its files can turn text into tokens; None where that is not known."""

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def sha256(self) -> str | None:
        return self.facts.sha256 if self.facts else None


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that is on this machine; `spec` is what to write to use it."""

    spec: str
    path: str
    format: str
    bytes: int


def resolve(
    spec: str, *, formats: tuple[str, ...], progress: Progress | None = None, fetch: bool = True
) -> ResolvedModel:
    """The model that `spec` names, for a backend that opens `formats`; made or fetched now if it is not here yet.

    With `fetch=False` nothing is downloaded or made, and what is not here is an error. Raises InputError (no such model, not a
    model, not a format of this backend) or UnavailableError (cannot be made, cannot be fetched), in one sentence.
    """
    name = model_name(spec)
    if name.kind == "synthetic":
        return _synthetic(name, formats, progress, fetch)
    if name.kind == "remote":
        if "remote" not in formats:
            raise InputError(f"{spec}: this backend opens {' and '.join(formats)}, not a model behind a server.")
        return ResolvedModel(None, ModelFile(name.name, None, "remote"))
    if name.kind == "hf":
        return _opened(_from_hub(name.name, name.file, spec, progress, fetch), formats)
    if name.kind == "path":
        return _opened(Path(spec).expanduser(), formats)
    if name.kind == "ollama":
        model, called = _opened(held.ollama_file(name.name), formats), re.sub("[:/]", "-", name.name)
        facts = replace(model.facts, name=called) if model.facts else None
        return ResolvedModel(facts, replace(model.file, name=called))
    return _from_catalogue(name, formats, progress, fetch)


def facts_of(spec: str, quant: str) -> ModelFacts:
    """Facts to predict with: a file's or folder's own, or a catalogued shape's in its quantisation, else in `quant`.

    Raises InputError for what is neither.
    """
    name = model_name(spec)
    if name.kind == "path":
        return _read(Path(spec).expanduser())
    if name.kind == "ollama":
        return _read(held.ollama_file(name.name))
    if name.kind in ("hf", "remote"):
        raise InputError(f"{spec}: only what is here or catalogued can be predicted; name a file or a catalogue id.")
    return catalogued_facts(name.name, name.quant or quant)


def _place(path: Path) -> Path:
    """`path`, or the GGUF file in it where it is a folder of such files."""
    if path.is_dir() and not any(path.glob("*.safetensors")):
        return file_in(path) or path
    return path


def _read(path: Path) -> ModelFacts:
    path = _place(path)
    return facts_from_safetensors(path) if path.is_dir() else facts_from_gguf(path)


def _opened(path: Path, formats: tuple[str, ...]) -> ResolvedModel:
    """A file or folder, by what is in it."""
    path = _place(path)
    facts = _read(path)
    parts = parts_of(path) if path.is_file() else [path]
    path = parts[0]
    openable = {facts.format}
    if facts.format in FOLDER_FORMATS and facts.quantization in _PLAIN:
        openable |= set(FOLDER_FORMATS)  # without quantisation, MLX and others read the same files
    can_open = bool(openable & set(formats))
    if not can_open and not set(formats) & set(FREE_FORMATS):
        raise InputError(f"{path.name} is a {facts.format} model, and this backend opens {' and '.join(formats)}.")
    digest, of = sha256_of(path)
    facts = replace(facts, sha256=digest, sha256_of=of)
    model = _resolved(facts, str(path.absolute()) if can_open else None)
    if [part.name for part in parts] != part_names(path.name):
        model = replace(model, file=replace(model.file, parts=tuple(str(part.absolute()) for part in parts)))
    in_folder = any((path / name).is_file() for name in TOKENIZER_FILES)
    return replace(model, tokenizer=(in_folder if path.is_dir() else holds_tokenizer(path)) if can_open else None)


def _resolved(facts: ModelFacts, path: str | None = None) -> ResolvedModel:
    read = StepBytes(**{field.name: getattr(facts, field.name) for field in fields(StepBytes)})
    return ResolvedModel(facts, ModelFile(facts.name, path, facts.format if path else "shape", read))


def _synthetic(name: ModelName, formats: tuple[str, ...], progress: Progress | None, fetch: bool) -> ResolvedModel:
    spec, shape_id, quant = name.text, name.name, name.quant
    if not shape_id or not quant:
        raise InputError(f"{spec!r} names no shape and quantisation; write for example synthetic:llama-1.5b:Q4_K_M.")
    shape = catalogued(shape_id)
    made_in = {one for one, quants in MADE_IN.items() if quant.upper() in map(str.upper, quants)}
    place = next((one for one in formats if one in FREE_FORMATS or one in made_in), None)
    opened = [one for one in formats if one not in FREE_FORMATS]
    if place is None or (place in FREE_FORMATS and formats[0] not in FREE_FORMATS):
        if opened == ["gguf"]:
            one_of(quant, MIXES)
        makers = ", ".join(dict.fromkeys(known for one in opened for known in MADE_IN.get(one, ())))
        backend = f"a backend that opens {' and '.join(opened)}"
        raise InputError(f"{spec}: for {backend}, synthetic models are made in {makers}.")
    in_folder = place in FOLDER_QUANTS or (place in FREE_FORMATS and quant.lower() in _MLX_ONLY)
    maker = folder if in_folder else gguf
    if set(formats) & set(FREE_FORMATS):
        return _resolved(maker.facts_from_shape(shape, quant))
    if not fetch and not maker.synthetic_path(shape.id, quant).exists():
        command = f"rigbench models make {shape_id} {quant}{f' --format {place}' if in_folder else ''}"
        raise UnavailableError(f"{spec} has not been made yet; `{command}` makes it.")
    return _opened(maker.ensure_synthetic(shape.id, quant, progress), formats)


def _from_hub(repo: str, file: str, spec: str, progress: Progress | None, fetch: bool) -> Path:
    """`file` of a repository with all its parts (the path of the first), or the folder of the repository."""
    names = [str(Path(file).with_name(name)) for name in part_names(Path(file).name)] if file else []
    hub.check_names(repo, file or None)
    if not fetch and (any(hub.find_file(repo, name) is None for name in names) or not (file or hub.find_folder(repo))):
        raise UnavailableError(f"{spec} is not on this machine; `rigbench models fetch {spec}` fetches it.")
    if not file:
        return hub.download_folder(repo, progress)
    first, *_ = [hub.download_file(repo, name, progress) for name in names]
    return first


def _from_catalogue(name: ModelName, formats: tuple[str, ...], progress: Progress | None, fetch: bool) -> ResolvedModel:
    spec, model_id, quant = name.text, name.name, name.quant
    if model_id.lower() not in shapes():
        nearest = did_you_mean(model_id.lower(), shapes())
        raise InputError(f"{spec!r} is no file and no model of the catalogue{nearest}")
    shape = catalogued(model_id)
    if formats[0] in FREE_FORMATS:
        return _resolved(gguf.facts_from_shape(shape, quant or _DEFAULT_QUANT))
    synthetic = f"synthetic:{shape.id}:{quant or _SUGGESTED.get(formats[0], _DEFAULT_QUANT)}"
    if shape.family == "synthetic":
        raise InputError(f"{model_id} exists only as a synthetic model; write {synthetic}.")
    for place in formats:
        if place in shape.where:
            repo, file = _choose(shape, place, quant)
            if set(formats) & set(FREE_FORMATS):
                return _resolved(_facts_to_come(shape, place, quant))
            return _opened(_from_hub(repo, file, spec, progress, fetch), formats)
    raise InputError(
        f"The catalogue knows no {' or '.join(formats)} repository of {shape.id}; name a file, or hf:OWNER/REPO/FILE.gguf"
        f", or {synthetic}."
    )


def _usual(location: Location) -> str:
    """The quantisation to take where none is asked for; empty where there is no choice."""
    choices = location.choices()
    return _DEFAULT_QUANT if _DEFAULT_QUANT in choices else next(iter(choices), "")


def _facts_to_come(shape: Shape, place: str, quant: str) -> ModelFacts:
    """What a repository's files will tell once they are fetched, from the shape alone."""
    quant = quant or _usual(shape.where[place]) or _SUGGESTED.get(place, _DEFAULT_QUANT)
    if place in FOLDER_FORMATS:
        with suppress(InputError, UnavailableError):  # of a family or kind of which rigbench writes no folders
            return folder.facts_from_shape(shape, quant)
    alike = quantisation(quant).mix
    return replace(gguf.facts_from_shape(shape, alike), name=f"{shape.id}-{quant}", quantization=quant)


def _choose(shape: Shape, place: str, quant: str) -> tuple[str, str]:
    """(repository, file) of a quantisation, or of the usual one where none is asked for; file is empty for whole repositories."""
    location = shape.where[place]
    choices = location.choices()
    if not choices:
        if quant and quant.upper() not in ("BF16", "F16", "MXFP4"):
            raise InputError(f"{shape.id} has only its own precision in {location.repo}; leave out {quant!r}.")
        return location.repo, ""
    quant = quant or _usual(location)
    for name, choice in choices.items():
        if name.lower() == quant.lower():
            return choice
    raise InputError(
        f"The catalogue has {shape.id} for {place} in {', '.join(choices)}, not in {quant}; or name hf:OWNER/REPO/FILE.gguf."
    )


def download_of(spec: str, formats: tuple[str, ...]) -> str | None:
    """The sentence on what `resolve` would download for a backend that opens `formats`; None where nothing. No network."""
    name, place, size = model_name(spec), "", ""
    if name.kind == "hf":
        repo, file = name.name, name.file
    elif name.kind == "catalogue" and not set(formats) & set(FREE_FORMATS) and name.name.lower() in shapes():
        shape = catalogued(name.name)
        place = next((one for one in formats if one in shape.where), "")
        if not place or shape.family == "synthetic":
            return None
        repo, file = _choose(shape, place, name.quant)
        size = f"about {bytes_text(_facts_to_come(shape, place, name.quant).file_bytes)} "
    else:
        return None
    if (hub.find_file(repo, file) if file else hub.find_folder(repo)) is not None:
        return None
    return f"{spec} is not here: {size}from {repo} {'have' if size else 'has'} to be downloaded"


def local_models() -> list[LocalModel]:
    """Models that are here, by name: synthetic ones, downloaded ones, and GGUF files of huggingface_hub, Ollama and LM Studio."""
    from huggingface_hub.constants import HF_HUB_CACHE

    synthetic_models, own, shared = synthetic_folder(), cache_dir() / "models" / "hub", Path(HF_HUB_CACHE)
    listed = [(_synthetic_spec(file.stem), file, "gguf") for file in synthetic_models.glob("*.gguf")]
    for config in synthetic_models.glob("*/config.json"):
        folder = config.parent
        quant = folder.name.rpartition("-")[2]
        if quant in FOLDER_QUANTS["mlx"]:
            kind = "safetensors" if quant in FOLDER_QUANTS["safetensors"] else "mlx"
            listed.append((_synthetic_spec(folder.name), folder, kind))
    listed += [(f"hf:{file.relative_to(own).as_posix()}", file, "gguf") for file in own.glob("*/*/**/*.gguf")]
    for config in own.glob("*/*/config.json"):
        listed.append((f"hf:{config.parent.relative_to(own).as_posix()}", config.parent, "safetensors"))
    for file in shared.glob("models--*--*/snapshots/*/**/*.gguf"):
        repo, _, _, *inside = file.relative_to(shared).parts
        repo = repo.removeprefix("models--").replace("--", "/", 1)
        listed.append((f"hf:{repo}/{'/'.join(inside)}", file, "gguf"))
    listed += [(f"ollama:{name}", file, "gguf") for name, file in held.ollama_models().items()]
    listed += [(str(file), file, "gguf") for file in held.lmstudio_files()]
    models = [LocalModel(spec, str(path), kind, _size_bytes(path)) for spec, path, kind in listed]
    return sorted((model for model in models if model.bytes), key=lambda model: model.spec)


def _synthetic_spec(name: str) -> str:
    shape_id, _, quant = name.rpartition("-")
    return f"synthetic:{shape_id}:{quant}"


def _size_bytes(path: Path) -> int:
    """Of a model's file or folder; 0 where a folder has no weights or a link leads nowhere."""
    files = path.glob("*.safetensors") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
