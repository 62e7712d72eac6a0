"""Do the raw records of a document hold together? The plan, the times, the counts, the flags.

    plan     the cases are those that the suite stands for: each repetition of each level, or its skip
    times    monotonic, inside their case, one case after the other, inside the run
    counts   tokens and requests as they were asked for
    flags    what the readings show is flagged

Times of the simulator are virtual: they are held against each other, but not against the run's own clock.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import pairwise

from rigbench.analysis.flags import reading_flags
from rigbench.documents.bounds import Fault
from rigbench.records import Case, CaseResult, RequestRecord, RunDocument
from rigbench.suites.suite import Suite

SLACK_S = 1.0
"""Between a case's last token and the run's own end, stamps go through two processes."""
PHASES = ("load", "idle", "settle", "warmup", "measure")


def shape_faults(document: RunDocument) -> Iterator[Fault]:
    """What must hold before anything can be computed: references, lengths of columns, sizes that arithmetic can bear."""
    for place, result in enumerate(document.cases):
        path = f"$.cases[{place}]"
        if result.engine is not None and not 0 <= result.engine < len(document.engines):
            yield Fault(
                f"{path}.engine", f"there is no engine {result.engine}; the document has {len(document.engines)}"
            )
        case = result.case
        sizes = {"concurrency": case.concurrency, "requests_per_user": case.requests_per_user}
        sizes |= {
            f"workload.{each.name}": value
            for each in fields(case.workload)
            if isinstance(value := getattr(case.workload, each.name), int)
        }
        for name, value in sizes.items():
            if not 1 <= value <= 10**9:
                yield Fault(f"{path}.case.{name}", f"{value} is impossible")
        for kind in ("warmup", "requests"):
            for number, record in enumerate(getattr(result, kind)):
                chunks = record.chunk_units
                if len(record.unit_us) > 2 * case.workload.units + 16:
                    told = f"{len(record.unit_us)} times of {case.workload.unit}s; {case.workload.units} are asked for"
                    yield Fault(f"{path}.{kind}[{number}].unit_us", told)
                if chunks is not None and (len(chunks) != len(record.unit_us) or min(chunks, default=1) < 1):
                    yield Fault(
                        f"{path}.{kind}[{number}].chunk_units", "must have one count of at least 1 for each time"
                    )
        names = Counter(mark.name for mark in result.phases)
        for name, count in names.items():
            if name not in PHASES or count > 1:
                yield Fault(
                    f"{path}.phases",
                    f"{count} phases are called {name!r}; known, and once each, are {', '.join(PHASES)}",
                )
        if len(result.readings) > 1000:
            yield Fault(f"{path}.readings", f"{len(result.readings)} series; at most 1000 make sense")
        for number, series in enumerate(result.readings):
            if len(series.time_us) != len(series.values):
                yield Fault(
                    f"{path}.readings[{number}]", f"{len(series.time_us)} times and {len(series.values)} values"
                )
    if len(document.cases) > 4000:
        yield Fault("$.cases", f"{len(document.cases)} cases; a document has at most 4000")


def record_faults(document: RunDocument) -> Iterator[Fault]:
    """Everything of this module's list but the plan."""
    end_s, last_order = 0.0, 0
    for place, result in enumerate(document.cases):
        path = f"$.cases[{place}]"
        if result.order < last_order:
            yield Fault(f"{path}.order", f"is {result.order} after {last_order}: cases were moved")
        last_order = result.order
        if (result.error is None) == (not result.requests):
            both = "both an error and requests" if result.requests else "neither requests nor an error"
            yield Fault(path, f"has {both}")
        virtual = result.engine is not None and document.engines[result.engine].device == "sim"
        if not 0 <= result.started_s <= document.duration_s + SLACK_S:
            yield Fault(f"{path}.started_s", f"{result.started_s} s is outside the run of {document.duration_s} s")
        elif not virtual and result.started_s < end_s - SLACK_S:
            yield Fault(
                f"{path}.started_s", f"{result.started_s} s is before the end of the case before it ({end_s:.3f} s)"
            )
        stamps = [record.unit_us[-1] for record in result.requests if record.unit_us]
        end_s = result.started_s + max(stamps, default=0) * 1e-6
        if not virtual and end_s > document.duration_s + SLACK_S:
            yield Fault(f"{path}.requests", f"the last token came at {end_s:.3f} s of a run of {document.duration_s} s")
        yield from _time_faults(result, path)
        yield from _count_faults(result, path, document)
        yield from _reading_faults(result, path)
        cores = document.machine.logical_cores or 1
        held = {flag.name for flag in result.flags}
        for flag in reading_flags(result.readings, result.phases, cores) if result.requests else ():
            if flag.name not in held:
                yield Fault(f"{path}.flags", f"the readings show {flag.name} ({flag.evidence}), and it is not flagged")


def _time_faults(result: CaseResult, path: str) -> Iterator[Fault]:
    for kind, records in (("warmup", result.warmup), ("requests", result.requests)):
        for number, record in enumerate(records):
            here = f"{path}.{kind}[{number}]"
            for at, (earlier, later) in enumerate(pairwise((record.submit_us, *record.unit_us))):
                if later < earlier:
                    yield Fault(f"{here}.unit_us[{at}]", f"{later} us is before {earlier} us: times go forwards")
                    break
    if result.requests and min(record.submit_us for record in result.requests) != 0:
        yield Fault(f"{path}.requests", "times count from the first submission, which is not at 0")
    for number, mark in enumerate(result.phases):
        if mark.end_us < mark.start_us:
            yield Fault(f"{path}.phases[{number}].end_us", f"{mark.name} ends before it begins")
    measure = next((mark for mark in result.phases if mark.name == "measure"), None)
    last = max((record.unit_us[-1] for record in result.requests if record.unit_us), default=None)
    if measure is not None and last is not None and not (measure.start_us <= 0 and last <= measure.end_us + 1):
        yield Fault(
            f"{path}.phases", f"tokens lie outside the phase `measure` ({measure.start_us} to {measure.end_us} us)"
        )
    for number, series in enumerate(result.readings):
        if any(later < earlier for earlier, later in pairwise(series.time_us)):
            yield Fault(f"{path}.readings[{number}].time_us", f"times of {series.name} go backwards")


def _count_faults(result: CaseResult, path: str, document: RunDocument) -> Iterator[Fault]:
    case = result.case
    if not result.requests:
        return
    engine = document.engines[result.engine] if result.engine is not None else None
    by_user: dict[int, list[RequestRecord]] = {}
    for number, record in enumerate(result.requests):
        by_user.setdefault(record.user, []).append(record)
        tokens = sum(record.chunk_units) if record.chunk_units else len(record.unit_us)
        here = f"{path}.requests[{number}]"
        if engine is None or record.error is not None:
            continue
        if engine.fixed_length and tokens != case.workload.output_tokens:
            yield Fault(
                f"{here}.unit_us",
                f"{tokens} tokens; {case.workload.output_tokens} are asked for, and this engine keeps lengths",
            )
        if engine.accepts_token_ids and record.prompt_tokens != case.workload.prompt_tokens:
            yield Fault(
                f"{here}.prompt_tokens", f"is {record.prompt_tokens}; the case sends {case.workload.prompt_tokens}"
            )
    if engine is None:
        yield Fault(f"{path}.engine", "requests were measured, but by no engine")
    if sorted(by_user) != list(range(case.concurrency)):
        yield Fault(f"{path}.requests", f"requests of {len(by_user)} users; the case has {case.concurrency}")
    for user, records in by_user.items():
        if [record.index for record in records] != list(range(len(records))):
            yield Fault(f"{path}.requests", f"requests of user {user} are missing or twice")
        if case.duration_s is None and len(records) != case.requests_per_user:
            yield Fault(
                f"{path}.requests", f"{len(records)} requests of user {user}; {case.requests_per_user} are asked for"
            )
        for before, after in pairwise(records):
            if before.unit_us and after.submit_us < before.unit_us[-1]:
                yield Fault(
                    f"{path}.requests", f"user {user} sent request {after.index} before the end of the one before it"
                )


def _reading_faults(result: CaseResult, path: str) -> Iterator[Fault]:
    for number, series in enumerate(result.readings):
        if series.name in ("power", "energy") and any(value is not None and value < 0 for value in series.values):
            yield Fault(f"{path}.readings[{number}].values", f"a {series.name} below 0")


def plan_faults(document: RunDocument, suite: Suite) -> Iterator[Fault]:
    """Each case against the suite, and each planned case against the document."""
    planned = {
        (workload.name, users): workload
        for workload in suite.workload
        for users in (workload.concurrency or suite.load.concurrency)
    }
    seen: set[str] = set()
    engines: dict[str, dict[tuple[str, int, int], CaseResult]] = {}
    for place, result in enumerate(document.cases):
        case, path = result.case, f"$.cases[{place}].case"
        label = case.group.removesuffix(f"/{case.workload.name}/c{case.concurrency}")
        if label == case.group or not re.match(
            re.escape(f"{case.backend}/{case.model}") + r"(\+.*)?$", label, re.DOTALL
        ):
            yield Fault(f"{path}.group", "is not made of backend, model, workload and users")
        if case.id != f"{case.group}/r{case.repetition}" or case.id in seen:
            yield Fault(f"{path}.id", "is there twice" if case.id in seen else "is not made of group and repetition")
        seen.add(case.id)
        workload = planned.get((case.workload.name, case.concurrency))
        if workload is None or not 0 <= case.repetition < suite.load.repetitions:
            yield Fault(
                f"{path}.id", f"the suite has no {case.workload.name} x{case.concurrency}, repetition {case.repetition}"
            )
            continue
        for name in ("requests_per_user", "duration_s", "seed"):
            if (stated := getattr(case, name)) != (value := getattr(suite.load, name)):
                yield Fault(f"{path}.{name}", f"is {stated}; the suite says {value}")
        for field in fields(case.workload):
            if (stated := getattr(case.workload, field.name)) != (value := getattr(workload, field.name)):
                yield Fault(f"{path}.workload.{field.name}", f"is {stated}; the suite says {value}")
        engines.setdefault(label, {})[case.workload.name, case.concurrency, case.repetition] = result
    if not document.complete:
        return
    for label, found in engines.items():
        for workload_name, users in planned:
            for repetition in range(suite.load.repetitions):
                first = found.get((workload_name, users, 0))
                skipped = first is not None and first.error is not None and first.error.kind == "skipped"
                if (workload_name, users, repetition) not in found and not skipped:
                    group = f"{label}/{workload_name}/c{users}"
                    yield Fault("$.cases", f"{group}/r{repetition} is planned by the suite, and not here")


def name_faults(document: RunDocument) -> Iterator[Fault]:
    """Names that would be a path somewhere, or more than a name on a page."""
    machine = document.machine
    shown = [("$.machine.cpu", machine.cpu), ("$.machine.os", machine.os), ("$.machine.kernel", machine.kernel)]
    for place, engine in enumerate(document.engines):
        shown += [(f"$.engines[{place}].engine", engine.engine), (f"$.engines[{place}].version", engine.version)]
    named = [("$.suite.name", document.suite.name), ("$.machine.id", machine.id)]
    for place, model in enumerate(document.models):
        named.append((f"$.models[{place}].name", model.name))
    for place, result in enumerate(document.cases):
        case: Case = result.case
        path = f"$.cases[{place}].case"
        named += [(f"{path}.backend", case.backend), (f"{path}.model", case.model)]
        named.append((f"{path}.workload.name", case.workload.name))
    for path, name in _once(named):
        if not name or len(name) > 200 or re.search(r"(^|[/\\])\.\.([/\\]|$)|^[/\\~]|^[A-Za-z]:[\\/]|\\", name):
            yield Fault(path, f"{name[:60]!r} is no name but a path")
    for path, name in _once([*named, *shown]):
        if re.search("[<>]", name):
            yield Fault(path, f"{name[:60]!r} holds < or >, which no name does")


def _once(named: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each name at its first place."""
    first: dict[str, str] = {}
    for path, name in named:
        first.setdefault(name, path)
    return [(path, name) for name, path in first.items()]
