"""`rigbench advise`: which machine to take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from rigbench import units
from rigbench.cli.options import CONTEXT, JSON, QUANT, USERS, facts_named, number, one_of, say_json
from rigbench.errors import InputError

if TYPE_CHECKING:
    from rigbench.predict.advise import Advice


def command(
    model: list[str] = typer.Option([], "--model", "-m", help="A model it must run; may be repeated."),
    quant: str | None = QUANT,
    users: int = USERS,
    context: int = CONTEXT,
    memory: float | None = number(None, "--memory", "At most this much memory, GB.", above=True),
    vendor: str | None = typer.Option(None, "--vendor", help="Only nvidia, apple, amd or intel."),
    least: float | None = number(None, "--least", "At least so many tokens per second for each user.", above=True),
    offload: bool = typer.Option(
        False, "--offload", help="Count machines that keep part of the layers in the host's memory."
    ),
    top: int = number(15, "--top", "How many machines to show (0: all).", whole=True),
    as_json: bool = JSON,
) -> None:
    """Say which machine runs these models for these users, and why."""
    from rigbench.predict.advise import advise as ask
    from rigbench.predict.hardware import GIB, hardware

    makers = dict.fromkeys(device.vendor for device in hardware() if device.vendor != "cpu")
    ranked = ask(
        [facts_named(name, quant)[0] for name in model],
        users=users,
        context_tokens=context,
        most_memory_bytes=None if memory is None else round(memory * GIB),
        vendor=None if vendor is None else one_of("--vendor", vendor, makers),
        least_user_tps=least,
        offload=offload,
    )
    fitting = [one for one in ranked if one.user_tps is not None]
    if not fitting:
        nearest = f"; {ranked[0].hardware.id}: {ranked[0].sentence}" if ranked else ""
        raise InputError(f"no machine of the catalogue does what was asked for{nearest}")
    _print(fitting[:top] if top else fitting, len(ranked) - len(fitting), as_json)


def _print(advices: Sequence[Advice], others: int, as_json: bool) -> None:
    """Machines, best first, each with what decides it."""
    from rigbench.predict.advise import memory_text
    from rigbench.report.prediction import span_text
    from rigbench.report.table import output_console, print_notes, print_table

    if as_json:
        say_json(list(advices))
        return
    console = output_console()
    rows = [
        (
            one.hardware.id,
            memory_text(one.hardware),
            units.rate_text(one.user_tps),
            span_text(one.slowest.prediction),
            units.rate_text(one.output_tps),
            units.MISSING if one.hardware.power_w is None else f"{one.hardware.power_w:g}",
            one.bound,
            one.sentence,
        )
        for one in advices
    ]
    print_table(console, ("hardware", "memory", "user t/s", "80 % of cases", "all t/s", "W", "bound", "why"), rows)
    notes = ["user t/s and all t/s are those of the slowest model, by the roofline"]
    if others:
        notes.append(f"{others} other machines do not hold the models")
    print_notes(console, notes)
