"""A libcuda that the tests play."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any

GIB = 1 << 30


@dataclass(frozen=True)
class Card:
    """A GPU of 10 processors that reads at `rate` with enough blocks, half of it with few, and copies at three quarters."""

    name: str = "NVIDIA Test"
    bus: str = "0000:01:00.0"
    rate: float = 800e9
    uuid: bytes = b"u" * 16
    memory: int = 24 * GIB

    def named(self) -> str:
        """As CUDA_VISIBLE_DEVICES has it."""
        return f"GPU-{self.uuid.hex()}"


class FakeCuda:
    """libcuda as CUDA_DEVICE_ORDER and CUDA_VISIBLE_DEVICES let a program see these cards, which are in the order of the bus."""

    def __init__(
        self,
        *cards: Card,
        free: int = 16 * GIB,
        fail: dict[str, int] | None = None,
        uuid: bytes = b"u" * 16,
        ecc: int = 0,
    ) -> None:
        self.cards = cards or (Card(uuid=uuid),)
        self.free, self.fail, self.ecc = free, fail or {}, ecc
        self.handle = 0
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

    def visible(self) -> list[Card]:
        by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        cards = list(self.cards) if by_bus else sorted(self.cards, key=lambda card: -card.rate)
        setting = os.environ.get("CUDA_VISIBLE_DEVICES")
        if setting is None:
            return cards
        # a slice is named by its own UUID, or by its card's and two numbers; its address is its card's
        words = [word.removeprefix("MIG-").partition("/")[0] for word in setting.split(",")]
        return [
            cards[int(word)] if word.isdigit() else next(each for each in cards if word.startswith(each.named()))
            for word in words
        ]

    def do_cuDeviceGetCount(self, count: Any) -> None:
        count._obj.value = len(self.visible())

    def do_cuDeviceGet(self, handle: Any, index: ctypes.c_int) -> None:
        handle._obj.value = self.handle = index.value

    def do_cuDeviceGetPCIBusId(self, text: Any, size: Any, handle: ctypes.c_int) -> None:
        text.value = self.visible()[handle.value].bus.encode()

    def do_cuGetErrorName(self, code: ctypes.c_int, text: Any) -> None:
        text._obj.value = {100: b"CUDA_ERROR_NO_DEVICE", 2: b"CUDA_ERROR_OUT_OF_MEMORY"}[code.value]

    def do_cuDeviceGetName(self, buffer: Any, size: Any, handle: Any) -> None:
        buffer.value = self.visible()[handle.value].name.encode()

    def do_cuDeviceGetAttribute(self, value: Any, attribute: Any, handle: Any) -> None:
        value._obj.value = {16: 10, 32: self.ecc}[attribute.value]

    def do_cuDeviceGetUuid_v2(self, buffer: Any, handle: Any) -> None:
        buffer.raw = self.visible()[handle.value].uuid

    def do_cuDeviceTotalMem_v2(self, total: Any, handle: Any) -> None:
        total._obj.value = self.visible()[handle.value].memory

    def do_cuMemGetInfo_v2(self, free: Any, total: Any) -> None:
        free._obj.value = self.free

    def do_cuMemAlloc_v2(self, pointer: Any, size: Any) -> None:
        pointer._obj.value, self.size = 1 << 20, size.value

    def do_cuLaunchKernel(self, kernel: Any, blocks: Any, *rest: Any) -> None:
        threads, pointers = rest[2].value, rest[7]
        data, end, out = (ctypes.cast(pointers[k], ctypes.POINTER(ctypes.c_uint64)).contents.value for k in range(3))
        assert end - data <= self.size - 256 and out + 4 <= (1 << 20) + self.size
        assert (end - data) % (4 * 16 * threads * blocks.value) == 0  # whole rounds: no thread reads past the end
        rate = self.visible()[self.handle].rate
        self.moved_s = (end - data) / (rate if blocks.value >= 80 else rate / 2)

    def do_cuMemcpyDtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> None:
        self.moved_s = 2 * size.value / (0.75 * self.visible()[self.handle].rate)

    def do_cuEventElapsedTime(self, milliseconds: Any, start: Any, end: Any) -> None:
        milliseconds._obj.value = self.moved_s * 1e3
