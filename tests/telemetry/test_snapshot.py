"""`rigbench doctor --report`: machines written to a file, and their sensors opened again on it. `machines/` has one that is real
(`virtual-xeon`), and those made here (`made-...`); reports that owners send in join them."""

from __future__ import annotations

import getpass
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fake_nvml import FakeGpu, fake_module
from machine_reports import MACHINES, PlayedMac, play, rebuild
from rigbench.cli.main import app
from rigbench.errors import UnavailableError
from rigbench.telemetry import snapshot
from rigbench.telemetry.base import Missing, state
from rigbench.telemetry.replay import ReplaySource
from rigbench.text import private_parts

REPORTS = sorted(MACHINES.glob("*.json"))


def known(report: dict[str, Any]) -> dict[tuple[str, ...], list[float]]:
    """What was read, by what it is of."""
    return {
        tuple(str(each[name]) for name in ("source", "name", "unit", "api", "scope", "method", "device")): values
        for each in report["readings"]
        if (values := [value for value in each["values"] if value is not None])
    }


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_the_sensors_read_of_a_report_what_they_read_there(path: Path, tmp_path: Path) -> None:
    report = json.loads(path.read_text())
    sources, gpus = play(report, tmp_path)
    names = {source.name for source in sources}
    assert [state(source)["metrics"] for source in sources] == [
        tuple(each["metrics"]) for each in report["sensors"] if each["name"] in names
    ]
    again: dict[tuple[str, ...], float] = {}
    for source in sources:
        source.watch(None)
        metrics = [metric for metric in source.metrics if metric.readable]
        for metric, value in zip(metrics, source.read(metrics), strict=True):
            if not isinstance(value, Missing):
                own = (metric.name, metric.unit, metric.api, metric.scope, metric.method, str(metric.device))
                again[source.name, *own] = value
    then = {what: values for what, values in known(report).items() if what[0] in names and what[4] != "process"}
    then = {what: values for what, values in then.items() if not what[1].startswith("memory_used_")}  # of a process
    assert set(again) >= set(then)
    for what, values in then.items():
        if what[5] == "sampled":  # a machine idles and works; a wrong unit is a factor of 1000
            assert min(values) / 30 <= again[what] <= max(values) * 30, what
    assert [gpu["name"] for gpu in gpus] == [gpu["name"] for gpu in report["machine"]["gpus"]]


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_a_report_is_a_recording_and_says_nothing_of_its_owner(path: Path) -> None:
    assert ReplaySource.load(str(path)).metrics
    text = path.read_text()
    assert list(private_parts(text)) == []
    assert not re.search(r"serial_|serial number|uuid", text, re.IGNORECASE)


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "READINGS_S", 0.6)
    path = tmp_path / "machine.json"
    done = CliRunner().invoke(app, ["doctor", "--report", str(path)])
    assert done.exit_code == 0, done.output
    text = path.read_text()
    for private in (socket.gethostname(), str(Path.home()), getpass.getuser(), str(Path.cwd())):
        assert len(private) < 3 or private in ("root", "/root") or private not in text
    assert list(private_parts(text)) == []
    report = json.loads(text)
    assert report["format"] == "rigbench-machine-1" and report["machine"]["cpu"] and report["backends"]["sim"]["usable"]
    assert any(each["source"] == "host" and each["name"] == "rss" and each["values"] for each in report["readings"])
    refused = CliRunner().invoke(app, ["doctor", "--report", str(tmp_path / "none" / "machine.json")])
    assert isinstance(refused.exception, UnavailableError) and "cannot write" in str(refused.exception)


def test_files_are_those_named_and_what_cannot_be_read_is_null(tmp_path: Path) -> None:
    device = "sys/devices/pci0000:00/0000:03:00.0"
    there = {
        "sys/class/drm/card0/device": f"->{device}",
        f"{device}/vendor": "0x1002",
        f"{device}/unique_id": "8f2e4c1d",
        f"{device}/serial_number": "PCB0001",
        f"{device}/gpu_metrics": "hex:68000301ff",
        f"{device}/hwmon/hwmon1/power1_average": "31000000",
        "sys/class/power_supply/BAT0/serial_number": "4711",
        "sys/class/power_supply/BAT0/type": "Battery",
        "proc/cpuinfo": "model name\t: A76\nmodel name\t: A76\nCPU part\t: 0xd0b\nCPU part\t: 0xd0b\nSerial\t\t: 1000abcd",
    }
    written = snapshot.files(rebuild(there, tmp_path))
    card = "sys/class/drm/card0/device"
    assert written == {
        card: f"->{device}",
        f"{card}/vendor": "0x1002",
        f"{card}/gpu_metrics": "hex:68000301ff",
        f"{card}/hwmon/hwmon1/power1_average": "31000000",
        "sys/class/power_supply/BAT0/type": "Battery",
        "proc/cpuinfo": "model name\t: A76\nCPU part\t: 0xd0b\nCPU part\t: 0xd0b",
    }
    assert snapshot.files(rebuild(written, tmp_path / "again")) == written


def test_the_tape_has_each_answer_of_nvml_and_no_private_one() -> None:
    gpu = FakeGpu(fields={186: (0, 431_250), 74: (0, 5), 82: (0, 88)}, lost=False, processes=[(4242, 10**9)])
    answers = snapshot.nvml_answers(fake_module([gpu]))
    assert answers["nvmlDeviceGetName(gpu0)"] == "NVIDIA GeForce RTX 5090"
    assert answers["nvmlDeviceGetFieldValues(gpu0, [(186, 0)])"][0]["value"]["uiVal"] == 431_250
    assert answers["nvmlDeviceGetFieldValues(gpu0, [82])"][0]["value"]["ullVal"] == 88  # beyond what the sensor asks
    assert answers["nvmlDeviceGetComputeRunningProcesses_v3(gpu0)"] == [{"pid": 4242, "usedGpuMemory": 10**9}]
    assert "nvmlDeviceGetFieldValues(gpu0, [83])" not in answers
    assert not [words for words in answers if "UUID" in words or "Serial" in words]
    lost = snapshot.nvml_answers(fake_module([FakeGpu(lost=True)]))
    assert lost["nvmlDeviceGetHandleByIndex(0)"]["error"] == "NVMLError_GpuIsLost"


def test_a_mac_of_the_tape_refuses_what_the_mac_refused() -> None:
    mac = PlayedMac(
        {"smc_float(PSTR)": {"error": "OSError", "code": None, "text": "no SMC"}}, OSError("not on the tape")
    )
    with pytest.raises(OSError, match="no SMC"):
        mac.smc_float("PSTR")
