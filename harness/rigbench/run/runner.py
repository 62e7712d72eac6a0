"""A run from its plan to its document: one worker per job, every finished case in the journal, failures as rows.

The parent sleeps on the worker's pipe. It speaks to people (through `report`) only between measured windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

import rigbench_backends
from rigbench import __version__
from rigbench.clock import now_ns
from rigbench.documents.validate.checks import SAME_ENGINE
from rigbench.predict.calibrate import Probe
from rigbench.records import Arithmetic, Bandwidth, Case, CaseResult, Failure, Flag, Machine, PhaseMark, RequestRecord
from rigbench.run.journal import Finished, Header, Journal
from rigbench.run.meters import Meters, as_seen_from
from rigbench.run.processes import WorkerGone, WorkerLate, WorkerProcess
from rigbench.suites.plan import Engine, Job, Plan
from rigbench.suites.prompts import prompt_name, prompt_text
from rigbench.suites.suite import EnginePart, Suite
from rigbench.telemetry.base import Source
from rigbench.telemetry.machine import engine_threads
from rigbench.text import private_words, scrub
from rigbench_backends.base import CONTRACT_VERSION, Diagnosis, EngineInfo

Report = Callable[[str, dict[str, Any]], None]
"""Called with what happens: job, loaded, case, phase, done. Never inside a measured window, but for the mark of its start."""

LOAD_SLOWEST_BYTES_PER_S = 50e6
LOG_LINES = 12
STACK_LINES = 5
"""Of what Python's fault handler writes at a fatal signal: all its stacks would push the engine's own lines out of the row."""
DOING = {
    "load": "while loading the model",
    "prepare": "while making room for the users",
    "first_step": "in its first step",
    "warmup": "while warming up",
    "measure": "while measuring",
}
"""A worker's phases in words."""
SOUND_AFTER = ("context", "options", "memory")
"""Refusals after which the worker is as good as before; after any other failure it is replaced."""
LASTING = ("memory", "context", "options", "crash", "killed", "time_limit", "decode")
"""Failures of one repetition that the next would meet again."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a suite comes to on this machine, before anything of it is run."""

    suite: Suite
    parts: Sequence[EnginePart]
    plan: Plan
    machine: Machine
    bandwidths: dict[str, Bandwidth]
    rates: dict[str, Arithmetic] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()
    """Those that this machine has of the plan's devices and backends."""

    @property
    def models(self) -> dict[str, str | None]:
        """The hash of each model's file by the model's name."""
        return {job.engine.model.name: job.engine.model.sha256 for job in self.plan.jobs}


@dataclass(slots=True)
class Run:
    """Everything one run needs, and what it has so far."""

    prepared: Prepared
    header: Header
    journal: Journal
    done: dict[str, Finished] = field(default_factory=dict)
    report: Report = lambda *_: None
    sources: Sequence[Source] = ()
    telemetry: dict[str, Any] = field(default_factory=dict)
    start_ns: int = field(init=False)

    def __post_init__(self) -> None:
        """The wall clock says how long a run was interrupted, unless it was set back meanwhile."""
        ended_s = max((_end_s(finished.result) for finished in self.done.values()), default=0.0)
        self.start_ns = now_ns() - round(max(time.time() - self.header.created_unix, ended_s) * 1e9)

    @property
    def plan(self) -> Plan:
        """What is to be run."""
        return self.prepared.plan

    @property
    def total(self) -> int:
        """The cases of the plan, those that are skipped too."""
        return self.plan.cases + len(self.plan.skipped)

    def seconds_at(self, stamp_ns: int) -> float:
        """Seconds from the run's creation, across resumption too."""
        return round((stamp_ns - self.start_ns) / 1e9, 6)


def _end_s(result: CaseResult) -> float:
    """Seconds from the run's creation to the end of a case."""
    return result.started_s + max((mark.end_us for mark in result.phases), default=0) / 1e6


def execute(run: Run) -> None:
    """Run all cases that are not done yet. DiskFull and KeyboardInterrupt end it early, with everything finished kept."""
    for skipped in run.plan.skipped:
        if skipped.case.id not in run.done:
            failure = Failure("skipped", skipped.reason)
            _finish(run, CaseResult(skipped.case, len(run.done), run.seconds_at(now_ns()), error=failure), None)
    with Meters(run.sources, run.prepared.suite.load.settle_s) as meters:
        try:
            for job in run.plan.jobs:
                left = [case for case in job.cases if case.id not in run.done]
                if left:
                    with _JobRun(run, job, meters) as work:
                        for case in left:
                            work.measure(case)
        finally:
            run.telemetry = meters.report()


def _finish(run: Run, result: CaseResult, info: EngineInfo | None) -> None:
    """A case is over: keep it in memory, then on disk, then tell people."""
    run.done[result.case.id] = finished = Finished(result, info)
    run.journal.append(finished)
    run.report("done", {"result": result})


def with_threads(engine: Engine) -> dict[str, Any]:
    """Its options; an engine that takes `threads` and was given none gets as many as compute best here."""
    takes = any(each.name == "threads" for each in fields(rigbench_backends.load(engine.backend).Options))
    threads = engine.options.get("threads") or engine_threads()
    return {**engine.options, "threads": threads} if takes else engine.options


def _stamps(path: Path) -> tuple[tuple[int, int], ...]:
    """(bytes, time of the last change) of a model's file, or of the files of its folder; () where there is none."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in (each.stat() for each in files if each.is_file()))


class _JobRun:
    """One job's worker, started when needed and replaced after a failure."""

    def __init__(self, run: Run, job: Job, meters: Meters) -> None:
        self._run, self._job, self._meters = run, job, meters
        self._worker: WorkerProcess | None = None
        self._info: EngineInfo | None = None
        self._load_ns: tuple[int, int] | None = None
        self._phase = "load"
        self._never_loads: Failure | None = None
        """Why the first worker could not open the model: no other would either, and each try may take minutes."""
        self._given_up: dict[str, Failure] = {}
        self._stamps: tuple[tuple[int, int], ...] | None = None
        """Sizes and times of the model's files when it was first loaded."""
        self._killed: set[str] = set()
        """Groups of which a worker was killed: the next time it is given up."""
        self._private = private_words(job.engine.python, job.engine.model.file.path)

    def __enter__(self) -> _JobRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._meters.worker_gone()
        if self._worker is not None:
            self._worker.close() if kind is None else self._worker.kill()

    def measure(self, case: Case) -> None:
        """One case: measured, or a row that says why not."""
        run = self._run
        begun = run.seconds_at(now_ns())
        try:
            if self._never_loads is not None:
                raise _CannotStart(self._never_loads)
            if (before := self._given_up.get(case.group)) is not None:
                why = f"an earlier repetition failed ({before.kind}: {before.message})"
                raise _CaseFailed(Failure("not_run", why))
            try:
                result = self._try(case)
            except _CaseFailed as error:  # by hand, or for memory that is free by now: once more, with another worker
                if error.failure.kind != "killed" or case.group in self._killed:
                    raise
                self._killed.add(case.group)
                result = self._try(case)
        except _CaseFailed as error:
            result = CaseResult(case, len(run.done), begun, error=error.failure)
            if isinstance(error, _CannotStart):
                self._never_loads = error.failure if self._info is None else None
            elif error.failure.kind in LASTING:
                self._given_up[case.group] = error.failure
        _finish(run, result, self._info)

    def _try(self, case: Case) -> CaseResult:
        worker = self._worker or self._start()
        self._run.report("case", {"case": case})
        return self._measure(worker, case)

    def _start(self) -> WorkerProcess:
        """A fresh worker with the model loaded."""
        engine = self._job.engine
        stamps = _stamps(Path(engine.model.file.path)) if engine.model.file.path else ()
        if self._stamps not in (None, stamps):
            raise _CannotStart(Failure("load", "the model's file was changed or removed while the run went on"))
        self._stamps = stamps
        size_bytes = engine.model.facts.file_bytes if engine.model.facts else 0
        limit_s = self._run.prepared.suite.load.case_time_limit_s + size_bytes / LOAD_SLOWEST_BYTES_PER_S
        self._run.report("load", {"job": self._job, "limit_s": limit_s})
        if self._info is None:  # a worker that replaces another finds a machine that is no longer idle
            self._meters.before_load(self._run.report)
        worker = self._worker = WorkerProcess(engine.python)
        model = asdict(engine.model.file)
        command = {"do": "open", "backend": engine.backend, "model": model, "options": with_threads(engine)}
        answer = self._ask(worker, command, limit_s, f"loading took longer than {limit_s:.0f} s")
        if (answer["rigbench"], answer["contract"]) != (__version__, CONTRACT_VERSION):
            self._replace()
            raise _CannotStart(Failure("protocol", "the worker is of another version of rigbench than the parent"))
        detail = {**answer["info"].get("detail", {}), "python": answer["python"]}
        info = TypeAdapter(EngineInfo).validate_python({**answer["info"], "detail": detail})
        if (other := self._other_engine(info)) is not None:
            self._replace()
            raise _CannotStart(Failure("unavailable", other, fix="start the suite again"))
        self._info = info
        self._load_ns = (answer["load_start_ns"], answer["load_end_ns"])
        self._run.report("loaded", {"info": self._info})
        return worker

    def _other_engine(self, info: EngineInfo) -> str | None:
        """What differs from the engine that measured this job's cases before the run was interrupted."""
        ids = {case.id for case in self._job.cases}
        before = next((each.engine for key, each in self._run.done.items() if key in ids and each.engine), None)
        for name in SAME_ENGINE if before else ():
            then, now = getattr(before, name), getattr(info, name)
            if then != now:
                return (
                    f"the cases before the interruption had {name.replace('_', ' ')} {then}, and this engine has {now}"
                )
        return None

    def _measure(self, worker: WorkerProcess, case: Case) -> CaseResult:
        run = self._run
        text = None
        part = next(part for part in run.prepared.suite.workload if part.name == case.workload.name)
        if part.kind == "text":
            text = prompt_text(prompt_name(part.prompt_tokens, part.prompt))
        settle_start = now_ns()
        settle_flags = self._meters.before_case(worker.pid)
        settled = now_ns()
        limit_s = run.prepared.suite.load.case_time_limit_s
        warmup = run.prepared.suite.warmup.model_dump()
        command = {"do": "case", "case": asdict(case), "text": text, "warmup": warmup}
        late = f"the case took longer than {limit_s:g} s (load.case_time_limit_s)"
        answer = self._ask(worker, command, limit_s, late)
        t0_ns = answer["t0_ns"]
        phases = [PhaseMark(name, start, end) for name, start, end in answer["phases"]]
        if settled - settle_start > 1e6:
            phases.insert(0, PhaseMark("settle", (settle_start - t0_ns) // 1000, (settled - t0_ns) // 1000))
        if self._load_ns is not None:  # the first case after loading carries the load
            (start_ns, end_ns), self._load_ns = self._load_ns, None
            phases.insert(0, PhaseMark("load", (start_ns - t0_ns) // 1000, (end_ns - t0_ns) // 1000))
        metered, marks = self._meters.after_case(worker.pid, t0_ns, phases)
        reply_fields = ("prompts_sha256", "warmup", "warmup_rounds", "warmup_steady", "requests", "flags", "step_work")
        content = {name: answer[name] for name in reply_fields} | {"engine_memory": answer["memory"]}
        place = {"case": case, "order": len(run.done), "started_s": run.seconds_at(t0_ns), "phases": marks}
        result = TypeAdapter(CaseResult).validate_python(content | place)
        assert self._info is not None
        metered = as_seen_from(self._info.place, metered)
        idle = self._job.engine.unused_gpu
        unused = (Flag("gpu_unused", idle),) if idle and self._info.device == "cpu" else ()
        return replace(
            result,
            requests=tuple(self._clean(record) for record in result.requests),
            warmup=tuple(self._clean(record) for record in result.warmup),
            host_memory=metered.memory,
            readings=metered.readings,
            flags=(*unused, *settle_flags, *metered.flags, *result.flags),
        )

    def _clean(self, record: RequestRecord) -> RequestRecord:
        return replace(record, error=scrub(record.error, self._private)) if record.error else record

    def _ask(self, worker: WorkerProcess, command: dict[str, Any], limit_s: float, late: str) -> dict[str, Any]:
        """Send a command and wait for its answer; phases on the way are reported. _CannotStart or _CaseFailed if it fails."""
        deadline = time.monotonic() + limit_s
        opening = command["do"] == "open"
        self._phase, sound = "load" if opening else "prepare", False
        try:
            worker.send(command)
            while True:
                message = worker.receive(deadline)
                if message["event"] == "phase":
                    self._phase = message["name"]
                    if self._phase == "measure":
                        self._meters.edge()
                    self._run.report("phase", message)
                elif message["event"] == "error":
                    failure = self._failure(message["kind"], message["message"], worker.log_lines())
                    sound = failure.kind in SOUND_AFTER and not opening
                    break
                else:
                    return message
        except WorkerLate:
            failure = self._failure("time_limit", f"{late}, {DOING[self._phase]}", worker.log_lines())
        except WorkerGone as error:
            failure = self._crash(error, worker.log_lines())
        if not sound:
            self._replace()
        raise _CannotStart(failure) if opening else _CaseFailed(failure)

    def _crash(self, error: WorkerGone, log: Sequence[str]) -> Failure:
        """A worker that died: while doing what, the line in which its engine says why (if it got so far), and what to try."""
        device = self._info.device if self._info else None
        if error.kind == "killed":
            why = Diagnosis("by hand, or by the system because memory ran out")
        else:
            why = rigbench_backends.load(self._job.engine.backend).diagnose(log, self._phase, error.signal, device)
        message = f"{error} {DOING[self._phase]}" + (f": {why.cause}" if why.cause else "")
        return self._failure(error.kind, message, log, why)

    def _failure(self, kind: str, message: str, log: Sequence[str], why: Diagnosis = Diagnosis(None)) -> Failure:  # noqa: B008
        fatal = next((i for i, line in enumerate(log) if line.startswith("Fatal Python error")), len(log))
        lines = list(log[: fatal + STACK_LINES][-LOG_LINES:])
        if why.cause and kind == "crash" and not any(why.cause in line for line in lines):
            lines.insert(0, why.cause)  # a backtrace has pushed it out of sight
        clean = [scrub(line, self._private) for line in lines]
        return Failure(kind, scrub(message, self._private), tuple(clean), self._phase, why.fix)

    def _replace(self) -> None:
        """Give this worker up; the next case starts another."""
        self._meters.worker_gone()
        if self._worker is not None:
            self._worker.kill()
            self._worker = None


class _CaseFailed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _CannotStart(_CaseFailed):
    """The model does not load."""
