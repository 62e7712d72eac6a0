"""The servers that speak OpenAI's API, and what is peculiar to each: port, fixed lengths, tokenizer, which paths tell of it.

A server that is not in the table is measured as `openai`: text prompts, lengths as it likes. What the paths answer is read in
openai_facts.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from rigbench_backends.openai_stream import plain


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
        replace(_VLLM, name="vllm-metal", model_formats=("mlx", "safetensors"), owned_by=()),
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
