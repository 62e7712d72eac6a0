"""The site on this machine alone, with what has changed shown at once, and the run that is going on.

Loopback only. A request must name this server as its Host and, where it has one, as its Origin, so that no page of elsewhere can
read or embed it. At most CONNECTIONS are open: a client that has not sent its whole request within TIMEOUT_S loses its own, and at
once where another wants the place. The run is followed from its journal alone, by a process that gives way to it: nothing is added
to what is measured, and the site is not made anew while a run goes on.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rigbench import units
from rigbench.analysis import definitions
from rigbench.analysis.table import Row, table
from rigbench.documents import find
from rigbench.errors import RigbenchError, UnavailableError
from rigbench.records import SCHEMA_VERSION, RunDocument
from rigbench.report import site
from rigbench.run import journal
from rigbench.suites.suite import suite_record

TIMEOUT_S, CONNECTIONS, POLL_S, LAST_CASES, STALE_S = 10.0, 64, 2.0, 20, 3600.0
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class State:
    """What the pages are told: how often the site was made, and the run that is going on."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder, self.out, self.built = folder, out, 0
        self._lock = threading.Lock()
        self._stamps: Any = None
        self._looked = -POLL_S
        self._journal: tuple[Path, int, int] | None = None
        self._run: dict[str, Any] = {"text": "No run is going on.", "done": 0, "total": None, "cases": []}

    def look(self) -> tuple[int, dict[str, Any]]:
        """(how often the site was made, the run), looked at anew at most every POLL_S, and only when a page asks."""
        with self._lock:
            if time.monotonic() - self._looked >= POLL_S:
                self._look()
                self._looked = time.monotonic()
            return self.built, self._run

    def _look(self) -> None:
        going = [path for path in self.folder.glob("*/*.journal") if _goes_on(path)]
        if going:
            self._follow(max(going, key=lambda path: path.stat().st_mtime))
            if self.built:
                return
        else:
            self._run = {"text": "No run is going on.", "done": 0, "total": None, "cases": []}
        stamps = [(path, state.st_size, state.st_mtime_ns) for path, state in find.below(self.folder)]
        if stamps != self._stamps:
            site.build(self.folder, self.out, processes=1)
            self._stamps = stamps
            self.built += 1

    def _follow(self, path: Path) -> None:
        state = path.stat()
        key = (path, state.st_size, state.st_mtime_ns)
        if key == self._journal:
            return
        self._journal = key
        try:
            content = journal.read(path)
        except RigbenchError as error:
            self._run = {"text": str(error), "done": 0, "total": None, "cases": []}
            return
        done = len(content.cases)
        total = content.header.cases
        count = f"{done} of {total} cases are" if total else f"{done} cases are"
        text = f"Suite {content.header.suite.name} on {content.header.machine.id}: {count} done."
        lines = [case_line(content.header, each) for each in reversed(content.cases[-LAST_CASES:])]
        self._run = {"text": text, "done": done, "total": total, "cases": lines}


def _goes_on(path: Path) -> bool:
    """A run holds a reserve beside its journal; one that crashed leaves it."""
    with contextlib.suppress(OSError):
        return path.with_suffix(".reserve").exists() and time.time() - path.stat().st_mtime < STALE_S
    return False


def case_line(header: journal.Header, finished: journal.Finished) -> list[str]:
    """The cells of a finished case on the live page."""
    document = RunDocument(
        schema_version=SCHEMA_VERSION,
        id="",
        rigbench_version="",
        created_utc=header.created_utc,
        duration_s=0.0,
        suite=suite_record(header.suite),
        machine=header.machine,
        engines=() if finished.engine is None else (finished.engine,),
        models=(),
        bandwidth=(),
        cases=(replace(finished.result, engine=None if finished.engine is None else 0),),
    )
    rows: list[Row] = table(document)
    row = rows[0]
    metrics = [definitions.metric(name) for name in site.METRICS[:4]]
    watts = units.MISSING if row["watts_mean"] is None else f"{row['watts_mean']:.0f} W"
    name = f"{finished.result.case.id}{' (failed)' if row.error else ''}"
    return [site.clipped(name), str(row.concurrency), *(each.text(row[each.name]) for each in metrics), watts]


class Handler(SimpleHTTPRequestHandler):
    """Files of the site, and /events."""

    timeout = TIMEOUT_S
    server: Server

    def parse_request(self) -> bool:
        """Reads all that is before the body."""
        good = super().parse_request()
        self.server.unread.pop(self.request, None)
        return good

    def do_GET(self) -> None:
        if self._refused():
            return
        if self.path == "/events":
            self._events()
            return
        if any(part.startswith(".") for part in self.path.split("?")[0].split("/")):
            self.send_error(404)
            return
        super().do_GET()

    def do_HEAD(self) -> None:
        if not self._refused():
            super().do_HEAD()

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _refused(self) -> bool:
        here = [f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")]
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in here and (origin is None or origin in [f"http://{name}" for name in here]):
            return False
        self.send_error(403, "this server answers to its own pages alone")
        return True

    def _events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        built, run = self.server.state.look()
        self._event("run", run)
        while True:
            time.sleep(POLL_S)
            now, newest = self.server.state.look()
            if now != built:
                self._event("built", {"number": now})
            if newest != run:
                self._event("run", newest)
            self.wfile.write(b": still here\n\n")
            built, run = now, newest

    def _event(self, name: str, content: dict[str, Any]) -> None:
        self.wfile.write(f"event: {name}\ndata: {json.dumps(content)}\n\n".encode())


class Server(ThreadingHTTPServer):
    """At most CONNECTIONS at once; for one more the oldest that has not sent its request is closed, else itself."""

    daemon_threads = True

    def __init__(self, port: int, state: State) -> None:
        self.state = state
        self.unread: dict[socket.socket, float] = {}
        """Connections whose request is not whole yet, the oldest first, and since when."""
        self._free = threading.Semaphore(CONNECTIONS)
        super().__init__(("127.0.0.1", port), partial(Handler, directory=str(state.out)))

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self._drop(list(self.unread)[:1])
            if not self._free.acquire(timeout=1.0):  # its thread ends as soon as it sees that
                self.shutdown_request(request)
                return
        self.unread[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.unread.pop(request, None)
            self._free.release()

    def service_actions(self) -> None:
        """Called twice a second: a byte now and then does not keep a connection."""
        late = time.monotonic() - TIMEOUT_S
        self._drop([request for request, since in list(self.unread.items()) if since < late])

    def _drop(self, requests: list[socket.socket]) -> None:
        for request in requests:
            self.unread.pop(request, None)
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""


def open_server(folder: Path, out: Path, port: int) -> Server:
    """Make the site in `out` and the server of it; port 0 is any that is free. UnavailableError if the port is taken."""
    state = State(folder, out)
    try:
        server = Server(port, state)  # before the site is made, which may take a minute
    except OSError as error:
        raise UnavailableError(f"cannot serve on port {port}: {error.strerror}; choose another with --port") from error
    try:
        state.look()
    except BaseException:
        server.server_close()
        raise
    return server
