"""Shapes of models: what is needed to count their weights and their cache without a file (configs/models/*.toml).

Every figure is from the model's published configuration. `parameters` is the published total: a test holds the count that
follows from the shape (harness/rigbench/models/tensors.py) to within 1 % of it, which no wrong layer, width or expert survives.

    python -c "from rigbench.models.shapes import shape; print(shape('qwen3-30b-a3b'))"
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from rigbench.errors import InputError
from rigbench.paths import configs_dir
from rigbench.text import did_you_mean


@dataclass(frozen=True, slots=True)
class Location:
    """Where a model is had in one format: `repo` with the file of each quantisation (GGUF), or with the whole model
    (safetensors), or a repository for each quantisation in `repos` (MLX)."""

    repo: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    repos: Mapping[str, str] = field(default_factory=dict)

    def choices(self) -> dict[str, tuple[str, str]]:
        """(repository, file) of each quantisation that it names; the file is empty where it is the whole repository."""
        own = {quant: (self.repo, file) for quant, file in self.files.items()}
        return own | {quant: (repo, "") for quant, repo in self.repos.items()}


@dataclass(frozen=True, slots=True)
class Shape:
    """One model. Sizes in elements; 0 or "" means that the model has no such thing.

    `window` tokens is how far back windowed layers look; every `full_every`-th layer looks back over everything (0: all
    layers are alike). `full_kv_heads` and `full_head_dim` are set where these layers differ. `shared_kv_layers` at the end
    keep no cache of their own. With `linear_v_heads` the layers between the full ones are recurrent (gated delta net) and
    keep a state of fixed size. `kv_lora_rank` > 0 means multi-head latent attention, with heads of `nope_dim` + `rope_dim`
    (keys) and `v_dim` (values). `dense_layers` lead, and of the rest every `moe_every`-th has experts.
    `qk_norm`: `head` (one weight per head element), `full` (per element of all heads, as a vector), `heads` (as a matrix).
    `aliases`: names of models that have this very shape.
    """

    id: str
    name: str
    architecture: str
    parameters: float
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int
    tied: bool = False
    family: str = ""
    active_parameters: float = 0.0
    source: str = ""
    experts: int = 0
    experts_used: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    moe_every: int = 1
    router_bias: bool = False
    window: int = 0
    full_every: int = 0
    full_kv_heads: int = 0
    full_head_dim: int = 0
    shared_kv_layers: int = 0
    q_lora_rank: int = 0
    kv_lora_rank: int = 0
    rope_dim: int = 0
    nope_dim: int = 0
    v_dim: int = 0
    linear_k_heads: int = 0
    linear_v_heads: int = 0
    linear_head_dim: int = 0
    linear_conv: int = 4
    per_layer_dim: int = 0
    qk_norm: str = ""
    qkv_bias: bool = False
    out_bias: bool = False
    post_norms: bool = False
    rope_base: float = 10_000.0
    aliases: tuple[str, ...] = ()
    where: Mapping[str, Location] = field(default_factory=dict, hash=False)

    def is_full(self, layer: int) -> bool:
        """Whether this layer attends over the whole context."""
        return self.full_every == 0 or layer % self.full_every == self.full_every - 1

    def is_windowed(self, layer: int) -> bool:
        """Whether this layer looks back over a window alone."""
        return self.window > 0 and not (self.full_every and self.is_full(layer))

    def is_recurrent(self, layer: int) -> bool:
        """Whether this layer keeps a state of fixed size instead of a cache."""
        return self.linear_v_heads > 0 and not self.is_full(layer)

    def has_experts(self, layer: int) -> bool:
        """Whether this layer's feed-forward part is a mixture of experts."""
        if self.experts == 0 or layer < self.dense_layers:
            return False
        return (layer - self.dense_layers) % self.moe_every == self.moe_every - 1


_POSITIVE = ("parameters", "layers", "hidden", "heads", "kv_heads", "head_dim", "vocab", "context")
_REQUIRED = ("id", "name", "architecture", "ffn", *_POSITIVE)
_KINDS: dict[str, Any] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "tuple[str, ...]": (list,),
}
_PLACES = ("gguf", "mlx", "safetensors")


def shape_from_table(table: Mapping[str, Any], where: str) -> Shape:
    """One `[[model]]` table as a Shape. `where` names file and place for the message. Raises InputError."""
    kinds = {item.name: str(item.type) for item in fields(Shape) if item.name != "where"}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in _PLACES:
            continue
        if key not in kinds:
            raise InputError(f"{where}: unknown key {key!r}{did_you_mean(key, kinds)}")
        kind = kinds[key]
        if not isinstance(value, _KINDS[kind]) or (kind != "bool" and isinstance(value, bool)):
            raise InputError(f"{where}: {key} = {value!r} is not of type {kind}.")
        if kind in ("int", "float") and not 0 <= value < math.inf:
            raise InputError(f"{where}: {key} = {value!r} must not be negative.")
        values[key] = float(value) if kind == "float" else tuple(value) if kind.startswith("tuple") else value
    if missing := [key for key in _REQUIRED if key not in table]:
        raise InputError(f"{where}: {missing[0]!r} is missing.")
    places = {place: _location(table[place], f"{where}, {place}") for place in _PLACES if place in table}
    shape = Shape(**values, where=places)
    for key in _POSITIVE:
        if getattr(shape, key) <= 0:
            raise InputError(f"{where}: {key} must be more than 0.")
    if shape.experts and not 0 < shape.experts_used <= shape.experts:
        raise InputError(f"{where}: {shape.experts_used} experts used of {shape.experts} is impossible.")
    if shape.heads % shape.kv_heads:
        raise InputError(f"{where}: {shape.heads} heads cannot share {shape.kv_heads} kv_heads evenly.")
    if shape.qk_norm not in ("", "head", "full", "heads"):
        raise InputError(f"{where}: qk_norm = {shape.qk_norm!r} must be head, full or heads.")
    return shape


def shapes_from_files(paths: Iterable[Path]) -> dict[str, Shape]:
    """All models of these files, by id. A file's `[defaults]` table holds for each of its models."""
    shapes_by_id: dict[str, Shape] = {}
    for path in paths:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{path.name} in configs/models cannot be read: {error}.") from None
        defaults = {"family": path.stem, **content.get("defaults", {})}
        for table in content.get("model", []):
            where = f"configs/models/{path.name}, model {table.get('id', '?')!r}"
            shape = shape_from_table({**defaults, **table}, where)
            if shape.id in shapes_by_id:
                raise InputError(f"{where}: the id is there twice.")
            shapes_by_id[shape.id] = shape
    return shapes_by_id


def _location(table: Any, where: str) -> Location:
    """`files` or `repos` are tables by quantisation, or one name with {quant} for each of the list `quants`."""
    if not isinstance(table, dict) or set(table) - {"repo", "files", "repos", "quants"}:
        raise InputError(f"{where} must be a table of repo, files, repos and quants.")
    values = dict(table)
    quants = values.pop("quants", [])
    for key in ("files", "repos"):
        if isinstance(values.get(key), str):
            values[key] = {quant: values[key].replace("{quant}", quant) for quant in quants}
    return Location(**values)


@cache
def shapes() -> Mapping[str, Shape]:
    """Every catalogued model, by id."""
    return MappingProxyType(shapes_from_files(sorted((configs_dir() / "models").glob("*.toml"))))


def shape(model_id: str) -> Shape:
    """The model of this id (upper and lower case alike). Raises InputError with the nearest ids."""
    match = shapes().get(model_id) or shapes().get(model_id.lower())
    if match is None:
        raise InputError(f"No model {model_id!r} in the catalogue{did_you_mean(model_id.lower(), shapes())}")
    return match


@cache
def _words(name: str) -> tuple[str, ...]:
    """The words of a model's name: 'Llama-3.1-8B', 'llama3.1:8b' and 'meta-llama/Llama-3.1-8B' have the same."""
    text = name.lower().rsplit("/", 1)[-1]
    text = re.sub(r"([a-z]{3,})(\d)", r"\1 \2", text)
    text = re.sub(r"(\db)(a\d)", r"\1 \2", text)
    text = re.sub(r"(\d)(vl|omni)\b", r"\1 \2", text)
    return tuple(re.findall(r"\d+x\d+b|[a-z]*\d+(?:\.\d+)?[a-z]*|[a-z]+", text))


_SIZE = re.compile(r"([ae]?)(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])")
"""'27b', 'a3b' (active), 'e4b' (effective), '8x7b', '270m'."""


def sizes_in(name: str) -> tuple[float | None, float | None]:
    """(parameters, active parameters) that a model's name states: (35e9, 3e9) of 'Qwen3.6-35B-A3B'; None where it states none."""
    sizes: dict[str, float] = {}
    for word in _words(name):
        if size := _SIZE.fullmatch(word):
            count = float(size[3]) * int(size[2] or 1) * (1e9 if size[4] == "b" else 1e6)
            sizes[size[1]] = max(sizes.get(size[1], 0), count)
    return sizes.get("", 2.2 * sizes.get("e", 0) or None), sizes.get("a")


class Relative(NamedTuple):
    """What is known of a model that has no shape of its own: which shape is like it, and its size where the name does not tell."""

    like: str
    parameters: float | None = None
    active: float | None = None
    layers: int | None = None
    state_bytes: int | None = None


@cache
def _relatives() -> dict[tuple[str, ...], Relative]:
    content = tomllib.loads((configs_dir() / "models" / "relatives.toml").read_text(encoding="utf-8"))
    return {
        _words(name): Relative(
            one["like"],
            parameters=one["billions"] * 1e9 if "billions" in one else None,
            active=one["active"] * 1e9 if "active" in one else None,
            layers=one.get("layers"),
            state_bytes=round(one["state_mb"] * 1e6) if "state_mb" in one else None,
        )
        for name, one in content["relatives"].items()
    }


def sizes_of(
    name: str, parameters: float | None = None, active: float | None = None
) -> tuple[float | None, float | None]:
    """(parameters, active parameters): as stated here, else in the name, else as configs/models/relatives.toml knows them."""
    known, named = relative(name), sizes_in(name)
    total = parameters or named[0] or (known and known.parameters)
    return total, active or named[1] or (known and known.active) or total


def relative(name: str) -> Relative | None:
    """What configs/models/relatives.toml knows of the model of this name."""
    words = set(_words(name))
    return _relatives().get(max((each for each in _relatives() if set(each) <= words), key=len, default=()))


def find_shape(name: str, parameters: float | None = None, active: float | None = None) -> tuple[Shape, bool]:
    """The catalogued shape for a name, and whether it is this very model (False: the nearest of its kind and size stands in).

    Raises InputError where neither the name nor the parameters tell the size, or where a name without one is that of several.
    """
    size, active_size = sizes_in(name)
    own = _named(name, size, active_size, parameters)
    if len(own) == 1:
        return own[0], True
    if own:
        raise InputError(f"{name!r} may be {', '.join(shape.id for shape in own)}: name one")
    if known := relative(name):
        return shape(known.like), False
    parameters, active = sizes_of(name, parameters, active)
    if parameters is None or active is None:
        nearest = did_you_mean(name.lower(), shapes())
        raise InputError(f"no model {name!r} in the catalogue, and its number of parameters is not stated{nearest}")
    sparse = active < 0.75 * parameters
    real = [shape for shape in shapes().values() if shape.family != "synthetic" and (shape.experts > 0) == sparse]
    words = set(_words(name))

    def distance(shape: Shape) -> float:
        ratio = abs(math.log(shape.parameters / parameters))
        own_active = shape.active_parameters or shape.parameters
        shared = len(words.intersection(_words(shape.id))) + (_words(shape.id)[0] in words)
        return ratio + abs(math.log(own_active / active)) - 0.1 * shared

    return min(real, key=distance), False


def _named(name: str, size: float | None, active: float | None, parameters: float | None) -> list[Shape]:
    """The shapes that this name is a spelling of, the longest spelling first; several only where they are equally likely."""
    words, text = set(_words(name)), f" {' '.join(_words(name))} "
    matches: list[tuple[tuple[int, ...], Shape]] = []
    for shape in shapes().values():
        for spelling in (shape.id, *shape.aliases):
            spelled = _words(spelling)
            sizes = {word for word in spelled if _SIZE.fullmatch(word)}
            missing = set(spelled) - words
            if sizes and size is not None:
                same = missing <= {word for word in sizes if word[0] == "a"} and not (missing and active)
                same = same and (parameters is None or 0.5 < shape.parameters / parameters < 2)
            elif sizes:
                rest = words - set(spelled)
                same = missing <= sizes < set(spelled) and not any(
                    re.fullmatch(r"v?\d{1,2}(\.\d+)?", word) for word in rest
                )
                same = same and (parameters is None or 0.85 < shape.parameters / parameters < 1.18)
            else:
                stated = parameters or size
                same = not missing and (stated is None or 0.85 < shape.parameters / stated < 1.18)
            if same and not (active and not shape.experts and not shape.per_layer_dim):
                adjoining = [f" {' '.join(spelled[:count])} " in text for count in (2, len(spelled))]
                matches.append(((len(set(spelled) & words), *adjoining, spelling == shape.id), shape))
    if not matches:
        return []
    best = max(rank for rank, _ in matches)
    return list({shape.id: shape for rank, shape in matches if rank == best}.values())
