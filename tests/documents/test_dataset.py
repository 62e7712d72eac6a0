"""What others can query: rows.parquet with its schema, its licence and its card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest

from device_documents import device_document
from rigbench.documents import dataset, index


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The index of one honest document that is there twice, and of one with a changed number."""
    results = tmp_path / "results"
    results.mkdir()
    content = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M")
    (results / "a.json").write_text(json.dumps(content))
    shutil.copy(results / "a.json", results / "b.json")
    content["duration_s"] += 1
    (results / "0-forged.json").write_text(json.dumps(content))
    return index.update(results, processes=1).path


def test_the_honest_copy_counts_once_and_the_changed_one_not_at_all(path: Path, tmp_path: Path) -> None:
    dataset.write(path, tmp_path)
    rows = duckdb.sql(f"SELECT level, concurrency, user_tps FROM '{tmp_path}/rows.parquet' ORDER BY 2").fetchall()
    assert [row[:2] for row in rows] == [("complete", 1), ("complete", 4)]
    assert all(row[2] > 0 for row in rows)
    assert list(index.files(path).values()) == ["a.json"]


def test_the_schema_names_every_column_in_its_order_with_type_unit_and_meaning(path: Path, tmp_path: Path) -> None:
    dataset.write(path, tmp_path)
    described = duckdb.sql(f"DESCRIBE SELECT * FROM '{tmp_path}/rows.parquet'").fetchall()
    schema = json.loads((tmp_path / "rows.schema.json").read_text())["columns"]
    assert [(each["name"], each["type"]) for each in schema] == [(name, kind) for name, kind, *_ in described]
    assert all(each["meaning"] for each in schema)
    assert "file" not in {each["name"] for each in schema}, "where the results lie is nobody's business"


def test_the_card_has_the_licence_and_a_line_for_each_column(path: Path, tmp_path: Path) -> None:
    dataset.write(path, tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert "2 rows of 1 results" in card
    assert all(f"| {each['name']} |" in card for each in dataset.columns())
