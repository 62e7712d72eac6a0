"""Why a Python program of several processes failed, found in what they all printed. Pure, standard library."""

from __future__ import annotations

import re
from collections.abc import Sequence

SAYS_NOTHING = re.compile(
    r"initialization failed|root cause|EngineDead|engine core|EngineCore|WorkerProc|^cancelled", re.I
)
"""What vLLM's processes say when another one has failed."""
_CLUTTER = re.compile(r"^(\([^)]*pid=\d+\))? ?([A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d )?(\[[\w.]+:\d+\] ?)?")
_EXCEPTION = re.compile(r"(?:[\w.]*\.)?\w*(?:Error|Exception): (.+)")


def last_exception(lines: Sequence[str]) -> str | None:
    """What the last exception said that says something; None where there is none."""
    for line in reversed(lines):
        found = _EXCEPTION.match(_CLUTTER.sub("", line).strip())
        if found and not SAYS_NOTHING.search(found[1]):
            return found[1]
    return None


def first_sentence(told: str) -> str:
    """Without what comes after it: advice, a traceback, a list of arguments."""
    return re.split(r"(?<=[\w)'][\w)'])\. |\n", told.strip(), maxsplit=1)[0].strip(" .")
