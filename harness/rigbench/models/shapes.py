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
from typing import Any

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
_KINDS: dict[str, Any] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
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
        values[key] = float(value) if kind == "float" else value
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
    found: dict[str, Shape] = {}
    for path in paths:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{path.name} in configs/models cannot be read: {error}.") from None
        defaults = {"family": path.stem, **content.get("defaults", {})}
        for table in content.get("model", []):
            where = f"configs/models/{path.name}, model {table.get('id', '?')!r}"
            shape = shape_from_table({**defaults, **table}, where)
            if shape.id in found:
                raise InputError(f"{where}: the id is there twice.")
            found[shape.id] = shape
    return found


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
    found = shapes().get(model_id) or shapes().get(model_id.lower())
    if found is None:
        raise InputError(f"No model {model_id!r} in the catalogue{did_you_mean(model_id.lower(), shapes())}")
    return found


@cache
def _words(name: str) -> frozenset[str]:
    """The words of a model's name: 'Llama-3.1-8B', 'llama3.1 8b' and 'meta-llama/Llama-3.1-8B' share all of theirs."""
    text = name.lower().rsplit("/", 1)[-1]
    text = re.sub(r"([a-z]{3,})(\d)", r"\1 \2", text)
    return frozenset(re.findall(r"\d+x\d+b|[a-z]*\d+(?:\.\d+)?[a-z]*|[a-z]+", text))


def find_shape(name: str, parameters: float | None = None, active: float | None = None) -> tuple[Shape, bool]:
    """The catalogued shape for a name, and whether it is this very model (False: the nearest in size stands in).

    Raises InputError where neither the name nor the parameters tell anything.
    """
    words = _words(name)
    near = [each for each in shapes().values() if parameters is None or 0.85 < each.parameters / parameters < 1.18]
    fitting = [shape for shape in near if _words(shape.id) <= words]
    if fitting:
        return max(fitting, key=lambda shape: (len(_words(shape.id)), -_distance(shape, parameters, active))), True
    if parameters is None:
        raise InputError(f"no model {name!r} in the catalogue, and its number of parameters is not stated")
    return min(shapes().values(), key=lambda shape: _distance(shape, parameters, active)), False


def _distance(shape: Shape, parameters: float | None, active: float | None) -> float:
    if parameters is None:
        return 0.0
    own_active = shape.active_parameters or shape.parameters
    return abs(math.log(shape.parameters / parameters)) + abs(math.log(own_active / (active or parameters)))
