"""Which servers with OpenAI's API answer on this machine. Standard library; asks, and starts nothing."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from rigbench_backends.base import Probe
from rigbench_backends.openai_facts import entries, recognise
from rigbench_backends.openai_servers import SERVERS, Address, address

if TYPE_CHECKING:
    from rigbench_backends.openai_http import HttpOptions

SCAN_LIMIT_S = 0.5
ASK_LIMIT_S = 5.0


def running(limit_s: float = SCAN_LIMIT_S) -> dict[str, Address]:
    """The servers that answer at their usual ports here: name -> address."""
    found = {}
    for port in sorted({server.port for server in SERVERS.values()}):
        place = address(f"http://127.0.0.1:{port}/v1")
        models, _ = _models(place, None, limit_s)
        if models is not None and (server := recognise(models, port)) is not None:
            found[server.name] = place
    return found


def probe(options: HttpOptions | None) -> Probe:
    """Usable when the server that the options name answers (one to be started counts as there); with no options, when any does."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        client = f"aiohttp {version('aiohttp')}"
    except PackageNotFoundError:
        return Probe(False, reason="the package aiohttp is not installed", mend="pip install aiohttp")
    device = options.device if options else "remote"

    def no(reason: str, mend: str) -> Probe:
        return Probe(False, client, device, reason=reason, mend=mend)

    if options is None or (options.server is None and options.base_url is None and not options.start):
        found = tuple(f"{name}: port {place.port}" for name, place in running().items())
        if found:
            return Probe(True, client, device, found)
        ports = ", ".join(f"{server.name} {server.port}" for server in SERVERS.values())
        return no(
            f"no server answers at its usual port ({ports})",
            "start one and name it with --server, or name its address with -O base_url=http://HOST:PORT/v1",
        )
    server = SERVERS.get(options.server or "")
    if options.server is not None and server is None:
        return no(f"there is no server {options.server!r}", f"choose one of {', '.join(SERVERS)}")
    if options.start:
        wants_file = any("{model}" in word for word in options.start)
        formats = server.model_formats if server and wants_file else None
        return Probe(True, client, device, ("started by command",), model_formats=formats)
    try:
        place = address(options.base_url or f"http://127.0.0.1:{server.port if server else 0}/v1")
    except ValueError as error:
        return no(str(error), "give another base_url")
    if not place.local and device != "remote":
        return no("the option device is for servers on this machine, whose memory can be measured", "leave it out")
    models, why = _models(place, os.environ.get(options.api_key_env), ASK_LIMIT_S)
    if models is None and server is not None and server.model is not None:
        models = _get(place.root + server.health, None, ASK_LIMIT_S)[0]  # what it serves need not be listed
    if models is None:
        mend = f"start it ({server.start}), or give its address with -O base_url=..." if server else "check base_url"
        if why in ("HTTP 401", "HTTP 403"):
            mend = f"put the server's key into the environment variable {options.api_key_env}"
        return no(f"{server.name if server else 'the server'} at {place.place}: {why}", mend)
    kind = server or recognise(models, place.port)
    return Probe(True, client, device, (f"{kind.name if kind else 'openai'}: {len(entries(models))} models listed",))


def _models(place: Address, key: str | None, limit_s: float) -> tuple[Any, str]:
    return _get(f"{place.base_url}/models", key, limit_s)


def _get(url: str, key: str | None, limit_s: float) -> tuple[Any, str]:
    """(the JSON object there, ""), or (None, in a few words why there is none). Never through a proxy."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=limit_s) as answer:
            found = json.loads(answer.read(2**22))
    except urllib.error.HTTPError as error:
        return None, f"HTTP {error.code}"
    except urllib.error.URLError as error:
        return None, "nothing listens there" if isinstance(error.reason, ConnectionRefusedError) else "no connection"
    except Exception:  # http.client's own errors, time limits, whatever is no JSON: a probe never raises
        return None, "it gives no list of models"
    return (found, "") if isinstance(found, dict) else (None, "it gives no list of models")
