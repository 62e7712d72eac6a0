"""The servers that speak OpenAI's API, and what is peculiar to each: port, fixed lengths, tokenizer, which paths tell of it.

A server that is not in the table is measured as `openai`: text prompts, lengths as it likes. Pure: who asks is session.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from rigbench_backends.base import EngineError
from rigbench_backends.openai.reply import plain


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of server.

    `body` goes into every request: what makes lengths fixed and counts exact. `owned_by` is how it names itself in /v1/models.
    `tokenize` is the path and the key of the text. `asks` are the paths that tell of it, below the root of its address.
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
    platform="vllm",
)

SERVERS = {
    server.name: server
    for server in (
        Server(
            "ollama",
            11434,
            "ollama serve",
            owned_by=("library",),
            health="/api/version",
            asks=("/api/version", "/api/show", "/api/ps"),
        ),
        Server("lmstudio", 1234, "lms server start", owned_by=("organization_owner",), asks=("/api/v0/models",)),
        Server(
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
        ),
        _VLLM,
        replace(_VLLM, name="vllm-metal", model_formats=("mlx", "safetensors"), owned_by=(), platform="mlx"),
        replace(_VLLM, name="trtllm", start="trtllm-serve MODEL", owned_by=("tensorrt_llm",), tokenize=None),
        replace(
            _VLLM,
            name="sglang",
            port=30000,
            start="python -m sglang.launch_server --model-path MODEL",
            owned_by=("sglang",),
            asks=("/get_server_info",),
        ),
        Server(
            "mlx",
            8080,
            "mlx_lm.server --model MODEL",
            health="/health",
            model_formats=("mlx", "safetensors"),
            model="default_model",
            platform="mlx",
        ),
    )
}
UNKNOWN = Server("openai", 8000, "a server with OpenAI's API")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is: `root` without the API's `/v1`, and `place`, which tells nobody whose machine it is."""

    base_url: str
    root: str
    place: str
    host: str
    port: int
    local: bool


def address(base_url: str) -> Address:
    """From what a person writes: with or without /v1. ValueError, in one sentence, if it is no such address."""
    parts = urlsplit(base_url if "//" in base_url else f"http://{base_url}")
    if parts.username or parts.password:
        raise ValueError("base_url must hold no user or key: the key comes from the environment (api_key_env)")
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        port = None
    if port is None or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("base_url is no address of a server; write for example http://localhost:8000/v1")
    path = parts.path.rstrip("/") or "/v1"
    root = f"{parts.scheme}://{parts.netloc}{path.removesuffix('/v1')}"
    local = parts.hostname in ("localhost", "::1", "0.0.0.0") or parts.hostname.startswith("127.")
    place = f"{parts.scheme}://<{'local' if local else 'remote'}>:{port}"
    return Address(f"{parts.scheme}://{parts.netloc}{path}", root, place, parts.hostname, port, local)


def last_name(model: str) -> str:
    """Servers call a local model by its path, which is nobody's business: its last part. Names with one slash stay whole."""
    name = plain(model)
    if name.startswith(("/", "~", ".")) or "\\" in name or name.count("/") > 1:
        return name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return name


SGLANG_ARGUMENTS = (
    "attention_backend",
    "chunked_prefill_size",
    "dtype",
    "kv_cache_dtype",
    "max_running_requests",
    "tp_size",
)
Answers = dict[str, Any]
"""Path -> the JSON that a server answered there; a path that it does not know is missing. `hello`: a request's answer."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server tells of itself and of the model it has loaded; None where it does not."""

    version: str | None = None
    context_limit: int | None = None
    weights_bytes: int | None = None
    parameters: int | None = None
    vocab_size: int | None = None
    quantization: str | None = None
    slots: int | None = None
    device_bytes: int | None = None
    answers_as: str | None = None
    resolved: dict[str, Any] = field(default_factory=dict)
    """What it made of its own options, under its own names."""


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
    """The models of an answer of /v1/models."""
    listed = models.get("data") if isinstance(models, dict) else models
    return [entry for entry in listed or [] if isinstance(entry, dict) and "id" in entry]


def facts(server: Server, answers: Answers, model: str) -> Facts:
    """What the answers (`/v1/models`, those of `server.asks`, and `hello`: a request's) say of `model`."""
    entry = next((one for one in entries(answers.get("/v1/models")) if one["id"] == model), {})
    read = _READERS.get(server.name)
    known = read(answers, entry, model) if read else {}
    known.setdefault("context_limit", _whole(entry.get("max_model_len")))
    known["resolved"] = _some(entry, "max_model_len") | known.get("resolved", {})
    answered = answers.get("hello", {}).get("model")
    return Facts(**known, answers_as=last_name(str(answered)) if answered else None)


def _vllm(answers: Answers, _entry: dict[str, Any], _model: str) -> dict[str, Any]:
    return {"version": _text(answers.get("/version", {}).get("version"))}


def _llama_server(answers: Answers, entry: dict[str, Any], _model: str) -> dict[str, Any]:
    meta, props = entry.get("meta") or {}, answers.get("/props", {})
    settings = props.get("default_generation_settings") or {}
    return {
        "version": _text(props.get("build_info")),
        "context_limit": _whole(settings.get("n_ctx")) or _whole(meta.get("n_ctx_train")),
        "weights_bytes": _whole(meta.get("size")),
        "parameters": _whole(meta.get("n_params")),
        "vocab_size": _whole(meta.get("n_vocab")),
        "quantization": _text(meta.get("ftype")),
        "slots": _whole(props.get("total_slots")),
        "resolved": _some(props, "total_slots") | _some(settings, "n_ctx") | _some(meta, "n_ctx_train"),
    }


def _ollama(answers: Answers, _entry: dict[str, Any], model: str) -> dict[str, Any]:
    show = answers.get("/api/show", {})
    info, details = show.get("model_info") or {}, show.get("details") or {}
    names = {model, f"{model}:latest"}
    running: dict[str, Any] = next(
        (one for one in answers.get("/api/ps", {}).get("models") or [] if one.get("name") in names), {}
    )
    trained = info.get(f"{info.get('general.architecture')}.context_length")
    return {
        "version": _text(answers.get("/api/version", {}).get("version")),
        # What is loaded cuts prompts at its own length, which is less than what the model was trained for.
        "context_limit": _whole(running.get("context_length")) or _whole(trained),
        "parameters": _whole(info.get("general.parameter_count")),
        "quantization": _text(details.get("quantization_level")),
        "device_bytes": _whole(running.get("size_vram")),
        "resolved": _some(running, "context_length", "size_vram", "size"),
    }


def _lmstudio(answers: Answers, _entry: dict[str, Any], model: str) -> dict[str, Any]:
    own = next((one for one in entries(answers.get("/api/v0/models")) if one["id"] == model), {})
    return {
        "context_limit": _whole(own.get("loaded_context_length")) or _whole(own.get("max_context_length")),
        "quantization": _text(own.get("quantization")),
        "resolved": _some(own, "loaded_context_length", "compatibility_type"),
    }


def _sglang(answers: Answers, _entry: dict[str, Any], _model: str) -> dict[str, Any]:
    info = answers.get("/get_server_info", {})
    return {
        "version": _text(info.get("version")),
        "quantization": _text(info.get("quantization")),
        "slots": _whole(info.get("max_running_requests")),
        "resolved": _some(info, *SGLANG_ARGUMENTS),
    }


def _mlx(answers: Answers, _entry: dict[str, Any], _model: str) -> dict[str, Any]:
    parts = str(answers.get("hello", {}).get("system_fingerprint") or "").split("-")  # mlx-lm, mlx, platform ...
    return {"version": f"{parts[0]} (mlx {parts[1]})" if len(parts) > 1 else None}


_READERS = {
    "mlx": _mlx,
    "vllm": _vllm,
    "vllm-metal": _vllm,
    "trtllm": _vllm,
    "llama-server": _llama_server,
    "ollama": _ollama,
    "lmstudio": _lmstudio,
    "sglang": _sglang,
}


def chosen(answers: Answers, server: Server, asked: str | None, model: str) -> str:
    """The name to ask for: `asked` (the option served_model); else the server's usual; else `model` where it has that; else the
    only one it has loaded. EngineError("options") naming what there is."""
    listed = [str(entry["id"]) for entry in entries(answers.get("/v1/models"))]
    loaded = [
        str(one["id"]) for one in entries(answers.get("/api/v0/models")) if one.get("state") == "loaded"
    ] or listed
    shown = ", ".join(last_name(name) for name in loaded)
    if asked is not None:
        known = {asked, f"{asked}:latest"} & set(listed)
        if listed and not known and server.model is None:
            raise EngineError("options", f"{server.name} serves no model {last_name(asked)!r}; it has {shown}")
        return asked
    if server.model is not None:
        return server.model
    for name in (model, f"{model}:latest"):
        if name in listed:
            return name
    if len(loaded) == 1:
        return loaded[0]
    if not loaded:
        raise EngineError("options", f"{server.name} lists no model: load one in it, or set served_model")
    raise EngineError("options", f"{server.name} serves several models: set served_model to one of {shown}")


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _some(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: answer[name] for name in names if answer.get(name) is not None}


def _text(value: Any) -> str | None:
    return str(value) if value else None
