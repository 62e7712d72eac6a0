"""Which servers with OpenAI's API answer on this machine. Asks, and starts nothing."""

from __future__ import annotations

import os
from typing import Any

from rigbench_backends.base import EngineError, Probe
from rigbench_backends.openai.connection import Client
from rigbench_backends.openai.options import HttpOptions, place_of
from rigbench_backends.openai.servers import SERVERS, Address, address, entries, recognise

SCAN_LIMIT_S = 0.5
ASK_LIMIT_S = 5.0


def probe_servers(options: HttpOptions | None) -> Probe:
    """Usable when the server that the options name answers (one to be started counts as there); with no options, when any does."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        client = f"httptools {version('httptools')}"
    except PackageNotFoundError:
        return Probe(False, reason="the package httptools is not installed", fix="pip install httptools")
    device = options.device if options else "remote"

    def no(reason: str, fix: str | None = None) -> Probe:
        return Probe(False, client, device, reason=reason, fix=fix)

    if options is None or (options.server is None and options.base_url is None and not options.start):
        ports = tuple(f"{name}: port {place.port}" for name, place in running().items())
        if ports:
            return Probe(True, client, device, ports)
        usual = ", ".join(f"{server.name} {server.port}" for server in SERVERS.values())
        return no(
            f"no server answers at its usual port ({usual})",
            "start one and name it with --server, or name its address with -O base_url=http://HOST:PORT/v1",
        )
    try:
        server, place = place_of(options)
    except EngineError as error:
        return no(str(error))
    if options.start:
        wants_file = any("{model}" in word for word in options.start)
        formats = server.model_formats if server and wants_file else None
        return Probe(True, client, device, ("started by command",), model_formats=formats)
    key = os.environ.get(options.api_key_env)
    name = server.name if server else "the server"
    try:
        try:
            models = _answer(place, "/models", key, ASK_LIMIT_S, name)
        except EngineError:
            if server is None or server.model is None:
                raise
            models = _answer(
                place, server.health, key, ASK_LIMIT_S, name, root=True
            )  # what it serves need not be listed
    except EngineError as error:
        fix = f"start it ({server.start}), or give its address with -O base_url=..." if server else "check base_url"
        if "HTTP 401" in str(error) or "HTTP 403" in str(error):
            fix = f"put the server's key into the environment variable {options.api_key_env}"
        return no(str(error), fix)
    kind = server or recognise(models, place.port)
    return Probe(True, client, device, (f"{kind.name if kind else 'openai'}: {len(entries(models))} models listed",))


def running(limit_s: float = SCAN_LIMIT_S) -> dict[str, Address]:
    """The servers that answer at their usual ports here: name -> address."""
    servers = {}
    for port in sorted({server.port for server in SERVERS.values()}):
        place = address(f"http://127.0.0.1:{port}/v1")
        try:
            server = recognise(_answer(place, "/models", None, limit_s), port)
        except EngineError:
            continue
        if server is not None:
            servers[server.name] = place
    return servers


def _answer(
    place: Address, path: str, key: str | None, limit_s: float, name: str = "the server", *, root: bool = False
) -> dict[str, Any]:
    """The JSON object there. EngineError in one sentence for anything else."""
    client = Client(place, key)
    client.name = name
    try:
        answer = client.ask(path, None, limit_s, root=root)
    finally:
        client.close()
    if not isinstance(answer, dict):
        raise EngineError("load", f"{name} at {place.place} gives no list of models")
    return answer
