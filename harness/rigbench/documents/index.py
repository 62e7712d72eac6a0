"""Thousands of documents as one Parquet file: a row per document and case group, that pandas, DuckDB and Spark read alike.

    rigbench index results/            # results/.index.parquet, read anew only what changed
    rigbench query "SELECT machine_id, model, median(user_tps) FROM cases WHERE concurrency = 1 GROUP BY ALL"

A row is a Row (harness/rigbench/analysis/table.py: what `compare` and `regress` work on) with each metric as a column, and the
file it came from. A file whose size and time of change are those of last time is not opened again. A document that cannot be read
is a row with its `fault` and nothing else: it is named each time, and stops nothing.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from rigbench import __version__
from rigbench.analysis.definitions import registry
from rigbench.analysis.table import COLUMNS, Row, column, from_record, record
from rigbench.documents import find
from rigbench.documents.validate import REFUSED
from rigbench.documents.validate import read_rows as checked_rows
from rigbench.errors import InputError, RigbenchError, UnavailableError
from rigbench.text import printable

if TYPE_CHECKING:
    import duckdb

NAME = ".index.parquet"
CHUNK_FILES = 32
ROW_BYTES = 2**20
MEMORY = "400MB"
INT64 = 2**63
FAULT_LETTERS = 400

FILE_COLUMNS = {"file": "VARCHAR", "file_bytes": "BIGINT", "file_mtime_ns": "BIGINT", "fault": "VARCHAR"}
TYPES = {
    "str": "VARCHAR",
    "int": "BIGINT",
    "bool": "BOOLEAN",
    "tuple[str, ...]": "VARCHAR[]",
    "tuple[float | None, ...]": "DOUBLE[]",
    "dict[str, str]": "MAP(VARCHAR, VARCHAR)",
    "Samples": "MAP(VARCHAR, DOUBLE[])",
}
"""DuckDB's type for a field of Row."""

Stamp = tuple[int, int]
"""Size in bytes and time of change in nanoseconds."""


@cache
def columns() -> dict[str, str]:
    """Every column with its DuckDB type: of the file, the fields of Row, and each metric. `metrics` has a number per repetition."""
    own = {column(each.name): TYPES[str(each.type).removesuffix(" | None")] for each in COLUMNS}
    return FILE_COLUMNS | own | {each.name: "DOUBLE" for each in registry()}


def file_format() -> str:
    """Stands in the Parquet file. Of another format, or by another version (whose metrics may differ): everything is read again."""
    return f"rigbench-index-3 {__version__} {crc32(repr(columns()).encode()):08x}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an update did. `faults`: file and reason for each document that could not be read, old and new. `anew` says why an
    existing index was not used."""

    path: Path
    documents: int
    rows: int
    read: int
    unchanged: int
    removed: int
    faults: tuple[tuple[str, str], ...]
    anew: str | None = None


def update(folder: Path, path: Path | None = None, *, processes: int | None = None) -> Outcome:
    """Bring the index of `folder` (default: in it) up to date and say what was done.
    InputError if `folder` is none; UnavailableError if the index cannot be written."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}: name the one that holds the results")
    path = path or folder / NAME
    files_now = {
        file.relative_to(folder).as_posix(): (state.st_size, state.st_mtime_ns) for file, state in find.below(folder)
    }
    before, anew = _stamps(path)
    changed = sorted(name for name, stamp in files_now.items() if before.get(name) != stamp)
    removed = sorted(name for name in before if name not in files_now)
    if changed or removed or anew or not path.exists():
        stamped = [(name, files_now[name]) for name in changed]
        _write(folder, path, stamped, [*changed, *removed] if before else None, processes or os.cpu_count() or 1)
    with connect() as database:
        counts = "SELECT count(DISTINCT file) FILTER (fault IS NULL), count(case_group) FROM read_parquet(?)"
        [(documents, rows)] = database.execute(counts, [pattern(path)]).fetchall()
        question = "SELECT file, fault FROM read_parquet(?) WHERE fault IS NOT NULL ORDER BY file"
        faults = tuple(map(tuple, database.execute(question, [pattern(path)]).fetchall()))
    return Outcome(path, documents, rows, len(changed), len(files_now) - len(changed), len(removed), faults, anew)


def read_rows(path: Path, *, refused: bool = True) -> list[Row]:
    """Every row of an index, in the order of its files, of copies of a document one; with or without those of documents that do not
    hold. InputError if `path` is no index."""
    names = [name for name in columns() if name not in FILE_COLUMNS]
    # Maps of lists come out of DuckDB ten times as slowly as the text of them.
    selected = ["CAST(to_json(metrics) AS VARCHAR)" if name == "metrics" else name for name in names]
    with connect() as database:
        check(database, path)
        result = database.execute(
            f"SELECT {', '.join(selected)} FROM ({distinct(path, refused=refused)}) ORDER BY file, case_group"
        )
        rows = []
        while part := result.fetchmany(4096):
            for values in part:
                line = dict(zip(names, values, strict=True))
                rows.append(from_record(line | {"metrics": json.loads(line["metrics"])}))
    return rows


def distinct(path: Path, *, refused: bool) -> str:
    """The SQL of all rows of the index at `path`, of copies of a document one; with or without documents that do not hold."""
    holds = "" if refused else f" AND level IS DISTINCT FROM '{REFUSED}'"
    return (
        f"SELECT * FROM read_parquet({quoted(pattern(path))}) WHERE case_group IS NOT NULL{holds} "
        "QUALIFY row_number() OVER (PARTITION BY coalesce(measurement, document_id), case_group ORDER BY file) = 1"
    )


def files(path: Path) -> dict[str, str]:
    """The file of each document that holds, below the index's folder, by the document's id."""
    with connect() as database:
        check(database, path)
        lines = database.execute(f"SELECT DISTINCT document_id, file FROM ({distinct(path, refused=False)})").fetchall()
    return dict(lines)


def connect() -> duckdb.DuckDBPyConnection:
    """A database in memory that keeps to `MEMORY` and leaves no files behind."""
    import duckdb  # here: only the commands over an index need it

    return duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": "", "preserve_insertion_order": False})


def check(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """InputError if there is no index at `path`, or one of another version."""
    import duckdb

    if not path.is_file():
        raise InputError(f"no index at {path}: make one with rigbench index")
    try:
        metadata = database.execute("SELECT value FROM parquet_kv_metadata(?) WHERE key = 'rigbench'", [pattern(path)])
        formats = [bytes(value).decode("utf-8", "replace") for (value,) in metadata.fetchall()]
    except duckdb.Error as error:
        raise InputError(f"{path} is no Parquet file: make it anew with rigbench index") from error
    if formats != [file_format()]:
        made_by = formats[0] if formats else "something else"
        raise InputError(f"{path} was made by {made_by}, this is {file_format()}: make it anew with rigbench index")


def _stamps(path: Path) -> tuple[dict[str, Stamp], str | None]:
    """What the index knows of its files; nothing, and why, if it cannot be used."""
    if not path.exists():
        return {}, None
    with connect() as database:
        try:
            check(database, path)
        except InputError as error:
            return {}, str(error).split(":", maxsplit=1)[0]
        question = "SELECT DISTINCT file, file_bytes, file_mtime_ns FROM read_parquet(?)"
        known = database.execute(question, [pattern(path)])
        return {name: (size, mtime) for name, size, mtime in known.fetchall()}, None


def _write(
    folder: Path, path: Path, changed: Sequence[tuple[str, Stamp]], stale: Sequence[str] | None, processes: int
) -> None:
    """Read the `changed` files of `folder` and put their rows beside those of the index at `path`, less those of the files `stale`
    (None: of no use)."""
    import duckdb
    import pandas as pd

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".index-", dir=path.parent) as scratch, connect() as database:
            parts = _read(folder, Path(scratch), changed, processes)
            kinds = ", ".join(f"{name}: '{kind}'" for name, kind in columns().items())
            files = ", ".join(quoted(pattern(part)) for part in parts)
            sources = [
                f"SELECT * FROM read_json([{files}], columns = {{{kinds}}}, format = 'newline_delimited', "
                f"maximum_object_size = {2 * ROW_BYTES})"
            ]
            if stale is not None:
                database.register("stale", pd.DataFrame({"file": stale}, dtype="str"))
                sources.append(
                    f"SELECT {', '.join(columns())} FROM read_parquet({quoted(pattern(path))}) "
                    "WHERE file NOT IN (SELECT file FROM stale)"
                )
            whole = Path(scratch) / "whole.parquet"
            database.execute(
                f"COPY (SELECT * FROM ({' UNION ALL '.join(sources)}) ORDER BY file, case_group) TO {quoted(whole)} "
                f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{rigbench: '{file_format()}'}})"
            )
            whole.replace(path)
    except (OSError, duckdb.Error) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UnavailableError(f"cannot write the index {path}: {reason}") from error


def _read(folder: Path, scratch: Path, files: Sequence[tuple[str, Stamp]], processes: int) -> list[Path]:
    """Rows of `files` as JSON lines in one file or more of `scratch`, by as many processes as are worth their start."""
    chunks = [files[start : start + CHUNK_FILES] for start in range(0, len(files), CHUNK_FILES)] or [[]]
    outs = [scratch / f"{number}.jsonl" for number in range(len(chunks))]
    if min(processes, len(chunks)) < 2:
        for chunk, out in zip(chunks, outs, strict=True):
            _read_chunk(folder, chunk, out)
    else:
        with ProcessPoolExecutor(min(processes, len(chunks))) as pool:
            list(pool.map(_read_chunk, [folder] * len(chunks), chunks, outs))
    return outs


def _read_chunk(folder: Path, files: Sequence[tuple[str, Stamp]], out: Path) -> None:
    with out.open("wb") as lines:
        for name, (size, mtime_ns) in files:
            place = {"file": name, "file_bytes": size, "file_mtime_ns": mtime_ns}
            try:
                rows = checked_rows(folder / name)[1]
                records = [_line(place | record(row)) for row in rows] or [_line(place)]
            except Exception as error:  # whatever a hostile document brings about, the others are still wanted
                fault = f"cannot be summed up: {type(error).__name__}: {error}"
                if isinstance(error, RigbenchError):
                    fault = str(error).removeprefix(f"{folder / name}: ")
                records = [_line(place | {"fault": printable(fault[:FAULT_LETTERS])})]
            lines.writelines(records)


def _line(row: dict[str, Any]) -> bytes:
    """A row as a JSON line. ValueError for what a table cannot hold: NaN, integers above 64 bits, half characters, huge rows."""
    for name, kind in columns().items():
        value = row.get(name)
        if kind == "BIGINT" and value is not None and not -INT64 <= value < INT64:
            raise ValueError(f"{name} is out of range")
    line = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    if len(line) > ROW_BYTES:
        raise ValueError(f"a row of {len(line)} bytes; at most {ROW_BYTES} are taken")
    return line


def quoted(text: str | Path) -> str:
    """As an SQL string."""
    return "'" + str(text).replace("'", "''") + "'"


def pattern(path: Path) -> str:
    """DuckDB reads a path as a pattern; this one stands for `path` alone, whatever letters are in it."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path))
