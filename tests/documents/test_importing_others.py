"""Figures of mlx_lm.benchmark, guidellm, aiperf and llama-benchy: files that these tools wrote, and what is wrong with such files.

guidellm's and aiperf's are of a server that sends 50 tokens a second to each of its users and takes 1 ms for each token of a
prompt, so what they must say is known. llama-benchy's and MLX's are of a tiny model.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import yaml

from rigbench.analysis.compare import compare
from rigbench.analysis.regress import history
from rigbench.analysis.table import Row, table
from rigbench.documents import store
from rigbench.documents.exchange import importing
from rigbench.documents.validate import validate_bytes
from rigbench.errors import InputError

HERE = Path(__file__).parent / "foreign"
FILES = sorted(path.name for path in HERE.iterdir())
SECRETS = {
    "target": "http://10.1.2.3:8000",
    "api_key": "sk-secret",
    "headers": {"x": "sk-secret"},
    "urls": ["http://10.1.2.3"],
}


def content(name: str) -> Any:
    return json.loads((HERE / name).read_text())


def written(folder: Path, text: Any, name: str = "runs.json") -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def rows(path: Path) -> list[Row]:
    (document,) = importing.read(path).documents
    return table(document)


@pytest.mark.parametrize("name", FILES)
def test_what_the_tools_wrote_is_taken_whole_and_valid(tmp_path: Path, name: str) -> None:
    imported = importing.read(HERE / name)
    assert imported.left_out == ()
    (document,) = imported.documents
    report = validate_bytes(store.write(document, tmp_path).read_bytes(), name)
    assert (report.faults, report.level) == ((), "unchecked")


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(("guidellm", "aiperf"))])
def test_fifty_tokens_a_second_are_fifty(name: str) -> None:
    """The true rate of each user, and the first token after 64 ms of prefill and what the client takes."""
    for row in rows(HERE / name):
        assert row["user_tps"] == pytest.approx(50, rel=0.005)
        assert row["tpot_s"] == pytest.approx(0.02, rel=0.005)
        assert 0.064 < row["ttft_s"] < 0.08
        assert row["latency_s"] == pytest.approx(row["ttft_s"] + 15 * row["tpot_s"], rel=0.005)
        assert row["output_tps"] < 50 * row.concurrency
        assert (row.workload, row.prompt_tokens, row.output_tokens) == ("serve-64-16", 64, 16)


@pytest.mark.parametrize(
    ("name", "version", "day"),
    [
        ("guidellm_0.3.json", None, "2026-11-27"),
        ("guidellm_0.5.json", "0.5.4", "2026-11-27"),
        ("guidellm_0.8.json", "0.8.1", "2026-11-27"),
    ],
)
def test_guidellm_of_three_generations(name: str, version: str | None, day: str) -> None:
    (document,) = importing.read(HERE / name).documents
    one, two = table(document)
    assert (one.model, one.concurrency, two.concurrency, one.imported) == ("tiny", 1, 2, "guidellm")
    real = content(name)["benchmarks"][1]["metrics"]
    assert two.samples["ttft_s"] == (real["time_to_first_token_ms"]["successful"]["median"] / 1e3,)
    assert two.samples["output_tps"] == (real["output_tokens_per_second"]["successful"]["mean"],)
    assert document.annotations["imported"].get("version") == version
    assert document.created_utc[:10] == day
    options = json.loads(one.options)
    assert options["strategy"] == "concurrent"
    assert all(case.case.requests_per_user == 4 // case.case.concurrency for case in document.cases)


def test_guidellm_as_yaml(tmp_path: Path) -> None:
    report = content("guidellm_0.8.json")
    as_yaml = importing.read(written(tmp_path, yaml.dump(report))).documents[0]
    as_json = importing.read(HERE / "guidellm_0.8.json").documents[0]
    assert as_yaml.cases == as_json.cases
    assert as_yaml.annotations["imported"]["metrics"] == as_json.annotations["imported"]["metrics"]


def test_yaml_that_shares_its_parts_a_billion_times(tmp_path: Path) -> None:
    report = content("guidellm_0.8.json")
    laughs: dict[str, Any] = {}
    for _ in range(12):
        laughs = {str(key): laughs for key in range(9)}
    report["config"]["spec"]["data"].append(laughs)
    report["benchmarks"][0]["config"]["warmup"] = laughs
    text = yaml.dump(report)
    assert len(text) < 20_000
    (document,) = importing.read(written(tmp_path, text)).documents
    assert len(document.cases) == 2


def test_requests_at_a_rate_are_a_case_of_their_own(tmp_path: Path) -> None:
    """5 requests a second for 60 s are 300, however many of them happen to be under way at once."""
    report = content("guidellm_0.8.json")
    one, two = report["benchmarks"]
    for benchmark, under_way in ((one, 8.6), (two, 8.4)):
        config = benchmark["config"]
        config["strategy"] = {"type_": "constant", "rate": 5.0}
        config["constraints"] = {"max_duration": {"type_": "max_duration", "args": {"seconds": 60.0}}}
        benchmark["metrics"]["request_concurrency"]["successful"]["mean"] = under_way
    (row,) = rows(written(tmp_path, report))
    assert (row.workload, row.concurrency, row.repetitions) == ("serve-64-16-5-per-s", 300, 2)
    assert json.loads(row.options)["request_rate"] == 5.0


def test_a_setting_of_guidellm_is_a_case_and_a_version_a_document(tmp_path: Path) -> None:
    report = content("guidellm_0.8.json")
    report["benchmarks"][1]["config"]["strategy"]["streams"] = 1
    report["benchmarks"][1]["config"]["backend"]["extras"] = {"body": {"temperature": 0.5}}
    plain, warm = rows(written(tmp_path, report))
    assert plain.group == "openai_http/tiny/serve-64-16/c1"
    assert warm.group == "openai_http/tiny+backend.extras.body.temperature=0.5/serve-64-16/c1"
    later = content("guidellm_0.8.json")
    for benchmark in later["benchmarks"]:
        benchmark["start_time"] += 86_400
    assert len(importing.read(written(tmp_path, [content("guidellm_0.8.json"), later])).documents) == 2


def test_nothing_that_tells_whose_server_it_was(tmp_path: Path) -> None:
    report = content("guidellm_0.8.json")
    for benchmark in report["benchmarks"]:
        benchmark["config"]["backend"] |= SECRETS | {"extras": {"headers": {"Authorization": "sk-secret"}}}
    report["config"]["spec"]["data"] = [{"kind": "huggingface", "source": "/home/someone/prompts.jsonl"}]
    summary = content("aiperf_0.13.json")
    summary["input_config"]["endpoint"] |= SECRETS
    summary["input_config"]["datasets"][0]["path"] = "/home/someone/prompts.jsonl"
    for each in (report, summary):
        (document,) = importing.read(written(tmp_path, each)).documents
        text = store.dumps(store.to_content(document))
        assert "prompts.jsonl" in text
        assert not any(secret in text for secret in ("10.1.2.3", "sk-secret", "someone"))


def test_aiperf_in_its_three_forms() -> None:
    """The same run: the records are all its requests, the CSV has two digits and neither model nor users nor date."""
    (of_json,), (of_csv,), (of_records,) = (rows(HERE / f"aiperf_0.13.{form}") for form in ("json", "csv", "jsonl"))
    real = content("aiperf_0.13.json")
    assert of_json.samples["ttft_s"] == (real["time_to_first_token"]["p50"] / 1e3,)
    assert of_json.samples["output_tps"] == (real["output_token_throughput"]["avg"],)
    assert (of_json.model, of_csv.model, of_records.model) == ("tiny", "unknown", "unknown")
    assert of_json.concurrency == of_csv.concurrency == of_records.concurrency == 2
    for metric in ("ttft_s", "tpot_s", "latency_s", "output_tps", "user_tps"):
        # its rate of all tokens is over a time of its own, 7 ms longer here
        assert of_records[metric] == pytest.approx(of_json[metric], rel=0.01 if metric == "output_tps" else 1e-6)
        assert of_csv[metric] == pytest.approx(of_json[metric], rel=1e-3)
    notes = [
        importing.read(HERE / f"aiperf_0.13.{form}").documents[0].annotations["imported"]["note"]
        for form in ("csv", "jsonl")
    ]
    assert all("does not tell the number of users: 2" in note for note in notes)


def test_aiperf_of_old() -> None:
    (row,) = rows(HERE / "aiperf_0.4.json")
    assert (row.model, row.concurrency) == ("tiny", 2)
    assert json.loads(row.options)["load.request_rate_mode"] == "concurrency_burst"


def test_a_count_of_tokens_that_the_server_denies_makes_no_rate(tmp_path: Path) -> None:
    """aiperf counts the tokens of the text itself: of a model that writes no words it counted 110 for 16, and 803 t/s for 120."""
    summary = content("aiperf_0.13.json")
    summary["output_sequence_length"]["avg"] = 109.67
    imported = importing.read(written(tmp_path, summary))
    (row,) = table(imported.documents[0])
    assert set(row.samples) == {"ttft_s", "latency_s"}
    assert imported.left_out == ("[0]: its rates of tokens: the server counted 16 tokens an answer, aiperf 109.7",)


def test_aiperf_records_of_the_warm_up_and_failed_ones_do_not_count(tmp_path: Path) -> None:
    records = [json.loads(line) for line in (HERE / "aiperf_0.13.jsonl").read_text().splitlines()]
    slow = json.loads(json.dumps(records[0]))
    slow["metrics"]["time_to_first_token"]["value"] = 9e9
    slow["metadata"]["request_end_ns"] += 10**12
    warm = slow | {"metadata": slow["metadata"] | {"benchmark_phase": "warmup"}}
    failed = {"metadata": slow["metadata"], "metrics": {}, "error": {"code": 500}}
    cancelled = slow | {"metadata": slow["metadata"] | {"was_cancelled": True}}
    lines = "\n".join(map(json.dumps, [warm, *records, failed, cancelled]))
    assert rows(written(tmp_path, lines))[0].samples == rows(HERE / "aiperf_0.13.jsonl")[0].samples
    cut = (HERE / "aiperf_0.13.jsonl").read_text()[:-200]
    imported = importing.read(written(tmp_path, cut))
    assert len(imported.documents) == 1
    assert "cut off" in imported.left_out[-1]


def test_aiperf_names_the_gpu(tmp_path: Path) -> None:
    summary = content("aiperf_0.13.json")
    gpu = {"gpu_index": 0, "gpu_name": "NVIDIA H100", "gpu_uuid": "GPU-1", "metrics": {}}
    summary["telemetry_data"]["endpoints"] = {"localhost:9400": {"gpus": {"GPU-1": gpu}}}
    (document,) = importing.read(written(tmp_path, summary)).documents
    assert document.machine.id == "nvidia-h100"
    assert "9400" not in store.dumps(store.to_content(document))


def test_llama_benchy_in_its_three_forms(tmp_path: Path) -> None:
    """Only the JSON has the single repetitions; the tables have the same means under the same names."""
    of_json, of_md, of_csv = (rows(HERE / f"llama_benchy.{form}") for form in ("json", "md", "csv"))
    runs = content("llama_benchy.json")["benchmarks"]
    names = [(row.workload, row.concurrency) for row in of_json]
    assert names == [("pp64-tg16", 1), ("pp64-tg16", 2), ("pp64-tg16-d32", 1), ("pp64-tg16-d32", 2)]
    for row, run, *others in zip(of_json, runs, of_md, of_csv, strict=True):
        assert row.samples["output_tps"] == tuple(run["tg_throughput"]["values"])
        assert row.repetitions == 2
        values = run["tg_req_throughput"]["values"]
        # of the last run the tool lost one request's rate, and nobody knows of which repetition
        whole = len(values) == 2 * row.concurrency
        groups = [values[: row.concurrency], values[row.concurrency :]] if whole else [values]
        assert row.samples["user_tps"] == tuple(map(statistics.median, groups))
        assert ("prefill_tps" in row.samples) == (row.concurrency == 1)
        for other in others:
            assert (other.group, other.prompt_tokens) == (row.group, row.prompt_tokens)
            assert other["output_tps"] == pytest.approx(run["tg_throughput"]["mean"], abs=0.005)
            assert other["ttft_s"] == pytest.approx(run["e2e_ttft"]["mean"] / 1e3, abs=1e-5)


def test_llama_benchy_printed_among_its_progress(tmp_path: Path) -> None:
    """One user: the columns are others, and what is around the table tells version and date."""
    text = """llama-benchy (0.4.0)
Date: 2026-03-04 05:06:07
Benchmarking model: org/big at http://10.1.2.3:8000/v1
Running test: pp=2048, tg=32, depth=0, concurrency=1
| model   |            test |            t/s |     peak t/s |      ttfr (ms) |   est_ppt (ms) |   e2e_ttft (ms) |
|:--------|----------------:|---------------:|-------------:|---------------:|---------------:|----------------:|
| org/big |          pp2048 | 1000.00 ± 1.00 |              | 2050.00 ± 1.00 | 2048.00 ± 1.00 |  2050.00 ± 1.00 |
| org/big |            tg32 |   20.00 ± 0.10 | 21.00 ± 0.00 |                |                |                 |
| org/big | ctx_pp @ d4096  |  900.00 ± 1.00 |              | 4551.00 ± 1.00 | 4551.00 ± 1.00 |  4551.00 ± 1.00 |
| org/big |  pp2048 @ d4096 |  800.00 ± 1.00 |              | 2560.00 ± 1.00 | 2560.00 ± 1.00 |  2560.00 ± 1.00 |

llama-benchy (0.4.0)
date: 2026-03-04 05:06:07 | latency mode: api
"""
    (document,) = importing.read(written(tmp_path, text)).documents
    both, context, deep = table(document)
    assert (both.model, both.workload, both["user_tps"], both["prefill_tps"]) == ("big", "pp2048-tg32", 20.0, 1000.0)
    assert both["ttft_s"] == 2.05
    assert (context.workload, context.prompt_tokens, context["prefill_tps"]) == ("ctx4096", 4096, 900.0)
    assert (deep.workload, deep.prompt_tokens, deep["user_tps"]) == ("pp2048-d4096", 6144, None)
    assert document.created_utc == "2026-03-04T05:06:07Z"
    assert "local time" in document.annotations["imported"]["note"]
    assert "10.1.2.3" not in store.dumps(store.to_content(document))


def test_llama_benchy_cut_off(tmp_path: Path) -> None:
    """The whole runs of a report that nobody closed; its head is lost with its end."""
    text = json.dumps(content("llama_benchy.json"), indent=2)
    imported = importing.read(written(tmp_path, text[: text.rindex('"prompt_size"')]))
    assert [row.workload for row in table(imported.documents[0])] == ["pp64-tg16", "pp64-tg16", "pp64-tg16-d32"]
    assert "cut off" in imported.left_out[-1]


def test_mlx_lm_benchmark() -> None:
    one, two = rows(HERE / "mlx_lm_benchmark.txt")
    assert (one.group, one.concurrency, one.prompt_tokens) == ("mlx_lm/unknown/pp128-tg64/c1", 1, 128)
    assert one.samples["user_tps"] == (6.424, 6.544, 6.552)
    assert one.samples["prefill_tps"] == (24.216, 24.792, 24.964)
    assert one.samples["memory_peak_bytes"] == (0.34e9,) * 3
    assert two.samples["output_tps"] == (8.718, 9.253)
    assert two.samples["user_tps"] == (8.718 / 2, 9.253 / 2)
    assert "prefill_tps" not in two.samples


def test_mlx_lm_benchmark_cut_off_and_of_before_it_told_the_whole_time(tmp_path: Path) -> None:
    text = (HERE / "mlx_lm_benchmark.txt").read_text().replace(", total_time=14.943", "")
    imported = importing.read(written(tmp_path, "Fetching 6 files: 100%\n" + text[: text.index("Trial 3")]))
    (row,) = table(imported.documents[0])
    assert row.samples["user_tps"] == (6.424, 6.544)
    assert imported.left_out == ("[0]: what comes after trial 2: the run has no averages, so it was cut off",)


def test_compare_and_regress_answer_for_their_files(tmp_path: Path) -> None:
    """Twelve nights of guidellm, the last six of them 20 % slower."""
    rng_free = [0.0, 0.4, -0.3, 0.2, -0.1, 0.3]
    nights = []
    for night in range(12):
        report = content("guidellm_0.8.json")
        for benchmark in report["benchmarks"]:
            benchmark["start_time"] += 86_400 * night
            each = benchmark["metrics"]["inter_token_latency_ms"]["successful"]
            each["median"] *= (1.25 if night > 5 else 1.0) * (1 + rng_free[night % 6] / 100)
        nights += importing.read(written(tmp_path, report)).documents
    histories = history([row for document in nights for row in table(document)], "date")
    steps = {(one.group, step.metric, step.verdict, step.at[:10]) for one in histories for step in one.shifts}
    groups = {"openai_http/tiny/serve-64-16/c1", "openai_http/tiny/serve-64-16/c2"}
    assert steps == {(group, "user_tps", "slower", "2026-12-03") for group in groups}
    (before,), (after,) = ([table(document)[0]] for document in (nights[0], nights[-1]))
    assert compare([before], [after]).cells[0].ratio == pytest.approx(0.8, rel=0.01)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("guidellm_0.8.json", {"benchmarks": 3}, r"\[0\].benchmarks: not a list of objects"),
        ("guidellm_0.8.json", {"benchmarks": [{"metrics": 1}]}, r"\[0\].benchmarks\[0\].metrics: not an object"),
        (
            "aiperf_0.13.json",
            {"request_latency": {"unit": "ms", "p50": "x"}},
            r"\[0\].request_latency.p50: not a finite number",
        ),
        ("aiperf_0.13.json", {"input_config": []}, r"\[0\].input_config: not an object"),
        ("llama_benchy.json", {"benchmarks": [{"concurrency": -1}]}, r"\[0\].benchmarks\[0\].concurrency: not a count"),
        ("llama_benchy.json", {"model": 4}, r"\[0\].model: not a text"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, name: str, change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        importing.read(written(tmp_path, content(name) | change))


@pytest.mark.parametrize("name", ["guidellm_0.8.json", "aiperf_0.13.json"])
def test_a_report_cut_anywhere_is_no_report(tmp_path: Path, name: str) -> None:
    text = json.dumps(content(name))
    for end in range(1, len(text), len(text) // 40):
        with pytest.raises(InputError, match="no results in a form that is known, and is cut off or damaged"):
            importing.read(written(tmp_path, text[:end]))


def test_a_long_line_that_is_no_csv(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cut off"):
        importing.read(written(tmp_path, '{"benchmarks": [{"prompt": "' + "word " * 100_000))


def test_what_has_no_figures_is_left_out(tmp_path: Path) -> None:
    report = content("guidellm_0.8.json")
    del report["benchmarks"][0]["metrics"]
    imported = importing.read(written(tmp_path, report))
    assert imported.left_out == ("[0]: benchmarks[0]: no figures of a generation",)
    assert [case.case.concurrency for case in imported.documents[0].cases] == [2]
