"""Options that several commands share, what their words stand for, and the checks of numbers and names: nothing that was written
passes silently."""

from __future__ import annotations

import contextlib
import inspect
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import typer

from rigbench.errors import InputError, RigbenchError, UnavailableError
from rigbench.text import hint

if TYPE_CHECKING:
    from rigbench.analysis.table import Row
    from rigbench.predict.hardware import Hardware
    from rigbench.records import ModelFacts
    from rigbench.telemetry.base import Source


def number(
    default: float | None,
    names: str,
    about: str,
    least: float = 0,
    most: float = 1e9,
    *,
    whole: bool = False,
    above: bool = False,
) -> Any:
    """An option that is a number from `least` (or only `above` it) to `most`, never NaN. `names`: "--users -u"."""
    return typer.Option(default, *names.split(), help=about, parser=checked(least, most, whole, above), metavar="N")


def checked(least: float, most: float, whole: bool = False, above: bool = False) -> Callable[[str], float]:
    """The check of a number that was written: from `least` (or only `above` it) to `most`."""

    def parse(text: str) -> float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not a {'whole ' if whole else ''}number") from None
        if not least <= value <= most or (above and value == least):
            raise typer.BadParameter(f"{text} is impossible: give {'more than ' if above else ''}{least:g} to {most:g}")
        return value

    return parse


def whole_numbers(option: str, text: str | None, least: int, most: int) -> list[int] | None:
    """`512,2048` of an option as numbers, each once."""
    if text is None:
        return None
    check = checked(least, most, whole=True)
    try:
        values = [int(check(word.strip())) for word in text.split(",")]
    except typer.BadParameter as error:
        raise InputError(f"{option} {text}: {error.message}") from None
    for value in values:
        if values.count(value) > 1:
            raise InputError(f"{option} {text}: {value} is there twice")
    return values


def one_of(option: str, text: str, known: Iterable[str]) -> str:
    """The one of `known` that an option names, in capitals or not. InputError with the nearest."""
    names = {name.lower(): name for name in known}
    if text.lower() not in names:
        raise InputError(f"{option} {text!r}: {hint(text, names.values())}")
    return names[text.lower()]


def without_effect(context: typer.Context, mode: str, used: Iterable[str]) -> None:
    """InputError for an option that was values although `mode` does not use it."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in used:
            raise InputError(f"{parameter.opts[0]} has no effect with {mode}: leave it out")


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of those of its parameters that are dataclasses as options of its own: what several commands
    share is written once."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    groups: dict[str, Any] = {each.name: each.annotation for each in own if is_dataclass(each.annotation)}
    parameters: list[inspect.Parameter] = []
    for each in own:
        kind = groups.get(each.name)
        if kind is None:
            parameters.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        for one in fields(kind):
            hint_of = get_type_hints(kind)[one.name]
            parameters.append(
                inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hint_of)
            )

    def whole(**values: Any) -> None:
        by_group = {
            name: kind(**{one.name: values.pop(one.name) for one in fields(kind)}) for name, kind in groups.items()
        }
        command(**by_group, **values)

    whole.__doc__ = command.__doc__
    whole.__annotations__ = {each.name: each.annotation for each in parameters}
    whole.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return whole


INTERRUPTED = 130
"""The exit code after Ctrl-C."""
FAULTS_SHOWN = 20

JSON = typer.Option(False, "--json", help="As JSON.")
JSON_SI = typer.Option(False, "--json", help="As JSON, numbers in SI units.")
METRIC = typer.Option([], "--metric", help="Only this metric (user_tps, ttft_s, prefill_tps ...). May be repeated.")
FAIL_ON = typer.Option(
    [], "--fail-on", help="Exit with 4 on this verdict: slower, more (memory, energy). May be repeated."
)
MARKDOWN = typer.Option(False, "--markdown", help="As Markdown, for a pull request.")

HARDWARE = typer.Option(
    None, "--hardware", "-d", help="A catalogued device, rtx-5090 or 2 of them: rtx-5090x2. Without it: this machine."
)
KNOWN_MODEL = typer.Option(
    None, "--model", "-m", help="A catalogued model (qwen3-30b-a3b, with :QUANT) or a .gguf file."
)
QUANT = typer.Option(None, "--quant", "-q", help="Quantisation of a catalogued model.  [default: Q4_K_M]")
USERS = number(1, "--users -u", "Users who decode at once.", 1, 1024, whole=True)
CONTEXT = number(4096, "--context -c", "Tokens of context for each user.", whole=True)


def say(text: str) -> None:
    """Sentences to the person, on stderr: stdout is for what was asked. On a terminal they are wrapped between words."""
    for line in text.splitlines():
        if sys.stderr.isatty():
            width = max(20, shutil.get_terminal_size().columns)
            line = textwrap.fill(line, width - 10, break_on_hyphens=False).replace("\n", "\n          ")
        with contextlib.suppress(OSError):  # the terminal may be closed by now
            typer.echo(f"rigbench: {line}", err=True)


def say_json(content: Any) -> None:
    """`content` on stdout as JSON; dataclasses anywhere in it become objects."""
    typer.echo(json.dumps(content, indent=1, default=asdict))


def metrics_of(names: Sequence[str]) -> tuple[str, ...]:
    """The metrics that `--metric` names, all that are compared where it names none. Raises InputError for an unknown one."""
    from rigbench.analysis.definitions import comparable, compared

    return tuple(one_of("--metric", name, comparable()) for name in names) or compared()


def verdicts_of(names: Sequence[str]) -> list[str]:
    """The verdicts that `--fail-on` names. Raises InputError for an unknown one."""
    from rigbench.analysis.compare import BAD

    return [one_of("--fail-on", name, BAD) for name in names]


def bad_sentence(names: Sequence[str]) -> str:
    """How `--fail-on` ends: the first five cells that it names."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} of what --fail-on names: {', '.join(names[:5])}{more}"


def rows_of(files: Sequence[Path]) -> list[Row]:
    """Rows of each run once, whatever the number of its copies and of what was changed beside the times; of a run that was resumed,
    those of its whole document. A broken file ends it if it is alone, else is said, and so is one that does not hold."""
    from rigbench.documents.validate import REFUSED, read_rows

    runs: dict[
        str, tuple[bool, tuple[str, ...], list[Row]]
    ] = {}  # rows alone are kept: thousands of documents do not fit into memory
    for path in files:
        try:
            document, rows_read = read_rows(path)
        except RigbenchError as error:
            if len(files) == 1:
                raise
            say(f"left out: {error}")
            continue
        run = (document.machine.id, document.created_utc, document.suite.sha256)
        key = next((row.measurement for row in rows_read if row.measurement), document.id)
        if any(row.level == REFUSED for row in rows_read):
            say(f"{path} does not hold: see rigbench validate")
        runs.setdefault(key, (document.complete, run, rows_read))
    complete = {run for whole, run, _ in runs.values() if whole}
    rows = [row for whole, run, rows in runs.values() if whole or run not in complete for row in rows]
    if not rows:
        raise InputError("none of these files holds a measured case")
    return rows


def levels_of(base: Sequence[Row], new: Sequence[Row]) -> dict[str, list[str]]:
    """How far the results of either side hold."""
    return {side: sorted({str(row.level) for row in rows}) for side, rows in (("base", base), ("new", new))}


def levels_text(levels: dict[str, list[str]]) -> str:
    """The same as a line."""
    return "; ".join(f"{side}: {', '.join(names)}" for side, names in levels.items())


def facts_named(model: str, quant: str | None) -> tuple[ModelFacts, str]:
    """The facts of a catalogued model, of one that people name otherwise ('qwen3:30b'), or of a file; and which shape stands in
    for a model that the catalogue has not. InputError where the name and --quant contradict, or --quant has no effect."""
    from rigbench.models.names import model_name, quantisation
    from rigbench.models.resolve import facts_of
    from rigbench.models.shapes import shapes
    from rigbench.predict.cases import named_facts

    name = model_name(model)
    tagged = False
    if name.kind == "catalogue" and name.quant:
        try:
            quantisation(name.quant)
        except InputError:
            tagged = True  # Ollama's tag, not a quantisation
    if quant is not None and (name.kind != "catalogue" or (name.quant and not tagged)):
        raise InputError(f"--quant {quant} has no effect: {model} has its quantisation already")
    if name.kind != "catalogue" or (name.name.lower() in shapes() and not tagged):
        return facts_of(model, quant or "Q4_K_M"), ""
    return named_facts(model if tagged else name.name, quant or ("" if tagged else name.quant) or "Q4_K_M")


@dataclass(frozen=True)
class Wall:
    """The options of a wall meter."""

    wall_url: str | None = typer.Option(
        None,
        "--wall-url",
        help="Address of a wall meter (http://..., or UPS@HOST); used, and never stored. Its login comes from RIGBENCH_WALL_LOGIN "
        "(admin:password) or RIGBENCH_WALL_HEADER (Authorization: Bearer ...).",
    )
    wall_meter: str | None = typer.Option(
        None,
        "--wall-meter",
        help="shelly, shelly-pm1, shelly-em1, shelly-gen1, shelly-gen1-em, tasmota, home-assistant, kasa, "
        "nut.  [default: shelly]",
    )
    wall_path: str | None = typer.Option(None, "--wall-path", help="For any other meter: the JSON path of its power.")
    wall_unit: str | None = typer.Option(
        None, "--wall-unit", help="With --wall-path, its unit: W, mW or kW.  [default: W]"
    )

    def sources(self, *, telemetry: bool = True, replay: str | None = None) -> list[Source]:
        """The sensors of this machine, and the meter. InputError for options that contradict each other or have no effect."""
        from rigbench.telemetry import open_sources
        from rigbench.telemetry.base import SourceOptions
        from rigbench.telemetry.wall import PRESETS, WATTS

        options = {f"--{name.replace('_', '-')}": value for name, value in asdict(self).items() if value is not None}
        if options and self.wall_url is None:
            raise InputError(f"{next(iter(options))} has no effect without --wall-url")
        if options and (not telemetry or replay):
            raise InputError(
                f"--wall-url and {'--replay' if replay else '--no-telemetry'} contradict each other: leave one out"
            )
        if replay and not telemetry:
            raise InputError("--replay and --no-telemetry contradict each other: leave one out")
        if self.wall_meter is not None and self.wall_path is not None:
            raise InputError("--wall-meter has no effect with --wall-path: leave one out")
        if self.wall_unit is not None and self.wall_path is None:
            raise InputError("--wall-unit has no effect without --wall-path: a preset knows its unit")
        meter = one_of("--wall-meter", self.wall_meter or "shelly", PRESETS)
        unit = one_of("--wall-unit", self.wall_unit or "W", WATTS)
        return open_sources(SourceOptions(telemetry, self.wall_url, meter, self.wall_path, unit, replay=replay))


def must_answer(sources: Sequence[Source]) -> None:
    """UnavailableError for a wall meter that does not answer: its idle power alone would take a minute."""
    for source in sources:
        if source.name == "wall" and not (state := source.probe()).usable:
            for each in sources:
                each.close()
            raise UnavailableError(f"the wall meter cannot be read: {state.reason}; {state.fix}")


def devices_of(name: str) -> tuple[Hardware, int]:
    """A catalogued device and how many of it: 'rtx-5090x2' is two."""
    from rigbench.predict.hardware import find

    base, _, count = name.strip().lower().rpartition("x")
    if base and count.isdigit() and 1 <= int(count) <= 64:
        try:
            return find(base), int(count)
        except InputError:
            pass  # the name itself may end so; the message is then about the whole of it
    return find(name), 1
