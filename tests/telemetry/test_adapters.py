"""Which GPUs a system shows: sysfs trees, registry entries and chip names as real machines have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rigbench.telemetry.adapters import Adapter, linux_adapters, mac_adapters, windows_adapters

PCI_IDS = """\
# a list as distributions ship it
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t164e  Raphael
\t744c  Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]
\t\t1002 0e3b  Radeon RX 7900 GRE
\t74a1  Aqua Vanjaram [Instinct MI300X]
10de  NVIDIA Corporation
\t2b85  GB202 [GeForce RTX 5090]
8086  Intel Corporation
\t744c  not this one
\t7d55  Meteor Lake-P [Intel Arc Graphics]
\te20b  Battlemage G21 [Arc B580]
"""


def device(root: Path, address: str, vendor: int, number: int, kind: int, **files: str) -> None:
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor:#06x}\n")
    (folder / "device").write_text(f"{number:#06x}\n")
    (folder / "class").write_text(f"{kind:#08x}\n")
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ids = tmp_path / "usr/share/misc/pci.ids"
    ids.parent.mkdir(parents=True)
    ids.write_text(PCI_IDS)
    return tmp_path


def test_a_virtual_machine_has_no_gpu(root: Path) -> None:
    device(root, "0000:00:01.0", 0x1234, 0x1111, 0x030000)  # an emulated screen
    device(root, "0000:00:02.0", 0x1002, 0x1483, 0x060000)  # an AMD bridge
    assert linux_adapters(root) == ()
    assert linux_adapters(root / "nowhere") == ()


def test_cards_of_three_vendors_and_the_graphics_of_a_processor(root: Path) -> None:
    device(root, "0000:01:00.0", 0x10DE, 0x2B85, 0x030000)
    device(root, "0000:03:00.0", 0x1002, 0x744C, 0x030000, hwmon__hwmon4__in0_label="vddgfx\n")
    device(root, "0000:0f:00.0", 0x8086, 0xE20B, 0x030000)
    device(root, "0000:11:00.0", 0x1002, 0x164E, 0x030000, hwmon__hwmon5__in1_label="vddnb\n")
    five_thousand, navi, arc, raphael = linux_adapters(root)
    assert five_thousand == Adapter("nvidia", "NVIDIA GeForce RTX 5090", False)
    assert navi == Adapter("amd", "AMD Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M", False)
    assert arc == Adapter("intel", "Intel Arc B580", False)
    assert raphael == Adapter("amd", "AMD Raphael", True)
    assert [adapter.worth_using for adapter in (five_thousand, navi, arc, raphael)] == [True, True, True, False]


def test_accelerators_without_a_screen_and_cards_that_no_list_knows(root: Path) -> None:
    device(root, "0000:05:00.0", 0x1002, 0x74A1, 0x120000)
    device(root, "0000:06:00.0", 0x10DE, 0x9999, 0x030200)
    device(root, "0000:07:00.0", 0x8086, 0x0B25, 0x088000)  # an Intel device that is no display
    device(root, "0000:08:00.0", 0x8086, 0x4940, 0x120000)  # Intel's co-processors for encryption
    assert [adapter.name for adapter in linux_adapters(root)] == ["AMD Instinct MI300X", "NVIDIA GPU 0x9999"]


def test_the_drivers_own_name_comes_first(root: Path) -> None:
    device(root, "0000:01:00.0", 0x10DE, 0x2B85, 0x030000)
    information = root / "proc/driver/nvidia/gpus/0000:01:00.0/information"
    information.parent.mkdir(parents=True)
    information.write_text("Model: \t\t NVIDIA GeForce RTX 5090 D\nIRQ:   	 100\n")
    device(root, "0000:03:00.0", 0x1002, 0x744C, 0x030000, product_name="AMD Radeon PRO W7900\n")
    assert [adapter.name for adapter in linux_adapters(root)] == ["NVIDIA GeForce RTX 5090 D", "AMD Radeon PRO W7900"]


def test_intel_graphics_count_when_they_are_an_arc(root: Path) -> None:
    device(root, "0000:00:02.0", 0x8086, 0x7D55, 0x030000)
    device(root, "0000:00:03.0", 0x8086, 0x3E92, 0x030000)
    meteor, old = linux_adapters(root)
    assert (meteor.integrated, meteor.worth_using) == (True, True)
    assert (old.integrated, old.worth_using, old.name) == (True, False, "Intel GPU 0x3e92")


def test_windows() -> None:
    entries = [
        ("NVIDIA GeForce RTX 4090", r"PCI\VEN_10DE&DEV_2684&SUBSYS_16F3"),
        ("AMD Radeon(TM) Graphics", r"PCI\VEN_1002&DEV_164E"),
        ("Intel(R) Arc(TM) B580 Graphics", r"PCI\VEN_8086&DEV_E20B"),
        ("Intel(R) UHD Graphics 770", r"PCI\VEN_8086&DEV_4680"),
        ("Microsoft Basic Display Adapter", r"ROOT\BasicDisplay"),
        ("Parsec Virtual Display Adapter", r"Root\Parsec\VDA"),
    ]
    adapters = list(windows_adapters(entries))
    assert [(adapter.vendor, adapter.worth_using) for adapter in adapters] == [
        ("nvidia", True),
        ("amd", False),
        ("intel", True),
        ("intel", False),
    ]


def test_macs() -> None:
    assert mac_adapters("arm64", "Apple M3 Ultra\n") == (Adapter("apple", "Apple M3 Ultra", True),)
    assert mac_adapters("x86_64", "Apple M3 Ultra") == (Adapter("apple", "Apple M3 Ultra", True),)  # Rosetta
    assert mac_adapters("x86_64", "Intel(R) Core(TM) i9-9980HK CPU @ 2.40GHz") == ()
