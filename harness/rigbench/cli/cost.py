"""`rigbench cost`: what a machine costs, and when it has paid for itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from rigbench import units
from rigbench.cli.options import CONTEXT, JSON, KNOWN_MODEL, QUANT, USERS, devices_of, number, say_json, without_effect
from rigbench.errors import InputError

if TYPE_CHECKING:
    from rigbench.predict.cost import Cost


def command(
    context: typer.Context,
    active_watts: float | None = number(
        None, "--active-watts", "Watts while it works (else the catalogue's, with -d)."
    ),
    idle_watts: float = number(0.0, "--idle-watts", "Watts while it waits."),
    hours: float = number(8.0, "--hours", "Hours of work a day.", 0, 24),
    price_kwh: float = number(0.16, "--price-kwh", "Price of a kWh."),
    currency: str = typer.Option("USD", "--currency", help="What all prices are in."),
    tokens_per_s: float | None = number(
        None, "--tokens-per-s", "All users together; else predicted from --hardware and --model.", above=True
    ),
    hardware_price: float | None = number(None, "--hardware-price", "What the machine costs."),
    years: float = number(3.0, "--years", "Years over which its price is spread.", above=True),
    api_input: float = number(0.0, "--api-input", "Million input tokens a day that an API would take."),
    api_output: float = number(0.0, "--api-output", "Million output tokens a day."),
    api_input_price: float = number(2.50, "--api-input-price", "Price of a million input tokens."),
    api_output_price: float = number(10.0, "--api-output-price", "Price of a million output tokens."),
    hardware: str | None = typer.Option(
        None,
        "--hardware",
        "-d",
        help="A catalogued device, or 2 of them: rtx-5090x2; its power, and with -m its speed.",
    ),
    model: str | None = KNOWN_MODEL,
    quant: str | None = QUANT,
    users: int = USERS,
    context_tokens: int = CONTEXT,
    published: bool = typer.Option(
        False, "--published", help="The published cost figures beside what their inputs give."
    ),
    as_json: bool = JSON,
) -> None:
    """Say what electricity and tokens cost, and when a machine has paid for itself."""
    from rigbench.predict import cost as money

    if published:
        without_effect(context, "--published", {"published", "as_json"})
        _published(as_json)
        return
    source = "stated"
    if active_watts is None:
        if hardware is None:
            raise InputError("state --active-watts, or name --hardware to take the catalogue's board power")
        device, devices = devices_of(hardware)
        if device.power_w is None:
            raise InputError(f"the catalogue has no power of {device.id}; state --active-watts")
        active_watts = device.power_w * devices
        source = f"board power of {device.id} in the catalogue, without the rest of the machine"
    elif hardware is not None and model is None:
        raise InputError("--hardware has no effect beside --active-watts without --model: leave one out")
    if model is not None and tokens_per_s is not None:
        raise InputError("--model has no effect beside --tokens-per-s: leave one out")
    if model is None:
        for name, is_set in (("--quant", quant), ("--users", users != 1), ("--context", context_tokens != 4096)):
            if is_set:
                raise InputError(f"{name} has no effect without --model")
    else:
        from rigbench.cli.predict import predictions

        prediction = predictions(hardware, model, quant, users, context_tokens, "", False, 16, None, None)[3][0]
        if prediction.output_tps is None:
            raise InputError(f"the speed of {model} is not known there: {prediction.reason}")
        tokens_per_s = prediction.output_tps
    api = money.api_cost_per_day(api_input, api_output, api_input_price, api_output_price) * money.DAYS_PER_MONTH
    result = money.cost(
        active_w=active_watts,
        idle_w=idle_watts,
        hours_per_day=hours,
        price_per_kwh=price_kwh,
        tokens_per_s=tokens_per_s,
        hardware_price=hardware_price,
        years_of_use=years,
        api_per_month=api or None,
        output_tokens_per_day=api_output * 1e6,
    )
    speed = None if tokens_per_s is None else round(tokens_per_s, 1)
    inputs = {"active_watts": active_watts, "from": source, "tokens_per_s": speed, "currency": currency}
    if as_json:
        say_json({"inputs": inputs, **asdict(result)})
    else:
        _print(result, inputs, currency)


def _print(result: Cost, inputs: dict[str, Any], currency: str) -> None:
    """The figures of one machine; each missing one with its reason."""
    from rigbench.report.table import output_console, print_notes, print_pairs

    def amount(name: str, unit: str = currency) -> str:
        value = getattr(result, name)
        if value is not None:
            return f"{value:.3g} {unit}" if abs(value) < 1 else f"{value:.2f} {unit}"
        reason = result.reasons.get(name)
        return f"{units.MISSING} ({reason})" if reason else units.MISSING

    console = output_console()
    print_notes(console, ["inputs: " + ", ".join(f"{name} {value}" for name, value in inputs.items())])
    pairs = [
        ("electricity of a year", f"{result.annual_kwh:.0f} kWh, {amount('annual_energy_cost')}"),
        ("electricity of a month", amount("energy_cost_per_month")),
        ("electricity of a million tokens", amount("energy_cost_per_million_tokens")),
        ("all costs of a million tokens", amount("total_cost_per_million_tokens")),
        ("output tokens of a day at most", _millions(result.capacity_tokens_per_day)),
        ("API a month", amount("api_cost_per_month")),
        ("break-even", amount("break_even_months", "months")),
        ("break-even without electricity", amount("break_even_months_ignoring_energy", "months")),
    ]
    print_pairs(console, pairs)


def _millions(tokens: float | None) -> str:
    return units.MISSING if tokens is None else f"{tokens / 1e6:.3g} million"


def _published(as_json: bool) -> None:
    """The published money figures beside what their own inputs give."""
    from rigbench.predict import published
    from rigbench.report.table import output_console, print_table

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
    columns = ("quantity", "unit", "published", "computed", "verdict", "inputs")
    lines = [
        (
            row["quantity"],
            row["unit"],
            row["value"],
            f"{computed:.2f}",
            "reproduces" if published.same(row["value"], computed) else "differs",
            row["inputs"],
        )
        for row, computed in rows
    ]
    print_table(console, columns, lines)
