"""Fifteen questions of buyers, answered on paper where that goes: bytes against memory, watts a token, price against savings."""

from __future__ import annotations

import pytest

from rigbench.models.footprint import catalogued_facts
from rigbench.predict.advise import Advice, Money, advise
from rigbench.predict.hardware import GIB, find

L8, L70, QWEN, R1 = "llama-3.1-8b", "llama-3.3-70b", "qwen3-30b-a3b", "deepseek-r1"
PRICES = {"rtx-4090": 1600.0, "rtx-3090": 700.0, "m4-max-40": 3700.0, "strix-halo": 2000.0}


def ask(*models: str, quant: str = "Q4_K_M", **words) -> list[Advice]:
    """The machines that do it, best first."""
    facts = [catalogued_facts(name, quant) for name in models]
    return [one for one in advise(facts, **words) if one.user_tps is not None]


def ids(advices: list[Advice]) -> list[str]:
    return [one.hardware.id for one in advices]


# question, how it is asked, machines that must be in the answer, machines that must not
WHO = [
    ("an 8B for one user in 8 GB", {"models": [L8], "most_memory_bytes": 8 * GIB}, {"rtx-4060"}, {"rtx-4090"}),
    # 42.5 GB of weights: 24 GB do not hold them, 64 GB of a Mac (48 usable) and 96 GB do
    ("a 70B at Q4 on one card", {"models": [L70], "vendor": "nvidia"}, {"rtx-pro-6000"}, {"rtx-4090", "rtx-5090"}),
    ("a 70B at Q4 on a Mac of 64 GB", {"models": [L70], "vendor": "apple", "most_memory_bytes": 64 * GIB}, {"m1-max-24"}, {"m1-8"}),
    # 671 billion weights of 4.8 bits are 404 GB: 75 % of 512 GB hold 412
    ("which Mac for DeepSeek R1", {"models": [R1], "vendor": "apple"}, {"m3-ultra-80"}, {"m2-ultra", "m4-max-40"}),
    ("an 8B on at most 75 W", {"models": [L8], "most_watts": 75}, {"l4"}, {"rtx-3090", "rtx-4090", "h100-sxm"}),
    ("an 8B and a 70B, both", {"models": [L8, L70], "vendor": "nvidia"}, {"rtx-pro-6000"}, {"rtx-4090"}),
    ("a 30B mixture at 50 t/s a user", {"models": [QWEN], "least_user_tps": 50}, {"rtx-4090", "m3-ultra-80"}, {"m1-8"}),
    ("a card for up to 1,000", {"models": [L8], "money": Money(PRICES, most=1000)}, {"rtx-3090"}, {"rtx-4090", "rtx-4060"}),
]  # fmt: skip


@pytest.mark.parametrize(("question", "words", "those", "others"), WHO, ids=[question for question, *_ in WHO])
def test_who_does_it(question: str, words: dict, those: set[str], others: set[str]) -> None:
    words = dict(words)
    names = set(ids(ask(*words.pop("models"), **words)))
    assert those <= names, question
    assert not others & names, question


def test_9_what_a_million_tokens_cost() -> None:
    """Watts / tokens per second are joules a token; 3.6 million joules are a kWh."""
    (one,) = ask(L8, users=4, machines=[find("rtx-4090")], money=Money(PRICES, price_per_kwh=0.30))
    assert one.cost is not None and one.output_tps is not None
    assert one.cost.energy_cost_per_million_tokens == pytest.approx(450 / one.output_tps / 3.6 * 0.30)
    yearly = one.output_tps * 8 * 3600 * 365 / 1e6
    energy = 450 * 8 * 365 / 1000 * 0.30
    assert one.cost.total_cost_per_million_tokens == pytest.approx((1600 / 3 + energy) / yearly)


def test_10_when_it_has_paid_for_itself() -> None:
    """350 W for 8 hours a day at 0.30 are 306.60 a year, 25.55 a month: 700 / (100 - 25.55) = 9.40 months."""
    money = Money(PRICES, price_per_kwh=0.30, api_per_month=100)
    (one,) = ask(L8, machines=[find("rtx-3090")], money=money)
    assert one.cost is not None and one.cost.break_even_months == pytest.approx(9.402, abs=0.001)


def test_11_the_machine_one_has_costs_its_electricity_alone() -> None:
    money = Money(PRICES, price_per_kwh=0.30, api_per_month=100)
    (one,) = ask(L8, machines=[find("rtx-3090")], owned="rtx-3090", money=money)
    assert one.cost is not None and one.cost.break_even_months == 0
    assert one.cost.total_cost_per_million_tokens == pytest.approx(one.cost.energy_cost_per_million_tokens)


def test_12_what_one_has_is_compared_though_no_budget_covers_it() -> None:
    money = Money(PRICES, most=800)
    assert set(ids(ask(L8, owned="rtx-4090", money=money))) == {"rtx-3090", "rtx-4090"}


def test_13_what_must_fit_leaves_out_what_is_tight() -> None:
    """A 32B at Q4 is about 20 GB: with cache and buffers, at some context more than nine tenths of 24 GB are used."""
    machine = [find("rtx-4090")]
    contexts = range(4096, 40960, 2048)
    tight = [
        n
        for n in contexts
        if (a := ask("qwen3-32b", machines=machine, context_tokens=n)) and a[0].bound == "capacity-bound"
    ]
    assert tight and not ask("qwen3-32b", machines=machine, context_tokens=tight[0], whole=True)


def test_14_how_many_more_users_fit() -> None:
    """What is left of the memory by the cache of a user: 2 x 32 layers x 8 heads x 128 x 2 bytes x 4,096 tokens = 537 MB."""
    (one,) = ask(L8, users=4, machines=[find("rtx-4090")])
    fit = one.slowest.fit
    assert fit.kv_bytes == 4 * 2 * 32 * 8 * 128 * 2 * 4096
    more = (fit.usable_bytes - fit.needed_bytes) // (fit.kv_bytes // 4)
    assert one.change.startswith(f"{more} more users")


def test_15_more_bandwidth_or_more_memory() -> None:
    """A 5090 reads 1.8 times as fast as a 4090, so the 8B is quicker on it, and neither holds the 70B."""
    order = ids(ask(L8, machines=[find("rtx-4090"), find("rtx-5090")]))
    assert order == ["rtx-5090", "rtx-4090"]
    (out,) = advise([catalogued_facts(L70, "Q4_K_M")], machines=[find("rtx-5090")])
    assert out.user_tps is None and "more memory" in out.change
