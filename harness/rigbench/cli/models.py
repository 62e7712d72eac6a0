"""`rigbench models`: what is at hand, what can be made, and fetching one."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from rigbench.cli.options import JSON

group = typer.Typer(help="List, make and fetch models.", no_args_is_help=True, rich_markup_mode=None)
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

    if shapes:
        known = catalogue()
        if as_json:
            typer.echo(json.dumps({name: asdict(shape) for name, shape in known.items()}, indent=1))
            return
        for name, shape in known.items():
            total, active = parameters(shape)
            experts = f", {active / 1e9:.3g} B active" if active != total else ""
            typer.echo(f"{name:32} {total / 1e9:8.3g} B{experts}")
        return
    found = local_models()
    if as_json:
        typer.echo(json.dumps([asdict(model) for model in found], indent=1))
        return
    for model in found:
        typer.echo(f"{model.spec:48} {units.bytes_text(model.bytes):>9}")
    if not found:
        typer.echo("no models yet; `rigbench models make llama-160m Q4_0` makes one without any download")


@group.command("make")
def make(
    shape: str = typer.Argument(help="A catalogued shape (rigbench models list --shapes)."),
    quant: str = typer.Argument("Q4_K_M", help="F16, Q8_0, Q4_0, Q4_K_M ...; for MLX BF16, F16, 4bit or 8bit."),
    format: str = FORMAT,
) -> None:
    """Make a synthetic model: random weights of a real shape. It runs at the real one's speed and says nothing sensible."""
    _resolve(f"synthetic:{shape}:{quant}", format)


@group.command("fetch")
def fetch(
    spec: str = typer.Argument(help="A catalogued name (qwen3-30b-a3b:Q4_K_M) or hf:REPOSITORY/FILE.gguf."),
    format: str = FORMAT,
) -> None:
    """Download a model (resumable, checksummed)."""
    _resolve(spec, format)


def _resolve(spec: str, format: str) -> None:
    from rigbench.cli.progress import Progress
    from rigbench.errors import InputError
    from rigbench.models.resolve import FOLDER_FORMATS, resolve

    formats = ("gguf", *FOLDER_FORMATS)
    if format and format not in formats:
        raise InputError(f"--format {format!r}: choose one of {', '.join(formats)}.")
    model = resolve(spec, formats=(format,) if format else formats, progress=Progress())
    typer.echo(f"model: {model.file.path}")
