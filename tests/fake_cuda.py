"""A libcuda that the tests play."""

from __future__ import annotations

import ctypes
from typing import Any

GIB = 1 << 30


class FakeCuda:
    """libcuda with one GPU of 10 processors that reads 800 GB/s with enough blocks, half of it with few, and copies
    at 600."""

    def __init__(
        self, free: int = 16 * GIB, fail: dict[str, int] | None = None, uuid: bytes = b"u" * 16, ecc: int = 0
    ) -> None:
        self.free, self.fail, self.uuid, self.ecc = free, fail or {}, uuid, ecc
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
        value._obj.value = {16: 10, 32: self.ecc}[attribute.value]

    def do_cuDeviceGetUuid_v2(self, buffer: Any, handle: Any) -> None:
        buffer.raw = self.uuid

    def do_cuDeviceTotalMem_v2(self, total: Any, handle: Any) -> None:
        total._obj.value = 24 * GIB

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
