"""One server's API over aiohttp: its questions and answers outside of measured requests, and why something did not work.

Every sentence that leaves here is free of the key, of the server's host and of control characters: errors are stored in results.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from typing import Any

from rigbench_backends.base import EngineError
from rigbench_backends.openai_client import ArrivalLoop
from rigbench_backends.openai_servers import Address
from rigbench_backends.openai_start import StartedServer, wait_until_listening
from rigbench_backends.openai_stream import plain, sentence

CONNECT_LIMIT_S = 10.0
KEEP_ALIVE_S = 4.0
"""Less than the 5 s after which uvicorn and cpp-httplib close an idle connection, so that no request meets a closed one."""
LONGEST_WAIT_S = 60.0
LONGEST_ANSWER_BYTES = 2**22


class Api:
    """An HTTP client for one address, on its own event loop."""

    def __init__(self, place: Address, key: str | None) -> None:
        import aiohttp

        self.place = place
        self.name = "the server"
        self.loop = ArrivalLoop()
        self._aiohttp = aiohttp
        self._hidden = [word for word in (key, place.host) if word]
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"

        async def client() -> Any:
            connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=None, keepalive_timeout=KEEP_ALIVE_S)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S)
            tracing = aiohttp.TraceConfig()
            tracing.on_connection_reuseconn.append(_note_reuse)
            return aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                headers=headers,
                auto_decompress=False,
                read_bufsize=2**20,
                trace_configs=[tracing],
            )

        self._http = self.loop.wait(client(), CONNECT_LIMIT_S)
        self.failures: tuple[type[Exception], ...] = (OSError, aiohttp.ClientError)

    def ask(self, path: str, body: Any = None, limit_s: float = 60.0) -> Any:
        """The JSON at `path` below the API's address (a POST where there is a body). EngineError for whatever goes wrong."""
        return self._asked(self.place.base_url + path, body, limit_s)

    def ask_root(self, path: str, body: Any = None) -> Any:
        """As `ask`, for the server's own paths beside the API."""
        return self._asked(self.place.root + path, body, 60.0)

    def _asked(self, url: str, body: Any, limit_s: float) -> Any:
        where = f"{self.name} at {self.place.place}"
        try:
            status, answer = self.loop.wait(self._exchange(url, body), limit_s)
        except TimeoutError:
            raise EngineError("load", f"{where} does not answer within {limit_s:g} s") from None
        except self.failures as error:
            raise EngineError("load", f"{where}: {self.why(error)}") from None
        if status != 200:
            raise EngineError("load", f"{where} answers HTTP {status}: {self.clean(sentence(answer))}")
        if isinstance(answer, str):
            raise EngineError(
                "load", f"{where} answers without JSON; is base_url right? {self.clean(plain(answer, 80))}"
            )
        return answer

    async def _exchange(self, url: str, body: Any) -> tuple[int, Any]:
        """(status, JSON or text). Outside of measured requests the wait that a 429 asks for is kept, once."""
        for attempt in (1, 2):
            data = None if body is None else json.dumps(body)
            async with self._http.request("GET" if body is None else "POST", url, data=data) as response:
                raw = bytearray()
                async for piece in response.content.iter_any():
                    raw += piece
                    if len(raw) > LONGEST_ANSWER_BYTES:
                        return response.status, raw[:200].decode("utf-8", "replace")
                if response.status == 429 and attempt == 1:
                    wait_s = seconds(response.headers.get("Retry-After"))
                    await asyncio.sleep(min(LONGEST_WAIT_S, 1.0 if wait_s is None else wait_s))
                    continue
                text = raw.decode("utf-8", "replace")
                try:
                    return response.status, json.loads(text)
                except ValueError:
                    return response.status, text
        raise AssertionError

    async def post(self, path: str, body: bytes) -> tuple[Any, str | None]:
        """(response up to its head, None), or (response, why it is no stream).

        Sent again only where a connection kept from an earlier answer turns out to be closed: some servers close theirs
        without a word, and such a request was never read.
        """
        while True:
            kept: set[str] = set()
            try:
                response = await self._http.post(self.place.base_url + path, data=body, trace_request_ctx=kept)
                break
            except (self._aiohttp.ServerDisconnectedError, self._aiohttp.ClientOSError):
                if not kept:
                    raise
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        packing = response.headers.get("Content-Encoding", "identity").lower()
        if packing not in ("", "identity"):
            return response, f"the server compresses its stream ({packing}) though asked not to"
        if response.status == 200 and kind not in ("application/json", "text/html"):
            return response, None
        text = (await response.content.read(2**16)).decode("utf-8", "replace")
        try:
            said = sentence(json.loads(text))
        except ValueError:
            said = plain(text)
        if response.status == 200:
            return response, f"the server answers with {kind} in place of a stream: {said}"
        wait_s = seconds(response.headers.get("Retry-After")) if response.status == 429 else None
        return response, f"HTTP {response.status}: {said}" + (f" (it asks to wait {wait_s:g} s)" if wait_s else "")

    def wait_until_ready(self, path: str, server: StartedServer, deadline_s: float) -> None:
        """Until a server that was just started answers 200 at `path`. EngineError("load") if it dies or is late."""
        while True:
            wait_until_listening(self.place.host, self.place.port, server, deadline_s)
            with contextlib.suppress(TimeoutError, *self.failures):
                if self.loop.wait(self._exchange(self.place.root + path, None), CONNECT_LIMIT_S)[0] == 200:
                    return
            if time.monotonic() > deadline_s:
                raise EngineError("load", "the started server listens, but is not ready within start_limit_s")
            self.loop.wait(asyncio.sleep(0.2), 10)

    def why(self, error: BaseException) -> str:
        """Why no answer came, without the address that the libraries put into it."""
        client = self._aiohttp
        if isinstance(error, client.ClientSSLError):
            return "its TLS certificate does not hold"
        if isinstance(error, client.ClientConnectorDNSError):
            return "its name does not resolve"
        if isinstance(error, client.ClientConnectorError):
            return f"nothing listens there ({os.strerror(error.errno) if error.errno else 'no connection'})"
        if isinstance(error, TimeoutError):
            return f"no connection within {CONNECT_LIMIT_S:g} s"
        if isinstance(error, client.ServerDisconnectedError | ConnectionResetError):
            return "it closed the connection without an answer"
        return f"the connection failed ({type(error).__name__})"

    def clean(self, text: str) -> str:
        """Without the key and without the server's name."""
        for word in self._hidden:
            text = text.replace(word, "<hidden>")
        return text

    def close(self) -> None:
        if not self.loop.is_closed():
            self.loop.wait(self._http.close(), CONNECT_LIMIT_S)
            self.loop.close()


async def _note_reuse(_session: Any, context: Any, _params: Any) -> None:
    if isinstance(context.trace_request_ctx, set):
        context.trace_request_ctx.add("reused")


def seconds(text: str | None) -> float | None:
    """The seconds of a Retry-After; None for a date or for nothing."""
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
