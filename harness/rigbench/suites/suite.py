"""A suite: which prompts, how many users, how often, on which engines. TOML, in configs/suites/ or anywhere.

name = "example"                 # stands in the results and in case ids
version = "1"
about = "One line for people."

[load]
concurrency = [1, 2, 4, 8]       # users at once, each a level of its own
repetitions = 3                  # outermost: all levels once, then again
requests_per_user = 2            # or duration_s = 60
seed = 1
case_time_limit_s = 600          # a case that takes longer is killed and recorded as failed
settle_s = 0                     # longest wait before a case for a hot machine to cool

[warmup]                         # at the case's own concurrency, until 3 rounds differ by < tolerance in tpot
max_rounds = 5
tolerance = 0.03
prompt_tokens = 512              # at most; shorter workloads warm up with their own length
output_tokens = 16               # units at most: also denoising or optimizer steps (2 or more of them make a rate)

[[workload]]
name = "chat"                    # letters, digits, dots, dashes
kind = "text"                    # a standardized prompt | "tokens": seeded random token ids
prompt_tokens = 512
output_tokens = 128
concurrency = [1, 2]             # optional: this workload's own levels
prompt = "medium-512"            # optional, kind text: which file of configs/prompts/ (default: shortest that fits)

[[workload]]
name = "1024px"
kind = "image"                   # a batch of images from one text; the unit is a denoising step
width = 1024
height = 1024
steps = 30
batch = 1                        # images at once
guidance = 5.0                   # classifier-free guidance; 0: none

[[workload]]
name = "lora-512"
kind = "train"                   # optimizer steps on one seeded batch; the unit is a trained token
sequence_tokens = 512
batch = 4
steps = 10
method = "lora"                  # lora | qlora (weights in 4 bits) | full
rank = 8

[[engine]]                       # none at all: the default of rigbench, llama_cpp on a synthetic model
backend = "llama_cpp"
model = "synthetic:llama-160m:Q4_0"
python = "/opt/other/bin/python" # optional: the interpreter that has the engine
options = { n_gpu_layers = -1, flash_attn = "auto" }
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from rigbench.errors import InputError
from rigbench.paths import configs_dir
from rigbench.records import SuiteRecord
from rigbench.text import nearest
from rigbench.workloads import KINDS, Workload

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Users = Annotated[int, Field(ge=1, le=1024)]


def _each_once(levels: list[int]) -> list[int]:
    for level in levels:
        if levels.count(level) > 1:
            raise ValueError(f"{level} users are there twice: name each level once")
    return levels


Levels = Annotated[list[Users], Field(min_length=1, max_length=32), AfterValidator(_each_once)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Pixels = Annotated[int, Field(ge=64, le=8192, multiple_of=8)]
Steps = Annotated[int, Field(ge=2, le=10_000)]
Batch = Annotated[int, Field(ge=1, le=1024)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LoadPart(_Part):
    """`[load]`: the closed loop."""

    concurrency: Levels = [1, 2, 4, 8]
    repetitions: Annotated[int, Field(ge=1, le=100)] = 3
    requests_per_user: Annotated[int, Field(ge=1, le=1000)] = 2
    duration_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    seed: int = 1
    case_time_limit_s: Annotated[float, Field(gt=0, le=86_400)] = 900
    settle_s: Annotated[float, Field(ge=0, le=3600)] = 0


class WarmupPart(_Part):
    """`[warmup]`: rounds before each case, kept apart."""

    max_rounds: Annotated[int, Field(ge=0, le=20)] = 5
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.03
    prompt_tokens: Tokens = 512
    output_tokens: Tokens = 16


class _WorkloadBase(_Part):
    name: Name
    concurrency: Levels | None = None

    def work(self) -> Workload:
        """What a request of it is."""
        content = self.model_dump()
        kind = KINDS[content["kind"]]
        return kind(**{each.name: content[each.name] for each in fields(kind)})


class TextPart(_WorkloadBase):
    """`[[workload]]` of kind `text` or `tokens`: text generation."""

    kind: Literal["text", "tokens"]
    prompt_tokens: Tokens
    output_tokens: Annotated[int, Field(ge=2, le=1_000_000)]
    prompt: Name | None = None


class ImagePart(_WorkloadBase):
    """`[[workload]]` of kind `image`."""

    kind: Literal["image"]
    width: Pixels
    height: Pixels
    steps: Steps
    batch: Batch = 1
    guidance: Annotated[float, Field(ge=0, le=100)] = 0.0


class TrainingPart(_WorkloadBase):
    """`[[workload]]` of kind `train`."""

    kind: Literal["train"]
    sequence_tokens: Tokens
    batch: Batch = 1
    steps: Steps
    method: Literal["lora", "qlora", "full"] = "lora"
    rank: Annotated[int, Field(ge=1, le=1024)] = 8


PARTS: dict[str, type[TextPart | ImagePart | TrainingPart]] = {
    "text": TextPart,
    "tokens": TextPart,
    "image": ImagePart,
    "train": TrainingPart,
}
WorkloadPart = Annotated[TextPart | ImagePart | TrainingPart, Field(discriminator="kind")]
"""`[[workload]]`: one kind of request."""


class EnginePart(_Part):
    """`[[engine]]`: a backend with a model, in an interpreter, with options of the backend's own."""

    backend: Name
    model: str
    python: str | None = None
    options: dict[str, Any] = {}


class Suite(_Part):
    """A whole suite file."""

    name: Name
    version: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    about: str = ""
    load: LoadPart = LoadPart()
    warmup: WarmupPart = WarmupPart()
    workload: Annotated[list[WorkloadPart], Field(min_length=1, max_length=100)]
    engine: Annotated[list[EnginePart], Field(max_length=100)] = []

    @model_validator(mode="after")
    def _names_are_unique(self) -> Suite:
        names = [part.name for part in self.workload]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two workloads are called {name!r}")
        return self


def suite_files() -> dict[str, Path]:
    """The suites that ship with rigbench, by name."""
    return {path.stem: path for path in sorted((configs_dir() / "suites").glob("*.toml"))}


def names_a_suite(text: str) -> bool:
    """Whether it is a suite's name or file; what is not may be a model."""
    return text in suite_files() or text.endswith(".toml")


def load_suite(name_or_path: str) -> Suite:
    """A suite by its shipped name or its file. InputError names the file and the key that is wrong."""
    shipped = suite_files()
    path = shipped.get(name_or_path) or Path(name_or_path)
    if not path.is_file():
        near = nearest(name_or_path, shipped)
        hint = f"did you mean {near}?" if near else f"give a file, or one of {', '.join(shipped)}"
        raise InputError(f"no suite {name_or_path!r}: {hint}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_suite(content, str(path))


def parse_suite(content: dict[str, Any], where: str) -> Suite:
    """A suite from its content. InputError: `file: key.path: what is wrong`, every fault of the file in one sentence each."""
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        faults = [f"{_key_path(_place(fault))}: {_plain(fault)}" for fault in error.errors()]
        raise InputError("\n".join(f"{where}: {fault}" for fault in faults)) from error


def _place(fault: Any) -> tuple[int | str, ...]:
    """Where a fault is: pydantic puts the kind of a workload behind its place in the list."""
    first, *rest = fault["loc"] or ("",)
    if first != "workload" or len(rest) < 2:
        kind_itself = fault["type"].startswith("union_tag")
        return (*fault["loc"], "kind") if kind_itself else tuple(fault["loc"])
    return (first, rest[0], *rest[2:]) if rest[1] in PARTS else (first, *rest)


def _key_path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "the file"


def _plain(fault: Any) -> str:
    """pydantic's message, with what was given and, for an unknown key, the nearest known one."""
    if fault["type"] == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {"load": LoadPart, "warmup": WarmupPart, "engine": EnginePart, **PARTS}
        owner: type[BaseModel] = Suite
        for part in fault["loc"][:-1]:
            owner = parts.get(part, owner) if isinstance(part, str) else owner
        near = nearest(str(fault["loc"][-1]), owner.model_fields)
        return "unknown key" + (f"; did you mean `{near}`?" if near else f"; known are {', '.join(owner.model_fields)}")
    if fault["type"] in ("missing", "union_tag_not_found"):
        return "is missing"
    if fault["type"] == "union_tag_invalid":
        return f"is {json.dumps(fault['ctx']['tag'])}; one of {', '.join(PARTS)} belongs here"
    message = fault["msg"].removeprefix("Value error, ")
    text = json.dumps(fault["input"], default=str) if not isinstance(fault["input"], dict) else ""
    return f"{message[0].lower()}{message[1:]}" + (f" (given: {text[:60]})" if text else "")


def suite_record(suite: Suite) -> SuiteRecord:
    """What goes into the document: the content and its hash, which says whether two runs did the same.

    Without the engines: the cases say what ran on what, and paths of models and interpreters are nobody's business.
    """
    content = suite.model_dump(mode="json", exclude={"engine"})
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return SuiteRecord(suite.name, suite.version, hashlib.sha256(canonical.encode()).hexdigest(), content)
