"""vLLM's adapter at its seam: what vLLM is asked for, what is made of its answers. The real engine is in the contract test."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from rigbench_backends import vllm as adapter
from rigbench_backends.base import EngineError, ModelFile, Request
from rigbench_backends.vllm import BACKEND, VllmOptions, VllmSession, failure_kind, root_cause


class FakeEngine:
    """Answers as LLMEngine does: each `step` gives the next list of `script`, whatever the requests."""

    script: ClassVar[list[Any]] = []
    fails: ClassVar[Exception | None] = None
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        self.added: list[tuple[str, Any, Any]] = []
        self.aborted: list[str] = []
        self.shut = 0
        self.engine_core = SimpleNamespace(shutdown=self._shutdown)
        heads = SimpleNamespace(num_hidden_layers=3, layer_types=None)
        model = SimpleNamespace(
            dtype=SimpleNamespace(itemsize=2, __str__=lambda _: "torch.bfloat16"),
            max_model_len=100,
            hf_text_config=heads,
            enforce_eager=True,
            quantization=None,
            get_vocab_size=lambda: 300,
            get_num_kv_heads=lambda _: 2,
            get_head_size=lambda: 16,
        )
        self.vllm_config = SimpleNamespace(
            model_config=model,
            cache_config=SimpleNamespace(cache_dtype="auto", block_size=16, num_gpu_blocks=10, sliding_window=None),
            parallel_config=SimpleNamespace(
                tensor_parallel_size=2, pipeline_parallel_size=1, distributed_executor_backend="mp"
            ),
            scheduler_config=SimpleNamespace(max_num_seqs=4, max_num_batched_tokens=2048),
        )

    @classmethod
    def from_engine_args(cls, arguments: Any, context: Any) -> "FakeEngine":
        cls.options = vars(arguments)
        if cls.fails:
            print(  # as the processes that vLLM starts do
                "(EngineCore pid=7) ERROR 01-02 03:04:05 [core.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried to",
                file=sys.stderr,
            )
            raise cls.fails
        return cls()

    def add_request(self, name: str, prompt: Any, params: Any) -> None:
        self.added.append((name, prompt, params))

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names

    def step(self) -> list[Any]:
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _shutdown(self) -> None:
        self.shut += 1


def module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(content)
    module.__spec__ = SimpleNamespace(name=name)  # type: ignore[assignment]
    return module


@pytest.fixture
def fake_vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    platform = SimpleNamespace(
        device_type="cuda", is_rocm=lambda: False, device_count=lambda: 2, get_device_name=lambda index: f"GPU {index}"
    )
    modules = [
        module("vllm", SamplingParams=lambda **settings: SimpleNamespace(**settings)),
        module("vllm.engine"),
        module("vllm.engine.arg_utils", EngineArgs=lambda **settings: SimpleNamespace(**settings)),
        module("vllm.platforms", current_platform=platform),
        module("vllm.sampling_params", RequestOutputKind=SimpleNamespace(DELTA="delta")),
        module("vllm.usage"),
        module("vllm.usage.usage_lib", UsageContext=SimpleNamespace(OPENAI_API_SERVER="server")),
        module("vllm.v1"),
        module("vllm.v1.engine"),
        module("vllm.v1.engine.llm_engine", LLMEngine=FakeEngine),
    ]
    for each in modules:
        monkeypatch.setitem(sys.modules, each.__name__, each)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(FakeEngine, "fails", None)
    yield SimpleNamespace(platform=platform)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [10, 4], "data_offsets": [0, 160]},
        "b": {"dtype": "U8", "shape": [7], "data_offsets": [160, 167]},
    }
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(167))
    return tmp_path


def opened(folder: Path, **options: Any) -> VllmSession:
    return BACKEND.open(ModelFile("m", str(folder), "safetensors"), VllmOptions(**options))


def output(name: str, tokens: list[int], reason: str | None = None, cached: int = 0) -> Any:
    return SimpleNamespace(
        request_id=name,
        outputs=[SimpleNamespace(token_ids=tokens, finish_reason=reason)],
        finished=reason is not None,
        num_cached_tokens=cached,
    )


def test_options_reach_vllm_under_their_own_names(fake_vllm: Any, folder: Path) -> None:
    options = {
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 3,
        "distributed_executor_backend": "ray",
        "quantization": "fp8",
        "kv_cache_dtype": "fp8",
        "gpu_memory_utilization": 0.5,
        "max_model_len": 64,
        "max_num_seqs": 9,
        "max_num_batched_tokens": 33,
        "enforce_eager": True,
    }
    opened(folder, cpu_kvcache_space_gib=7, **options)
    assert options.items() <= FakeEngine.options.items()
    assert FakeEngine.options["enable_prefix_caching"] is False
    assert FakeEngine.options["skip_tokenizer_init"] is True
    assert "cpu_kvcache_space_gib" not in FakeEngine.options
    assert os.environ["VLLM_CPU_KVCACHE_SPACE"] == "7"
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"


def test_what_is_not_set_is_left_to_vllm(fake_vllm: Any, folder: Path) -> None:
    opened(folder)
    assert not {"gpu_memory_utilization", "quantization", "max_num_seqs"} & set(FakeEngine.options)


def test_what_the_engine_is_and_its_memory(fake_vllm: Any, folder: Path) -> None:
    session = opened(folder, tensor_parallel_size=2)
    info = session.info
    assert (info.device, info.device_names, info.context_limit, info.max_users) == ("cuda", ("GPU 0", "GPU 1"), 100, 4)
    assert info.weights_bytes == 40 * 2 + 7  # the floats in the dtype that they run in, the rest as stored
    assert info.parameters == 47
    assert info.resolved["tensor_parallel_size"] == 2
    # 10 blocks x 16 tokens x 3 layers x K and V x (2 heads on each of 2 devices) x 16 wide x 2 bytes
    assert session.memory().kv_cache_bytes == 10 * 16 * 3 * 2 * 4 * 16 * 2
    assert "compute" in str(session.memory().reason)


def test_weights_that_are_quantised_on_loading_are_not_guessed(fake_vllm: Any, folder: Path) -> None:
    assert opened(folder, quantization="fp8").info.weights_bytes is None


def test_steps_become_events(fake_vllm: Any, folder: Path) -> None:
    """An output of nothing, several tokens at once, a request of an earlier case, an end that is not ours."""
    session = opened(folder)
    session.prepare(2, 50)
    session.submit(Request(5, (1, 2, 3), 4))
    session.submit(Request(6, (4,), 4))
    engine = session._engine
    (first, prompt, params), (second, *_) = engine.added
    assert prompt == {"prompt_token_ids": [1, 2, 3]}
    assert (params.max_tokens, params.ignore_eos, params.temperature, params.detokenize) == (4, True, 0.0, False)
    engine.script = [
        [],
        [output(first, [11]), output("gone", [1])],
        [output(first, [12, 13]), output(second, [21])],
        [output(first, [14], "length", 16), output(second, [], "abort")],
    ]
    one, two, three = session.step(), session.step(), session.step()
    assert [tuple(event)[:3] for event in one.events] == [(5, 1, False)]
    assert [tuple(event)[:3] for event in two.events] == [(5, 2, False), (6, 1, False)]
    assert list(two.token_ids) == [12, 13, 21]
    assert [tuple(event)[:5] for event in three.events] == [(5, 1, True, 16, None), (6, 0, True, 0, "ended by abort")]
    assert (one.ended, two.ended, three.ended) == (False, False, True)
    assert 0 < one.time_ns <= two.time_ns <= three.time_ns
    assert not session.step().events


def test_what_an_aborted_case_left_is_ended_by_the_next(fake_vllm: Any, folder: Path) -> None:
    session = opened(folder)
    session.submit(Request(0, (1,), 4))
    session.prepare(1, 50)
    assert session._engine.aborted == ["1"]
    assert not session.step().events


@pytest.mark.parametrize(
    ("users", "context", "kind", "named"),
    [(5, 10, "context", "max_num_seqs"), (4, 49, "memory", "gpu_memory_utilization")],
)
def test_what_does_not_fit_is_refused_before_it_runs(
    fake_vllm: Any, folder: Path, users: int, context: int, kind: str, named: str
) -> None:
    session = opened(folder)  # 10 blocks of 16 tokens: 4 users of 49 tokens would need 16
    with pytest.raises(EngineError, match=named) as caught:
        session.prepare(users, context)
    assert caught.value.kind == kind
    session.prepare(2, 80)  # exactly 10 blocks


def test_an_engine_that_dies_is_an_error_of_the_case(fake_vllm: Any, folder: Path) -> None:
    session = opened(folder)
    session.submit(Request(0, (1,), 4))
    session._engine.script = [RuntimeError("EngineCore encountered an issue. See stack trace for the root cause.")]
    with pytest.raises(EngineError, match="one of its processes ended") as caught:
        session.step()
    assert caught.value.kind == "decode"
    session.close()
    session.close()


def test_a_failed_start_names_what_its_process_said(
    fake_vllm: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")
    monkeypatch.setattr(FakeEngine, "fails", failure)
    with pytest.raises(EngineError, match="CUDA out of memory; set another") as caught:
        opened(folder)
    assert caught.value.kind == "memory"


@pytest.mark.parametrize(
    ("message", "reason", "kind"),
    [
        (
            "1 validation error for ModelConfig\n  Value error, Model architectures ['X'] are not supported for now. "
            "Supported architectures: dict_keys([...]) [type=value_error, input_value=ArgsKwargs()]",
            "Model architectures ['X'] are not supported for now",
            "load",
        ),
        (
            "1 validation error for ModelConfig\n  Value error, User-specified max_model_len (9) is greater than the derived "
            "max_model_len (max_position_embeddings=2.0 in model's config.json). To allow [type=value_error]",
            "User-specified max_model_len (9) is greater than the derived "
            "max_model_len (max_position_embeddings=2.0 in model's config.json)",
            "context",
        ),
        ("No available memory for the cache blocks. Try raising", "No available memory for the cache blocks", "memory"),
    ],
)
def test_vllms_own_words_become_one_sentence(message: str, reason: str, kind: str) -> None:
    assert root_cause(ValueError(message), []) == reason
    assert failure_kind(reason) == kind


def test_a_model_that_is_no_folder_of_weights_is_one_clear_error(tmp_path: Path) -> None:
    for path in (None, str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(EngineError, match=r"config\.json") as caught:
            BACKEND.open(ModelFile("m", path, "safetensors"), VllmOptions())
        assert caught.value.kind == "load"
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineError, match=r"no .*safetensors"):
        BACKEND.open(ModelFile("m", str(tmp_path), "safetensors"), VllmOptions())


def test_the_probe_says_where_it_would_run(fake_vllm: Any) -> None:
    probe = BACKEND.probe()
    assert (probe.usable, probe.device, probe.devices) == (True, "cuda", ("cuda0: GPU 0", "cuda1: GPU 1"))
    fake_vllm.platform.is_rocm = lambda: True
    assert BACKEND.probe().device == "rocm"
    fake_vllm.platform.is_rocm = lambda: False
    fake_vllm.platform.device_type = ""  # the CUDA build on a machine without a GPU
    probe = BACKEND.probe(VllmOptions())
    assert not probe.usable
    assert "device" in str(probe.reason)
    assert "engine_env.py vllm" in str(probe.fix)


def test_the_probe_tells_how_to_get_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "platform", "linux")
    assert "rigbench[vllm]" in str(BACKEND.probe().fix)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "openai_http" in str(BACKEND.probe().fix)
