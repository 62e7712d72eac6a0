"""NVIDIA's driver library, libcuda, by ctypes: which cards a CUDA program of this environment counts, in its order.

CUDA counts the fastest card first unless CUDA_DEVICE_ORDER says otherwise, and only what CUDA_VISIBLE_DEVICES leaves; NVML and the
kernel count by the bus. So nothing may be matched by number: the PCI address is the same for all of them (a slice of a card, MIG,
has its card's).

    python -c "from rigbench_backends import cuda; print(cuda.bus_ids())"
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import byref, c_char_p, c_int, c_uint
from typing import Any

from rigbench_backends.base import bus_id


class CudaError(Exception):
    """A call of the driver failed; the message names it and what the driver said."""


class Driver:
    """libcuda behind one thin seam: `call("cuInit", 0)` raises CudaError unless the driver answers 0."""

    def __init__(self, library: Any = None) -> None:
        if library is None:
            name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
            try:
                library = ctypes.CDLL(name)
            except OSError:
                raise CudaError("no NVIDIA driver") from None
        self.functions = library

    def call(self, name: str, *arguments: Any) -> None:
        code = getattr(self.functions, name)(*arguments)
        if code:
            text = c_char_p()
            self.functions.cuGetErrorName(c_int(code), byref(text))
            raise CudaError(f"{name}: {(text.value or str(code).encode()).decode()}")


def bus_ids(driver: Driver | None = None) -> tuple[str, ...]:
    """PCI addresses of the cards that CUDA shows, `cuda:0` first; () without a driver or a card. No memory of any card is taken."""
    count, text = c_int(), ctypes.create_string_buffer(32)
    ids = []
    try:
        driver = driver or Driver()
        driver.call("cuInit", c_uint(0))
        driver.call("cuDeviceGetCount", byref(count))
        for index in range(count.value):
            handle = c_int()
            driver.call("cuDeviceGet", byref(handle), c_int(index))
            driver.call("cuDeviceGetPCIBusId", text, c_int(len(text)), handle)
            ids.append(bus_id(text.value.decode()) or "")
    except CudaError:
        return ()
    return tuple(ids)
