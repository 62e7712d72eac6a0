"""`rigbench bisect`: which version of an engine made it slower."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rigbench.cli.measure import TRUST_SUITE, must_be_trusted
from rigbench.cli.options import INTERRUPTED, JSON, number, one_of, say, say_json
from rigbench.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from rigbench.analysis.table import Row
    from rigbench.run.bisect import Culprit


def command(
    suite: str = typer.Option(help="The suite to run: a shipped one's name, or a file."),
    good: str = typer.Option(help="The earlier, fast version as pip requirement: llama-cpp-python==0.3.30"),
    bad: str = typer.Option(help="The later, slow one: llama-cpp-python==0.3.36"),
    candidates: str | None = typer.Option(None, help="Versions between, with commas (default: all that pip finds)."),
    backend: str | None = typer.Option(None, "--backend", "-b", help="Run the suite on this backend."),
    model: str | None = typer.Option(None, "--model", "-m", help="Run the suite on this model."),
    option: list[str] = typer.Option([], "--option", "-O", help="An option of the engine: -O threads=4."),
    metric: list[str] = typer.Option(["user_tps"], "--metric", help="What may have become worse. May be repeated."),
    runs: int = number(3, "--runs", "How often the suite runs with each version.", 1, 100, whole=True),
    more: list[str] = typer.Option([], "--with", help="Another requirement for each environment. May be repeated."),
    pip: list[str] = typer.Option([], "--pip-arg", help="Passed on to pip: --pip-arg=--pre. May be repeated."),
    python: str | None = typer.Option(None, "--python", help="The interpreter to make the environments with."),
    out: Path = typer.Option(Path("bisect"), "-o", "--out", help="Folder for the results; kept, to be taken up again."),
    trust_suite: bool = TRUST_SUITE,
    as_json: bool = JSON,
) -> None:
    """Find the first version of an engine that is slower: an environment and the suite for each, halving."""
    from rigbench.analysis.definitions import comparable
    from rigbench.paths import slug
    from rigbench.run import bisect as bisecting
    from rigbench.run import processes, selection
    from rigbench.suites.suite import load_suite, suite_record

    metric = [one_of("--metric", name, comparable()) for name in metric]
    loaded = load_suite(suite)
    if not trust_suite:
        must_be_trusted(suite, loaded.engine)
    selection.engines_of(loaded, [backend] if backend else [], [model] if model else [], None, option)
    (package, first), (other, last) = bisecting.pinned(good), bisecting.pinned(bad)
    if package != other:
        raise InputError(f"--good is of {package} and --bad of {other}: two versions of one package are needed")
    base = processes.find_python(python)
    named = candidates.split(",") if candidates else None
    versions_given = named or bisecting.available(package, base, pip)
    versions = bisecting.between(
        [bisecting.pinned(f"{package}=={text.strip()}")[1] for text in versions_given], first, last
    )
    say(f"{package}: {len(versions)} versions from {first} to {last}")
    key = json.dumps([suite_record(loaded).sha256, backend, model, list(option), base, list(pip), list(more)])
    folder = out / f"{slug(package)}-{slug(suite)}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    words = [suite, *_words("--backend", backend), *_words("--model", model)]
    words += [word for text in option for word in ("--option", text)]

    def measure(version: str, again: bool) -> list[Row]:
        interpreter = bisecting.environment(package, version, base, pip, more)
        return _measured(
            folder / slug(version), [*words, "--python", str(interpreter)], runs * (2 if again else 1), version
        )

    try:
        result = bisecting.search(versions, measure, metric, say)
    except bisecting.CannotMeasure as error:
        raise UnavailableError(f"one of the two ends cannot be measured: {error}") from error
    if as_json:
        say_json(result)
    else:
        _print(result, package, last)


def _measured(folder: Path, words: Sequence[str], runs: int, version: str) -> list[Row]:
    """The rows of `runs` documents in `folder`, together; the suite runs for those that are not there yet."""
    from rigbench.analysis.table import table
    from rigbench.documents import store
    from rigbench.run import processes
    from rigbench.run.bisect import CannotMeasure

    for _ in range(runs):
        done = _finished(folder)
        if len(done) >= runs:
            break
        say(f"{version}: run {len(done) + 1} of {runs}")
        begun = next(iter(sorted(folder.glob("*/*.journal"))), None)
        what = ["--resume", str(begun)] if begun else [*words, "--out", str(folder)]
        ended = processes.rigbench(["run", *what, "--trust-suite"])
        if ended.code == INTERRUPTED:
            raise KeyboardInterrupt
        if ended.code:
            raise CannotMeasure(f"the suite did not run (exit code {ended.code}); what it said stands above")
    rows = [row for path in _finished(folder)[:runs] for row in table(store.read(path))]
    if not any(row.samples for row in rows):
        raise CannotMeasure(next((row.error for row in rows if row.error), "nothing was measured"))
    return rows


def _finished(folder: Path) -> list[Path]:
    from rigbench.documents import store

    return [path for path in sorted(folder.glob("*/*.json")) if store.read(path).complete]


def _words(name: str, value: str | None) -> list[str]:
    return [] if value is None else [name, value]


def _print(result: Culprit, package: str, last: str) -> None:
    if result.bad is None:
        typer.echo(f"{package} {last} is not slower than {result.good}, as far as these runs can tell")
        return
    for trial in result.trials:
        figures = f"{trial.ratio:.3f}" if trial.ratio is not None else "-"
        if trial.low is not None and trial.high is not None:
            figures += f" ({trial.low:.3f} to {trial.high:.3f})"
        typer.echo(f"{trial.version:<14} {trial.state:<8} {figures}{f'  {trial.reason}' if trial.reason else ''}")
    typer.echo(f"{result.metric} of {result.group}, as a ratio to {result.trials[0].version}")
    if result.between:
        left = ", ".join(result.between)
        typer.echo(
            f"slower since {result.bad} or one of those that could not be judged: {left}; {result.good} was still good"
        )
    else:
        typer.echo(f"first slower version: {package} {result.bad} (the one before, {result.good}, was still good)")
