"""One contract, every engine, spoken as a run speaks it: through the worker, in the interpreter that has the engine.

The simulator and llama.cpp always; MLX, vLLM and two real servers where `scripts/test --all` has made their environments. A request
of an engine that trains is as many optimizer steps long as one of text is tokens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest

import rigbench_backends
from environments import engine_python
from rigbench.models.resolve import resolve
from rigbench.records import Case
from rigbench.run.processes import WorkerProcess
from rigbench.workloads import Generation, Training

LIMIT_S = 400
PROMPT_TOKENS, OUTPUT_TOKENS = 40, 24
Method = Literal["lora", "qlora", "full"]
TEXT = "The quick brown fox jumps over the lazy dog; äöü 漢字. " * 80
NO_WARMUP = {"max_rounds": 0, "tolerance": 0.03, "prompt_tokens": 64, "output_tokens": 8}
VLLM_OPTIONS = {"max_model_len": 1024, "enforce_eager": True, "cpu_kvcache_space_gib": 1}
VLLM_SERVER = (
    "env VLLM_CPU_KVCACHE_SPACE=1 {python} -m vllm.entrypoints.openai.api_server --model {model} --port {port} "
    "--max-model-len 1024 --enforce-eager --no-enable-prefix-caching"
)
MLX_SERVER = "{python} -m mlx_lm.server --model {model} --port {port}"


@dataclass(frozen=True)
class Engine:
    """A backend with a model. `environment`: whose interpreter the worker runs in; `server`: whose runs `start`."""

    name: str
    backend: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: str | None = None
    server: str | None = None
    start: str = ""


ENGINES = [
    Engine("sim", "sim", "synthetic:llama-1.5b:Q4_K_M"),
    Engine("llama.cpp", "llama_cpp", "synthetic:tiny:Q8_0"),
    Engine("mlx", "mlx_lm", "synthetic:tiny:BF16", {"device": "cpu"}, environment="mlx"),
    Engine("vllm", "vllm", "synthetic:tiny:BF16", VLLM_OPTIONS, environment="vllm"),
    Engine("vllm server", "openai_http", "synthetic:tiny:BF16", {"server": "vllm"}, server="vllm", start=VLLM_SERVER),
    Engine("mlx server", "openai_http", "synthetic:tiny:BF16", {"server": "mlx"}, server="mlx", start=MLX_SERVER),
    Engine("peft", "peft_lora", "synthetic:tiny:BF16", {"device": "cpu", "threads": 1}, environment="peft"),
    Engine("mlx tuner", "mlx_lora", "synthetic:tiny:BF16", {"device": "cpu"}, environment="mlx"),
]


@dataclass
class Opened:
    """A worker with its engine open, and what the engine says of itself."""

    engine: Engine
    worker: WorkerProcess
    info: dict[str, Any]
    probe: dict[str, Any]

    def ask(self, **command: Any) -> dict[str, Any]:
        self.worker.send(command)
        while (answer := self.worker.receive(time.monotonic() + LIMIT_S))["event"] == "phase":
            pass
        return answer

    @property
    def trains(self) -> bool:
        """Its requests are trainings, not generations."""
        return "train" in rigbench_backends.load(self.engine.backend).workloads and self.engine.backend != "sim"

    def case(
        self,
        users: int,
        *,
        per_user: int = 1,
        prompt: int = PROMPT_TOKENS,
        output: int = OUTPUT_TOKENS,
        text: str | None = None,
        method: Method = "lora",
    ) -> dict[str, Any]:
        work: Generation | Training
        if self.trains:
            work = Training("contract", "train", prompt, 1, output, method)
        else:
            text = TEXT if text is None and not self.info["accepts_token_ids"] else text
            work = Generation("contract", "tokens" if text is None else "text", prompt, output)
        case = Case(
            id="case",
            group="case",
            backend=self.engine.backend,
            model="tiny",
            workload=work,
            concurrency=users,
            requests_per_user=per_user,
            repetition=0,
            seed=1,
        )
        return self.ask(do="case", case=asdict(case), text=text, warmup=NO_WARMUP)


def start(engine: Engine) -> Opened:
    """A worker that has opened the engine."""
    if engine.backend == "llama_cpp":
        pytest.importorskip("llama_cpp")
    backend = rigbench_backends.load(engine.backend)
    model = resolve(engine.model, formats=backend.model_formats).file
    options = dict(engine.options)
    if engine.server is not None:
        model = resolve(engine.model, formats=("mlx", "safetensors")).file
        options["start"] = engine.start.replace("{python}", str(engine_python(engine.server))).split()
    worker = WorkerProcess(str(engine_python(engine.environment)))
    opened = Opened(engine, worker, {}, {})
    opened.probe = opened.ask(do="probe", backend=engine.backend, options=options)
    assert opened.probe["event"] == "probe", opened.probe
    answer = opened.ask(do="open", backend=engine.backend, model=asdict(model), options=options)
    assert answer["event"] == "opened", (answer, worker.log_lines()[-12:])
    opened.info = answer["info"]
    return opened


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(engine, id=engine.name, marks=pytest.mark.slow if engine.environment or engine.server else ())
        for engine in ENGINES
    ],
)
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    session = start(request.param)
    yield session
    session.worker.kill()


def assert_lengths(opened: Opened, answer: dict[str, Any], requests: int) -> None:
    """Exact; a server that cannot be told to go on past an end of text, and says so, may be shorter."""
    # Letters cut in two by a token arrive with the next one: such a server's own count is the length.
    lengths = [
        record["reported_units"] or sum(record["chunk_units"] or [1] * len(record["unit_us"]))
        for record in answer["requests"]
    ]
    assert len(lengths) == requests
    if opened.trains:
        assert set(lengths) == {OUTPUT_TOKENS * PROMPT_TOKENS}
    elif opened.info["fixed_length"]:
        assert set(lengths) == {OUTPUT_TOKENS}
    else:
        assert max(lengths) == OUTPUT_TOKENS


def test_it_is_usable_and_says_what_it_is(opened: Opened) -> None:
    assert opened.probe["usable"]
    assert opened.probe["device"] == opened.info["device"]
    assert opened.info["version"]
    assert fields(rigbench_backends.load(opened.engine.backend).Options)


def test_lengths_are_exact_and_tokens_are_stamped_in_order(opened: Opened) -> None:
    answer = opened.case(4, per_user=2)
    assert_lengths(opened, answer, 8)
    for record in answer["requests"]:
        assert record["error"] is None
        assert record["submit_us"] <= record["unit_us"][0]
        assert record["unit_us"] == sorted(record["unit_us"])


def test_users_really_decode_together(opened: Opened) -> None:
    """One after the other, no two requests would overlap; in one batch, every step moves all of them."""
    if opened.trains:
        pytest.skip("trainings run one after the other")
    records = opened.case(4, output=64)["requests"]
    spans = [(record["unit_us"][0], record["unit_us"][-1]) for record in records]
    if opened.info["fixed_length"]:
        assert max(first for first, _ in spans) < min(last for _, last in spans)
    else:  # answers that end when they like leave no stretch that all share
        assert any(a[0] < b[1] and b[0] < a[1] for a, b in combinations(spans, 2))
    if opened.engine.server is None:  # in one process a step moves every user at one instant
        shared = set.intersection(*(set(record["unit_us"]) for record in records))
        assert len(shared) >= 60


def test_a_training_leaves_nothing_to_the_next(opened: Opened) -> None:
    """The same case has the same batch and adapters: after a training of all weights its losses are the same to the bit."""
    if not opened.trains:
        pytest.skip("it does not train")
    methods: tuple[Method, ...] = ("lora", "full", "lora")
    before, full, after = (opened.case(1, output=4, method=method)["requests"][0] for method in methods)
    assert before["loss"] == after["loss"]
    assert before["loss"][0] == full["loss"][0] > full["loss"][-1]  # adapters begin as nothing


def test_a_standardized_text_is_cut_to_its_length(opened: Opened) -> None:
    if opened.trains:
        pytest.skip("it trains on token ids")
    answer = opened.case(2, prompt=60, text=TEXT)
    assert_lengths(opened, answer, 2)
    for record in answer["requests"]:
        assert record["prompt_tokens"] == pytest.approx(60, abs=3 if opened.engine.server else 0)


def test_a_context_larger_than_the_models_is_refused_and_the_session_lives_on(opened: Opened) -> None:
    limit = opened.info["context_limit"]
    if not limit:
        pytest.skip(f"{opened.engine.name} tells no limit")
    answer = opened.case(1, prompt=limit + 1, output=8)
    assert (answer["event"], answer["kind"]) == ("error", "context")
    assert "\n" not in answer["message"]
    assert_lengths(opened, opened.case(1), 1)


def test_memory_is_accounted_or_a_reason_is_given(opened: Opened) -> None:
    memory = opened.case(1)["memory"]
    if memory["kv_cache_bytes"] is None or memory["weights_bytes"] is None:
        assert memory["reason"]
    for name in ("weights_bytes", "kv_cache_bytes"):
        assert memory[name] is None or memory[name] > 0


def test_a_model_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    (tmp_path / "text.gguf").write_text("hello")
    for path in (tmp_path / "none.gguf", tmp_path / "text.gguf"):
        worker = WorkerProcess(str(engine_python(None)))
        model = {"name": "m", "path": str(path), "format": "gguf"}
        answer = Opened(ENGINES[1], worker, {}, {}).ask(do="open", backend="llama_cpp", model=model, options={})
        worker.close()
        assert (answer["event"], answer["kind"]) == ("error", "load")
        assert "\n" not in answer["message"]


def test_nothing_is_left_after_closing(opened: Opened) -> None:
    """The last test of this file with the engine open: it closes it."""
    family = [psutil.Process(opened.worker.pid), *psutil.Process(opened.worker.pid).children(recursive=True)]
    opened.worker.close(60)
    ended, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, [process.cmdline() for process in alive]
    assert len(ended) == len(family)
