"""Fine-tuning for real on the CPU, as a whole run, with peft and with mlx-lm's tuner, in interpreters that have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from command_line import rigbench
from environments import engine_python
from rigbench.analysis.table import table
from rigbench.documents import store
from rigbench.records import RunDocument

OPTIONS = {"peft": ("threads=1",), "mlx": ("device=cpu",)}
"""By the engine's environment; its backend is called after it."""
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
MATRICES = 4 * (256 * 256 + 256 * 128 + 256 * 128 + 256 * 256 + 3 * 256 * 512) + 512 * 256
"""Weights of tiny's matrices: query, key, value, output and the three of the feed-forward part in each layer; the head."""
ADAPTERS = 4 * 8 * ((256 + 256) + (256 + 128))
"""Rank 8 beside query and value of each layer."""
pytestmark = pytest.mark.slow


def train(folder: Path, engine: str, model: str, methods: Sequence[str], *options: str) -> RunDocument:
    """The document of a run with one case for each method, called after it; it is valid."""
    python = engine_python(engine)
    (folder / "train.toml").write_text(SUITE + "".join(CASE.format(method, method) for method in methods))
    set_options = [word for each in (*OPTIONS[engine], *options) for word in ("-O", each)]
    words = ["run", "./train.toml", "-b", f"{engine}_lora", "-m", f"synthetic:{model}", "--python", python]
    done = rigbench(*words, *set_options, "-o", folder / "results", cwd=folder)
    assert "trained t/s" in done.stdout
    rigbench("validate", done.result, cwd=folder)
    return store.read(folder / done.result)


@pytest.fixture(scope="module", params=OPTIONS)
def document(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunDocument:
    return train(tmp_path_factory.mktemp("train"), str(request.param), "tiny:BF16", ("lora", "full"))


def test_each_case_trains_what_it_says(document: RunDocument) -> None:
    for result in document.cases:
        assert result.error is None and result.step_work is not None
        full = result.case.workload.name == "full"
        assert result.step_work.trained_parameters == (2_623_744 if full else ADAPTERS)
        assert result.step_work.flops == (6 if full else 4) * MATRICES * 2 * 32
        for record in result.requests:
            assert record.loss is not None and len(record.loss) == len(record.unit_us) == 8
            assert record.loss[-1] < record.loss[0]


def test_all_weights_learn_faster_than_adapters(document: RunDocument) -> None:
    lora, full = (result.requests[0].loss for result in document.cases if result.case.repetition == 0)
    assert lora is not None and full is not None and full[-1] < lora[-1] - 0.5


def test_its_rows_have_rates_and_a_ceiling(document: RunDocument) -> None:
    for row in table(document):
        rate = row["trained_tokens_per_s"]
        assert rate is not None and rate > 0 and row["samples_per_s"] == pytest.approx(rate / 32)
        assert row["ceiling_trained_tps"] is not None and row["mfu"] is not None and row["memory_peak_bytes"]
        assert row["user_tps"] is None and row["loss_first"] is not None


def test_mlx_trains_beside_a_models_own_few_bits_and_nothing_else_of_it(tmp_path: Path) -> None:
    results = train(tmp_path, "mlx", "tiny:4bit", ("lora", "qlora", "full")).cases[:3]
    lora, qlora, full = results
    for refused in (lora, full):
        assert refused.error is not None and refused.error.kind == "options"
        assert "these have 4: use qlora" in refused.error.message
    assert qlora.error is None and qlora.step_work is not None
    assert (qlora.step_work.trained_parameters, qlora.step_work.flops) == (ADAPTERS, 4 * MATRICES * 2 * 32)


def test_mlx_makes_four_bits_of_whole_weights_and_can_put_adapters_on_every_matrix(tmp_path: Path) -> None:
    cases = train(tmp_path, "mlx", "tiny:BF16", ("qlora", "lora"), "modules=all", "grad_checkpoint=true").cases
    every_matrix = 4 * 8 * (2 * (256 + 256) + 2 * (256 + 128) + 3 * (256 + 512))
    first = []
    for result in cases:
        assert result.error is None and result.step_work is not None
        assert result.step_work.trained_parameters == every_matrix
        loss = result.requests[0].loss
        assert loss is not None and loss[-1] < loss[0]
        first.append(loss[0])
    assert len(set(first)) == len(first)  # in each repetition other tokens, and other weights in 4 bits
