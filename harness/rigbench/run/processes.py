"""Worker processes: start one, talk to it in JSON lines with a deadline, end its whole tree. All that differs between POSIX and
Windows about processes is here.

The worker gets a session (process group) of its own: Ctrl-C reaches the parent alone, and killing the group takes along
whatever the engine started. Its stderr, with what the engine prints, goes to a file whose last lines explain a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rigbench.errors import InputError
from rigbench.paths import PACKAGE_ROOT

WINDOWS = sys.platform == "win32"
if sys.platform != "win32":
    import fcntl
LOG_BYTES = 256 * 1024
WINDOWS_CRASHES = {0xC0000005: "SIGSEGV", 0xC000001D: "SIGILL", 0xC0000409: "SIGABRT"}
"""Exit codes of a process that Windows ended, by the signal that the same fault is elsewhere."""
Message = dict[str, Any]


class NoInterpreter(InputError):
    """What is named as an interpreter is none."""


class WorkerGone(Exception):
    """The worker ended by itself. `kind` is crash or killed; `signal` the name of the one it died by, if it did."""

    def __init__(self, kind: str, message: str, signal_name: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.signal = signal_name


class WorkerLate(Exception):
    """The deadline passed with no answer."""


def find_python(python: str | None) -> str:
    """The interpreter to start. NoInterpreter if `python` is none."""
    if python is None:
        return sys.executable
    program = shutil.which(str(Path(python).expanduser()))
    if program is None:
        raise NoInterpreter(f"no Python interpreter at {python!r}: give the path of one that has the engine installed")
    return str(Path(program).absolute())  # not resolved: an environment is where its link is


class WorkerProcess:
    """One running worker."""

    def __init__(self, python: str) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile(prefix="rigbench-worker-")  # noqa: SIM115  lives as long as the worker
        flags: dict[str, Any] = {"start_new_session": True}
        if sys.platform != "win32":  # engine, worker and this process have one place in the file between them
            fcntl.fcntl(self._log.fileno(), fcntl.F_SETFL, fcntl.fcntl(self._log.fileno(), fcntl.F_GETFL) | os.O_APPEND)
        else:
            flags = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        command = [python, str(PACKAGE_ROOT / "worker" / "__main__.py")]
        flags |= {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
        try:
            self._process = subprocess.Popen(command, cwd=tempfile.gettempdir(), env=environment, **flags)
        except OSError as error:
            raise InputError(f"cannot start {python}: {error.strerror}") from error
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def send(self, message: Message) -> None:
        """A command. WorkerGone if nobody is there to read it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._worker_gone() from error

    def receive(self, deadline_s: float | None = None) -> Message:
        """The next event. `deadline_s` is on `time.monotonic`. Raises WorkerLate, WorkerGone."""
        while True:
            wait = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            try:
                # Windows cannot interrupt a wait on a lock with Ctrl-C, so there it wakes once a second.
                line = self._lines.get(timeout=min(wait or 1.0, 1.0) if WINDOWS else wait)
            except queue.Empty:
                if deadline_s is None or time.monotonic() < deadline_s:
                    continue
                raise WorkerLate from None
            if not line:
                raise self._worker_gone()
            try:
                message: Message = json.loads(line)
            except ValueError:
                raise WorkerGone("crash", "the worker's answer broke off") from None
            return message

    def _worker_gone(self) -> WorkerGone:
        self.kill()
        code = self._process.returncode
        name = WINDOWS_CRASHES.get(code)
        if code is not None and code < 0:
            name = next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
        if name == "SIGKILL":
            return WorkerGone("killed", "the worker was killed (SIGKILL)", name)
        what = f"crashed ({name})" if name else f"ended by itself (exit code {code})"
        return WorkerGone("crash", f"the worker {what}", name)

    def log_lines(self) -> tuple[str, ...]:
        """The last LOG_BYTES of what engine and worker wrote to their stderr, without lines of dots and blanks."""
        with contextlib.suppress(OSError, ValueError):
            size = self._log.seek(0, os.SEEK_END)
            self._log.seek(max(0, size - LOG_BYTES))
            text = self._log.read().decode("utf-8", "replace")
            self._log.seek(0, os.SEEK_END)
            return tuple(line.rstrip() for line in text.splitlines() if line.strip(" ."))
        return ()

    def close(self, patience_s: float = 20.0) -> None:
        """Ask it to end, wait, and end the whole tree in any case."""
        with contextlib.suppress(WorkerGone):
            self.send({"do": "close"})
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        self.kill()

    def kill(self) -> None:
        """End the worker and all that it started, now. Harmless when it is gone already."""
        if WINDOWS:
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(self.pid)], capture_output=True, check=False)
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command of rigbench ended: its exit code, and the result that its last line names."""

    code: int
    result: Path | None


def rigbench(words: Sequence[str]) -> Ended:
    """Run a command of rigbench in a process of its own, which says on our stderr what it says. Where we are told to end, it is
    told so too and saves what it has; then KeyboardInterrupt is raised."""
    command = [sys.executable, "-m", "rigbench.cli.main", *words]
    signals: list[int] = []
    process: subprocess.Popen[str] | None = None

    def end(number: int, _: object) -> None:
        signals.append(number)
        if process is not None and not WINDOWS:  # there a console tells all its processes
            process.send_signal(signal.SIGINT)

    before = {each: signal.signal(each, end) for each in ENDINGS}
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace"
        )
        if signals:
            end(signals[0], None)
        out, _ = process.communicate()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if signals:
        raise KeyboardInterrupt
    last = next(reversed(out.splitlines()), "")
    name = last.removeprefix("result: ")
    return Ended(process.returncode, Path(name) if name != last else None)


ENDINGS = [signal.SIGINT, signal.SIGTERM, *([] if sys.platform == "win32" else [signal.SIGHUP])]


def interrupt_on_terminate() -> None:
    """SIGTERM, and SIGHUP of a terminal that is closed, end a run as Ctrl-C does: cleanly, with what was measured saved. What
    comes after the first is ignored: saving takes seconds."""

    def interrupt(*_: object) -> None:
        for each in ENDINGS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in ENDINGS:
        signal.signal(each, interrupt)
