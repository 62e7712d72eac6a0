"""What fits, by hand-worked sums."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rigbench.errors import InputError
from rigbench.models.footprint import catalogued_facts
from rigbench.predict.fit import compute_bytes, fit, usable_bytes, with_fit
from rigbench.predict.hardware import GIB, find
from rigbench.predict.predictors import roofline

LLAMA_70B = catalogued_facts("llama-3.3-70b", "Q4_K_M")


def test_usable_memory_of_each_kind() -> None:
    assert usable_bytes(find("rtx-4090")) == round((24 - 0.6) * GIB)
    assert usable_bytes(find("rtx-4090"), reserved_bytes=GIB) == 23 * GIB
    assert usable_bytes(find("m2-ultra")) == round(192 * GIB * 0.75)
    assert usable_bytes(replace(find("m4-10"), memory_bytes=16 * GIB)) == round(16 * GIB * 0.67)
    assert usable_bytes(find("strix-halo")) == round(128 * GIB * 0.9)


def test_cache_and_scratch_by_hand() -> None:
    result = fit(LLAMA_70B, find("m2-ultra"), users=4, context_tokens=8192)
    assert result.kv_bytes == 4 * 8192 * 80 * 2 * 8 * 128 * 2
    assert result.compute_bytes == compute_bytes(LLAMA_70B) == 512 * (128_256 + 8 * 8192) * 4
    assert result.needed_bytes == LLAMA_70B.file_bytes + result.kv_bytes + result.compute_bytes


@pytest.mark.parametrize(
    ("device", "devices", "context", "answer"),
    [
        ("rtx-pro-6000", 1, 4096, "fits"),
        ("rtx-6000-ada", 1, 4096, "fits"),  # 42.5 + 1.3 + 0.4 GB of 50.9, more than a tenth left
        ("rtx-6000-ada", 1, 16384, "tight"),  # 42.5 + 5.4 + 0.4 GB
        ("rtx-4090", 1, 4096, "offload"),
        ("rtx-4090", 2, 16384, "tight"),
        ("m2-max", 1, 4096, "fits"),
        ("m1-8", 1, 4096, "does not fit"),
    ],
)
def test_the_four_answers_for_a_70b(device: str, devices: int, context: int, answer: str) -> None:
    assert fit(LLAMA_70B, find(device), context_tokens=context, devices=devices).answer == answer


def test_many_users_can_turn_a_fit_into_none() -> None:
    card = find("rtx-pro-6000")
    assert fit(LLAMA_70B, card, users=1, context_tokens=4096).answer == "fits"
    assert fit(LLAMA_70B, card, users=64, context_tokens=16384).answer == "does not fit"


def test_shared_memory_is_never_offloaded_and_a_small_host_holds_nothing() -> None:
    assert fit(LLAMA_70B, find("m4-10")).answer == "does not fit"
    assert fit(LLAMA_70B, find("rtx-4090"), host_memory_bytes=8 * GIB).answer == "does not fit"


def test_offload_runs_at_the_hosts_bandwidth() -> None:
    card = find("rtx-4090")
    result = fit(LLAMA_70B, card, context_tokens=1000)
    alone = roofline(LLAMA_70B, card.bandwidth_bytes_per_s, device=card, context_tokens=500)
    prediction = with_fit(alone, result, host_bandwidth_bytes_per_s=50e9)
    away = 1 - result.share_on_device
    assert 1 / (prediction.user_tps or 0) == pytest.approx(
        result.share_on_device / (alone.user_tps or 0) + away * (alone.bytes_per_step or 0) / 50e9 + 0.2e-3
    )
    assert (prediction.user_tps or 0) <= (prediction.ceiling_user_tps or 0)
    assert "host memory" in (prediction.reason or "")


def test_what_does_not_fit_has_no_prediction_but_a_reason() -> None:
    prediction = with_fit(roofline(LLAMA_70B, 68e9, device=find("m1-8")), fit(LLAMA_70B, find("m1-8")))
    assert prediction.user_tps is None and prediction.output_tps is None and "too much" in (prediction.reason or "")


def test_the_impossible_is_an_input_error() -> None:
    with pytest.raises(InputError):
        fit(LLAMA_70B, find("m1-8"), users=0)
