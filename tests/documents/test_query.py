"""A question can tell what is in the index, and can neither reach a file nor change anything."""

import json
from pathlib import Path

import pytest

from rigbench.documents import index, query
from rigbench.errors import InputError

V1 = Path(__file__).parent / "v1.json"
SECRET = "nobody's business"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    (folder / "box").mkdir()
    (folder / "box" / "a.json").write_text(V1.read_text())
    (folder / "secret.csv").write_text(f"a\n{SECRET}\n")
    return index.update(folder, processes=1).path


def test_a_question_is_answered(table: Path) -> None:
    cases = {(c["case"]["concurrency"], c["case"]["workload"]) for c in json.loads(V1.read_text())["cases"]}
    result = query.ask(table, "SELECT DISTINCT concurrency, workload FROM cases;")
    assert result.columns == ("concurrency", "workload")
    assert set(result.rows) == cases


@pytest.mark.parametrize(
    "question",
    [
        "SELECT * FROM read_csv('{folder}/secret.csv')",
        "SELECT * FROM '{folder}/secret.csv'",
        "SELECT * FROM read_text('{folder}/secret.csv')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_parquet('{folder}/.index.parquet')",
        "SELECT * FROM table_of_this_test",
        "COPY cases TO '{folder}/new.csv'",
        "ATTACH '{folder}/new.db'",
        "EXPORT DATABASE '{folder}/new'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET temp_directory = '{folder}'",
        "PRAGMA enable_profiling",
        "DROP TABLE cases",
        "UPDATE cases SET model = 'x'",
        "CREATE TABLE new AS SELECT 1",
        "SELECT 1; DROP TABLE cases",
        "SELECT 1; SELECT 2",
        "",
        "EXPLAIN ANALYZE COPY cases TO '{folder}/new.csv'",
    ],
)
def test_only_the_table_is_reached(table: Path, question: str) -> None:
    import pandas as pd

    table_of_this_test = pd.DataFrame({"a": [SECRET]})  # DuckDB would look for a variable of that name
    assert len(table_of_this_test) == 1
    before = sorted(table.parent.iterdir())
    with pytest.raises(InputError) as caught:
        query.ask(table, question.format(folder=table.parent))
    assert SECRET not in str(caught.value)
    assert sorted(table.parent.iterdir()) == before
    assert "\n" not in str(caught.value)


def test_a_wrong_column_is_told_with_the_right_ones(table: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'usr_tps'; did you mean user_tps\? `describe cases`"):
        query.ask(table, "SELECT usr_tps FROM cases")
    with pytest.raises(InputError, match=r"the table is cases, and `describe cases` lists its columns"):
        query.ask(table, "SELECT user_tps FROM runs")


def test_lists_and_maps_come_as_such(table: Path) -> None:
    ((metrics, flags),) = query.ask(table, "SELECT metrics, flags FROM cases ORDER BY concurrency LIMIT 1").rows
    assert isinstance(metrics["user_tps"], list)
    assert isinstance(flags, list)
