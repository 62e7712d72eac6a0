"""A plan on a terminal."""

from __future__ import annotations

from rich.console import Console

from rigbench import units
from rigbench.suites.plan import Plan


def print_plan(console: Console, planned: Plan, brief: bool = False) -> None:
    """What a run would do: its cases (unless `brief`), what is skipped and why, time and memory."""
    if not brief:
        for job in planned.jobs:
            console.print(job.heading, style="bold")
            groups: dict[str, int] = {}
            for case in job.cases:
                tokens = case.workload.words
                line = f"{case.workload.name}: {tokens}, {case.concurrency} user{'s' * (case.concurrency > 1)}"
                groups[line] = groups.get(line, 0) + 1
            for line, repetitions in groups.items():
                console.print(f"  {line}, {repetitions} repetition{'s' * (repetitions > 1)}", soft_wrap=True)
    for sentence in dict.fromkeys(job.engine.unused_gpu for job in planned.jobs):
        if sentence is not None:
            console.print(f"! {sentence}", style="yellow", soft_wrap=True)
    for skip in planned.skipped:
        console.print(f"skipped: {skip.case.group}: {skip.reason}", style="yellow", soft_wrap=True)
    console.print(
        f"{planned.cases} cases, about {units.seconds_text(planned.seconds) if planned.seconds else 'an unknown time'}, "
        f"about {units.bytes_text(planned.memory_bytes)} of memory",
        soft_wrap=True,
    )
