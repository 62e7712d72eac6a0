"""The fingerprint of this machine, and the cores that there are to compute with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rigbench.telemetry import host, machine


def test_the_fingerprint_says_what_the_machine_is() -> None:
    this = machine.fingerprint()
    assert this.cpu
    assert this.memory_bytes > 10**8
    assert this.id == machine.fingerprint().id
    assert set(this.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_a_gpu_names_the_machine() -> None:
    two = ({"name": "NVIDIA GeForce RTX 5090"}, {"name": "NVIDIA GeForce RTX 5090"})
    assert machine.fingerprint(two[:1]).id.startswith("nvidia-geforce-rtx-5090-")
    assert machine.fingerprint(two).id.startswith("2x-nvidia-geforce-rtx-5090-")


CARDS = (
    {"name": "NVIDIA GeForce RTX 3060", "bus_id": "0000:01:00.0"},
    {"name": "NVIDIA GeForce RTX 5090", "bus_id": "0000:02:00.0"},
    {"name": "AMD 0x164e", "bus_id": "0000:10:00.0", "integrated": True},
)


def test_only_what_engines_use_names_the_machine() -> None:
    """A 3060 beside a 5090, in a Ryzen whose own graphics are on."""
    whole = machine.fingerprint(CARDS)
    assert whole.id.startswith("nvidia-geforce-rtx-3060-nvidia-geforce-rtx-5090-")
    assert whole.detail["other_gpus"] == ["AMD 0x164e"]
    used = machine.fingerprint(CARDS, used={"0000:02:00.0": "NVIDIA GeForce RTX 5090"})
    assert used.id.startswith("nvidia-geforce-rtx-5090-") and len(used.gpus) == 1
    assert used.detail["other_gpus"] == ["NVIDIA GeForce RTX 3060", "AMD 0x164e"]


def test_an_integrated_gpu_alone_names_the_machine_as_its_engine_calls_it() -> None:
    alone = machine.fingerprint(CARDS[2:], used={"0000:10:00.0": "AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO)"})
    assert alone.gpus[0]["name"] == "AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO)"
    assert machine.fingerprint(CARDS[2:]).gpus == CARDS[2:]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs an affinity")
def test_cores_are_those_that_affinity_and_quota_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 8, 9})  # 8 and 9 share the cores of 0 and 1
    assert machine.usable_cores(tmp_path, tmp_path, tmp_path) == 5  # nothing tells what shares a core
    for cpu in (0, 1, 2, 8, 9):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(f"{cpu % 8},{cpu % 8 + 8}\n")
    assert machine.usable_cores(tmp_path, tmp_path, tmp_path) == 3
    for quota, cores in (("max 100000", 3), ("250000 100000", 2), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(quota + "\n")
        assert machine.usable_cores(tmp_path, tmp_path, tmp_path) == cores


def test_an_engine_takes_the_fast_cores_of_a_mac_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(*levels: tuple[str, int]) -> int:
        answers = {"hw.nperflevels": str(len(levels))}
        for index, (name, cores) in enumerate(levels):
            answers |= {f"hw.perflevel{index}.name": name, f"hw.perflevel{index}.physicalcpu": str(cores)}
        monkeypatch.setattr(host, "sysctl", answers.get)
        return machine.engine_threads()

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(host, "quota_cores", lambda *folders: None)
    assert threads(("Performance", 12), ("Efficiency", 4)) == 12
    assert threads(("Super", 6), ("Performance", 12)) == 18
    assert threads(("", 8), ("", 4)) == 8  # a system that tells no names has the efficient ones last
    monkeypatch.setattr(host, "sysctl", lambda name: None)
    assert machine.engine_threads() == machine.usable_cores() >= 1


def hybrid(root: Path, capacities: dict[int, int], siblings: int = 1) -> Path:
    sysfs = root / "system/cpu"
    for cpu, capacity in capacities.items():
        (sysfs / f"cpu{cpu}/topology").mkdir(parents=True)
        (sysfs / f"cpu{cpu}/cpu_capacity").write_text(f"{capacity}\n")
        (sysfs / f"cpu{cpu}/topology/thread_siblings_list").write_text(f"{cpu - cpu % siblings}\n")
    return sysfs


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs an affinity")
def test_an_engine_takes_the_fast_cores_of_a_hybrid_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 fast and 16 slow cores of Intel's, and a GB10's 10 and 10, whose fast ones have two clocks."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)))
    intel = hybrid(tmp_path / "intel", dict.fromkeys(range(32), 1024), 2)
    (tmp_path / "intel/cpu_core").mkdir()
    (tmp_path / "intel/cpu_core/cpus").write_text("0-15\n")
    assert machine.usable_cores(intel, tmp_path, tmp_path, fast=True) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(20)))
    gb10 = hybrid(tmp_path / "gb10", {cpu: 718 if cpu < 10 else 1024 if cpu < 15 else 997 for cpu in range(20)})
    assert machine.usable_cores(gb10, tmp_path, tmp_path, fast=True) == 10
    assert machine.usable_cores(gb10, tmp_path, tmp_path) == 20
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {16, 18})
    assert machine.usable_cores(intel, tmp_path, tmp_path, fast=True) == 2  # pinned to slow ones
