"""A powercap tree made by the test: rounds of the counter, a counter set back, permissions, virtual machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from rigbench.analysis.energy import Place, case_energies, headline
from rigbench.telemetry.base import Missing, Source, SourceOptions
from rigbench.telemetry.rapl import RaplSource
from rigbench.telemetry.sampler import Sampler


def zone(root: Path, name: str, domain: str, energy_uj: int, range_uj: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(domain + "\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj - 1}\n")
    return folder / "energy_uj"


def read(source: Source) -> list[float | Missing]:
    return list(source.read(source.metrics))


def test_packages_and_their_memory_but_no_parts_of_them(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    zone(tmp_path, "intel-rapl:0:0", "core", 0)
    zone(tmp_path, "intel-rapl:0:1", "dram", 0)
    zone(tmp_path, "intel-rapl:1", "package-1", 0)
    zone(tmp_path, "intel-rapl:1:0", "dram", 0)
    zone(tmp_path, "intel-rapl:2", "psys", 0)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0)
    source = RaplSource.open(SourceOptions(), tmp_path)
    assert source.probe().usable
    assert [metric.device for metric in source.metrics] == ["package-0", "dram-0", "package-1", "dram-1"]
    assert {(m.name, m.unit, m.scope, m.method) for m in source.metrics} == {("energy", "J", "package", "counter")}


def test_the_counter_goes_round(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    source = RaplSource.open(SourceOptions(), tmp_path)
    counter.write_text("990000\n")
    assert read(source) == [pytest.approx(0.09)]
    counter.write_text("240000\n")  # round once: 10,000 to the end, 240,000 more
    assert read(source) == [pytest.approx(0.34)]
    counter.write_text("740000\n")
    assert read(source) == [pytest.approx(0.84)]


def test_a_counter_that_is_set_back_is_missing_once(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 500_000)
    source = RaplSource.open(SourceOptions(), tmp_path)
    counter.write_text("400000\n")  # as a step forward this would be 900,000 of 1,000,000
    assert read(source) == [Missing("the counter of package-0 went backwards")]
    counter.write_text("450000\n")
    assert read(source) == [pytest.approx(0.05)]


def test_permission_denied_names_the_line_that_fixes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    real = Path.read_text

    def refuse(self: Path, *args: str, **kwargs: str) -> str:
        if self == counter:
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    source = RaplSource.open(SourceOptions(), tmp_path)
    assert not source.probe().usable
    (metric,) = source.metrics
    assert metric.status == "denied"
    assert metric.reason is not None and "sudo chmod a+r" in metric.reason


def test_permission_lost_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    source = RaplSource.open(SourceOptions(), tmp_path)

    def refuse(self: Path, *args: str, **kwargs: str) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    (reading,) = read(source)
    assert isinstance(reading, Missing) and reading.status == "denied"


def test_a_zone_that_vanishes_is_missing(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    source = RaplSource.open(SourceOptions(), tmp_path)
    counter.unlink()
    assert read(source) == [Missing("energy_uj of package-0 cannot be read (FileNotFoundError)")]


def test_a_socket_that_cannot_be_read_leaves_no_sum(tmp_path: Path) -> None:
    """Of two, of which one answers: its joules alone would be half of the machine's."""
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    zone(tmp_path, "intel-rapl:1", "package-1", 0).write_text("n/a\n")
    sampler = Sampler([RaplSource.open(SourceOptions(), tmp_path)])
    (lane,) = sampler.lanes
    for at_s in range(0, 6):
        counter.write_text(f"{at_s * 80_000}\n")
        lane.clock = lambda at_s=at_s: at_s * 10**9
        lane.read(lane.groups[0.1])
    readings = sampler.window(0, 0, 5 * 10**9)
    whole = headline(case_energies(readings, 0, 5_000_000), Place("cpu"))
    assert whole is not None and whole.joules is None
    assert whole.reason == "package-1: energy_uj of package-1 cannot be read (ValueError)"


@pytest.mark.parametrize(
    "cpuinfo,reason", [("flags\t: fpu hypervisor\n", "no powercap; virtual machine"), ("flags\t: fpu\n", "no powercap")]
)
def test_no_powercap(tmp_path: Path, cpuinfo: str, reason: str) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    probe = RaplSource.open(SourceOptions(), tmp_path / "none", tmp_path).probe()
    assert not probe.usable and probe.reason == reason
    assert (probe.fix is None) == ("virtual" in reason)
