"""`rigbench validate`, `compare`, `regress` from outside: real runs of the simulator, exit codes, and hostile input."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import rigbench
from rigbench.documents import store
from simulated import suite_text

V1 = Path(__file__).parents[1] / "documents" / "v1.json"
SUITE = suite_text(repetitions="3")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs of the same suite, and one at half the bandwidth."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "t.toml").write_text(SUITE)
    answers = {}
    for name, speed in (("first", 50), ("again", 50), ("half", 25)):
        words = ("run", "t.toml", "-o", name, "--no-telemetry", "-O", f"bandwidth_gb_per_s={speed}")
        done = rigbench(*words, cwd=folder)
        answers[name] = folder / done.result
    return answers


def changed(path: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A forger's copy, with an id that fits."""
    content = json.loads(path.read_text())
    change(content)
    content["id"] = store.content_id(content)
    target.write_text(json.dumps(content))
    return target


def test_what_the_program_writes_is_valid(runs: dict[str, Path], tmp_path: Path) -> None:
    done = rigbench("validate", *runs.values(), cwd=tmp_path)
    assert done.stdout.count(": valid, sound (custom suite 't')") == 3
    assert done.stdout.count("below physical: $.telemetry: no readings") == 3


def test_a_folder_is_validated_file_by_file_and_any_fault_is_exit_5(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(runs["first"], tmp_path / "good.json")

    def edit(content: dict[str, Any]) -> None:
        content["summary"][0]["user_tps"] *= 2

    changed(runs["first"], tmp_path / "bad.json", edit)
    (tmp_path / "schema-v1.json").write_text("{}")
    (tmp_path / "worse.json").write_bytes(b'{"schema_version": "\x1b[31m')
    done = rigbench("validate", tmp_path, "--json", cwd=tmp_path, expect=5)
    reports = {Path(report["file"]).name: report for report in json.loads(done.stdout)}
    assert {name: report["valid"] for name, report in reports.items()} == {
        "bad.json": False,
        "good.json": True,
        "worse.json": False,
    }
    assert [fault["path"] for fault in reports["bad.json"]["faults"]] == ["$.summary[0].user_tps"]
    assert done.stderr.strip() == "rigbench: 2 of 3 files do not hold"
    plain = rigbench("validate", tmp_path, cwd=tmp_path, expect=5)
    assert "\x1b" not in plain.stdout
    assert "$.summary[0].user_tps: is " in plain.stdout


def test_no_such_file_is_the_users_matter(tmp_path: Path) -> None:
    assert "no result at none.json" in rigbench("validate", "none.json", cwd=tmp_path, expect=2).stderr
    (tmp_path / "empty").mkdir()
    for command in (["validate", "empty"], ["compare", "empty", "empty"]):
        assert "no result documents (*.json) in empty" in rigbench(*command, cwd=tmp_path, expect=2).stderr


def test_the_same_suite_twice_has_nothing_slower_and_half_the_bandwidth_has(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    same = rigbench("compare", runs["first"], runs["again"], "--fail-on", "slower", "--json", cwd=tmp_path)
    answers = json.loads(same.stdout)
    assert answers["differences"] == []
    assert {cell["verdict"] for cell in answers["cells"] if not cell["metric"].endswith("_bytes")} == {"same"}
    slow = rigbench("compare", runs["first"], runs["half"], "--fail-on", "slower", cwd=tmp_path, expect=4)
    assert re.search(r"options +bandwidth_gb_per_s=50 +bandwidth_gb_per_s=25", slow.stdout)
    assert slow.stdout.count("slower") >= 4
    assert slow.stderr.startswith("rigbench: ")
    assert "sim/llama-160m-Q4_0/w/c1 user_tps slower" in slow.stderr
    rigbench("compare", runs["first"], runs["half"], cwd=tmp_path)
    rigbench("compare", runs["half"], runs["first"], "--fail-on", "slower", cwd=tmp_path)


def test_several_documents_a_side(runs: dict[str, Path], tmp_path: Path) -> None:
    words = ["--base", runs["first"], "--base", runs["again"], "--new", runs["half"]]
    done = rigbench("compare", *words, "--metric", "user_tps", "--json", "--fail-on", "slower", cwd=tmp_path, expect=4)
    cells = json.loads(done.stdout)["cells"]
    assert {(cell["unit"], cell["n_base"], cell["n_new"], cell["verdict"]) for cell in cells} == {
        ("document", 2, 1, "slower")
    }


def test_markdown_for_a_pull_request(runs: dict[str, Path], tmp_path: Path) -> None:
    text = rigbench("compare", runs["first"], runs["half"], "--markdown", cwd=tmp_path).stdout
    assert text.startswith("| differs | base | new |\n| --- | --- | --- |\n")
    assert "| **slower** |" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", str(V1)], "name two results"),
        (["compare", str(V1), str(V1), str(V1)], "name two results"),
        (["compare", str(V1), "none.json"], "no result at none.json"),
        (["compare", str(V1), str(V1), "--metric", "speed"], "choose one of user_tps"),
        (["compare", str(V1), str(V1), "--fail-on", "bad"], "choose one of slower, more, failed"),
        (["regress", str(V1), "--axis", "moon"], "choose of driver, engine, os, date"),
        (["regress", str(V1), "--plot", "x.png"], "ends in .svg"),
        (["regress"], "no result at results"),
    ],
)
def test_bad_input_is_one_clear_sentence(words: list[str], message: str, tmp_path: Path) -> None:
    done = rigbench(*words, cwd=tmp_path, expect=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_regress_finds_the_driver_that_made_it_slower(runs: dict[str, Path], tmp_path: Path) -> None:
    """Four drivers, of which 580.126 halves the bandwidth: as text it would come before 580.65."""
    folder = tmp_path / "results"
    folder.mkdir()
    for day, (driver, name) in enumerate(
        (("570.9", "first"), ("580.65", "again"), ("580.126", "half"), ("590.1", "half"))
    ):

        def update(content: dict[str, Any], driver: str = driver, day: int = day) -> None:
            content["machine"]["drivers"] = {"nvidia": driver}
            content["created_utc"] = f"2026-01-0{day + 1}T00:00:00Z"
            for result in content["cases"]:
                result["case"]["options"] = {}

        changed(runs[name], folder / f"{day}.json", update)
    words = ("regress", "--axis", "driver", "--fail-on", "slower", "--plot", "history.svg")
    done = rigbench(*words, cwd=tmp_path, expect=4)
    assert "user_tps slower since nvidia 580.126" in done.stderr
    assert "slower since nvidia 590" not in done.stderr
    assert (tmp_path / "history.svg").read_text().startswith("<svg ")
    rigbench("regress", "--fail-on", "slower", "--since", "590", cwd=tmp_path)
    markdown = rigbench("regress", "--markdown", cwd=tmp_path).stdout
    assert "| sim/llama-160m-Q4_0/w/c1 | user t/s | nvidia 580.126 |" in markdown
    (tmp_path / "known.toml").write_text('[[known]]\nat = "580.126"\nwhy = "a bug of the driver"\n')
    known = rigbench("regress", "--fail-on", "slower", "--known", "known.toml", cwd=tmp_path).stdout
    assert "known: a bug of the driver" in known
    (tmp_path / "known.toml").write_text('[[known]]\ndriver = "580.126"\n')
    assert "write [[known]]" in rigbench("regress", "--known", "known.toml", cwd=tmp_path, expect=2).stderr
    histories = json.loads(rigbench("regress", folder, "--json", cwd=tmp_path).stdout)
    assert [run["value"] for run in histories[0]["runs"]] == [
        f"nvidia {d}" for d in ("570.9", "580.65", "580.126", "590.1")
    ]
    assert "no case was measured at two values" in rigbench("regress", "--axis", "os", cwd=tmp_path).stdout


def test_the_index_says_the_same_as_the_documents(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    for day, name in enumerate(("first",) * 3 + ("half",) * 3):

        def update(content: dict[str, Any], day: int = day) -> None:
            content["created_utc"] = f"2026-01-0{day + 1}T00:00:00Z"
            for result in content["cases"]:
                result["case"]["options"] = {}

        changed(runs[name], folder / f"{day}.json", update)
    rigbench("index", folder, "-o", "i.parquet", cwd=tmp_path)
    words = ("regress", "--axis", "date", "--fail-on", "slower")
    from_index = rigbench(*words, "--index", "i.parquet", cwd=tmp_path, expect=4)
    assert from_index.stdout == rigbench(*words, folder, cwd=tmp_path, expect=4).stdout
    assert "slower" in from_index.stdout


def test_a_broken_document_among_many_is_said_and_left_out(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    shutil.copy(runs["first"], tmp_path / "a.json")
    done = rigbench("compare", "--base", tmp_path, "--new", runs["again"], cwd=tmp_path)
    assert "left out: " in done.stderr
    assert "broken.json" in done.stderr


def test_names_from_a_document_cannot_move_the_cursor_or_break_a_table(runs: dict[str, Path], tmp_path: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        for result in content["cases"]:
            result["case"]["group"] += "|](http://x)[bold]"

    forged = changed(runs["first"], tmp_path / "x.json", rename)
    text = rigbench("compare", forged, forged, "--markdown", cwd=tmp_path).stdout
    assert "\\|\\](http://x)\\[bold\\]" in text
    assert "[bold]" in rigbench("compare", forged, forged, cwd=tmp_path).stdout


def test_a_suite_from_another_folder_starts_nothing_unasked(tmp_path: Path) -> None:
    """Neither `plan` nor `run` execute the interpreter that a stranger's suite names, nor ask the address in it."""
    struck, here = tmp_path / "struck", tmp_path / "here"
    here.mkdir()
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ntouch {struck}\n")
    program.chmod(0o755)
    suite = SUITE.replace('backend = "sim"', f'backend = "sim"\npython = "{program}"')
    (tmp_path / "strange.toml").write_text(suite)
    bisect = ["bisect", "--good", "a==1", "--bad", "a==2", "--suite"]
    for words in (["plan"], ["run"], bisect):
        done = rigbench(*words, "../strange.toml", cwd=here, expect=2)
        assert f"python = {program}" in done.stderr
        assert "add --trust-suite" in done.stderr
    assert not struck.exists()
    rigbench("plan", "../strange.toml", "--trust-suite", cwd=here, expect=3)
    assert struck.exists()


def test_every_view_says_the_level(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "v1.json").write_bytes(V1.read_bytes())

    def answer(*words: str | Path) -> str:
        return rigbench(*words, cwd=tmp_path).stdout

    assert "complete: nobody else's machine has confirmed it yet" in answer("show", V1).replace("\n", " ")
    assert "base: complete; new: complete" in answer("compare", V1, V1)
    assert ", complete" in answer("compare", "--table", V1).splitlines()[-2]
    assert ",complete," in answer("export", V1)
    assert ", complete" in answer("export", V1, "--format", "markdown").splitlines()[0]
    assert "valid, complete" in answer("validate", V1)
    answer("report", V1, "-o", "page.html")
    assert "complete: nobody else" in (tmp_path / "page.html").read_text()
    answer("index", results)
    assert json.loads(answer("query", "SELECT DISTINCT level FROM cases", "--json")) == [{"level": "complete"}]
    answer("site", results, "-o", "site")
    assert "complete" in (tmp_path / "site" / "index.html").read_text()


@pytest.mark.parametrize("suite", ["smoke", "quickstart", "standard", "agents"])
def test_shipped_suites_on_the_simulator_hold(suite: str, tmp_path: Path) -> None:
    """Its time is virtual: a case may end long after the run did."""
    words = ("-b", "sim", "-m", "synthetic:llama-160m:Q4_0", "--no-telemetry")
    done = rigbench("run", suite, *words, cwd=tmp_path)
    path = done.result
    assert ": valid, " in rigbench("validate", path, cwd=tmp_path).stdout
