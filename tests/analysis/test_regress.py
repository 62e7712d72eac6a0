"""Histories with planted regressions: found at their driver, ordered as versions, and silent where nothing changed."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from plain_row import PLAIN
from rigbench.analysis.regress import axis_value, bad, history, read_known, since
from rigbench.analysis.table import Row
from rigbench.errors import InputError
from rigbench.report.compare_table import history_markdown
from rigbench.report.history_plot import svg

DRIVERS = ("570.9", "580.65.06", "580.126.09", "590.10")


def run(number: int, level: float, rng: random.Random, driver: str = "580.1", **changes: object) -> Row:
    lines = replace(
        PLAIN,
        document_id=f"d{number}",
        created_utc=f"2026-{1 + number // 28:02d}-{1 + number % 28:02d}T00:00:00Z",
        os="macOS 26.4",
        kernel="25.4",
        drivers={"nvidia": driver, "cuda": "13.0"},
        samples={"user_tps": tuple(level * (1 + rng.gauss(0, 0.01)) for _ in range(5))},
    )
    return replace(lines, **changes)  # type: ignore[arg-type]


def planted(per_driver: int) -> list[Row]:
    """The third driver is 6 % slower, and the fourth no better; given in no order at all."""
    rng = random.Random(1)
    levels = dict(zip(DRIVERS, (50, 50, 47, 47), strict=True))
    runs = [(driver, level) for driver, level in levels.items() for _ in range(per_driver)]
    lines = [run(number, level, rng, driver) for number, (driver, level) in enumerate(runs)]
    rng.shuffle(lines)
    return lines


@pytest.mark.parametrize("per_driver", [3, 5])
def test_a_slower_driver_is_found_at_its_step_alone(per_driver: int) -> None:
    (entry,) = history(planted(per_driver), "driver")
    (shift,) = entry.shifts
    assert (shift.at, shift.earliest, shift.latest) == ("nvidia 580.126.09",) * 3
    assert (shift.verdict, shift.document_id, shift.until) == ("slower", f"d{2 * per_driver}", None)
    assert shift.after is not None and shift.before is not None
    assert shift.after / shift.before == pytest.approx(0.94, abs=0.01)
    assert bad([entry], ["slower"]) == ["engine/m/chat/c1 user_tps slower since nvidia 580.126.09"]


def test_of_one_run_a_driver_only_what_is_far_beyond_all_noise_is_told() -> None:
    """Two runs on either side: 6 % is nothing, half the speed is."""
    rng = random.Random(1)
    assert history(planted(1), "driver")[0].shifts == ()
    halved = [
        run(number, level, rng, driver)
        for number, (driver, level) in enumerate(zip(DRIVERS, (50, 50, 25, 25), strict=False))
    ]
    assert [shift.at for shift in history(halved, "driver")[0].shifts] == ["nvidia 580.126.09"]


def test_since_leaves_out_what_is_long_known() -> None:
    entry = history(planted(3), "driver")
    assert bad(since(entry, "580.126"), ["slower"])
    assert bad(since(entry, "580.126.09"), ["slower"])
    assert not bad(since(entry, "590"), ["slower"])
    assert since(entry, "600") == []


def test_equal_runs_over_many_drivers_raise_no_alarm() -> None:
    rng = random.Random(2)
    runs = [run(number, 50, rng, f"580.{number}", group=f"g{case}") for number in range(12) for case in range(5)]
    entry = history(runs, "driver")
    assert len(entry) == 5
    assert bad(entry, ["slower", "more"]) == []


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


def test_runs_at_another_power_limit_have_a_history_of_their_own() -> None:
    rng = random.Random(4)
    runs = [run(n, 50, rng, f"580.{n}") for n in range(6)]
    runs += [run(n, 40, rng, f"580.{n}", power_limits_w=(300.0,)) for n in range(6, 12)]
    entry = history(runs, "driver")
    assert [(each.shifts, each.remark) for each in entry] == [((), "another power limit")] * 2


def test_what_else_changed_at_a_shift_is_told() -> None:
    rng = random.Random(5)
    runs = [run(n, 50, rng, "580.1") for n in range(5)]
    runs += [run(n, 40, rng, "580.2", engine_version="2.0") for n in range(5, 10)]
    (entry,) = history(runs, "driver")
    assert [(each.name, each.base, each.new) for each in entry.shifts[0].differences] == [("engine", "1.0", "2.0")]
    assert "at nvidia 580.2 also the engine changed: 1.0 -\\> 2.0" in history_markdown([entry], every=True)


def nights(level: Callable[[int], float], count: int = 24, seed: int = 7, runs: int = 1) -> list[Row]:
    """Nights that differ by 0.8 %, with `runs` a night that differ by 0.3 %."""
    rng = random.Random(seed)
    lines = []
    for night in range(count):
        of_night = level(night) * (1 + rng.gauss(0, 0.008))
        for number in range(runs):
            samples = {"user_tps": tuple(of_night * (1 + rng.gauss(0, 0.003)) for _ in range(5))}
            day = f"2026-01-{night + 1:02d}T0{number}:00:00Z"
            lines.append(run(night, 1, rng, created_utc=day, document_id=f"d{night}-{number}", samples=samples))
    return lines


def shifts(rows: list[Row]) -> list[tuple[str, str, str | None]]:
    return [(s.verdict, s.at, s.until) for each in history(rows, "date", known=()) for s in each.shifts]


@pytest.mark.parametrize("seed", range(5))
def test_slow_nights_that_pass_have_a_begin_and_an_end(seed: int) -> None:
    """Nights 9 to 14 of 24 at half the speed."""
    rows = nights(lambda night: 50 if 8 <= night < 14 else 100, seed=seed)
    assert shifts(rows) == [("slower", "2026-01-09", "2026-01-15"), ("faster", "2026-01-15", None)]
    rows = nights(lambda night: 90 if 8 <= night < 14 else 100, seed=seed)
    assert shifts(rows) == [("slower", "2026-01-09", "2026-01-15"), ("faster", "2026-01-15", None)]


@pytest.mark.parametrize("seed", range(5))
def test_small_steps_are_told_by_their_sum(seed: int) -> None:
    """0.4 % a night for 24 nights: no night differs from the one before."""
    (entry,) = history(nights(lambda night: 100 - 0.4 * night, seed=seed), "date")
    (shift,) = entry.shifts
    assert (shift.kind, shift.verdict, shift.at) == ("drift", "slower", "2026-01-01")
    assert shift.against_best == pytest.approx(0.908, abs=0.02)
    text = history_markdown([entry], every=False)
    assert "a drift in small steps from 2026-01-01 on, -" in text


@pytest.mark.parametrize("seed", range(5))
def test_one_bad_night_is_named_and_fails_nothing(seed: int) -> None:
    for bad_night in (12, 23):
        (entry,) = history(nights(lambda night: 70 if night == bad_night else 100, seed=seed), "date")  # noqa: B023
        assert bad([entry], ["slower"]) == []
        assert [one.at for one in entry.outliers] == [f"2026-01-{bad_night + 1:02d}"]
    assert "one outlier" in history_markdown([entry], every=False)


@pytest.mark.parametrize("seed", range(5))
def test_a_machine_with_two_states_is_named_and_fails_nothing(seed: int) -> None:
    rng = random.Random(seed)
    (entry,) = history(nights(lambda night: 100 if rng.random() < 0.5 else 88, seed=seed), "date")
    assert entry.shifts == ()
    assert (entry.states[0].low, entry.states[0].high) == (pytest.approx(88, rel=0.02), pytest.approx(100, rel=0.02))
    assert "this machine has two states" in history_markdown([entry], every=False)


def test_runs_of_one_night_are_one_number() -> None:
    """Nights differ by 3 % and the three runs of a night do not: as 30 runs, ten nights would be full of levels."""
    rng = random.Random(11)
    alarms = 0
    for seed in range(60):
        alarms += bool(shifts(nights(lambda night: 100 * (1 + rng.gauss(0, 0.03)), 10, seed, runs=3)))
    assert alarms <= 4


def test_a_case_that_fails_two_nights_in_a_row_is_told() -> None:
    rows = nights(lambda night: 100, 10)
    broken = [replace(row, samples={}, error="crash: it ended") for row in rows[8:]]
    (entry,) = history([*rows[:8], *broken], "date")
    assert bad([entry], ["slower"]) == ["engine/m/chat/c1 all failed since 2026-01-09"]
    (entry,) = history([*rows[:8], broken[0], rows[9]], "date")
    assert bad([entry], ["slower"]) == []


def test_what_is_known_fails_nothing(tmp_path: Path) -> None:
    file = tmp_path / "known.toml"
    file.write_text('[[known]]\nat = "580.126.09"\nmetric = "user_*"\nwhy = "bug 7"\n')
    rows = planted(5)
    (entry,) = history(rows, "driver", known=read_known(file))
    assert (bad([entry], ["slower"]), entry.shifts[0].known) == ([], "bug 7")
    for text in ('[[known]]\nat = 5\nwhy = ""', "at = 5", '[[known]]\nplace = "x"', "[["):
        file.write_text(text)
        with pytest.raises(InputError, match="known"):
            read_known(file)


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
