"""Histories with planted regressions: found at their driver, ordered as versions, and silent where nothing changed."""

import random
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from plain_row import PLAIN
from rigbench.analysis.regress import axis_value, bad, history, since
from rigbench.analysis.table import Row
from rigbench.report.compare_table import history_markdown
from rigbench.report.history_plot import svg

DRIVERS = ("570.9", "580.65.06", "580.126.09", "590.10")


def run(number: int, level: float, rng: random.Random, driver: str = "580.1", **changes: object) -> Row:
    made = replace(
        PLAIN,
        document_id=f"d{number}",
        created_utc=f"2026-{1 + number // 28:02d}-{1 + number % 28:02d}T00:00:00Z",
        os="macOS 26.4",
        kernel="25.4",
        drivers={"nvidia": driver, "cuda": "13.0"},
        samples={"user_tps": tuple(level * (1 + rng.gauss(0, 0.01)) for _ in range(5))},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def planted(per_driver: int) -> list[Row]:
    """The third driver is 6 % slower, and the fourth no better; given in no order at all."""
    rng = random.Random(1)
    levels = dict(zip(DRIVERS, (50, 50, 47, 47), strict=True))
    runs = [(driver, level) for driver, level in levels.items() for _ in range(per_driver)]
    made = [run(number, level, rng, driver) for number, (driver, level) in enumerate(runs)]
    rng.shuffle(made)
    return made


@pytest.mark.parametrize("per_driver", [1, 3])
def test_a_slower_driver_is_found_at_its_step_alone(per_driver: int) -> None:
    (found,) = history(planted(per_driver), "driver")
    assert [step.after for step in found.steps] == [f"nvidia {driver}" for driver in DRIVERS[1:]]
    verdicts = [step.cells[0].verdict for step in found.steps]
    assert verdicts[1] == "slower"
    assert not {"slower", "faster"} & {verdicts[0], verdicts[2]}
    assert bad([found], ["slower"])[0] == "engine/m/chat/c1 user_tps slower at nvidia 580.126.09"


def test_from_eight_runs_on_the_level_that_changed_is_told() -> None:
    (found,) = history(planted(3), "driver")
    (shift,) = found.shifts
    assert (shift.at, shift.verdict, shift.document_id) == ("nvidia 580.126.09", "slower", "d6")
    assert shift.after / shift.before == pytest.approx(0.94, abs=0.01)
    (short,) = history(planted(1), "driver")
    assert short.shifts == ()


def test_since_leaves_out_what_is_long_known() -> None:
    found = history(planted(3), "driver")
    assert bad(since(found, "580.126"), ["slower"])
    assert bad(since(found, "580.126.09"), ["slower"])
    assert not bad(since(found, "590"), ["slower"])
    assert since(found, "600") == []


def test_equal_runs_over_many_drivers_raise_no_alarm() -> None:
    rng = random.Random(2)
    runs = [run(number, 50, rng, f"580.{number}", group=f"g{case}") for number in range(12) for case in range(5)]
    found = history(runs, "driver")
    assert len(found) == 5
    assert bad(found, ["slower", "more"]) == []


def test_runs_that_are_not_of_one_thing_have_histories_of_their_own() -> None:
    rng = random.Random(3)
    changes: list[dict[str, object]] = [
        {},
        {"machine_id": "b"},
        {"options": '{"t":1}'},
        {"model_sha256": "x"},
        {"suite_version": "2"},
    ]
    runs = [run(2 * n + k, 50, rng, DRIVERS[k], **change) for n, change in enumerate(changes) for k in (0, 1)]
    assert len(history(runs, "driver")) == 5


def test_another_power_limit_at_a_step_is_named_and_not_compared() -> None:
    rng = random.Random(4)
    runs = [run(0, 50, rng, "580.1"), run(1, 40, rng, "580.2", power_limits_w=(300.0,))]
    (found,) = history(runs, "driver")
    assert found.steps[0].cells[0].reason == "another power limit"


def test_what_else_changed_at_a_step_is_told() -> None:
    rng = random.Random(5)
    runs = [run(0, 50, rng, "580.1"), run(1, 40, rng, "580.2", engine_version="2.0")]
    (found,) = history(runs, "driver")
    assert [(each.name, each.base, each.new) for each in found.steps[0].differences] == [("engine", "1.0", "2.0")]
    assert "from nvidia 580.1 to nvidia 580.2 also the engine changed" in history_markdown([found], every=True)


def test_the_axes() -> None:
    one = run(3, 50, random.Random(6), "580.1")
    assert [axis_value(one, axis) for axis in ("driver", "engine", "os", "date")] == [
        "nvidia 580.1",
        "1.0",
        "macOS 26.4, kernel 25.4",
        "2026-01-04",
    ]
    assert axis_value(replace(one, drivers={"macos_build": "25E246"}), "driver") == "macos_build 25E246"
    assert axis_value(replace(one, drivers={}), "driver") == "no driver"


def test_a_document_that_is_there_twice_counts_once() -> None:
    runs = planted(1)
    assert history([*runs, *runs], "driver") == history(runs, "driver")


def test_the_picture_is_well_formed_marks_the_step_and_is_inert() -> None:
    runs = [replace(each, group="<script>&amp;") for each in planted(3)]
    picture = svg(history(runs, "driver"), "driver")
    root = ElementTree.fromstring(picture)
    assert "<script>" not in picture
    circles = [each.get("fill") for each in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert (len(circles), len(set(circles))) == (12, 2)


def test_the_table_for_a_pull_request_is_inert() -> None:
    runs = [replace(each, group="a|b](http://x)<b>") for each in planted(3)]
    text = history_markdown(history(runs, "driver"), every=False)
    assert "a\\|b\\](http://x)\\<b\\>" in text
    assert "**" not in text.splitlines()[0]
