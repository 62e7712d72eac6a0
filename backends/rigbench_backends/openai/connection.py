"""HTTP/1.1 on one thread: an asyncio loop that stamps bytes as they arrive, before anybody looks at them.

    socket -> Connection.buffer_updated: now -> httptools -> (now, flight, bytes) into `loop.arrivals` ... -> Session.step, later

A stamp waits for no task to be woken: at 200 streams that would be milliseconds. httptools takes HTTP's framing off in the same
call, so a body's bytes are touched once. The loop runs until something arrived, then stops.

Every sentence that leaves here is free of the key, of the server's host and of control characters: errors are stored in results.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from rigbench_backends.base import EngineError, Event
from rigbench_backends.openai.reply import EventStream, Reply, plain, sentence
from rigbench_backends.openai.servers import Address, Origin, origin_of
from rigbench_backends.process import StartedProcess

READ_BYTES = 64 * 1024
LONGEST_ANSWER_BYTES = 2**22
CONNECT_LIMIT_S = 10.0
KEEP_ALIVE_S = 4.0
"""Less than the 5 s after which uvicorn and cpp-httplib close an idle connection, so that no request meets a closed one."""
LONGEST_WAIT_S = 60.0
MOST_REDIRECTS = 10
SPARE_FILES = 128
NO_STREAMS = ("application/json", "text/html")
STREAM_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
TICK_S = 0.02
FASTEST_TOKEN_NS, SHORTEST_STREAM_NS = 50_000, 5_000_000
"""No server gives one user a token in less, and pieces of one answer may be so far apart: such tokens lay waiting on the way."""
CERTIFICATE_FAULTS = {
    10: "has expired",
    62: "is of another name",
    63: "is of another name",
    64: "is of another address",
}
"""Of X509_V_ERR_*: what no `ca_file` changes."""
BUSY_LIMIT = 0.8
LAG_LIMIT_S = 0.005
LAG_SAMPLES = 100
"""Ticks (2 s of them) before the loop's lateness has a 99th percentile."""
FAILURES: tuple[tuple[type[OSError] | tuple[type[OSError], ...], str], ...] = (
    (ssl.SSLError, "it does not speak TLS as it should"),
    (socket.gaierror, "its name does not resolve"),
    (TimeoutError, f"no connection within {CONNECT_LIMIT_S:g} s"),
    ((ConnectionResetError, ConnectionAbortedError, BrokenPipeError), "it closed the connection without an answer"),
)
"""Why no answer came, the first that fits."""


class Refusal(EngineError):
    """The server answers with another HTTP `status` than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__("load", message)
        self.status = status


@dataclass(slots=True, eq=False)
class Flight:
    """One measured request on its way."""

    id: int
    token_limit: int
    one: tuple[Event]
    """What its usual step brings."""
    reply: Reply
    first: tuple[int, int] | None = None
    last: tuple[int, int] | None = None
    """When the first and the last tokens arrived, and how many there were then."""
    last_ns: int = field(default_factory=time.perf_counter_ns)
    stream: EventStream = field(default_factory=EventStream)
    connection: Connection | None = None
    task: asyncio.Task[None] | None = None
    over: bool = False

    def read(self, body: bytes | None, error: str | None) -> tuple[list[int], bool]:
        """(tokens of each event that brought any, whether this was the end) of an arrival, which is of this flight."""
        reply = self.reply
        counts: list[int] = []
        try:
            for payload in self.stream.end() if body is None else self.stream.feed(body):
                if tokens := reply.add(payload):
                    counts.append(tokens)
                if reply.done or reply.error:
                    break
        except ValueError as fault:
            reply.error = plain(str(fault))
        if counts:
            self.last = self.last_ns, reply.tokens
            self.first = self.first or self.last
        if reply.tokens > self.token_limit:
            reply.error = f"the server streams on past the tokens asked for ({reply.tokens} so far)"
        if body is not None and not reply.done and reply.error is None:
            return counts, False
        if reply.error is None and reply.finish_reason is None:  # after that word, how the connection ends is no matter
            reply.error = error
        reply.finish()
        return counts, True

    def end(self, error: str | None) -> Event:
        """Its last event: what the whole answer says of its tokens, and why it is not sound."""
        reply = self.reply
        counts, reported, unknown = reply.account() if reply.chunks else (None, None, None)
        (first_ns, at_first), (last_ns, in_all) = self.first or (0, 0), self.last or (0, 0)
        if unknown is None and last_ns - first_ns < max(SHORTEST_STREAM_NS, (in_all - at_first) * FASTEST_TOKEN_NS):
            unknown = "the answer came in one piece: something on the way holds the stream back"
        return Event(self.id, 0, True, reply.cached_tokens, error, reply.prompt_tokens, counts, reported, unknown)

    def close(self) -> None:
        """Break it off, wherever it is."""
        if self.task is not None:
            self.task.cancel()
        if self.connection is not None:
            self.connection.close()


Arrival = tuple[int, Flight, bytes | None, str | None]
"""(ns, whose, bytes of its body, error): bytes None are the body's end, and `error` then says why it is not a sound one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. `body` is None where it goes on as a flight's arrivals."""

    status: int
    headers: dict[str, str]
    body: bytes | None

    @property
    def content(self) -> Any:
        """The JSON, or the text where it is not JSON."""
        text = (self.body or b"").decode("utf-8", "replace")
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
        return text

    @property
    def wait_s(self) -> float | None:
        """The seconds of Retry-After; None for a date or for nothing."""
        with contextlib.suppress(ValueError):
            return max(0.0, float(self.headers.get("retry-after", "")))
        return None

    @property
    def kind(self) -> str:
        """The media type, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def packing(self) -> str:
        """How the body is compressed, '' where it is not."""
        packing = self.headers.get("content-encoding", "").lower()
        return "" if packing == "identity" else packing


class Connection(asyncio.BufferedProtocol):
    """One connection, one request at a time."""

    def __init__(self, client: Client, origin: Origin) -> None:
        self.origin = origin
        self._client = client
        self._loop = client.loop
        self._buffer = client.loop.buffer
        self._parser: Any = None
        self._answer: asyncio.Future[Answer] | None = None
        self._flight: Flight | None = None
        self._stream: Flight | None = None
        """The flight, once its stream has begun."""
        self._sized = False
        self._status = 0
        self.heard = False
        """Something of the present answer has arrived."""
        self.freed_s = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    @property
    def closed(self) -> bool:
        return bool(self._transport.is_closing())

    async def exchange(self, request: bytes, flight: Flight | None) -> Answer:
        """The whole answer; of a `flight` whose stream has begun, its head. OSError or httptools' error if none comes."""
        if self.closed:
            raise ConnectionResetError
        self._parser = self._client.new_parser(self)
        self._flight, self._stream, self.heard = flight, None, False
        self._answer = self._loop.create_future()
        self._begin_head()
        self._transport.write(request)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Nobody wants the rest."""
        self._flight = self._stream = None
        self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._now = time.perf_counter_ns()
        self.heard = True
        if self._parser is None:  # it speaks before it is asked
            self._transport.abort()
            return
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except self._client.parser_errors as error:
            self._end(error)
            self._transport.abort()

    def _begin_head(self) -> None:
        self._headers: dict[str, str] = {}
        self._status = 0
        self._body = bytearray()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._answer is None:
            raise ValueError("an answer that nobody asked for")
        self._status = self._parser.get_status_code()
        self._sized = not {"content-length", "transfer-encoding"}.isdisjoint(self._headers)
        head = Answer(self._status, self._headers, None)
        if self._status == 200 and not head.packing and head.kind not in NO_STREAMS:
            self._begin_stream(head)

    def _begin_stream(self, head: Answer) -> None:
        if self._flight is not None:
            self._stream = self._flight
            self._stream.connection = self
            self._settle(head)

    def on_body(self, body: bytes) -> None:
        if self._stream is not None:
            self._loop.arrive((self._now, self._stream, body, None))
            return
        beginning = len(self._body) < READ_BYTES
        self._body += body
        head = Answer(self._status, self._headers, None)
        sound = self._flight is not None and self._status == 200 and not head.packing
        if sound and beginning and self._body.lstrip().startswith(STREAM_STARTS):  # whatever its head calls it
            self._begin_stream(head)
            self.on_body(bytes(self._body))
        elif len(self._body) > LONGEST_ANSWER_BYTES:
            self._end(None)
            self._transport.abort()

    def on_message_complete(self) -> None:
        if self._status < 200:  # "100 Continue" and its like: the answer is still to come
            self._begin_head()
            return
        keep = self._parser.should_keep_alive() and not self._transport.is_closing()
        self._end(None)
        if keep:
            self._client.free(self)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._now = time.perf_counter_ns()
        self._client.connections.discard(self)
        ends_with_connection = self._status and not self._sized
        self._end(None if ends_with_connection else exc or ConnectionResetError())

    def _end(self, error: Exception | None) -> None:
        """The answer is over: sound, or for what reason not. Does nothing where none is awaited."""
        if self._stream is not None:
            why = None if error is None else self._client.why_broken(error)
            self._loop.arrive((self._now, self._stream, None, why))
        elif error is None:
            self._settle(Answer(self._status, self._headers, bytes(self._body)))
        elif self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self._answer = self._flight = self._stream = None

    def _settle(self, answer: Answer) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)


class ArrivalLoop(asyncio.SelectorEventLoop):
    """The event loop with its `arrivals`, and an account of its own lateness."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = memoryview(bytearray(READ_BYTES))
        """One for all connections: the loop has one thread, and asyncio's own way takes 256 KiB a read."""
        self.arrivals: deque[Arrival] = deque()
        self.lags_s: list[float] = []
        self._ticking = False

    def arrive(self, arrival: Arrival) -> None:
        self.arrivals.append(arrival)
        self.stop()

    def wait(self, coroutine: Coroutine[Any, Any, Any], limit_s: float) -> Any:
        """The coroutine's result. TimeoutError after `limit_s`."""
        task = self.create_task(asyncio.wait_for(coroutine, limit_s))
        task.add_done_callback(lambda _: self.stop())
        while not task.done():  # an arrival meanwhile stops the loop too
            self.run_forever()
        return task.result()

    def tick(self, on_tick: Callable[[], bool]) -> None:
        """Call `on_tick` every 20 ms until it says no; how late each call comes is how late the loop is."""

        def wait() -> None:
            due_s = self.time() + TICK_S
            self.call_at(due_s, again, due_s)

        def again(due_s: float) -> None:
            self.lags_s.append(self.time() - due_s)
            self._ticking = on_tick()
            if self._ticking:
                wait()

        if not self._ticking:
            self._ticking = True
            wait()


class Client:
    """One server's API: questions outside of measured requests, and the flights within them. EngineError("unavailable") without
    httptools."""

    def __init__(self, place: Address, key: str | None, ca_file: str | None = None) -> None:
        try:
            import httptools
        except ImportError as error:
            raise EngineError("unavailable", "the package httptools is not installed") from error
        self.parser_errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self._new_parser = httptools.HttpResponseParser
        self.failures = (OSError, *self.parser_errors)
        self.place = place
        self.name = "the server"
        self.loop = ArrivalLoop()
        key = (key or "").strip()
        if not key.isprintable():
            raise EngineError("options", "the server's key holds a character that no header takes")
        self._hidden = [word for word in (key, place.host) if word]
        self._key = key
        self._home = origin_of(place.root)
        self.connections: set[Connection] = set()
        self._free: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._addresses: dict[Origin, str] = {}
        self._tls = _trust(ca_file) if ca_file or place.root.startswith("https:") else None

    def new_parser(self, connection: Connection) -> Any:
        parser = self._new_parser(connection)
        # As lenient as browsers and other clients are: measured is the server, not its grammar.
        lenient = ("headers", "optional_cr_before_lf", "spaces_after_chunk_size")
        parser.set_dangerous_leniencies(**{f"lenient_{what}": True for what in lenient})
        return parser

    def ask(self, path: str, body: Any = None, limit_s: float = 60.0, *, root: bool = False) -> Any:
        """The JSON at `path` below the API's address, or the server's `root` beside it (a POST where there is a body).

        EngineError("load") for whatever goes wrong. The wait that a 429 asks for is kept, once.
        """
        where = f"{self.name} at {self.place.place}"
        try:
            answer = self.loop.wait(self._ask((self.place.root if root else self.place.base_url) + path, body), limit_s)
        except TimeoutError:
            raise EngineError("load", f"{where} does not answer within {limit_s:g} s") from None
        except self.failures as error:
            raise EngineError("load", f"{where}: {self.why(error)}") from None
        content = answer.content
        if answer.status != 200:
            raise Refusal(answer.status, f"{where} answers HTTP {answer.status}: {self.clean(sentence(content))}")
        if isinstance(content, str):
            text = self.clean(plain(content, 80))
            raise EngineError("load", f"{where} answers without JSON; is base_url right? {text}")
        return content

    async def _ask(self, url: str, body: Any) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        answer = await self._fetch(url, data)
        if answer.status == 429:
            wait_s = answer.wait_s
            await asyncio.sleep(min(LONGEST_WAIT_S, 1.0 if wait_s is None else wait_s))
            answer = await self._fetch(url, data)
        return answer

    async def post(self, path: str, body: bytes, flight: Flight) -> str | None:
        """None once the flight's stream has begun, or why there is none."""
        answer = await self._fetch(self.place.base_url + path, body, flight)
        if answer.body is None:
            return None
        if answer.packing:
            return f"the server compresses its stream ({answer.packing}) though asked not to"
        if answer.status == 200:
            return f"the server answers with {answer.kind} in place of a stream: {sentence(answer.content)}"
        wait_s = answer.wait_s if answer.status == 429 else None
        asks = f" (it asks to wait {wait_s:g} s)" if wait_s else ""
        return f"HTTP {answer.status}: {sentence(answer.content)}{asks}"

    async def _fetch(self, url: str, body: bytes | None, flight: Flight | None = None) -> Answer:
        for _ in range(MOST_REDIRECTS):
            answer = await self._exchange(url, body, flight)
            target = urljoin(url, answer.headers.get("location", ""))
            if answer.status not in (301, 302, 303, 307, 308) or target == url or origin_of(target) is None:
                break
            if answer.status <= 303:
                body = None  # as every client does it: what was posted is looked for there
            url = target
        return answer

    async def _exchange(self, url: str, body: bytes | None, flight: Flight | None) -> Answer:
        """Sent again only where a connection kept from an earlier answer turns out to be closed: some servers close theirs
        without a word, and such a request was never read."""
        origin = origin_of(url)
        assert origin is not None
        request = self._head(url, origin, body) + (body or b"")
        while True:
            idle = self._take(origin)
            connection = idle or await self._connect(origin)
            try:
                return await connection.exchange(request, flight)
            except ConnectionError:
                if idle is None or connection.heard:
                    raise

    def _head(self, url: str, origin: Origin, body: bytes | None) -> bytes:
        parts = urlsplit(url)
        target = quote(f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}", safe="%/:=&?~+!$,;'@()*[]")
        lines = [
            f"{'GET' if body is None else 'POST'} {target} HTTP/1.1",
            f"Host: {parts.netloc.rpartition('@')[2]}",
            "Accept: */*",
            "Accept-Encoding: identity",
            "User-Agent: rigbench",
        ]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        if self._key and origin == self._home:  # never to where the server sends us
            lines.append(f"Authorization: Bearer {self._key}")
        return "\r\n".join([*lines, "", ""]).encode()

    def _take(self, origin: Origin) -> Connection | None:
        """A connection that is free, and has not been for so long that the server may close it."""
        free = self._free[origin]
        while free:
            connection = free.pop()
            if not connection.closed and self.loop.time() - connection.freed_s < KEEP_ALIVE_S:
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin) -> Connection:
        scheme, host, port = origin
        tls: dict[str, Any] = {}
        if scheme == "https":
            self._tls = self._tls or _trust(None)  # it redirects to https
            tls = {"ssl": self._tls, "server_hostname": host}
        connecting = self.loop.create_connection(
            lambda: Connection(self, origin), self._addresses.get(origin, host), port, happy_eyeballs_delay=0.25, **tls
        )
        transport, connection = await asyncio.wait_for(connecting, CONNECT_LIMIT_S)
        self.connections.add(connection)
        if ":" not in host:  # asked once: a thread that resolves the name for each of 200 users would be in their times
            self._addresses[origin] = transport.get_extra_info("peername")[0]
        return connection

    def free(self, connection: Connection) -> None:
        """Its answer is over: the next request may have it."""
        connection.freed_s = self.loop.time()
        self._free[connection.origin].append(connection)

    def wait_until_ready(self, path: str, process: StartedProcess, deadline_s: float) -> None:
        """Until a server that was just started answers 200 at `path`. EngineError("load") if it dies or is late."""
        while True:
            if (code := process.exit_code) is not None:
                why = process.last_words()
                raise EngineError("load", f"the started server ended by itself (exit code {code}): {why}")
            state = "does not listen on its port"
            with contextlib.suppress(*self.failures):
                if self.loop.wait(self._fetch(self.place.root + path, None), CONNECT_LIMIT_S).status == 200:
                    return
                state = "listens, but is not ready"
            if time.monotonic() > deadline_s:
                raise EngineError("load", f"the started server {state} within start_limit_s")
            self.loop.wait(asyncio.sleep(0.1), CONNECT_LIMIT_S)

    @staticmethod
    def why(error: BaseException) -> str:
        """Why no answer came, without the address that Python puts into it."""
        if isinstance(error, ssl.SSLCertVerificationError):
            fault = CERTIFICATE_FAULTS.get(error.verify_code)
            if fault is None:
                fault = "is not trusted; give it, or the one that it is signed with: -O ca_file=cert.pem"
            return f"its TLS certificate {fault}"
        for kinds, reason in FAILURES:
            if isinstance(error, kinds):
                return reason
        if isinstance(error, OSError):
            return f"nothing listens there ({os.strerror(error.errno) if error.errno else 'no connection'})"
        return f"the connection failed ({type(error).__name__})"

    def why_broken(self, error: BaseException) -> str:
        """Why a stream that had begun ended."""
        if isinstance(error, self.parser_errors):
            return f"the server's HTTP cannot be read ({plain(str(error))})"
        return "the connection broke off"

    def clean(self, text: str) -> str:
        """Without the key and without the server's name."""
        for word in self._hidden:
            text = text.replace(word, "<hidden>")
        return text

    def close(self) -> None:
        if self.loop.is_closed():
            return
        for connection in list(self.connections):
            connection.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()

        async def ended() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # the loop closes the sockets

        self.loop.wait(ended(), CONNECT_LIMIT_S)
        self.loop.close()


def _trust(ca_file: str | None) -> ssl.SSLContext:
    """What the system trusts, and the certificates of a file. EngineError("options") if it holds none."""
    context = ssl.create_default_context()
    if ca_file is not None:
        # A certificate that someone made for himself is trusted as it is, whoever signed it and whichever fields it lacks.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        try:
            context.load_verify_locations(Path(ca_file).expanduser())
        except FileNotFoundError:
            raise EngineError("options", "ca_file: there is no such file") from None
        except OSError:
            raise EngineError("options", "ca_file holds no certificate in PEM form that can be read") from None
    return context


def allow_connections(count: int) -> None:
    """Raise this process's limit of open files (256 on a Mac) as far as `count` connections need and the system lets it."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = count + SPARE_FILES if hard == resource.RLIM_INFINITY else min(count + SPARE_FILES, hard)
        if soft < limit:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def client_doubts(busy: float, lags_s: list[float]) -> str | None:
    """Whether this client was itself the limit: its thread `busy` for too much of the time, or its loop too late to see bytes
    when they came. None where neither was, or too little time has gone by."""
    if len(lags_s) < LAG_SAMPLES:
        return None
    reasons = [f"its core was {busy:.0%} busy"] if busy > BUSY_LIMIT else []
    lag_s = sorted(lags_s)[int(len(lags_s) * 0.99)]
    if lag_s > LAG_LIMIT_S:
        reasons.append(f"its event loop was late by {lag_s * 1e3:.1f} ms (p99)")
    return "the HTTP client: " + ", ".join(reasons) if reasons else None
