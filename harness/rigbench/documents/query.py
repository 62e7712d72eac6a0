"""One SQL question over an index, in a database that can neither read nor write any file.

The rows are loaded first; then DuckDB is locked: no files, no extensions, no Python variables, no way to switch that on
again. So a question that somebody pasted from somewhere can tell what is in the index and nothing else.

    rigbench query "SELECT machine_id, model, median(user_tps) FROM cases WHERE concurrency = 1 GROUP BY ALL"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rigbench.documents import index
from rigbench.errors import InputError
from rigbench.text import nearest

if TYPE_CHECKING:
    import duckdb

TABLE = "cases"
ROWS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """Names of the columns, and the rows as Python values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def columns() -> tuple[str, ...]:
    """The columns of the table `cases`."""
    return tuple(name for name in index.columns() if name not in ("file_bytes", "file_mtime_ns", "fault"))


def ask(path: Path, question: str) -> Answer:
    """The answer to `question` (one SELECT) over the table `cases` of the index at `path`. InputError says what is wrong in it."""
    import duckdb

    with index.connect() as database:
        index.check(database, path)
        database.execute(
            f"CREATE TABLE {TABLE} AS SELECT {', '.join(columns())} FROM read_parquet(?) WHERE case_group IS NOT NULL",
            [index.pattern(path)],
        )
        for setting in (
            "python_enable_replacements = false",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            database.execute(f"SET {setting}")
        try:
            statements = database.extract_statements(question)
            # EXPLAIN ANALYZE of an INSERT would do it; there is nothing to do it to, but nobody need wonder.
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise InputError(f"write one question (SELECT … FROM {TABLE}): the index is only read")
            result = database.execute(statements[0])
            lines = result.fetchmany(ROWS_MAX + 1)
        except duckdb.Error as error:
            raise InputError(_sentence(error)) from error
        if len(lines) > ROWS_MAX:
            raise InputError(f"more than {ROWS_MAX} rows: add a LIMIT")
        return Answer(tuple(column[0] for column in result.description), tuple(map(tuple, lines)))


def _sentence(error: duckdb.Error) -> str:
    """What DuckDB says, and the columns there are if it is about one that is not."""
    sentence = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
    if "permission" in sentence.lower() or "disabled" in sentence.lower():
        return f"a question reads the table {TABLE} and no file: {sentence}"
    unknown = re.search(r'column(?: named)? "([^"]+)"', sentence)
    if unknown is None:
        return f"SQL: {sentence}; the table is {TABLE}, and `describe {TABLE}` lists its columns"
    near = nearest(unknown[1].rpartition(".")[2], columns())
    hint = f"did you mean {near}? " if near else ""
    return f"SQL: no column {unknown[1]!r}; {hint}`describe {TABLE}` lists the columns"
