"""A model on a llama.cpp RPC server: a real one, in another process of this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

import rigbench_backends
from rigbench.models.synthetic.gguf import ensure_synthetic
from rigbench.worker import drive
from rigbench_backends.base import ModelFile
from rigbench_backends.process import free_port

SERVER = """
import ctypes, sys
import llama_cpp
from llama_cpp._ggml import libggml as ggml
llama_cpp.llama_backend_init()
for name in ("ggml_backend_reg_by_name", "ggml_backend_reg_get_proc_address", "ggml_backend_dev_get"):
    getattr(ggml, name).restype = ctypes.c_void_p
registry = ggml.ggml_backend_reg_by_name(b"RPC")
if not registry:
    print("none", flush=True)
    sys.exit()
ggml.ggml_backend_reg_get_proc_address.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
address = ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_rpc_start_server")
kind = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)
)
devices = (ctypes.c_void_p * 1)(ggml.ggml_backend_dev_get(0))
print("starting", flush=True)
kind(address)(sys.argv[1].encode(), None, 1, 1, devices)
"""


@pytest.fixture
def server() -> Iterator[str]:
    pytest.importorskip("llama_cpp")
    endpoint = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen([sys.executable, "-c", SERVER, endpoint], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if "none" in process.stdout.readline():
        pytest.skip("this llama.cpp is built without RPC")
    host, port = endpoint.split(":")
    for _ in range(600):  # it says that it starts before it listens
        with suppress(OSError):
            socket.create_connection((host, int(port)), timeout=1).close()
            break
        assert process.poll() is None, "the server ended"
        time.sleep(0.1)
    yield endpoint
    process.kill()
    process.wait()
    process.stdout.close()


def test_layers_on_an_rpc_server_are_measured(server: str) -> None:
    backend = rigbench_backends.load("llama_cpp")
    model = ModelFile("tiny", str(ensure_synthetic("tiny", "Q8_0")), "gguf")
    session = backend.open(model, backend.Options(rpc_servers=(server,), n_gpu_layers=99))
    assert session.info.device == "rpc"
    assert session.info.device_names[0].startswith("RPC"), "an address would be told"
    session.prepare(2, 64)
    _, records, _ = drive.drive(session, drive.Load(2, 1, 8, drive.token_prompts(session.info.vocab_size, 20, "rpc")))
    assert [len(record.unit_us) for record in records] == [8, 8]
    session.close()
