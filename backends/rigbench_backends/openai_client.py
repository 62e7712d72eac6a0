"""Many event streams on one thread: an asyncio loop that stamps bytes as they arrive, before anybody looks at them.

    socket -> Stamper.buffer_updated: now -> (now, flight, bytes) into `arrivals` ... -> Session.step reads them, later

Every connection's transport delivers to a `Stamper` in front of aiohttp's own protocol. So a stamp waits for no task to be woken
(at 200 streams that would be milliseconds), and the bytes of a chunked stream never go through aiohttp, which would double
what a token costs: it gets the head and an empty body. Any other body goes through it, and is read off as soon as it is
in. The loop runs until something arrived, then stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from rigbench_backends.base import Event
from rigbench_backends.openai_chunks import Chunks
from rigbench_backends.openai_stream import EventStream, Reply

READ_BYTES = 64 * 1024
SPARE_FILES = 128
TICK_S = 0.02
BUSY_LIMIT = 0.8
LAG_LIMIT_S = 0.005
LAG_SAMPLES = 100
"""Ticks (2 s of them) before the loop's lateness has a 99th percentile."""


class Flight:
    """One request on its way."""

    __slots__ = (
        "chunks",
        "content",
        "id",
        "last_ns",
        "one",
        "over",
        "reply",
        "response",
        "stream",
        "task",
        "token_limit",
    )

    def __init__(self, request_id: int, token_limit: int) -> None:
        self.id = request_id
        self.token_limit = token_limit
        self.stream = EventStream()
        self.reply = Reply()
        self.one = (Event(request_id),)
        self.over = False
        self.last_ns = time.perf_counter_ns()
        self.chunks: Chunks | None = None
        self.content: Any = None
        self.response: Any = None
        self.task: asyncio.Task[None] | None = None

    def board(self, loop: ArrivalLoop) -> None:
        """The head of the response is here: from now on its connection stamps its bytes."""
        self.content = self.response.content
        stamper = self._stamper()
        if stamper is not None:
            stamper.carry(self)
            return
        now = time.perf_counter_ns()  # all of it came together with its head, and the connection is free again
        loop.arrive(Arrival(now, self, self.content.read_nowait()))
        loop.arrive(Arrival(now, self, None))

    def body(self, data: bytes) -> tuple[bytes, bool]:
        """(bytes of the body in what arrived, whether it is all of it). ValueError for a body that is not framed as it says."""
        if self.chunks is None:
            return data, False
        found = self.chunks.feed(data)
        if self.chunks.ended and (stamper := self._stamper()) is not None:
            stamper.all_read()
        return found, self.chunks.ended

    def finish(self, data: bytes) -> None:
        """What comes after all was said: the end of the body, which frees the connection."""
        try:
            self.body(data)
        except ValueError:
            self.close()

    def close(self) -> None:
        """Break the connection off, if there is one still."""
        if self.response is None:
            if self.task is not None:
                self.task.cancel()
        else:
            if (stamper := self._stamper()) is not None:
                stamper.drop()
            self.response.close()

    def _stamper(self) -> Stamper | None:
        connection = self.response.connection
        transport = connection.transport if connection is not None else None
        found = transport.get_protocol() if transport is not None else None
        return found if isinstance(found, Stamper) else None


class Arrival(NamedTuple):
    """Bytes of a flight; `data` None is its end, sound where `error` is None."""

    time_ns: int
    flight: Flight
    data: bytes | None
    error: str | None = None


class Stamper(asyncio.BufferedProtocol):
    """Between a transport and aiohttp's protocol. The loop's one buffer serves all: asyncio's own way takes 256 KiB a read."""

    def __init__(self, inner: Any, loop: ArrivalLoop) -> None:
        self._inner = inner
        self._buffer = loop.buffer
        self._loop = loop
        self._flight: Flight | None = None
        self._kept: list[tuple[int, bytes]] | None = None
        """What came of a chunked stream before its flight was known; None where the body goes through aiohttp."""
        self._last_ns = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        now = time.perf_counter_ns()
        data = bytes(self._buffer[:nbytes])
        if self._kept is None:
            self._through_aiohttp(now, data)
        elif self._flight is not None:
            self._loop.arrive(Arrival(now, self._flight, data))
        else:
            self._kept.append((now, data))

    def _through_aiohttp(self, now: int, data: bytes) -> None:
        self._last_ns = now
        if self._flight is None and data.startswith(b"HTTP/1.1 200 "):
            head, found, rest = data.partition(b"\r\n\r\n")
            told = head.lower()
            if found and b"text/event-stream" in told and b"\r\ntransfer-encoding: chunked" in told:
                self._kept = [(now, rest)] if rest else []
                data = head + found
        self._inner.data_received(data)
        if self._flight is not None:
            self._read_off(now)

    def carry(self, flight: Flight) -> None:
        """The connection's response is this flight's; what came before that was known has the time at which it came."""
        self._flight = flight
        if self._kept is None:
            self._read_off(self._last_ns)
            return
        flight.chunks = Chunks()
        for now, data in self._kept:
            self._loop.arrive(Arrival(now, flight, data))

    def all_read(self) -> None:
        """The chunked stream is over: to aiohttp it was an empty one, and its connection is free again."""
        self._flight = self._kept = None
        self._inner.data_received(b"0\r\n\r\n")

    def drop(self) -> None:
        """Nobody wants the rest."""
        self._flight = None

    def _read_off(self, now: int) -> None:
        """What aiohttp has of the body, and whether it is over."""
        flight = self._flight
        assert flight is not None
        try:
            body = flight.content.read_nowait()
        except Exception as error:  # aiohttp stores why the body broke off, and raises it at the reader
            self._flight = None
            self._loop.arrive(Arrival(now, flight, None, f"the connection broke off ({type(error).__name__})"))
            return
        if body:
            self._loop.arrive(Arrival(now, flight, body))
        if flight.content.at_eof():
            self._flight = None
            self._loop.arrive(Arrival(now, flight, None))

    def eof_received(self) -> bool | None:
        result: bool | None = self._inner.eof_received()
        return result

    def connection_lost(self, exc: Exception | None) -> None:
        now = time.perf_counter_ns()
        self._inner.connection_lost(exc)
        if self._flight is None:
            return
        if self._kept is None:
            self._read_off(now)
        else:
            self._loop.arrive(Arrival(now, self._flight, None, "the connection broke off"))

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


class ArrivalLoop(asyncio.SelectorEventLoop):
    """The event loop with its `arrivals`, and an account of its own lateness."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.arrivals: deque[Arrival] = deque()
        self.lags_s: list[float] = []
        self._ticking = False

    async def create_connection(self, protocol_factory: Any, *args: Any, **kwargs: Any) -> Any:
        """As asyncio's, with a Stamper in front of the protocol."""
        transport, protocol = await super().create_connection(protocol_factory, *args, **kwargs)
        transport.set_protocol(Stamper(protocol, self))
        return transport, protocol

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
        if self._ticking:
            return
        self._ticking = True

        def again(due_s: float) -> None:
            now_s = self.time()
            self.lags_s.append(now_s - due_s)
            self._ticking = on_tick()
            if self._ticking:
                self.call_at(now_s + TICK_S, again, now_s + TICK_S)

        due_s = self.time() + TICK_S
        self.call_at(due_s, again, due_s)


def allow_connections(count: int) -> None:
    """Raise this process's limit of open files (256 on a Mac) as far as `count` connections need and the system lets it."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count + SPARE_FILES
        if soft < wanted:
            with contextlib.suppress(ValueError, OSError):
                limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class Doubts:
    """Whether this client was itself the limit: its thread too busy, or its loop too late to see bytes when they came."""

    def __init__(
        self,
        loop: ArrivalLoop,
        wall_ns: Callable[[], int] = time.perf_counter_ns,
        cpu_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self._loop = loop
        self._clocks = (wall_ns, cpu_ns)
        self._before = (wall_ns(), cpu_ns())

    def since_last(self) -> str | None:
        """What there is to say since the last call; None where nothing is, or too little time has gone by."""
        wall_ns, cpu_ns = (clock() for clock in self._clocks)
        busy = (cpu_ns - self._before[1]) / max(1, wall_ns - self._before[0])
        self._before = (wall_ns, cpu_ns)
        lags_s, self._loop.lags_s = sorted(self._loop.lags_s), []
        if len(lags_s) < LAG_SAMPLES:
            return None
        found = [f"its core was {busy:.0%} busy"] if busy > BUSY_LIMIT else []
        lag_s = lags_s[int(len(lags_s) * 0.99)]
        if lag_s > LAG_LIMIT_S:
            found.append(f"its event loop was late by {lag_s * 1e3:.1f} ms (p99)")
        return "the HTTP client: " + ", ".join(found) if found else None
