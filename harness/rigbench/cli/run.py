"""`rigbench run`: a suite is measured, and leaves its result document."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from rigbench.cli.options import (
    BACKEND,
    INTERRUPTED,
    MODEL,
    OPTION,
    PYTHON,
    SERVER,
    WALL_METER,
    WALL_PATH,
    WALL_UNIT,
    WALL_URL,
    engine_options,
    say,
)
from rigbench.cli.progress import Progress, Reporter
from rigbench.errors import InputError, UnavailableError


def command(
    suite: str | None = typer.Argument(None, help="A suite's name (`rigbench run` lists them) or file."),
    backend: str | None = BACKEND,
    model: str | None = MODEL,
    python: str | None = PYTHON,
    server: str | None = SERVER,
    option: list[str] = OPTION,
    out: Path = typer.Option(Path("results"), "-o", "--out", help="Folder for the result."),
    resume: Path | None = typer.Option(None, "--resume", help="Take up the journal of a run that was ended early."),
    telemetry: bool = typer.Option(True, "--telemetry/--no-telemetry", help="Read power, memory and clocks meanwhile."),
    wall_url: str | None = WALL_URL,
    wall_meter: str = WALL_METER,
    wall_path: str | None = WALL_PATH,
    wall_unit: str = WALL_UNIT,
    replay: str | None = typer.Option(None, "--replay", help="Take recorded readings from this file (for tests)."),
    strict: bool = typer.Option(False, "--strict", help="End with exit code 3 if any case failed."),
) -> None:
    """Run a suite live and leave a result document; its path is the last line: `result: PATH`."""
    from rigbench.analysis.table import table as rows_of
    from rigbench.report import table
    from rigbench.report.plan import print_plan
    from rigbench.run import journal, processes, runner, start
    from rigbench.telemetry import open_sources
    from rigbench.telemetry.base import SourceOptions

    processes.interrupt_on_terminate()
    sources = open_sources(
        SourceOptions(
            telemetry=telemetry,
            wall_url=wall_url,
            wall_preset=wall_meter,
            wall_path=wall_path,
            wall_unit=wall_unit,
            replay=replay,
        )
    )
    backend, options = engine_options(server, backend, option)
    if resume is not None:
        if backend or model or python or options:
            raise InputError("a resumed run keeps its engines: leave --backend, --model, --python and --option out")
        work = start.resume(resume, suite, say=say, progress=Progress())
        folder = resume.parent.parent
    elif suite is not None:
        prepared = start.prepare(suite, backend, model, python, options, fetch=True, say=say, progress=Progress())
        work = start.begin(prepared, out)
        folder = out
        print_plan(table.error_console(), work.plan, brief=True)
    else:
        if not sys.stderr.isatty():
            raise InputError("name a suite (`rigbench run` on a terminal lists them), or --resume a journal")
        typer.echo(_what_to_run(), err=True)
        raise typer.Exit(InputError.exit_code)
    work.sources = sources
    work.report = Reporter(work.total, len(work.done))
    ended = ""
    exit_code = 0
    try:
        runner.execute(work)
    except KeyboardInterrupt:
        ended, exit_code = "interrupted", INTERRUPTED
    except journal.DiskFull as error:
        ended, exit_code = str(error), error.exit_code
    try:
        finished = start.finish(work, folder, complete=not ended)
    finally:
        if ended and work.done:
            path = work.journal.path
            say(f"{ended}: {len(work.done)} of {work.total} cases are saved; go on: rigbench run --resume {path}")
    if finished is None:
        say(f"{ended}: no case was finished, nothing to save")
        raise typer.Exit(exit_code)
    document, written = finished
    table.print_rows(table.output_console(), rows_of(document))
    failed = [result.error for result in document.cases if result.error and result.error.kind != "skipped"]
    if failed:
        say(f"{len(failed)} of {len(document.cases)} cases failed; the first: {failed[0]}")
    typer.echo(f"result: {written}")
    if not any(result.requests for result in document.cases):
        exit_code = exit_code or UnavailableError.exit_code
        say("nothing was measured")
    elif failed and strict:
        exit_code = exit_code or UnavailableError.exit_code
    if exit_code:
        raise typer.Exit(exit_code)


def _what_to_run() -> str:
    """For `rigbench run` with nothing to run: the suites by name, each with what it is, and three commands to try."""
    from rigbench.suites.suite import load_suite, suite_files

    suites = [f"  {name:11} {load_suite(name).about}" for name in suite_files()]
    return "\n".join(
        [
            "This would measure a suite on an engine of this machine. The suites:",
            *suites,
            "Try:",
            "  rigbench run quickstart                     a small synthetic model, made here: a first result",
            "  rigbench run quickstart -m my-model.gguf    the same with a model of yours",
            "  rigbench plan standard -m my-model.gguf     what a thorough run would do, and how long it takes",
        ]
    )
