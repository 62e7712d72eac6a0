"""`rigbench`: the commands, and how errors end. The exit codes are those of rigbench.errors; CONTRIBUTING has them by command."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from rigbench import __version__
from rigbench.cli.options import INTERRUPTED, say
from rigbench.errors import InputError, RigbenchError, UnavailableError

NAMES = (
    *(
        "doctor",
        "suites",
        "engines",
        "plan",
        "run",
        "show",
        "compare",
        "metrics",
        "predict",
        "cost",
        "advise",
        "bandwidth",
    ),
    *(
        "watch",
        "validate",
        "regress",
        "index",
        "report",
        "site",
        "serve",
        "query",
        "export",
        "import",
        "submit",
        "bisect",
        "models",
    ),
)
"""In the order in which `--help` lists them; each is the file of its name, `import` that of import_.py."""
HELP = {"help_option_names": ["-h", "--help"]}
WIDEST_HELP = 120
SENTENCE = re.compile(
    r'^(?:def command\(.*?^    """|group = typer\.Typer\(\s*help=")(.+?)["\n]', re.DOTALL | re.MULTILINE
)
"""The first line of what a command's file says that it does."""


class Commands(TyperGroup):
    """Imports a command when it is typed. For the list of all it reads their first lines: to import them takes longer."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update(dict.fromkeys(NAMES))  # type: ignore[arg-type]  # not imported yet

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, None where there is none."""
        if cmd_name in NAMES and self.commands[cmd_name] is None:
            self.commands[cmd_name] = _imported(cmd_name)
            _legible(self.commands[cmd_name], self.context_class)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of all, in help."""
        folder = Path(__file__).parent
        sources = {name: (folder / f"{_file(name)}.py").read_text(encoding="utf-8") for name in NAMES}
        with formatter.section("Commands"):
            formatter.write_dl([(name, *SENTENCE.findall(source)) for name, source in sources.items()])


def _file(name: str) -> str:
    return name + "_" * iskeyword(name)


def _imported(name: str) -> Any:
    module = import_module(f"rigbench.cli.{_file(name)}")
    if hasattr(module, "group"):
        return get_command(module.group)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, context_settings=HELP)(module.command)
    return get_command(alone)


app = typer.Typer(
    cls=Commands,
    name="rigbench",
    help="Measure live LLM inference on this machine, and see how far it is from what the memory bandwidth allows.",
    epilog="First: `rigbench doctor`, then `rigbench run my-model.gguf`. Completion: `rigbench --install-completion`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=HELP,
)


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", "-V", help="Print the version and end.", is_eager=True),
) -> None:
    if version:
        typer.echo(f"rigbench {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error of ours is one clear sentence."""
    try:
        _invoke(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except RigbenchError as error:
        return _say(str(error), error.exit_code)
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # `rigbench show … | head`: who reads has enough
        _drop_output()
        return 0
    except OSError as error:
        if error.filename:
            return _say(f"cannot use {error.filename}: {error.strerror}", InputError.exit_code)
        _drop_output()  # a full disk behind `>`
        return _say(f"cannot write the output: {error.strerror}", UnavailableError.exit_code)
    except Exception as error:  # typer's own, of what was written wrong
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(message, err=True)
            return InputError.exit_code
        path = getattr(getattr(error, "ctx", None), "command_path", "rigbench")
        return _say(f"{message.rstrip('.')} (`{path} -h` shows what there is)", InputError.exit_code)
    return 0


def _invoke(words: list[str]) -> None:
    command = _command()
    if "_RIGBENCH_COMPLETE" in os.environ:  # a shell asks how a line may go on
        command(prog_name="rigbench")
    if os.name == "nt":  # its shells leave *.json to the program
        import glob

        words = [name for word in words for name in (glob.glob(word) or [word])]  # noqa: PTH207  as it is written
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    width = min(WIDEST_HELP, shutil.get_terminal_size().columns) - 2
    with command.make_context("rigbench", words, obj=tuple(words), terminal_width=width) as context:
        command.invoke(context)


@cache
def _command() -> Any:
    command = get_command(app)
    _legible(command)
    return command


def _legible(command: Any, context_class: type[Any] | None = None) -> None:
    """Help calls a value as its parameter (`--out OUT`, `RESULT`), not by its type, and leaves half of a narrow terminal to the
    explanations."""
    command.context_class = context_class = context_class or _narrow(command.context_class)
    for parameter in command.params:
        if parameter.metavar is None and not getattr(parameter, "is_flag", False):
            parameter.metavar = str(parameter.name).upper()
    for inner in filter(None, getattr(command, "commands", {}).values()):
        _legible(inner, context_class)


def _narrow(context_class: type[Any]) -> type[Any]:
    formatter: type[Any] = context_class.formatter_class

    def write_dl(self: Any, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        formatter.write_dl(self, rows, min(col_max, max(10, self.width // 2 - 2)), col_spacing)

    return type(
        "Context", (context_class,), {"formatter_class": type("Formatter", (formatter,), {"write_dl": write_dl})}
    )


def _say(text: str, exit_code: int) -> int:
    say(text)
    return exit_code


def _drop_output() -> None:
    """Nothing more is written when Python ends: it would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
