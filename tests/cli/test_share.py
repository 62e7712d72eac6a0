"""index, query, export, import, submit and bisect from outside: what people type, what they see, and the exit codes."""

import csv
import io
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import rigbench_backends
from command_line import rigbench

DOCUMENTS = Path(__file__).parent.parent / "documents"
V1 = DOCUMENTS / "v1.json"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder `results` with one good document and a broken one, in the working folder."""
    folder = tmp_path / "results" / "box"
    folder.mkdir(parents=True)
    shutil.copy(V1, folder / "good.json")
    (folder / "bad.json").write_text("{")
    return tmp_path


def test_index_then_query(results: Path) -> None:
    done = rigbench("index", cwd=results)
    assert done.stdout.startswith("1 documents, 2 rows in results/.index.parquet (2 files read")
    assert "left out: box/bad.json: " in done.stderr
    listing = json.loads(rigbench("index", "--json", cwd=results).stdout)
    assert (listing["documents"], listing["read"], listing["unchanged"]) == (1, 0, 2)
    assert [one["file"] for one in listing["left_out"]] == ["box/bad.json"]
    sql = "SELECT workload, user_tps, flags, 0.0 / 0 AS nothing FROM cases ORDER BY workload"
    rows = json.loads(rigbench("query", sql, "--json", cwd=results).stdout)
    assert [row["workload"] for row in rows] == ["short", "too-long"]
    assert rows[0]["user_tps"] > 0
    assert rows[1]["user_tps"] is None
    assert rows[0]["nothing"] is None
    lines = list(csv.DictReader(io.StringIO(rigbench("query", sql, "--csv", cwd=results).stdout)))
    assert float(lines[0]["user_tps"]) == rows[0]["user_tps"]
    assert lines[1]["user_tps"] == ""
    table = rigbench("query", sql, cwd=results).stdout.splitlines()
    assert table[0].split() == ["workload", "user_tps", "flags", "nothing"]
    assert len(table) == 3


def test_what_is_wrong_with_a_question_is_one_sentence(results: Path) -> None:
    assert "no index at results/.index.parquet" in rigbench("query", "SELECT 1", cwd=results, expect=2).stderr
    rigbench("index", cwd=results)
    done = rigbench("query", "SELECT modle FROM cases", cwd=results, expect=2)
    assert "did you mean model?" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = rigbench("query", f"SELECT * FROM read_text('{V1}')", cwd=results, expect=2)
    assert "no file" in done.stderr


def test_export_and_import(results: Path) -> None:
    good = results / "results" / "box" / "good.json"
    rigbench("export", good, "--format", "llama-bench-json", "-o", "runs.json", cwd=results)
    done = rigbench("import", "runs.json", "-o", "imported", cwd=results)
    path = results / done.stdout.strip().removeprefix("result: ")
    assert json.loads(path.read_text())["annotations"]["imported"]["from"] == "llama-bench"
    assert "imported figures" in rigbench("compare", path, path, cwd=results).stdout
    text = rigbench("export", good, path, "--format", "markdown", cwd=results).stdout
    assert text.count("### ") == 2
    assert rigbench("export", good, cwd=results).stdout.startswith("document_id,")
    assert "choose one of csv" in rigbench("export", good, "--format", "xml", cwd=results, expect=2).stderr
    assert "cannot write" in rigbench("export", good, "-o", "no/such/folder", cwd=results, expect=3).stderr
    assert "is of no tool" in rigbench("import", good, cwd=results, expect=2).stderr


def test_submit_shows_all_and_sends_once(results: Path) -> None:
    good = results / "results" / "box" / "good.json"
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", "init", "--quiet", "--bare", "there.git"], cwd=results, check=True)
    preview = rigbench("submit", good, "--dry-run", cwd=results, **nobody).stdout
    for key, value in json.loads(V1.read_text())["machine"].items():
        assert f"  {key} " in preview
        if isinstance(value, str | int):
            assert str(value) in preview
    assert f"{V1.stat().st_size} bytes" in preview
    assert "git knows no name here" in preview
    assert "nothing was sent" in rigbench("submit", good, cwd=results, expect=2, **nobody).stderr
    refused = rigbench("submit", good, "--repo", "there.git", cwd=results, expect=2, **nobody)
    assert "nobody to ask" in refused.stderr
    heads = ["git", "-C", str(results / "there.git"), "for-each-ref"]
    assert subprocess.run(heads, capture_output=True, text=True, check=True).stdout == ""
    done = rigbench("submit", good, "--repo", "there.git", "--yes", cwd=results, **nobody)
    assert "pushed: result/" in done.stdout
    again = rigbench("submit", good, "--repo", "there.git", "--yes", cwd=results, **nobody)
    assert "already there: the branch result/" in again.stdout
    assert rigbench("submit", results / "results" / "box" / "bad.json", cwd=results, expect=5, **nobody).stderr


def test_what_looks_private_is_not_sent_without_a_word(results: Path) -> None:
    from rigbench.documents import store

    content = json.loads(V1.read_text())
    content["annotations"] = {"note": "ask me@example.org"}
    content["id"] = store.content_id(content)
    path = results / "a.json"
    path.write_text(json.dumps(content))
    done = rigbench("submit", path, "--repo", "there.git", "--yes", cwd=results, expect=2)
    assert "looks private: $.annotations.note: an e-mail address: me@example.org" in done.stderr
    rigbench("submit", path, "--dry-run", "--private-ok", cwd=results)


BACKEND = """
from dataclasses import dataclass, replace
from rigbench_backends import sim
from rigbench_backends.base import Probe

@dataclass(frozen=True, slots=True)
class Options:
    pass

class Backend(sim.SimBackend):
    name = "rigbenchfake"
    Options = Options
    model_formats = ("shape",)

    def open(self, model, options):
        import rigbenchfake
        session = sim.SimSession(model, sim.SimOptions(bandwidth_gb_per_s=rigbenchfake.SPEED))
        session.info = replace(session.info, engine="rigbenchfake", version=rigbenchfake.VERSION)
        return session

    def probe(self, options=None):
        import rigbenchfake
        return Probe(True, rigbenchfake.VERSION, "sim")

BACKEND = Backend()
"""


def wheel(folder: Path, version: str, speed: int, needs: str = "") -> None:
    info = f"rigbenchfake-{version}.dist-info"
    files = {
        "rigbenchfake.py": f"VERSION = {version!r}\nSPEED = {speed}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: rigbenchfake\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"rigbenchfake-{version}-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


@pytest.mark.slow
def test_bisect_finds_the_slower_version_through_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third party's engine in five versions, its backend registered by entry point; pip installs them, the suite runs in each."""
    links, plugin = tmp_path / "links", tmp_path / "plugin"
    links.mkdir()
    for version, speed in {"1.8": 100, "1.9": 100, "1.10": 100, "1.11": 80, "2.0": 80}.items():
        broken = "Requires-Dist: rigbench-no-such-package-anywhere\n" if version == "1.9" else ""
        wheel(links, version, speed, broken)
    (plugin / "fake-1.dist-info").mkdir(parents=True)
    (plugin / "fake-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1\n")
    entry = "[rigbench.backends]\nrigbenchfake = fake_backend:BACKEND\n"
    (plugin / "fake-1.dist-info" / "entry_points.txt").write_text(entry)
    (plugin / "fake_backend.py").write_text(BACKEND)
    paths = os.pathsep.join(filter(None, [str(plugin), os.environ.get("PYTHONPATH")]))
    monkeypatch.syspath_prepend(plugin)
    known = rigbench_backends.BUILT_IN | {"rigbenchfake": "fake_backend:BACKEND"}
    monkeypatch.setattr(rigbench_backends, "registry", lambda: known)  # this process may have read the real one before
    surroundings = {"RIGBENCH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": paths}
    words = ["bisect", "--suite", "smoke", "--good", "rigbenchfake==1.8", "--bad", "rigbenchfake==2.0", "--runs", "2"]
    words += ["--backend", "rigbenchfake", "--model", "synthetic:llama-160m:Q4_0", "--json"]
    words += ["--pip-arg=--no-index", f"--pip-arg=-f{links}"]
    done = rigbench(*words, cwd=tmp_path, **surroundings)
    query_rows = json.loads(done.stdout)
    assert (query_rows["good"], query_rows["bad"], query_rows["between"]) == ("1.10", "1.11", [])
    assert query_rows["metric"] == "user_tps"
    slow = next(trial for trial in query_rows["trials"] if trial["version"] == "1.11")
    assert slow["ratio"] == pytest.approx(0.8, abs=0.001)
    documents = sorted(tmp_path.glob("bisect/*/*/*/*.json"))
    before = {path: path.read_bytes() for path in documents}
    again = rigbench(*words, cwd=tmp_path, **surroundings)  # taken up: everything is there already
    assert again.stdout == done.stdout
    assert {path: path.read_bytes() for path in sorted(tmp_path.glob("bisect/*/*/*/*.json"))} == before
    assert "run 1 of" not in again.stderr
    words[words.index("--good") + 1] = "rigbenchfake==1.9"  # which cannot be installed
    assert "one of the two ends" in rigbench(*words, cwd=tmp_path, expect=3, **surroundings).stderr
