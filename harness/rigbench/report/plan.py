"""A plan on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from rigbench import units
from rigbench.report.table import print_notes, print_table
from rigbench.suites.plan import Plan


def print_plan(console: Console, planned: Plan, brief: bool = False) -> None:
    """What a run would do: its cases (unless `brief`), what is skipped and why, time and memory."""
    if not brief:
        for job in planned.jobs:
            console.print(Text(job.heading, style="bold"))
            groups: dict[tuple[str, str, str], int] = {}
            for case in job.cases:
                case_of = (case.workload.name, case.workload.words, str(case.concurrency))
                groups[case_of] = groups.get(case_of, 0) + 1
            rows = [(*case_of, str(repetitions)) for case_of, repetitions in groups.items()]
            print_table(console, ("workload", "a request", "users", "repetitions"), rows)
    unused = dict.fromkeys(job.engine.unused_gpu for job in planned.jobs if job.engine.unused_gpu)
    print_notes(console, [f"! {sentence}" for sentence in unused], "yellow")
    print_notes(console, [f"skipped: {skip.case.group}: {skip.reason}" for skip in planned.skipped], "yellow")
    print_notes(console, [_sums(planned)], "")


def _sums(planned: Plan) -> str:
    """`12 cases, about 3 min, about 1.5 GB for weights, cache and buffers`, and what of it is not known."""
    parts = [f"{planned.cases} case{'s' * (planned.cases > 1)}"]
    parts.append(f"about {units.seconds_text(planned.seconds)}" if planned.seconds else "for how long is not known")
    if planned.memory_bytes:
        parts.append(f"about {units.bytes_text(planned.memory_bytes)} for weights, cache and buffers")
    return ", ".join(parts)
