"""Nightly histories of another tool's figures, imported and read by `rigbench regress`: 24 nights of five repetitions."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import rigbench
from rigbench.documents import store
from rigbench.documents.exchange import importing

ENTRIES = json.loads((Path(__file__).parents[1] / "documents" / "llama_bench.json").read_text())
ENTRY: dict[str, Any] = next(entry for entry in ENTRIES if entry["n_gen"] and not entry["n_prompt"])
NIGHTS = 24


def history(folder: Path, level: Callable[[int], float], seed: int = 7) -> Path:
    """A night differs from the next by 0.8 % (sd), a repetition by 0.3 %."""
    rng = random.Random(seed)
    for night in range(NIGHTS):
        middle = level(night) + rng.gauss(0, 0.8)
        rates = [middle + rng.gauss(0, 0.3) for _ in range(5)]
        build = {"build_number": 7000 + night, "build_commit": f"{night:07x}a"}
        when = {"test_time": f"2026-01-{1 + night:02d}T03:00:00Z"}
        file = folder / "night.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([{**ENTRY, **build, **when, "samples_ts": rates, "avg_ts": sum(rates) / 5}]))
        for document in importing.read(file).documents:
            store.write(document, folder / "results")
    return folder / "results"


@pytest.mark.parametrize(
    ("level", "code", "text"),
    [
        pytest.param(lambda night: 100, 0, "No level is told apart", id="flat"),
        pytest.param(lambda night: 50 if 8 <= night < 14 else 100, 4, "2026-01-15", id="half for six nights"),
        pytest.param(lambda night: 90 if 8 <= night < 14 else 100, 4, "2026-01-15", id="a tenth for six nights"),
        pytest.param(lambda night: 92 if night >= 12 else 100, 4, "2026-01-13", id="shift"),
        pytest.param(lambda night: 100 - 0.4 * night, 4, "a drift in small steps", id="drift"),
        pytest.param(lambda night: 70 if night == 12 else 100, 0, "one outlier", id="one bad night"),
        pytest.param(lambda night: 88 if night * 7 % 5 < 2 else 100, 0, "two states", id="two states"),
    ],
)
def test_what_a_history_says(level: Callable[[int], float], code: int, text: str, tmp_path: Path) -> None:
    results = history(tmp_path, level)
    done = rigbench("regress", results, "--axis", "date", "--fail-on", "slower", cwd=tmp_path, expect=code)
    assert text in done.stdout.replace("\n", " ")
    assert ("slower" in done.stdout) == (code == 4)
    if "2026-01-15" in text:  # the dip has an end
        assert "faster" in done.stdout and "2026-01-09" in done.stdout
