"""The suite `probe` through the real run path: a minute after which this machine's predictions are its own (predict/probes.py).

rigbench predict --probe
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rigbench.errors import UnavailableError
from rigbench.predict import probes
from rigbench.predict.calibrate import Probe
from rigbench.run import runner, selection, start
from rigbench.suites.suite import load_suite


def run(
    backends: Sequence[str],
    python: str | None,
    folder: Path,
    say: Callable[[str], None],
    report: Callable[[int], runner.Report],
) -> Probe:
    """Measures, fits and keeps. UnavailableError where nothing could be measured; the document stays in `folder`. `report`
    makes what hears of so many cases."""
    suite = load_suite("probe")
    parts = selection.engines_of(suite, backends, [], python, [], None, say)
    prepared = start.prepare(suite, parts, fetch=True, say=say)
    work = start.begin(prepared, folder, telemetry=False)
    work.report = report(work.total)
    runner.execute(work)
    done = start.finish(work, folder, complete=True)
    if done is None:
        raise UnavailableError("the probe measured nothing: see rigbench plan probe")
    probe = probes.fit(done[0])
    probes.save(probe, prepared.plan.jobs[0].engine.python)
    return probe
