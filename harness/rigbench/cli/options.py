"""Options that several commands share, and what their words stand for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rigbench.errors import InputError, RigbenchError

if TYPE_CHECKING:
    from rigbench.analysis.table import Row
    from rigbench.predict.hardware import Hardware

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

WALL_URL = typer.Option(None, "--wall-url", help="Address of a wall meter (http://...); used, and never stored.")
WALL_METER = typer.Option("shelly", "--wall-meter", help="shelly or tasmota.")
WALL_PATH = typer.Option(None, "--wall-path", help="For any other meter: the JSON path of its power.")
WALL_UNIT = typer.Option("W", "--wall-unit", help="The unit of that power: W, mW or kW.")

HARDWARE = typer.Option(
    None, "--hardware", "-d", help="A catalogued device, rtx-5090 or 2 of them: rtx-5090x2. Without it: this machine."
)
KNOWN_MODEL = typer.Option(
    None, "--model", "-m", help="A catalogued model (qwen3-30b-a3b, with :QUANT) or a .gguf file."
)
QUANT = typer.Option("Q4_K_M", "--quant", "-q", help="Quantisation of a catalogued model.")
USERS = typer.Option(1, "--users", "-u", help="Users who decode at once.")
CONTEXT = typer.Option(4096, "--context", "-c", help="Tokens of context for each user.")


def say(text: str) -> None:
    """A sentence to the person, on stderr: stdout is for what was asked."""
    with contextlib.suppress(OSError):  # the terminal may be closed by now
        typer.echo(f"rigbench: {text}", err=True)


def say_json(content: Any) -> None:
    """`content` on stdout as JSON; dataclasses anywhere in it become objects."""
    typer.echo(json.dumps(content, indent=1, default=asdict))


def engine_options(server: str | None, backend: str | None, option: Sequence[str]) -> tuple[str | None, dict[str, Any]]:
    """Backend and options by name, with what `--server` stands for."""
    options = dict(key_value(text) for text in option)
    if server is None:
        return backend, options
    if backend not in (None, "openai_http"):
        raise InputError(f"--server is measured by the backend openai_http, not by {backend}: leave --backend out")
    return "openai_http", {"base_url" if "://" in server else "server": server, **options}


def key_value(text: str) -> tuple[str, Any]:
    """`threads=4` -> ("threads", 4); a value that is no JSON is a string."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise InputError(f"--option {text!r}: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def metrics_of(names: Sequence[str]) -> tuple[str, ...]:
    """The metrics that `--metric` names, all that are compared where it names none. Raises InputError for an unknown one."""
    from rigbench.analysis.definitions import comparable, compared

    for name in names:
        if name not in comparable():
            raise InputError(f"--metric {name!r}: choose of {', '.join(comparable())}")
    return tuple(names) or compared()


def verdicts_of(names: Sequence[str]) -> list[str]:
    """The verdicts that `--fail-on` names. Raises InputError for an unknown one."""
    from rigbench.analysis.compare import BAD

    for name in names:
        if name not in BAD:
            raise InputError(f"--fail-on {name!r}: choose of {', '.join(BAD)}")
    return list(names)


def bad_sentence(found: Sequence[str]) -> str:
    """How `--fail-on` ends: the first five cells that it names."""
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"{len(found)} of what --fail-on names: {', '.join(found[:5])}{more}"


def rows_of(files: Sequence[Path]) -> list[Row]:
    """Rows of each document once, whatever the number of its copies. A broken one ends it if it is alone, else is said."""
    from rigbench.analysis.table import table
    from rigbench.documents import store

    seen: set[str] = set()
    found: list[Row] = []
    for path in files:
        try:
            document = store.read(path)
        except RigbenchError as error:
            if len(files) == 1:
                raise
            say(f"left out: {error}")
            continue
        if document.id not in seen:
            seen.add(document.id)
            found += table(document)
    if not found:
        raise InputError("none of these files holds a measured case")
    return found


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
