"""Interpreters that the tests run engines in: this one, those that `scripts/test --all` makes, and any that is named.

RIGBENCH_ENGINE_PYTHON names one, as RIGBENCH_PEFT_PYTHON that of peft.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def engine_python(engine: str | None) -> Path:
    """The interpreter that RIGBENCH_ENGINE_PYTHON names, else that of the environment `.venv-ENGINE`; this one for None.

    Skips the test where the environment is not there, unless RIGBENCH_TEST_ENGINES says that it must be.
    """
    if engine is None:
        return Path(sys.executable)
    if named := os.environ.get(f"RIGBENCH_{engine.upper()}_PYTHON"):
        return Path(named)
    python = CHECKOUT / f".venv-{engine}" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        if engine in os.environ.get("RIGBENCH_TEST_ENGINES", "").split():
            pytest.fail(f"{python} is missing")
        pytest.skip(f"no environment for {engine}: neither .venv-{engine} nor RIGBENCH_{engine.upper()}_PYTHON")
    return python
