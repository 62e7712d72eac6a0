"""The standardized prompts of configs/prompts/: which text a workload uses."""

from __future__ import annotations

import re

from rigbench.errors import InputError
from rigbench.paths import configs_dir


def prompt_lengths() -> dict[str, int]:
    """Prompt name -> the length class in tokens that it is written for, shortest first."""
    lengths = {}
    for path in (configs_dir() / "prompts").glob("*-*.txt"):
        if match := re.fullmatch(r".+-(\d+)", path.stem):
            lengths[path.stem] = int(match[1])
    return dict(sorted(lengths.items(), key=lambda item: item[1]))


def prompt_name(prompt_tokens: int, stated: str | None = None) -> str:
    """The prompt that a workload of `prompt_tokens` uses: the one it names, else the shortest that is long enough."""
    lengths = prompt_lengths()
    if stated is not None:
        if stated not in lengths:
            raise InputError(f"no prompt {stated!r}; there are {', '.join(lengths)}")
        if lengths[stated] < prompt_tokens:
            raise InputError(
                f"prompt {stated!r} is written for {lengths[stated]} tokens; {prompt_tokens} are asked for"
            )
        return stated
    for name, length in lengths.items():
        if length >= prompt_tokens:
            return name
    longest = max(lengths.values())
    raise InputError(f'the longest standardized prompt has {longest} tokens, not {prompt_tokens}; use kind = "tokens"')


def prompt_text(name: str) -> str:
    """The text itself."""
    return (configs_dir() / "prompts" / f"{name}.txt").read_text(encoding="utf-8")
