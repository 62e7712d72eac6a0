"""`rigbench plan`: what a suite would do here."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from rigbench.cli.options import BACKEND, JSON, MODEL, OPTION, PYTHON, SERVER, SUITE, engine_options, say
from rigbench.cli.progress import Progress


def command(
    suite: str = SUITE,
    backend: str | None = BACKEND,
    model: str | None = MODEL,
    python: str | None = PYTHON,
    server: str | None = SERVER,
    option: list[str] = OPTION,
    as_json: bool = JSON,
) -> None:
    """Show what a suite would do here: its cases, what is skipped and why, estimated time and memory."""
    from rigbench.run import start

    backend, options = engine_options(server, backend, option)
    plan = start.prepare(suite, backend, model, python, options, fetch=False, say=say, progress=Progress()).plan
    if as_json:
        content = {
            "cases": [asdict(case) for job in plan.jobs for case in job.cases],
            "unused_gpus": sorted({job.engine.unused_gpu for job in plan.jobs if job.engine.unused_gpu}),
            "skipped": [{"case": asdict(skip.case), "reason": skip.reason} for skip in plan.skipped],
            "seconds": plan.seconds,
            "memory_bytes": plan.memory_bytes,
        }
        typer.echo(json.dumps(content, indent=1))
        return
    from rigbench.report.plan import print_plan
    from rigbench.report.table import output_console

    print_plan(output_console(), plan)
