"""`rigbench models`: what is at hand, what can be made, and fetching one."""

from __future__ import annotations

import typer

from rigbench.cli.options import JSON, one_of, say, say_json
from rigbench.errors import InputError

group = typer.Typer(
    help="List, make and fetch models.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)
FORMAT = typer.Option("", "--format", help="gguf, mlx or safetensors: for engines that open these.")


@group.command("list")
def list_models(
    shapes: bool = typer.Option(
        False, "--shapes", help="The catalogue: every shape that can be predicted, most can be made."
    ),
    as_json: bool = JSON,
) -> None:
    """List the models at hand, or the catalogued shapes."""
    from rigbench import units
    from rigbench.models.resolve import local_models
    from rigbench.models.shapes import shapes as catalogue
    from rigbench.models.tensors import parameters
    from rigbench.report.table import output_console, print_table

    known = dict(catalogue()) if shapes else {}
    here = [] if shapes else local_models()
    if as_json:
        say_json(known if shapes else here)
    elif shapes:
        counts = [(name, *parameters(shape)) for name, shape in known.items()]
        rows = [(name, f"{total / 1e9:.3g} B", f"{active / 1e9:.3g} B") for name, total, active in counts]
        print_table(output_console(), ("shape", "parameters", "active"), rows)
    elif here:
        print_table(
            output_console(),
            ("model", "size"),
            [(model.spec, units.bytes_text(model.bytes)) for model in here],
            left=("model",),
        )
    else:
        say("no models yet; `rigbench models make llama-160m Q4_0` makes one without any download")


@group.command("make")
def make(
    shape: str = typer.Argument(
        help="A catalogued shape (rigbench models list --shapes), or as `run -m` has it: synthetic:SHAPE:QUANT."
    ),
    quant: str = typer.Argument(
        "", help="Q4_K_M where none is said; F16, Q8_0, Q4_0, Q4_K_M ...; for MLX BF16, F16, 4bit or 8bit."
    ),
    format: str = FORMAT,
) -> None:
    """Make a synthetic model: random weights of a real shape. It runs at the real one's speed and says nothing sensible."""
    name, _, own = shape.removeprefix("synthetic:").partition(":")
    if own and quant:
        raise InputError(f"{shape} has a quantisation already; leave out {quant}")
    _resolve(f"synthetic:{name}:{own or quant or 'Q4_K_M'}", format)


@group.command("fetch")
def fetch(
    spec: str = typer.Argument(help="A catalogued name (qwen3-30b-a3b:Q4_K_M) or hf:REPOSITORY/FILE.gguf."),
    format: str = FORMAT,
) -> None:
    """Download a model (resumable, checksummed)."""
    _resolve(spec, format)


def _resolve(spec: str, format: str) -> None:
    from rigbench.cli.progress import Progress
    from rigbench.models.resolve import FOLDER_FORMATS, resolve

    formats = ("gguf", *FOLDER_FORMATS)
    accepted = (one_of("--format", format, formats),) if format else formats
    typer.echo(f"model: {resolve(spec, formats=accepted, progress=Progress()).file.path}")
