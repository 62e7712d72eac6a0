"""`rigbench cost`: what a machine costs, and when it has paid for itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from rigbench import units
from rigbench.cli.options import CONTEXT, HARDWARE, JSON, KNOWN_MODEL, QUANT, USERS, devices_of, say_json
from rigbench.errors import InputError

if TYPE_CHECKING:
    from rigbench.predict.cost import Cost


def command(
    active_watts: float | None = typer.Option(
        None, "--active-watts", help="Watts while it works (else the catalogue's, with --hardware)."
    ),
    idle_watts: float = typer.Option(0.0, "--idle-watts", help="Watts while it waits."),
    hours: float = typer.Option(8.0, "--hours", help="Hours of work a day."),
    price_kwh: float = typer.Option(0.16, "--price-kwh", help="Price of a kWh."),
    tokens_per_s: float | None = typer.Option(
        None, "--tokens-per-s", help="All users together; else predicted from --hardware and --model."
    ),
    hardware_price: float | None = typer.Option(None, "--hardware-price", help="What the machine costs."),
    years: float = typer.Option(3.0, "--years", help="Years over which its price is spread."),
    api_input: float = typer.Option(0.0, "--api-input", help="Million input tokens a day that an API would take."),
    api_output: float = typer.Option(0.0, "--api-output", help="Million output tokens a day."),
    api_input_price: float = typer.Option(2.50, "--api-input-price", help="Price of a million input tokens."),
    api_output_price: float = typer.Option(10.0, "--api-output-price", help="Price of a million output tokens."),
    hardware: str | None = HARDWARE,
    model: str | None = KNOWN_MODEL,
    quant: str = QUANT,
    users: int = USERS,
    context: int = CONTEXT,
    published: bool = typer.Option(
        False, "--published", help="The published cost figures beside what their inputs give."
    ),
    as_json: bool = JSON,
) -> None:
    """Electricity of a year, a million tokens' cost, and when the machine has paid for itself against an API."""
    from rigbench.predict import cost as money

    if published:
        _published(as_json)
        return
    source = "stated"
    if active_watts is None:
        if hardware is None:
            raise InputError("state --active-watts, or name --hardware to take the catalogue's board power")
        device, devices = devices_of(hardware)
        if device.power_w is None:
            raise InputError(f"the catalogue has no power of {device.id}; state --active-watts")
        active_watts, source = (
            device.power_w * devices,
            f"board power of {device.id} in the catalogue, without the rest of the machine",
        )
    if tokens_per_s is None and hardware is not None and model is not None:
        from rigbench.cli.predict import predictions

        prediction = predictions(hardware, model, quant, users, context, "", False, 16, None, None)[3][0]
        tokens_per_s = prediction.output_tps
    api = money.api_cost_per_day(api_input, api_output, api_input_price, api_output_price) * money.DAYS_PER_MONTH
    found = money.cost(
        active_w=active_watts,
        idle_w=idle_watts,
        hours_per_day=hours,
        price_per_kwh=price_kwh,
        tokens_per_s=tokens_per_s,
        hardware_price=hardware_price,
        years_of_use=years,
        api_per_month=api or None,
    )
    _print(
        found,
        {"active_watts": active_watts, "from": source, "tokens_per_s": tokens_per_s and round(tokens_per_s, 1)},
        as_json,
    )


def _print(found: Cost, inputs: dict[str, Any], as_json: bool) -> None:
    """The figures of one machine; each missing one with its reason."""
    from rich.text import Text

    from rigbench.report.table import output_console

    if as_json:
        say_json({"inputs": inputs, **asdict(found)})
        return
    console = output_console()
    console.print(Text("inputs: " + ", ".join(f"{name} {value}" for name, value in inputs.items()), style="dim"))
    shown = (
        ("energy of a year", f"{found.annual_kwh:.0f} kWh, {found.annual_energy_cost:.2f}"),
        ("energy of a month", f"{found.energy_cost_per_month:.2f}"),
        (
            "energy of a million tokens",
            _money(found.energy_cost_per_million_tokens, found, "energy_cost_per_million_tokens"),
        ),
        (
            "all costs of a million tokens",
            _money(found.total_cost_per_million_tokens, found, "total_cost_per_million_tokens"),
        ),
        ("API a month", _money(found.api_cost_per_month, found, "")),
        ("break-even", _money(found.break_even_months, found, "break_even_months", " months")),
        (
            "break-even without energy",
            _money(found.break_even_months_ignoring_energy, found, "break_even_months", " months"),
        ),
    )
    for what, text in shown:
        console.print(f"{what:32} {text}", soft_wrap=True)


def _money(value: float | None, found: Cost, name: str, unit: str = "") -> str:
    if value is not None:
        return f"{value:.3g}{unit}" if abs(value) < 1 else f"{value:.2f}{unit}"
    reason = found.reasons.get(name)
    return f"{units.MISSING} ({reason})" if reason else units.MISSING


def _published(as_json: bool) -> None:
    """The published money figures beside what their own inputs give."""
    from rigbench.predict import published
    from rigbench.report.table import make_table, output_console

    rows = [(row, published.computed_cost(row)) for row in published.costs()]
    if as_json:
        say_json(
            [
                {**row, "computed": computed, "reproduces": published.same(row["value"], computed)}
                for row, computed in rows
            ]
        )
        return
    console = output_console()
    table = make_table(console, ("quantity", "unit", "published", "computed", "verdict", "inputs"), left=2)
    table.columns[4].justify = table.columns[5].justify = "left"
    for row, computed in rows:
        verdict = "reproduces" if published.same(row["value"], computed) else "differs"
        table.add_row(row["quantity"], row["unit"], row["value"], f"{computed:.2f}", verdict, row["inputs"])
    console.print(table)
