"""The servers that speak OpenAI's API, and what is peculiar to each: port, fixed lengths, tokenizer, which paths tell of it.

A server that is not in the table is measured as `openai`: text prompts, lengths as it likes. Who asks is session.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from rigbench_backends.base import EngineError, option
from rigbench_backends.openai.reply import plain
from rigbench_backends.process import free_port


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of server. `start` is the command that a person starts it with.

    `body` goes into every request: what makes lengths fixed and counts exact. `owned_by` is how it names itself in /v1/models.
    `tokenize` is the path and the key of the text. `asks` are the paths that tell of it, below the root of its address.
    `tells` and `resolved` say where in their answers a fact, and an option as the server has settled it, is found: a path and the
    keys below it; of a list of models that of the model; `*` is any beginning of a key. The first place that has it counts.
    """

    name: str
    port: int
    start: str
    body: dict[str, Any] = field(default_factory=dict)
    running_usage: bool = False
    takes_token_ids: bool = False
    fixed_length: bool = False
    owned_by: tuple[str, ...] = ()
    health: str = "/v1/models"
    tokenize: tuple[str, str] | None = None
    asks: tuple[str, ...] = ()
    tells: dict[str, tuple[str, ...]] = field(default_factory=dict)
    resolved: tuple[str, ...] = ()
    model_formats: tuple[str, ...] | None = None
    """What it opens when it is started with a {model}."""
    model: str | None = None
    """What to ask for where /v1/models does not tell what is loaded."""
    platform: str | None = None
    """What the predictor knows its engine by; None: the kind of device that it runs on."""


_VLLM = Server(
    "vllm",
    8000,
    "vllm serve MODEL",
    model_formats=("safetensors",),
    body={"ignore_eos": True},
    running_usage=True,
    takes_token_ids=True,
    fixed_length=True,
    owned_by=("vllm",),
    health="/health",
    tokenize=("/tokenize", "prompt"),
    asks=("/version",),
    tells={"version": ("/version version",)},
    platform="vllm",
)
_OLLAMA = Server(
    "ollama",
    11434,
    "ollama serve",
    owned_by=("library",),
    health="/api/version",
    asks=("/api/version", "/api/show", "/api/ps"),
    tells={
        "version": ("/api/version version",),
        # What is loaded cuts prompts at its own length, which is less than what the model was trained for.
        "context_limit": ("/api/ps context_length", "/api/show model_info *.context_length"),
        "parameters": ("/api/show model_info general.parameter_count",),
        "quantization": ("/api/show details quantization_level",),
        "device_bytes": ("/api/ps size_vram",),
    },
    resolved=("/api/ps context_length", "/api/ps size_vram", "/api/ps size"),
)
_LM_STUDIO = Server(
    "lmstudio",
    1234,
    "lms server start",
    owned_by=("organization_owner",),
    asks=("/api/v0/models",),
    tells={
        "context_limit": ("/api/v0/models loaded_context_length", "/api/v0/models max_context_length"),
        "quantization": ("/api/v0/models quantization",),
    },
    resolved=("/api/v0/models loaded_context_length", "/api/v0/models compatibility_type"),
)
_LLAMA_SERVER = Server(
    "llama-server",
    8080,
    "llama-server -m MODEL.gguf",
    model_formats=("gguf",),
    body={"ignore_eos": True, "cache_prompt": False, "timings_per_token": True},
    takes_token_ids=True,
    fixed_length=True,
    owned_by=("llamacpp",),
    health="/health",
    tokenize=("/tokenize", "content"),
    asks=("/props",),
    tells={
        "version": ("/props build_info",),
        "context_limit": ("/props default_generation_settings n_ctx", "/v1/models meta n_ctx_train"),
        "weights_bytes": ("/v1/models meta size",),
        "parameters": ("/v1/models meta n_params",),
        "vocab_size": ("/v1/models meta n_vocab",),
        "quantization": ("/v1/models meta ftype",),
        "slots": ("/props total_slots",),
    },
    resolved=("/props total_slots", "/props default_generation_settings n_ctx", "/v1/models meta n_ctx_train"),
)
_SGLANG_ARGUMENTS = ("attention_backend", "chunked_prefill_size", "dtype", "kv_cache_dtype", "max_running_requests")
_SGLANG = replace(
    _VLLM,
    name="sglang",
    port=30000,
    start="python -m sglang.launch_server --model-path MODEL",
    owned_by=("sglang",),
    asks=("/get_server_info",),
    tells={
        "version": ("/get_server_info version",),
        "quantization": ("/get_server_info quantization",),
        "slots": ("/get_server_info max_running_requests",),
    },
    resolved=tuple(f"/get_server_info {name}" for name in (*_SGLANG_ARGUMENTS, "tp_size")),
)
_MLX = Server(
    "mlx",
    8080,
    "mlx_lm.server --model MODEL",
    health="/health",
    tells={"version": ("hello system_fingerprint",)},
    model_formats=("mlx", "safetensors"),
    model="default_model",
    platform="mlx",
)
_VLLM_METAL = replace(_VLLM, name="vllm-metal", model_formats=("mlx", "safetensors"), owned_by=(), platform="mlx")
_TRTLLM = replace(_VLLM, name="trtllm", start="trtllm-serve MODEL", owned_by=("tensorrt_llm",), tokenize=None)
_ALL = (_OLLAMA, _LM_STUDIO, _LLAMA_SERVER, _VLLM, _VLLM_METAL, _TRTLLM, _SGLANG, _MLX)
SERVERS = {server.name: server for server in _ALL}
UNKNOWN = Server("openai", 8000, "a server with OpenAI's API")


NOT_THERE = (404, 405, 501)
"""HTTP's words for a path that the server has not."""
ANY = "any"
"""`remote:any`: whatever the server has."""
MOST_NAMES = 20
PATHS = {"completions": "/completions", "chat": "/chat/completions"}
DEVICES = ("remote", "cpu", "cuda", "metal", "rocm", "vulkan")


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Which server, and how it is spoken to: a `server` of SERVERS, or `base_url`, or both.

    In `start`, {port} becomes a free port, {model} the model's file or name, {python} the interpreter that this runs in. The key
    itself is only ever read from the environment.
    """

    server: str | None = option(None, "the kind of server", choices=tuple(SERVERS))
    base_url: str | None = option(None, "its address, http://HOST:PORT/v1", private=True)
    endpoint: str | None = option(
        None,
        "the API that is measured; by default completions, else chat where that alone is there",
        choices=tuple(PATHS),
    )
    served_model: str | None = option(None, "what to ask for where the server lists no models", private=True)
    ca_file: str | None = option(None, "the certificate (PEM) that its own is signed with, or its own", private=True)
    api_key_env: str = option("OPENAI_API_KEY", "the environment variable that holds the key")
    device: str = option(
        "remote", "what a server on this machine runs on: its bandwidth is the ceiling", choices=DEVICES
    )
    start: tuple[str, ...] = option((), "the command that starts the server", private=True)
    start_limit_s: float = option(600.0, "longest wait for a server that was started", least=0)
    idle_limit_s: float = option(300.0, "longest wait for the next token", least=0)
    vocab_size: int | None = option(None, "token ids are drawn below this", least=1)
    extra: dict[str, Any] = field(
        default_factory=dict, metadata={"about": "goes into every request as it is; null takes a field away"}
    )


Origin = tuple[str, str, int]
"""Scheme, host, port."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is: `root` without the API's `/v1`, and `place`, which tells nobody whose machine it is."""

    base_url: str
    root: str
    place: str
    host: str
    port: int
    local: bool


def place_of(options: HttpOptions) -> tuple[Server | None, Address]:
    """(the kind of server, None where the options name none, and its address). EngineError("options") in one sentence."""
    choices = {"server": (None, *SERVERS), "endpoint": (None, *PATHS), "device": DEVICES}
    for name, known in choices.items():
        if (value := getattr(options, name)) not in known:
            raise EngineError("options", f"{name} = {value!r}: choose one of {', '.join(filter(None, known))}")
    server = SERVERS.get(options.server or "")
    base_url = options.base_url
    if base_url is None and any("{port}" in word for word in options.start):
        base_url = f"127.0.0.1:{free_port()}"
    elif base_url is None and server is not None:
        base_url = f"127.0.0.1:{server.port}"
    if base_url is None:
        raise EngineError("options", f"which server? set server to one of {', '.join(SERVERS)}, or base_url")
    place = address(base_url)
    if not place.local and options.device != "remote":
        raise EngineError("options", "device is for a server on this machine, whose memory is measured: leave it out")
    return server, place


def origin_of(url: str) -> Origin | None:
    """Where a URL leads; None for what is not HTTP."""
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):  # of a port that is no number
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    return None


def address(base_url: str) -> Address:
    """From what a person writes: with or without /v1. EngineError("options") if it is no such address."""
    url = base_url if "//" in base_url else f"http://{base_url}"
    parts, origin = urlsplit(url), origin_of(url)
    if parts.username or parts.password:
        secret = "base_url must hold no user or key: the key comes from the environment (api_key_env)"
        raise EngineError("options", secret)
    if origin is None or parts.query or parts.fragment:
        raise EngineError("options", "base_url is no address of a server; write for example http://localhost:8000/v1")
    scheme, host, port = origin
    site, path = f"{scheme}://{parts.netloc}", parts.path.rstrip("/") or "/v1"
    local = host in ("localhost", "::1", "0.0.0.0") or host.startswith("127.")
    place = f"{scheme}://<{'local' if local else 'remote'}>:{port}"
    return Address(site + path, site + path.removesuffix("/v1"), place, host, port, local)


def last_name(model: str) -> str:
    """Servers call a local model by its path, which is nobody's business: its last part. Names with one slash stay whole."""
    name = plain(model)
    if name.startswith(("/", "~", ".")) or "\\" in name or name.count("/") > 1:
        return name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return name


Answers = dict[str, Any]
"""Path -> the JSON that a server answered there; a path that it does not know is missing. `hello`: a request's answer."""


def recognise(models: Any, port: int | None = None) -> Server | None:
    """Which server lists its models like this, at this port; None where nothing gives it away."""
    owners = {str(entry.get("owned_by")) for entry in entries(models)}
    for server in SERVERS.values():
        if owners & set(server.owned_by):
            return server
    if not owners - {"None"} and port == SERVERS["mlx"].port:
        return SERVERS["mlx"]  # the one that names no owner
    return None


def entries(models: Any) -> list[dict[str, Any]]:
    """The models of an answer that lists them, each with its `id`."""
    listed = models.get("data") or models.get("models") if isinstance(models, dict) else models
    named = [{"id": entry.get("name"), **entry} for entry in listed or [] if isinstance(entry, dict)]
    return [entry for entry in named if entry["id"] is not None]


def facts(server: Server, answers: Answers, model: str) -> dict[str, Any]:
    """What the answers (`/v1/models`, those of `server.asks`, and `hello`: a request's) say of `model`: the facts of `server.tells`
    that can be true, `resolved`, and the name that it `answers_as`."""
    names = (model, f"{model}:latest")
    tree = dict(answers)
    for path in ("/v1/models", "/api/v0/models", "/api/ps"):
        tree[path] = next((entry for entry in entries(answers.get(path)) if entry["id"] in names), {})
    places = {**server.tells, "context_limit": (*server.tells.get("context_limit", ()), "/v1/models max_model_len")}
    first = {fact: _first(fact, (_look(tree, place) for place in at)) for fact, at in places.items()}
    known: dict[str, Any] = {fact: value for fact, value in first.items() if value is not None}
    if server is _MLX:
        parts = known.pop("version", "").split("-")  # mlx-lm, mlx, platform ...
        if len(parts) > 1:
            known["version"] = f"{parts[0]} (mlx {parts[1]})"
    settled = {place.split()[-1]: _look(tree, place) for place in ("/v1/models max_model_len", *server.resolved)}
    known["resolved"] = {option: value for option, value in settled.items() if value is not None}
    if name := answers.get("hello", {}).get("model"):
        known["answers_as"] = last_name(str(name))
    return known


def _look(tree: Any, place: str) -> Any:
    """What stands at a place of `Server.tells`; None where nothing does."""
    for key in place.split():
        if not isinstance(tree, dict):
            return None
        key = next((name for name in tree if name.endswith(key[1:])), key) if key.startswith("*") else key
        tree = tree.get(key)
    return tree


def _first(fact: str, values: Iterable[Any]) -> str | int | None:
    """The first that can be this fact: a text of some length, or a whole number above 0."""
    if fact in ("version", "quantization"):
        return next((str(value) for value in values if value), None)
    return next((value for value in values if type(value) is int and value > 0), None)


def model_choice(answers: Answers, server: Server, name: str = ANY, *, exact: bool = True) -> str:
    """What to ask for as `name`: the model listed under it; of `any`, or not `exact`ly that, the one that is loaded.
    Where nothing is listed, the name itself. EngineError("options") naming what there is."""
    ids = [str(entry["id"]) for entry in entries(answers.get("/v1/models"))]
    states = [entry for entry in entries(answers.get("/api/v0/models")) if entry.get("state") == "loaded"]
    running = [str(entry["id"]) for entry in [*states, *entries(answers.get("/api/ps"))]]
    loaded = list(dict.fromkeys([server.model] if server.model else running or ids))
    by_name = {last_name(each): each for each in [*ids, *loaded]} | {each: each for each in [*ids, *loaded]}
    if match := by_name.get(name) or by_name.get(f"{name}:latest"):
        return match
    if name != ANY and not by_name:
        return name
    if (name == ANY or not exact) and len(loaded) == 1:
        return loaded[0]
    if not by_name:
        raise EngineError(
            "options", f"{server.name} lists no model: name the one that it runs with --model remote:NAME"
        )
    names = list(dict.fromkeys(map(last_name, by_name.values())))
    there = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
    if name == ANY or not exact:
        raise EngineError("options", f"{server.name} has {there}: name one with --model remote:NAME")
    takes = f"; remote:{ANY} takes {last_name(loaded[0])}" if len(loaded) == 1 else ""
    raise EngineError("options", f"{server.name} has no model {last_name(name)!r}; it has {there}{takes}")
