"""The worker process. Commands come in on stdin, events go out on stdout, both JSON lines; engines may print as they like.

Started by path, not by module name (`python .../harness/rigbench/worker/__main__.py`), in whatever interpreter has the engine, so
it takes `harness` and `backends` from its own place and nothing else: the parent's other packages stay out of sight.

    {"do": "open", "backend": "sim", "model": {...}, "options": {...}}         -> {"event": "opened", ...}
    {"do": "case", "case": {...}, "text": null, "warmup": {...}}               -> {"event": "phase", ...}* {"event": "case", ...}
    {"do": "probe", "backend": "sim", "options": {...}}                        -> {"event": "probe", ...}
    {"do": "close"} or the end of stdin (the parent is gone)                   -> the worker ends
Anything that fails answers {"event": "error", "kind": ..., "message": ...}. What explains it is in stderr: the engine's log and,
after a fatal signal, the place that Python's fault handler writes.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent


def _adopt(folder: Path) -> None:
    """Make the package in `folder` importable, without putting what lies beside it on the path."""
    name = folder.name
    if name in sys.modules:
        return
    file = folder / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    del sys.path[0]  # the folder of this script: its modules must not shadow anybody's
_adopt(PACKAGE)
_beside = PACKAGE.parent / "rigbench_backends"  # as installed; in a checkout each has a source root of its own
_adopt(_beside if _beside.is_dir() else PACKAGE.parent.parent / "backends" / "rigbench_backends")

import rigbench_backends  # noqa: E402  only importable from here on
from rigbench import __version__  # noqa: E402
from rigbench.clock import now_ns  # noqa: E402
from rigbench.records import Case, PhaseMark, RequestRecord  # noqa: E402
from rigbench.worker import drive  # noqa: E402
from rigbench.workloads import workload  # noqa: E402
from rigbench_backends.base import CONTRACT_VERSION, EngineError, ModelFile, Session, StepBytes  # noqa: E402

Message = dict[str, Any]


class Worker:
    """Holds the one session between commands. `send` takes an event's name and its fields."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._session: Session | None = None
        self._has_stepped = False

    def probe(self, command: Message) -> None:
        backend = rigbench_backends.load(command["backend"])
        probe = backend.probe(make_options(backend.Options, command["options"]))
        self._send("probe", **asdict(probe), python=sys.version.split()[0])

    def open(self, command: Message) -> None:
        backend = rigbench_backends.load(command["backend"])
        options = make_options(backend.Options, command["options"])
        model = command["model"]
        read = model.get("step_bytes")
        start = now_ns()
        self._session = backend.open(ModelFile(**{**model, "step_bytes": read and StepBytes(**read)}), options)
        self._send(
            "opened",
            info=asdict(self._session.info),
            load_start_ns=start,
            load_end_ns=now_ns(),
            rigbench=__version__,
            contract=CONTRACT_VERSION,
            python=sys.version.split()[0],
        )

    def case(self, command: Message) -> None:
        session = self._session
        assert session is not None, "a case came before a model was opened"
        case = Case(**{**command["case"], "workload": workload(command["case"]["workload"])})
        work, warmup = case.workload, command["warmup"]
        make = partial(make_prompts, session, case, command.get("text"))
        self._phase("prepare")
        limit = session.info.context_limit
        if limit and work.context_tokens > limit:
            too_long = f"{work.context_tokens} tokens of context are more than the model's {limit}"
            raise EngineError("context", f"{too_long} in {session.info.engine}")
        session.prepare_work(work, case.concurrency)

        clock_shift = now_ns() - session.clock()  # 0 but for the simulator, whose clock is virtual
        phases = []
        rounds = []
        tpots: list[float] = []
        warmup_start = session.clock()
        short = work.shortened(warmup["prompt_tokens"], warmup["output_tokens"])
        for index in range(warmup["max_rounds"]):
            self._phase("warmup" if self._has_stepped else "first_step", index)
            load = drive.Load(case.concurrency, 1, short.units, make(f"warmup{index}", short.prompt_length))
            start, records, _ = drive.drive(session, load, self._stepped)
            drive.assert_some_sound(records)
            rounds.append((start, records))
            tpot = drive.round_tpot_us(records)
            if tpot is None:
                break
            tpots.append(tpot)
            if drive.is_steady(tpots, warmup["tolerance"]):
                break
        if rounds:
            phases.append(("warmup", warmup_start, session.clock()))

        self._phase("measure")
        load = drive.Load(
            users=case.concurrency,
            requests_per_user=case.requests_per_user,
            units=work.units,
            prompt=make("measure", work.prompt_length),
            duration_ns=None if case.duration_s is None else round(case.duration_s * 1e9),
        )
        session.flags()  # those of the warm-up
        t0, records, prompts_sha256 = drive.drive(session, load)
        flags = session.flags()
        drive.assert_some_sound(records)
        phases.append(("measure", t0, session.clock()))
        self._send(
            "case",
            t0_ns=t0 + clock_shift,
            prompts_sha256=prompts_sha256,
            requests=[asdict(record) for record in records],
            warmup=[_shifted(record, (start - t0) // 1000) for start, of_round in rounds for record in of_round],
            warmup_rounds=len(rounds),
            warmup_steady=drive.is_steady(tpots, warmup["tolerance"]) if tpots else None,
            phases=[(name, (a - t0) // 1000, (b - t0) // 1000) for name, a, b in phases],
            memory=asdict(session.memory()),
            step_work=None if (counted := session.work()) is None else asdict(counted),
            flags=[{"name": name, "evidence": evidence} for name, evidence in flags],
        )

    def _phase(self, name: str, warmup_round: int = 0) -> None:
        """Tell the parent what follows, so that it knows what a worker died of. Never inside a measured window."""
        self._send("phase", name=name, round=warmup_round)

    def _stepped(self) -> None:
        if not self._has_stepped:
            self._has_stepped = True
            self._phase("warmup")

    def close(self, _command: Message) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


def make_prompts(session: Session, case: Case, text: str | None, purpose: str, length: int) -> drive.Prompts:
    """A case's prompts of `length` tokens, another set for each `purpose`."""
    info, kind = session.info, case.workload.kind
    seed = f"{case.seed}/{case.workload.name}/{case.repetition}/{purpose}"
    if kind == "image":
        return drive.word_prompts(seed)
    if kind == "text" and not info.accepts_token_ids:
        return drive.cut_prompts(session.cut, text or "", length, seed)
    if kind == "text":
        return drive.text_prompts(session.encode, text or "", length, seed)
    if not info.vocab_size or not info.accepts_token_ids:
        raise EngineError("options", f"{info.engine} takes no token ids: use a workload of kind `text`")
    return drive.token_prompts(info.vocab_size, length, seed)


def _shifted(record: RequestRecord, shift_us: int) -> Message:
    """The record with its times counted from an instant that is `shift_us` earlier."""
    end_us = None if record.end_us is None else record.end_us + shift_us
    unit_us = tuple(stamp + shift_us for stamp in record.unit_us)
    marks = tuple(PhaseMark(mark.name, mark.start_us + shift_us, mark.end_us + shift_us) for mark in record.marks)
    submit_us = record.submit_us + shift_us
    return asdict(replace(record, submit_us=submit_us, unit_us=unit_us, end_us=end_us, marks=marks))


def make_options(kind: type, values: Message) -> Any:
    """A backend's options from JSON, whose lists are tuples here. Their names were checked by the parent (run/engines.py)."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _read_commands(inbox: queue.SimpleQueue[Message]) -> None:
    """Commands as they come. The end of stdin while a case runs means that the parent is gone: go at once."""
    for line in sys.stdin:
        command = json.loads(line)
        inbox.put(command)
        if command["do"] == "close":
            return
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with all that the engine has started
    os._exit(0)


def main() -> None:
    """Serve commands until told to close."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what an engine prints goes to the log, never between our lines
    sys.stdout = sys.stderr
    faulthandler.enable()  # a fatal signal leaves the place in the log

    def send(event: str, **fields: Any) -> None:
        events.write(json.dumps({"event": event, **fields}, allow_nan=False) + "\n")
        events.flush()

    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_read_commands, args=(inbox,), daemon=True).start()
    worker = Worker(send)
    doing = None
    while doing != "close":
        command = inbox.get()
        doing = command["do"]
        try:
            getattr(worker, doing)(command)
        except EngineError as error:
            send("error", kind=error.kind, message=str(error))
        except KeyboardInterrupt:
            break
        except MemoryError:
            send("error", kind="memory", message="the worker ran out of memory")
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            send("error", kind="crash", message=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
