"""A server with OpenAI's API that streams at a set pace and keeps its own record of when it sent what. Run in a process of its own.

    python tests/backends/paced_server.py --tps 50      # prints its port; ends with its stdin

Its times are `time.perf_counter_ns`, which on one machine is the same clock in every process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MODEL = "paced"
CHUNK = {
    "id": "cmpl-0123456789abcdef0123456789abcdef",
    "object": "text_completion",
    "created": 1700000000,
    "model": MODEL,
    "choices": [
        {"index": 0, "text": " token", "logprobs": None, "finish_reason": None, "stop_reason": None, "token_ids": None}
    ],
    "usage": None,
}


def framed(payload: str) -> bytes:
    """One server-sent event in one chunk of HTTP."""
    event = f"data: {payload}\n\n".encode()
    return f"{len(event):x}\r\n".encode() + event + b"\r\n"


TOKEN = framed(json.dumps(CHUNK))


class Connection(asyncio.Protocol):
    """One client. Every answer is written at once, but for streams, which are written token by token."""

    def __init__(self, tps: float, records: dict[str, list[int]]) -> None:
        self._interval_s = 1 / tps
        self._records = records
        self._waiting = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        head, end, rest = self._waiting.partition(b"\r\n\r\n")
        if not end:
            return
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(rest) < length:
            return
        self._waiting = rest[length:]
        method, path = head.split(b" ", 2)[:2]
        if method == b"GET":
            models = {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "tests"}]}
            self._answer(self._records if path == b"/records" else models)
            return
        body = json.loads(rest[:length])
        if body.get("stream"):
            self._stream(str(body["prompt"]), body["max_tokens"])
        else:
            usage = {"prompt_tokens": 7, "completion_tokens": 1}
            self._answer({"model": MODEL, "choices": [{"text": "a", "finish_reason": "length"}], "usage": usage})

    def _answer(self, content: Any) -> None:
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)

    def _stream(self, prompt: str, tokens: int) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        self._transport.write(head.encode())
        sent = self._records[prompt] = []
        begin = self._loop.time() + self._interval_s

        def token() -> None:
            sent.append(time.perf_counter_ns())
            self._transport.write(TOKEN)
            if len(sent) < tokens:
                self._loop.call_at(begin + len(sent) * self._interval_s, token)
                return
            finish = {**CHUNK, "choices": [{"index": 0, "text": "", "finish_reason": "length"}]}
            usage = {**CHUNK, "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": tokens}}
            last = framed(json.dumps(finish)) + framed(json.dumps(usage)) + framed("[DONE]")
            self._transport.write(last + b"0\r\n\r\n")

        self._loop.call_at(begin, token)


async def serve(tps: float) -> None:
    records: dict[str, list[int]] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(tps, records), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def paced_server(tps: float) -> Iterator[str]:
    """The address of a running one, as base_url."""
    command = [sys.executable, str(Path(__file__)), "--tps", str(tps)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.stdin.close()
            process.terminate()


def sent_ns(base_url: str) -> dict[str, list[int]]:
    """What the server sent: prompt -> the instant of every token."""
    with urllib.request.urlopen(base_url.replace("/v1", "/records")) as answer:
        records: dict[str, list[int]] = json.load(answer)
        return records


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tps", type=float, default=50.0)
    asyncio.run(serve(parser.parse_args().tps))
