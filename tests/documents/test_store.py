"""Documents: whole or not at all, the same back, and clear words about what is not one."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from rigbench.documents import bounds, store
from rigbench.errors import InputError, UnavailableError, ValidationFailed
from rigbench.records import (
    SCHEMA_VERSION,
    Case,
    CaseResult,
    Failure,
    Machine,
    RequestRecord,
    RunDocument,
    SuiteRecord,
)
from rigbench.workloads import Generation
from rigbench_backends.base import EngineInfo


def document() -> RunDocument:
    case = Case("sim/m/w/c1/r0", "sim/m/w/c1", "sim", "m", Generation("w", "tokens", 10, 5), 1, 1, 0, 1)
    record = RequestRecord(0, 0, 10, 0, (1000, 2000, 3000, 4000, 5000))
    return store.with_id(
        RunDocument(
            schema_version=SCHEMA_VERSION,
            id="",
            rigbench_version="0.1.0",
            created_utc="2026-01-02T03:04:05Z",
            duration_s=1.5,
            suite=SuiteRecord("smoke", "1", "00", {"name": "smoke"}),
            machine=Machine(
                "box", "A CPU", 2, 4, 10**9, ({"name": "GPU", "bus": None},), "Linux", "6", "x86_64", "3.11"
            ),
            engines=(EngineInfo("sim", "1", "sim"),),
            models=(),
            bandwidth=(),
            cases=(
                CaseResult(case, 0, 0.5, 0, requests=(record,)),
                CaseResult(case, 1, 0.6, None, error=Failure("crash", 'it said "no"\n[a, b]', ("line [1,\n2]",))),
            ),
            annotations={"room_c": 21.5, "note": "[ 1,\n 2 ]"},
        )
    )


def test_what_is_written_is_read_back_the_same(tmp_path: Path) -> None:
    stored = document()
    path = store.write(stored, tmp_path)
    assert path == tmp_path / "box" / f"20260102T030405Z-smoke-{stored.id[:8]}.json"
    visible = json.loads(
        json.dumps(store.to_content(stored)).replace("\\n", "\ufffd")
    )  # no text begins another line of a table
    assert store.to_content(store.read(path)) == visible


def test_lists_of_plain_values_are_on_one_line_and_strings_are_not_touched() -> None:
    text = store.dumps(store.to_content(document()))
    assert '"unit_us": [1000, 2000, 3000, 4000, 5000]' in text
    assert json.loads(text) == store.to_content(document())


def test_the_id_is_of_the_content_and_of_nothing_else() -> None:
    stored = document()
    assert stored.id == store.content_id(store.to_content(replace(stored, id="something")))
    assert stored.id != store.content_id(store.to_content(replace(stored, duration_s=1.6)))
    shuffled = dict(reversed(list(store.to_content(stored).items())))
    assert store.content_id(shuffled) == stored.id


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")

    def no_space(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        store.write_whole(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UnavailableError, match="No space left"):
        store.write(document(), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "no schema_version"),
        ('{"schema_version": "1"}', "no schema_version"),
        ('{"schema_version": 99}', "newer than this rigbench"),
        ('{"schema_version": 1}', r"\$\.id"),
        ("[" * 100_000, "nested deeper"),
    ],
)
def test_what_is_no_document_is_said_so(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValidationFailed, match=message):
        store.read(path)


def test_a_wrong_value_is_named_by_its_place(tmp_path: Path) -> None:
    content = store.to_content(document())
    content["cases"][0]["requests"][0]["unit_us"][2] = "soon"
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValidationFailed, match=r"\$\.cases\[0\]\.requests\[0\]\.unit_us\[2\]"):
        store.read(path)


def test_a_file_that_is_not_there_is_the_users_matter(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no result at"):
        store.read(tmp_path / "none.json")


def test_a_file_too_large_to_be_a_result_is_not_even_parsed(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(bounds.MAX_BYTES + 1)
    with pytest.raises(ValidationFailed, match="at most"):
        store.read(path)


def test_the_published_schema_is_the_one_of_the_records() -> None:
    published = Path(__file__).parents[2] / "results" / f"schema-v{SCHEMA_VERSION}.json"
    assert json.loads(published.read_text()) == store.json_schema(), "stale: run scripts/export_schema.py"
