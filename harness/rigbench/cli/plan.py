"""`rigbench plan`: what a suite would do here."""

from __future__ import annotations

from dataclasses import asdict

from rigbench.cli.measure import Ask, EngineFlags, downloads
from rigbench.cli.options import JSON, grouped, say_json


@grouped
def command(ask: Ask, flags: EngineFlags, as_json: bool = JSON) -> None:
    """Show what a run would do, how long it takes, and what it needs."""
    prepared = ask.prepare(flags, fetch=False)
    plan = prepared.plan
    from rigbench.report.plan import predictions, print_plan

    expected = predictions(plan, prepared.machine, prepared.bandwidths, prepared.probes)
    if as_json:
        say_json(
            {
                "suite": prepared.suite.model_dump(mode="json", exclude={"engine"}),
                "cases": [asdict(case) for job in plan.jobs for case in job.cases],
                "unused_gpus": sorted({job.engine.unused_gpu for job in plan.jobs if job.engine.unused_gpu}),
                "skipped": [{"case": asdict(skip.case), "reason": skip.reason} for skip in plan.skipped],
                "downloads": downloads(prepared.parts),
                "predictions": list(expected.values()),
                "seconds": plan.seconds,
                "memory_bytes": plan.memory_bytes,
            }
        )
        return
    from rigbench.report.table import output_console

    print_plan(output_console(), plan, expected=expected)
