"""rigbench in a notebook or a program: results as tables of pandas, comparisons, measurements and predictions.

    import rigbench
    rigbench.load("results/…/….json").frame()[["model", "concurrency", "user_tps", "ceiling_tps"]]

Each name here is one of the package's: `rigbench.load` is `rigbench.api.load`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rigbench.analysis.compare import Comparison
from rigbench.analysis.definitions import registry
from rigbench.analysis.requests import request_metrics
from rigbench.analysis.table import Row, record, table
from rigbench.errors import UnavailableError
from rigbench.records import Prediction, RunDocument

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Result", "compare", "frame", "load", "measure", "predictions"]

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Result:
    """One result: its document (every raw record, see rigbench.records) and the file that it came from."""

    document: RunDocument
    path: Path

    @cached_property
    def rows(self) -> list[Row]:
        """One row per case group (engine, model, workload, users), every number computed from the raw records. `row["user_tps"]`
        is a number, `row.interval("user_tps")` its interval, `row.reasons` says why a number is None."""
        return table(self.document)

    def frame(self) -> pd.DataFrame:
        """The rows as a table: what was measured on what, then a column for each metric, in the unit that `rigbench metrics`
        prints (seconds, bytes, joules, tokens per second). What is unknown is NaN."""
        return _frame(self.rows)

    def requests_frame(self) -> pd.DataFrame:
        """One row per measured request: its case, user and repetition, seconds from the case's start to its submission
        (`submit_s`), its own times in seconds, and its tokens."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "group": result.case.group,
                    "repetition": result.case.repetition,
                    "user": request.user,
                    "index": request.index,
                    "prompt_tokens": request.prompt_tokens,
                    "submit_s": request.submit_us / 1e6,
                    "ttft_s": numbers.ttft_s,
                    "tpot_s": numbers.tpot_s,
                    "latency_s": numbers.latency_s,
                    "decode_tps": numbers.decode_tps,
                    "output_tokens": numbers.output_tokens,
                    "cached_tokens": request.cached_tokens,
                    "error": request.error,
                }
                for result in self.document.cases
                for request in result.requests
                for numbers in [request_metrics(request)]
            ]
        )


def load(path: str | Path) -> Result:
    """A result document. InputError if there is none at `path`, or if it cannot be read."""
    from rigbench.documents import store

    return Result(store.read(Path(path)), Path(path))


def frame(paths: Paths) -> pd.DataFrame:
    """The rows of many results as one table, as Result.frame. `paths`: files, or folders of them. For thousands of results,
    `rigbench index` is faster. InputError for what is not a result."""
    return _frame(_rows(paths))


def compare(
    base: Paths | Result, new: Paths | Result, metrics: Sequence[str] | None = None, history: Paths | None = None
) -> Comparison:
    """How much faster or slower `new` is than `base`, case by case, and how sure: results, files, or folders of them.

    `pandas.DataFrame(comparison.cells)` is the table; `metrics` and `history` as `rigbench compare --metric --history`.
    """
    from rigbench.analysis import compare as comparing

    return comparing.compare(_rows(base), _rows(new), metrics, [] if history is None else _rows(history))


def measure(
    suite: str,
    *,
    backend: str | None = None,
    model: str | None = None,
    python: str | None = None,
    options: dict[str, Any] | None = None,
    out: str | Path = "results",
    telemetry: bool = True,
) -> Result:
    """Run a suite live, as `rigbench run`, and write its document into the folder `out`.

    InputError for what is written wrong, UnavailableError where the engine or the machine cannot. Ended early (Ctrl-C), the journal
    in `out` keeps the cases that are done: `rigbench run --resume` goes on.
    """
    from rigbench.run import runner, selection, start
    from rigbench.suites.suite import load_suite
    from rigbench.telemetry import open_sources
    from rigbench.telemetry.base import SourceOptions

    part = load_suite(suite)
    words = [f"{name}={json.dumps(value)}" for name, value in (options or {}).items()]
    parts = selection.engines_of(part, [backend] if backend else [], [model] if model else [], python, words)
    prepared = start.prepare(part, parts, fetch=True, say=lambda text: None)
    run = start.begin(prepared, Path(out))
    run.sources = open_sources(SourceOptions(telemetry=telemetry))
    runner.execute(run)
    done = start.finish(run, Path(out), complete=True)
    if done is None:
        raise UnavailableError(f"the suite {suite} has no case that can be run here: see rigbench plan {suite}")
    return Result(*done)


def predictions(
    model: str,
    hardware: str | None = None,
    *,
    quant: str = "Q4_K_M",
    users: int = 1,
    context: int = 4096,
    backend: str = "",
    kv_bits: float = 16,
    bandwidth_gb_per_s: float | None = None,
) -> list[Prediction]:
    """What a model should do on a catalogued device (this machine without one), as `rigbench predict`: the roofline's answer first,
    then the simpler rules. Tokens per second; None with a reason where it does not fit. InputError for unknown names."""
    from rigbench.cli.predict import predictions as predicted

    return predicted(hardware, model, quant, users, context, backend, False, kv_bits, bandwidth_gb_per_s, None)[3]


def _rows(what: Paths | Result) -> list[Row]:
    from rigbench.documents import store
    from rigbench.documents.find import result_files

    if isinstance(what, Result):
        return what.rows
    paths = [what] if isinstance(what, str | Path) else what
    return [row for path in result_files([Path(each) for each in paths]) for row in table(store.read(path))]


def _frame(rows: Sequence[Row]) -> pd.DataFrame:
    import pandas as pd

    lines = pd.DataFrame([record(row) for row in rows]).drop(columns="metrics", errors="ignore")
    return lines.astype({metric.name: "float64" for metric in registry() if metric.name in lines})
