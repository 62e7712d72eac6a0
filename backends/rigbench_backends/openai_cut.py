"""A text cut to a number of tokens, with nothing to ask but how many tokens a text had. Pure.

Tokens grow with characters almost linearly, so two questions give the line and a third mostly meets the number.
"""

from __future__ import annotations

from collections.abc import Callable

GUESSED_CHARACTERS_PER_TOKEN = 4.0
ROUNDS = 6


def measured_cut(count: Callable[[str], int | None], text: str, tokens: int) -> int:
    """Characters of `text` that `count` says are nearest to `tokens` tokens, after at most six questions.

    Whatever a server adds of its own (a chat template) is in its count. One that does not count (None) gets the guess of 4
    characters a token. May be longer than `text`, when all of it is too short.
    """
    length = max(1, round(tokens * GUESSED_CHARACTERS_PER_TOKEN))
    tried: dict[int, int] = {}
    for _ in range(ROUNDS):
        asked = min(length, len(text))
        counted = count(text[:asked])
        if counted is None:
            return length
        tried[asked] = counted
        if counted == tokens:
            return asked
        near = sorted(tried, key=lambda one: abs(tried[one] - tokens))
        rate = asked / max(1, counted)
        if len(near) > 1 and tried[near[0]] != tried[near[1]]:
            rate = (near[0] - near[1]) / (tried[near[0]] - tried[near[1]])
        length = max(1, near[0] + round((tokens - tried[near[0]]) * max(rate, 0.5)))
        if min(length, len(text)) in tried:
            break
    if tried and max(tried.values()) < tokens and len(text) in tried:
        return max(length, len(text) + 1)
    return min(tried, key=lambda one: abs(tried[one] - tokens))
