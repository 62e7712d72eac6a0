"""llama.cpp's library and what it is built on, ggml, by ctypes: devices, RPC servers, threads that stay, the log.

Apart from the session: nothing here knows of models or requests.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from rigbench_backends.base import EngineError, bus_id
from rigbench_backends.process import STDERR

INSTALL = "pip install 'rigbench[llama-cpp]'"
RPC_CONNECT_S = 5.0
LOG_LEVEL_DEBUG, LOG_LEVEL_CONTINUED = 1, 5
"""Of ggml.h: none 0, debug 1, info 2, warning 3, error 4, continued 5."""
DEVICE_KINDS = {"cuda": "cuda", "metal": "metal", "mtl": "metal", "rocm": "rocm", "vulkan": "vulkan", "rpc": "rpc"}
"""By how ggml's names of devices begin."""

_log_callback: Any = None


def _log() -> Callable[[int, bytes, Any], None]:
    """Writes llama.cpp's log to stderr as it comes: a process that dies by a signal can no longer be asked for it.

    Debug lines, hundreds for each context, are left out with what continues them.
    """
    last = LOG_LEVEL_DEBUG

    def write(level: int, text: bytes, _user: Any) -> None:
        nonlocal last
        last = last if level == LOG_LEVEL_CONTINUED else level
        if last != LOG_LEVEL_DEBUG:
            os.write(STDERR, text)

    return write


def bindings() -> Any:
    """The low-level module, its log as in `_log`. EngineError("unavailable") where it does not load."""
    global _log_callback
    try:
        from llama_cpp import llama_cpp as lib
    except ImportError as error:
        raise EngineError("unavailable", f"llama-cpp-python is not usable here ({error}); {INSTALL}") from error
    except (OSError, RuntimeError) as error:
        reason = f"llama.cpp's library does not load ({error}); rebuild it: {INSTALL}"
        raise EngineError("unavailable", reason) from error
    if _log_callback is None:
        _log_callback = lib.llama_log_callback(_log())
        lib.llama_log_set(_log_callback, ctypes.c_void_p(0))
        lib.llama_backend_init()
    return lib


def ggml(name: str, result: Any, *arguments: Any) -> Any:
    """A function of ggml with its prototype. Windows shows of each library its own functions alone, so both are asked."""
    from llama_cpp import _ctypes_extensions, _ggml

    function = getattr(_ggml.libggml, name, None)
    if function is None:
        base = _ctypes_extensions.load_shared_library("ggml-base", _ggml.libggml_base_path)
        function = getattr(base, name)
    function.restype, function.argtypes = result, arguments
    return function


class Device(NamedTuple):
    """A device that this build of ggml knows: `CUDA0`, `NVIDIA GeForce RTX 5090`. `bus_id` is None where the driver does not say.
    `memory_bytes`: of Metal, what it recommends to hold at most."""

    name: str
    description: str
    is_gpu: bool
    integrated: bool = False
    bus_id: str | None = None
    memory_bytes: int | None = None


class _Props(ctypes.Structure):
    """The beginning of struct ggml_backend_dev_props, and room for what a newer one may add."""

    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("name", "description")),
        *((name, ctypes.c_size_t) for name in ("memory_free", "memory_total")),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("rest", ctypes.c_char * 256),
    ]


GPU, INTEGRATED_GPU = 1, 2
"""enum ggml_backend_dev_type"""


def devices() -> list[Device]:
    """The devices of this build, in its order."""
    device_at = ggml("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    ask = ggml("ggml_backend_dev_get_props", None, ctypes.c_void_p, ctypes.POINTER(_Props))
    name_of = ggml("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    known = []
    for device in map(device_at, range(ggml("ggml_backend_dev_count", ctypes.c_size_t)())):
        name = name_of(device).decode()
        if name.startswith("RPC"):
            # Its description is its server's address, which is nobody's business, and where that server is gone, a question
            # for its memory ends the process.
            known.append(Device(name, name, True, False, None, None))
            continue
        props = _Props()
        ask(device, ctypes.byref(props))
        description = props.description.decode().strip()
        is_gpu, integrated = props.type in (GPU, INTEGRATED_GPU), props.type == INTEGRATED_GPU
        where = bus_id((props.device_id or b"").decode())
        known.append(Device(name, description, is_gpu, integrated, where, props.memory_total or None))
    return known


def devices_used(known: list[Device], main_gpu: int | None = None) -> list[Device]:
    """The GPUs that llama.cpp takes of those it knows: an integrated one only where there is no other, each card once though two of
    its backends know it; of them `main_gpu` alone where the model is not split."""
    gpus = [each for each in known if each.is_gpu and not each.integrated] or [each for each in known if each.is_gpu]
    once = {each.bus_id or each.name: each for each in reversed(gpus)}
    distinct = list(reversed(once.values()))
    return distinct if main_gpu is None else distinct[main_gpu : main_gpu + 1]


def device_kind(devices: list[Device]) -> str:
    """Where this build computes by default: the first GPU's kind, else `cpu`."""
    first = next((each.name.lower() for each in devices if each.is_gpu), None)
    kinds = (kind for key, kind in DEVICE_KINDS.items() if first and first.startswith(key))
    return next(kinds, "gpu" if first else "cpu")


def _registered(backend: str, function: str) -> int | None:
    """The address of a function that one of ggml's backends offers; None where this build has no such backend or function."""
    registry = ggml("ggml_backend_reg_by_name", ctypes.c_void_p, ctypes.c_char_p)(backend.encode())
    find = ggml("ggml_backend_reg_get_proc_address", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
    address: int | None = find(registry, function.encode()) if registry else None
    return address


def add_rpc_servers(servers: tuple[str, ...]) -> None:
    """What llama-bench's `--rpc` does: register each server's devices."""
    address = _registered("RPC", "ggml_backend_rpc_add_server")
    if not address:
        rebuild = f"CMAKE_ARGS=-DGGML_RPC=on {INSTALL} --no-cache-dir"
        raise EngineError("options", f"this llama.cpp has no RPC; rebuild: {rebuild}")
    add_server = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(address)
    for server in servers:
        _assert_answers(server)
        added = add_server(server.encode())
        if not added:
            raise EngineError("options", f"llama.cpp's RPC server at {server} gives no devices")
        ggml("ggml_backend_register", None, ctypes.c_void_p)(added)


def _assert_answers(server: str) -> None:
    """llama.cpp ends the whole process over an address that it cannot parse or reach."""
    host, colon, port = server.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise EngineError("options", f"rpc_servers: {server!r} is no host:port")
    try:
        socket.create_connection((host, int(port)), timeout=RPC_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = f"no llama.cpp RPC server answers at {server} ({error}); start one there with rpc-server"
        raise EngineError("options", reason) from None


def attach_threadpool(lib: Any, context: Any, threads: int) -> Callable[[], None]:
    """Give a context threads that stay, as llama-bench and llama-server do. Returns what frees them, once the context is freed.

    Without them a llama.cpp built without OpenMP, as on a Mac, starts and joins threads at every step, with the model on a GPU
    too: a token's embedding is looked up on the CPU.
    """
    new, free = (_registered("CPU", f"ggml_threadpool_{name}") for name in ("new", "free"))
    if not new or not free:
        return lambda: None
    # ggml fills it and ggml reads it: little more than a flag for each of up to 512 cores.
    params = ctypes.create_string_buffer(1 << 16)
    ggml("ggml_threadpool_params_init", None, ctypes.c_char_p, ctypes.c_int)(params, threads)
    pool = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(new)(params)
    attach = lib._lib.llama_attach_threadpool  # the bindings leave it out
    attach.restype, attach.argtypes = None, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    attach(context, pool, None)
    return partial(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(free), pool)
