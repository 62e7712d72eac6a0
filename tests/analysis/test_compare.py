"""Comparisons with known answers: planted differences, equal noise, and what cannot be compared."""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest

from plain_row import PLAIN
from rigbench.analysis import stats
from rigbench.analysis.compare import CORRECTED, TWO_STATES, compare, differences, incomparable, judged
from rigbench.analysis.table import Row


def sample(metrics: dict[str, Sequence[float]], number: int = 0, **changes: object) -> Row:
    return replace(PLAIN, document_id=f"d{number}", samples={k: tuple(v) for k, v in metrics.items()}, **changes)  # type: ignore[arg-type]


def noisy(rng: random.Random, level: float, noise: float, n: int = 5) -> list[float]:
    return [level * (1 + rng.gauss(0, noise)) for _ in range(n)]


def runs(numbers: Sequence[float], first: int = 0, metric: str = "user_tps") -> list[Row]:
    """Each number is a run of its own."""
    return [sample({metric: [x]}, first + n, created_utc=f"t{first + n}") for n, x in enumerate(numbers)]


def verdict(base: Sequence[float], new: Sequence[float], metric: str = "user_tps") -> str:
    (cell,) = compare(runs(base, 0, metric), runs(new, 50, metric), [metric]).cells
    return cell.verdict


def test_identical_data_are_the_same() -> None:
    values = noisy(random.Random(1), 50, 0.01)
    assert verdict(values, values) == "same"
    assert verdict([50.0] * 3, [50.0] * 3) == "same"
    wild = noisy(random.Random(1), 50, 0.3)
    assert verdict(wild, wild[::-1]) == "same"
    assert verdict([50.0], [50.0]) == "same"


def test_a_planted_5_percent_at_1_percent_noise_is_slower() -> None:
    rng = random.Random(2)
    outcome = [verdict(noisy(rng, 50, 0.01), noisy(rng, 47.5, 0.01)) for _ in range(200)]
    assert outcome[0] == "slower"
    assert outcome.count("slower") >= 198  # 1000 of 1000 in a longer trial
    backwards = [verdict(noisy(rng, 47.5, 0.01), noisy(rng, 50, 0.01)) for _ in range(200)]
    assert backwards.count("faster") >= 198


def test_1_percent_at_5_percent_noise_cannot_be_told() -> None:
    rng = random.Random(3)
    outcome = [verdict(noisy(rng, 50, 0.05), noisy(rng, 49.5, 0.05)) for _ in range(200)]
    assert outcome[0] == "~"
    assert outcome.count("~") >= 180
    assert outcome.count("slower") + outcome.count("faster") <= 20


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("repetitions", [3, 5])
def test_equal_noise_raises_a_false_alarm_in_at_most_5_percent_of_1000_pairs(noise: float, repetitions: int) -> None:
    rng = random.Random(4)
    alarms = 0
    for _ in range(1000):
        alarms += verdict(noisy(rng, 50, noise, repetitions), noisy(rng, 50, noise, repetitions)) in (
            "slower",
            "faster",
        )
    assert alarms <= 50


def test_a_whole_table_of_equal_noise_raises_one_in_at_most_5_percent_too() -> None:
    """8 cases of 4 metrics: without Hochberg, 4 tables of 5 would hold a false alarm."""
    rng = random.Random(5)
    metrics = ("user_tps", "output_tps", "prefill_tps", "rss_peak_bytes")
    alarms = 0
    for _ in range(200):
        sides = [
            [
                sample({m: noisy(rng, 50, 0.05, 1) for m in metrics}, 9 * side + run, group=f"g{case}")
                for case in range(8)
                for run in range(5)
            ]
            for side in (0, 1)
        ]
        alarms += any(cell.verdict not in ("same", "~") for cell in compare(*sides, metrics).cells)
    assert alarms <= 16


def test_the_interval_holds_the_truth_95_times_in_100() -> None:
    rng = random.Random(6)
    for n, m in ((3, 3), (5, 5), (5, 3), (10, 10), (5, 1)):
        hits = 0
        for _ in range(400):
            base, new = noisy(rng, 50, 0.02, n), noisy(rng, 40, 0.02, m)
            outcome = stats.ratio(base, new, stats.spread(base, new))
            hits += outcome.low <= 0.8 <= outcome.high
        assert hits >= 0.93 * 400, (n, m, hits)


def test_a_ratio_by_hand() -> None:
    """Logs 0, 1, 2 against 3, 4, 5: shift 3, variances 1, error sqrt(2/3), 4 degrees of freedom, t(0.975) = 2.7764."""
    base, new = [math.exp(x) for x in (0, 1, 2)], [math.exp(x) for x in (3, 4, 5)]
    outcome = stats.ratio(base, new, stats.spread(base, new))
    assert outcome.value == pytest.approx(math.exp(3))
    assert outcome.low == pytest.approx(math.exp(3 - 2.776445 * math.sqrt(2 / 3)))
    assert outcome.p == pytest.approx(0.0213117, rel=1e-4)


def test_one_number_a_side_tells_nothing_of_the_noise() -> None:
    (cell,) = compare([sample({"user_tps": [50]})], [sample({"user_tps": [25]}, 1)], ["user_tps"]).cells
    assert (cell.verdict, cell.ratio, cell.low) == ("~", pytest.approx(0.5), None)
    assert cell.reason == "one repetition a side does not tell how much it varies"


def test_a_single_new_run_is_held_against_what_several_tell_of_the_noise() -> None:
    base = runs((50, 50.2, 49.9, 50.1, 49.8))
    (slow,) = compare(base, [sample({"user_tps": [47]}, 9)], ["user_tps"]).cells
    (equal,) = compare(base, [sample({"user_tps": [50.3]}, 9)], ["user_tps"]).cells
    assert (slow.verdict, slow.unit, slow.n_base, slow.n_new) == ("slower", "document", 5, 1)
    assert equal.verdict == "same"


def test_what_differs_between_runs_is_in_the_interval() -> None:
    """Inside each run nothing varies, but the runs do: three a side tell how much, one a side takes what is stated."""
    low, high = (
        [sample({"user_tps": [x] * 5}, n) for n, x in enumerate((50, 56, 53))],
        [sample({"user_tps": [x] * 5}, n + 9) for n, x in enumerate((48, 53, 50))],
    )
    alone = compare(low[:1], high[:1], ["user_tps"])
    assert (alone.cells[0].verdict, alone.cells[0].spread_source) == ("~", "prior")
    assert (alone.cells[0].reason or "").startswith("one run a side: give a second run")
    assert "5 % (sd) is taken" in alone.remarks[0]
    assert compare(low, high, ["user_tps"]).cells[0].verdict == "~"
    assert compare(low[:1], [sample({"user_tps": [35] * 5}, 9)], ["user_tps"]).cells[0].verdict == "slower"


def test_the_machines_own_history_tells_how_much_runs_differ() -> None:
    """Nights of 1 %, the last half of them at another level: 6 % less is then slower, one run a side, and not without it."""
    rng = random.Random(9)
    nights = [
        sample({"user_tps": noisy(rng, 50 if n < 10 else 46, 0.01)}, n, created_utc=f"2026-01-{n + 1:02d}T")
        for n in range(20)
    ]
    base, new = sample({"user_tps": noisy(rng, 50, 0.005)}, 30), sample({"user_tps": noisy(rng, 47, 0.005)}, 31)
    (cell,) = compare([base], [new], ["user_tps"], nights).cells
    assert (cell.verdict, cell.spread_source) == ("slower", "history")
    assert cell.spread == pytest.approx(0.006, abs=0.004)
    assert compare([base], [new], ["user_tps"]).cells[0].verdict == "~"


def test_a_copy_of_a_run_counts_once() -> None:
    """Copies with a note of their own have other ids: without this, three copies a side would be three runs that never differ."""
    base, new = ([sample({"user_tps": noisy(random.Random(x), x, 0.01)}, x + n) for n in range(3)] for x in (50, 47))
    (cell,) = compare(base, new, ["user_tps"]).cells
    assert (cell.unit, cell.verdict) == ("repetition", "~")


def test_at_one_user_both_rates_are_one_measurement() -> None:
    """p of 0.02 twice and 0.04: as two measurements 0.02 x 2 and 0.04, as three 0.02 x 3."""
    cell = compare(runs((50, 51, 52)), runs((48, 49, 50), 50), ["user_tps"]).cells[0]
    table = [replace(cell, verdict="", metric=name, p=p) for name, p in (("user_tps", 0.02), ("output_tps", 0.02))]
    assert [each.p for each in judged(table)] == [0.02, 0.02]
    several = judged([*(replace(each, users=4) for each in table), replace(table[0], metric="ttft_s", p=0.04)])
    assert several[0].p == pytest.approx(0.04)


def test_repetitions_that_resemble_each_other_tell_less() -> None:
    rng = random.Random(10)
    alone = [[math.exp(rng.gauss(0, 0.1)) for _ in range(10)] for _ in range(40)]
    chained = []
    for _ in range(40):
        x, run = rng.gauss(0, 0.1), []
        for _ in range(10):
            x = 0.9 * x + math.sqrt(1 - 0.81) * rng.gauss(0, 0.1)
            run.append(math.exp(x))
        chained.append(run)
    loose, tight = stats.error_of_medians(*alone), stats.error_of_medians(*chained)
    assert loose is not None and tight is not None
    assert loose == pytest.approx(0.1 * math.sqrt(math.pi / 2 / 10), rel=0.25)
    assert tight > 0.06  # 10 numbers of 10 % would give 4 %
    assert stats.error_of_medians([1.0], [2.0]) is None


def test_less_is_better_for_times_and_more_is_told_of_costs() -> None:
    base, new = [10.0, 10.1, 9.9, 10.0, 10.0], [11.0, 11.1, 10.9, 11.0, 11.0]
    assert verdict(base, new, "ttft_s") == "slower"
    assert verdict(new, base, "ttft_s") == "faster"
    assert verdict(base, new, "joules_per_token") == "more"
    assert verdict(new, base, "rss_peak_bytes") == "less"
    assert verdict(base, new, "user_tps") == "faster"


def test_a_small_difference_is_called_from_several_runs_a_side() -> None:
    rng = random.Random(9)
    base, new = ([sample({"user_tps": noisy(rng, x, 0.005)}, n) for n in range(4)] for x in (50, 48.75))
    assert compare(base[:1], new[:1], ["user_tps"]).cells[0].verdict == "~"
    assert compare(base, new, ["user_tps"]).cells[0].verdict == "slower"


def test_a_sure_difference_inside_3_percent_is_the_same() -> None:
    assert verdict([50.0, 50.01, 49.99], [50.5, 50.51, 50.49]) == "same"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_sha256": "ab"}, "another model file"),
        ({"suite_version": "2"}, "another suite"),
        ({"work": '{"output_tokens":65,"prompt_tokens":128}'}, "another workload"),
        ({"load": '{"seed":2}'}, "another load"),
        ({"prompts_sha256": "cc"}, "another prompts"),
        ({"power_limits_w": (300.0,)}, "another power limit"),
    ],
)
def test_what_is_not_of_one_thing_is_not_compared(change: dict[str, object], reason: str) -> None:
    (cell,) = compare([sample({"user_tps": [1, 2]})], [sample({"user_tps": [1, 2]}, 1, **change)]).cells
    assert cell.verdict == "not comparable"
    assert cell.reason is not None and cell.reason.startswith(reason)


def test_unknown_is_no_reason_against_comparing_and_another_machine_has_another_limit() -> None:
    assert incomparable([PLAIN, replace(PLAIN, model_sha256=None, prompts_sha256=None)]) is None
    assert incomparable([PLAIN, replace(PLAIN, power_limits_w=(300.0,), machine_id="other")]) is None
    assert incomparable([PLAIN, replace(PLAIN, suite="import", load="", imported="llama-bench")]) is None


def test_a_case_that_now_fails_is_found_and_one_that_is_gone_is_named() -> None:
    broken = replace(PLAIN, document_id="d1", samples={}, repetitions=0, error="crash: it ended")
    outcome = compare([sample({"user_tps": [1, 2]})], [broken])
    assert (outcome.cells[0].verdict, outcome.cells[0].reason) == ("failed", "NEW: crash: it ended")
    assert outcome.bad(["slower"]) == [outcome.cells[0]]
    assert outcome.bad(["more"]) == []
    missing = compare([sample({"user_tps": [1, 2]})], [sample({"user_tps": [1, 2]}, 1, group="other")])
    assert [cell.reason for cell in missing.cells] == ["is not in NEW", "is not in BASE"]


def test_the_fingerprints_differences_are_told() -> None:
    new = replace(PLAIN, drivers={"nvidia": "580.126.09"}, options='{"threads":1}')
    differing = [(each.name, each.base, each.new) for each in differences([PLAIN], [new])]
    assert differing == [
        ("drivers", "nvidia 580.65.06", "nvidia 580.126.09"),
        ("options", "defaults", "threads=1"),
    ]


def test_a_large_change_that_stays_unsure_says_why() -> None:
    cell = compare(runs((50, 51, 52)), runs((48, 49, 50), 50), ["user_tps"]).cells[0]
    unsure = replace(cell, verdict="", ratio=0.6, low=0.5, high=0.7, p=0.05, users=4, reason=None)
    assert [(each.verdict, each.reason) for each in judged([unsure])] == [("~", CORRECTED)]


def test_hochberg_by_hand() -> None:
    assert stats.hochberg([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.04),
        pytest.approx(0.04),
    ]
    assert stats.hochberg([0.9, 0.8]) == [0.9, 0.9]


def test_how_many_runs_until_3_percent_is_known() -> None:
    """At 1 %: t(4) x 1 % x sqrt(2 / 3) = 2.27 % with three a side, t(2) x 1 % = 4.3 % with two."""
    assert stats.runs_needed(0.01, 0.03, 2) == 3
    assert stats.runs_needed(0.1, 0.03, 2) > 50


def test_mann_whitney_is_exact_and_silent_where_it_cannot_speak() -> None:
    """5 against 5, apart: 2 of 252 orderings. The rest against scipy's exact answer."""
    assert stats.mann_whitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert stats.mann_whitney([1, 2, 3], [4, 5, 6]) is None
    from scipy.stats import mannwhitneyu

    rng = random.Random(7)
    for n, m in ((4, 4), (5, 7), (9, 6)):
        base, new = [rng.random() for _ in range(n)], [rng.random() + 0.3 for _ in range(m)]
        expected = mannwhitneyu(base, new, method="exact").pvalue
        assert stats.mann_whitney(base, new) == pytest.approx(expected)


def test_the_ratio_is_of_what_is_shown() -> None:
    (cell,) = compare([sample({"user_tps": [1, 2, 4]})], [sample({"user_tps": [2, 4, 8]}, 1)], ["user_tps"]).cells
    assert (cell.base, cell.new) == (statistics.median([1, 2, 4]), 4)
    assert cell.ratio == pytest.approx(2)


def test_two_states_of_the_machine_are_no_change() -> None:
    """Three runs a side lie apart in one case as two states would by chance; the other case shows that there are two."""

    def runs(levels: list[float], users: int, first: int) -> list[Row]:
        many = [
            sample({"user_tps": [level, level * 1.001, level * 0.999]}, first + n) for n, level in enumerate(levels)
        ]
        return [replace(row, group=f"engine/m/chat/c{users}", concurrency=users) for row in many]

    base, new = [50.0, 50.1, 49.9], [45.0, 45.1, 44.9]
    (alone,) = compare(runs(base, 1, 0), runs(new, 1, 3), ["user_tps"]).cells
    assert alone.verdict == "slower"
    mixed = runs([50.0, 45.0, 50.1], 2, 0), runs([45.1, 50.0, 44.9], 2, 3)
    outcome, _ = compare([*runs(base, 1, 0), *mixed[0]], [*runs(new, 1, 3), *mixed[1]], ["user_tps"]).cells
    assert outcome.verdict == "~" and outcome.reason == TWO_STATES


def test_a_slow_state_of_the_history_is_no_change() -> None:
    """One run of nineteen was 10 % slow: another slow one is `~`."""
    past = [sample({"user_tps": [45.0 if n == 9 else 50 + 0.1 * (n % 3)] * 3}, n) for n in range(19)]
    past = [replace(row, created_utc=f"2026-01-{n + 1:02d}T00:00:00Z") for n, row in enumerate(past)]
    base, new = [sample({"user_tps": [50.0] * 3}, 40)], [sample({"user_tps": [45.0] * 3}, 41)]
    (cell,) = compare(base, new, ["user_tps"], past).cells
    assert cell.verdict == "~"
