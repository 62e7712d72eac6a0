"""The measurements of GPUs that are not here, through a driver and an interpreter that the test plays."""

from __future__ import annotations

import ctypes
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from fake_cuda import GIB, Card, FakeCuda
from rigbench import ceilings
from rigbench.ceilings import cuda, engine
from rigbench.ceilings.cuda import LAUNCHES, READ_KERNEL, CudaError, Driver
from rigbench.errors import InputError
from rigbench.records import Bandwidth
from rigbench_backends import cuda as libcuda


def test_cuda_takes_the_best_launch_and_frees_everything() -> None:
    library = FakeCuda()
    bandwidth = cuda.measure(0, Driver(library))
    assert bandwidth.device == "cuda" and bandwidth.reason is None
    assert bandwidth.read_bytes_per_s == pytest.approx(800e9, rel=1e-5)
    assert bandwidth.copy_bytes_per_s == pytest.approx(600e9, rel=1e-5)
    assert bandwidth.detail["array_bytes"] == 4 * GIB  # a quarter of what is free
    by_blocks = bandwidth.detail["read_best_bytes_per_s_by_blocks"]
    assert {key: round(rate / 1e9) for key, rate in by_blocks.items()} == {"20": 400, "40": 400, "80": 800, "160": 800}
    assert library.calls.count("cuLaunchKernel") == 4 * (LAUNCHES + 1)
    assert library.calls.count("cuModuleUnload") == 4
    assert library.calls[-2:] == ["cuMemFree_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_cuda_without_room_is_no_figure_but_its_cache_s() -> None:
    """Beside a model that fills the card, 25 MB would be read from cache."""
    bandwidth = cuda.measure(0, Driver(FakeCuda(free=100_000_000)))
    assert bandwidth.read_bytes_per_s is None
    assert bandwidth.reason == "only 100 MB of its memory are free, too little to tell it from its cache"


def test_cuda_works_for_a_second_before_it_is_measured() -> None:
    library = FakeCuda(Card(rate=3.35e12))
    cuda.measure(0, Driver(library))
    copied_s = library.calls[: library.calls.index("cuLaunchKernel")].count("cuMemcpyDtoDAsync_v2") * 4 * GIB / 2.5e12
    assert copied_s >= 1.0


def test_cuda_with_little_memory_says_so() -> None:
    bandwidth = cuda.measure(0, Driver(FakeCuda(free=GIB)))
    assert bandwidth.read_bytes_per_s is not None
    assert bandwidth.reason is not None and bandwidth.reason.startswith("only 268 MB read")


@pytest.mark.parametrize(
    "fail,reason",
    [
        ({"cuInit": 100}, "cuInit: CUDA_ERROR_NO_DEVICE"),
        ({"cuMemAlloc_v2": 2}, "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)
def test_cuda_failures_are_reasons(fail: dict[str, int], reason: str) -> None:
    library = FakeCuda(fail=fail)
    bandwidth = cuda.measure(0, Driver(library))
    assert (bandwidth.read_bytes_per_s, bandwidth.reason) == (None, reason)
    assert ("cuDevicePrimaryCtxRelease_v2" in library.calls) == ("cuMemAlloc_v2" in fail)


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(CudaError, match="no NVIDIA driver"):
        Driver()
    assert cuda.measure().reason == "no NVIDIA driver"


def test_kernel_is_text_that_a_driver_takes() -> None:
    assert b".entry read_words" in READ_KERNEL and READ_KERNEL.isascii()
    assert READ_KERNEL.count(b"ld.global.nc.v4.u32") == 4


def test_a_card_is_known_by_its_uuid_its_memory_and_its_error_correction() -> None:
    first = cuda.identity(0, Driver(FakeCuda()))
    assert first == cuda.identity(0, Driver(FakeCuda(free=GIB)))
    assert first != cuda.identity(0, Driver(FakeCuda(uuid=b"v" * 16)))
    assert first != cuda.identity(0, Driver(FakeCuda(ecc=1)))
    assert cuda.identity(0, Driver(FakeCuda(fail={"cuDeviceGet": 100}))) is None


THREE_AND_FIVE = (
    Card("NVIDIA GeForce RTX 3060", "0000:01:00.0", 360e9, b"3" * 16, 12 * GIB),
    Card("NVIDIA GeForce RTX 5090", "0000:02:00.0", 1790e9, b"5" * 16, 32 * GIB),
)


@pytest.mark.parametrize(
    ("order", "visible", "buses", "rate"),
    [
        (None, None, ("0000:02:00.0", "0000:01:00.0"), 1790e9),
        ("PCI_BUS_ID", None, ("0000:01:00.0", "0000:02:00.0"), 360e9),
        (None, "0", ("0000:02:00.0",), 1790e9),
        ("PCI_BUS_ID", "1", ("0000:02:00.0",), 1790e9),
        (None, "1", ("0000:01:00.0",), 360e9),
        ("FASTEST_FIRST", "0", ("0000:02:00.0",), 1790e9),
        ("FASTEST_FIRST", "1,0", ("0000:01:00.0", "0000:02:00.0"), 360e9),
        (None, f"GPU-{(b'5' * 16).hex()}", ("0000:02:00.0",), 1790e9),
        ("PCI_BUS_ID", f"GPU-{(b'5' * 16).hex()}", ("0000:02:00.0",), 1790e9),
        (None, f"MIG-GPU-{(b'5' * 16).hex()}/1/0", ("0000:02:00.0",), 1790e9),
    ],
)
def test_cards_are_known_by_their_place_on_the_bus_not_by_a_number(
    order: str | None, visible: str | None, buses: tuple[str, ...], rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA counts the fastest card first and what CUDA_VISIBLE_DEVICES leaves: address and ceiling are of the same card."""
    for name, value in (("CUDA_DEVICE_ORDER", order), ("CUDA_VISIBLE_DEVICES", visible)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    driver = Driver(FakeCuda(*THREE_AND_FIVE))
    assert libcuda.bus_ids(driver) == buses
    assert cuda.measure(0, driver).read_bytes_per_s == pytest.approx(rate, rel=1e-5)
    assert libcuda.bus_ids(Driver(FakeCuda(fail={"cuInit": 100}))) == ()


def test_the_figure_bears_the_name_of_the_engine_s_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeCuda(Card(), Card()))
    assert ceilings.measure("cuda").device == "cuda"
    assert ceilings.measure("cuda:1").device == "cuda:1"


@pytest.mark.parametrize("device", ["", "cpu:1", "cuda:x", "metal:0", "Vulkan", "vulkan:-1", "../x"])
def test_what_names_no_device_is_an_error(device: str) -> None:
    with pytest.raises(InputError, match="use cpu, cuda"):
        ceilings.measure(device)


def interpreter(tmp_path: Path, body: str) -> str:
    """A program that stands in the place of an interpreter with mlx."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a script that can be run")
def test_metal_through_another_interpreter(tmp_path: Path) -> None:
    answer = {
        "metal": True,
        "device": "Device(gpu, 0)",
        "bytes": 4 * GIB,
        "read": [700e9, 720e9, 710e9],
        "copy": [600e9],
    }
    bandwidth = engine.through_mlx(interpreter(tmp_path, f"print('warning: x'); print({json.dumps(answer)!r})"))
    assert (bandwidth.read_bytes_per_s, bandwidth.copy_bytes_per_s) == (720e9, 600e9)
    assert bandwidth.detail["read_median_bytes_per_s"] == 710e9
    crashed = engine.through_mlx(interpreter(tmp_path, "raise ValueError('/home/someone')"))
    assert crashed.reason == "mlx could not measure (ValueError)"
    missing = engine.through_mlx(interpreter(tmp_path, "import mlx.core"))
    assert missing.reason == "mlx is not installed in this interpreter; pip install mlx"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a script that can be run")
def test_metal_without_mlx_is_measured_through_the_engine_s_llama_cpp(tmp_path: Path) -> None:
    """The interpreter of llama.cpp has no mlx, and is asked for both."""
    device = {"name": "MTL0", "kind": "metal", "description": "Apple M4", "type": 1, "memory_bytes": 1, "free_bytes": 1}
    answer = {"devices": [device], "device": "Apple M4", "bytes": GIB, "rates": {"F16": [90e9, 110e9]}, "reasons": []}
    python = interpreter(
        tmp_path, f"import sys\nif 'mlx' in sys.argv[2]:\n    import mlx.core\nprint({json.dumps(answer)!r})"
    )
    bandwidth = ceilings.measure("metal", python)
    assert (bandwidth.device, bandwidth.read_bytes_per_s) == ("metal", 110e9)
    assert bandwidth.source == "llama.cpp's F16 matrix times vector over 1074 MB on Apple M4"


def test_metal_reasons() -> None:
    assert engine.through_mlx("/no/such/python").reason == "the interpreter given for mlx does not exist"
    assert engine.answer(sys.executable, "__init__.py", "mlx") == "mlx gave no figures"
    assert engine.from_mlx({"metal": True, "read": []}).reason == "mlx gave no figures"
    cpu = engine.from_mlx({"metal": False, "device": "Device(cpu, 0)", "bytes": 5, "read": [1.0], "copy": [1.0]})
    assert (cpu.read_bytes_per_s, cpu.reason) == (None, "mlx runs without Metal here, on Device(cpu, 0)")


def test_ggml_takes_the_type_of_weights_that_is_read_fastest() -> None:
    answer: dict[str, Any] = {
        "devices": [{"kind": "vulkan"}, {"kind": "vulkan"}, {"kind": "cpu"}],
        "device": "AMD Radeon RX 7900 XTX (RADV NAVI31)",
        "bytes": 8 * GIB,
        "rates": {"F16": [700e9, 720e9, 690e9], "Q8_0": [600e9, 610e9]},
        "reasons": [],
    }
    assert engine.from_ggml("vulkan", answer) == Bandwidth(
        "vulkan",
        720e9,
        source="llama.cpp's F16 matrix times vector over 8590 MB on AMD Radeon RX 7900 XTX (RADV NAVI31)",
        detail={
            "read_median_bytes_per_s": 700e9,
            "read_best_bytes_per_s_by_type": {"F16": 720e9, "Q8_0": 610e9},
            "array_bytes": 8 * GIB,
        },
    )
    assert engine.from_ggml("vulkan", {**answer, "rates": {}, "reasons": ["no memory"]}).reason == "no memory"
    del answer["rates"]
    assert engine.from_ggml("sycl", answer).reason == "this build of llama.cpp has no sycl; it has vulkan, cpu"


def test_ggml_on_the_processor_for_real() -> None:
    """A graph of one matrix of each type, on a device that every build has."""
    pytest.importorskip("llama_cpp")
    assert "cpu" in {each["kind"] for each in engine.ggml_devices(sys.executable)}
    bandwidth = engine.through_ggml("cpu", sys.executable, 1)
    assert bandwidth.reason is None and bandwidth.device == "cpu"
    assert set(bandwidth.detail["read_best_bytes_per_s_by_type"]) == {"F16", "Q8_0"}
    assert bandwidth.read_bytes_per_s is not None
    assert bandwidth.read_bytes_per_s >= bandwidth.detail["read_median_bytes_per_s"] > 1e7
    reason = engine.through_ggml("tpu", sys.executable).reason
    assert reason is not None and reason.startswith("this build of llama.cpp has no tpu; it has ")
    assert engine.through_ggml("vulkan", "/no/such/python").reason == (
        "the interpreter given for llama-cpp-python does not exist"
    )
