"""`rigbench advise`: which machine to take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from rigbench import units
from rigbench.cli.options import CONTEXT, JSON, QUANT, USERS, facts_named, number, one_of, say_json
from rigbench.errors import InputError

if TYPE_CHECKING:
    from rigbench.predict.advise import Advice, Money
    from rigbench.predict.cost import Cost


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
    watts: float | None = number(None, "--watts", "At most so many watts of the device.", above=True),
    whole: bool = typer.Option(False, "--must-fit", help="Leave out what fits tightly."),
    own: str | None = typer.Option(None, "--own", help="A machine you have: it is compared at no price."),
    price: list[str] = typer.Option([], "--price", help="ID=AMOUNT, what a machine costs you; may be repeated."),
    budget: float | None = number(None, "--budget", "Only machines with a --price up to this.", above=True),
    price_kwh: float = number(0.0, "--price-kwh", "What a kWh costs."),
    hours: float = number(8.0, "--hours", "Hours of use a day.", 0, 24),
    api_month: float | None = number(None, "--api-month", "What an API costs a month for the same work.", above=True),
    top: int = number(15, "--top", "How many machines to show (0: all).", whole=True),
    as_json: bool = JSON,
) -> None:
    """Say which machine runs these models for these users, and why."""
    from rigbench.predict.advise import advise as ask
    from rigbench.predict.hardware import GIB, find, hardware

    makers = dict.fromkeys(device.vendor for device in hardware() if device.vendor != "cpu")
    ranked = ask(
        [facts_named(name, quant)[0] for name in model],
        users=users,
        context_tokens=context,
        most_memory_bytes=None if memory is None else round(memory * GIB),
        vendor=None if vendor is None else one_of("--vendor", vendor, makers),
        least_user_tps=least,
        offload=offload,
        most_watts=watts,
        whole=whole,
        owned=None if own is None else find(own).id,
        money=_money(price, budget, price_kwh, hours, api_month),
    )
    fitting = [one for one in ranked if one.user_tps is not None]
    if not fitting:
        nearest = f"; {ranked[0].hardware.id}: {ranked[0].sentence}" if ranked else ""
        raise InputError(f"no machine of the catalogue does what was asked for{nearest}")
    _print(fitting[:top] if top else fitting, len(ranked) - len(fitting), as_json)


def _costs(cost: Cost | None) -> tuple[str, str, str]:
    """Electricity and everything for a million tokens, and the months until it has paid for itself."""
    if cost is None:
        return (units.MISSING,) * 3
    months = cost.break_even_months
    return (
        units.number_text(cost.energy_cost_per_million_tokens),
        units.number_text(cost.total_cost_per_million_tokens),
        units.MISSING if months is None else f"{units.number_text(months)} months",
    )


def _money(
    prices: Sequence[str], budget: float | None, price_kwh: float, hours: float, api_month: float | None
) -> Money | None:
    from rigbench.predict.advise import Money
    from rigbench.predict.hardware import find

    amounts = {}
    for text in prices:
        name, _, amount = text.partition("=")
        try:
            value = float(amount)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9:
            raise InputError(f"--price {text!r}: write ID=AMOUNT, for example rtx-4090=1600")
        amounts[find(name).id] = value
    if budget is not None and not amounts:
        raise InputError("--budget needs the prices that you would pay: --price rtx-4090=1600 (the catalogue has none)")
    if not amounts and not price_kwh and api_month is None:
        return None
    return Money(amounts, budget, price_kwh, hours, api_month)


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
    columns = ("hardware", "memory", "user t/s", "80 % of cases", "all t/s", "W", "bound", "why")
    print_table(console, columns, rows)
    if any(one.cost for one in advices):
        lines = [(one.hardware.id, *_costs(one.cost)) for one in advices]
        print_table(console, ("hardware", "energy/million", "all/million", "break-even"), lines)
    print_notes(console, [f"what would change {one.hardware.id}: {one.change}" for one in advices[:3]])
    notes = ["user t/s and all t/s are those of the slowest model, by the roofline"]
    if others:
        notes.append(f"{others} other machines do not hold the models")
    print_notes(console, notes)
