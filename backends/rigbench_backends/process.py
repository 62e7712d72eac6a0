"""The processes that engines start: what they print, why they failed, and their end. Standard library.

A worker's stdout and stderr are one file that its parent reads after a crash (harness/rigbench/run/processes.py), so whatever
explains a failure has to be in it before the process dies. Engines of several processes are read here for the same reason.
A process started here stays in its worker's process group: when the worker is killed, its group is killed with it. When the
worker lives on, its group is its own life, so `stop` ends the process's descendants one by one instead.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Sequence

from rigbench_backends.base import EngineError

OUTPUT_BYTES = 256 * 1024
STDERR = 2
PATIENCE_S = 10.0
SAYS_NOTHING = re.compile(r"initialization failed|root cause|EngineDead|engine ?core|WorkerProc|^cancelled", re.I)
"""What vLLM's processes say when another one has failed."""
_CLUTTER = re.compile(r"^(\([^)]*pid=\d+\))? ?([A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d )?(\[[\w.]+:\d+\] ?)?")
_EXCEPTION = re.compile(r"(?:[\w.]*\.)?\w*(?:Error|Exception): (.+)")


def output_end() -> int:
    """Where the output ends now: what comes later begins here. 0 where stderr is no file."""
    with contextlib.suppress(OSError):
        state = os.fstat(STDERR)
        return state.st_size if stat.S_ISREG(state.st_mode) else 0
    return 0


def output_lines(since: int = 0) -> list[str]:
    """The lines printed from byte `since` on, the last OUTPUT_BYTES of them at most; [] where stderr is no file."""
    sys.stderr.flush()
    end = output_end()
    begin = max(since, end - OUTPUT_BYTES)
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            os.lseek(STDERR, begin, os.SEEK_SET)
            data = os.read(STDERR, end - begin)
            os.lseek(STDERR, 0, os.SEEK_END)
        else:
            data = os.pread(STDERR, end - begin, begin)  # leaves the place where all the processes write
        return data.decode("utf-8", "replace").replace("\r", "\n").splitlines()
    return []


def last_exception(lines: Sequence[str]) -> str | None:
    """What the last Python exception in `lines` says that says something; None where there is none."""
    for line in reversed(lines):
        match = _EXCEPTION.match(_CLUTTER.sub("", line).strip())
        if match and not SAYS_NOTHING.search(match[1]):
            return match[1]
    return None


def first_sentence(text: str) -> str:
    """Without what comes after it: advice, a traceback, a list of arguments."""
    return re.split(r"(?<=[\w)'][\w)'])\. |\n", text.strip(), maxsplit=1)[0].strip(" .")


def listens(host: str, port: int) -> bool:
    """Whether anybody takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=0.5):
        return True
    return False


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StartedProcess:
    """A running process that prints where this one does: the last lines explain its death."""

    def __init__(self, command: Sequence[str]) -> None:
        self._output_begin = output_end()
        try:
            self._process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=STDERR, stderr=STDERR)
        except OSError as error:
            raise EngineError("load", f"option start: cannot run {command[0]}: {error.strerror}") from error

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def last_words(self) -> str:
        """Why it ended, as far as it said so."""
        lines = [line.rstrip() for line in output_lines(self._output_begin) if line.strip()]
        exception = last_exception(lines)
        return first_sentence(exception) if exception else " | ".join(lines[-3:])

    def stop(self) -> None:
        """Ask it to end, wait, and end it and all its descendants in any case. Harmless when they are gone."""
        if sys.platform == "win32":
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(self._process.pid)], capture_output=True, check=False)
        else:
            family = _descendants(self._process.pid)
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                family |= _descendants(self._process.pid)
                self._process.kill()
            _end(family)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)


def _end(family: set[tuple[int, str]]) -> None:
    """SIGKILL for those of the family that still are who they were (a pid may have been given anew), until none is left."""
    give_up_s = time.monotonic() + PATIENCE_S
    while family and time.monotonic() < give_up_s:
        family = family & {(pid, name) for pid, _, name in _processes()}
        for pid, _ in family:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if family:
            time.sleep(0.02)


def _descendants(root: int) -> set[tuple[int, str]]:
    """(pid, name) of all that `root` started, and what those started."""
    processes = _processes()
    family: set[tuple[int, str]] = set()
    generation = {root}
    while generation:
        children = {(pid, name) for pid, parent, name in processes if parent in generation} - family
        family |= children
        generation = {pid for pid, _ in children}
    return family


def _processes() -> list[tuple[int, int, str]]:
    """(pid, parent, name) of every process that is not dead already, from POSIX `ps`."""
    command = ["ps", "-A", "-o", "pid=,ppid=,stat=,comm="]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listing = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        rows = [line.split(None, 3) for line in listing.splitlines()]
        return [(int(row[0]), int(row[1]), row[3]) for row in rows if len(row) == 4 and not row[2].startswith("Z")]
    return []
