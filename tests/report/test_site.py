"""The site: what is written, what is not written again, and that nobody's text becomes markup."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from device_documents import device_document, rederived
from rigbench.analysis.table import table
from rigbench.documents import store
from rigbench.errors import InputError
from rigbench.paths import configs_dir
from rigbench.report import site

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e" + "W" * 10_000


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two honest results; the catalogue is cut to two devices, so that it takes seconds."""
    devices = site.devices()[:2]
    monkeypatch.setattr(site, "devices", lambda: devices)
    folder = tmp_path / "results"
    folder.mkdir()
    for seed, device in enumerate(("rtx-4090", "m4-max-40")):
        (folder / f"{device}.json").write_text(json.dumps(device_document(device, "llama-3.1-8b", "Q4_K_M", seed=seed)))
    return folder


def files(out: Path) -> dict[str, int]:
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_each_result_machine_and_model_has_a_page(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    done = site.build(results, out, processes=1)
    ids = {json.loads(path.read_text())["id"] for path in results.glob("*.json")}
    names = files(out)
    assert (done.results, done.rows, done.refused, done.faults) == (2, 4, 0, ())
    assert {f"result/{name}.html" for name in ids} <= names.keys()
    assert sum(name.startswith("machine/") for name in names) == 2
    assert sum(name.startswith("model/") for name in names) == 1
    assert {"index.html", "rows-0.js", "predict.html", "submit.html", "rows.parquet", "README.md"} <= names.keys()


def test_the_second_build_writes_nothing_and_a_new_result_writes_its_page_alone(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    site.build(results, out, processes=1)
    before = files(out)
    assert site.build(results, out, processes=1).written == 0
    assert files(out) == before
    (results / "new.json").write_text(json.dumps(device_document("rtx-3090", "llama-3.1-8b", "Q4_K_M", seed=9)))
    site.build(results, out, processes=1)
    after = files(out)
    assert sum(name.startswith("result/") for name in after.keys() - before.keys()) == 1
    assert all(after[name] == before[name] for name in before if name.startswith("result/"))


def test_a_result_that_is_gone_has_no_page_and_one_that_does_not_hold_never_had(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    forged = device_document("rtx-3090", "llama-3.1-8b", "Q4_K_M", seed=3)
    forged["duration_s"] += 1
    (results / "forged.json").write_text(json.dumps(forged))
    assert site.build(results, out, processes=1).refused == 1
    assert not (out / "result" / f"{forged['id']}.html").exists()
    (results / "rtx-4090.json").unlink()
    assert site.build(results, out, processes=1).removed == 2  # its page, and its machine's
    assert len(list((out / "result").iterdir())) == 1


def test_predictions_are_made_again_when_the_catalogue_changes_and_pages_are_not(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, configs = tmp_path / "site", tmp_path / "configs"
    shutil.copytree(configs_dir(), configs)
    monkeypatch.setattr(site, "configs_dir", lambda: configs)
    site.build(results, out, processes=1)
    before = files(out)
    (configs / "hardware" / "more.toml").write_text("# more")
    monkeypatch.setattr(site, "prediction_table", lambda device: f"rigbenchPredict({device.id})")
    site.build(results, out, processes=1)
    after = files(out)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {name for name in after if name.startswith("predict/")} | {site.MARK}


def test_a_folder_with_something_else_is_left_alone(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "index.html").write_text("mine")
    with pytest.raises(InputError, match="is not a site"):
        site.build(results, out, processes=1)
    assert (out / "index.html").read_text() == "mine"


def test_anybodys_text_is_shown_as_text_and_short(tmp_path: Path) -> None:
    content = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M")
    content["machine"]["cpu"] = content["machine"]["os"] = content["machine"]["id"] = HOSTILE
    content["engines"][0]["device_names"] = [HOSTILE]
    content["machine"]["drivers"] = {"nvidia": HOSTILE}
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps(rederived(content)))
    whole = table(store.read(path))
    page, rows = site.result_page(whole), [site.line(row) for row in whole]
    data = site.chunk_text(rows)
    for text in (page, data):
        assert "\u202e" not in text
    assert "<script>alert" not in page and "<img" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert max(len(str(value)) for row in rows for value in row.values() if isinstance(value, str)) <= site.LETTERS


def test_a_machines_page_has_a_name_of_its_own() -> None:
    assert site.path_of("machine", "rtx-4090") == "machine/rtx-4090.html"
    names = {site.path_of("machine", name) for name in ("a b", "a-b", "A b", "../../etc", "", "\u202e")}
    assert len(names) == 6
    assert all(name.startswith("machine/") and ".." not in name for name in names)


def test_the_table_of_a_device_is_what_predict_says() -> None:
    import rigbench

    device = next(each for each in site.devices() if each.id == "rtx-4090")
    text = site.prediction_table(device)
    table = json.loads(text.removeprefix("rigbenchPredict(").removesuffix(");\n"))
    row = next(row for row in table["rows"] if row[:3] == ["llama-3.1-8b", "Q4_K_M", 1])
    answer = rigbench.predictions("llama-3.1-8b", "rtx-4090", context=site.CONTEXT)[0]
    assert row[4] == pytest.approx(answer.user_tps, rel=0.005)
    assert row[5:7] == answer.inputs["user_tps_80_percent"]
