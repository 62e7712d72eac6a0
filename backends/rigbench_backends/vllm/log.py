"""The reason for a failure, in what vLLM and its processes print. Pure, standard library."""

from __future__ import annotations

import re

from rigbench_backends.process import SAYS_NOTHING, first_sentence, last_exception

MEMORY_WORDS = re.compile(r"out of memory|OutOfMemory|cannot allocate|memory|KV cache|cache blocks", re.I)
CONTEXT_WORDS = re.compile(r"max_model_len.*(greater|larger|exceed)|maximum model length", re.I | re.S)


def root_cause(error: BaseException, lines: list[str]) -> str:
    """One sentence for why vLLM failed; where `error` says only that a process ended, the last exception in that one's log."""
    told = str(error)
    if not told or SAYS_NOTHING.search(told):
        told = last_exception(lines) or "one of its processes ended"
    else:
        wrong = re.search(r"(?:Value|Assertion) error, (.+?)(?: \[type=|$)", told, re.S)  # pydantic's way to quote one
        told = wrong[1] if wrong else told
    return first_sentence(told)


def failure_kind(reason: str) -> str:
    """Which of EngineError's kinds a failed start is."""
    if CONTEXT_WORDS.search(reason):
        return "context"
    return "memory" if MEMORY_WORDS.search(reason) else "load"
