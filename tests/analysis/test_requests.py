"""Every metric against numbers worked out by hand, and against the simulator's closed forms."""

import statistics

import pytest

from rigbench.analysis.definitions import case_values
from rigbench.analysis.flags import request_flags
from rigbench.analysis.requests import Repetition, percentiles, request_metrics
from rigbench.analysis.windows import Window, steady_window
from rigbench.records import Case, CaseResult, RequestRecord
from rigbench.worker import drive
from rigbench.workloads import Generation
from rigbench_backends.base import ModelFile
from rigbench_backends.sim import SimOptions, SimSession

WEIGHTS, KV, BANDWIDTH, PREFILL = 2_000_000_000, 100_000, 100e9, 4000.0


def record(submit: int, tokens: list[int], **rest: object) -> RequestRecord:
    return RequestRecord(user=0, index=0, prompt_tokens=100, submit_us=submit, unit_us=tuple(tokens), **rest)


def result(users: int, records: list[RequestRecord], output: int = 5) -> CaseResult:
    case = Case("g/r0", "g", "sim", "m", Generation("w", "tokens", 100, output), users, 1, 0, 1)
    return CaseResult(case, 0, 0.0, requests=tuple(records))


def values(case: CaseResult) -> dict[str, float]:
    return case_values(Repetition(case))[0]


def test_one_request_by_hand() -> None:
    # Sent at 1.0 s, first token at 1.5 s, then a gap of 0.1, 0.1 and 0.2 s.
    m = request_metrics(record(1_000_000, [1_500_000, 1_600_000, 1_700_000, 1_900_000]))
    assert m.ttft_s == pytest.approx(0.5)
    assert m.tpot_s == pytest.approx(0.4 / 3)
    assert m.decode_tps == pytest.approx(7.5)
    assert m.latency_s == pytest.approx(0.9)
    assert m.gaps_s == pytest.approx((0.1, 0.1, 0.2))


def test_the_tokens_of_the_first_chunk_took_no_time_after_it() -> None:
    # 3 tokens at once, then 2, then 2: the four later tokens took 0.4 s.
    m = request_metrics(record(0, [100_000, 300_000, 500_000], chunk_units=(3, 2, 2)))
    assert m.tpot_s == pytest.approx(0.1)
    assert m.output_tokens == 7


@pytest.mark.parametrize("tokens", [[], [5]])
def test_too_few_tokens_for_a_rate_give_none_and_not_zero(tokens: list[int]) -> None:
    m = request_metrics(record(0, tokens))
    assert m.tpot_s is None
    assert m.decode_tps is None


def test_the_steady_window_begins_with_the_last_first_token_and_ends_with_the_first_last_one() -> None:
    a = record(0, [100, 200, 300, 400, 500, 600])
    b = record(0, [350, 450, 550, 650, 750])
    # Both decode from 350 on; at 600 `a` ends. Inside (350, 600]: a at 400, 500, 600 and b at 450, 550.
    assert steady_window([a, b], 2) == Window(350, 600, 5)


def test_a_successor_sent_at_once_keeps_the_window_open() -> None:
    first = [record(0, [10, 20, 30]), record(0, [12, 22, 32])]
    second = [record(30, [40, 50, 60]), record(32, [42, 52, 62])]
    window = steady_window(first + second, 2)
    assert window is not None
    assert (window.start_us, window.end_us) == (12, 60)


def test_users_who_never_decode_together_have_no_window() -> None:
    assert steady_window([record(0, [10, 20]), record(0, [30, 40])], 2) is None


def test_a_short_window_has_no_output_rate_but_a_reason_and_a_flag() -> None:
    one = Repetition(result(1, [record(0, [10, 20, 30, 40, 50])]))
    values, reasons = case_values(one)
    assert "output_tps" not in values
    assert "4 tokens" in reasons["output_tps"]
    assert [flag.name for flag in request_flags(one)] == ["short_window"]


def test_other_lengths_cached_prompts_and_failed_requests_are_flagged() -> None:
    records = [record(0, list(range(10, 400, 10)), cached_tokens=64), record(0, [10, 20], error="disconnected")]
    names = [flag.name for flag in request_flags(Repetition(result(2, records)))]
    assert names == ["short_window", "variable_length", "cached_prompt", "failed_requests"]


def test_prefill_rate_is_given_for_one_user_alone() -> None:
    tokens = list(range(500_000, 3_000_000, 100_000))
    assert values(result(1, [record(0, tokens)], 25))["prefill_tps"] == pytest.approx(200)
    two, reasons = case_values(Repetition(result(2, [record(0, tokens), record(0, tokens)], 25)))
    assert "prefill_tps" not in two
    assert "queueing" in reasons["prefill_tps"]


def simulate(users: int, requests: int, prompt: int, output: int, overhead: float = 0.0) -> Repetition:
    options = SimOptions(
        bandwidth_gb_per_s=BANDWIDTH / 1e9,
        prefill_tps=PREFILL,
        step_overhead_s=overhead,
        weight_bytes=WEIGHTS,
        kv_bytes_per_token=KV,
    )
    session = SimSession(ModelFile("m", None, "shape"), options)
    session.prepare(users, prompt + output)
    _, records, _ = drive.drive(session, drive.Load(users, requests, output, drive.token_prompts(256, prompt, "s")))
    return Repetition(result(users, records, output))


@pytest.mark.parametrize("users", [1, 2, 4, 8])
@pytest.mark.parametrize(("prompt", "output", "overhead"), [(100, 50, 0.0), (512, 128, 0.0), (128, 64, 0.002)])
def test_every_metric_of_the_simulator_is_its_closed_form(
    users: int, prompt: int, output: int, overhead: float
) -> None:
    prefill = prompt / PREFILL
    steps = [(WEIGHTS + KV * users * (prompt + k)) / BANDWIDTH + overhead for k in range(1, output)]
    decode = sum(steps)
    # Prompts go in one after the other; the last user's is in at users x prefill, and then all decode together.
    first = [(user + 1) * prefill for user in range(users)]
    end = users * prefill + decode
    tpots = [(end - at) / (output - 1) for at in first]
    one = simulate(users, 1, prompt, output, overhead)
    m, _ = case_values(one)
    near = pytest.approx
    assert m["ttft_s"] == near(statistics.median(first), rel=0.01)
    assert m["tpot_s"] == near(statistics.median(tpots), rel=0.01)
    assert m["user_tps"] == near(statistics.median(1 / tpot for tpot in tpots), rel=0.01)
    assert m["output_tps"] == near(users * (output - 1) / decode, rel=0.01)
    assert m["latency_s"] == near(end, rel=0.01)
    assert one.window.length_s == near(decode, rel=0.01)
    if users == 1:
        assert m["prefill_tps"] == near(PREFILL, rel=0.01)
        assert percentiles([one])["itl_s"]["p50"] == near(statistics.median(steps), rel=0.01)


def test_the_second_request_of_each_user_counts_its_prompt_into_what_the_machine_delivers() -> None:
    prefill, step = 100 / PREFILL, lambda k: (WEIGHTS + KV * (100 + k)) / BANDWIDTH
    decode = sum(step(k) for k in range(1, 50))
    m, _ = case_values(simulate(1, 2, 100, 50))
    # From the first token of the first request to the last of the second: two decodes, one prompt, 49 + 50 tokens.
    assert m["output_tps"] == pytest.approx(99 / (2 * decode + prefill), rel=0.01)
    assert m["user_tps"] == pytest.approx(49 / decode, rel=0.01)


def test_percentiles_need_their_samples() -> None:
    by_name = percentiles([simulate(1, 1, 10, 21)])  # 20 gaps
    assert by_name["itl_s"]["p90"] is not None
    assert by_name["itl_s"]["p95"] is None
    assert by_name["ttft_s"]["p90"] is None
