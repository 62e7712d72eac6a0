"""The llama.cpp adapter against llama.cpp itself: batching must not change what is computed, and options must arrive."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rigbench_backends.base import EngineError, ModelFile, Request

pytest.importorskip("llama_cpp")

from rigbench.models.synthetic.gguf import ensure_synthetic
from rigbench.worker import drive
from rigbench_backends.llama_cpp import BACKEND, LlamaCppOptions, LlamaCppSession, build_record, ggml


def opened(**options: Any) -> LlamaCppSession:
    path = ensure_synthetic("tiny", "F16")
    return BACKEND.open(ModelFile("tiny", str(path), "gguf"), LlamaCppOptions(**options))


@pytest.fixture(scope="module")
def session() -> Iterator[LlamaCppSession]:
    session = opened(flash_attn="off")
    yield session
    session.close()


def reference(session: LlamaCppSession, prompt: tuple[int, ...], length: int) -> list[int]:
    """Greedy decoding by the plainest possible use of the library: one sequence, its own context, one token a call."""
    from llama_cpp import llama_cpp as lib

    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.flash_attn_type = 512, 512, 0
    context = lib.llama_init_from_model(session._model, params)
    vocabulary = session.info.vocab_size
    out: list[int] = []
    pending = list(prompt)
    while len(out) < length:
        tokens = (lib.llama_token * len(pending))(*pending)
        assert lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(pending))) == 0
        logits = lib.llama_get_logits_ith(context, -1)
        out.append(max(range(vocabulary), key=logits[0:vocabulary].__getitem__))
        pending = [out[-1]]
    lib.llama_free(context)
    return out


def batched(session: LlamaCppSession, prompts: list[tuple[int, ...]], length: int, users: int) -> list[list[int]]:
    session.prepare(users, max(map(len, prompts)) + length)
    out: list[list[int]] = [[] for _ in prompts]
    for index, prompt in enumerate(prompts):
        session.submit(Request(index, prompt, length))
    while (step := session.step()).events:
        for event, token in zip(step.events, step.token_ids, strict=True):
            out[event.request_id].append(int(token))
    return out


def agreement(a: list[list[int]], b: list[list[int]]) -> float:
    pairs = [(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)]
    return sum(x == y for x, y in pairs) / len(pairs)


def test_continuous_batching_computes_what_one_sequence_alone_does(session: LlamaCppSession) -> None:
    """Prompts of different lengths, more of them than places, so that sequences end and others take their place."""
    make = drive.token_prompts(session.info.vocab_size, 60, "batching")
    prompts = [make(user, 0)[: 10 + 9 * user] for user in range(5)]
    alone = [reference(session, prompt, 12) for prompt in prompts]
    together = batched(session, prompts, 12, users=3)
    # Sums in another order may tip a near tie, after which greedy texts differ; wrong positions or caches differ at once.
    assert [out[0] for out in together] == [out[0] for out in alone]
    assert agreement(together, alone) > 0.8


def test_a_prompt_in_several_batches_gives_the_same_text() -> None:
    whole, cut = opened(flash_attn="off"), opened(flash_attn="off", n_batch=32, n_ubatch=16)
    prompts = [drive.token_prompts(whole.info.vocab_size, 150, "chunks")(user, 0) for user in range(3)]
    try:
        assert agreement(batched(whole, prompts, 10, 3), batched(cut, prompts, 10, 3)) > 0.8
    finally:
        whole.close()
        cut.close()


def test_one_cache_for_all_users_gives_the_same_text(session: LlamaCppSession) -> None:
    unified = opened(flash_attn="off", kv_unified=True)
    prompts = [drive.token_prompts(session.info.vocab_size, 50, "unified")(user, 0) for user in range(4)]
    try:
        assert agreement(batched(session, prompts, 10, 4), batched(unified, prompts, 10, 4)) > 0.8
    finally:
        unified.close()


def test_the_cache_type_shows_in_the_engines_own_account() -> None:
    sizes = {}
    for kind in ("f16", "q8_0"):
        session = opened(type_k=kind, type_v=kind, flash_attn="on")
        session.prepare(2, 512)
        sizes[kind] = session.memory().kv_cache_bytes
        assert session.info.kv_bits == {"f16": 16, "q8_0": 8.5}[kind]
        session.close()
    assert sizes["q8_0"] / sizes["f16"] == pytest.approx(8.5 / 16, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flash_attn": "maybe"}, "flash_attn = 'maybe': choose one of auto, off, on"),
        ({"type_k": "q17"}, "type_k = 'q17'"),
        ({"split_mode": "half"}, "split_mode = 'half'"),
        ({"mmap": "perhaps"}, "mmap = 'perhaps'"),
        ({"rpc_servers": ("127.0.0.1:1",)}, "RPC"),
        ({"rpc_servers": ("gpu-box",)}, "RPC|'gpu-box' is no host:port"),
        ({"tensor_split": tuple([1.0] * 1000)}, "tensor_split has 1000 parts"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        opened(**options).prepare(1, 64)


def test_how_the_engine_was_built_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"kind": "cpu", "level": "no-amx", "compiler": "GCC 12.2.0", "cmake_args": ["-DGGML_NATIVE=ON"]}
    (tmp_path / "rigbench-build.json").write_text(json.dumps({**record, "reason": "a sentence for people"}))
    session = opened()
    assert ("build" in session.info.detail) and session.info.detail["build"] == build_record()
    session.close()
    monkeypatch.setattr("llama_cpp.__file__", str(tmp_path / "__init__.py"))
    assert build_record() == record
    (tmp_path / "rigbench-build.json").unlink()
    assert build_record() is None


def test_threads_are_as_asked() -> None:
    session = opened(threads=1)
    assert session.info.threads == 1
    session.close()


def test_each_context_has_threads_that_stay_as_long_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[int] = []
    freed: list[int] = []

    def attach(lib: Any, context: Any, threads: int) -> Callable[[], None]:
        free = real(lib, context, threads)
        assert isinstance(free, partial), "this build of llama.cpp offers thread pools"
        pools.append(threads)
        return lambda: (free(), freed.append(len(pools)))[0]

    real = ggml.attach_threadpool
    monkeypatch.setattr(ggml, "attach_threadpool", attach)
    session = opened(threads=1, threads_batch=2)
    first = batched(session, [(1, 2, 3)], 4, users=1)
    assert batched(session, [(1, 2, 3)], 4, users=1) == first  # the same context again
    batched(session, [(1, 2, 3)], 4, users=2)
    assert (pools, freed) == ([2, 2], [1])  # enough of them for prompts too; the first context's are gone
    session.close()
    assert freed == [1, 2]


def test_weights_are_the_sum_of_the_files_tensors(session: LlamaCppSession) -> None:
    from rigbench.models.formats.gguf import facts_from_gguf

    facts = facts_from_gguf(ensure_synthetic("tiny", "F16"))
    assert session.info.parameters == facts.parameters
    assert session.info.weights_bytes <= facts.file_bytes


def test_sequences_stand_in_the_order_of_their_ids_after_every_change(session: LlamaCppSession) -> None:
    """Otherwise llama.cpp reads the weights once for every user instead of once for all (measured: 5.3 ms against 1.6)."""
    session.prepare(6, 64)
    make = drive.token_prompts(session.info.vocab_size, 20, "order")
    for index in range(12):
        session.submit(Request(index, make(index, 0), 8 + index % 3))
    while session.step().events:
        ids = [sequence.id for sequence in session._decoding]
        if session._rows_are_current:
            assert ids == sorted(ids)


def test_a_model_without_a_positive_logit_is_still_decoded_greedily(
    session: LlamaCppSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative floats compare the other way round as integers; shifting every logit below 0 must not change the text."""
    import numpy as np

    prompts = [drive.token_prompts(session.info.vocab_size, 30, "negative")(user, 0) for user in range(3)]
    plain = batched(session, prompts, 6, 3)
    real = session._llama_get_logits
    shifted: list[Any] = []

    def below_zero(context: Any) -> int:
        import ctypes

        rows = sum(1 for output in session._output[: session._batch.n_tokens] if output)
        values = (ctypes.c_float * (rows * session._n_vocab)).from_address(real(context))
        shifted.append(np.frombuffer(values, np.float32) - np.float32(1e4))
        return int(shifted[-1].ctypes.data)

    monkeypatch.setattr(session, "_llama_get_logits", below_zero)
    assert agreement(batched(session, prompts, 6, 3), plain) > 0.8
    monkeypatch.undo()
    session._logits_reach_above_0 = True
    session._logits_key = (0, 0)
