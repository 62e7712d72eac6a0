"""rigbench: measure live LLM inference on the machine in front of you, and say how far it is from what the memory allows.

In a program or notebook: `load`, `Result`, `frame`, `compare`, `measure`, `predictions` (harness/rigbench/api.py). The folders
are the way of the data: suites -> run (-> worker) -> documents -> analysis, predict -> report, cli. This module and everything the
worker imports use the standard library alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"
API = ("Result", "compare", "frame", "load", "measure", "predictions")


def __getattr__(name: str) -> Any:
    """The public API, loaded when it is first asked for."""
    if name in API:
        return getattr(import_module("rigbench.api"), name)
    raise AttributeError(f"module 'rigbench' has no attribute {name!r}")
