"""Which server is measured, and how it is spoken to."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from rigbench_backends.base import PRIVATE, EngineError, ModelFile
from rigbench_backends.openai.servers import SERVERS, Address, Server, address
from rigbench_backends.process import free_port

DEVICES = ("remote", "cpu", "cuda", "metal", "rocm", "vulkan")
ENDPOINTS = ("completions", "chat")


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Which server, and how it is spoken to: a `server` of servers.py, or `base_url`, or both.

    `endpoint` is completions or chat. `device` is what a server on this machine runs on (`cpu`, `cuda`, `metal` ...): it is
    then compared with that memory's bandwidth. `start` is a command that starts the server; {port} in it becomes a free port,
    {model} the model's file or name, {python} the interpreter that this runs in. `extra` goes into every request as it is; a
    None in it takes a field away. The key itself is only ever read from the environment.
    """

    server: str | None = None
    base_url: str | None = field(default=None, metadata=PRIVATE)
    endpoint: str = "completions"
    served_model: str | None = field(default=None, metadata=PRIVATE)
    api_key_env: str = "OPENAI_API_KEY"
    device: str = "remote"
    start: tuple[str, ...] = field(default=(), metadata=PRIVATE)
    start_limit_s: float = 600.0
    idle_limit_s: float = 300.0
    vocab_size: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def place_of(options: HttpOptions) -> tuple[Server | None, Address]:
    """(the kind of server, None where the options name none, and its address). EngineError("options") in one sentence."""
    server = SERVERS.get(options.server or "")
    if options.server is not None and server is None:
        raise EngineError("options", f"server = {options.server!r}: choose one of {', '.join(SERVERS)}")
    for name, value, choices in (("endpoint", options.endpoint, ENDPOINTS), ("device", options.device, DEVICES)):
        if value not in choices:
            raise EngineError("options", f"{name} = {value!r}: choose one of {', '.join(choices)}")
    base_url = options.base_url
    if base_url is None and any("{port}" in word for word in options.start):
        base_url = f"http://127.0.0.1:{free_port()}/v1"
    if base_url is None and server is None:
        raise EngineError("options", f"which server? set server to one of {', '.join(SERVERS)}, or base_url")
    try:
        place = address(base_url or f"http://127.0.0.1:{server.port if server else 0}/v1")
    except ValueError as error:
        raise EngineError("options", str(error)) from None
    if not place.local and options.device != "remote":
        raise EngineError("options", "device is for a server on this machine, whose memory is measured: leave it out")
    return server, place


def start_command(options: HttpOptions, place: Address, model: ModelFile) -> list[str]:
    """The words of `start` with {port}, {model} and {python} filled in."""
    values = {"{port}": str(place.port), "{model}": model.path or model.name, "{python}": sys.executable}
    words = list(options.start)
    for key, value in values.items():
        words = [word.replace(key, value) for word in words]
    return words
