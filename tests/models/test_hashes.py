from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from rigbench.errors import InputError
from rigbench.models import hashes
from rigbench.models.formats.gguf import read_gguf
from rigbench.models.hashes import sha256_of
from rigbench.models.shapes import shape
from rigbench.models.synthetic.gguf import write_synthetic


@pytest.fixture
def model(cache: Path, tmp_path: Path) -> Path:
    write_synthetic(shape("tiny"), "Q8_0", path := tmp_path / "m.gguf")
    return path


def test_a_small_file_is_hashed_whole_and_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = hashlib.sha256(model.read_bytes()).hexdigest()
    assert sha256_of(model) == (expected, "file")
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: hashlib.sha256(b"read again"))
    assert sha256_of(model) == (expected, "file")
    os.utime(model, ns=(1, 1))
    assert sha256_of(model) == (hashlib.sha256(b"read again").hexdigest(), "file")


def test_the_notes_name_no_path(model: Path, cache: Path) -> None:
    sha256_of(model)
    (note,) = (cache / "hashes").iterdir()
    assert str(model.parent) not in note.read_text() + note.name


def test_a_damaged_note_is_made_anew(model: Path, cache: Path) -> None:
    digest = sha256_of(model)
    (note,) = (cache / "hashes").iterdir()
    for text in ("", "[]", "null", "{}", '{"bytes": 1}'):
        note.write_text(text)
        assert sha256_of(model) == digest


def test_a_large_file_is_known_by_edges_and_table(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "FULL_UP_TO_BYTES", 1000)
    monkeypatch.setattr(hashes, "EDGE_BYTES", 500)
    content, header = bytearray(model.read_bytes()), read_gguf(model)
    table = content[header.table_start : header.data_start]
    assert sha256_of(model) == (hashlib.sha256(content[:500] + content[-500:] + table).hexdigest(), "edges")
    before = sha256_of(model)[0]
    for place, changes in (
        (len(content) // 2, False),
        (len(content) - 1, True),
        (header.data_start - 40, True),
        (30, True),
    ):
        changed = bytearray(content)
        changed[place] ^= 1
        model.write_bytes(changed)
        try:
            assert (sha256_of(model)[0] != before) is changes, place
        except InputError:
            assert changes  # so changed that it is no GGUF file any more


def test_parts_and_folders(cache: Path, tmp_path: Path) -> None:
    parts = [tmp_path / f"m-0000{index}-of-00002.gguf" for index in (1, 2)]
    for part in parts:
        part.write_bytes(part.name.encode())
    joined = "".join(hashlib.sha256(part.name.encode()).hexdigest() for part in parts)
    assert sha256_of(parts[1]) == (hashlib.sha256(joined.encode()).hexdigest(), "file")
    with pytest.raises(InputError, match=r"holds no \*\.safetensors files"):
        sha256_of(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"x")
    assert sha256_of(tmp_path) == (hashlib.sha256(b"x").hexdigest(), "file")


def test_a_file_that_is_not_there(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        sha256_of(tmp_path / "none.gguf")
