"""Run in an engine's interpreter, as source: the devices of its build of ggml, and how fast its kernels read their memory.

Standard library and llama-cpp-python only. The last line of stdout is JSON.

    python -c "$(cat ggml_program.py)" list
    python -c "$(cat ggml_program.py)" vulkan 2 0      # device, threads on the processor, bytes (0: chosen here)
"""

from __future__ import annotations

import json
import sys
import time
from ctypes import CFUNCTYPE, Structure, byref, c_bool, c_char_p, c_int, c_int64, c_size_t, c_uint8, c_void_p
from typing import Any

COLUMNS, ROWS = 4096, 32768
"""One matrix: 268 MB in F16, below every driver's largest buffer. A graph reads as many of them as are wanted."""
TYPES = {"F16": (1, 1, 2), "Q8_0": (8, 32, 34)}
"""ggml's number of a type, weights of a block, bytes of a block."""
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


def chosen(known: list[dict[str, Any]], wanted: str) -> dict[str, Any] | None:
    """`vulkan` is the first device of that kind, `vulkan:1` the second, `gpu` the first of any kind but the processor's."""
    kind, _, index = wanted.partition(":")
    fitting = [each for each in known if each["kind"] == kind or (kind == "gpu" and each["type"] in (1, 2))]
    return fitting[int(index or 0)] if len(fitting) > int(index or 0) else None


def read_rates(device: dict[str, Any], kind: str, threads: int, size: int) -> list[float]:
    """Bytes of weights per second of graphs that multiply matrices of `size` bytes in all with one vector."""
    number, block, block_bytes = TYPES[kind]
    matrix_bytes = COLUMNS * ROWS // block * block_bytes
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
    vector = tensor(context, F32, COLUMNS, 1)
    count = max(1, size // matrix_bytes)
    for _ in range(count):
        expand(graph, multiply(context, tensor(context, number, COLUMNS, ROWS), vector))
    buffer = function("ggml_backend_alloc_ctx_tensors", c_void_p, c_void_p, c_void_p)(context, backend)
    try:
        if not buffer:
            raise MemoryError(f"{device['name']} gives no {count * matrix_bytes / 1e6:.0f} MB")
        function("ggml_backend_buffer_clear", None, c_void_p, c_uint8)(buffer, FILL)
        compute = function("ggml_backend_graph_compute", c_int, c_void_p, c_void_p)

        def graph_s() -> float:
            start = time.perf_counter()
            if compute(backend, graph) != SUCCESS:
                raise RuntimeError(f"{device['name']} cannot multiply {kind}")
            return time.perf_counter() - start

        begin = time.perf_counter()
        while time.perf_counter() - begin < WARM_UP_S:
            graph_s()
        rates: list[float] = []
        end = time.perf_counter() + SAMPLING_S
        while len(rates) < 3 or (len(rates) < SAMPLES and time.perf_counter() < end):
            rates.append(count * matrix_bytes / graph_s())
        return rates
    finally:
        function("ggml_backend_buffer_free", None, c_void_p)(buffer)
        function("ggml_free", None, c_void_p)(context)
        function("ggml_backend_free", None, c_void_p)(backend)


def main(wanted: str, threads: int = 1, size: int = 0) -> dict[str, Any]:
    """The answer for the parent: `devices`, and `rates` by type of weights where a device was named and is there."""
    known = devices()
    answer: dict[str, Any] = {"devices": [{k: v for k, v in each.items() if k != "handle"} for each in known]}
    device = None if wanted == "list" else chosen(known, wanted)
    if device is not None:
        # Beside a cache of 128 MB the last gigabytes hardly count; the processor's caches are smaller, and its memory slower.
        size = size or min((1 if device["type"] == CPU_TYPE else 8) << 30, device["free_bytes"] // 4)
        rates: dict[str, list[float]] = {}
        reasons: list[str] = []
        if SOFTWARE in device["description"]:
            reasons.append(f"{SOFTWARE} computes on the processor, and has no memory of its own to measure")
        for kind in () if reasons else TYPES:
            try:
                rates[kind] = read_rates(device, kind, threads, size)
            except (RuntimeError, MemoryError) as error:
                reasons.append(str(error))
        answer |= {"device": device["description"], "bytes": size, "rates": rates, "reasons": reasons}
    return answer


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))
