"""What was recorded comes out again at the same distances of time."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from rigbench.errors import InputError
from rigbench.records import Series
from rigbench.telemetry.base import Missing
from rigbench.telemetry.replay import ReplaySource

POWER = Series(
    "power",
    "W",
    "nvml",
    "POWER_INSTANT",
    "board",
    "sampled",
    "ok",
    None,
    "gpu0",
    (5_000_000, 5_100_000, 5_200_000),
    (60.0, None, 250.0),
)
DENIED = Series("power", "W", "rapl", "powercap", "package", "counter", "denied", "root only")


def write(tmp_path: Path, content: object) -> str:
    path = tmp_path / "recorded.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_readings_come_back_at_their_time(tmp_path: Path) -> None:
    source = ReplaySource.load(write(tmp_path, {"readings": [asdict(POWER), asdict(DENIED)]}))
    times = iter([0, 50_000_000, 150_000_000, 200_000_000, 250_000_000])
    source._clock = lambda: next(times)
    power, denied = source.metrics
    assert power.period_s == pytest.approx(0.1)
    assert (power.device, power.api) == ("gpu0", "recorded from nvml: POWER_INSTANT")
    assert (denied.status, denied.reason) == ("denied", "root only")
    assert [source.read([power])[0] for _ in range(5)] == [
        60.0,
        60.0,
        Missing("the recording has no reading here"),
        250.0,
        Missing("the recording is over"),
    ]


@pytest.mark.parametrize(
    "content", [[], {}, {"readings": 3}, [{"name": "power"}], [1], "text", [{**asdict(POWER), "values": []}]]
)
def test_no_recording(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match="is no recording"):
        ReplaySource.load(write(tmp_path, content))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        ReplaySource.load(str(tmp_path / "none.json"))
