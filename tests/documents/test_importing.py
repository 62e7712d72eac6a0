"""Other tools' figures: taken as they are, marked, comparable among themselves, and harmless whatever the file holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from rigbench.analysis.compare import compare
from rigbench.analysis.table import table
from rigbench.documents import store
from rigbench.documents.exchange import export, importing
from rigbench.documents.validate import validate_bytes
from rigbench.errors import InputError

HERE = Path(__file__).parent
REAL = HERE / "llama_bench.json"
VLLM = HERE / "vllm_bench_serve.json"


def written(folder: Path, content: Any) -> Path:
    path = folder / "runs.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_llama_bench_as_it_writes_it() -> None:
    documents = importing.read(REAL)
    (document,) = documents.documents
    assert documents.left_out == ()
    prompt, decode = table(document)
    real = json.loads(REAL.read_text())
    assert (prompt.group, prompt.imported) == ("llama_cpp/tiny-Q4_0/pp64/c1", "llama-bench")
    assert prompt.samples == {"prefill_tps": tuple(real[0]["samples_ts"])}
    assert decode.samples == {"user_tps": tuple(real[1]["samples_ts"]), "output_tps": tuple(real[1]["samples_ts"])}
    assert (decode.repetitions, decode.device, document.machine.cpu) == (2, "cpu", "AMD EPYC")
    assert json.loads(decode.options)["n_threads"] == 2
    assert document.engines[0].weights_bytes == real[0]["model_size"]
    assert "someone" not in store.dumps(store.to_content(document))  # the path of the model is nobody's business


def test_an_imported_document_is_valid_and_says_so(tmp_path: Path) -> None:
    for path in (REAL, VLLM):
        (document,) = importing.read(path).documents
        report = validate_bytes(store.write(document, tmp_path).read_bytes(), "a.json")
        assert report.faults == ()
        assert report.level == "unchecked"
        assert all(not result.requests for result in document.cases)


def test_the_same_file_gives_the_same_document() -> None:
    assert importing.read(REAL).documents[0].id == importing.read(REAL).documents[0].id


def test_there_and_back() -> None:
    """What llama-bench wrote, taken and written again, has its settings and its rates."""
    entries, left = export.llama_bench(importing.read(REAL).documents)
    assert left == []
    for ours, real in zip(entries, json.loads(REAL.read_text()), strict=True):
        same = {
            name for name in real if not name.startswith(("avg", "stddev", "samples", "model_filename", "test_time"))
        }
        assert {name: ours[name] for name in same} == {name: real[name] for name in same}
        assert ours["samples_ts"] == real["samples_ts"]
        assert ours["avg_ts"] == pytest.approx(real["avg_ts"], rel=1e-5)
        assert ours["stddev_ts"] == pytest.approx(real["stddev_ts"], rel=1e-4)


def test_two_imports_are_compared(tmp_path: Path) -> None:
    entries = json.loads(REAL.read_text())[1:]
    entries[0]["samples_ts"] = [100.0, 101.0, 99.0]
    before = importing.read(written(tmp_path, entries)).documents
    entries[0]["samples_ts"] = [80.0, 81.0, 79.0]
    after = importing.read(written(tmp_path, entries)).documents
    documents = compare(table(before[0]), table(after[0]))
    assert {cell.metric: cell.verdict for cell in documents.cells} == {"user_tps": "slower", "output_tps": "slower"}


def test_lines_and_repeated_tests_and_machines(tmp_path: Path) -> None:
    """`-o jsonl` appended to over days: the same test again is another repetition, another GPU another document."""
    entry = json.loads(REAL.read_text())[1]
    other = {**entry, "gpu_info": "NVIDIA GeForce RTX 4090", "backends": "CUDA", "samples_ts": [5.0]}
    documents = importing.read(written(tmp_path, "\n".join(map(json.dumps, [entry, entry, other]))))
    cpu, gpu = documents.documents
    assert len(table(cpu)[0].samples["user_tps"]) == 4
    assert (gpu.machine.id, table(gpu)[0].device) == ("nvidia-geforce-rtx-4090", "cuda")


def test_what_tells_no_rate_is_left_out(tmp_path: Path) -> None:
    prompt, decode = json.loads(REAL.read_text())
    both = {**prompt, "n_gen": 16}
    documents = importing.read(written(tmp_path, [both, {**decode, "samples_ts": [], "avg_ts": 0}, decode]))
    assert [line.split(": ")[0] for line in documents.left_out] == ["[0]", "[1]"]
    assert len(documents.documents[0].cases) == 1


def test_vllm_bench_serve_as_it_writes_it() -> None:
    real = json.loads(VLLM.read_text())
    (document,) = importing.read(VLLM, "my box").documents
    (row,) = table(document)
    assert (row.backend, row.model, row.concurrency) == ("vllm", "tiny-BF16", 2)
    assert (row.prompt_tokens, row.output_tokens) == (16, 24)
    assert row.samples["ttft_s"] == (real["median_ttft_ms"] / 1e3,)
    assert row.samples["user_tps"] == (pytest.approx(1e3 / real["median_tpot_ms"]),)
    assert row.samples["output_tps"] == (real["output_throughput"],)
    assert "whole duration" in document.annotations["imported"]["definitions"]["output_tps"]
    assert "local time" in document.annotations["imported"]["note"]
    assert document.machine.id == "my-box"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "holds no results"),
        ("[" * 100_000, "not JSON"),
        ([1], r"\[0\] is neither"),
        ([{"a": 1}], r"\[0\] is neither"),
        ({"n_prompt": True}, r"\[0\].n_prompt: not a finite number"),
        ({"n_prompt": "64"}, r"\[0\].n_prompt: not a finite number"),
        ({"n_prompt": -1}, r"\[0\].n_prompt: not a count"),
        ({"n_prompt": 0.5}, r"\[0\].n_prompt: not a count"),
        ({"n_prompt": 10**400}, r"\[0\].n_prompt: not a finite number"),
        ({"samples_ts": "x"}, r"\[0\].samples_ts: not a list"),
        ({"samples_ts": [float("nan")]}, r"\[0\].samples_ts: not a finite number"),
        ({"cpu_info": ["x"]}, r"\[0\].cpu_info: not a text"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, content: Any, message: str) -> None:
    if isinstance(content, dict):
        content = [json.loads(REAL.read_text())[0] | content]
    with pytest.raises(InputError, match=message):
        importing.read(written(tmp_path, content))


def test_numbers_that_no_json_should_have(tmp_path: Path) -> None:
    llama = json.loads(REAL.read_text())[1] | {"n_batch": 10**400, "poll": float("nan")}
    (document,) = importing.read(written(tmp_path, [llama])).documents
    assert {"n_batch", "poll"}.isdisjoint(document.cases[0].case.options)
    vllm = json.loads(VLLM.read_text()) | {"request_rate": 10**400}
    with pytest.raises(InputError, match="request_rate: not a finite number"):
        importing.read(written(tmp_path, vllm))
    vllm |= {"request_rate": 2.5, "max_concurrency": None}
    (document,) = importing.read(written(tmp_path, vllm)).documents
    assert document.cases[0].case.workload.name == "serve-16-24-2.5-per-s"


def test_names_are_harmless(tmp_path: Path) -> None:
    entry = json.loads(REAL.read_text())[1]
    entry |= {
        "cpu_info": "../../etc/x\x1b[31m",
        "model_filename": "C:\\Users\\me\\..\\a\nb.gguf",
        "build_commit": "x" * 10_000,
    }
    (document,) = importing.read(written(tmp_path, [entry])).documents
    path = store.write(document, tmp_path / "out")
    assert path.parent == tmp_path / "out" / "etc-x-31m"
    assert document.cases[0].case.model == "a b"
    assert len(document.engines[0].version) <= 200
    text = path.read_text()
    assert "\\u001b" not in text
    assert "Users" not in text


def test_no_file_and_too_large_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file to import"):
        importing.read(tmp_path / "none.json")
    with pytest.raises(InputError, match="at most"):
        importing.read(written(tmp_path, " " * (16 * 2**20 + 1)))


def test_show_has_the_figures() -> None:

    prompt, decode = table(importing.read(REAL).documents[0])
    real = json.loads(REAL.read_text())
    assert prompt["prefill_tps"] == pytest.approx(real[0]["avg_ts"])  # of two numbers the median is the mean
    assert (prompt["user_tps"], prompt.repetitions) == (None, 2)
    assert decode["user_tps"] == pytest.approx(real[1]["avg_ts"])
