"""`rigbench advise`: which machine to take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from rigbench import units
from rigbench.cli.options import CONTEXT, JSON, QUANT, USERS, say_json
from rigbench.errors import InputError

if TYPE_CHECKING:
    from rigbench.predict.advise import Advice


def command(
    model: list[str] = typer.Option([], "--model", "-m", help="A model it must run; may be repeated."),
    quant: str = QUANT,
    users: int = USERS,
    context: int = CONTEXT,
    memory: float | None = typer.Option(None, "--memory", help="At most this much memory, GB."),
    vendor: str | None = typer.Option(None, "--vendor", help="Only nvidia, apple, amd or intel."),
    least: float | None = typer.Option(None, "--least", help="At least this many tokens per second for each user."),
    offload: bool = typer.Option(
        False, "--offload", help="Count machines that keep part of the layers in the host's memory."
    ),
    top: int = typer.Option(15, "--top", help="How many machines to show (0: all)."),
    as_json: bool = JSON,
) -> None:
    """Which machine of the catalogue runs these models for these users, with the reason in a sentence each."""
    from rigbench.models.resolve import facts_of
    from rigbench.predict.advise import advise as ask
    from rigbench.predict.hardware import GIB

    for name, given in (("--memory", memory), ("--least", least)):
        if given is not None and not 0 < given < 1e9:
            raise InputError(f"{name} {given:g} is impossible: give a number above 0")
    found = ask(
        [facts_of(name, quant) for name in model],
        users=users,
        context_tokens=context,
        most_memory_bytes=None if memory is None else round(memory * GIB),
        vendor=vendor,
        least_user_tps=least,
        offload=offload,
    )
    _print(found[:top] if top else found, as_json)


def _print(found: Sequence[Advice], as_json: bool) -> None:
    """Machines, best first, each with what decides it."""
    from rich.text import Text

    from rigbench.predict.advise import memory_text
    from rigbench.report.table import make_table, output_console

    if as_json:
        say_json(list(found))
        return
    if not found:
        raise InputError("no machine of the catalogue does what was asked for; lower --least or take a smaller model")
    console = output_console()
    table = make_table(console, ("hardware", "memory", "user t/s", "all t/s", "W", "bound", "why"), left=1)
    for column in table.columns[-2:]:
        column.justify, column.no_wrap = "left", not console.is_terminal
    for one in found:
        power = units.MISSING if one.hardware.power_w is None else f"{one.hardware.power_w:g}"
        table.add_row(
            one.hardware.id,
            memory_text(one.hardware),
            units.rate_text(one.user_tps),
            units.rate_text(one.output_tps),
            power,
            one.bound,
            one.sentence,
        )
    console.print(table)
    console.print(Text("user t/s and all t/s are those of the slowest model, by the roofline", style="dim"))
