"""Both ends of a run: what is to be run is settled before its first case, and its document is written after its last."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rigbench import __version__, telemetry
from rigbench.analysis.table import summary
from rigbench.clock import now_ns, utc_now
from rigbench.documents import bounds, store
from rigbench.errors import InputError, UnavailableError
from rigbench.paths import file_stem
from rigbench.predict.document import predictions
from rigbench.predict.probes import load as load_probe
from rigbench.records import SCHEMA_VERSION, Machine, ModelFacts, RunDocument
from rigbench.run import engines, journal
from rigbench.run.runner import Prepared, Run
from rigbench.suites.plan import Engine, make_plan
from rigbench.suites.suite import EnginePart, Suite, load_suite, suite_record
from rigbench.telemetry.machine import fingerprint
from rigbench_backends.base import EngineInfo

Say = Callable[[str], None]
UNPROBED = ("sim", *engines.NOT_MEASURABLE)
LEAST_READINGS = 20
"""Shorter series are not thinned out."""
Progress = Callable[[str, int, int], None]
"""Called with what is made or fetched, the bytes so far and the bytes in all."""


def prepare(
    suite: Suite,
    parts: Sequence[EnginePart],
    *,
    fetch: bool,
    say: Say,
    progress: Progress | None = None,
    within: Callable[[Suite, Sequence[Engine]], Suite] | None = None,
) -> Prepared:
    """The suite on these engines (run.selection.engines_of). Without `fetch`, no model is made or loaded down. `within` may
    shorten the suite once its engines, and with them its time, are known.

    InputError for what is written wrong; UnavailableError where no engine can be used here.
    """
    facts = telemetry.facts()
    machine = fingerprint(*facts)
    ready, bandwidths, rates = engines.resolve(parts, gpus=machine.gpus, say=say, progress=progress, fetch=fetch)
    machine = fingerprint(*facts, {bus: name for engine in ready for bus, name in engine.used_gpus.items()})
    if within is not None:
        suite = within(suite, ready)
    plan = make_plan(suite, ready)
    cases = (case for job in plan.jobs for case in job.cases)
    times = sum(case.concurrency * case.requests_per_user * case.workload.units for case in cases)
    if times > bounds.MOST_NUMBERS:
        raise InputError(
            f"{times:,} tokens or steps would be timed, and a result holds {bounds.MOST_NUMBERS:,}: give fewer users, requests "
            "or repetitions, or a shorter output"
        )
    of = dict.fromkeys((engine.device, engine.backend, engine.python) for engine in ready if engine.unusable is None)
    ours = tuple(probe for each in of if each[0] not in UNPROBED and (probe := load_probe(*each)) is not None)
    return Prepared(suite, parts, plan, machine, bandwidths, rates, ours)


def begin(prepared: Prepared, folder: Path, *, telemetry: bool = True) -> Run:
    """A new run with its journal in `folder`. UnavailableError if nothing can be written there."""
    suite, machine, created = prepared.suite, prepared.machine, utc_now()
    plain, parts = suite.model_copy(update={"engine": []}), tuple(prepared.parts)
    total = prepared.plan.cases + len(prepared.plan.skipped)
    header = journal.Header(created, time.time(), machine, plain, parts, prepared.models, telemetry, total)
    path = (folder / file_stem(machine.id, created, suite.name)).with_suffix(".journal")
    return Run(prepared, header, journal.create(path, header))


def resume(path: Path, name: str | None = None, *, say: Say, progress: Progress | None = None) -> Run:
    """The run of the journal at `path`, with what is done. `name`: the suite that the caller takes it for.
    InputError if suite, machine or a model is another than when it was begun."""
    content = journal.read(path)
    for line in content.dropped:
        say(f"{path.name}: {line}")
    header = content.header
    if name is not None and suite_record(load_suite(name)).sha256 != suite_record(header.suite).sha256:
        raise InputError(f"{path} is of another suite than {name!r}; resume it without naming one")
    prepared = prepare(header.suite, header.engines, fetch=True, say=say, progress=progress)
    machine = prepared.machine
    if machine.id != header.machine.id:
        raise InputError(f"{path} was begun on another machine ({header.machine.id}); this one is {machine.id}")
    changed = [key for key, value in header.models.items() if prepared.models.get(key) != value]
    if changed:
        other = f"the model {changed[0]} is not the one that {path.name} was begun with"
        raise InputError(f"{other}; start the suite again")
    done = {finished.result.case.id: finished for finished in content.cases}
    run = Run(prepared, header, journal.reopen(path), done)
    if (changes := _changes(header.machine, machine)) is not None:
        run.prepared = replace(prepared, machine=header.machine)
        saved = finish(run, path.parent.parent, complete=False)
        where = f"; its {len(done)} cases are saved in {saved[1]}" if saved else ""
        raise UnavailableError(f"since {path.name} was begun, {changes}{where}: start the suite again")
    say(f"resuming: {len(done)} of {run.total} cases are done")
    return run


def _changes(before: Machine, now: Machine) -> str | None:
    """What an update changed of the machine: numbers from before and after it do not belong into one result."""
    pairs: dict[str, tuple[str | None, str | None]]
    pairs = {"the system": (before.os, now.os), "the kernel": (before.kernel, now.kernel)}
    pairs |= {f"the driver {name}": (before.drivers.get(name), now.drivers.get(name)) for name in before.drivers}
    return next(
        (f"{name} changed from {then} to {after}" for name, (then, after) in pairs.items() if then != after), None
    )


def finish(run: Run, folder: Path, *, complete: bool) -> tuple[RunDocument, Path] | None:
    """The run's document and its file in `folder`; None if no case was finished. The journal of a whole run is removed, and so is
    the document that the run left when it was ended early."""
    run.report("end", {})
    run.journal.close()
    if not run.done:
        run.journal.path.unlink(missing_ok=True)
        return None
    record = store.with_id(document(run, complete=complete))
    if numbers_of(record) > bounds.MOST_NUMBERS:  # a load that lasts a time, not a number of requests
        raise UnavailableError(
            f"this run has more times than a result may hold ({bounds.MOST_NUMBERS:,}); its cases stay in {run.journal.path}"
        )
    try:
        written = store.write(record, folder)
    except UnavailableError as error:
        raise UnavailableError(
            f"{error}; its cases are safe: free some space, then: rigbench run --resume {run.journal.path}"
        ) from error
    for earlier in written.parent.glob(f"{run.journal.path.stem}-*.json"):
        if earlier != written and not store.read(earlier).complete:
            earlier.unlink()
    if complete:
        run.journal.path.unlink(missing_ok=True)
    return record, written


def document(run: Run, *, complete: bool) -> RunDocument:
    """What there is, as a document without its id."""
    engines: list[EngineInfo] = []
    cases = []
    for finished in run.done.values():
        info = finished.engine
        if info is not None and info not in engines:
            engines.append(info)
        cases.append(replace(finished.result, engine=None if info is None else engines.index(info)))
    known = [job.engine.model.facts for job in run.plan.jobs if job.engine.model.facts is not None]
    facts: dict[str, ModelFacts] = {}
    for each in known:
        if each.name not in facts or facts[each.name].sha256 is None:  # one with a file says more than a bare shape
            facts[each.name] = each
    record = RunDocument(
        schema_version=SCHEMA_VERSION,
        id="",
        rigbench_version=__version__,
        created_utc=run.header.created_utc,
        duration_s=run.seconds_at(now_ns()),
        suite=suite_record(run.prepared.suite),
        machine=run.prepared.machine,
        engines=tuple(engines),
        models=tuple(facts.values()),
        bandwidth=tuple(run.prepared.bandwidths.values()),
        arithmetic=tuple(run.prepared.rates.values()),
        cases=tuple(sorted(cases, key=lambda case: case.order)),
        complete=complete,
        telemetry=run.telemetry,
        annotations={"probes": [asdict(probe) for probe in run.prepared.probes]} if run.prepared.probes else {},
    )
    record = thinned(record)
    record = replace(record, predictions=predictions(record))
    return replace(record, summary=summary(record))


def numbers_of(record: RunDocument) -> int:
    """How many times and readings a document holds."""
    return sum(
        sum(len(each.unit_us) for each in (*result.requests, *result.warmup))
        + sum(2 * len(series.values) for series in result.readings)
        for result in record.cases
    )


def thinned(record: RunDocument) -> RunDocument:
    """The document with every second reading, and every second of those, until it is one that can be read again: eight GPUs that
    are read for hours give more than it may hold. Of each series the last stays, which a counter needs."""

    def half(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return values[(len(values) - 1) % 2 :: 2]

    while numbers_of(record) > bounds.MOST_NUMBERS and any(
        len(series.values) > LEAST_READINGS for result in record.cases for series in result.readings
    ):
        cases = []
        for result in record.cases:
            readings = tuple(
                replace(series, time_us=half(series.time_us), values=half(series.values))
                if len(series.values) > LEAST_READINGS
                else series
                for series in result.readings
            )
            cases.append(replace(result, readings=readings))
        record = replace(record, cases=tuple(cases))
    return record
