"""What a server tells of itself and of its models, read from the JSON of its own paths. Pure: who asks is openai_session.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rigbench_backends.base import EngineError
from rigbench_backends.openai_servers import SERVERS, Server, last_name

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
    found = read(answers, entry, model) if read else {}
    found.setdefault("context_limit", _whole(entry.get("max_model_len")))
    answered = answers.get("hello", {}).get("model")
    return Facts(**found, answers_as=last_name(str(answered)) if answered else None)


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
    }


def _lmstudio(answers: Answers, _entry: dict[str, Any], model: str) -> dict[str, Any]:
    own = next((one for one in entries(answers.get("/api/v0/models")) if one["id"] == model), {})
    return {
        "context_limit": _whole(own.get("loaded_context_length")) or _whole(own.get("max_context_length")),
        "quantization": _text(own.get("quantization")),
    }


def _sglang(answers: Answers, _entry: dict[str, Any], _model: str) -> dict[str, Any]:
    info = answers.get("/get_server_info", {})
    return {
        "version": _text(info.get("version")),
        "quantization": _text(info.get("quantization")),
        "slots": _whole(info.get("max_running_requests")),
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


def _text(value: Any) -> str | None:
    return str(value) if value else None
