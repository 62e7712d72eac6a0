"""Any server with OpenAI's API, over HTTP: Ollama, LM Studio, llama-server, vLLM, TensorRT-LLM, SGLang, mlx_lm.server, a cluster.

A token is stamped when its bytes reach this process (connection.py), and read from them afterwards (reply.py). What the
wire adds is in the figures: this is what a user of the server sees. The server's kind (servers.py) decides whether
prompts go as token ids of the exact length, and whether lengths are fixed; a server that stops early has its true lengths
recorded. A request that fails is a failed request, never a slow one: inside a window nothing is tried again.

    rigbench run smoke --server llama-server --model remote:any
    rigbench run smoke --backend openai_http -O base_url=http://localhost:8000/v1 --model remote:any
"""

from __future__ import annotations

from rigbench_backends.base import Backend, EngineInfo, ModelFile, Probe
from rigbench_backends.openai.options import DEVICES, HttpOptions
from rigbench_backends.openai.probe import probe_servers
from rigbench_backends.openai.servers import SERVERS
from rigbench_backends.openai.session import HttpSession


class HttpBackend(Backend):
    """Servers with OpenAI's API as a backend."""

    name = "openai_http"
    Options = HttpOptions
    model_formats = ("remote",)
    device_kinds = DEVICES

    def open(self, model: ModelFile, options: HttpOptions) -> HttpSession:
        return HttpSession(model, options)

    def probe(self, options: HttpOptions | None = None) -> Probe:
        return probe_servers(options)

    def platform(self, info: EngineInfo) -> str:
        server = SERVERS.get(info.engine)
        return (server.platform if server else None) or info.device


BACKEND = HttpBackend()
