"""Any server with OpenAI's API, over HTTP: Ollama, LM Studio, llama-server, vLLM, TensorRT-LLM, SGLang, mlx_lm.server, a cluster.

A token is stamped when its bytes reach this process (openai_client.py), and read from them afterwards (openai_stream.py). What the
wire adds is in the figures: this is what a user of the server sees. The server's kind (openai_servers.py) decides whether
prompts go as token ids of the exact length, and whether lengths are fixed; a server that stops early has its true lengths
recorded. A request that fails is a failed request, never a slow one: inside a window nothing is tried again.

    rigbench run smoke --server llama-server --model remote:any
    rigbench run smoke --backend openai_http -O base_url=http://localhost:8000/v1 --model remote:any
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rigbench_backends.base import PRIVATE, Diagnosis, ModelFile, Probe, telling_line
from rigbench_backends.openai_session import HttpSession


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Which server, and how it is spoken to: a `server` of openai_servers.py, or `base_url`, or both.

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


class HttpBackend:
    """Servers with OpenAI's API as a backend."""

    name = "openai_http"
    Options = HttpOptions
    model_formats = ("remote",)

    def open(self, model: ModelFile, options: HttpOptions) -> HttpSession:
        return HttpSession(model, options)

    def probe(self, options: HttpOptions | None = None) -> Probe:
        from rigbench_backends.openai_probe import probe

        return probe(options)

    def diagnose(self, lines: Sequence[str], phase: str, signal: str | None, device: str | None) -> Diagnosis:
        return Diagnosis(telling_line(lines))


BACKEND = HttpBackend()
