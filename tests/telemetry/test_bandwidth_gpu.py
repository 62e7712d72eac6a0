"""The measurements of GPUs that are not here, through a driver and an interpreter that the test plays."""

from __future__ import annotations

import ctypes
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from rigbench.telemetry.bandwidth_cuda import LAUNCHES, READ_KERNEL, CudaError, Driver, measure_cuda
from rigbench.telemetry.bandwidth_metal import measure_metal, parsed

GIB = 1 << 30


class FakeCuda:
    """libcuda with one GPU of 10 processors that reads 800 GB/s with enough blocks, half of it with few, and copies
    at 600."""

    def __init__(self, free: int = 16 * GIB, fail: dict[str, int] | None = None) -> None:
        self.free, self.fail = free, fail or {}
        self.calls: list[str] = []
        self.size = 0
        self.moved_s = 0.0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.fail:
                return self.fail[name]
            do = getattr(type(self), f"do_{name}", None)
            if do is not None:
                do(self, *arguments)
            return 0

        return call

    def do_cuGetErrorName(self, code: ctypes.c_int, text: Any) -> None:
        text._obj.value = {100: b"CUDA_ERROR_NO_DEVICE", 2: b"CUDA_ERROR_OUT_OF_MEMORY"}[code.value]

    def do_cuDeviceGetName(self, buffer: Any, size: Any, handle: Any) -> None:
        buffer.value = b"NVIDIA Test"

    def do_cuDeviceGetAttribute(self, value: Any, attribute: Any, handle: Any) -> None:
        value._obj.value = 10

    def do_cuMemGetInfo_v2(self, free: Any, total: Any) -> None:
        free._obj.value = self.free

    def do_cuMemAlloc_v2(self, pointer: Any, size: Any) -> None:
        pointer._obj.value, self.size = 1 << 20, size.value

    def do_cuLaunchKernel(self, kernel: Any, blocks: Any, *rest: Any) -> None:
        threads, pointers = rest[2].value, rest[7]
        data, end, out = (ctypes.cast(pointers[k], ctypes.POINTER(ctypes.c_uint64)).contents.value for k in range(3))
        assert end - data <= self.size - 256 and out + 4 <= (1 << 20) + self.size
        assert (end - data) % (4 * 16 * threads * blocks.value) == 0  # whole rounds: no thread reads past the end
        self.moved_s = (end - data) / (800e9 if blocks.value >= 80 else 400e9)

    def do_cuMemcpyDtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> None:
        self.moved_s = 2 * size.value / 600e9

    def do_cuEventElapsedTime(self, milliseconds: Any, start: Any, end: Any) -> None:
        milliseconds._obj.value = self.moved_s * 1e3


def test_cuda_takes_the_best_launch_and_frees_everything() -> None:
    library = FakeCuda()
    found = measure_cuda(0, Driver(library))
    assert found.device == "cuda:0" and found.reason is None
    assert found.read_bytes_per_s == pytest.approx(800e9, rel=1e-5)
    assert found.copy_bytes_per_s == pytest.approx(600e9, rel=1e-5)
    by_blocks = found.detail["read_median_bytes_per_s_by_blocks"]
    assert {key: round(rate / 1e9) for key, rate in by_blocks.items()} == {"20": 400, "40": 400, "80": 800, "160": 800}
    assert library.calls.count("cuLaunchKernel") == 4 * (LAUNCHES + 1)
    assert library.calls.count("cuModuleUnload") == 4
    assert library.calls[-2:] == ["cuMemFree_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_cuda_with_little_memory_says_so() -> None:
    found = measure_cuda(0, Driver(FakeCuda(free=GIB)))
    assert found.read_bytes_per_s is not None
    assert found.reason is not None and found.reason.startswith("only 268 MB read")


@pytest.mark.parametrize(
    "fail,reason",
    [
        ({"cuInit": 100}, "cuInit: CUDA_ERROR_NO_DEVICE"),
        ({"cuMemAlloc_v2": 2}, "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)
def test_cuda_failures_are_reasons(fail: dict[str, int], reason: str) -> None:
    library = FakeCuda(fail=fail)
    found = measure_cuda(0, Driver(library))
    assert (found.read_bytes_per_s, found.reason) == (None, reason)
    assert ("cuDevicePrimaryCtxRelease_v2" in library.calls) == ("cuMemAlloc_v2" in fail)


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(CudaError, match="no NVIDIA driver"):
        Driver()
    assert measure_cuda().reason == "no NVIDIA driver"


def test_kernel_is_text_that_a_driver_takes() -> None:
    assert b".entry read_words" in READ_KERNEL and READ_KERNEL.isascii()
    assert READ_KERNEL.count(b"ld.global.nc.v4.u32") == 4


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
    found = measure_metal(interpreter(tmp_path, f"print('warning: x'); print({json.dumps(answer)!r})"))
    assert (found.read_bytes_per_s, found.copy_bytes_per_s) == (710e9, 600e9)
    assert found.detail["read_best_bytes_per_s"] == 720e9
    crashed = measure_metal(interpreter(tmp_path, "raise ValueError('/home/someone')"))
    assert crashed.reason == "mlx could not measure (ValueError)"
    missing = measure_metal(interpreter(tmp_path, "import mlx.core"))
    assert missing.reason == "mlx is not installed in this interpreter; pip install mlx"


def test_metal_reasons() -> None:
    assert measure_metal("/no/such/python").reason == "the interpreter given for mlx does not exist"
    assert parsed("nothing").reason == "mlx gave no figures"
    assert parsed('{"metal": true, "read": []}').reason == "mlx gave no figures"
    cpu = parsed('{"metal": false, "device": "Device(cpu, 0)", "bytes": 5, "read": [1.0], "copy": [1.0]}')
    assert (cpu.read_bytes_per_s, cpu.reason) == (None, "mlx runs without Metal here, on Device(cpu, 0)")
