"""Other tools' forms: the numbers are ours, the form is theirs, and no text of a document becomes markup, formula or SQL."""

import csv
import io
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from rigbench.analysis.table import table
from rigbench.documents import store
from rigbench.documents.exchange import export
from rigbench.records import RunDocument

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def document() -> RunDocument:
    return store.read(HERE / "v1.json")


def renamed(document: RunDocument, name: str) -> RunDocument:
    """The document with another model name everywhere."""
    cases = tuple(replace(one, case=replace(one.case, model=name)) for one in document.cases)
    return replace(document, cases=cases, models=tuple(replace(one, name=name) for one in document.models))


def test_csv_has_a_line_per_group_with_its_numbers(document: RunDocument) -> None:
    lines = list(csv.DictReader(io.StringIO(export.csv_text([document, document]))))
    expected = table(document)
    assert [line["case_group"] for line in lines] == [sample.group for sample in expected] * 2
    for line, sample in zip(lines, expected, strict=False):
        assert json.loads(line["metrics"]) == {name: list(values) for name, values in sample.samples.items()}
        assert (line["user_tps"] == "") == ("user_tps" not in sample.samples)  # missing is empty, never 0


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x")', "+1", "@SUM(A1)", "-1", "\t=1"])
def test_a_name_is_no_formula(document: RunDocument, name: str) -> None:
    lines = list(csv.DictReader(io.StringIO(export.csv_text([renamed(document, name)]))))
    assert all(line["model"].startswith("'") for line in lines)


def test_a_name_is_no_markdown(document: RunDocument) -> None:
    text = export.markdown([renamed(document, "a|b\n# c <img src=x> [d](e) `f` \x1b[31m")])
    rows = [line for line in text.splitlines() if line.startswith("| a")]
    assert len(rows) == len(table(document))
    assert all(r"a\|b \# c \<img src=x\> \[d\](e) \`f\`" in row for row in rows)
    assert "\x1b" not in text


def test_llama_bench_json_has_its_fields_in_its_order(document: RunDocument) -> None:
    real = json.loads((HERE / "llama_bench.json").read_text())
    entries, left = export.llama_bench([document])
    exported = json.loads(export.llama_bench_json(entries))
    assert all(list(entry) == list(real[0]) for entry in exported)
    for entry in exported:
        for name, value in real[0].items():
            assert type(entry[name]) is type(value), name
    sample = next(one for one in table(document) if one.samples)
    prompt, decode = exported[:2]
    assert (prompt["n_prompt"], prompt["n_gen"], prompt["n_depth"]) == (sample.prompt_tokens, 0, 0)
    assert (decode["n_prompt"], decode["n_gen"], decode["n_depth"]) == (0, sample.output_tokens, sample.prompt_tokens)
    assert prompt["samples_ts"] == list(sample.samples["prefill_tps"])
    assert decode["samples_ts"] == list(sample.samples["user_tps"])
    assert decode["samples_ns"] == [round(sample.output_tokens / rate * 1e9) for rate in decode["samples_ts"]]
    assert [line.split(": ")[0] for line in left] == [one.group for one in table(document) if not one.samples]


def test_several_users_have_no_place_in_llama_bench(document: RunDocument) -> None:
    cases = tuple(replace(one, case=replace(one.case, concurrency=4)) for one in document.cases)
    entries, left = export.llama_bench([replace(document, cases=cases)])
    assert entries == []
    assert all("4 users" in line for line in left)


def test_llama_bench_sql_makes_its_table(document: RunDocument) -> None:
    real = (HERE / "llama_bench.sql").read_text().split("INSERT")[0].split()
    name = "x'); DROP TABLE llama_bench; --"
    entries, _ = export.llama_bench([renamed(document, name)])
    text = export.llama_bench_sql(entries)
    assert text.split("INSERT")[0].split() == real
    database = sqlite3.connect(":memory:")
    database.executescript(text)
    selected = database.execute(
        "SELECT model_filename, n_gen, avg_ts, cpu_strict FROM llama_bench ORDER BY rowid"
    ).fetchall()
    assert selected == [(name, entry["n_gen"], pytest.approx(entry["avg_ts"]), 0) for entry in entries]
