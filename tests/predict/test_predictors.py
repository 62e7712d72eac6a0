"""Hand-worked predictions, and properties that hold for any machine."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigbench.errors import InputError
from rigbench.models.footprint import catalogued_facts, weight_bytes
from rigbench.predict.fit import fit, with_fit
from rigbench.predict.hardware import find, hardware
from rigbench.predict.predictors import active_bytes, ceiling, published, roofline
from rigbench.predict.roofline import Setup, constants, platform_of, step_seconds, terms
from rigbench.records import ModelFacts

DENSE = ModelFacts(
    name="dense", format="gguf", architecture="llama", quantization="Q8_0", file_bytes=8_500_000_000, parameters=8_000_000_000,
    active_parameters=8_000_000_000, dense_bytes=8_000_000_000, expert_bytes=0, experts=0, experts_used=0, layers=32,
    kv_bytes_per_token=131_072, vocab_size=128_256, embedding_length=4096,
)  # fmt: skip
MOE = replace(
    DENSE, name="moe", architecture="qwen3moe", dense_bytes=2_000_000_000, expert_bytes=16_000_000_000, file_bytes=18_500_000_000,
    parameters=18_000_000_000, active_parameters=3_000_000_000, experts=128, experts_used=8,
)  # fmt: skip


def test_ceiling_by_hand() -> None:
    # 8 GB of weights + 4 users x 1000 tokens x 131,072 bytes = 8.524 GB at 1 TB/s
    prediction = ceiling(DENSE, 1e12, users=4, context_tokens=1000)
    assert prediction.bytes_per_step == 8_524_288_000
    assert prediction.user_tps == pytest.approx(1e12 / 8_524_288_000)
    assert prediction.output_tps == pytest.approx(4e12 / 8_524_288_000)


def test_published_divides_by_the_file_and_active_bytes_by_what_is_read() -> None:
    assert published(MOE, 1e12).user_tps == pytest.approx(1e12 / 18.5e9 * 0.65)
    # 2 GB dense + 8 of 128 experts of 16 GB = 3 GB
    assert active_bytes(MOE, 1e12).user_tps == pytest.approx(1e12 / 3e9 * 0.65)


def test_published_is_silent_about_several_users() -> None:
    prediction = published(DENSE, 1e12, users=2)
    assert prediction.user_tps is None and prediction.reason is not None and prediction.ceiling_user_tps is not None


def test_no_bandwidth_is_none_with_the_reason() -> None:
    for rule in (published, active_bytes, ceiling, roofline):
        prediction = rule(DENSE, None)
        assert (
            prediction.user_tps is None and prediction.output_tps is None and "bandwidth" in (prediction.reason or "")
        )


def test_union_of_experts_by_hand() -> None:
    assert weight_bytes(MOE, 1) == pytest.approx(2e9 + 16e9 * 8 / 128)
    assert weight_bytes(MOE, 2) == pytest.approx(2e9 + 16e9 * (1 - (120 / 128) ** 2))


KNOWN = {
    "stream.base": 0.8, "stream.metal": 1.0, "compute.base": 10.0, "compute.q8": 2.0, "experts.base": 0.5, "layer.base": 0.1,
    "layer.experts": 1.5, "cache.apple": 0.5, "heads.apple": 2.0, "users.base": 4.0, "matmul.base": 60.0, "hops.layer": 0.3,
    "overlap.power": 2.0, "years.fall": 1.25, "years.first": 2024.0, "years.last": 2026.0, "years.middle": 2025.0,
    "years.today": 2026.0, "years.flash_attention": 2024.75, "lanes.base": 100.0, "recurrent.full_share": 0.25,
}  # fmt: skip


def test_roofline_by_hand() -> None:
    """Every term of one MoE step, worked out on paper with round constants."""
    chip = replace(find("m2-max-38"), gpu_cores=40, clock_hz=1e9, family="paper")
    setup = Setup(400e9, "metal", chip, users=3, context_tokens=1000, devices=2)
    share = 3 * 8 / 128  # each user has its experts read for it alone
    read = 2e9 + 16e9 * share
    stream = read / (400e9 * 0.8)
    once = 3e9 * (18 / 18.5) / (40e9 * 100)  # weights a token touches / lane cycles per second
    compute = once * 10 * 2
    expected = {
        "stream": stream,
        "compute": (stream**2 + compute**2) ** 0.5 - stream,
        "experts": 16e9 * share / 400e9 * 0.5,
        "layers": 32 * 2.0 * 0.1e-3 * 1.5 / 1.25,  # 1 GHz takes twice what 2 GHz takes; a year past the middle
        "cache": 3 * 131_072_000 / (400e9 * 0.5),
        "heads": 3 * 4 * 32 * 4096 * 1000 / (400e9 * 2),
        "users": 2 * once * 4,
        "hops": 0.3e-3,
    }
    parts = step_seconds(MOE, setup, KNOWN)
    assert parts.pop("step") == pytest.approx(sum(expected.values()))
    assert parts == pytest.approx(expected)


def test_past_eight_users_a_tile_costs_the_same_for_any_number_of_them() -> None:
    """llama.cpp's kernels switch there: 9 to 32 users wait for the same tile, and all tokens per second jump at 32."""
    nine, tile, two = (terms(DENSE, Setup(400e9, "metal", find("m2-max-38"), users=n), KNOWN) for n in (9, 32, 33))
    assert nine["matmul"] == tile["matmul"] and two["matmul"].base == pytest.approx(2 * tile["matmul"].base)
    assert nine["users"].base == 0
    assert "matmul" not in terms(DENSE, Setup(400e9, "metal", find("m2-max-38"), users=8), KNOWN)


def test_a_prompt_is_bound_by_arithmetic_and_its_end_by_attention_too() -> None:
    facts = catalogued_facts("llama-2-7b", "Q4_0")

    def rate(context: float, machine: str = "m2-max-38") -> float:
        device = find(machine)
        setup = Setup(device.bandwidth_bytes_per_s, "metal", device, context_tokens=context, prompt_tokens=512)
        return 1 / step_seconds(facts, setup, constants())["step"]

    assert rate(0) == pytest.approx(755, rel=0.15)  # llama.cpp's own table for the 38-core M2 Max
    assert rate(16_384) < 0.8 * rate(0)


def test_an_answer_has_its_interval_and_a_prompt_speed() -> None:
    device = find("rtx-4090")
    prediction = roofline(catalogued_facts("llama-3.1-8b", "Q4_K_M"), device.bandwidth_bytes_per_s, device=device)
    low, high = prediction.inputs["user_tps_80_percent"]
    assert prediction.user_tps is not None and low < prediction.user_tps < high < 1.5 * prediction.user_tps
    inputs = prediction.inputs
    assert inputs["prompt_tokens"] == 512 and 5_000 < inputs["prefill_tps"] < 20_000
    low, high = inputs["prefill_tps_80_percent"]
    assert low < inputs["prefill_tps"] < high


def _prompt(facts: ModelFacts, machine: str, **changes: float) -> dict[str, float]:
    """Base seconds of a prompt's token, before constants, on CUDA."""
    device = find(machine)
    setup = Setup(device.bandwidth_bytes_per_s, "cuda", device, prompt_tokens=2048, **changes)
    known = constants() | {"prefill.tile": 64, "prefill.batch": 512, "prefill.power": 0.8}
    return {name: term.base for name, term in terms(facts, setup, known).items()}


def test_the_experts_of_a_batch_multiply_tiles_that_are_half_empty() -> None:
    # 512 tokens x 8 of 128 experts: 32 tokens an expert, each of which waits for half a tile of 64 more; all are touched
    flops = 2 * (2e9 + 1e9 * (1 + 32 / 32)) * 18 / 18.5  # 2 GB dense and 1 GB of experts that a token reads
    card = find("rtx-4090")
    peak = 2 * (card.gpu_cores or 0) * (card.clock_hz or 0) * 128 * _slower("rtx-4090", 0.8)
    assert _prompt(MOE, "rtx-4090")["compute"] == pytest.approx(flops / peak, rel=1e-6)
    wide = _prompt(MOE, "rtx-4090", batch_tokens=2048)  # 128 tokens an expert: a quarter of the emptiness
    assert wide["compute"] / _prompt(MOE, "rtx-4090")["compute"] == pytest.approx((2 + 1.25) / 4, rel=1e-6)


def _slower(machine: str, power: float) -> float:
    """The clock of an Ada card under full load, by the median of the family's watts."""
    watts = {
        card.id: card.power_w / (card.gpu_cores * card.clock_hz * 1e-9)
        for card in hardware()
        if card.family == "ada" and card.power_w and card.gpu_cores and card.clock_hz
    }
    return min(1.0, watts[machine] / median(watts.values())) ** power


def test_a_chip_with_few_watts_for_its_cores_slows_down() -> None:
    """The L4 has 72 W for 58 cores, the RTX 4060 Ti 160 W for 34."""
    four, sixty = find("l4"), find("rtx-4060-ti")
    cycles = [(card.gpu_cores or 0) * (card.clock_hz or 0) for card in (four, sixty)]
    seconds = [_prompt(DENSE, card.id)["compute"] for card in (four, sixty)]
    assert seconds[0] / seconds[1] == pytest.approx(cycles[1] / cycles[0] / _slower("l4", 0.8), rel=1e-6)
    assert _slower("l4", 0.8) < 0.6 and _slower("rtx-4060-ti", 0.8) == 1


def test_a_server_of_llama_cpp_sorts_each_sequences_vocabulary() -> None:
    setup = Setup(1e12, "cuda", find("rtx-4090"), users=4)
    assert "host" not in terms(DENSE, setup, KNOWN)
    served = terms(DENSE, replace(setup, served=True), KNOWN)
    assert served["host"].base == pytest.approx(4 * 128_256 * 1e-9)
    assert "host" not in terms(DENSE, replace(setup, served=True, platform="mlx"), KNOWN)
    slower = roofline(DENSE, 1e12, backend="ollama", platform="cuda", device=find("rtx-4090"))
    assert (slower.user_tps or 0) < (roofline(DENSE, 1e12, platform="cuda", device=find("rtx-4090")).user_tps or 0)


def test_the_first_token_comes_after_all_prompts_and_a_step() -> None:
    device, facts = find("m2-max-38"), catalogued_facts("llama-3.1-8b", "Q4_K_M")
    for users in (1, 4):
        answer = roofline(facts, device.bandwidth_bytes_per_s, device=device, users=users, prompt_tokens=2000)
        expected = users * 2000 / answer.inputs["prefill_tps"] + 1 / (answer.user_tps or 0)
        assert answer.inputs["ttft_s"] == pytest.approx(expected, rel=0.01)


def test_tensor_parallel_adds_bandwidth_and_layer_split_costs_a_little() -> None:
    card = find("rtx-5090")
    single, layers, tensor = (
        roofline(DENSE, card.bandwidth_bytes_per_s, device=card, devices=n, tensor_parallel=t).user_tps or 0
        for n, t in ((1, False), (2, False), (2, True))
    )
    assert 0.90 < layers / single < 1.0
    assert 1.2 < tensor / single < 2.0


def test_measured_bandwidth_is_not_discounted_twice() -> None:
    cpu = roofline(DENSE, 40e9, device_kind="cpu", measured=True, cpu_cores=16).user_tps or 0
    sheet = roofline(DENSE, 40e9, device_kind="cpu", cpu_cores=16).user_tps or 0
    assert sheet < cpu <= 40e9 / 8e9


def test_the_simulator_knows_no_other_cost_than_bytes() -> None:
    prediction = roofline(DENSE, 1e12, device_kind="sim", users=2, context_tokens=100)
    assert prediction.user_tps == ceiling(DENSE, 1e12, users=2, context_tokens=100).user_tps
    assert prediction.predictor == "roofline"


@pytest.mark.parametrize(
    ("backend", "platform"),
    [
        ("llama.cpp-cuda", "cuda"),
        ("llama.cpp-metal", "metal"),
        ("ds4-metal", "metal"),
        ("vllm-mlx", "mlx"),
        ("llama.cpp-rocm", "rocm"),
        ("llama.cpp-vulkan", "vulkan"),
        ("vllm", "vllm"),
        ("SGLang", "vllm"),
        ("llama.cpp-cpu", "cpu"),
    ],
)
def test_platforms(backend: str, platform: str) -> None:
    assert platform_of(backend) == platform


def test_a_backend_without_platform_takes_the_devices_usual_one() -> None:
    assert platform_of("ollama", find("m4-max-40")) == "metal"
    with pytest.raises(InputError, match="ollama"):
        platform_of("ollama")


@pytest.mark.parametrize(
    ("facts", "bandwidth", "users", "context", "says"),
    [
        (DENSE, 0.0, 1, 0, "0 GB/s"),
        (DENSE, float("nan"), 1, 0, "nan GB/s"),
        (DENSE, -5e9, 1, 0, "-5 GB/s"),
        (DENSE, 1e12, 0, 0, "0 users"),
        (DENSE, 1e12, -8, 0, "-8 users"),
        (DENSE, 1e12, 1, -1, "-1 tokens"),
        (DENSE, 1e12, 1, float("nan"), "nan tokens"),
        (replace(MOE, experts=8, experts_used=10), 1e12, 1, 0, "10 experts used of 8"),
        (replace(DENSE, dense_bytes=0), 1e12, 1, 0, "no weight bytes"),
    ],
)
def test_the_impossible_is_an_input_error(
    facts: ModelFacts, bandwidth: float, users: int, context: float, says: str
) -> None:
    for rule in (published, active_bytes, ceiling, roofline):
        with pytest.raises(InputError, match=says):
            rule(facts, bandwidth, users=users, context_tokens=context)


machines = st.sampled_from(
    [None, *(find(i) for i in ("rtx-4090", "a100", "m2-ultra", "m1-8", "strix-halo", "mi300x", "raspberry-pi-5"))]
)
backends = st.sampled_from(
    ["llama.cpp-cuda", "llama.cpp-metal", "llama.cpp-rocm", "llama.cpp-vulkan", "llama.cpp-cpu", "mlx", "vllm"]
)


@settings(max_examples=150, deadline=None)
@given(
    facts=st.sampled_from([DENSE, MOE]), device=machines, backend=backends, bandwidth=st.floats(1e9, 2e13),
    more=st.floats(1.0, 4.0), users=st.integers(1, 300), context=st.integers(0, 200_000), year=st.floats(2022, 2030),
)  # fmt: skip
def test_more_bandwidth_is_never_slower_and_nothing_beats_the_ceiling(
    facts, device, backend, bandwidth, more, users, context, year
) -> None:
    low, high = (
        roofline(facts, b, backend=backend, device=device, users=users, context_tokens=context, year=year)
        for b in (bandwidth, bandwidth * more)
    )
    assert low.user_tps is not None and high.user_tps is not None and low.ceiling_user_tps is not None
    assert 0 < low.user_tps <= high.user_tps * (1 + 1e-9)
    assert low.user_tps <= low.ceiling_user_tps * (1 + 1e-9)
    assert low.output_tps == pytest.approx(users * low.user_tps)


@settings(max_examples=60, deadline=None)
@given(device=machines, backend=backends, users=st.integers(1, 64), context=st.integers(0, 50_000))
def test_more_users_and_more_context_never_make_one_user_faster(device, backend, users, context) -> None:
    def speed(users: int, context: int) -> float:
        return roofline(MOE, 500e9, backend=backend, device=device, users=users, context_tokens=context).user_tps or 0

    here = speed(users, context)
    assert speed(users + 1, context) <= here * (1 + 1e-9)
    assert speed(users, context + 1000) <= here * (1 + 1e-9)


def test_shipped_constants_are_those_of_physics() -> None:
    known = constants()
    assert 0.8 < known["stream.base"] <= 1.0  # a share of the datasheet's bandwidth
    assert known["years.fall"] > 1.0  # software gets faster
    assert known["layer.experts"] > 1.0  # a layer with experts starts more kernels
    assert known["stream.inline_ecc"] < 1.0
    assert all(value > 0 for value in known.values())


def test_an_engine_of_gpus_on_a_cpu_gets_its_ceiling_and_a_reason() -> None:
    facts = catalogued_facts("llama-3.1-8b", "Q4_K_M")
    prediction = roofline(facts, 60e9, backend="mlx_lm", device_kind="cpu")
    assert prediction.user_tps is None and prediction.output_tps is None
    assert "no measurement of mlx on a CPU" in str(prediction.reason)
    assert prediction.ceiling_user_tps == pytest.approx(60e9 / float(prediction.bytes_per_step or 0))
    assert roofline(facts, 60e9, backend="llama_cpp", device_kind="cpu", cpu_cores=2).user_tps


def test_a_mixture_of_many_users_is_bounded_by_one_users_experts() -> None:
    """All tokens of a step may choose the same experts: public runs lie up to 1.48 times above the typical union."""
    facts = catalogued_facts("qwen3-30b-a3b", "Q4_K_M")
    bound = ceiling(facts, 1e12, users=32)
    assert bound.user_tps == pytest.approx(1e12 / weight_bytes(facts, 1))
    assert bound.output_tps == pytest.approx(32 * bound.user_tps)
    assert bound.bytes_per_step == pytest.approx(weight_bytes(facts, 32), rel=1e-6)
    assert roofline(facts, 1e12, users=32, platform="cuda").ceiling_user_tps == pytest.approx(bound.user_tps)


def test_vllm_lets_users_wait_where_its_cache_is_full_and_moves_no_layers() -> None:
    """64 users of a 32B model in 8 bits on one H100 wait their turn; they were told that layers are in the host's memory."""
    facts, device = catalogued_facts("qwen2.5-32b", "Q8_0"), find("h100-sxm")
    request = {"device": device, "backend": "vllm", "context_tokens": 8192}
    many = roofline(facts, device.bandwidth_bytes_per_s, users=64, **request)
    running = many.inputs["users_running"]
    few = roofline(facts, device.bandwidth_bytes_per_s, users=running, **request)
    assert 1 < running < 64 and "wait in vLLM's queue" in (many.reason or "")
    assert many.output_tps == pytest.approx(few.output_tps)
    answer = with_fit(many, fit(facts, device, users=64, context_tokens=16_384))
    assert answer.user_tps == many.user_tps


def test_metal_reads_an_expert_again_for_each_user_below_32() -> None:
    """llama.cpp's mul_mv_id takes a token's experts for it alone: 8 users read 8 users' experts, whatever they share."""
    facts, chip = catalogued_facts("qwen3-30b-a3b", "Q4_K_M"), find("m3-ultra-80")
    bandwidth = chip.bandwidth_bytes_per_s

    def read(users: int, platform: str) -> float:
        term = terms(facts, Setup(bandwidth, platform, chip, users=users), constants())["stream"]
        return term.base * bandwidth

    one = facts.expert_bytes * facts.experts_used / facts.experts
    assert read(8, "metal") == pytest.approx(facts.dense_bytes + 8 * one)
    assert read(8, "mlx") == pytest.approx(weight_bytes(facts, 8))
    assert read(32, "metal") == pytest.approx(facts.dense_bytes + facts.expert_bytes)


@pytest.mark.parametrize(
    ("backend", "chip", "word"),
    [
        ("mlx", "rtx-4090", "MLX on CUDA"),
        ("llama.cpp-sycl", "arc-b580", "SYCL"),
        ("llama.cpp-vulkan", "arc-b580", "Vulkan on Intel"),
        ("llama.cpp-vulkan", "rx-9070", None),
        ("mlx", "m2-max-38", None),
    ],
)
def test_constants_of_another_platform_are_said_to_be_borrowed(backend: str, chip: str, word: str | None) -> None:
    device = find(chip)
    answer = roofline(DENSE, device.bandwidth_bytes_per_s, backend=backend, device=device)
    assert answer.user_tps is not None and (word in (answer.reason or "") if word else answer.reason is None)
