"""Money, against the published figures and by hand."""

from __future__ import annotations

import pytest

from rigbench.errors import InputError
from rigbench.predict.cost import annual_kwh, api_cost_per_day, break_even_months, cost, energy_cost_per_million


def test_published_energy_and_break_even() -> None:
    assert round(annual_kwh(725, 100, 8) * 0.16, 2) == 432.16
    assert round(annual_kwh(240, 15, 8) * 0.16, 2) == 126.14
    api = api_cost_per_day(1, 1, 2.5, 10) * 30
    assert api == 375
    assert round(break_even_months(4100, api) or 0) == 11
    assert round(break_even_months(7199, api) or 0) == 19


def test_energy_counts_against_the_saving() -> None:
    result = cost(active_w=725, idle_w=100, hours_per_day=8, price_per_kwh=0.16, hardware_price=4100, api_per_month=375)
    assert result.break_even_months == pytest.approx(4100 / (375 - 432.16 / 12), rel=1e-4)
    assert result.break_even_months_ignoring_energy == pytest.approx(4100 / 375)


def test_a_million_tokens_by_hand() -> None:
    # 360 W at 100 t/s: 3.6 J a token, 1 kWh a million
    assert energy_cost_per_million(360, 100, 0.30) == pytest.approx(0.30)
    result = cost(
        active_w=360,
        idle_w=0,
        hours_per_day=24,
        price_per_kwh=0.30,
        tokens_per_s=100,
        hardware_price=3153.6,
        years_of_use=1,
    )
    # 3153.6 million tokens a year: the machine adds one unit to each million
    assert result.total_cost_per_million_tokens == pytest.approx(1.30)


def test_never_is_none_with_the_reason() -> None:
    result = cost(
        active_w=5000, idle_w=5000, hours_per_day=24, price_per_kwh=0.5, hardware_price=1000, api_per_month=10
    )
    assert result.break_even_months is None and "never" in result.reasons["break_even_months"]
    assert result.energy_cost_per_million_tokens is None and "energy_cost_per_million_tokens" in result.reasons


@pytest.mark.parametrize(
    "change",
    [
        {"active_w": -1.0},
        {"hours_per_day": 25.0},
        {"price_per_kwh": float("nan")},
        {"tokens_per_s": 0.0},
        {"years_of_use": 0.0},
    ],
)
def test_the_impossible_is_an_input_error(change: dict[str, float]) -> None:
    arguments = {"active_w": 100.0, "idle_w": 10.0, "hours_per_day": 8.0, "price_per_kwh": 0.2, **change}
    with pytest.raises(InputError):
        cost(**arguments)
