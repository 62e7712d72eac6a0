"""llama.cpp in this process, through the low-level bindings of llama-cpp-python.

rigbench run smoke --backend llama_cpp --model synthetic:llama-160m:Q4_0
"""

from __future__ import annotations

from collections.abc import Sequence

from rigbench_backends.base import Backend, Diagnosis, EngineError, ModelFile, Probe
from rigbench_backends.llama_cpp import ggml
from rigbench_backends.llama_cpp.session import LlamaCppOptions, LlamaCppSession
from rigbench_backends.llama_cpp.trouble import diagnose
from rigbench_backends.process import output_end, output_lines


class LlamaCppBackend(Backend):
    """llama.cpp as a backend."""

    name = "llama_cpp"
    Options = LlamaCppOptions
    model_formats = ("gguf",)
    default_model = "synthetic:llama-1.5b:Q4_K_M"
    device_kinds = ("cuda", "metal", "rocm", "vulkan", "rpc", "gpu", "cpu")

    def open(self, model: ModelFile, options: LlamaCppOptions) -> LlamaCppSession:
        return LlamaCppSession(model, options)

    def probe(self, options: LlamaCppOptions | None = None) -> Probe:
        try:
            log_begin = output_end()
            ggml.bindings()
            import llama_cpp

            devices = ggml.devices()
            texts = tuple(f"{name}: {text}" for name, text, _ in devices)
            device = "cpu" if options and options.n_gpu_layers == 0 else ggml.device_kind(devices)
            return Probe(
                True,
                f"llama-cpp-python {llama_cpp.__version__}",
                device,
                texts,
                gpus=tuple(text for _, text, is_gpu in devices if is_gpu),
                device_error=diagnose(output_lines(log_begin)).cause,
                gpu_fix="scripts/quickstart builds llama.cpp for the GPU, or says what that needs",
            )
        except EngineError as error:
            return Probe(False, reason=str(error), fix=ggml.INSTALL)

    def diagnose(self, lines: Sequence[str], phase: str, signal: str | None, device: str | None) -> Diagnosis:
        return diagnose(lines, phase, signal, device)


BACKEND = LlamaCppBackend()
