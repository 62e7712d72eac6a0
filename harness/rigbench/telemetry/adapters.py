"""The GPUs that this system shows, whether or not any driver works or any engine can use them. Standard library only.

A benchmark that runs on the processor beside an idle graphics card is a wrong number for its owner. So what the PCI bus
(Linux), the registry (Windows) or the chip itself (Mac) shows is compared with what an engine's build uses, and the
build scripts choose by it, before anything is installed.

    python -m rigbench.telemetry.adapters
"""

from __future__ import annotations

import functools
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rigbench.telemetry import amd
from rigbench.telemetry.base import labelled, output, read_text

VENDORS = {0x10DE: "nvidia", 0x1002: "amd", 0x8086: "intel"}
LABELS = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "apple": "Apple"}
DISPLAY, ACCELERATOR = 0x03, 0x12
"""PCI base classes: display controllers, and what AMD's Instinct cards call themselves."""
SCREEN_ONLY = re.compile(r"Raphael|Granite Ridge|Mendocino|Radeon\(TM\) Graphics$|Radeon 610M|Radeon Graphics$")
"""AMD graphics of two compute units: no faster than the processor beside them."""
PCI_IDS = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")
DISPLAY_CLASS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


@dataclass(frozen=True, slots=True)
class Adapter:
    """One GPU. `vendor`: nvidia, amd, intel, apple. `integrated`: it shares the processor's memory; None where nothing tells."""

    vendor: str
    name: str
    integrated: bool | None = None

    @property
    def worth_using(self) -> bool:
        """Whether an owner would expect an engine to use it: not the graphics that a processor has to drive a screen."""
        if self.integrated is False:
            return True
        return "arc" in self.name.lower() if self.vendor == "intel" else not SCREEN_ONLY.search(self.name)


@functools.cache
def adapters() -> tuple[Adapter, ...]:
    """The GPUs of this machine, in the order of the bus."""
    if sys.platform == "darwin":
        return mac_adapters(platform.machine(), output("sysctl", "-n", "machdep.cpu.brand_string"))
    if sys.platform == "win32":
        return tuple(windows_adapters(_registry()))
    cards = linux_adapters(Path("/"))
    if not any(adapter.vendor == "nvidia" for adapter in cards):
        # Linux on Windows shows no PCI bus, but the driver answers.
        names = output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
        cards += tuple(Adapter("nvidia", name.strip(), False) for name in names if name.strip())
    return cards


def linux_adapters(root: Path) -> tuple[Adapter, ...]:
    """From sysfs below `root`. Virtual machines' emulated cards are of other vendors and are left out."""
    cards = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        vendor = VENDORS.get(_hex(device / "vendor"))
        base_class = _hex(device / "class") >> 16
        if vendor and (base_class == DISPLAY or (base_class == ACCELERATOR and vendor != "intel")):
            cards.append(Adapter(vendor, pci_name(device, vendor, root), is_integrated(device, vendor)))
    return tuple(cards)


def is_integrated(device: Path, vendor: str) -> bool | None:
    """Intel puts its integrated graphics on the root bus; the kernel shows an AMD processor's by a voltage of its north bridge."""
    if vendor == "nvidia":
        return False
    if vendor == "intel":
        return device.name.split(":")[1:2] == ["00"]
    return amd.is_apu(device) if labelled(device, "in") else None


def pci_name(device: Path, vendor: str, root: Path = Path("/")) -> str:
    """The driver's own name, else the one in the PCI list that distributions ship, else the number."""
    driver = read_text(root / "proc/driver/nvidia/gpus" / device.name / "information")
    if model := re.search(r"^Model:\s*(.+)$", driver, re.MULTILINE):
        return model[1].strip()
    if product := read_text(device / "product_name"):
        return product
    number, maker = _hex(device / "device"), _hex(device / "vendor")
    for path in PCI_IDS:
        section = re.search(rf"^{maker:04x}\s.*(?:\n(?:[\t#].*)?)*", read_text(root / path), re.MULTILINE)
        if section and (line := re.search(rf"^\t{number:04x}\s+(.+)$", section[0], re.MULTILINE)):
            bracketed = re.search(r"\[(.+)\]", line[1])
            return f"{LABELS[vendor]} {bracketed[1] if bracketed else line[1]}"
    return f"{LABELS[vendor]} GPU {number:#06x}"


def windows_adapters(entries: list[tuple[str, str]]) -> Iterator[Adapter]:
    """From the registry's (DriverDesc, MatchingDeviceId) of each display adapter."""
    for name, matching in entries:
        if (number := re.search(r"VEN_([0-9A-F]{4})", matching, re.IGNORECASE)) and int(number[1], 16) in VENDORS:
            vendor = VENDORS[int(number[1], 16)]
            arc = vendor == "intel" and re.search(r"\bArc\b.*\b[AB]\d{3}\b", name)
            yield Adapter(vendor, name, False if vendor == "nvidia" or arc else None)


def mac_adapters(machine: str, chip: str) -> tuple[Adapter, ...]:
    """An Apple chip's own GPU, also seen from a Python that runs under Rosetta."""
    chip = chip.strip()
    return (Adapter("apple", chip or "Apple GPU", True),) if machine == "arm64" or chip.startswith("Apple") else ()


def _registry() -> list[tuple[str, str]]:
    if sys.platform != "win32":
        return []
    import winreg

    entries = []
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, DISPLAY_CLASS) as displays:
        for index in range(winreg.QueryInfoKey(displays)[0]):
            try:
                with winreg.OpenKey(displays, winreg.EnumKey(displays, index)) as adapter:
                    values = ("DriverDesc", "MatchingDeviceId")
                    name, matching = (str(winreg.QueryValueEx(adapter, each)[0]) for each in values)
                    entries.append((name, matching))
            except OSError:  # a key that this user may not read, or that is no adapter
                continue
    return entries


def _hex(path: Path) -> int:
    try:
        return int(read_text(path), 16)
    except ValueError:
        return 0


if __name__ == "__main__":
    for adapter in adapters():
        print(adapter)
