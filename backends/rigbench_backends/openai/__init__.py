"""Any server with OpenAI's API, over HTTP: Ollama, LM Studio, llama-server, vLLM, TensorRT-LLM, SGLang, mlx_lm.server, a cluster.

A token is stamped when its bytes reach this process (connection.py), and read from them afterwards (reply.py). What the
wire adds is in the figures: this is what a user of the server sees. The server's kind (servers.py) decides whether
prompts go as token ids of the exact length, and whether lengths are fixed; a server that stops early has its true lengths
recorded. A request that fails is a failed request, never a slow one: inside a window nothing is tried again.

    rigbench run smoke --server llama-server
    rigbench run smoke --server localhost:8000
"""

from __future__ import annotations

import os
from contextlib import closing
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rigbench_backends.base import Backend, EngineError, EngineInfo, ModelFile, Probe
from rigbench_backends.openai.connection import Client
from rigbench_backends.openai.servers import (
    DEVICES,
    SERVERS,
    Address,
    HttpOptions,
    address,
    entries,
    place_of,
    recognise,
)
from rigbench_backends.openai.session import HttpSession

SCAN_LIMIT_S = 0.5
ASK_LIMIT_S = 5.0


class HttpBackend(Backend):
    """Servers with OpenAI's API as a backend."""

    name = "openai_http"
    Options = HttpOptions
    model_formats = ("remote",)
    device_kinds = DEVICES

    def open(self, model: ModelFile, options: HttpOptions) -> HttpSession:
        return HttpSession(model, options)

    def probe(self, options: HttpOptions | None = None) -> Probe:
        """Usable when the server that the options name answers (one to be started counts as there); with no options, when any
        does. Starts nothing."""
        options = options or HttpOptions()
        try:
            client = f"httptools {version('httptools')}"
        except PackageNotFoundError:
            return Probe(False, reason="the package httptools is not installed", fix="pip install httptools")
        usable = partial(Probe, True, client, options.device)
        unusable = partial(Probe, False, client, options.device)
        if options.server is None and options.base_url is None and not options.start:
            if ports := tuple(f"{name}: port {port}" for name, port in running().items()):
                return usable(ports)
            usual = ", ".join(f"{server.name} {server.port}" for server in SERVERS.values())
            fix = "start one and name it with --server, or name its address with -O base_url=http://HOST:PORT/v1"
            return unusable(reason=f"no server answers at its usual port ({usual})", fix=fix)
        try:
            server, place = place_of(options)
        except EngineError as error:
            return unusable(reason=str(error))
        if options.start:
            wants_file = any("{model}" in word for word in options.start)
            formats = server.model_formats if server and wants_file else None
            return usable(("started by command",), model_formats=formats)
        ask = partial(_answer, place, os.environ.get(options.api_key_env), ASK_LIMIT_S, server.name if server else None)
        try:
            try:
                models = ask("/models")
            except EngineError:
                if server is None or server.model is None:
                    raise
                models = ask(server.health, root=True)  # what it serves need not be listed
        except EngineError as error:
            fix = f"start it ({server.start}), or give its address with -O base_url=..." if server else "check base_url"
            if "HTTP 401" in str(error) or "HTTP 403" in str(error):
                fix = f"put the server's key into the environment variable {options.api_key_env}"
            return unusable(reason=str(error), fix=fix)
        kind = server or recognise(models, place.port)
        return usable((f"{kind.name if kind else 'openai'}: {len(entries(models))} models listed",))

    def platform(self, info: EngineInfo) -> str:
        server = SERVERS.get(info.engine)
        return (server.platform if server else None) or info.device


def running() -> dict[str, int]:
    """The servers that answer at their usual ports here: name -> port."""
    servers = {}
    for port in sorted({server.port for server in SERVERS.values()}):
        try:
            server = recognise(_answer(address(f"127.0.0.1:{port}"), None, SCAN_LIMIT_S, None, "/models"), port)
        except EngineError:
            continue
        if server is not None:
            servers[server.name] = port
    return servers


def _answer(
    place: Address, key: str | None, limit_s: float, name: str | None, path: str, *, root: bool = False
) -> dict[str, Any]:
    """The JSON object there. EngineError in one sentence for anything else."""
    with closing(Client(place, key)) as client:
        client.name = name or client.name
        answer = client.ask(path, None, limit_s, root=root)
        if not isinstance(answer, dict):
            raise EngineError("load", f"{client.name} at {place.place} gives no list of models")
        return answer


BACKEND = HttpBackend()
