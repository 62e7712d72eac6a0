"""A plan on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from rigbench import units
from rigbench.predict import document
from rigbench.predict.calibrate import Probe
from rigbench.records import Bandwidth, Case, Machine, Prediction
from rigbench.report.prediction import span_text
from rigbench.report.table import print_notes, print_table
from rigbench.suites.plan import Plan


def predictions(
    planned: Plan, machine: Machine, bandwidths: Mapping[str, Bandwidth], probes: Sequence[Probe] = ()
) -> dict[str, Prediction]:
    """What the roofline expects of each group of cases whose model and device are known, by `probes` where there are any."""
    of = {(probe.backend, probe.device): probe for probe in probes}
    expected: dict[str, Prediction] = {}
    for job in planned.jobs:
        engine, facts = job.engine, job.engine.model.facts
        for case in job.cases:
            if facts is None or case.group in expected or engine.device == "sim":
                continue
            names = tuple(engine.used_gpus.values())
            probe = of.get((engine.backend, engine.device))
            answer = document.planned(case, facts, machine, bandwidths, engine.device, names, probe)
            if answer is not None:
                expected[case.group] = answer
    return expected


def print_plan(
    console: Console, planned: Plan, brief: bool = False, expected: Mapping[str, Prediction] | None = None
) -> None:
    """What a run would do: its cases (unless `brief`) with what is `expected` of them, what is skipped and why, time and memory."""
    expected = expected or {}
    if not brief:
        for job in planned.jobs:
            console.print(Text(job.heading, style="bold"))
            groups: dict[str, list[Case]] = {}
            for case in job.cases:
                groups.setdefault(case.group, []).append(case)
            rows = [(*_words(cases), *_expectation(expected.get(group))) for group, cases in groups.items()]
            columns = ("workload", "a request", "users", "repetitions", "user t/s", "80 % of cases", "TTFT")
            headings = columns if any(group in expected for group in groups) else columns[:4]
            print_table(console, headings, [row[: len(headings)] for row in rows])
    if expected and not brief:
        sources = dict.fromkeys(
            each.inputs.get("calibrated_by", "by published measurements") for each in expected.values()
        )
        print_notes(console, [f"user t/s and TTFT: predicted by the roofline, {'; '.join(sources)}"])
    unused = dict.fromkeys(job.engine.unused_gpu for job in planned.jobs if job.engine.unused_gpu)
    print_notes(console, [f"! {sentence}" for sentence in unused], "yellow")
    print_notes(console, [f"skipped: {skip.case.group}: {skip.reason}" for skip in planned.skipped], "yellow")
    print_notes(console, [_sums(planned)], "")


def _words(cases: Sequence[Case]) -> tuple[str, ...]:
    workload = cases[0].workload
    return workload.name, workload.words, str(cases[0].concurrency), str(len(cases))


def _expectation(prediction: Prediction | None) -> tuple[str, ...]:
    if prediction is None:
        return (units.MISSING,) * 3
    ttft = prediction.inputs.get("ttft_s")
    return units.rate_text(prediction.user_tps), span_text(prediction), units.seconds_text(ttft)


def _sums(planned: Plan) -> str:
    """`12 cases, about 3 min, about 1.5 GB for weights, cache and buffers`, and what of it is not known."""
    parts = [f"{planned.cases} case{'s' * (planned.cases > 1)}"]
    parts.append(f"about {units.seconds_text(planned.seconds)}" if planned.seconds else "for how long is not known")
    if planned.memory_bytes:
        parts.append(f"about {units.bytes_text(planned.memory_bytes)} for weights, cache and buffers")
    return ", ".join(parts)
