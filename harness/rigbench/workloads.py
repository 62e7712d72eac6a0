"""What one request of a case is, and the unit in which its progress is counted. Standard library only: the worker reads it too.

A new kind of work is one frozen dataclass here, with its `kind`s, its unit, how many units a request has, and what it sends:

    units            units that one request is over after, `step_units` of them a step of the engine
    prompt_length    token ids that a request sends; 0 where it sends a text, or nothing
    context_tokens   the longest context that the model needs; 0 where it has none
    shortened()      the same with less to do, for the warm-up
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, slots=True)
class Generation:
    """Text generation: `prompt_tokens` in, exactly `output_tokens` out. `kind` is `tokens` (seeded random token ids of the exact
    length) or `text` (a standardized prompt cut to the exact length). The unit is an output token."""

    name: str
    kind: Literal["text", "tokens"]
    prompt_tokens: int
    output_tokens: int
    unit: ClassVar[str] = "token"
    step_units: ClassVar[int] = 1

    @property
    def units(self) -> int:
        """Units that one request is over after."""
        return self.output_tokens

    @property
    def prompt_length(self) -> int:
        """Token ids that a request sends."""
        return self.prompt_tokens

    @property
    def context_tokens(self) -> int:
        """The longest context of one request."""
        return self.prompt_tokens + self.output_tokens

    @property
    def mean_context_tokens(self) -> float:
        """The context in the middle of the decoding: what a decode step reads of the cache on average."""
        return self.prompt_tokens + self.output_tokens / 2

    @property
    def words(self) -> str:
        """For people: what a request is."""
        return f"{self.prompt_tokens} prompt + {self.output_tokens} output tokens"

    def shortened(self, prompt_tokens: int, units: int) -> Generation:
        """With at most so many prompt and output tokens."""
        return replace(
            self,
            prompt_tokens=min(self.prompt_tokens, prompt_tokens),
            output_tokens=min(self.output_tokens, units),
        )


@dataclass(frozen=True, slots=True)
class Image:
    """`batch` images of `width` x `height` pixels at once from one text, in `steps` denoising steps with classifier-free `guidance`
    (0: none). The unit is a denoising step of the whole batch, however often it goes through the model."""

    name: str
    kind: Literal["image"]
    width: int
    height: int
    steps: int
    batch: int = 1
    guidance: float = 0.0
    unit: ClassVar[str] = "step"
    step_units: ClassVar[int] = 1
    prompt_length: ClassVar[int] = 0
    context_tokens: ClassVar[int] = 0

    @property
    def units(self) -> int:
        """Units that one request is over after."""
        return self.steps

    @property
    def words(self) -> str:
        """For people: what a request is."""
        images = f"{self.batch} images" if self.batch > 1 else "1 image"
        guidance = f", guidance {self.guidance:g}" if self.guidance else ""
        return f"{images} of {self.width}x{self.height} in {self.steps} steps{guidance}"

    def shortened(self, prompt_tokens: int, units: int) -> Image:
        """The same image in at most so many steps."""
        return replace(self, steps=min(self.steps, units))


@dataclass(frozen=True, slots=True)
class Training:
    """`steps` optimizer steps on one seeded batch of `batch` sequences, each of `sequence_tokens` trained tokens: every position of
    every sequence has a target, and nothing is padded. `method` is `lora` (adapters of `rank` on the weights as they are), `qlora`
    (on weights in 4 bits) or `full` (all weights; `rank` says nothing then). The unit is a trained token."""

    name: str
    kind: Literal["train"]
    sequence_tokens: int
    batch: int
    steps: int
    method: Literal["lora", "qlora", "full"] = "lora"
    rank: int = 8
    unit: ClassVar[str] = "token"

    @property
    def step_units(self) -> int:
        """Trained tokens of one optimizer step."""
        return self.batch * self.sequence_tokens

    @property
    def units(self) -> int:
        """Units that one request is over after."""
        return self.steps * self.step_units

    @property
    def prompt_length(self) -> int:
        """Token ids that a request sends: each sequence, and the one that its last token is to foretell."""
        return self.batch * (self.sequence_tokens + 1)

    @property
    def context_tokens(self) -> int:
        """The longest context of one request."""
        return self.sequence_tokens

    @property
    def words(self) -> str:
        """For people: what a request is."""
        method = "full" if self.method == "full" else f"{self.method} of rank {self.rank}"
        return f"{self.steps} steps of {self.batch} x {self.sequence_tokens} tokens, {method}"

    def shortened(self, prompt_tokens: int, units: int) -> Training:
        """The same in at most so many steps."""
        return replace(self, steps=min(self.steps, units))


Workload = Generation | Image | Training
KINDS: dict[str, type[Workload]] = {"text": Generation, "tokens": Generation, "image": Image, "train": Training}


def workload(content: dict[str, Any]) -> Workload:
    """A workload from its JSON content, by its kind."""
    return KINDS[content["kind"]](**content)
