"""The benchmark beside mlx-lm's own: what that one prints, and the rate that follows."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("bench_mlx")
    for name in ("bench_mlx", "side_by_side", "llama_tools"):
        sys.modules.pop(name, None)


def test_one_user_counts_gaps_and_many_users_tokens(bench: ModuleType) -> None:
    """64 tokens at `96/s` took 64/96 s from the first to the last: 63 gaps, 94.5 a second."""
    assert bench.tool_tps(lambda: 96.0, 1, 64) == pytest.approx(94.5)
    assert bench.tool_tps(lambda: 96.0, 4, 64) == 96.0
