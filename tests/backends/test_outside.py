"""A third party's backend is one file and an entry point: a run, `doctor`, `show`, JSON and CSV know it without another word."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ABACUS = '''
"""An engine that counts: the next token is the number of tokens so far."""
import time
from dataclasses import dataclass
from rigbench_backends.base import IDLE, Backend, EngineInfo, Event, Probe, Session, Step

@dataclass(frozen=True, slots=True)
class Options:
    beads: int = 100

class Abacus(Session):
    clock = staticmethod(time.perf_counter_ns)

    def __init__(self, model, options):
        self.info = EngineInfo("abacus", "3.1", "cpu", vocab_size=options.beads, resolved={"beads": options.beads})
        self.running = {}

    def encode(self, text):
        return [ord(letter) % self.info.vocab_size for letter in text]

    def prepare(self, users, context_tokens):
        self.running = {}

    def submit(self, request):
        self.running[request.id] = request.output_tokens

    def step(self):
        if not self.running:
            return IDLE
        left = {key: count - 1 for key, count in self.running.items()}
        events = [Event(key, 1, count == 0) for key, count in left.items()]
        self.running = {key: count for key, count in left.items() if count}
        return Step(self.clock(), events, len(self.running) < len(left))

    def close(self):
        self.running = {}

class AbacusBackend(Backend):
    name = "abacus"
    Options = Options
    model_formats = ("shape",)
    default_model = "synthetic:tiny:F16"
    device_kinds = ("cpu",)

    def open(self, model, options):
        return Abacus(model, options)

    def probe(self, options=None):
        return Probe(True, "3.1", "cpu", ("cpu: ten fingers",))

BACKEND = AbacusBackend()
'''
SUITE = """
name = "count"
version = "1"
[load]
concurrency = [1, 3]
repetitions = 1
requests_per_user = 2
[warmup]
max_rounds = 1
[[workload]]
name = "numbers"
kind = "tokens"
prompt_tokens = 8
output_tokens = 16
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the project with the backend, a suite, and the result of a run of it."""
    folder = tmp_path_factory.mktemp("outside")
    metadata = folder / "abacus-3.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus\nVersion: 3.1\n")
    (metadata / "entry_points.txt").write_text("[rigbench.backends]\nabacus = abacus:BACKEND\n")
    (folder / "abacus.py").write_text(ABACUS)
    (folder / "count.toml").write_text(SUITE)
    output = rigbench(folder, "run", "count.toml", "--backend", "abacus", "--no-telemetry", "-O", "beads=7")
    (folder / output.rstrip().splitlines()[-1].removeprefix("result: ")).rename(folder / "result.json")
    return folder


def rigbench(folder: Path, *words: str) -> str:
    """What the command prints, where the folder is on Python's path."""
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "rigbench.cli.main", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_ran_its_default_model_with_its_own_option(folder: Path) -> None:
    document = json.loads((folder / "result.json").read_text())
    assert [model["name"] for model in document["models"]] == ["tiny-F16"]
    assert document["engines"][0]["resolved"] == {"beads": 7}
    lengths = [len(request["unit_us"]) for case in document["cases"] for request in case["requests"]]
    assert lengths == [16] * 8  # two requests each of one user and of three


def test_doctor_names_it(folder: Path) -> None:
    assert "abacus: ready, 3.1 (cpu: ten fingers)" in rigbench(folder, "doctor")


def test_an_option_that_it_does_not_have_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(AssertionError, match=r"unknown option bead of abacus; did you mean `beads`\?"):
        rigbench(folder, "run", "count.toml", "--backend", "abacus", "-O", "bead=7")


def test_show_and_json_and_csv_have_its_rows(folder: Path) -> None:
    assert "abacus" in rigbench(folder, "show", "result.json")
    rows = json.loads(rigbench(folder, "show", "result.json", "--json"))
    assert [(row["backend"], row["concurrency"]) for row in rows] == [("abacus", 1), ("abacus", 3)]
    lines = list(csv.DictReader(io.StringIO(rigbench(folder, "export", "result.json", "--format", "csv"))))
    assert len(lines) == 2 and all("abacus" in line.values() for line in lines)


def test_a_person_without_it_can_still_read_the_result(folder: Path) -> None:
    command = [sys.executable, "-m", "rigbench.cli.main", "show", str(folder / "result.json"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {row["backend"] for row in json.loads(done.stdout)} == {"abacus"}
