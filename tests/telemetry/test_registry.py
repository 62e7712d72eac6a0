"""Which sources a machine has, and what is said where there are none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rigbench.errors import InputError
from rigbench.telemetry import open_sources
from rigbench.telemetry.base import Absent, Missing, SourceOptions, idle_seconds, state
from rigbench_backends.base import Probe


def test_every_source_of_this_system_is_there_usable_or_with_its_reason() -> None:
    sources = open_sources(SourceOptions())
    names = [source.name for source in sources]
    if sys.platform.startswith("linux"):
        assert names == ["host", "nvml", "rapl", "amd", "intel"]
    for source in sources:
        current = state(source)
        assert current["usable"] or current["reason"]
        assert bool(current["metrics"]) == current["usable"]
        source.close()


def test_telemetry_off_is_no_source() -> None:
    assert open_sources(SourceOptions(telemetry=False)) == []


def test_the_meter_joins_and_its_address_is_told_nowhere() -> None:
    (*_, meter) = open_sources(SourceOptions(wall_url="http://127.0.0.1:9/secret", wall_preset="tasmota"))
    assert meter.name == "wall"
    assert "127.0.0.1" not in repr((meter.metrics, meter.probe(), meter.read(meter.metrics)))
    with pytest.raises(InputError, match="fritz"):
        open_sources(SourceOptions(wall_url="10.0.0.1", wall_preset="fritz"))


def test_idle_is_waited_for_only_where_power_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    series = {"name": "power", "unit": "W", "source": "nvml", "api": "t", "scope": "board", "method": "sampled"}
    path.write_text(json.dumps([{**series, "status": "ok", "time_us": [0, 100_000], "values": [5.0, 5.0]}]))
    absent = Absent("rapl", "package", Probe(False, reason="no powercap"))
    recorded = open_sources(SourceOptions(replay=str(path)))
    assert idle_seconds([absent]) == 0
    assert idle_seconds([absent, *recorded]) == 10.5
    assert idle_seconds([*recorded, *open_sources(SourceOptions(wall_url="127.0.0.1:9"))[-1:]]) == 62


def test_a_recording_stands_in_for_all(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    series = {"name": "power", "unit": "W", "source": "nvml", "api": "t", "scope": "board", "method": "sampled"}
    path.write_text(json.dumps([{**series, "status": "ok", "time_us": [0], "values": [5.0]}]))
    assert [source.name for source in open_sources(SourceOptions(replay=str(path)))] == ["replay"]


def test_absent_is_one_metric_with_reason_and_fix() -> None:
    absent = Absent("rapl", "package", Probe(False, reason="root only", fix="sudo chmod"), "denied")
    (metric,) = absent.metrics
    assert (metric.name, metric.unit, metric.status, metric.reason) == ("power", "W", "denied", "root only; sudo chmod")
    assert not metric.readable
    assert absent.read(absent.metrics) == [Missing("root only; sudo chmod")]
