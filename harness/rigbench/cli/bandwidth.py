"""`rigbench bandwidth`: how fast the memory of this machine is, and its arithmetic."""

from __future__ import annotations

import typer

from rigbench.cli.options import JSON, say, say_json


def command(
    device: str = typer.Option(
        "cpu", "--device", help="cpu, cuda, cuda:1, metal, or what llama.cpp knows: vulkan, rocm ..."
    ),
    python: str | None = typer.Option(
        None, "--python", help="The interpreter that has the engine; this one if left out."
    ),
    again: bool = typer.Option(False, "--again", help="Measure anew, in place of the figure that is kept."),
    as_json: bool = JSON,
) -> None:
    """Measure memory bandwidth and arithmetic rate of this machine, kept for later runs."""
    from dataclasses import asdict

    from rigbench import ceilings, units
    from rigbench.errors import UnavailableError
    from rigbench.run.processes import find_python

    interpreter = find_python(python)
    figure = ceilings.cached(device, interpreter, again=again, say=say)
    if figure.read_bytes_per_s is None:
        raise UnavailableError(f"the bandwidth of {device} cannot be measured here: {figure.reason}")
    arithmetic = ceilings.arithmetic(device, interpreter, again=again, say=say)
    if as_json:
        say_json({**asdict(figure), "arithmetic": arithmetic})
        return
    from rigbench.report.table import output_console, print_pairs

    when = str(figure.detail.get("measured_utc", "now")) + (
        " on a busy machine" if "busy_share" in figure.detail else ""
    )
    pairs = [("read", f"{units.bandwidth_text(figure.read_bytes_per_s)} ({figure.source}; measured {when})")]
    if figure.copy_bytes_per_s is not None:
        pairs.append(("copy", f"{units.bandwidth_text(figure.copy_bytes_per_s)} (bytes read + bytes written)"))
    for dtype, rate in arithmetic.flops_per_s.items():
        library = max((of_type := arithmetic.detail["flops_per_s_by_library"][dtype]), key=of_type.__getitem__)
        pairs.append((dtype, f"{units.flops_text(rate)} (matrix products, {library})"))
    if arithmetic.reason:
        pairs.append(("products", arithmetic.reason))
    print_pairs(output_console(), pairs)
