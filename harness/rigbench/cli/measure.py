"""`rigbench plan` and `run`: what a suite would do here, and doing it."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rigbench.cli import progress
from rigbench.cli.progress import Progress, Reporter, say
from rigbench.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from rich.console import Console

    from rigbench.run.runner import Run
    from rigbench.suites.plan import Plan

INTERRUPTED = 130

SUITE = typer.Argument(help="A suite's name (`rigbench run` lists them) or file.")
BACKEND = typer.Option(None, "--backend", "-b", help="Run the suite on this backend.")
MODEL = typer.Option(
    None, "--model", "-m", help="Run the suite on this model: a file, synthetic:SHAPE:QUANT, or a catalogued name."
)
PYTHON = typer.Option(None, "--python", help="The Python interpreter that has the engine.")
SERVER = typer.Option(
    None,
    "--server",
    "-s",
    help="Measure a running server: ollama, lmstudio, llama-server, vllm, mlx … or its http://HOST:PORT.",
)
OPTION = typer.Option([], "--option", "-O", help="An option of the backend: -O threads=4. May be repeated.")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(plan)
    app.command()(run)


def plan(
    suite: str = SUITE,
    backend: str | None = BACKEND,
    model: str | None = MODEL,
    python: str | None = PYTHON,
    server: str | None = SERVER,
    option: list[str] = OPTION,
    as_json: bool = typer.Option(False, "--json", help="As JSON."),
) -> None:
    """Show what a suite would do here: its cases, what is skipped and why, estimated time and memory."""
    backend, option = _behind(server, backend, option)
    planned = _planned(suite, backend, model, python, option, fetch=False)[1]
    if as_json:
        content = {
            "cases": [asdict(case) for job in planned.jobs for case in job.cases],
            "unused_gpus": sorted({job.engine.unused_gpu for job in planned.jobs if job.engine.unused_gpu}),
            "skipped": [{"case": asdict(skip.case), "reason": skip.reason} for skip in planned.skipped],
            "seconds": planned.seconds,
            "memory_bytes": planned.memory_bytes,
        }
        typer.echo(json.dumps(content, indent=1))
        return
    from rigbench.report.table import output_console

    _print_plan(output_console(), planned)


def run(
    suite: str | None = typer.Argument(None, help="A suite's name (`rigbench run` lists them) or file."),
    backend: str | None = BACKEND,
    model: str | None = MODEL,
    python: str | None = PYTHON,
    server: str | None = SERVER,
    option: list[str] = OPTION,
    out: Path = typer.Option(Path("results"), "-o", "--out", help="Folder for the result."),
    resume: Path | None = typer.Option(None, "--resume", help="Take up the journal of a run that was ended early."),
    telemetry: bool = typer.Option(True, "--telemetry/--no-telemetry", help="Read power, memory and clocks meanwhile."),
    wall_url: str | None = progress.WALL_URL,
    wall_meter: str = progress.WALL_METER,
    wall_path: str | None = progress.WALL_PATH,
    wall_unit: str = progress.WALL_UNIT,
    replay: str | None = typer.Option(None, "--replay", help="Take recorded readings from this file (for tests)."),
    strict: bool = typer.Option(False, "--strict", help="End with exit code 3 if any case failed."),
) -> None:
    """Run a suite live and leave a result document; its path is the last line: `result: PATH`."""
    from rigbench.documents import store
    from rigbench.report import table
    from rigbench.run import journal as journals
    from rigbench.run import processes, runner
    from rigbench.telemetry.source import SourceOptions, open_sources

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
    backend, option = _behind(server, backend, option)
    if resume is not None:
        work = _resumed(suite, resume, backend, model, python, option)
        folder = resume.parent.parent
    elif suite is not None:
        work = _started(suite, backend, model, python, option, out)
        folder = out
    else:
        if not sys.stderr.isatty():
            raise InputError("name a suite (`rigbench run` on a terminal lists them), or --resume a journal")
        typer.echo(_what_to_run(), err=True)
        raise typer.Exit(InputError.exit_code)
    work.sources = sources
    ended = ""
    exit_code = 0
    try:
        runner.execute(work)
    except KeyboardInterrupt:
        ended, exit_code = "interrupted", INTERRUPTED
    except journals.DiskFull as error:
        ended, exit_code = str(error), error.exit_code
    work.report("end", {})
    work.journal.close()
    path = work.journal.path
    if not work.done:
        path.unlink(missing_ok=True)
        say(f"{ended}: no case was finished, nothing to save")
        raise typer.Exit(exit_code)
    document = store.with_id(runner.document(work, complete=not ended))
    console = table.output_console()
    with contextlib.ExitStack() as kept:
        if ended:
            kept.callback(
                say,
                f"{ended}: {len(work.done)} of {_total(work.plan)} cases are saved; go on: rigbench run --resume {path}",
            )
        written = store.write(document, folder)
    if not ended:
        path.unlink(missing_ok=True)
    from rigbench.analysis.table import table as rows_of

    table.print_rows(console, rows_of(document))
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


def _total(planned: Plan) -> int:
    return planned.cases + len(planned.skipped)


def _planned(
    name: str, backend: str | None, model: str | None, python: str | None, option: list[str], *, fetch: bool
) -> tuple[Any, Plan, Any, Any, list[Any]]:
    """(suite, plan, machine, bandwidths, engine parts) for a command's words."""
    from rigbench.suites.suite import load_suite

    suite = load_suite(name)
    return _prepared(suite, _parts_of(suite, backend, model, python, option), fetch=fetch)


def _parts_of(suite: Any, backend: str | None, model: str | None, python: str | None, option: list[str]) -> list[Any]:
    from rigbench.run import engines

    return engines.chosen_engines(suite, backend, model, python, dict(_key_value(text) for text in option))


def _prepared(suite: Any, parts: list[Any], *, fetch: bool) -> tuple[Any, Plan, Any, Any, list[Any]]:
    from rigbench.run import engines
    from rigbench.run.machine import this_machine
    from rigbench.suites.plan import make_plan

    machine = this_machine()
    found, bandwidths = engines.resolve(parts, gpus=machine.gpus, say=say, progress=Progress(), fetch=fetch)
    return suite, make_plan(suite, found), machine, bandwidths, parts


def _behind(server: str | None, backend: str | None, option: list[str]) -> tuple[str | None, list[str]]:
    """Backend and options with what `--server` stands for."""
    if server is None:
        return backend, option
    if backend not in (None, "openai_http"):
        raise InputError(f"--server is measured by the backend openai_http, not by {backend}: leave --backend out")
    return "openai_http", [f"{'base_url' if '://' in server else 'server'}={server}", *option]


def _key_value(text: str) -> tuple[str, Any]:
    """`threads=4` -> ("threads", 4); a value that is no JSON is a string."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise InputError(f"--option {text!r}: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _started(
    name: str, backend: str | None, model: str | None, python: str | None, option: list[str], out: Path
) -> Run:
    from rigbench.clock import utc_now
    from rigbench.paths import file_stem
    from rigbench.run import journal as journals
    from rigbench.run import runner

    suite, planned, machine, bandwidths, parts = _planned(name, backend, model, python, option, fetch=True)
    created = utc_now()
    path = (out / file_stem(machine.id, created, suite.name)).with_suffix(".journal")
    header = {
        "created_utc": created,
        "created_unix": time.time(),
        "machine": machine.id,
        "suite": {**suite.model_dump(mode="json"), "engine": []},
        "engines": [part.model_dump(mode="json") for part in parts],
        "models": {job.engine.model.name: job.engine.model.sha256 for job in planned.jobs},
    }
    journal = journals.create(path, header)
    _print_plan_to_stderr(planned)
    return runner.Run(
        suite, planned, machine, bandwidths, journal, created, header["created_unix"], Reporter(_total(planned)), {}
    )


def _resumed(
    name: str | None, path: Path, backend: str | None, model: str | None, python: str | None, option: list[str]
) -> Run:
    from rigbench.run import journal as journals
    from rigbench.run import runner
    from rigbench.suites.suite import EnginePart, load_suite, parse_suite, suite_record

    content = journals.read(path)
    for line in content.dropped:
        say(f"{path.name}: {line}")
    header = content.header
    suite = parse_suite(header["suite"], str(path))
    if name is not None and suite_record(load_suite(name)).sha256 != suite_record(suite).sha256:
        raise InputError(f"{path} is of another suite than {name!r}; resume it without naming one")
    if backend or model or python or option:
        raise InputError("a resumed run keeps its engines: leave --backend, --model, --python and --option out")
    parts = [EnginePart.model_validate(part) for part in header["engines"]]
    done = runner.results_from_journal(content.cases, path)
    _, planned, machine, bandwidths, _ = _prepared(suite, parts, fetch=True)
    if machine.id != header["machine"]:
        raise InputError(f"{path} was begun on another machine ({header['machine']}); this one is {machine.id}")
    models = {job.engine.model.name: job.engine.model.sha256 for job in planned.jobs}
    changed = [key for key, value in header["models"].items() if models.get(key) != value]
    if changed:
        raise InputError(
            f"the model {changed[0]} is not the one that {path.name} was begun with; start the suite again"
        )
    journal = journals.reopen(path)
    say(f"resuming: {len(done)} of {_total(planned)} cases are done")
    reporter = Reporter(_total(planned), len(done))
    return runner.Run(
        suite, planned, machine, bandwidths, journal, header["created_utc"], header["created_unix"], reporter, done
    )


def _print_plan_to_stderr(planned: Plan) -> None:
    from rich.console import Console

    _print_plan(Console(stderr=True, markup=False, highlight=False), planned, brief=True)


def _print_plan(console: Console, planned: Plan, brief: bool = False) -> None:
    from rigbench import units

    if not brief:
        for job in planned.jobs:
            console.print(job.heading, style="bold")
            groups: dict[str, int] = {}
            for case in job.cases:
                tokens = case.workload.words
                line = f"{case.workload.name}: {tokens}, {case.concurrency} user{'s' * (case.concurrency > 1)}"
                groups[line] = groups.get(line, 0) + 1
            for line, repetitions in groups.items():
                console.print(f"  {line}, {repetitions} repetition{'s' * (repetitions > 1)}", soft_wrap=True)
    for sentence in dict.fromkeys(job.engine.unused_gpu for job in planned.jobs):
        if sentence is not None:
            console.print(f"! {sentence}", style="yellow", soft_wrap=True)
    for skip in planned.skipped:
        console.print(f"skipped: {skip.case.group}: {skip.reason}", style="yellow", soft_wrap=True)
    console.print(
        f"{planned.cases} cases, about {units.seconds_text(planned.seconds) if planned.seconds else 'an unknown time'}, "
        f"about {units.bytes_text(planned.memory_bytes)} of memory",
        soft_wrap=True,
    )
