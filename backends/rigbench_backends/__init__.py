"""The engines that rigbench measures, one file or folder each. `registry()` is the list; a new engine is one line in it.

Third parties register theirs by the entry-point group `rigbench.backends` (name = "module:BACKEND").
Nothing here imports `rigbench`: a backend runs in whatever interpreter its engine is installed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType

from rigbench_backends.base import Backend

BUILT_IN = {
    "sim": "rigbench_backends.sim:BACKEND",
    "llama_cpp": "rigbench_backends.llama_cpp:BACKEND",
    "mlx_lm": "rigbench_backends.mlx_lm:BACKEND",
    "vllm": "rigbench_backends.vllm:BACKEND",
    "openai_http": "rigbench_backends.openai:BACKEND",
    "peft_lora": "rigbench_backends.peft_lora:BACKEND",
    "mlx_lora": "rigbench_backends.mlx_lora:BACKEND",
}


@cache
def registry() -> Mapping[str, str]:
    """Backend name -> "module:attribute", the built-in ones first. Reads metadata only; imports no engine."""
    others = {entry.name: entry.value for entry in entry_points(group="rigbench.backends")}
    return MappingProxyType(BUILT_IN | {name: place for name, place in others.items() if name not in BUILT_IN})


ALIASES = {
    "llama.cpp": "llama_cpp",
    "llamacpp": "llama_cpp",
    "llama-cpp": "llama_cpp",
    "mlx": "mlx_lm",
    "mlx-lm": "mlx_lm",
    "mlx-lora": "mlx_lora",
    "openai": "openai_http",
    "peft": "peft_lora",
    "server": "openai_http",
    "simulator": "sim",
}
"""What else people call a backend."""


def load(name: str) -> Backend:
    """The backend called `name`. KeyError with the known names if there is none."""
    place = BUILT_IN.get(name) or registry().get(name)
    if place is None:
        raise KeyError(f"no backend {name!r}; there are {', '.join(sorted(registry()))}")
    module, _, attribute = place.partition(":")
    backend: Backend = getattr(import_module(module), attribute)
    return backend
