"""Other tools' figures: taken as they are, marked, comparable among themselves, and harmless whatever the file holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from rigbench.analysis.compare import compare
from rigbench.analysis.regress import history
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
        ("{", "no results in a form that is known, and is cut off or damaged: llama-bench"),
        ("[]", "holds no results"),
        ("[" * 100_000, "no results in a form"),
        ([1], r"\[0\] is of no tool that is known"),
        ([{"a": 1}], r"\[0\] is of no tool that is known"),
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
        importing.read(written(tmp_path, " " * (importing.MAX_BYTES + 1)))


def test_show_has_the_figures() -> None:

    prompt, decode = table(importing.read(REAL).documents[0])
    real = json.loads(REAL.read_text())
    assert prompt["prefill_tps"] == pytest.approx(real[0]["avg_ts"])  # of two numbers the median is the mean
    assert (prompt["user_tps"], prompt.repetitions) == (None, 2)
    assert decode["user_tps"] == pytest.approx(real[1]["avg_ts"])


BUILDS = ((7000, "aaaaaaa1"), (7001, "bbbbbbb2"), (7002, "ccccccc3"))


def sweep() -> list[dict[str, Any]]:
    """Three builds, three options with two values each, five nights a build; build 7002 generates at half the rate with -fa 1."""
    entry = json.loads(REAL.read_text())[1]
    entries = []
    for night in range(15):
        number, commit = BUILDS[night // 5]
        for layers, attention, batch in ((a, b, c) for a in (0, 99) for b in (0, 1) for c in (512, 1024)):
            rate = (8.0 if layers == 0 else 120.0) * (1 + 0.1 * attention) * (batch / 512) ** 0.1
            rate *= 0.5 if number == 7002 and attention else 1.0
            samples = [rate * (1 + 0.002 * ((night * 7 + step * 3) % 5 - 2)) for step in range(3)]
            settings = {"n_gpu_layers": layers, "flash_attn": attention, "n_batch": batch}
            build = {"build_number": number, "build_commit": commit, "test_time": f"2026-01-{night + 1:02d}T03:00:00Z"}
            entries.append(entry | settings | build | {"samples_ts": samples, "avg_ts": sum(samples) / 3})
    return entries


def test_a_sweep_of_three_options_and_three_builds(tmp_path: Path) -> None:
    """Every setting is its own case, every build and night its own document, and `regress` names the build."""
    documents = importing.read(written(tmp_path, sweep())).documents
    assert [len(document.cases) for document in documents] == [8] * 15
    assert [document.engines[0].version for document in documents[::5]] == [f"b{n} ({c})" for n, c in BUILDS]
    group = "llama_cpp/tiny-Q4_0+n_batch=512+n_gpu_layers=99+flash_attn=1/tg16/c1"
    figures = documents[0].annotations["imported"]["metrics"][group]["user_tps"]
    assert figures == pytest.approx([132.0] * 3, rel=0.005)
    histories = history([row for document in documents for row in table(document)], "engine")
    steps = {(one.group, step.metric, step.verdict, step.at) for one in histories for step in one.shifts}
    assert {(verdict, at) for _, _, verdict, at in steps} == {("slower", "b7002 (ccccccc3)")}
    assert {each for each, *_ in steps} == {one.group for one in histories if "flash_attn=1" in one.group}
    assert len({each for each, *_ in steps}) == 4


def form(entries: list[dict[str, Any]], kind: str) -> str:
    """As llama-bench writes them with -o KIND."""
    names = [name for name in entries[0] if not name.startswith("samples")]
    cells = [[str(int(v) if isinstance(v, bool) else v) for v in (one[n] for n in names)] for one in entries]
    if kind == "csv":
        quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in cells]
        return "\n".join([",".join(names), *quoted])
    if kind == "sql":
        values = ["('" + "', '".join(cell.replace("'", "''") for cell in row) + "')" for row in cells]
        return "\n".join(f"INSERT INTO llama_bench ({', '.join(names)}) VALUES {row};" for row in values)
    if kind == "banner":
        return "ggml_vulkan: Found 1 Vulkan devices:\nggml_vulkan: 0 = X {fp16}\n" + json.dumps(entries, indent=1)
    if kind == "jsonl":
        return "load: {noise}\n" + "\nlog line\n".join(map(json.dumps, entries))
    assert kind == "cut"
    return "[\n  " + ",\n  ".join(map(json.dumps, entries)) + ',\n  {"build_commit": "aaa", '


@pytest.mark.parametrize("kind", ["csv", "sql", "banner", "jsonl", "cut"])
def test_every_form_holds_the_same(tmp_path: Path, kind: str) -> None:
    real = json.loads(REAL.read_text())
    imported = importing.read(written(tmp_path, form(real, kind)))
    (document,) = imported.documents
    assert [line for line in imported.left_out if "cut off" not in line] == []
    assert bool(imported.left_out) == (kind == "cut")
    (whole,) = importing.read(REAL).documents
    assert [one.case for one in document.cases] == [one.case for one in whole.cases]
    assert document.engines == whole.engines
    for row, entry in zip(table(document), real, strict=True):
        rates = next(iter(row.samples.values()))
        assert rates == ((entry["avg_ts"],) if kind in ("csv", "sql") else tuple(entry["samples_ts"]))


def test_markdown(tmp_path: Path) -> None:
    """Two builds one below the other, and a depth."""
    head = "| model | size | params | backend | ngl | fa | test | t/s |\n| --- | ---: | ---: | --- | --: | -: | ---: | ---: |\n"
    row = "| llama 7B Q4_K - Medium | 3.80 GiB | 6.74 B | CUDA | 99 | {} | {} | {} ± 7.07 |\n"
    first = head + row.format(0, "pp512", "5005.00") + row.format(1, "pp512", "6005.00") + "\nbuild: aaaaaaa1 (7000)\n"
    second = head + "log\n" + row.format(0, "tg128 @ d4096", "99.50") + "\nbuild: bbbbbbb2 (7001)\n"
    one, two = importing.read(written(tmp_path, first + second), "box").documents
    model = "llama_cpp/llama 7B Q4_K - Medium+flash_attn"
    assert one.annotations["imported"]["metrics"] == {
        f"{model}=0/pp512/c1": {"prefill_tps": [5005.0]},
        f"{model}=1/pp512/c1": {"prefill_tps": [6005.0]},
    }
    assert table(two)[0]["user_tps"] == 99.5
    assert (two.engines[0].version, two.engines[0].device) == ("b7001 (bbbbbbb2)", "cuda")
    assert two.cases[0].case.workload.prompt_tokens == 4096


def test_llama_batched_bench(tmp_path: Path) -> None:
    """128 tokens of each of 4 users in 2 s: 64 t/s for one, 256 for all."""
    line = {"n_kv_max": 8192, "n_batch": 2048, "n_ubatch": 512, "flash_attn": 1, "is_pp_shared": 0, "n_gpu_layers": 99}
    line |= {"n_threads": 8, "n_threads_batch": 8, "pp": 512, "tg": 128, "pl": 4, "n_kv": 2560}
    line |= {"t_pp": 1.0, "speed_pp": 2048.0, "t_tg": 2.0, "speed_tg": 256.0, "t": 3.0, "speed": 853.3}
    alone = line | {"pl": 1, "t_pp": 0.25, "t_tg": 1.0, "speed_tg": 128.0, "t": 1.25}
    (document,) = importing.read(written(tmp_path, f"main: x\n{json.dumps(line)}\n\n{json.dumps(alone)}\n")).documents
    many, one = table(document)
    assert (many.concurrency, many["user_tps"], many["output_tps"], many["prefill_tps"]) == (4, 64.0, 256.0, None)
    assert (one.concurrency, one["user_tps"], one["prefill_tps"]) == (1, 128.0, 2048.0)


def test_servers_of_several_versions_and_settings(tmp_path: Path) -> None:
    """`--append-result` over two versions is two documents; another length of the tail or `--metadata` is another case."""
    real = json.loads(VLLM.read_text())
    lines = [
        real | {"version": "0.11.0", "tp": "1"},
        real | {"version": "0.11.0", "tp": "2"},
        real | {"version": "0.12.0"},
    ]
    old, new = importing.read(written(tmp_path, "\n".join(map(json.dumps, lines)))).documents
    assert [one.case.group for one in old.cases] == [f'vllm/tiny-BF16+tp="{n}"/serve-16-24/c2' for n in (1, 2)]
    assert new.engines[0].version == "0.12.0"
    sglang = {key: value for key, value in real.items() if key not in ("model_id", "tokenizer_id", "date")}
    sglang |= {"dataset_name": "random", "random_input_len": 16, "request_rate": float("inf")}
    (document,) = importing.read(written(tmp_path, sglang)).documents
    assert document.annotations["imported"]["from"] == "sglang bench_serving"
    assert table(document)[0].model == "unknown"


@pytest.mark.parametrize(
    "content",
    [
        {"avg_latency": 2.31, "latencies": [2.3, 2.32], "percentiles": {"50": 2.31}},
        {"elapsed_time": 30.0, "num_requests": 100, "total_num_tokens": 51200, "tokens_per_second": 1706.7},
    ],
)
def test_what_tells_too_little_is_named(tmp_path: Path, content: Any) -> None:
    imported = importing.read(written(tmp_path, content))
    assert imported.documents == ()
    assert "of vllm bench" in imported.left_out[0]


def test_of_2023_and_of_windows(tmp_path: Path) -> None:
    entry = json.loads(REAL.read_text())[1]
    entry |= {"backends": None, "cuda": True, "metal": False}
    entry["model_filename"] = "C:\\Users\\me\\big-Q4_K_M-00001-of-00003.gguf"
    (document,) = importing.read(written(tmp_path, [entry])).documents
    assert (document.engines[0].device, document.cases[0].case.model) == ("cuda", "big-Q4_K_M")
