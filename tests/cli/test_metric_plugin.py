"""A third party's metric: one file outside the project and an entry point, and it is everywhere that a metric can be."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

V1 = Path(__file__).parents[1] / "documents" / "v1.json"
PLUGIN = """
from rigbench.analysis.definitions import Metric

METRIC = Metric(
    "first_gap_s", "first gap", "s", "second token - first token of the first request", "lower",
    of_case=lambda one: one.requests[0].gaps_s[0],
)
BROKEN = Metric("broken_by_zero", "broken", "", "1 / 0", "lower", of_case=lambda one: 1 / 0)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "plugin"
    metadata = folder / "gap-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: gap\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[rigbench.metrics]\ngap = gap_metric:METRIC\nzero = gap_metric:BROKEN\n"
    )
    (folder / "gap_metric.py").write_text(PLUGIN)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


def test_a_metric_from_outside_is_everywhere(tmp_path: Path, plugin: dict[str, str]) -> None:
    def rigbench(*words: str | Path, expect: int = 0, **more: str) -> str:
        command = [sys.executable, "-m", "rigbench.cli.main", *map(str, words)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, check=False, env={**os.environ, **plugin, **more}
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout

    results = tmp_path / "results"
    results.mkdir()
    (results / "v1.json").write_text(V1.read_text())
    (record,) = (case["requests"][0] for case in json.loads(V1.read_text())["cases"][1:2])
    (row,) = (row for row in json.loads(rigbench("show", V1, "--json")) if row["user_tps"])
    gap = row["first_gap_s"]
    assert gap == pytest.approx((record["token_us"][1] - record["token_us"][0]) / 1e6, rel=0.5)
    assert row["intervals"]["first_gap_s"]["low"] <= gap <= row["intervals"]["first_gap_s"]["high"]
    assert row["broken_by_zero"] is None and row["reasons"]["broken_by_zero"] == "ZeroDivisionError: division by zero"
    assert "first gap" in rigbench("show", V1)
    lines = list(csv.DictReader(io.StringIO(rigbench("export", V1))))
    assert str(gap) in [line["first_gap_s"] for line in lines]
    assert "| first gap |" in rigbench("export", V1, "--format", "markdown")
    assert "first gap" in rigbench("compare", V1, V1, "--metric", "first_gap_s")
    assert "first gap" in rigbench("compare", V1, V1)
    rigbench("index", results)
    question = "SELECT first_gap_s FROM cases WHERE user_tps IS NOT NULL"
    assert json.loads(rigbench("query", question, "--json")) == [{"first_gap_s": gap}]
    (described,) = (one for one in json.loads(rigbench("metrics", "--json")) if one["name"] == "first_gap_s")
    assert (described["unit"], described["formula"]) == ("s", "second token - first token of the first request")


def test_the_document_is_the_same_with_and_without_it(tmp_path: Path, plugin: dict[str, str]) -> None:
    """A run's summary holds the shipped metrics alone, so that it can be validated where the plugin is not."""
    command = [sys.executable, "-m", "rigbench.cli.main", "run", "smoke", "-b", "sim", "--no-telemetry", "-o", "out"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, check=True, env={**os.environ, **plugin}
    )
    path = tmp_path / done.stdout.rstrip().splitlines()[-1].removeprefix("result: ")
    assert "first gap" in done.stdout
    assert "first_gap_s" not in path.read_text()
    command = [sys.executable, "-m", "rigbench.cli.main", "validate", str(path)]
    assert subprocess.run(command, check=False, capture_output=True, cwd=tmp_path).returncode == 0
