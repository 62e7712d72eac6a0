"""Versions in the order in which they came, never as text: 9.0 < 10.0, 580.65 < 580.126, b999 < b1000, macOS 26.4 < 26.10.

Drivers, kernels, systems and engines number themselves each in its own way, and an engine's version may hold several
("llama-cpp-python 0.3.36, llama.cpp b7123"), so a version is read as a row of whole numbers and words. A word that
announces a release (dev, alpha, beta, rc) right after a number comes before its absence: 1.0rc1 < 1.0 < 1.0.1.

    python -c "from rigbench.analysis.versions import order; print(*sorted(['b1000', 'b999', 'b1000-rc1'], key=order))"
"""

from __future__ import annotations

import re
from functools import cache

EARLIER = {"dev": 0, "a": 1, "alpha": 1, "b": 2, "beta": 2, "c": 3, "rc": 3, "pre": 3, "preview": 3}
"""Words of versions that come before the release of that number, in their order (PEP 440's)."""
ANNOUNCED, END, WORD, NUMBER = range(4)

Key = tuple[tuple[int, int, str], ...]


@cache
def order(version: str) -> tuple[Key, str]:
    """A key to sort by; two spellings of one version (24.04, 24.4) are told apart by their text alone."""
    parts: list[tuple[int, int, str]] = []
    for part in re.finditer(r"(\d+)|([a-z]+)", version.lower()):
        number, word = part.groups()
        if number is not None:
            parts.append((NUMBER, int(number[-18:]), ""))
        elif word in EARLIER and parts and parts[-1][0] == NUMBER:
            parts.append((ANNOUNCED, EARLIER[word], ""))
        else:
            parts.append((WORD, 0, word))
    return (*parts, (END, 0, "")), version
