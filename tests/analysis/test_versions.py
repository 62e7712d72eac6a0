"""Versions in the order in which they came out."""

import itertools
import random

import pytest

from rigbench.analysis.versions import order

IN_ORDER = [
    ["9.0", "10.0"],
    ["570.133.20", "580.65", "580.65.06", "580.126", "580.126.09", "1000.1"],
    ["b999", "b1000", "b10000"],
    ["macOS 15.7.1", "macOS 26.4", "macOS 26.4.1", "macOS 26.10"],
    ["0.9.2", "0.10.0.dev3", "0.10.0a1", "0.10.0b2", "0.10.0rc1", "0.10.0", "0.10.0.post1", "0.10.1"],
    ["llama-cpp-python 0.3.9, llama.cpp b7999", "llama-cpp-python 0.3.36, llama.cpp b8000"],
    ["nvidia 9", "nvidia 10"],
    ["6.8.0-9-generic", "6.8.0-10-generic", "6.18.1"],
    ["2026-02-28", "2026-03-01"],
    ["24A335", "25E246"],
    ["", "1"],
]


@pytest.mark.parametrize("versions", IN_ORDER, ids=lambda versions: versions[-1])
def test_versions_are_ordered_as_versions(versions: list[str]) -> None:
    for earlier, later in itertools.combinations(versions, 2):
        assert order(earlier) < order(later), (earlier, later)
    shuffled = versions[:]
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=order) == versions


def test_a_number_of_a_thousand_digits_is_no_trouble() -> None:
    assert order("9" * 5000)[0][0][1] < 10**18
