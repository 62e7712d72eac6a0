"""The registry of metrics: each is whole, and README's table says the same."""

from pathlib import Path

import pytest

from rigbench.analysis.definitions import METRICS, Metric, Unknown, _guarded, comparable, compared
from rigbench.workloads import KINDS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_each_metric_is_computed_in_one_way_and_has_a_name_of_its_own() -> None:
    assert all((metric.of_case is None) != (metric.of_row is None) for metric in METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for kind in KINDS:
        labels = [metric.label for metric in METRICS if metric.of(kind)]
        assert len(set(labels)) == len(labels)
    assert all(metric.formula and metric.unit for metric in METRICS)


def test_what_is_compared() -> None:
    assert "prefill_tps" in comparable() and "mbu" not in comparable() and "watts_mean" not in comparable()
    assert compared() == (
        "user_tps",
        "output_tps",
        "ttft_s",
        "it_per_s",
        "seconds_per_image",
        "trained_tokens_per_s",
        "memory_peak_bytes",
        "joules_per_token",
        "joules_per_image",
        "joules_per_1000_tokens",
    )


@pytest.mark.parametrize(
    ("unit", "better", "words"),
    [
        ("tokens/s", "higher", ("slower", "faster")),
        ("s", "lower", ("slower", "faster")),
        ("J", "lower", ("more", "less")),
        ("bytes", "lower", ("more", "less")),
    ],
)
def test_the_words_of_a_verdict(unit: str, better: str, words: tuple[str, str]) -> None:
    assert Metric("a", "a", unit, "a", better).verdicts == words


def test_a_number_that_is_not_finite_is_unknown() -> None:
    for value in (float("nan"), float("inf")):
        assert _guarded(lambda _, value=value: value)(None) == Unknown(f"it is {value}")
    assert _guarded(lambda _: 3)(None) == 3.0


def test_the_readme_has_the_labels_and_formulas_of_the_registry() -> None:
    """Each line of its table is a metric by its label; every column of `show` is there, of text."""
    lines = README.split("| column | formula |")[1].split("\n\n")[0].splitlines()[2:]
    listed = [line.split("|")[1].strip() for line in lines]
    labels = {metric.label: metric for metric in METRICS}
    assert set(listed) <= set(labels)
    assert set(listed) >= {metric.label for metric in METRICS if metric.priority is not None and metric.of("text")}
