"""`rigbench run`: a suite is measured, and leaves its result document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from rigbench.cli.measure import Ask, EngineFlags, must_be_trusted, settings
from rigbench.cli.options import INTERRUPTED, Wall, grouped, must_answer, number, say
from rigbench.cli.progress import Progress, Reporter
from rigbench.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from rigbench.run.runner import Run


@grouped
def command(
    context: typer.Context,
    ask: Ask,
    flags: EngineFlags,
    wall: Wall,
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder for the result.  [default: results]"),
    resume: Path | None = typer.Option(None, "--resume", help="Take up the journal of a run that was ended early."),
    telemetry: bool = typer.Option(True, "--telemetry/--no-telemetry", help="Read power, memory and clocks meanwhile."),
    replay: str | None = typer.Option(None, "--replay", help="Take recorded readings from this file (for tests)."),
    report: bool = typer.Option(
        False, "--report", help="Make a page of the result beside it, as `rigbench report` does."
    ),
    runs: int = number(1, "--runs", "So many runs, a fresh worker each.", 1, 100, whole=True),
    against: str | None = typer.Option(
        None,
        "--against",
        help='Other options, as one text ("-fa on"): run in turns with these, and compared with them.',
        metavar="OPTIONS",
    ),
    strict: bool = typer.Option(False, "--strict", help="End with exit code 3 if any case failed."),
) -> None:
    """Measure a suite or a model live; the last line is the result's path.

    rigbench run my-model.gguf takes about five minutes; with -p 512,2048 -n 128 -u 1,4,8 -r 5 it measures just that. -p and -n are
    llama-bench's, but in one request: its pp512 is prefill t/s for 1 user, its tg128 at depth 512 is user t/s.
    """
    from rigbench.analysis.table import table as rows_of
    from rigbench.report import table
    from rigbench.run import journal, processes, runner, start

    processes.interrupt_on_terminate()
    if runs > 1 or against is not None:
        _series(context, ask, resume, runs, against, strict=strict)
    if resume is not None:
        if options := [*ask.options_given, *settings(flags)]:
            raise InputError(f"a resumed run keeps its suite and its engines: leave {options[0]} out")
        if out is not None:
            raise InputError("a resumed run is finished where it was begun: leave --out out")
        telemetry = _reads(resume, telemetry=telemetry)
    sources = wall.sources(telemetry=telemetry, replay=replay)
    must_answer(sources)
    folder = out or Path("results")
    work, folder = _resumed(ask, resume) if resume is not None else (_begun(ask, flags, folder, telemetry), folder)
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
    if report:
        from rigbench.report import page
        from rigbench.report.result_view import Price

        page.save(written.with_suffix(".html"), page.of_results([written], Price()))
        say(f"page: {written.with_suffix('.html')}")
    typer.echo(f"result: {written}")
    if not any(result.requests for result in document.cases):
        exit_code = exit_code or UnavailableError.exit_code
        say("nothing was measured")
    elif failed and strict:
        exit_code = exit_code or UnavailableError.exit_code
    if exit_code:
        raise typer.Exit(exit_code)


def _series(
    context: typer.Context, ask: Ask, resume: Path | None, runs: int, against: str | None, *, strict: bool
) -> NoReturn:
    """Several runs in place of this one."""
    from rigbench.cli import series

    if resume is not None:
        raise InputError("--resume takes up one run: leave --runs and --against out")
    suite, _ = ask.suite()
    if not ask.trust_suite and ask.what is not None:
        must_be_trusted(ask.what, suite.engine)
    called: tuple[str, ...] = context.find_root().obj
    raise typer.Exit(
        series.measured(series.sides_of(called[1:], against, series.names_of(context)), runs, strict=strict)
    )


def _reads(path: Path, *, telemetry: bool) -> bool:
    """Whether the run of this journal takes readings: all its cases do, or none."""
    from rigbench.run import journal

    reads = journal.read(path).header.telemetry
    if reads and not telemetry:
        raise InputError("the run was begun with readings: leave --no-telemetry out")
    return reads


def _begun(ask: Ask, flags: EngineFlags, out: Path, telemetry: bool) -> Run:
    from rigbench.report import table
    from rigbench.report.plan import print_plan
    from rigbench.run import start

    prepared = ask.prepare(flags, fetch=True)
    work = start.begin(prepared, out, telemetry=telemetry)
    print_plan(table.error_console(), work.plan, brief=True)
    return work


def _resumed(ask: Ask, path: Path) -> tuple[Run, Path]:
    from rigbench.run import journal, start

    if not ask.trust_suite:
        must_be_trusted(str(path), journal.read(path).header.engines)
    return start.resume(path, ask.what, say=say, progress=Progress()), path.parent.parent
