"""Suites that are made from flags, or shortened to a time: stored whole like any other, and called `custom`.

`-p 512,2048 -n 128 -u 1,4 -r 5` are requests of 512 and of 2048 prompt tokens, each answered by 128 tokens, for 1 and for 4
users, five times. `-p` and `-n` are those of llama-bench, but one follows the other in one request, as a user's does: its pp512 is
`prefill t/s` of one user, its tg128 at depth 512 is `user t/s`, and with `-p 0` it is tg128 from an empty context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rigbench.errors import InputError
from rigbench.suites.prompts import prompt_lengths
from rigbench.suites.suite import LoadPart, Suite, TextPart, WarmupPart, WorkloadPart
from rigbench.units import seconds_text

NAME = "custom"
DEFAULT_MINUTES = 5.0
SHORT_PROMPT = 128
SHORTEST_OUTPUT = 32
"""Fewer tokens make no steady window worth the name."""


def default_suite() -> Suite:
    """What a model is measured with where no suite is named; `shortened` makes it fit the machine."""
    load = LoadPart(concurrency=[1, 2, 4, 8], repetitions=3, requests_per_user=1)
    warmup = WarmupPart(max_rounds=3, prompt_tokens=64, output_tokens=8)
    return Suite(name=NAME, version="1", load=load, warmup=warmup, workload=[workload(512, 128)])


def workload(prompt_tokens: int, output_tokens: int) -> TextPart:
    """One kind of request under the name that says its lengths: p512-n128. A standardized prompt as far as there is one so long.

    0 prompt tokens are the one that a generation begins with; 0 output tokens the two without which nothing is timed.
    """
    text = prompt_tokens <= max(prompt_lengths().values())
    return TextPart(
        name=f"p{prompt_tokens}-n{output_tokens}",
        kind="text" if text else "tokens",
        prompt_tokens=max(1, prompt_tokens),
        output_tokens=max(2, output_tokens),
    )


def changed(
    suite: Suite,
    prompts: Sequence[int] | None = None,
    outputs: Sequence[int] | None = None,
    users: Sequence[int] | None = None,
    repetitions: int | None = None,
) -> Suite:
    """The suite with what the flags say in place of its own; with none of them, the suite as it is."""
    if prompts is None and outputs is None and users is None and repetitions is None:
        return suite
    workloads: list[WorkloadPart] = list(suite.workload)
    if prompts is not None or outputs is not None:
        if len(texts(suite)) < len(suite.workload):
            raise InputError(f"-p and -n are of text: suite {suite.name!r} has other workloads")
        lengths = [
            (prompt, output)
            for part in texts(suite)
            for prompt in (prompts if prompts is not None else [part.prompt_tokens])
            for output in (outputs if outputs is not None else [part.output_tokens])
        ]
        workloads = [workload(*pair) for pair in dict.fromkeys(lengths)]
    if users is not None:
        workloads = [part.model_copy(update={"concurrency": None}) for part in workloads]
    load = suite.load.model_copy(
        update={
            "concurrency": list(users) if users is not None else suite.load.concurrency,
            "repetitions": repetitions or suite.load.repetitions,
        }
    )
    return renamed(suite.model_copy(update={"load": load, "workload": workloads}))


def renamed(suite: Suite) -> Suite:
    """Under the name of what is no shipped suite any more, with the flags that make it."""
    return suite.model_copy(update={"name": NAME, "version": "1", "about": flags_of(suite)})


def flags_of(suite: Suite) -> str:
    """The flags that say what a suite measures: `-p 512 -n 128 -u 1,2,4,8 -r 3`."""
    values = {
        "-p": dict.fromkeys(part.prompt_tokens for part in texts(suite)),
        "-n": dict.fromkeys(part.output_tokens for part in texts(suite)),
        "-u": dict.fromkeys(level for part in suite.workload for level in part.concurrency or suite.load.concurrency),
        "-r": [suite.load.repetitions],
    }
    return " ".join(f"{flag} {','.join(map(str, each))}" for flag, each in values.items() if each)


def texts(suite: Suite) -> list[TextPart]:
    """The workloads of the suite that generate text."""
    return [part for part in suite.workload if isinstance(part, TextPart)]


class Shortened(NamedTuple):
    """A suite that fits a time; `sentence` says what gave way, empty if nothing had to. `seconds` is the estimate, None where
    nothing is known of the model."""

    suite: Suite
    seconds: float | None
    sentence: str


def shortened(
    suite: Suite, seconds: float, estimate: Callable[[Suite], float | None], fixed: Sequence[str] = ()
) -> Shortened:
    """The suite, made smaller until its estimated time is within `seconds`, or nothing is left to take away.

    What is in `fixed` (`prompts`, `outputs`, `users`, `repetitions`) was asked for and stays. Order: one request per user, three
    repetitions, shorter outputs, the longest prompts, a shorter prompt, the most users, fewer repetitions.
    """
    first = needed = estimate(suite)
    small = suite
    for candidate in _smaller(suite, fixed):
        if needed is None or needed <= seconds:
            break
        small, needed = candidate, estimate(candidate)
    if small == suite:
        return Shortened(suite, needed, "")
    small = renamed(small)
    requests = small.load.requests_per_user
    sentence = (
        f"to take about {seconds_text(needed)} and not {seconds_text(first)}: {flags_of(small)}, "
        f"{requests} request{'s' * (requests > 1)} per user"
    )
    return Shortened(small, needed, sentence)


def _smaller(suite: Suite, fixed: Sequence[str]) -> Iterator[Suite]:
    """Ever smaller suites."""

    def with_load(**changes: object) -> Suite:
        return suite.model_copy(update={"load": suite.load.model_copy(update=changes)})

    if suite.load.requests_per_user > 1:
        suite = with_load(requests_per_user=1)
        yield suite
    if "repetitions" not in fixed and suite.load.repetitions > 3:
        suite = with_load(repetitions=3)
        yield suite
    if len(texts(suite)) < len(suite.workload):
        fixed = (*fixed, "outputs", "prompts")
    while "outputs" not in fixed and max(part.output_tokens for part in texts(suite)) > SHORTEST_OUTPUT:
        parts = [
            workload(part.prompt_tokens, max(SHORTEST_OUTPUT, part.output_tokens // 2))
            if part.output_tokens > SHORTEST_OUTPUT
            else part
            for part in texts(suite)
        ]
        suite = suite.model_copy(update={"workload": parts})
        yield suite
    while True:
        levels = max((part.concurrency or suite.load.concurrency for part in suite.workload), key=len)
        longest = max((part.prompt_tokens for part in texts(suite)), default=0)
        if "prompts" not in fixed and len({part.prompt_tokens for part in texts(suite)}) > 1:
            left = [part for part in texts(suite) if part.prompt_tokens < longest]
            suite = suite.model_copy(update={"workload": left})
        elif "prompts" not in fixed and longest > SHORT_PROMPT:
            parts = [workload(max(SHORT_PROMPT, longest // 2), part.output_tokens) for part in texts(suite)]
            suite = suite.model_copy(update={"workload": parts})
        elif "users" not in fixed and len(levels) > 1:
            alike = [part.model_copy(update={"concurrency": None}) for part in suite.workload]
            suite = with_load(concurrency=sorted(levels)[:-1]).model_copy(update={"workload": alike})
        elif "repetitions" not in fixed and suite.load.repetitions > 1:
            suite = with_load(repetitions=suite.load.repetitions - 1)
        else:
            return
        yield suite
