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
from contextlib import closing, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from rigbench_backends.base import Backend, EngineError, EngineInfo, ModelFile, Probe
from rigbench_backends.openai.connection import Client, Refusal
from rigbench_backends.openai.servers import (
    ANY,
    DEVICES,
    NOT_THERE,
    PATHS,
    SERVERS,
    UNKNOWN,
    Answers,
    HttpOptions,
    Server,
    entries,
    last_name,
    model_choice,
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
            server = place_of(options)[0]
        except EngineError as error:
            return unusable(reason=str(error))
        if options.start:
            wants_file = any("{model}" in word for word in options.start)
            formats = server.model_formats if server and wants_file else None
            return usable(("started by command",), model_formats=formats)
        try:
            kind, answers = answers_of(options)
        except EngineError as error:
            fix = f"start it ({server.start}), or give its address with -O base_url=..." if server else "check base_url"
            if isinstance(error, Refusal) and error.status in (401, 403):
                fix = f"put the server's key into the environment variable {options.api_key_env}"
            return unusable(reason=str(error), fix=None if "-O " in str(error) else fix)
        return usable((f"{kind.name}: {len(entries(answers.get('/v1/models')))} models listed",))

    def platform(self, info: EngineInfo) -> str:
        server = SERVERS.get(info.engine)
        return (server.platform if server else None) or info.device


def running() -> dict[str, int]:
    """The servers that answer at their usual ports here: name -> port."""
    servers = {}
    for port in sorted({server.port for server in SERVERS.values()}):
        with suppress(EngineError):
            kind, _ = answers_of(HttpOptions(base_url=f"127.0.0.1:{port}", api_key_env=""), SCAN_LIMIT_S)
            servers[kind.name] = port
    return {name: port for name, port in servers.items() if name in SERVERS}


def answers_of(options: HttpOptions, limit_s: float = ASK_LIMIT_S) -> tuple[Server, Answers]:
    """(the kind of server that runs there, what it says of the models that it has: nothing where it keeps no list).
    EngineError in one sentence where it does not answer."""
    named, place = place_of(options)
    with closing(Client(place, os.environ.get(options.api_key_env), options.ca_file)) as client:
        client.name = named.name if named else client.name
        try:
            models = client.ask("/models", limit_s=limit_s)
        except EngineError as error:
            if named is not None and named.model is not None:
                client.ask(named.health, limit_s=limit_s, root=True)  # what it serves need not be listed
            elif not (_not_there(error) and any(_has(client, path, limit_s) for path in PATHS.values())):
                raise
            return named or UNKNOWN, {}
        if not isinstance(models, dict):
            raise EngineError("load", f"{client.name} at {place.place} gives no list of models")
        kind = named or recognise(models, place.port) or UNKNOWN
        answers = {"/v1/models": models}
        for path in {"/api/ps", "/api/v0/models"} & set(kind.asks):  # of those listed, which are loaded
            with suppress(EngineError):
                answers[path] = client.ask(path, limit_s=limit_s, root=True)
        return kind, answers


def _not_there(error: EngineError) -> bool:
    return isinstance(error, Refusal) and error.status in NOT_THERE


def _has(client: Client, path: str, limit_s: float) -> bool:
    """Whether a request without a prompt is refused otherwise than a path that is not there."""
    try:
        client.ask(path, {}, limit_s)
    except EngineError as error:
        return not _not_there(error)
    return True


def model_label(options: HttpOptions, name: str) -> str:
    """What a row calls the model that `remote:NAME` stands for on the server that runs there: its own name for it.
    EngineError("load") where it does not answer, EngineError("options") where it has no such model."""
    kind, answers = answers_of(options)
    if options.served_model is not None and name != ANY:
        return name  # whether it is so, its answers say (HttpSession)
    return last_name(model_choice(answers, kind, options.served_model or name))


BACKEND = HttpBackend()
