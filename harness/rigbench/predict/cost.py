"""Money: what a machine's electricity costs, what a million tokens cost, and when it has paid for itself against an API.

annual energy    (active W x h + idle W x (24 - h)) x 365 x price per kWh
per million      energy of the time that a million tokens take, and the machine's price spread over its years of use
break-even       hardware / (API cost per month - energy cost per month)

rigbench cost --active-watts 725 --idle-watts 100 --hours 8 --price-kwh 0.16 --hardware-price 4100 --tokens-per-s 250
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rigbench.errors import InputError

DAYS_PER_YEAR = 365
DAYS_PER_MONTH = 30
"""The published figures reckon with months of 30 days."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Figures in one currency; None with the reason in `reasons`. `capacity_tokens_per_day`: what the machine makes at most."""

    annual_kwh: float
    annual_energy_cost: float
    energy_cost_per_month: float
    energy_cost_per_million_tokens: float | None
    total_cost_per_million_tokens: float | None
    api_cost_per_month: float | None
    break_even_months: float | None
    break_even_months_ignoring_energy: float | None
    capacity_tokens_per_day: float | None
    reasons: dict[str, str]


def _positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name.replace('_', ' ')} of {value:g} is impossible: give 0 or more")


def _above_zero(value: float, what: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{value:g} {what} is impossible: give a number above 0")


def annual_kwh(active_w: float, idle_w: float, hours_per_day: float) -> float:
    """Energy of a year in kWh. Raises InputError for negative watts or a day of more than 24 hours."""
    _positive(active_watts=active_w, idle_watts=idle_w, hours=hours_per_day)
    if hours_per_day > 24:
        raise InputError(f"{hours_per_day:g} hours a day is impossible: give 0 to 24")
    return (active_w * hours_per_day + idle_w * (24 - hours_per_day)) * DAYS_PER_YEAR / 1000


def api_cost_per_day(million_input: float, million_output: float, input_price: float, output_price: float) -> float:
    """Prices are per million tokens."""
    _positive(million_input=million_input, million_output=million_output)
    _positive(input_price=input_price, output_price=output_price)
    return million_input * input_price + million_output * output_price


def break_even_months(hardware_price: float, api_per_month: float, energy_per_month: float = 0.0) -> float | None:
    """Months until the machine has paid for itself; None where its electricity costs as much as the API."""
    _positive(hardware_price=hardware_price, api_cost_per_month=api_per_month, energy_cost_per_month=energy_per_month)
    saved = api_per_month - energy_per_month
    return hardware_price / saved if saved > 0 else None


def energy_cost_per_million(watts: float, tokens_per_s: float, price_per_kwh: float) -> float:
    """Electricity of a million tokens at this speed."""
    _positive(watts=watts, price_per_kwh=price_per_kwh)
    _above_zero(tokens_per_s, "tokens per second")
    return watts / tokens_per_s * 1e6 / 3.6e6 * price_per_kwh


def cost(
    *,
    active_w: float,
    idle_w: float,
    hours_per_day: float,
    price_per_kwh: float,
    tokens_per_s: float | None = None,
    hardware_price: float | None = None,
    years_of_use: float = 3.0,
    api_per_month: float | None = None,
    output_tokens_per_day: float = 0.0,
) -> Cost:
    """Everything that the given figures allow. `tokens_per_s` is all users' together (output_tps). A machine that cannot make
    `output_tokens_per_day` never takes the API's place: it has no break-even."""
    _positive(price_per_kwh=price_per_kwh, hardware_price=hardware_price, api_cost_per_month=api_per_month)
    _above_zero(years_of_use, "years of use")
    energy = annual_kwh(active_w, idle_w, hours_per_day)
    yearly = energy * price_per_kwh
    monthly = yearly / 12
    reasons: dict[str, str] = {}
    per_million = total = None
    if tokens_per_s is None:
        names = ("energy_cost_per_million_tokens", "total_cost_per_million_tokens")
        reasons |= dict.fromkeys(names, "no tokens per second given")
    else:
        per_million = energy_cost_per_million(active_w, tokens_per_s, price_per_kwh)
        millions = tokens_per_s * hours_per_day * 3600 * DAYS_PER_YEAR / 1e6
        if hardware_price is None:
            reasons["total_cost_per_million_tokens"] = "no price of the hardware given"
        elif millions == 0:
            reasons["total_cost_per_million_tokens"] = "no hours of use"
        else:
            total = (hardware_price / years_of_use + yearly) / millions
    months = plain = None
    capacity = None if tokens_per_s is None else tokens_per_s * hours_per_day * 3600
    if capacity is not None and output_tokens_per_day > capacity:
        reasons["break_even_months"] = reasons["break_even_months_ignoring_energy"] = (
            f"never: the API makes {output_tokens_per_day / 1e6:g} million tokens a day, "
            f"this machine {capacity / 1e6:.3g} million in {hours_per_day:g} hours"
        )
    elif hardware_price is None or api_per_month is None:
        reasons["break_even_months"] = "needs the price of the hardware and the API's cost per month"
    else:
        months = break_even_months(hardware_price, api_per_month, monthly)
        plain = break_even_months(hardware_price, api_per_month)
        if months is None:
            reasons["break_even_months"] = "never: the electricity costs as much as the API"
    return Cost(energy, yearly, monthly, per_million, total, api_per_month, months, plain, capacity, reasons)
