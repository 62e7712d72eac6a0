"""What one request of a case is, and the unit in which its progress is counted. Standard library only: the worker reads it too.

A new kind of work is one frozen dataclass here, with its `kind`s, its unit and how many units a request has.
"""

from __future__ import annotations

from dataclasses import dataclass
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

    @property
    def units(self) -> int:
        """Units that one request is over after."""
        return self.output_tokens

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


Workload = Generation
KINDS: dict[str, type[Workload]] = {"text": Generation, "tokens": Generation}


def workload(content: dict[str, Any]) -> Workload:
    """A workload from its JSON content, by its kind."""
    return KINDS[content["kind"]](**content)
