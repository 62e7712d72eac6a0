"""Fine-tuning for real, with PyTorch on the CPU: where this interpreter, or the one that RIGBENCH_PEFT_PYTHON names, has peft."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from command_line import rigbench
from rigbench.analysis.table import table
from rigbench.documents import store
from rigbench.records import RunDocument

PYTHON = os.environ.get("RIGBENCH_PEFT_PYTHON", sys.executable)
SUITE = """
name = "train"
version = "1"
[load]
concurrency = [1]
repetitions = 2
requests_per_user = 1
[warmup]
max_rounds = 2
output_tokens = 2
"""
CASE = '[[workload]]\nname = "{}"\nkind = "train"\nsequence_tokens = 32\nbatch = 2\nsteps = 8\nmethod = "{}"\n'
CASES = {"adapters": "lora", "whole": "full", "after": "lora"}
MATRICES = 4 * (256 * 256 + 256 * 128 + 256 * 128 + 256 * 256 + 3 * 256 * 512) + 512 * 256
"""Weights of tiny's matrices: query, key, value, output and the three of the feed-forward part in each layer; the head."""
ADAPTERS = 4 * 8 * ((256 + 256) + (256 + 128))
"""Rank 8 beside query and value of each layer."""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> RunDocument:
    if subprocess.run([PYTHON, "-c", "import torch, peft, transformers"], capture_output=True, check=False).returncode:
        pytest.skip(f"no torch, peft and transformers in {PYTHON}")
    folder = tmp_path_factory.mktemp("peft")
    (folder / "train.toml").write_text(SUITE + "".join(CASE.format(*case) for case in CASES.items()))
    words = ["run", "./train.toml", "-b", "peft", "-m", "synthetic:tiny:BF16", "--python", PYTHON, "-O", "threads=1"]
    done = rigbench(*words, "-o", folder / "results", cwd=folder)
    assert "trained t/s" in done.stdout
    path = next(folder.glob("results/*/*.json"))
    rigbench("validate", path, cwd=folder)
    return store.read(path)


def test_each_case_trains_what_it_says(document: RunDocument) -> None:
    for result in document.cases:
        assert result.error is None and result.step_work is not None
        full = result.case.workload.name == "whole"
        assert result.step_work.trained_parameters == (2_623_744 if full else ADAPTERS)
        assert result.step_work.flops == (6 if full else 4) * MATRICES * 2 * 32
        for record in result.requests:
            assert record.loss is not None and len(record.loss) == len(record.unit_us) == 8
            assert record.loss[-1] < record.loss[0]


def test_a_case_leaves_nothing_to_the_next(document: RunDocument) -> None:
    """The same seed gives the same batch: after a training of all weights the first loss is what it was before."""
    first = {
        result.case.workload.name: result.requests[0].loss for result in document.cases if result.case.repetition == 0
    }
    assert first["after"] is not None and first["adapters"] is not None and first["whole"] is not None
    assert abs(first["after"][0] - first["adapters"][0]) < 0.3
    assert first["whole"][-1] < first["adapters"][-1] - 0.5  # all weights learn faster than adapters


def test_its_rows_have_rates_and_a_ceiling(document: RunDocument) -> None:
    for row in table(document):
        rate = row["trained_tokens_per_s"]
        assert rate is not None and rate > 0 and row["samples_per_s"] == pytest.approx(rate / 32)
        assert row["ceiling_trained_tps"] is not None and row["mfu"] is not None and row["memory_peak_bytes"]
        assert row["user_tps"] is None and row["loss_first"] is not None
