"""What strikes a run: signals to the worker and to the run itself, full disks, torn files, clocks, strange surroundings.

Each fault leaves a mark that proves that it struck. Then: no finished case is lost, nothing is left running, and the exit code is
the right one. The journal's own faults (torn, flipped, a disk that is really full) are in tests/run/test_journal.py.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from plugin_folder import plugin_folder

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="POSIX signals and limits"),
    pytest.mark.slow,
]

PLUGIN = '''
"""The simulator, struck once where MARK's folder says."""
import os, signal
from pathlib import Path
from rigbench_backends import sim

MARK = Path(os.environ["MARK"])
AT, STEP, BY = (MARK / "fault").read_text().split()


def strike():
    if (MARK / "struck").exists():
        return
    (MARK / "struck").write_text(str(os.getpid()))
    if BY == "memory":
        kept = []
        while True:
            kept.append(b"x" * 2**24)
    os.kill(os.getpid(), getattr(signal, BY))


class Session(sim.SimSession):
    count = 0

    def step(self):
        self.count += 1
        if AT == "step" and self.count == int(STEP):
            strike()
        return super().step()

    def close(self):
        if AT == "close":
            strike()
        super().close()


class Struck(sim.SimBackend):
    name = "struck"

    def open(self, model, options):
        if AT == "load":
            strike()
        return Session(model, options)


BACKEND = Struck()
'''
SUITE = """
name = "faults"
version = "1"
[load]
concurrency = [1, 2]
repetitions = 2
requests_per_user = 1
case_time_limit_s = {limit_s}
[warmup]
max_rounds = 1
output_tokens = 8
[[workload]]
name = "w"
kind = "tokens"
prompt_tokens = 50
output_tokens = 40
[[engine]]
backend = "{backend}"
model = "synthetic:llama-160m:Q4_0"
options = {{ {options} }}
"""
REAL_TIME = 'pace = "real", bandwidth_gb_per_s = 4'
SLOWLY = 'pace = "real", bandwidth_gb_per_s = 0.5'
"""Long enough for another command to start beside it on a machine that is busy."""
CASES = 4
IN_WARMUP, IN_WINDOW = 2, 20
"""Steps of a worker: the first case begins with a warm-up of 8."""


class Box:
    """A folder to run in. Everything started from it carries its path in the environment, and is found again by that."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {**os.environ, "MARK": str(path)}

    def suite(self, backend: str = "sim", options: str = "", limit_s: float = 60) -> str:
        (self.path / "faults.toml").write_text(SUITE.format(backend=backend, options=options, limit_s=limit_s))
        return "faults.toml"

    def fault(self, at: str, by: str, step: int = 1) -> None:
        plugin_folder(self.path / "plugin", "rigbench.backends", "struck", "BACKEND", PLUGIN)
        (self.path / "fault").write_text(f"{at} {step} {by}")
        path = [str(self.path / "plugin"), os.environ.get("PYTHONPATH")]
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))

    def start(self, *words: str | Path, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "rigbench.cli.main", *map(str, words)]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(command, text=True, cwd=self.path, env=self.environment, preexec_fn=before, **output)

    def rigbench(self, *words: str | Path, expect: int = 0, before: Callable[[], None] | None = None) -> str:
        """What it prints; its exit code is `expect`, and it leaves nothing running."""
        return self.end(self.start(*words, before=before), expect)

    def end(self, process: subprocess.Popen[str], expect: int) -> str:
        out, err = process.communicate(timeout=120)
        assert process.returncode == expect, out + err
        assert "Traceback" not in err
        end = time.monotonic() + 20
        while (left := self.running()) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left
        return out + err

    def running(self) -> list[list[str]]:
        commands = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("MARK") == str(self.path) and process.status() != psutil.STATUS_ZOMBIE:
                    commands.append(process.cmdline())
            except psutil.Error:
                continue
        return commands

    def document(self) -> dict[str, Any]:
        """The newest result."""
        paths = sorted(self.path.glob("results/*/*.json"), key=lambda path: path.stat().st_mtime_ns)
        return json.loads(paths[-1].read_text())

    def measured(self) -> int:
        return sum(bool(case["requests"]) for case in self.document()["cases"])

    def journal(self, cases: int = 0) -> Path:
        """The journal, as soon as it holds so many cases."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for path in self.path.glob("results/*/*.journal"):
                if path.read_bytes().count(b"\n") > cases:
                    return path
            time.sleep(0.01)
        raise AssertionError("no such journal")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    one = Box(tmp_path)
    yield one
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == str(tmp_path):
                process.kill()
        except psutil.Error:
            continue


@pytest.mark.parametrize("by", ["SIGKILL", "SIGSEGV", "SIGSTOP"])
@pytest.mark.parametrize(
    ("at", "step"),
    [("load", 1), ("step", IN_WARMUP), ("step", IN_WINDOW), ("close", 1)],
    ids=["load", "warmup", "window", "close"],
)
def test_the_worker_is_struck(at: str, step: int, by: str, box: Box) -> None:
    box.fault(at, by, step)
    loading = at == "load" and by != "SIGKILL"  # no other worker would load it either; but one that was killed
    text = box.rigbench("run", box.suite("struck", limit_s=4), "--no-telemetry", expect=3 if loading else 0)
    assert (box.path / "struck").exists()
    cases = box.document()["cases"]
    kinds = [case["error"]["kind"] for case in cases if case["error"]]
    assert len(cases) == CASES
    if at == "close" or by == "SIGKILL":
        assert kinds == []
    else:
        kind = "crash" if by == "SIGSEGV" else "time_limit"
        assert kinds == ([kind] * CASES if loading else [kind, "not_run"])
        assert f"{len(kinds)} of {CASES} cases failed" in text
    box.rigbench("validate", next(box.path.glob("results/*/*.json")))


@pytest.mark.parametrize(
    ("how", "times"),
    [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGINT, 6), (signal.SIGTERM, 2), (signal.SIGHUP, 2)],
)
def test_the_run_is_ended(how: signal.Signals, times: int, box: Box) -> None:
    run = box.start("run", box.suite(options=REAL_TIME), "--no-telemetry")
    journal = box.journal(1)
    for _ in range(times):
        run.send_signal(how)
        time.sleep(0.01)
    text = box.end(run, 130)
    before = box.document()
    assert before["complete"] is False and 1 <= len(before["cases"]) < CASES
    assert f"--resume {journal.relative_to(box.path)}" in text
    assert not list(box.path.glob("results/*/*.reserve"))
    box.rigbench("run", "--resume", journal)
    assert box.measured() == CASES and box.document()["complete"]


def test_the_run_is_killed(box: Box) -> None:
    run = box.start("run", box.suite(options=REAL_TIME), "--no-telemetry")
    journal = box.journal(2)
    run.kill()
    box.end(run, -signal.SIGKILL)
    finished = [json.loads(line.partition(b"\t")[0]) for line in journal.read_bytes().splitlines()[1:]]
    box.rigbench("run", "--resume", journal)
    cases = {case["case"]["id"]: case for case in box.document()["cases"]}
    assert len(cases) == CASES
    for line in finished:  # the very records of before: nothing was measured twice
        assert cases[line["result"]["case"]["id"]]["requests"] == line["result"]["requests"]


def test_the_run_is_suspended(box: Box) -> None:
    run = box.start("run", box.suite(options=REAL_TIME), "--no-telemetry")
    box.journal(1)
    run.send_signal(signal.SIGSTOP)
    end = time.monotonic() + 20  # a process that waits for its disk stops when that has answered
    while psutil.Process(run.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(2)
    run.send_signal(signal.SIGCONT)
    box.end(run, 0)
    assert box.measured() == CASES


def test_two_go_on_with_one_journal(box: Box) -> None:
    run = box.start("run", box.suite(options=SLOWLY), "--no-telemetry")
    journal = box.journal(1)
    other = box.start("run", "--resume", journal)
    out, err = other.communicate(timeout=60)
    assert other.returncode == 3 and "is in use by a run that is going on" in err, out + err
    box.end(run, 0)
    assert box.measured() == CASES


def test_two_begin_in_one_folder(box: Box) -> None:
    suite = box.suite(options=REAL_TIME)
    runs = [box.start("run", suite, "--no-telemetry") for _ in range(3)]
    ends = [run.communicate(timeout=120) and run.returncode for run in runs]
    assert set(ends) <= {0, 3} and 0 in ends
    documents = list(box.path.glob("results/*/*.json"))
    assert len(documents) == ends.count(0)
    box.rigbench("validate", *documents)


def rewritten(journal: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The journal with another header, as another machine or an earlier day would have written it."""
    lines = journal.read_bytes().splitlines()
    header = json.loads(lines[0].rpartition(b"\t")[0])
    change(header)
    content = json.dumps(header).encode()
    lines[0] = content + b"\t%08x" % zlib.crc32(content)
    journal.write_bytes(b"\n".join(lines) + b"\n")


def interrupted(box: Box) -> Path:
    """The journal of a run that was ended after its second case; no document beside it."""
    run = box.start("run", box.suite(options=REAL_TIME), "--no-telemetry")
    journal = box.journal(2)
    run.kill()
    box.end(run, -signal.SIGKILL)
    return journal


def test_the_clock_is_set_back(box: Box) -> None:
    journal = interrupted(box)
    rewritten(journal, lambda header: header.update(created_unix=header["created_unix"] + 3600))
    box.rigbench("run", "--resume", journal)
    document = box.document()
    starts = [case["started_s"] for case in sorted(document["cases"], key=lambda case: case["order"])]
    assert starts == sorted(starts) and document["duration_s"] >= starts[-1]
    box.rigbench("validate", next(box.path.glob("results/*/*.json")))


def test_a_driver_changes_before_the_run_goes_on(box: Box) -> None:
    journal = interrupted(box)
    rewritten(journal, lambda header: header["machine"]["drivers"].update(nvidia="570.1"))
    text = box.rigbench("run", "--resume", journal, expect=3)
    assert "the driver nvidia changed from 570.1 to None" in text and "start the suite again" in text
    saved = box.document()
    assert box.measured() >= 2 and not saved["complete"] and saved["machine"]["drivers"]["nvidia"] == "570.1"


def test_the_engine_changes_before_the_run_goes_on(box: Box) -> None:
    journal = interrupted(box)
    lines = journal.read_bytes().splitlines()
    for number, line in enumerate(lines[1:], 1):
        case = json.loads(line.rpartition(b"\t")[0])
        case["engine"]["version"] = "0"
        content = json.dumps(case).encode()
        lines[number] = content + b"\t%08x" % zlib.crc32(content)
    journal.write_bytes(b"\n".join(lines) + b"\n")
    before = len(lines) - 1
    text = box.rigbench("run", "--resume", journal)
    assert "had version 0, and this engine has 1" in text
    assert box.measured() == before
    assert {engine["version"] for engine in box.document()["engines"]} == {"0"}


def test_the_document_has_no_room(box: Box) -> None:
    """A limit on the size of a file that the journal keeps and the document, which is indented, does not."""
    suite = box.suite()
    box.rigbench("run", suite, "--no-telemetry", "-o", "whole")
    document = next(box.path.glob("whole/*/*.json")).stat().st_size

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (document - 1000, document - 1000))

    text = box.rigbench("run", suite, "--no-telemetry", expect=3, before=limited)
    assert "its cases are safe: free some space, then: rigbench run --resume" in text
    box.rigbench("run", "--resume", box.journal(CASES))
    assert box.measured() == CASES


@pytest.mark.parametrize("place", ["a file", "/proc/rigbench"])
def test_the_folder_cannot_be_written(place: str, box: Box) -> None:
    (box.path / "a file").touch()
    assert "choose another folder with -o" in box.rigbench("run", box.suite(), "-o", place, expect=3)


def test_the_model_is_removed_or_changed_meanwhile(box: Box) -> None:
    from rigbench.models.synthetic.gguf import ensure_synthetic

    for change in (Path.unlink, lambda path: path.write_bytes(path.read_bytes() + b"x")):
        model = box.path / "own.gguf"
        model.write_bytes(ensure_synthetic("tiny", "Q8_0").read_bytes())
        run = box.start("run", box.suite(options=REAL_TIME), "--no-telemetry", "-m", "own.gguf")
        journal = box.journal(1)
        worker = next(child for child in psutil.Process(run.pid).children() if "worker" in " ".join(child.cmdline()))
        change(model)
        worker.kill()  # the next one has to load it
        text = box.end(run, 0)
        assert "the model's file was changed or removed while the run went on" in text
        assert 1 <= box.measured() < CASES
        journal.unlink(missing_ok=True)


@pytest.mark.parametrize("strange", ["no HOME", "umask 077", "LC_ALL=C", "latin-1", "64 descriptors"])
def test_strange_surroundings(strange: str, box: Box) -> None:
    def before() -> None:
        if strange == "umask 077":
            os.umask(0o077)
        if strange == "64 descriptors":
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    if strange == "no HOME":
        del box.environment["HOME"]
    if strange == "LC_ALL=C":
        box.environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    if strange == "latin-1":
        box.environment |= {"PYTHONIOENCODING": "latin-1"}
    box.rigbench("run", box.suite(), before=before)
    assert box.measured() == CASES
    box.rigbench("validate", next(box.path.glob("results/*/*.json")))


def test_the_port_is_taken(box: Box) -> None:
    """By somebody who listens and never answers: the server that a suite would start is not started."""
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        command = json.dumps([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)])
        suite = box.suite("openai_http", f'base_url = "http://127.0.0.1:{port}/v1", start = {command}')
        text = (box.path / suite).read_text().replace("synthetic:llama-160m:Q4_0", "remote:some")
        (box.path / suite).write_text(text)
        begun = box.rigbench("run", suite, "--no-telemetry", "--trust-suite", expect=3)
        assert "already; stop it, or leave out `start`" in begun and str(port) in begun


def test_the_system_ends_the_worker_for_its_memory(box: Box) -> None:
    """In a control group of its own, where the largest process goes first: the worker."""
    first = Path("/sys/fs/cgroup/memory")  # version 1, else version 2
    root, limit, events = (
        (first, "memory.limit_in_bytes", "memory.oom_control")
        if first.exists()
        else (first.parent, "memory.max", "memory.events")
    )
    group = root / "rigbench-test"
    try:
        group.mkdir(exist_ok=True)
        if not (group / limit).exists():
            group.rmdir()
            pytest.skip("no control group of memory can be made here")
        (group / limit).write_text(str(400 * 2**20))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")

    def before() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    box.fault("step", "memory", IN_WINDOW)
    text = box.rigbench("run", box.suite("struck"), "--no-telemetry", before=before)
    assert "oom_kill 1" in (group / events).read_text()
    group.rmdir()
    assert (box.path / "struck").exists()
    assert box.measured() == CASES, text  # killed once, measured by the next worker


def test_the_worker_gets_no_more_memory(box: Box) -> None:
    def before() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))

    box.fault("step", "memory", IN_WINDOW)
    text = box.rigbench("run", box.suite("struck"), "--no-telemetry", before=before)
    assert (box.path / "struck").exists() and "the worker ran out of memory" in text
    assert [case["error"]["kind"] for case in box.document()["cases"] if case["error"]] == ["memory", "not_run"]
