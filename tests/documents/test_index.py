"""The index: what is in it is what the documents say, only what changed is read, and no document can stop it or the others."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from rigbench.analysis.definitions import METRICS
from rigbench.analysis.table import table
from rigbench.documents import index, query, store
from rigbench.errors import InputError, UnavailableError

V1 = Path(__file__).parent / "v1.json"


def put(folder: Path, number: int, **changes: Any) -> Path:
    content = json.loads(V1.read_text()) | changes
    content["machine"] = content["machine"] | {"id": f"box-{number}"}
    for result in content["cases"]:
        for record in result["requests"]:
            record["token_us"][-1] += number  # another measurement, not a copy
    content["id"] = store.content_id(content)
    path = folder / f"box-{number}" / f"{number}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "it's [a] *folder?"  # each of these letters means something to SQL or to a pattern of files
    for number in range(3):
        put(folder, number)
    return folder


def answer(folder: Path, question: str) -> list[tuple[Any, ...]]:
    return list(query.ask(folder / index.NAME, question).rows)


def test_a_row_is_what_the_document_says(results: Path) -> None:
    done = index.update(results, processes=1)
    assert (done.documents, done.read, done.unchanged, done.removed, done.faults) == (3, 3, 0, 0, ())
    documents = [store.read(results / f"box-{number}" / f"{number}.json") for number in range(3)]
    details = {"phase_joules": {}, "percentiles": {}, "evidence": {}, "reasons": {}}
    expected = [
        replace(row, level="refused", **details)
        for document in documents
        for row in sorted(table(document), key=lambda row: row.group)
    ]
    assert index.read_rows(results / index.NAME) == expected
    assert done.rows == len(expected)


def test_a_copy_of_a_document_is_no_second_run(results: Path) -> None:
    index.update(results, processes=1)
    before = index.read_rows(results / index.NAME)
    (results / "zz-copy.json").write_bytes((results / "box-1" / "1.json").read_bytes())
    assert index.update(results, processes=1).documents == 4
    assert index.read_rows(results / index.NAME) == before


def test_a_copy_with_other_words_is_no_second_run_either(results: Path) -> None:
    """Whoever annotates a result, or calls the machine otherwise, has not measured again."""
    index.update(results, processes=1)
    before = index.read_rows(results / index.NAME)
    content = json.loads((results / "box-1" / "1.json").read_text())
    content["annotations"] = {"room_c": 21}
    content["id"] = store.content_id(content)
    (results / "zz-copy.json").write_text(json.dumps(content))
    index.update(results, processes=1)
    assert index.read_rows(results / index.NAME) == before


def test_the_level_of_a_document_is_a_column(results: Path) -> None:
    (results / "v1.json").write_bytes(V1.read_bytes())
    index.update(results, processes=1)
    answer_rows = answer(results, "SELECT DISTINCT file, level FROM cases ORDER BY file")
    assert answer_rows == [*((f"box-{n}/{n}.json", "refused") for n in range(3)), ("v1.json", "complete")]


def test_each_metric_is_a_column_with_the_number_of_the_row(results: Path) -> None:
    index.update(results, processes=1)
    names = [metric.name for metric in METRICS]
    sql = f"SELECT {', '.join(names)} FROM cases WHERE machine_id = 'box-1' ORDER BY case_group"
    rows = sorted(table(store.read(results / "box-1" / "1.json")), key=lambda row: row.group)
    assert answer(results, sql) == [tuple(row[name] for name in names) for row in rows]
    assert rows[0]["user_tps"]


def test_what_did_not_change_is_not_opened(results: Path) -> None:
    index.update(results, processes=1)
    path = results / "box-1" / "1.json"
    stat = path.stat()
    path.write_bytes(b"x" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    before = (results / index.NAME).stat().st_mtime_ns
    done = index.update(results, processes=1)
    assert (done.read, done.unchanged, done.documents, done.faults) == (0, 3, 3, ())
    assert (results / index.NAME).stat().st_mtime_ns == before


def test_changed_new_and_removed_files(results: Path) -> None:
    index.update(results, processes=1)
    changed = put(results, 1, created_utc="2031-01-01T00:00:00Z")
    os.utime(changed, ns=(1, 1))
    put(results, 7)
    (results / "box-0" / "0.json").unlink()
    done = index.update(results, processes=1)
    assert (done.read, done.unchanged, done.removed, done.documents) == (2, 1, 1, 3)
    answer_rows = answer(results, "SELECT DISTINCT machine_id, created_utc[:4] FROM cases ORDER BY 1")
    year = json.loads(V1.read_text())["created_utc"][:4]
    assert answer_rows == [("box-1", "2031"), ("box-2", year), ("box-7", year)]


def hostile(name: str) -> bytes:
    """One document of which a row cannot, or must not, be made."""
    content = json.loads(V1.read_text())
    case = content["cases"][1]["case"]
    if name == "not json":
        return b"{"
    if name == "not a document":
        return b"[]"
    if name == "deep":
        return b'{"schema_version": 1, "annotations": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    if name == "many lists":
        return b'{"annotations": [' + b"[]," * 300_000 + b"[]]}"
    if name == "huge integer":
        case["prompt_tokens"] = 10**30
    if name == "beyond 64 bits":
        case["prompt_tokens"] = 2**63
    if name == "infinite rate":
        content["cases"][0]["host_memory"] = {"rss_peak_bytes": 1}
        content["predictions"][0]["ceiling_user_tps"] = float("inf")
    if name == "half a letter":
        return json.dumps(content).replace('"workload": "', '"workload": "\\ud800').encode()
    if name == "markup":
        content["engines"][0]["version"] = "<script>"
    if name == "home folder":
        content["annotations"] = {"model": "/home/ada/a.gguf"}
    if name == "newer":
        content["schema_version"] = 99
    if name == "columns that do not fit":
        content["cases"][1]["requests"][0]["chunk_units"] = [1]
    if name == "long name":
        case["group"] = "x" * 2_000_000
    if name == "bytes":
        return b"\xff\xfe\x00"
    return json.dumps(content).encode()


def test_a_broken_document_is_told_and_stops_nothing(results: Path) -> None:
    names = [
        "not json",
        "not a document",
        "deep",
        "many lists",
        "huge integer",
        "beyond 64 bits",
        "infinite rate",
        "newer",
        "columns that do not fit",
        "long name",
        "bytes",
    ]
    for name in names:
        (results / f"{name}.json").write_bytes(hostile(name))
    for read in (3 + len(names), 0):  # they are told again when they were not read again
        done = index.update(results, processes=1)
        assert (done.documents, done.read) == (3, read)
        assert [file for file, _ in done.faults] == sorted(f"{name}.json" for name in names)
        assert all(reason.isprintable() and len(reason) <= 400 for _, reason in done.faults)
    assert len(answer(results, "SELECT DISTINCT machine_id FROM cases")) == 3


def test_odd_texts_are_read_as_store_reads_them(results: Path) -> None:
    """`validate` and `submit` refuse them; whoever has one may still look at it, with the control characters taken out."""
    names = ("half a letter", "markup", "home folder")
    for name in names:
        (results / f"{name}.json").write_bytes(hostile(name))
    done = index.update(results, processes=1)
    assert (done.documents, done.faults) == (3 + len(names), ())


def test_hidden_files_links_and_the_schema_are_left_alone(results: Path, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", 5)
    (results / "link.json").symlink_to(outside)
    (results / "linked").symlink_to(outside.parent, target_is_directory=True)
    (results / "schema-v1.json").write_text("{}")
    (results / ".hidden.json").write_text("{}")
    (results / ".git").mkdir()
    (results / ".git" / "a.json").write_text("{}")
    done = index.update(results, processes=1)
    assert (done.documents, done.read, done.faults) == (3, 3, ())


def test_an_index_that_cannot_be_used_is_made_anew(results: Path) -> None:
    path = results / index.NAME
    path.write_text("no Parquet")
    done = index.update(results, processes=1)
    assert done.anew is not None
    assert (done.read, done.documents) == (3, 3)
    duckdb.connect().execute(
        f"COPY (SELECT 1 AS a) TO '{str(path).replace(chr(39), chr(39) * 2)}' (FORMAT parquet, KV_METADATA {{rigbench: 'old'}})"
    )
    with pytest.raises(InputError, match="made by old"):
        index.read_rows(path)
    done = index.update(results, processes=1)
    assert done.anew is not None
    assert done.read == 3
    assert index.update(results, processes=1).anew is None


def test_several_processes_find_the_same(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = index.update(results, results / "one.parquet", processes=1)
    monkeypatch.setattr(index, "CHUNK_FILES", 1)
    several = index.update(results, results / "two.parquet", processes=2)
    assert several.rows == alone.rows
    assert index.read_rows(several.path) == index.read_rows(alone.path)
    assert not list(results.glob(".index-*"))


def test_no_results_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        index.update(tmp_path / "nowhere")
    done = index.update(tmp_path)
    assert (done.documents, done.rows) == (0, 0)
    assert index.read_rows(done.path) == []
    with pytest.raises(InputError, match="no index"):
        index.read_rows(tmp_path / "none.parquet")


def test_an_index_that_cannot_be_written(results: Path) -> None:
    (results / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot write"):
        index.update(results, results / "file" / "index.parquet", processes=1)
