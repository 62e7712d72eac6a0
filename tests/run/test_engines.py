"""From what a suite names to engines: those that cannot run here, and what of their options may be told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rigbench_backends
from rigbench import ceilings
from rigbench.ceilings import engine
from rigbench.errors import InputError
from rigbench.models import resolve as models
from rigbench.models.formats.gguf import header_bytes, value_bytes
from rigbench.predict.hardware import GIB
from rigbench.records import Arithmetic, Bandwidth
from rigbench.run import engines
from rigbench.suites.plan import Engine, make_plan
from rigbench.suites.suite import EnginePart, Suite, TextPart
from rigbench.telemetry import host
from rigbench_backends import cuda
from rigbench_backends.base import Probe

SIM = EnginePart(backend="sim", model="synthetic:llama-160m:Q4_0")
NOWHERE = EnginePart(backend="mlx_lm", model="synthetic:tiny:4bit", python="nowhere/bin/python")
SUITE = Suite(
    name="two",
    version="1",
    workload=[TextPart(name="w", kind="tokens", prompt_tokens=8, output_tokens=8, concurrency=[1, 2])],
)


def test_of_several_engines_those_that_cannot_run_are_skipped_with_the_reason() -> None:
    usable, _, _ = engines.resolve([SIM, NOWHERE])
    plan = make_plan(SUITE, usable)
    assert {case.backend for job in plan.jobs for case in job.cases} == {"sim"}
    assert [skip.case.concurrency for skip in plan.skipped if skip.case.backend == "mlx_lm"] == [1, 2]
    assert all("no Python interpreter at 'nowhere/bin/python'" in skip.reason for skip in plan.skipped)


def test_a_text_for_a_model_without_a_tokenizer_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    """Its tokens can be measured."""
    keys = {"general.architecture": "llama", "tokenizer.ggml.model": "none", "llama.vocab_size": 32}
    keys |= {f"llama.{name}": 1 for name in ("block_count", "attention.head_count")}
    keys |= {"llama.embedding_length": 32, "llama.context_length": 512}
    tensors = [("token_embd.weight", (32, 32), "F32"), ("output.weight", (32, 32), "F32")]
    head, _, size = header_bytes([value_bytes(name, value) for name, value in keys.items()], tensors)
    (path := tmp_path / "plain.gguf").write_bytes(head.ljust(size, b"\0"))
    model = models.resolve(str(path), formats=("gguf",))
    engine = Engine("llama_cpp", model, "", {}, "cpu", None, None)
    text = SUITE.model_copy(update={"workload": [TextPart(name="t", kind="text", prompt_tokens=8, output_tokens=8)]})
    with pytest.raises(InputError, match="plain holds no tokenizer: use a workload of kind `tokens`"):
        make_plan(text, [engine])
    assert make_plan(SUITE, [engine]).cases > 0


def test_a_single_engine_that_cannot_run_is_an_error() -> None:
    with pytest.raises(InputError, match="no Python interpreter"):
        engines.resolve([NOWHERE])


def test_addresses_and_paths_among_the_options_are_not_told() -> None:
    public = engines.public_options(
        rigbench_backends.load("llama_cpp"), {"threads": 4, "rpc_servers": ["10.1.2.3:50052"]}
    )
    assert public == {"threads": 4, "rpc_servers": "<private>"}
    public = engines.public_options(
        rigbench_backends.load("openai_http"), {"server": "vllm", "base_url": "http://10.1.2.3/v1"}
    )
    assert public == {"server": "vllm", "base_url": "<private>"}


@pytest.mark.parametrize(
    ("device", "used", "measured"),
    [
        ("cuda", {"0000:02:00.0": "RTX 5090"}, ["cuda:1"]),  # of two whose order is the bus's, -sm none -mg 1
        ("cuda", {"0000:01:00.0": "RTX 3060", "0000:02:00.0": "RTX 5090"}, ["cuda", "cuda:1"]),
        ("cuda", {"0000:09:00.0": "RTX 5090"}, ["cuda"]),
        ("vulkan", {"0000:02:00.0": "RTX 5090"}, ["vulkan:1"]),  # beside graphics that stand before it
        ("vulkan", {}, ["vulkan"]),
        ("metal", {"0000:02:00.0": "RTX 5090"}, ["metal"]),
    ],
)
def test_the_ceiling_is_that_of_the_card_that_is_used(
    device: str, used: dict[str, str], measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def cached(name: str, python: str, say: object) -> Bandwidth:
        calls.append(name)
        return Bandwidth(name, 1790e9 if name.endswith(":1") else 360e9)

    monkeypatch.setattr(ceilings, "cached", cached)
    monkeypatch.setattr(cuda, "bus_ids", lambda: ("0000:01:00.0", "0000:02:00.0"))
    known = [{"kind": "vulkan", "description": name} for name in ("Intel UHD", "RTX 5090")]
    monkeypatch.setattr(engine, "ggml_devices", lambda python: known)
    figure = engines.device_bandwidth(device, list(used.values()), (), used=used)
    assert calls == measured and figure is not None and figure.device == device
    assert figure.read_bytes_per_s == (1790e9 if measured[-1].endswith(":1") else 360e9)


def test_a_card_that_is_not_catalogued_does_not_get_the_bandwidth_of_the_processor_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The processor's name holds that of its graphics, which are catalogued."""
    devices = ("Vulkan0: Radeon RX 9999", "CPU: AMD RYZEN AI MAX+ 395 w/ Radeon 8060S")
    probe = Probe(True, "1", "vulkan", devices, gpus=("Radeon RX 9999",))
    calls = []
    monkeypatch.setattr(engines, "probe", lambda *_: probe)
    monkeypatch.setattr(engines, "device_bandwidth", lambda device, names, *_: calls.append((device, tuple(names))))
    engines.resolve([EnginePart(backend="llama_cpp", model="synthetic:tiny:F16")], fetch=False)
    assert calls == [("vulkan", ("Radeon RX 9999",))]


@pytest.mark.parametrize(
    ("device", "says", "gpus", "limit"),
    [
        ("metal", 96 * GIB, ({"name": "Apple M3 Max", "memory_bytes": 128 * GIB},), 96 * GIB),  # what Metal may hold
        ("metal", None, ({"name": "Apple M3 Max", "memory_bytes": 128 * GIB},), 128 * GIB),  # the same memory once
        ("cuda", 24 * GIB, ({"name": "NVIDIA GeForce RTX 4090", "memory_bytes": 24 * GIB},), (128 + 24) * GIB),
        ("cuda", None, ({"name": "NVIDIA GB10", "memory_bytes": None},), 128 * GIB),  # memory that is the host's
        ("sim", None, (), None),
    ],
)
def test_a_plan_takes_no_more_memory_than_the_device_can_hold(
    device: str,
    says: int | None,
    gpus: tuple[dict[str, Any], ...],
    limit: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a machine with 128 GiB."""
    names = tuple(str(gpu["name"]) for gpu in gpus)
    probe = Probe(True, "1", device, names, gpus=names, memory_bytes=says)
    monkeypatch.setattr(engines, "probe", lambda *_: probe)
    monkeypatch.setattr(engines, "device_bandwidth", lambda *_: Bandwidth(device, 800e9))
    monkeypatch.setattr(ceilings, "arithmetic", lambda device, python, say: Arithmetic(device, {"f16": 2e13}))
    monkeypatch.setattr(host, "memory_bytes", lambda: 128 * GIB)
    part = EnginePart(backend="llama_cpp", model="synthetic:tiny:F16")
    (engine,), _, _ = engines.resolve([part], gpus=gpus, fetch=False)
    assert engine.memory_limit_bytes == limit
    with pytest.raises(InputError, match=r"1 user needs about .* GB; there are 0.1 GB"):
        make_plan(SUITE, [replace(engine, memory_limit_bytes=10**8)])
