"""`rigbench`: the commands, and how errors end.

Exit codes: 0 good, 2 the user's input, 3 the engine or machine cannot, 4 a regression was found, 5 a validation failed, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys

import typer

from rigbench import __version__
from rigbench.cli import (
    advise,
    bandwidth,
    bisect,
    compare,
    cost,
    doctor,
    export,
    import_,
    index,
    metrics,
    models,
    plan,
    predict,
    query,
    regress,
    run,
    show,
    submit,
    validate,
    watch,
)
from rigbench.errors import RigbenchError

COMMANDS = (
    doctor,
    bandwidth,
    watch,
    plan,
    run,
    show,
    metrics,
    predict,
    cost,
    advise,
    validate,
    compare,
    regress,
    index,
    query,
    export,
    import_,
    submit,
    bisect,
)
"""In the order in which `--help` lists them; a command is called as its file (import_.py is `import`)."""

app = typer.Typer(
    name="rigbench",
    help="Measure live LLM inference on this machine, and see how far it is from what the memory bandwidth allows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and end.", is_eager=True),
) -> None:
    if version:
        typer.echo(f"rigbench {__version__}")
        raise typer.Exit


for module in COMMANDS:
    app.command(module.__name__.rpartition(".")[2].rstrip("_"))(module.command)
app.add_typer(models.group, name="models")


def main() -> None:
    """Run the command line; every error of ours is one clear sentence and its exit code."""
    try:
        app(standalone_mode=True)
    except RigbenchError as error:
        for line in str(error).splitlines():
            typer.echo(f"rigbench: {line}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("rigbench: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # `rigbench show … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
