"""Read bandwidth of an NVIDIA GPU, with the driver alone: a kernel in PTX through libcuda, no CUDA toolkit and no torch.

Every thread folds 16-byte words of device memory into one number, four loads in flight; the launch is timed by events
on the device. Copying from device to device is measured beside it, but is no ceiling (67 % of peak on an H200).

    rate = bytes read / time between the events, the best launch of the best launch shape

    python -c "from rigbench.ceilings import cuda; print(cuda.measure(0))"
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p

from rigbench.ceilings.figure import figure
from rigbench.records import Bandwidth
from rigbench_backends.cuda import CudaError, Driver

GIB = 1 << 30
THREADS = 512
BLOCKS_PER_SM = (2, 4, 8, 16)
LAUNCHES = 12
MULTIPROCESSOR_COUNT, ECC_ENABLED = 16, 32
"""CU_DEVICE_ATTRIBUTE_..."""
MOST_BYTES = 8 * GIB
"""Of 128 MB of cache in front of the memory, at most 2 % of the bytes can come."""
LEAST_BYTES = GIB // 4
WARM_UP_S = 1.0
"""A GPU that rested takes parts of a second to raise the clocks of its memory."""

READ_KERNEL = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry read_words(.param .u64 data, .param .u64 end, .param .u64 out)
{
    .reg .pred %p<3>;
    .reg .b32 %r<24>;
    .reg .b64 %rd<10>;
    ld.param.u64 %rd1, [data];
    ld.param.u64 %rd2, [end];
    ld.param.u64 %rd3, [out];
    cvta.to.global.u64 %rd1, %rd1;
    cvta.to.global.u64 %rd2, %rd2;
    cvta.to.global.u64 %rd3, %rd3;
    mov.u32 %r1, %nctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %tid.x;
    mul.wide.u32 %rd4, %r1, %r2;
    shl.b64 %rd4, %rd4, 4;
    mad.lo.u32 %r5, %r3, %r2, %r4;
    mul.wide.u32 %rd5, %r5, 16;
    add.u64 %rd5, %rd1, %rd5;
    mov.u32 %r6, 0;
    setp.ge.u64 %p1, %rd5, %rd2;
    @%p1 bra DONE;
NEXT:
    add.u64 %rd6, %rd5, %rd4;
    add.u64 %rd7, %rd6, %rd4;
    add.u64 %rd8, %rd7, %rd4;
    ld.global.nc.v4.u32 {%r7, %r8, %r9, %r10}, [%rd5];
    ld.global.nc.v4.u32 {%r11, %r12, %r13, %r14}, [%rd6];
    ld.global.nc.v4.u32 {%r15, %r16, %r17, %r18}, [%rd7];
    ld.global.nc.v4.u32 {%r19, %r20, %r21, %r22}, [%rd8];
    xor.b32 %r7, %r7, %r8;      xor.b32 %r9, %r9, %r10;
    xor.b32 %r11, %r11, %r12;   xor.b32 %r13, %r13, %r14;
    xor.b32 %r15, %r15, %r16;   xor.b32 %r17, %r17, %r18;
    xor.b32 %r19, %r19, %r20;   xor.b32 %r21, %r21, %r22;
    xor.b32 %r7, %r7, %r9;      xor.b32 %r11, %r11, %r13;
    xor.b32 %r15, %r15, %r17;   xor.b32 %r19, %r19, %r21;
    xor.b32 %r7, %r7, %r11;     xor.b32 %r15, %r15, %r19;
    xor.b32 %r6, %r6, %r7;      xor.b32 %r6, %r6, %r15;
    add.u64 %rd5, %rd8, %rd4;
    setp.lt.u64 %p1, %rd5, %rd2;
    @%p1 bra NEXT;
DONE:
    setp.ne.u32 %p2, %r6, 305419896;
    @%p2 bra END;
    st.global.u32 [%rd3], %r6;
END:
    ret;
}
"""
"""Reads from `data` to `end`, which must be a whole number of rounds of 4 words per thread. The store never happens
in practice; it keeps the loads from being thrown away."""


def identity(index: int = 0, driver: Driver | None = None) -> tuple[object, ...] | None:
    """What tells GPU `index` from any other, and one state of it from another: UUID, bytes of memory, error correction.

    None without a driver or such a GPU."""
    try:
        driver = driver or Driver()
        handle, _ = _opened(driver, index)
        uuid, total, ecc = ctypes.create_string_buffer(16), c_size_t(), c_int()
        name = "cuDeviceGetUuid_v2" if hasattr(driver.functions, "cuDeviceGetUuid_v2") else "cuDeviceGetUuid"
        driver.call(name, uuid, handle)
        driver.call("cuDeviceTotalMem_v2", byref(total), handle)
        driver.call("cuDeviceGetAttribute", byref(ecc), c_int(ECC_ENABLED), handle)
    except CudaError:
        return None
    return uuid.raw, total.value, ecc.value


def measure(index: int = 0, driver: Driver | None = None) -> Bandwidth:
    """Read and copy bandwidth of GPU `index` (as CUDA counts) in bytes per second, the best launches.

    None with the reason where that fails. Takes some seconds at most."""
    try:
        return _measure(driver or Driver(), index)
    except CudaError as error:
        return Bandwidth("cuda", None, reason=str(error))


def _opened(driver: Driver, index: int) -> tuple[c_int, str]:
    """The GPU's handle and name."""
    handle, name = c_int(), ctypes.create_string_buffer(128)
    driver.call("cuInit", c_uint(0))
    driver.call("cuDeviceGet", byref(handle), c_int(index))
    driver.call("cuDeviceGetName", name, c_int(len(name)), handle)
    return handle, name.value.decode()


def _measure(driver: Driver, index: int) -> Bandwidth:
    call = driver.call
    handle, name = _opened(driver, index)
    context, processors, data = c_void_p(), c_int(), c_uint64()
    free, total = c_size_t(), c_size_t()
    call("cuDeviceGetAttribute", byref(processors), c_int(MULTIPROCESSOR_COUNT), handle)
    call("cuDevicePrimaryCtxRetain", byref(context), handle)
    try:
        call("cuCtxSetCurrent", context)
        call("cuMemGetInfo_v2", byref(free), byref(total))
        size = min(MOST_BYTES, free.value // 4) // 256 * 256
        if size < LEAST_BYTES:
            raise CudaError(
                f"only {free.value / 1e6:.0f} MB of its memory are free, too little to tell it from its cache"
            )
        call("cuMemAlloc_v2", byref(data), c_size_t(size + 256))
        call("cuMemsetD32_v2", data, c_uint(0x5A5A5A5B), c_size_t(size // 4))
        half = size // 2 // 256 * 256
        copying = ("cuMemcpyDtoDAsync_v2", c_uint64(data.value + half), data, c_size_t(half), None)
        copies: list[float] = []
        worked_s = 0.0
        while worked_s < WARM_UP_S:
            copies = _timed(call, lambda: call(*copying), 2 * half)
            worked_s += sum(2 * half / rate for rate in copies)
        shapes = [processors.value * blocks for blocks in BLOCKS_PER_SM]
        by_blocks = {blocks: _reads(call, data, size, blocks) for blocks in shapes}
    finally:
        if data.value:
            driver.functions.cuMemFree_v2(data)
        driver.functions.cuDevicePrimaryCtxRelease_v2(handle)
    remark = f"only {size / 1e6:.0f} MB read, a quarter of the free memory; part may come from cache"
    return figure(
        "cuda",
        max(by_blocks.values(), key=max),
        copies,
        source=f"read kernel over {size / 1e6:.0f} MB of {name}",
        array_bytes=size,
        reason=None if size >= GIB else remark,
        read_best_bytes_per_s_by_blocks={str(n): max(rates) for n, rates in by_blocks.items()},
    )


def _reads(call: Callable[..., None], data: c_uint64, size: int, blocks: int) -> list[float]:
    """Bytes per second of each launch with `blocks` blocks."""
    module, kernel = c_void_p(), c_void_p()
    call("cuModuleLoadData", byref(module), READ_KERNEL)
    call("cuModuleGetFunction", byref(kernel), module, b"read_words")
    round_bytes = 4 * 16 * THREADS * blocks
    used = size // round_bytes * round_bytes
    end, out = c_uint64(data.value + used), c_uint64(data.value + size)
    pointers = (c_void_p * 3)(*(ctypes.addressof(each) for each in (data, end, out)))
    one, none = c_uint(1), c_uint(0)
    shape = (c_uint(blocks), one, one, c_uint(THREADS), one, one)
    try:
        return _timed(call, lambda: call("cuLaunchKernel", kernel, *shape, none, None, pointers, None), used)
    finally:
        call("cuModuleUnload", module)


def _timed(call: Callable[..., None], launch: Callable[[], None], moved_bytes: int) -> list[float]:
    """Bytes per second of LAUNCHES launches after one to warm up, by events on the device (which tick every 0.5 us)."""
    start, end = c_void_p(), c_void_p()
    call("cuEventCreate", byref(start), c_uint(0))
    call("cuEventCreate", byref(end), c_uint(0))

    def launch_s() -> float:
        milliseconds = c_float()
        call("cuEventRecord", start, None)
        launch()
        call("cuEventRecord", end, None)
        call("cuEventSynchronize", end)
        call("cuEventElapsedTime", byref(milliseconds), start, end)
        return milliseconds.value * 1e-3

    try:
        return [moved_bytes / launch_s() for _ in range(LAUNCHES + 1)][1:]
    finally:
        call("cuEventDestroy_v2", start)
        call("cuEventDestroy_v2", end)
