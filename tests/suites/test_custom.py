"""Suites from flags, and suites cut to a time."""

from __future__ import annotations

from rigbench.suites.custom import changed, default_suite, flags_of, shortened
from rigbench.suites.suite import Suite, load_suite, parse_suite, suite_record


def cost(suite: Suite) -> float:
    """A second a token and user, whatever it is."""
    per_user = sum(part.prompt_tokens / 10 + part.output_tokens for part in suite.workload)
    return per_user * sum(suite.load.concurrency) * suite.load.repetitions * suite.load.requests_per_user


def test_flags_make_the_suite_that_they_say() -> None:
    suite = changed(default_suite(), [512, 2048], [128], [1, 4, 8], 5)
    assert [(part.name, part.prompt_tokens, part.output_tokens) for part in suite.workload] == [
        ("p512-n128", 512, 128),
        ("p2048-n128", 2048, 128),
    ]
    assert (suite.load.concurrency, suite.load.repetitions, suite.name) == ([1, 4, 8], 5, "custom")
    assert flags_of(suite) == suite.about == "-p 512,2048 -n 128 -u 1,4,8 -r 5"
    assert parse_suite(suite.model_dump(mode="json"), "here") == suite


def test_the_same_flags_are_the_same_suite_and_others_another() -> None:
    one, same, other = (changed(default_suite(), [64], [32], [1], r) for r in (2, 2, 3))
    assert suite_record(one).sha256 == suite_record(same).sha256 != suite_record(other).sha256


def test_without_flags_a_named_suite_is_itself_and_with_them_it_is_not_called_so() -> None:
    standard = load_suite("standard")
    assert changed(standard) == standard
    fewer = changed(standard, users=[2], repetitions=1)
    assert fewer.name == "custom" and fewer.workload == standard.workload and fewer.load.concurrency == [2]


def test_no_prompt_is_the_one_token_that_a_generation_begins_with() -> None:
    (part,) = changed(default_suite(), [0], [0]).workload
    assert (part.name, part.prompt_tokens, part.output_tokens) == ("p0-n0", 1, 2)


def test_a_prompt_longer_than_every_standardized_one_is_random_tokens() -> None:
    assert [part.kind for part in changed(default_suite(), [8192, 8193]).workload] == ["text", "tokens"]


def test_a_suite_that_fits_is_left_alone() -> None:
    assert shortened(default_suite(), 1e9, cost) == (default_suite(), cost(default_suite()), "")


def test_a_suite_is_cut_to_its_time_and_says_how() -> None:
    standard = load_suite("standard")
    for seconds in (1e5, 3e4, 1e4, 3e3, 1e3):
        small = shortened(standard, seconds, cost)
        assert small.seconds is not None and small.seconds == cost(small.suite) <= seconds
        assert flags_of(small.suite) in small.sentence and small.suite.name == "custom"


def test_what_was_asked_for_is_never_cut() -> None:
    suite = changed(default_suite(), [512], [256], [1, 8], 10)
    small = shortened(suite, 1, cost, ("prompts", "outputs", "users"))
    assert small.suite.load.concurrency == [1, 8] and small.suite.workload == suite.workload
    assert small.suite.load.repetitions == 1 and small.seconds == cost(small.suite)
    assert shortened(suite, 1, cost, ("prompts", "outputs", "users", "repetitions")).suite == suite


def test_where_no_time_is_known_nothing_is_cut() -> None:
    assert shortened(default_suite(), 1, lambda suite: None) == (default_suite(), None, "")
