"""A sensor that a third party adds in one file, from a folder outside the project: it is seen wherever the others are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugin_folder import plugin_folder
from rigbench import telemetry
from rigbench.documents import store
from rigbench.telemetry.base import Limits

SENSOR = '''
"""A clamp meter on the mains lead, which always reads 250 W."""
from rigbench.telemetry.base import POWER, Limits, Metric, Source
from rigbench_backends.base import Probe


class ClampSource(Source):
    name = "clamp"
    scope = "wall"
    idle_s = 0.3
    metrics = (Metric(*POWER, "clamp meter", "wall", "sampled", 0.1, "mains"),)

    @classmethod
    def open(cls, options):
        return cls()

    @classmethod
    def limits(cls, device):
        return Limits(0.1, 0.1)

    @classmethod
    def gpus(cls):
        return ({"name": "Clamped GPU", "vendor": "Clamp", "memory_bytes": 8 << 30},)

    @classmethod
    def drivers(cls):
        return {"clamp": "1.5"}

    def probe(self):
        return Probe(True, "1.5", devices=("mains",))

    def read(self, metrics):
        return [250.0 for _ in metrics]
'''
Rigbench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def rigbench(tmp_path: Path) -> Rigbench:
    """The command line with the plugin installed."""
    folder = plugin_folder(tmp_path / "plugin", "rigbench.sensors", "clamp", "ClampSource", SENSOR)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "rigbench.cli.main", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def test_it_is_in_doctor(rigbench: Rigbench) -> None:
    answer: dict[str, Any] = json.loads(rigbench("doctor", "--json").stdout)
    (state,) = [each for each in answer["telemetry"] if each["name"] == "clamp"]
    assert (state["usable"], state["devices"], state["metrics"]) == (True, ["mains"], ["power"])
    assert "Clamped GPU" in [gpu["name"] for gpu in answer["machine"]["gpus"]]
    assert answer["machine"]["drivers"]["clamp"] == "1.5"


def test_it_is_in_watch(rigbench: Rigbench) -> None:
    (line,) = [line for line in rigbench("watch", "--seconds", "0.1").stdout.splitlines() if "clamp meter" in line]
    assert line.split()[:5] == ["clamp", "mains", "power", "250", "W"]


def test_it_is_in_the_readings_of_a_run(rigbench: Rigbench, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    rigbench("run", "smoke", "-b", "llama_cpp", "-m", "synthetic:tiny:F16")
    document = store.read(next(tmp_path.glob("results/*/*.json")))
    assert "clamp" in [source["name"] for source in document.telemetry["sources"]]
    for result in document.cases:
        (power,) = [series for series in result.readings if series.source == "clamp"]
        assert (power.name, power.unit, power.scope, power.device) == ("power", "W", "wall", "mains")
        assert power.values and set(power.values) == {250.0}


def test_its_limits_hold_for_its_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert telemetry.limits("clampless") == Limits()
    telemetry.limits.cache_clear()
    monkeypatch.syspath_prepend(plugin_folder(tmp_path, "rigbench.sensors", "clamp", "ClampSource", SENSOR))
    assert telemetry.limits("clamp", "mains") == Limits(0.1, 0.1)


def test_one_that_fails_is_absent_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plugin_folder(tmp_path, "rigbench.sensors", "broken", "Source", "import no_such_driver")
    monkeypatch.syspath_prepend(folder)
    sources = {source.name: source for source in telemetry.open_sources(telemetry.SourceOptions())}
    probe = sources["broken"].probe()
    assert (probe.usable, probe.reason) == (
        False,
        "its package fails (ModuleNotFoundError: No module named 'no_such_driver')",
    )
    gpus, _, modes = telemetry.facts()
    assert isinstance(gpus, tuple) and isinstance(modes, dict)
    assert telemetry.limits("broken") == Limits()
    for source in sources.values():
        source.close()


@pytest.mark.parametrize(
    ("source", "device", "limits"),
    [
        ("nvml", "gpu0", Limits(2.0, 10.0, 0.1)),
        ("amd", "gpu0", Limits(2.0, 10.0, 0.1)),
        ("rapl", "package-0", Limits(2.0, 2.0, 0.1)),
        ("wall", None, Limits(60.0, 60.0, 0.05)),
        ("apple", "cpu", Limits(10.0, 30.0, 0.1)),
        ("apple", "ane", Limits(10.0, 30.0, 0.1, may_rest=True)),
        ("apple", "gpu", Limits(5.0, 10.0, 0.1)),
        ("apple", None, Limits(5.0, 10.0, 0.1)),
    ],
)
def test_limits_of_every_machine_s_sensors_are_known_on_this_one(
    source: str, device: str | None, limits: Limits
) -> None:
    assert telemetry.limits(source, device) == limits
