"""The MLX backend without MLX: faked modules at the seam answer for machines that are not here, and for a batch whose clock we set.

What real MLX does is shown by the contract test, and at the end of this file in its own environment.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rigbench_backends.base import EngineError, ModelFile, Request
from rigbench_backends.mlx_lm import MlxBackend, MlxOptions, MlxSession, install_command

ROOT = Path(__file__).resolve().parents[2]
MLX_PYTHON = ROOT / ".venv-mlx" / "bin" / "python"
LAYERS, KV_BYTES_PER_TOKEN = 2, 64


class FakeArray:
    def __init__(self, values: Any) -> None:
        self.values = values


class FakeCache:
    """Two arrays that grow by 256 tokens, as mlx-lm's KVCache does."""

    step = 256

    def __init__(self) -> None:
        self.keys: Any = None

    @property
    def nbytes(self) -> int:
        return int(self.keys.shape[2]) * KV_BYTES_PER_TOKEN // LAYERS if self.keys else 0

    def grow(self, tokens: int) -> None:
        self.keys = SimpleNamespace(shape=(1, 1, -(-tokens // 256) * 256, 8), dtype=SimpleNamespace(size=2))


class FakeBatch:
    """mlx-lm's GenerationBatch: `_step` computes, then `next` says what came of it."""

    def __init__(self, generator: FakeGenerator) -> None:
        self.generator = generator
        self.uids: list[int] = []
        self.max_tokens: list[int] = []
        self._num_tokens: list[int] = []

    def _step(self) -> list[int]:
        self.generator.machine.now_ns += 10_000
        return [100 + uid for uid in self.uids]

    def next(self) -> list[Any]:
        tokens = self._step()
        self.generator.machine.now_ns += 1_000  # what mlx-lm does for sequences that end
        out = []
        for place, (uid, token) in enumerate(zip(self.uids, tokens, strict=True)):
            self._num_tokens[place] += 1
            last = self._num_tokens[place] >= self.max_tokens[place]
            out.append(SimpleNamespace(uid=uid, token=token, finish_reason="length" if last else None))
        keep = [place for place, one in enumerate(out) if one.finish_reason is None]
        for name in ("uids", "max_tokens", "_num_tokens"):
            setattr(self, name, [getattr(self, name)[place] for place in keep])
        return out


class FakeGenerator:
    """mlx-lm's BatchGenerator: a call decodes one token for all, then takes one prompt in, which costs 5 ms."""

    def __init__(self, machine: FakeMachine, **options: Any) -> None:
        self.machine, self.options = machine, options
        self._generation_batch = FakeBatch(self)
        self.prompts: deque[tuple[int, int]] = deque()
        self.inserted = 0
        self.closed = False
        machine.generators.append(self)

    @property
    def prompt_cache_nbytes(self) -> int:
        return 1000 * len(self._generation_batch.uids)

    def insert(self, prompts: list[list[int]], max_tokens: list[int]) -> list[int]:
        assert all(type(prompt) is list for prompt in prompts)  # mlx-lm pads them with list addition
        self.inserted += 1
        self.prompts.append((self.inserted, max_tokens[0]))
        assert len(self.prompts) + len(self._generation_batch.uids) <= self.options["completion_batch_size"]
        return [self.inserted]

    def next_generated(self) -> list[Any]:
        while True:
            out = self._generation_batch.next() if self._generation_batch.uids else []
            if self.machine.failure:
                raise self.machine.failure
            if self.prompts:
                self.machine.now_ns += 5_000_000
                uid, length = self.prompts.popleft()
                for name, value in (("uids", uid), ("max_tokens", length), ("_num_tokens", 0)):
                    getattr(self._generation_batch, name).append(value)
            if out or not self._generation_batch.uids:
                return out

    def close(self) -> None:
        self.closed = True


class FakeMachine:
    """What MLX says of a machine, and its clock."""

    def __init__(self, *, gpu: str | None = None, name: str = "Apple M9", memory_bytes: int = 0) -> None:
        self.gpu, self.name, self.memory_bytes = gpu, name, memory_bytes
        self.now_ns = 0
        self.generators: list[FakeGenerator] = []
        self.failure: Exception | None = None
        self.load_failure: Exception | None = None

    def core(self) -> ModuleType:
        mx: Any = ModuleType("mlx.core")
        mx.__version__ = "0.32.4"
        mx.cpu, mx.gpu, mx.int64 = "cpu", "gpu", "int64"
        mx.is_available = lambda device: device == "cpu" or self.gpu is not None
        mx.Device = lambda kind, index: kind
        mx.metal = SimpleNamespace(is_available=lambda: self.gpu == "metal")
        mx.device_info = lambda device: {
            "device_name": self.name if device == "gpu" else "CPU",
            **({"memory_size": self.memory_bytes} if self.memory_bytes else {}),
        }
        mx.distributed = SimpleNamespace(init=lambda: SimpleNamespace(size=lambda: 1, rank=lambda: 0))
        mx.new_stream = mx.array = FakeArray
        mx.stream = contextlib.nullcontext
        for name in ("eval", "synchronize", "set_default_device"):
            setattr(mx, name, lambda *_: None)
        mx.clear_cache = mx.reset_peak_memory = lambda: None
        mx.get_peak_memory = lambda: 50_000
        return mx

    def load(self, path: str, return_config: bool) -> Any:
        if self.load_failure:
            raise self.load_failure

        def model(tokens: Any, cache: list[FakeCache]) -> None:
            if self.failure:
                raise self.failure
            for one in cache:
                one.grow(1)

        model.parameters = dict  # type: ignore[attr-defined]
        config = {"model_type": "llama", "vocab_size": 512, "max_position_embeddings": 2048}
        return model, SimpleNamespace(encode=lambda text, add_special_tokens: list(text.encode())), config


def pretend(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, version: str = "0.32.2") -> FakeMachine:
    """Let `import mlx` and `import mlx_lm` find this machine's."""
    core = machine.core()
    parts = {
        "mlx": {"core": core},
        "mlx.utils": {"tree_flatten": lambda tree: [("w", SimpleNamespace(nbytes=30_000))]},
        "mlx_lm": {},
        "mlx_lm.utils": {"load": machine.load, "sharded_load": None, "get_total_parameters": lambda model: 7},
        "mlx_lm.models": {},
        "mlx_lm.models.cache": {"make_prompt_cache": lambda model: [FakeCache() for _ in range(LAYERS)]},
        "mlx_lm.generate": {"BatchGenerator": lambda model, **options: FakeGenerator(machine, **options)},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        for key, value in content.items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "mlx.core", core)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    monkeypatch.setattr(MlxSession, "clock", lambda session: machine.now_ns)
    return machine


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return pretend(FakeMachine(gpu="metal", memory_bytes=2**20), monkeypatch)


@pytest.fixture
def session(machine: FakeMachine, tmp_path: Path) -> Iterator[MlxSession]:
    opened = MlxBackend().open(ModelFile("m", str(tmp_path), "mlx"), MlxOptions(prefill_batch_size=2))
    yield opened
    opened.close()


def everything(session: MlxSession) -> list[tuple[int, list[tuple[int, bool]]]]:
    """(time, (request, finished) ...) of each step until nothing runs."""
    out = []
    while (step := session.step()).events:
        assert step.ended == any(event.finished for event in step.events)
        out.append((step.time_ns, [(event.request_id, event.finished) for event in step.events]))
    return out


@pytest.mark.parametrize(
    ("gpu", "requested", "device", "name"),
    [
        ("metal", None, "metal", "metal: Apple M9"),
        ("cuda", "gpu", "cuda", "cuda: Apple M9"),
        ("metal", "cpu", "cpu", "cpu: CPU"),
        (None, None, "cpu", "cpu: CPU"),  # also a Mac whose virtual machine has no Metal
    ],
)
def test_probe_says_where_it_would_run(
    gpu: str | None, requested: str | None, device: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(FakeMachine(gpu=gpu), monkeypatch)
    probe = MlxBackend().probe(MlxOptions(device=requested))
    assert (probe.usable, probe.device, probe.devices) == (True, device, (name,))
    assert probe.version == "mlx 0.32.4, mlx-lm 0.32.2"


def test_probe_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(FakeMachine(), monkeypatch)
    probe = MlxBackend().probe(MlxOptions(device="gpu"))
    assert (probe.usable, probe.reason) == (False, "device = 'gpu': MLX in this interpreter has no GPU to use")
    pretend(FakeMachine(), monkeypatch, version="0.28.4")
    assert MlxBackend().probe().reason == "mlx-lm 0.28.4 is too old; 0.32 or later is needed"
    monkeypatch.setitem(sys.modules, "mlx.core", None)  # what Python does where an import is known to fail
    probe = MlxBackend().probe()
    assert not probe.usable and "MLX does not load in this interpreter (" in str(probe.reason)

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    probe = MlxBackend().probe()
    assert (probe.usable, probe.reason) == (False, "mlx-lm is not installed in this interpreter")
    assert probe.fix == install_command()


@pytest.mark.parametrize(
    ("platform", "words"),
    [("darwin", "pip install 'rigbench[mlx]'"), ("linux", "' mlx-lm"), ("win32", "WSL 2")],
)
def test_the_command_that_fixes_it(platform: str, words: str) -> None:
    assert words in install_command(platform)


def test_a_token_is_stamped_when_it_is_there_not_after_the_next_prompt(
    session: MlxSession, machine: FakeMachine
) -> None:
    """A decode step takes 10 us, and in the same call of mlx-lm the second prompt takes 5 ms."""
    session.prepare(2, 64)
    session.submit(Request(7, (1, 2), 3))
    session.submit(Request(8, (3,), 3))
    steps = everything(session)
    assert [events for _, events in steps] == [
        [(7, False)],
        [(7, False), (8, False)],
        [(7, True), (8, False)],
        [(8, True)],
    ]
    times = [time_ns for time_ns, _ in steps]
    assert times[0] == 5_000_000 + 10_000
    assert times[1] - times[0] == 1_000 + 5_000_000 + 10_000
    assert times[2] - times[1] == times[3] - times[2] == 1_000 + 10_000


def test_requests_beyond_the_users_wait(session: MlxSession, machine: FakeMachine) -> None:
    session.prepare(2, 64)
    for index in range(5):
        session.submit(Request(index, (1, 2), 2))
    requests = [request for _, events in everything(session) for request, _ in events]
    assert sorted(requests) == sorted([0, 1, 2, 3, 4] * 2)
    assert machine.generators[-1].options["completion_batch_size"] == 2


def test_the_options_reach_the_generator(session: MlxSession, machine: FakeMachine) -> None:
    for users, prefill in ((1, 1), (8, 2)):
        session.prepare(users, 64)
        options = machine.generators[-1].options
        assert (options["prefill_batch_size"], options["prefill_step_size"]) == (prefill, 2048)
    assert [generator.closed for generator in machine.generators] == [True, False]  # it lowers the wired limit again


def test_memory_is_planned_first_and_counted_then(session: MlxSession) -> None:
    session.prepare(3, 300)  # 300 tokens take two steps of 256
    planned = session.memory()
    assert planned.kv_cache_bytes == 3 * 512 * KV_BYTES_PER_TOKEN
    assert (planned.compute_bytes, planned.weights_bytes) == (None, 30_000)
    assert planned.reason
    for index in range(3):
        session.submit(Request(index, (1,), 4))
    everything(session)
    counted = session.memory()
    assert counted.kv_cache_bytes == 3000
    assert counted.compute_bytes == 50_000 - 30_000 - 3000
    assert (counted.device_peak_bytes, counted.reason) == (50_000, None)


def test_what_cannot_be_prepared_leaves_the_session_as_it_was(session: MlxSession) -> None:
    session.prepare(1, 64)
    with pytest.raises(EngineError, match=r"64 users of 2048 tokens need a cache of 0\.0 GB .* Apple M9 has") as caught:
        session.prepare(64, 2048)
    assert caught.value.kind == "memory"
    session.submit(Request(0, (1,), 2))
    assert len(everything(session)) == 2


def test_a_failed_step_is_one_error_and_the_next_case_runs(session: MlxSession, machine: FakeMachine) -> None:
    session.prepare(1, 64)
    for failure, kind in [
        (RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory (00000008)"), "memory"),
        (RuntimeError("[malloc] Unable to allocate 70368744177664 bytes."), "memory"),
        (RuntimeError("cudaMallocAsync failed: out of memory"), "memory"),
        (RuntimeError("[GatherMM::eval] Currently only\nsupports float32."), "decode"),
    ]:
        machine.failure = failure
        session.submit(Request(0, (1,), 2))
        with pytest.raises(EngineError, match="MLX failed in a step: ") as caught:
            session.step()
        assert caught.value.kind == kind
        assert "\n" not in str(caught.value)
        machine.failure = None
        session.prepare(1, 64)
    session.submit(Request(1, (1,), 2))
    assert len(everything(session)) == 2


def test_a_generator_that_cannot_be_stamped_is_refused(session: MlxSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later mlx-lm that keeps its batch otherwise: no figure rather than a wrong one."""
    monkeypatch.delattr(FakeBatch, "_step")
    with pytest.raises(
        EngineError, match=r"does not know the batch of mlx-lm 0\.32\.2: install mlx-lm 0\.32"
    ) as caught:
        session.prepare(1, 64)
    assert caught.value.kind == "unavailable"


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (ValueError("Model type brontosaurus not supported."), "load", "does not know the architecture brontosaurus"),
        (
            ValueError("Missing 12 parameters: \nlm_head.weight,\nmodel.norm.weight."),
            "load",
            "cannot load .*12 parameters",
        ),
        (MemoryError(), "memory", "cannot load"),
    ],
)
def test_a_model_that_does_not_load(
    failure: Exception, kind: str, message: str, machine: FakeMachine, tmp_path: Path
) -> None:
    machine.load_failure = failure
    with pytest.raises(EngineError, match=message) as caught:
        MlxBackend().open(ModelFile("m", str(tmp_path), "mlx"), MlxOptions())
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_there_or_cannot_run_here(machine: FakeMachine, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"there is no model folder .*none"):
        MlxBackend().open(ModelFile("m", str(tmp_path / "none"), "mlx"), MlxOptions())
    with pytest.raises(EngineError, match="prefill_step_size = 0: at least 1"):
        MlxBackend().open(ModelFile("m", str(tmp_path), "mlx"), MlxOptions(prefill_step_size=0))
    machine.failure = RuntimeError("[GatherMM::eval] Currently only supports float32.")
    with pytest.raises(EngineError, match=r"MLX cannot run .* here: \[GatherMM::eval\]") as caught:
        MlxBackend().open(ModelFile("m", str(tmp_path), "mlx"), MlxOptions())
    assert caught.value.kind == "load"


REAL = """
import json, sys
sys.path.insert(0, sys.argv[1])
import rigbench_backends
from rigbench_backends.base import ModelFile, Request
from mlx_lm.generate import generate_step
import mlx.core as mx

backend = rigbench_backends.load("mlx_lm")
session = backend.open(ModelFile("tiny", sys.argv[2], "mlx"), backend.Options(device="cpu", prefill_step_size=16))
prompts = [list(range(5, 5 + length)) for length in (3, 40, 17)]
alone = [[token for token, _ in zip((t for t, _ in generate_step(mx.array(p), session._model, max_tokens=8)), range(8))]
         for p in prompts]
session.prepare(2, 48)
for index, prompt in enumerate(prompts):
    session.submit(Request(index, tuple(prompt), 8))
out = [[], [], []]
while (step := session.step()).events:
    for event, token in zip(step.events, step.token_ids):
        out[event.request_id].append(token)
session.close()
print(json.dumps([alone, out]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not MLX_PYTHON.exists(), reason="no .venv-mlx: scripts/test --all makes it")
def test_the_tokens_are_those_that_mlx_lm_generates_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of three lengths, two users, prefill in chunks: padding, masks and waiting change no token."""
    from rigbench.models.synthetic.folder import ensure_synthetic

    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path))
    folder = ensure_synthetic("tiny", "F16")
    done = subprocess.run(
        [str(MLX_PYTHON), "-c", REAL, str(ROOT / "backends"), str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    alone, out = json.loads(done.stdout.splitlines()[-1])
    assert [len(tokens) for tokens in out] == [8, 8, 8]
    assert out == alone
