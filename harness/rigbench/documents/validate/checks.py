"""Do the raw records of a document hold together? The plan, the times, the counts, the loop.

    plan     the cases are those that the suite stands for: each repetition of each level, or its skip
    times    monotonic, inside their case, one case after the other, inside the run
    counts   tokens and requests as they were asked for
    loop     all users at once, each on the heels of its own last request
    warm-up  its rounds, as the suite says

Times of the simulator are virtual: they are held against each other, but not against the run's own clock.
"""

from __future__ import annotations

import hashlib
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from itertools import pairwise

import rigbench_backends
from rigbench import __version__
from rigbench.analysis.versions import order
from rigbench.documents.bounds import Fault
from rigbench.records import Case, CaseResult, RequestRecord, RunDocument
from rigbench.suites.plan import memory_bytes
from rigbench.suites.suite import Suite
from rigbench.telemetry.machine import machine_id
from rigbench.worker import drive
from rigbench.workloads import Generation, Training

SLACK_S = 1.0
"""Between a case's last token and the run's own end, stamps go through two processes."""
AFTER_LAST_S, SORTING_S = 0.1, 20e-6
"""Between a case's last token and the mark of its end only the tokens are sorted, each in so long."""
FIRST_GAP, LEAST_TOKENS = 4, 8
"""A first token that was put before its time leaves a gap of so many usual ones, where there are enough to tell."""
HOLE_US = 2000
"""A shorter gap may be the first decoding of a small model, which makes its buffers anew."""
LEAST_WAIT = 0.6
"""Of a usual gap: what the first token waits for at least."""
LEAST_PECULIAR = 3
"""So many first tokens of a row, over all its repetitions: one or two may have met another program."""
MOST_PAUSE_S = 0.3
MOST_MEANWHILE = 3
"""Tokens of one other request that are stamped before a user has sent the next one: they may have come in one bunch."""
PHASES = ("load", "idle", "settle", "warmup", "measure")
MOST_ENTRIES = {"cases": 4000, "engines": 100, "models": 100, "bandwidth": 16, "predictions": 8000}
MOST_DEVICES = 64
MOST_PROMPT_TOKENS = 300_000
"""More of them are not drawn again: a document may hold millions."""
FIRST_YEAR = "2026"
LONGEST_S = 400 * 86_400.0
SAME_ENGINE = ("engine", "version", "build", "device", "device_names", "threads")
"""What an engine keeps over an interruption, so that the repetitions of a row are of one engine."""


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
            if not 1 <= value <= (1024 if name == "concurrency" else 10**9):
                yield Fault(f"{path}.case.{name}", f"{value} is impossible")
        for kind in ("warmup", "requests"):
            for number, record in enumerate(getattr(result, kind)):
                chunks = record.chunk_units
                if len(record.unit_us) > 2 * case.workload.units + 16:
                    text = f"{len(record.unit_us)} times of {case.workload.unit}s; {case.workload.units} are asked for"
                    yield Fault(f"{path}.{kind}[{number}].unit_us", text)
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
    for name, most in MOST_ENTRIES.items():
        if len(getattr(document, name)) > most:
            yield Fault(f"$.{name}", f"{len(getattr(document, name))} entries; a document has at most {most}")
    for place, engine in enumerate(document.engines):
        if len(engine.device_names) > MOST_DEVICES:
            yield Fault(f"$.engines[{place}].device_names", f"more than {MOST_DEVICES} devices")
    if len(document.machine.gpus) > MOST_DEVICES:
        yield Fault("$.machine.gpus", f"more than {MOST_DEVICES} devices")


def record_faults(document: RunDocument) -> Iterator[Fault]:
    """Everything of this module's list but the plan."""
    end_s = 0.0
    for place, result in enumerate(document.cases):
        path = f"$.cases[{place}]"
        if result.order != place:
            yield Fault(f"{path}.order", f"is {result.order} at place {place}: cases were moved or taken out")
        if (result.error is None) == (not result.requests):
            both = "both an error and requests" if result.requests else "neither requests nor an error"
            yield Fault(path, f"has {both}")
        virtual = result.engine is not None and document.engines[result.engine].device == "sim"
        if not 0 <= result.started_s <= (math.inf if virtual else document.duration_s + SLACK_S):
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
        yield from _loop_faults(result, path)
        yield from _warmup_faults(result, document, path)
    yield from _first_token_faults(document)


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
    measure = next((mark for mark in result.phases if mark.name == "measure"), None)
    last = max((_end_us(record) for record in result.requests if record.unit_us), default=None)
    if measure is not None and last is not None and not (measure.start_us <= 0 and last <= measure.end_us + 1):
        yield Fault(
            f"{path}.phases", f"tokens lie outside the phase `measure` ({measure.start_us} to {measure.end_us} us)"
        )
    for number, mark in enumerate(result.phases):
        if mark.end_us < mark.start_us:
            yield Fault(f"{path}.phases[{number}].end_us", f"{mark.name} ends before it begins")
        elif last is not None and mark.name == "measure":
            late_s, tokens = (mark.end_us - last) * 1e-6, sum(len(record.unit_us) for record in result.requests)
            why = f"the measuring ended {late_s:.2f} s after the last token"
            if late_s > AFTER_LAST_S + SORTING_S * tokens:
                below = None if late_s > SLACK_S + 0.1 * last * 1e-6 else "physical"
                yield Fault(f"{path}.phases[{number}].end_us", why, below=below)
    if result.requests and measure is None:
        yield Fault(f"{path}.phases", "has no phase `measure`", below="physical")
    for number, series in enumerate(result.readings):
        if any(later < earlier for earlier, later in pairwise(series.time_us)):
            yield Fault(f"{path}.readings[{number}].time_us", f"times of {series.name} go backwards")


def _end_us(record: RequestRecord) -> int:
    return record.end_us if record.end_us is not None else record.unit_us[-1]


def _loop_faults(result: CaseResult, path: str) -> Iterator[Fault]:
    """The closed loop: all users send before the first token, and each its next request as the one before it ends."""
    first = min((record.unit_us[0] for record in result.requests if record.unit_us), default=0)
    by_user: dict[int, list[RequestRecord]] = {}
    for number, record in enumerate(result.requests):
        by_user.setdefault(record.user, []).append(record)
        if record.index == 0 and record.submit_us > first:
            yield Fault(f"{path}.requests[{number}].submit_us", "a user's first request was sent after the first token")
    for user, records in by_user.items():
        for before, after in pairwise(records):
            if not before.unit_us or before.error is not None:
                continue
            waited_us = after.submit_us - _end_us(before)
            meanwhile = (
                sum(_end_us(before) < at < after.submit_us for at in other.unit_us)
                for other in result.requests
                if other.user != user
            )
            if waited_us > max(MOST_PAUSE_S * 1e6, 0.1 * (after.submit_us - before.submit_us)):
                why = f"user {user} paused for {waited_us * 1e-6:.2f} s: nobody does in this load"
                went_on = max(meanwhile, default=0) >= MOST_MEANWHILE
                yield Fault(f"{path}.requests", why, below=None if went_on else "physical")


def _first_token_faults(document: RunDocument) -> Iterator[Fault]:
    """The first tokens of one user alone against the others, over all repetitions of a row: put before their time, they leave a
    hole, or come sooner than a step."""
    rows: dict[str, tuple[int, list[RequestRecord]]] = {}
    for place, result in enumerate(document.cases):
        virtual = result.engine is not None and document.engines[result.engine].device == "sim"
        if result.case.concurrency == 1 and not virtual:
            alone = [one for one in result.requests if len(one.unit_us) > LEAST_TOKENS and not one.cached_tokens]
            rows.setdefault(result.case.group, (place, []))[1].extend(alone)
    for place, records in rows.values():
        holes = quick = 0
        for record in records:
            first, *rest = (later - earlier for earlier, later in pairwise(record.unit_us))
            usual = statistics.median(rest)
            holes += first > FIRST_GAP * usual and first >= HOLE_US
            quick += record.unit_us[0] - record.submit_us < LEAST_WAIT * usual
        path = f"$.cases[{place}].requests"
        if holes >= LEAST_PECULIAR and holes == len(records):
            why = "between the first token and the second there was always far more time than between others"
            yield Fault(path, why, below="physical")
        if quick >= LEAST_PECULIAR and 2 * quick >= len(records):
            why = "the first token came sooner than any other: a prompt takes a whole step at least"
            yield Fault(path, why, below="physical")


def _warmup_faults(result: CaseResult, document: RunDocument, path: str) -> Iterator[Fault]:
    """The rounds of the warm-up are in the document, and ended when the suite says: once steady, or with the last round."""
    plan = document.suite.content.get("warmup")
    users = result.case.concurrency
    if not result.requests or not isinstance(plan, dict):
        return
    rounds = [result.warmup[at : at + users] for at in range(0, len(result.warmup), users)]
    most, tolerance = plan.get("max_rounds", 0), plan.get("tolerance", 0.0)
    if len(result.warmup) != result.warmup_rounds * users:
        why = f"{len(result.warmup)} requests of {result.warmup_rounds} rounds of {users} users"
        yield Fault(f"{path}.warmup", why)
        return
    speeds = [drive.round_tpot_us(list(one)) for one in rounds]
    known = [speed for speed in speeds if speed is not None]
    over = [drive.is_steady(known[: at + 1], tolerance) for at in range(len(known))]
    ended = len(rounds) == most or None in speeds or (over[-1:] == [True] and True not in over[:-1])
    if not ended:
        why = f"{len(rounds)} rounds of {most}, and they were not steady" if rounds else f"no round of {most}"
        yield Fault(f"{path}.warmup_rounds", why)
    elif result.warmup_steady != (over[-1] if over else None):
        yield Fault(f"{path}.warmup_steady", f"is {result.warmup_steady}; the rounds say otherwise")
    if any(_end_us(record) > 0 for record in result.warmup if record.unit_us):
        yield Fault(f"{path}.warmup", "does not end before the measuring")


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
        work = case.workload
        if engine.fixed_length and tokens != work.units:
            yield Fault(
                f"{here}.unit_us", f"{tokens} {work.unit}s; {work.units} are asked for, and this engine keeps lengths"
            )
        if engine.accepts_token_ids and record.prompt_tokens != work.prompt_length:
            yield Fault(f"{here}.prompt_tokens", f"is {record.prompt_tokens}; the case sends {work.prompt_length}")
        yield from _step_faults(record, case, here)
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


def _step_faults(record: RequestRecord, case: Case, here: str) -> Iterator[Fault]:
    """Of a workload in steps: a time for each, a loss for each that is one of a training, and parts that lie inside the request."""
    work = case.workload
    if isinstance(work, Generation):
        return
    if (record.chunk_units or (1,)) != (work.step_units,) * (len(record.unit_us) if record.chunk_units else 1):
        yield Fault(f"{here}.chunk_units", f"a step of this case has {work.step_units} {work.unit}s")
    if isinstance(work, Training) and (record.loss is None or len(record.loss) != len(record.unit_us)):
        yield Fault(f"{here}.loss", "has not one loss for each step")
    elif (why := drive.loss_fault(record.loss)) is not None:
        yield Fault(f"{here}.loss", why)
    inside = [
        record.submit_us,
        *(at for mark in record.marks for at in (mark.start_us, mark.end_us)),
        _end_us(record) + 1,
    ]
    if record.marks and record.unit_us and inside != sorted(inside):
        yield Fault(f"{here}.marks", "do not follow one another inside the request")


def plan_faults(document: RunDocument, suite: Suite) -> Iterator[Fault]:
    """Each case against the suite, and each planned case against the document."""
    planned = {
        (workload.name, users): workload
        for workload in suite.workload
        for users in (workload.concurrency or suite.load.concurrency)
    }
    ids: set[str] = set()
    engines: dict[str, dict[tuple[str, int, int], CaseResult]] = {}
    for place, result in enumerate(document.cases):
        case, path = result.case, f"$.cases[{place}].case"
        label = case.group.removesuffix(f"/{case.workload.name}/c{case.concurrency}")
        if label == case.group or not re.match(
            re.escape(f"{case.backend}/{case.model}") + r"(\+.*)?$", label, re.DOTALL
        ):
            yield Fault(f"{path}.group", "is not made of backend, model, workload and users")
        if case.id != f"{case.group}/r{case.repetition}" or case.id in ids:
            yield Fault(f"{path}.id", "is there twice" if case.id in ids else "is not made of group and repetition")
        ids.add(case.id)
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
    for label, engine in engines.items():
        for workload_name, users in planned:
            for repetition in range(suite.load.repetitions):
                first = engine.get((workload_name, users, 0))
                skipped = first is not None and first.error is not None and first.error.kind == "skipped"
                if (workload_name, users, repetition) not in engine and not skipped:
                    group = f"{label}/{workload_name}/c{users}"
                    yield Fault("$.cases", f"{group}/r{repetition} is planned by the suite, and not here")


def identity_faults(document: RunDocument, now_utc: str) -> Iterator[Fault]:
    """When, by which rigbench and on what kind of machine: what follows from the document itself, and from the clock."""
    created = document.created_utc
    try:
        datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ")
        real = len(created) == len("2026-01-31T12:00:00Z")
    except ValueError:
        real = False
    if not real or created < FIRST_YEAR:
        yield Fault("$.created_utc", "is not a time like 2026-01-31T12:00:00Z since rigbench is there")
    elif created > now_utc:
        yield Fault("$.created_utc", f"{created} is still to come")
    if not 0 <= document.duration_s <= LONGEST_S:
        yield Fault("$.duration_s", f"{document.duration_s:g} s are impossible")
    if not re.match(r"\d+\.\d+", document.rigbench_version):
        yield Fault("$.rigbench_version", f"{document.rigbench_version[:40]!r} is not a version")
    elif order(document.rigbench_version) > order(__version__):
        later = f"{document.rigbench_version[:40]} is later than this rigbench ({__version__}): not all of it can be checked"
        yield Fault("$.rigbench_version", later, below="sound")
    machine = document.machine
    if machine.memory_bytes is None or not 2**26 <= machine.memory_bytes <= 2**50:
        yield Fault("$.machine.memory_bytes", f"{machine.memory_bytes} is not a memory size")
    else:
        cores = machine.physical_cores or machine.logical_cores
        right = machine_id(machine.cpu, cores, machine.memory_bytes, machine.gpus)
        if machine.id != right:
            yield Fault("$.machine.id", f"is {machine.id[:60]!r}; a machine of these parts is called {right!r}")


def engine_faults(document: RunDocument) -> Iterator[Fault]:
    """All repetitions of a row ran on one engine, on a device that its backend has."""
    first: dict[str, int] = {}
    for place, result in enumerate(document.cases):
        if result.engine is None:
            continue
        path, engine = f"$.cases[{place}]", document.engines[result.engine]
        other = document.engines[first.setdefault(result.case.group, result.engine)]
        changed = [name for name in SAME_ENGINE if getattr(engine, name) != getattr(other, name)]
        if changed:
            yield Fault(f"{path}.engine", f"another {changed[0].replace('_', ' ')} than the repetition before it")
        backend = result.case.backend
        if backend not in rigbench_backends.BUILT_IN:
            yield Fault(f"{path}.case.backend", f"{backend[:40]!r} is not a backend of rigbench", below="physical")
        elif engine.device not in rigbench_backends.load(backend).device_kinds:
            yield Fault(f"$.engines[{result.engine}].device", f"{backend} has no device {engine.device[:40]!r}")


def outcome_faults(document: RunDocument) -> Iterator[Fault]:
    """What keeps a document from being complete: cases that are missing, failed, or skipped without need."""
    if not document.complete:
        yield Fault("$.complete", "the run was ended early: cases are missing", below="complete")
    models = {model.name: model for model in document.models}
    loaded = {(result.case.backend, result.case.model) for result in document.cases if result.engine is not None}
    machine = document.machine
    gpus = [gpu.get("memory_bytes") for gpu in machine.gpus]
    room = (machine.memory_bytes or 0) + sum(size for size in gpus if isinstance(size, int))
    if machine.os.startswith("macOS"):  # where the GPU's memory is the machine's
        room = machine.memory_bytes or 0
    for place, result in enumerate(document.cases):
        case, path = result.case, f"$.cases[{place}]"
        failed = sum(record.error is not None for record in result.requests)
        if failed:
            yield Fault(f"{path}.requests", f"{failed} requests failed", below="complete")
        if result.error is None:
            continue
        facts = models.get(case.model)
        if result.error.kind != "skipped" or facts is None or (case.backend, case.model) not in loaded:
            why = f"{result.error.kind[:20]}: what this would have been like, nobody knows"
            yield Fault(f"{path}.error", why, below="complete")
            continue
        too_long = facts.context_limit is not None and case.workload.context_tokens > facts.context_limit
        if not too_long and memory_bytes(facts, case) <= room:
            yield Fault(f"{path}.error", "was skipped, and it fits this model and this machine")


def prompt_faults(document: RunDocument) -> Iterator[Fault]:
    """The hash of the prompts: there, of one case alone, and of token ids the one that the seed gives."""
    prompts: dict[tuple[str, str], int] = {}
    tokens = 0
    for place, result in enumerate(document.cases):
        if result.engine is None or not result.requests:
            continue
        case, engine, path = result.case, document.engines[result.engine], f"$.cases[{place}].prompts_sha256"
        if not re.fullmatch("[0-9a-f]{64}", result.prompts_sha256 or ""):
            yield Fault(path, "is not a SHA-256")
            continue
        label = case.group.removesuffix(f"/{case.workload.name}/c{case.concurrency}")
        if prompts.setdefault((label, str(result.prompts_sha256)), place) != place:
            yield Fault(path, f"is also the one of $.cases[{prompts[label, str(result.prompts_sha256)]}]")
        if case.workload.kind not in ("tokens", "train") or not engine.vocab_size or not engine.accepts_token_ids:
            continue
        tokens += len(result.requests) * case.workload.prompt_length
        if tokens > MOST_PROMPT_TOKENS:
            return
        seed = f"{case.seed}/{case.workload.name}/{case.repetition}/measure"
        order = tuple((record.user, record.index) for record in result.requests)
        if _token_prompts_sha256(engine.vocab_size, case.workload.prompt_length, seed, order) != result.prompts_sha256:
            yield Fault(path, "is not that of the prompts that this seed gives")


@lru_cache(256)
def _token_prompts_sha256(vocabulary: int, length: int, seed: str, order: tuple[tuple[int, int], ...]) -> str:
    """Of the prompts in the `order` of (user, index). Kept: documents of one suite have the same."""
    prompt, digest = drive.token_prompts(vocabulary, length, seed), hashlib.sha256()
    for user, index in order:
        digest.update(drive.prompt_bytes(prompt(user, index)))
    return digest.hexdigest()


def name_faults(document: RunDocument) -> Iterator[Fault]:
    """Names that would be a path somewhere, or more than a name on a page."""
    machine = document.machine
    names = [("$.machine.cpu", machine.cpu), ("$.machine.os", machine.os), ("$.machine.kernel", machine.kernel)]
    for place, engine in enumerate(document.engines):
        names += [(f"$.engines[{place}].engine", engine.engine), (f"$.engines[{place}].version", engine.version)]
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
    for path, name in _once([*named, *names]):
        if re.search("[<>]", name):
            yield Fault(path, f"{name[:60]!r} holds < or >, which no name does")


def _once(named: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each name at its first place."""
    first: dict[str, str] = {}
    for path, name in named:
        first.setdefault(name, path)
    return [(path, name) for name, path in first.items()]
