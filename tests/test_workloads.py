"""Images and trainings: from a suite to a document that holds, with numbers worked out by hand, on the simulator."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rigbench.analysis.compare import compare
from rigbench.analysis.definitions import METRICS
from rigbench.analysis.table import table
from rigbench.cli.main import app
from rigbench.documents import store
from rigbench.documents.validate import validate_bytes
from rigbench.errors import InputError
from rigbench.models.footprint import decode_flops
from rigbench.records import RunDocument
from rigbench.suites.custom import changed, flags_of, shortened
from rigbench.suites.suite import load_suite, parse_suite
from rigbench.worker import drive
from rigbench.workloads import Generation, Image, Training, workload

SUITE = """
name = "works"
version = "1"
[load]
concurrency = [1]
repetitions = 2
requests_per_user = 2
[warmup]
output_tokens = 2
[[workload]]
name = "picture"
kind = "image"
width = 512
height = 256
steps = 5
batch = 2
guidance = 5.0
[[workload]]
name = "adapters"
kind = "train"
sequence_tokens = 32
batch = 4
steps = 6
[[workload]]
name = "whole"
kind = "train"
sequence_tokens = 32
batch = 4
steps = 6
method = "full"
[[workload]]
name = "chat"
kind = "tokens"
prompt_tokens = 16
output_tokens = 24
"""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> RunDocument:
    folder = tmp_path_factory.mktemp("works")
    (folder / "works.toml").write_text(SUITE)
    words = ["run", str(folder / "works.toml"), "-b", "sim", "-m", "synthetic:tiny:F16", "-O", "tflops=0.001"]
    done = CliRunner().invoke(app, [*words, "--trust-suite", "--no-telemetry", "--out", str(folder / "results")])
    assert done.exit_code == 0, done.output
    assert "steps/s" not in done.output and "it/s" in done.output
    return store.read(next(folder.glob("results/*/*.json")))


def faults_of(document: RunDocument, change: Any) -> list[str]:
    """What is found in a document with changed cases, whose id, predictions and summary are as they follow from them."""
    content = store.to_content(replace(document, cases=change(document.cases)))
    content["id"] = store.content_id(content)
    return [str(fault) for fault in validate_bytes(json.dumps(content).encode(), "x").faults]


def test_a_workload_knows_its_units_and_what_it_sends() -> None:
    image, training = Image("i", "image", 1024, 512, 30, batch=4, guidance=5.0), Training("t", "train", 512, 4, 10)
    assert (image.units, image.step_units, image.prompt_length, image.context_tokens) == (30, 1, 0, 0)
    assert image.words == "4 images of 1024x512 in 30 steps, guidance 5"
    assert (training.units, training.step_units, training.prompt_length) == (10 * 4 * 512, 4 * 512, 4 * 513)
    assert training.words == "10 steps of 4 x 512 tokens, lora of rank 8"
    assert training.shortened(1, 3) == replace(training, steps=3) and image.shortened(1, 50) == image
    text = Generation("g", "text", 100, 50)
    assert text.shortened(64, 8) == replace(text, prompt_tokens=64, output_tokens=8)
    for each in (image, training, text):
        assert workload(asdict(each)) == each


def test_the_rows_have_their_own_numbers_and_no_others(document: RunDocument) -> None:
    rows = {row.workload: row for row in table(document)}
    [facts] = document.models
    weights_flops = decode_flops(facts)
    assert rows["adapters"]["ceiling_trained_tps"] == pytest.approx(1e9 / (2 * weights_flops), rel=1e-6)
    assert rows["whole"]["ceiling_trained_tps"] == pytest.approx(1e9 / (3 * weights_flops), rel=1e-6)
    # Pixels: 512 x 256 / 16 / 16 tokens of each of two images, twice through the model for guidance.
    assert rows["picture"]["ceiling_it_per_s"] == pytest.approx(1e9 / (weights_flops * 512 * 2 * 2), rel=1e-6)
    for name, rate in (
        ("picture", "it_per_s"),
        ("adapters", "trained_tokens_per_s"),
        ("whole", "trained_tokens_per_s"),
    ):
        row = rows[name]
        assert row["mfu"] == pytest.approx(1, rel=1e-4)
        assert (
            row[rate] == pytest.approx(row[rate.replace("it_per_s", "ceiling_it_per_s")] or 0, rel=1) and not row.flags
        )
        strange = {each.name for each in METRICS if not each.of(row.workload_kind)}
        assert {"user_tps", "ttft_s"} <= strange
        assert not strange & row.samples.keys() and not strange & row.reasons.keys()
        assert all(row[each] is None for each in strange)
    picture = rows["picture"]
    step_s = 1 / picture["it_per_s"]
    # A text encoder and a decoder of a step's time each around five steps, for two images.
    assert picture["seconds_per_image"] == pytest.approx(7 * step_s / 2, rel=1e-3)
    assert picture["images_per_s"] == pytest.approx(2 / (7 * step_s), rel=1e-3)
    assert picture["encode_s"] == pytest.approx(step_s, rel=1e-3) and picture["decode_s"] == picture["encode_s"]
    assert rows["adapters"]["samples_per_s"] == pytest.approx(rows["adapters"]["trained_tokens_per_s"] / 32)
    assert (rows["adapters"]["loss_first"], rows["adapters"]["loss_last"]) == (5.0, 5.0 / 6)
    assert rows["chat"]["user_tps"] and rows["chat"]["it_per_s"] is None


def test_the_document_holds_and_a_changed_one_does_not(document: RunDocument) -> None:
    assert faults_of(document, lambda cases: cases) == []

    def first(kind: str, **changes: Any) -> Any:
        def change(cases: Any) -> Any:
            place = next(at for at, result in enumerate(cases) if result.case.workload.kind == kind)
            request, *others = cases[place].requests
            changed = replace(cases[place], requests=(replace(request, **changes), *others))
            return (*cases[:place], changed, *cases[place + 1 :])

        return change

    assert any("loss stayed 5 for 6 steps" in fault for fault in faults_of(document, first("train", loss=(5.0,) * 6)))
    assert any("one loss for each step" in fault for fault in faults_of(document, first("train", loss=(5.0, 4.0))))
    assert any("has 128 tokens" in fault for fault in faults_of(document, first("train", chunk_units=(129,) * 6)))
    late = document.cases[0].requests[0].marks
    assert any(".marks" in fault for fault in faults_of(document, first("image", marks=(late[1], late[0]))))


def test_a_workload_of_no_kind_is_named(document: RunDocument) -> None:
    content = store.to_content(document)
    content["cases"][0]["case"]["workload"]["kind"] = "video"
    named = [str(fault) for fault in validate_bytes(json.dumps(content).encode(), "x").faults]
    assert named == ["$.cases[0].case.workload.kind: is 'video'; one of text, tokens, image, train belongs here"]
    content["cases"][0]["case"]["workload"] = {"kind": "train", "name": "x"}
    named = [str(fault) for fault in validate_bytes(json.dumps(content).encode(), "x").faults]
    assert "$.cases[0].case.workload.steps: is missing" in named


def test_the_same_document_twice_is_compared_without_text_metrics(document: RunDocument) -> None:
    cells = [cell for cell in compare(table(document), table(document)).cells if "/adapters/" in cell.group]
    assert [cell.metric for cell in cells] == ["trained_tokens_per_s", "memory_peak_bytes"]


def test_a_training_that_trains_nothing_fails_its_case(tmp_path: Path) -> None:
    (tmp_path / "works.toml").write_text(SUITE)
    words = ["run", str(tmp_path / "works.toml"), "-b", "sim", "-m", "synthetic:tiny:F16", "-O", "fault=loss"]
    done = CliRunner().invoke(app, [*words, "--trust-suite", "--no-telemetry", "--out", str(tmp_path / "results")])
    failed = store.read(next(tmp_path.glob("results/*/*.json")))
    errors = {result.case.workload.name: result.error for result in failed.cases if result.case.repetition == 0}
    assert done.exit_code == 0 and errors["picture"] is None and errors["chat"] is None
    assert "stayed 5" in str(errors["adapters"]) and str(errors["adapters"]).startswith("decode:")


@pytest.mark.parametrize(
    ("loss", "fault"),
    [
        (None, None),
        ((5.0, 4.9), None),
        ((5.0,), None),
        ((5.0, float("nan")), "loss of step 2 is nan"),
        ((float("inf"), 5.0), "loss of step 1 is inf"),
        ((5.0, 5.0, 5.0), "loss stayed 5 for 3 steps"),
    ],
)
def test_a_loss_that_is_none(loss: tuple[float, ...] | None, fault: str | None) -> None:
    assert (drive.loss_fault(loss) or "") == "" if fault is None else fault in str(drive.loss_fault(loss))


def test_what_a_backend_cannot_run_is_skipped_with_the_reason(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    (tmp_path / "works.toml").write_text(SUITE)
    words = ["plan", str(tmp_path / "works.toml"), "-b", "llama_cpp", "-m", "synthetic:tiny:F16", "--trust-suite"]
    done = CliRunner().invoke(app, words)
    assert "llama_cpp runs workloads of kind text and tokens, not image" in done.output


def test_a_suite_of_other_kinds_is_told_by_its_users_and_refuses_lengths(tmp_path: Path) -> None:
    (tmp_path / "works.toml").write_text(SUITE)
    suite = load_suite(str(tmp_path / "works.toml"))
    assert parse_suite(suite.model_dump(mode="json"), "here") == suite
    assert flags_of(suite) == "-p 16 -n 24 -u 1 -r 2"
    with pytest.raises(InputError, match="-p and -n are of text"):
        changed(suite, prompts=[128])
    small = shortened(suite, 1, lambda one: 100.0 * one.load.repetitions * one.load.requests_per_user).suite
    assert (small.load.repetitions, small.load.requests_per_user, len(small.workload)) == (1, 1, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("width = 512", "width = 500"), "workload[0].width: input should be a multiple of 8"),
        (("width = 512", "wide = 512"), "workload[0].wide: unknown key; did you mean `width`?"),
        (("steps = 5", ""), "workload[0].steps: is missing"),
        (('kind = "image"', ""), "workload[0].kind: is missing"),
        (('method = "full"', 'method = "dora"'), "workload[2].method: input should be 'lora', 'qlora' or 'full'"),
        (('method = "full"', "rank = 0"), "workload[2].rank: input should be greater than or equal to 1"),
    ],
)
def test_a_mistake_is_named(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SUITE.replace(*change, 1))
    with pytest.raises(InputError) as error:
        load_suite(str(tmp_path / "s.toml"))
    assert message in str(error.value)
