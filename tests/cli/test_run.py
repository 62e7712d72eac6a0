"""`rigbench run` from outside, over the simulator: results, failures as rows, kills, resumption, and bad input."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import Answer, rigbench
from simulated import REAL_TIME, suite_text


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., Path]:
    def write(extra: str = "", **changes: str) -> Path:
        path = tmp_path / "t.toml"
        path.write_text(suite_text(extra, **changes))
        return path

    return write


def result_of(done: Answer, cwd: Path) -> dict[str, Any]:
    return json.loads((cwd / done.result).read_text())


def start(*words: str | Path, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rigbench.cli.main", "run", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)


def journal_with(cases: int, cwd: Path, patience_s: float = 60) -> Path:
    """The journal, as soon as it holds so many cases."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        for path in cwd.glob("results/*/*.journal"):
            if path.read_bytes().count(b"\n") > cases:
                return path
        time.sleep(0.02)
    raise AssertionError("no such journal")


def workers_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split() if "worker" in Path(f"/proc/{word}/cmdline").read_text()]


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the worker through /proc")


def test_a_run_leaves_a_document_that_shows_its_rows(suite: Callable[..., Path], tmp_path: Path) -> None:
    done = rigbench("run", suite(), cwd=tmp_path)
    document = result_of(done, tmp_path)
    assert [case["case"]["id"].rsplit("/", 2)[1:] for case in document["cases"]] == [
        ["c1", "r0"],
        ["c2", "r0"],
        ["c1", "r1"],
        ["c2", "r1"],
    ]
    assert document["complete"] is True
    path = done.result
    rows = json.loads(rigbench("show", path, "--json", cwd=tmp_path).stdout)
    assert [row["concurrency"] for row in rows] == [1, 2]
    expected = {
        "backend",
        "model",
        "workload",
        "concurrency",
        "user_tps",
        "output_tps",
        "ttft_s",
        "tpot_s",
        "prefill_tps",
    }
    expected |= {"rss_peak_bytes", "ceiling_tps", "predicted_tps", "mbu", "flags", "error"}
    assert expected <= set(rows[0])
    # One user, no overhead: the simulator runs at its ceiling.
    assert rows[0]["mbu"] == pytest.approx(1, rel=0.01)
    assert rows[0]["user_tps"] == pytest.approx(rows[0]["ceiling_tps"], rel=0.01)
    assert rows[0]["measured_over_predicted"] == pytest.approx(1, rel=0.01)
    assert rows[0]["published_tps"] < rows[0]["predicted_tps"]
    assert not list(tmp_path.glob("results/*/*.journal"))


def test_show_recomputes_and_never_reads_the_summary(suite: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / rigbench("run", suite(), cwd=tmp_path).result
    document = json.loads(path.read_text())
    before = rigbench("show", path, "--json", cwd=tmp_path).stdout
    assert document["summary"] == json.loads(before)
    for row in document["summary"]:
        row["user_tps"] = 1e6
    path.write_text(json.dumps(document))
    assert rigbench("show", path, "--json", cwd=tmp_path).stdout == before
    for record in document["cases"][0]["requests"]:
        record["unit_us"] = [2 * stamp for stamp in record["unit_us"]]
    path.write_text(json.dumps(document))
    assert rigbench("show", path, "--json", cwd=tmp_path).stdout != before


@pytest.mark.parametrize(
    ("fault", "kind", "measured"),
    [
        ("load", "load", 0),
        ("memory", "memory", 2),
        ("decode", "decode", 2),
        ("crash", "killed", 2),
        ("hang", "time_limit", 2),
    ],
)
def test_a_failing_case_is_a_row_and_the_run_goes_on(
    fault: str, kind: str, measured: int, suite: Callable[..., Path], tmp_path: Path
) -> None:
    options = f'options = {{ fault = "{fault}", fault_users = 2 }}\n'
    done = rigbench("run", suite(options, case_time_limit_s="1.5"), cwd=tmp_path, expect=0 if measured else 3)
    assert ("2 of 4 cases failed" if measured else "nothing was measured") in done.stderr
    assert (
        fault != "load" or done.stderr.count("loading ") == 1
    )  # which may take minutes: it is not tried for each case
    document = result_of(done, tmp_path)
    good = [case for case in document["cases"] if case["error"] is None]
    bad = [case for case in document["cases"] if case["error"] is not None]
    assert len(good) == measured
    assert len(good) + len(bad) == 4
    assert all(case["case"]["concurrency"] == 1 for case in good)
    assert bad[0]["error"]["kind"] == kind
    if measured:
        assert bad[1]["error"]["kind"] == "not_run"


@linux
@pytest.mark.slow
def test_kill_9_of_the_worker_costs_its_case_alone(suite: Callable[..., Path], tmp_path: Path) -> None:
    run = start(suite(REAL_TIME, output_tokens="300", repetitions="1", concurrency="[1, 2, 3]"), cwd=tmp_path)
    journal_with(1, tmp_path)
    victim = []
    while not victim:
        victim = workers_of(run.pid)
    os.kill(victim[0], signal.SIGKILL)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    document = result_of(Answer(out, err), tmp_path)
    errors = [case["error"]["kind"] if case["error"] else None for case in document["cases"]]
    assert sorted(errors, key=str) == [None, None, "killed"] or errors == [None, None, None]


@linux
@pytest.mark.slow
def test_kill_9_of_the_parent_loses_no_finished_case_and_leaves_no_worker(
    suite: Callable[..., Path], tmp_path: Path
) -> None:
    run = start(suite(REAL_TIME, output_tokens="200"), cwd=tmp_path)
    journal = journal_with(2, tmp_path)
    workers = workers_of(run.pid)
    run.kill()
    run.communicate(timeout=60)
    before = journal.read_bytes()
    assert before.count(b"\n") >= 3
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    finished = [json.loads(line.partition(b"\t")[0])["result"] for line in before.split(b"\n")[1:-1]]
    journal.write_bytes(before + b'{"result": {"case": {"id": "torn')

    done = rigbench("run", "--resume", journal, cwd=tmp_path)
    assert "the last line was torn" in done.stderr
    document = result_of(done, tmp_path)
    assert len(document["cases"]) == 4
    ids = {case["case"]["id"]: case for case in document["cases"]}
    for case in finished:  # the very records of before: nothing was measured twice
        assert ids[case["case"]["id"]]["requests"] == case["requests"]
    assert not journal.exists()


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_saves_what_there_is_and_says_how_to_go_on(
    how: signal.Signals, suite: Callable[..., Path], tmp_path: Path
) -> None:
    run = start(suite(REAL_TIME, output_tokens="400", repetitions="3"), cwd=tmp_path)
    journal = journal_with(1, tmp_path)
    run.send_signal(how)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in err
    document = result_of(Answer(out, err), tmp_path)
    assert document["complete"] is False
    assert 1 <= len(document["cases"]) < 6
    assert f"--resume {journal.relative_to(tmp_path)}" in err
    if how == signal.SIGINT:  # the whole document takes the place of the partial one
        whole = rigbench("run", "--resume", journal, cwd=tmp_path).result
        assert [path.name for path in tmp_path.glob("results/*/*.json")] == [Path(whole).name]


def test_a_resumed_run_refuses_another_suite_or_engine(suite: Callable[..., Path], tmp_path: Path) -> None:
    header = {"format": "rigbench-journal-1", "suite": {}, "engines": []}
    path = tmp_path / "x.journal"
    path.write_text(json.dumps(header) + "\n")
    assert "written by another version of rigbench" in rigbench("run", "--resume", path, cwd=tmp_path, expect=2).stderr


BAD_INPUT = [
    (["nosuchsuite"], {}, "no suite 'nosuchsuite'"),
    ([], {"concurrency": "[0]"}, "load.concurrency[0]"),
    ([], {"concurrency": "[10000]"}, "load.concurrency[0]"),
    ([], {"prompt_tokens": '"many"'}, "workload[0].prompt_tokens"),
    ([], {"kind": '"speech"'}, "workload[0].kind"),
    ([], {"prompt_tokens": "900000"}, "context"),
    ([], {"backend": '"slim"'}, "no backend 'slim'"),
    (["--backend", "nope"], {}, "no backend 'nope'"),
    (["--model", "missing.gguf"], {}, "missing.gguf"),
    (["--model", "synthetic:llama-161m:Q4_0"], {}, "llama-160m"),
    (["--python", "/nonexistent/python"], {}, "/nonexistent/python"),
    (["--option", "bandwith_gb_per_s=3"], {}, "did you mean `bandwidth_gb_per_s`?"),
    (["--option", 'prefill_tps="fast"'], {}, "prefill_tps"),
    (["--option", "prefill_tps"], {}, "NAME=VALUE"),
]


@pytest.mark.parametrize(("words", "changes", "message"), BAD_INPUT)
def test_bad_input_is_one_clear_sentence(
    words: list[str], changes: dict[str, str], message: str, suite: Callable[..., Path], tmp_path: Path
) -> None:
    path = suite(**changes)
    arguments = words if words and not words[0].startswith("-") else [str(path), *words]
    done = rigbench("run", *arguments, cwd=tmp_path, expect=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.gguf", b"this is no model\n" * 100), ("empty.gguf", b""), ("half.gguf", None)],
)
def test_a_file_that_is_no_model_is_refused_before_anything_runs(
    name: str, content: bytes | None, suite: Callable[..., Path], tmp_path: Path
) -> None:
    if content is None:
        from rigbench.models.synthetic.gguf import ensure_synthetic

        whole = ensure_synthetic("tiny", "Q8_0").read_bytes()
        content = whole[: len(whole) // 2]
    (tmp_path / name).write_bytes(content)
    done = rigbench("run", suite(), "--model", tmp_path / name, cwd=tmp_path, expect=2)
    assert name in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_nothing_to_run_says_why(suite: Callable[..., Path], tmp_path: Path) -> None:
    done = rigbench("run", suite(prompt_tokens="9000"), cwd=tmp_path, expect=2)
    assert "more than the context of 8192 tokens that llama-160m-Q4_0 has" in done.stderr


def test_what_does_not_fit_is_a_skipped_row_beside_the_others(suite: Callable[..., Path], tmp_path: Path) -> None:
    extra = '[[workload]]\nname = "long"\nkind = "tokens"\nprompt_tokens = 9000\noutput_tokens = 10\n'
    document = result_of(rigbench("run", suite(extra), cwd=tmp_path), tmp_path)
    skipped = [case for case in document["cases"] if case["error"]]
    assert {case["error"]["kind"] for case in skipped} == {"skipped"}
    assert len(document["cases"]) == 6


def test_a_suite_over_two_settings_of_one_engine_keeps_them_apart(suite: Callable[..., Path], tmp_path: Path) -> None:
    extra = 'options = { bandwidth_gb_per_s = 50 }\n[[engine]]\nbackend = "sim"\nmodel = "synthetic:llama-160m:Q4_0"\n'
    document = result_of(rigbench("run", suite(extra), cwd=tmp_path), tmp_path)
    rows = document["summary"]
    assert len(rows) == 4
    assert rows[2]["user_tps"] / rows[0]["user_tps"] == pytest.approx(2, rel=0.02)


def test_no_private_word_is_in_a_document(suite: Callable[..., Path], tmp_path: Path) -> None:
    import getpass
    import socket

    fault = 'options = { fault = "decode", fault_users = 2 }\n'
    done = rigbench("run", suite(fault), cwd=tmp_path)
    path = tmp_path / done.result
    text = path.read_text()
    for word in {socket.gethostname(), str(Path.home()), str(tmp_path), sys.executable, getpass.getuser()} - {
        "root",
        "localhost",
    }:
        assert not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text), word


def test_plan_says_what_a_run_would_do_and_does_nothing(suite: Callable[..., Path], tmp_path: Path) -> None:
    done = rigbench("plan", suite(), "--json", cwd=tmp_path)
    plan = json.loads(done.stdout)
    assert len(plan["cases"]) == 4
    assert plan["memory_bytes"] > 0
    assert not (tmp_path / "results").exists()
    assert "4 cases" in rigbench("plan", suite(), cwd=tmp_path).stdout


def test_doctor_metrics_and_models_answer_in_both_forms(tmp_path: Path) -> None:
    doctor = json.loads(rigbench("doctor", "--json", cwd=tmp_path).stdout)
    assert doctor["backends"]["sim"]["usable"] is True
    assert doctor["machine"]["cpu"]
    assert "sim: ready" in rigbench("doctor", cwd=tmp_path).stdout
    metrics = json.loads(rigbench("metrics", "--json", cwd=tmp_path).stdout)
    assert {"ttft", "tpot", "user_tps", "output_tps", "mbu"} <= {metric["name"] for metric in metrics}
    assert "llama-160m" in rigbench("models", "list", "--shapes", cwd=tmp_path).stdout


def test_help_and_version_come_without_heavy_imports(tmp_path: Path) -> None:
    code = "import sys, rigbench.cli.main; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "pandas", "scipy", "pydantic", "rich", "psutil", "gguf", "huggingface_hub"} & set(
        eval(done.stdout)
    )
    assert "Commands" in rigbench("--help", cwd=tmp_path).stdout
    assert rigbench("--version", cwd=tmp_path).stdout.startswith("rigbench 0.")


@pytest.mark.parametrize("model", ["moe-small:Q4_K_M", "gemma-3-27b:Q4_K_M", "llama-3.3-70b:Q8_0"])
def test_the_simulator_runs_at_the_ceiling_of_every_kind_of_model(
    model: str, suite: Callable[..., Path], tmp_path: Path
) -> None:
    """Experts that N users' tokens share and layers that look back a window only: bytes by the file's rules, on both sides."""
    path = suite(prompt_tokens="1500", concurrency="[1, 4]", repetitions="1")
    rows = result_of(rigbench("run", path, "-m", f"synthetic:{model}", cwd=tmp_path), tmp_path)["summary"]
    alone, four = rows
    assert alone["user_tps"] == pytest.approx(alone["ceiling_tps"], rel=0.005)
    bound = 4 * four["ceiling_tps"]  # users whose tokens need the same experts; with others a step reads more
    assert four["output_tps"] == pytest.approx(bound, rel=0.005) or ("moe" in model and four["output_tps"] < bound)


@pytest.mark.slow
def test_energy_of_a_recorded_meter_arrives_in_the_rows(suite: Callable[..., Path], tmp_path: Path) -> None:
    """The whole way: idle 50 W before loading, 150 W while the paced simulator runs at a known rate."""
    # Idle power is read for 10.5 s before the load; the first case begins soon after.
    times = list(range(0, 60_000_000, 100_000))
    series = {
        "name": "power",
        "unit": "W",
        "source": "nvml",
        "api": "x",
        "scope": "board",
        "method": "sampled",
        "status": "ok",
    }
    watts = [50.0 if at < 10_600_000 else 150.0 for at in times]
    readings = [{**series, "reason": None, "device": "gpu0", "time_us": times, "values": watts}]
    (tmp_path / "power.json").write_text(json.dumps({"readings": readings}))
    path = suite(REAL_TIME, concurrency="[1]", repetitions="1", output_tokens="800")
    done = rigbench("run", path, "--replay", tmp_path / "power.json", cwd=tmp_path)
    (row,) = result_of(done, tmp_path)["summary"]
    assert row["power_scope"] == "board"
    assert row["joules_per_token"] == pytest.approx(150 / row["output_tps"], rel=0.02)
    assert row["joules_per_token_net"] == pytest.approx(100 / row["output_tps"], rel=0.05)
    assert row["watts_peak"] == pytest.approx(150)
