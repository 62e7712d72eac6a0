"""Facts for the fingerprint, and nothing private in them."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

from rigbench import telemetry
from rigbench.telemetry.amd import AmdSource
from rigbench.telemetry.apple import AppleSource
from rigbench.telemetry.host import HostSource


def test_modes_of_linux(tmp_path: Path) -> None:
    governor = tmp_path / "devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("performance\n")
    assert HostSource.modes(tmp_path) == {"cpu_governor": "performance"}
    assert HostSource.modes(tmp_path / "none") == {}


def test_modes_of_macos() -> None:
    pmset = "System-wide power settings:\nCurrently in use:\n standby    1\n lowpowermode    1\n powermode    2\n"
    assert AppleSource.modes(pmset) == {"lowpowermode": "1", "powermode": "2"}


def test_amdgpu_version(tmp_path: Path) -> None:
    version = tmp_path / "module/amdgpu/version"
    version.parent.mkdir(parents=True)
    version.write_text("6.12.12\n")
    assert AmdSource.drivers(tmp_path) == {"amdgpu": "6.12.12"}
    assert AmdSource.drivers(tmp_path / "none") == {}


def test_nothing_private() -> None:
    text = repr(telemetry.facts())
    for private in (socket.gethostname(), str(Path.home()), getpass.getuser()):
        assert len(private) < 3 or private not in text
