"""A server started by command and stopped with all that it started. Standard library.

The server stays in its worker's process group: when the worker is killed, its group is killed with it. When the worker lives on,
its group is its own life, so `stop` ends the server's descendants one by one instead.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from rigbench_backends.base import EngineError, ModelFile
from rigbench_backends.openai_servers import SERVERS, Address, Server, address
from rigbench_backends.process import STDERR, output_end, output_lines
from rigbench_backends.python_log import first_sentence, last_exception

PATIENCE_S = 10.0


def where(
    name: str | None, base_url: str | None, start: Sequence[str], model: ModelFile
) -> tuple[Server | None, Address, list[str]]:
    """(the kind of server if said, its address, the command that starts it with {port}, {model} and {python} filled in)."""
    server = SERVERS.get(name or "")
    if name is not None and server is None:
        raise EngineError("options", f"server = {name!r}: choose one of {', '.join(SERVERS)}")
    if base_url is None and any("{port}" in word for word in start):
        base_url = f"http://127.0.0.1:{free_port()}/v1"
    if base_url is None:
        if server is None:
            raise EngineError("options", f"which server? set server to one of {', '.join(SERVERS)}, or base_url")
        base_url = f"http://127.0.0.1:{server.port}/v1"
    try:
        place = address(base_url)
    except ValueError as error:
        raise EngineError("options", str(error)) from None
    values = {"{port}": str(place.port), "{model}": model.path or model.name, "{python}": sys.executable}
    words = list(start)
    for key, value in values.items():
        words = [word.replace(key, value) for word in words]
    return server, place, words


def listens(host: str, port: int) -> bool:
    """Whether anybody takes connections there."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class StartedServer:
    """A running server process. It prints where this process does: the last lines explain its death."""

    def __init__(self, command: Sequence[str]) -> None:
        self._output_begin = output_end()
        try:
            self._process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=STDERR, stderr=STDERR)
        except OSError as error:
            raise EngineError("load", f"option start: cannot run {command[0]}: {error.strerror}") from error

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def last_words(self) -> str:
        """Why it ended, as far as it said so."""
        lines = [line.rstrip() for line in output_lines(self._output_begin) if line.strip()]
        told = last_exception(lines)
        return first_sentence(told) if told else " | ".join(lines[-3:])

    def stop(self) -> None:
        """Ask it to end, wait, and end it and all its descendants in any case. Harmless when they are gone."""
        if sys.platform == "win32":
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(self._process.pid)], capture_output=True, check=False)
        else:
            family = descendants(self._process.pid)
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)
            if self._process.poll() is None:
                family |= descendants(self._process.pid)
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


def descendants(root: int) -> set[tuple[int, str]]:
    """(pid, name) of all that `root` started, and what those started."""
    processes = _processes()
    found: set[tuple[int, str]] = set()
    parents = {root}
    while True:
        more = {(pid, name) for pid, parent, name in processes if parent in parents} - found
        if not more:
            return found
        found |= more
        parents = {pid for pid, _ in more}


def _processes() -> list[tuple[int, int, str]]:
    """(pid, parent, name) of every process that is not dead already, from POSIX `ps`."""
    command = ["ps", "-A", "-o", "pid=,ppid=,stat=,comm="]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listing = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        rows = [line.split(None, 3) for line in listing.splitlines()]
        return [(int(row[0]), int(row[1]), row[3]) for row in rows if len(row) == 4 and not row[2].startswith("Z")]
    return []


def wait_until_listening(host: str, port: int, server: StartedServer, deadline_s: float) -> None:
    """Until the server takes connections. EngineError("load") when it dies or the deadline (time.monotonic) passes first."""
    while True:
        if (code := server.exit_code) is not None:
            raise EngineError("load", f"the started server ended by itself (exit code {code}): {server.last_words()}")
        if listens(host, port):
            return
        if time.monotonic() > deadline_s:
            raise EngineError("load", "the started server does not listen on its port within start_limit_s")
        time.sleep(0.1)
