"""The hardware catalogue: complete, consistent with the reference data, and found by what drivers report."""

from __future__ import annotations

import csv

import pytest

from rigbench.errors import InputError
from rigbench.paths import configs_dir
from rigbench.predict.cases import find_device
from rigbench.predict.hardware import GIB, find, hardware, load_hardware, match

REFERENCE = configs_dir() / "reference"


def rows(name: str) -> list[dict[str, str]]:
    with (REFERENCE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_chip_of_the_measurements_is_found_with_their_bandwidth() -> None:
    names = {
        (r["hardware"], r["gpu_cores_or_variant"], r["memory_bandwidth_gbs"]): r for r in rows("measured_train.csv")
    }
    for (name, variant, gbs), row in names.items():
        device = find_device(row)
        assert device is not None, name
        assert device.bandwidth_bytes_per_s == pytest.approx(float(gbs) * 1e9), (name, variant)


def test_every_single_device_of_the_published_tables_has_their_bandwidth() -> None:
    aliases = {"m3-ultra": "m3-ultra-80", "m4-pro": "m4-pro-20"}
    for row in rows("hardware.csv"):
        if row["devices"] == "1":
            device = find(aliases.get(row["id"], row["id"]))
            assert device.bandwidth_bytes_per_s == float(row["bandwidth_gbs"]) * 1e9, row["id"]
            assert device.status == row["status"], row["id"]


def test_every_entry_has_source_status_and_sane_figures() -> None:
    for device in hardware():
        assert device.source and device.status in ("shipping", "projected"), device.id
        assert 1 * GIB <= device.memory_bytes <= 2000 * GIB
        assert 10e9 < device.bandwidth_bytes_per_s < 20e12
        assert device.power_w is None or 5 < device.power_w < 2000
        assert device.fp16_flops is None or 1e12 < device.fp16_flops < 1e16


@pytest.mark.parametrize(
    ("reported", "memory_gib", "cores", "expected"),
    [
        ("NVIDIA GeForce RTX 4090", 24, None, "rtx-4090"),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", 24, None, "rx-7900-xtx"),
        ("Intel(R) Arc(tm) B580 Graphics (BMG G21)", 12, None, "arc-b580"),
        ("NVIDIA GeForce RTX 3090 (NVK GA102)", 24, None, "rtx-3090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16, None, "rtx-4090-laptop"),
        ("NVIDIA GeForce RTX 3080", 10, None, "rtx-3080-10gb"),
        ("NVIDIA GeForce RTX 3080", 12, None, "rtx-3080-12gb"),
        ("NVIDIA H100 80GB HBM3", 80, None, "h100-sxm-80gb"),
        ("NVIDIA A100-SXM4-40GB", 40, None, "a100-sxm-40gb"),
        ("NVIDIA RTX 6000 Ada Generation", 48, None, "rtx-6000-ada"),
        ("Quadro RTX 6000", 24, None, "quadro-rtx-6000"),
        ("Tesla T4", 16, None, "t4"),
        ("NVIDIA GB10", 128, None, "gb10"),
        ("Apple M3 Max", 64, 40, "m3-max-40"),
        ("Apple M3 Max", 36, 30, "m3-max-30"),
        ("Apple M3 Max", 36, None, "m3-max-30"),
        ("Apple M4", 16, 10, "m4-10"),
        ("AMD Radeon RX 7900 XTX", 24, None, "rx-7900-xtx"),
        ("Intel(R) Arc(TM) B580 Graphics", 12, None, "arc-b580"),
    ],
)
def test_reported_names_match(reported: str, memory_gib: int, cores: int | None, expected: str) -> None:
    device = match(reported, memory_gib * GIB, cores)
    assert device is not None and device.id == expected


def test_nvml_memory_a_little_below_the_size_sold_picks_that_size() -> None:
    device = match("NVIDIA GeForce RTX 4060 Ti", 16380 * 2**20)
    assert device is not None and device.memory_bytes == 16 * GIB


@pytest.mark.parametrize("name", ["", "AMD Radeon Graphics", "NVIDIA GeForce RTX 9999", "llvmpipe"])
def test_unknown_names_match_nothing(name: str) -> None:
    assert match(name) is None


def test_unknown_id_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="rtx-4090"):
        find("rtx-4900")


def test_broken_catalogue_names_file_and_key(tmp_path) -> None:
    (tmp_path / "x.toml").write_text(
        'vendor = "nvidia"\n[[hardware]]\nid = "a"\nname = "A"\nfamily = "f"\nmemory_gib = [8]\n'
    )
    with pytest.raises(InputError, match=r"x\.toml.*'a'.*bandwidth_gbs"):
        load_hardware(tmp_path)
