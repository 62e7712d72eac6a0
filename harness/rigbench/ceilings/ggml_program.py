"""Run in an engine's interpreter, as source: the devices of its build of ggml, how fast its kernels read their memory, and how fast
they multiply matrices.

Standard library and llama-cpp-python only. The last line of stdout is JSON.

    python -c "$(cat ggml_program.py)" list
    python -c "$(cat ggml_program.py)" vulkan 2 0      # device, threads on the processor, bytes (0: chosen here)
    python -c "$(cat ggml_program.py)" vulkan 2 0 1024  # products with 1024 vectors, as of a prompt's tokens
"""

from __future__ import annotations

import json
import sys
import time
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_bool, c_char_p, c_int, c_int64, c_size_t, c_uint8, c_void_p
from typing import Any

COLUMNS, ROWS = 4096, 32768
"""One matrix: 268 MB in F16, below every driver's largest buffer. A graph reads as many of them as are wanted."""
TYPES = {"F16": (1, 1, 2), "Q8_0": (8, 32, 34)}
"""ggml's number of a type, weights of a block, bytes of a block."""
GEMM_TYPES = {"F32": (0, 1, 4), **TYPES, "Q4_0": (2, 32, 18)}
F32, CPU_TYPE, SUCCESS = 0, 0, 0
SAMPLES, SAMPLING_S, WARM_UP_S = 12, 3.0, 1.0
OVERHEAD = 1 << 20
SOFTWARE = "llvmpipe"
"""In the description of Mesa's device without a GPU: it computes on the processor and has no memory of its own."""
FILL = 0x25
"""Every byte of the buffers: 0.02 as a 16-bit float, so that no page is untouched and no number denormal."""


class InitParams(Structure):
    """struct ggml_init_params"""

    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


def function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of ggml with its prototype. Windows shows of each library its own functions alone, so both are asked."""
    from llama_cpp import _ctypes_extensions, _ggml

    symbol = getattr(_ggml.libggml, name, None)
    if symbol is None:
        base = _ctypes_extensions.load_shared_library("ggml-base", _ggml.libggml_base_path)
        symbol = getattr(base, name)
    symbol.restype, symbol.argtypes = result, arguments
    return symbol


def devices() -> list[dict[str, Any]]:
    """Every device that this build knows: its handle, name (Vulkan0), kind (vulkan), description, bytes in all and free."""
    known = []
    for index in range(function("ggml_backend_dev_count", c_size_t)()):
        handle = function("ggml_backend_dev_get", c_void_p, c_size_t)(index)
        free, total = c_size_t(), c_size_t()
        function("ggml_backend_dev_memory", None, c_void_p, c_void_p, c_void_p)(handle, byref(free), byref(total))
        name = function("ggml_backend_dev_name", c_char_p, c_void_p)(handle).decode()
        kind = name.rstrip("0123456789").lower()
        device = {
            "handle": handle,
            "name": name,
            "kind": "metal" if kind == "mtl" else kind,
            "description": function("ggml_backend_dev_description", c_char_p, c_void_p)(handle).decode().strip(),
            "type": function("ggml_backend_dev_type", c_int, c_void_p)(handle),
            "memory_bytes": total.value,
            "free_bytes": free.value,
        }
        known.append(device)
    return known


def device_of_kind(known: list[dict[str, Any]], device_kind: str) -> dict[str, Any] | None:
    """`vulkan` is the first device of that kind, `vulkan:1` the second, `gpu` the first of any kind but the processor's."""
    kind, _, index = device_kind.partition(":")
    fitting = [each for each in known if each["kind"] == kind or (kind == "gpu" and each["type"] in (1, 2))]
    return fitting[int(index or 0)] if len(fitting) > int(index or 0) else None


def repacking(device: dict[str, Any]) -> Any:
    """The processor's buffers that lay weights out for its widest instructions, as llama.cpp uses them; None where it has none."""
    registry = function("ggml_backend_dev_backend_reg", c_void_p, c_void_p)(device["handle"])
    find = function("ggml_backend_reg_get_proc_address", c_void_p, c_void_p, c_char_p)
    address = find(registry, b"ggml_backend_dev_get_extra_bufts")
    kinds = CFUNCTYPE(POINTER(c_void_p), c_void_p)(address)(device["handle"]) if address else None
    return kinds[0] if kinds else None


def graph_rates(
    device: dict[str, Any], kind: str, threads: int, size: int, vectors: int = 1, packed: bool = False
) -> list[float]:
    """Graphs per second, times what each does: bytes of weights read where `size` bytes of matrices are multiplied with one vector,
    operations with more of them. `packed`: in the buffers of `repacking`."""
    number, block, block_bytes = GEMM_TYPES[kind]
    rows = ROWS if vectors == 1 else COLUMNS
    matrix_bytes = COLUMNS * rows // block * block_bytes
    backend = function("ggml_backend_dev_init", c_void_p, c_void_p, c_char_p)(device["handle"], None)
    if not backend:
        raise RuntimeError(f"{device['name']} cannot be initialised")
    if device["type"] == CPU_TYPE:
        registry = function("ggml_backend_dev_backend_reg", c_void_p, c_void_p)(device["handle"])
        find = function("ggml_backend_reg_get_proc_address", c_void_p, c_void_p, c_char_p)
        CFUNCTYPE(None, c_void_p, c_int)(find(registry, b"ggml_backend_set_n_threads"))(backend, threads)
    context = function("ggml_init", c_void_p, InitParams)(InitParams(OVERHEAD, None, True))
    tensor = function("ggml_new_tensor_2d", c_void_p, c_void_p, c_int, c_int64, c_int64)
    multiply = function("ggml_mul_mat", c_void_p, c_void_p, c_void_p, c_void_p)
    expand = function("ggml_build_forward_expand", None, c_void_p, c_void_p)
    graph = function("ggml_new_graph", c_void_p, c_void_p)(context)
    vector = tensor(context, F32, COLUMNS, vectors)
    count = max(1, size // matrix_bytes)
    work = count * (matrix_bytes if vectors == 1 else 2 * COLUMNS * rows * vectors)
    weights = function("ggml_init", c_void_p, InitParams)(InitParams(OVERHEAD, None, True)) if packed else context
    for _ in range(count):
        expand(graph, multiply(context, tensor(weights, number, COLUMNS, rows), vector))
    clear = function("ggml_backend_buffer_clear", None, c_void_p, c_uint8)
    buffers = []
    try:
        if packed:  # first: what is allocated already stays where it is
            from_kind = function("ggml_backend_alloc_ctx_tensors_from_buft", c_void_p, c_void_p, c_void_p)
            buffers.append(from_kind(weights, repacking(device)))
        buffers.append(function("ggml_backend_alloc_ctx_tensors", c_void_p, c_void_p, c_void_p)(context, backend))
        if not all(buffers):
            raise MemoryError(f"{device['name']} gives no {count * matrix_bytes / 1e6:.0f} MB")
        for buffer in buffers:
            clear(buffer, FILL)
        compute = function("ggml_backend_graph_compute", c_int, c_void_p, c_void_p)

        def graph_s() -> float:
            start = time.perf_counter()
            if compute(backend, graph) != SUCCESS:
                raise RuntimeError(f"{device['name']} cannot multiply {kind}")
            return time.perf_counter() - start

        short = 1.0 if vectors == 1 else 0.3  # nine kinds of products, and none as restless as memory
        begin = time.perf_counter()
        while time.perf_counter() - begin < WARM_UP_S * short:
            graph_s()
        rates: list[float] = []
        end = time.perf_counter() + SAMPLING_S * short
        while len(rates) < 3 or (len(rates) < SAMPLES and time.perf_counter() < end):
            rates.append(work / graph_s())
        return rates
    finally:
        for buffer in filter(None, buffers):
            function("ggml_backend_buffer_free", None, c_void_p)(buffer)
        for each in {context, weights}:
            function("ggml_free", None, c_void_p)(each)
        function("ggml_backend_free", None, c_void_p)(backend)


def main(device_kind: str, threads: int = 1, size: int = 0, vectors: int = 1) -> dict[str, Any]:
    """The answer for the parent: `devices`, and `rates` by type of weights where a device was named and is there."""
    known = devices()
    answer: dict[str, Any] = {"devices": [{k: v for k, v in each.items() if k != "handle"} for each in known]}
    device = None if device_kind == "list" else device_of_kind(known, device_kind)
    if device is not None:
        # Beside a cache of 128 MB the last gigabytes hardly count; the processor's caches are smaller, and its memory slower.
        size = size or min((1 if device["type"] == CPU_TYPE else 8) << 30, device["free_bytes"] // 4)
        if vectors > 1:  # a GPU's product of two matrices is over before the next could be launched
            size = 1 if device["type"] == CPU_TYPE else 1 << 30
        rates: dict[str, list[float]] = {}
        reasons: list[str] = []
        if SOFTWARE in device["description"]:
            reasons.append(f"{SOFTWARE} computes on the processor, and has no memory of its own to measure")
        for kind in () if reasons else TYPES if vectors == 1 else GEMM_TYPES:
            ways = (False, True) if kind == "Q4_0" and device["type"] == CPU_TYPE and repacking(device) else (False,)
            for packed in ways:
                try:
                    rates.setdefault(kind, []).extend(graph_rates(device, kind, threads, size, vectors, packed))
                except (RuntimeError, MemoryError) as error:
                    reasons.append(str(error))
        answer |= {"device": device["description"], "bytes": size, "rates": rates, "reasons": reasons}
    return answer


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))
