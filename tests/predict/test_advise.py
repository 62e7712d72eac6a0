"""Which machine, and why."""

from __future__ import annotations

import pytest

from rigbench.errors import InputError
from rigbench.models.footprint import catalogued_facts
from rigbench.predict.advise import advise
from rigbench.predict.hardware import GIB, find

LLAMA_8B = catalogued_facts("llama-3.1-8b", "Q4_K_M")
LLAMA_70B = catalogued_facts("llama-3.3-70b", "Q4_K_M")


def one(device: str, models, **options):
    (advice,) = advise(models, machines=[find(device)], **options)
    return advice


def test_speed_bound_where_all_fits() -> None:
    advice = one("rtx-4090", [LLAMA_8B])
    assert advice.bound == "speed-bound" and advice.user_tps and "GB/s" in advice.sentence


def test_capacity_bound_where_the_largest_does_not() -> None:
    advice = one("rtx-4090", [LLAMA_8B, LLAMA_70B])
    assert advice.bound == "capacity-bound" and advice.user_tps is None
    assert "llama-3.3-70b" in advice.sentence and "GB" in advice.sentence


def test_concurrency_bound_where_users_halve_each_other() -> None:
    advice = one("m2-ultra", [LLAMA_8B], users=16, context_tokens=2048)
    assert advice.bound == "concurrency-bound" and "16 have" in advice.sentence
    assert advice.output_tps == pytest.approx(16 * (advice.user_tps or 0))


def test_the_smallest_memory_that_holds_all_is_taken() -> None:
    assert one("m2-ultra", [LLAMA_70B], context_tokens=4096).hardware.memory_bytes == 64 * GIB
    assert one("m2-ultra", [LLAMA_70B], context_tokens=32768).hardware.memory_bytes == 128 * GIB


def test_best_first_within_the_budget_and_nothing_projected() -> None:
    advice = advise([LLAMA_70B], most_memory_bytes=64 * GIB)
    assert all(one.hardware.memory_bytes <= 64 * GIB and one.hardware.status == "shipping" for one in advice)
    speeds = [one.user_tps for one in advice if one.user_tps is not None]
    assert speeds == sorted(speeds, reverse=True) and speeds
    assert all(one.sentence.endswith(".") for one in advice)


def test_filters() -> None:
    assert {a.hardware.vendor for a in advise([LLAMA_8B], vendor="Apple")} == {"apple"}
    assert all((a.user_tps or 0) >= 200 for a in advise([LLAMA_8B], least_user_tps=200))


def test_no_model_and_no_machine_are_errors() -> None:
    with pytest.raises(InputError, match="model"):
        advise([])
    with pytest.raises(InputError, match="budget"):
        advise([LLAMA_8B], most_memory_bytes=GIB)
