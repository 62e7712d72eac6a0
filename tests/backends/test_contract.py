"""One contract, every backend: the same cases over the simulator and over the real llama.cpp with a small synthetic model."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import backends
from backends.base import Backend, EngineError, ModelFile, Request, Session
from harness.worker import drive

LENGTH = 24


def model_for(name: str) -> ModelFile:
    if name == "sim":
        return ModelFile("m", None, "shape", dense_bytes=10**8, kv_bytes_per_token=10**4, context_limit=2048)
    pytest.importorskip("llama_cpp")
    from harness.models.synthetic import ensure_synthetic

    return ModelFile("tiny", str(ensure_synthetic("tiny", "Q8_0")), "gguf", context_limit=2048)


@pytest.fixture(params=["sim", "llama_cpp"], scope="module")
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[Backend, Session]]:
    backend = backends.load(request.param)
    session = backend.open(model_for(request.param), backend.Options())
    yield backend, session
    session.close()


def generate(session: Session, users: int, prompts: list[tuple[int, ...]], length: int = LENGTH) -> list[list[int]]:
    """Token ids of each prompt's output, `users` at once."""
    session.prepare(users, max(map(len, prompts)) + length)
    for index, prompt in enumerate(prompts):
        session.submit(Request(index, prompt, length))
    out: list[list[int]] = [[] for _ in prompts]
    while (step := session.step()).events:
        for event, token in zip(step.events, step.token_ids, strict=True):
            out[event.request_id].append(int(token))
    return out


def prompts(session: Session, count: int, length: int = 33) -> list[tuple[int, ...]]:
    make = drive.token_prompts(session.info.vocab_size, length, "contract")
    return [make(user, 0) for user in range(count)]


def test_it_is_usable_and_says_what_it_is(opened: tuple[Backend, Session]) -> None:
    backend, session = opened
    probe = backend.probe()
    assert probe.usable
    assert probe.device == session.info.device
    assert session.info.vocab_size > 0
    assert fields(backend.Options)


def test_lengths_are_exact_and_tokens_are_stamped_in_order(opened: tuple[Backend, Session]) -> None:
    _, session = opened
    session.prepare(4, 100)
    load = drive.Load(4, 2, LENGTH, drive.token_prompts(session.info.vocab_size, 40, "s"))
    _, records, _ = drive.drive(session, load)
    assert [len(record.token_us) for record in records] == [LENGTH] * 8
    for record in records:
        assert record.submit_us <= record.token_us[0]
        assert list(record.token_us) == sorted(record.token_us)


def test_users_really_decode_together(opened: tuple[Backend, Session]) -> None:
    """In the steady stretch one step moves every user: four tokens share one instant."""
    _, session = opened
    session.prepare(4, 100)
    _, records, _ = drive.drive(
        session, drive.Load(4, 1, LENGTH, drive.token_prompts(session.info.vocab_size, 40, "s"))
    )
    shared = set.intersection(*(set(record.token_us) for record in records))
    assert len(shared) >= LENGTH - 2


def test_it_is_idle_when_nothing_is_submitted(opened: tuple[Backend, Session]) -> None:
    _, session = opened
    session.prepare(1, 64)
    assert not session.step().events


def test_more_requests_than_users_wait_for_their_turn(opened: tuple[Backend, Session]) -> None:
    _, session = opened
    assert [len(out) for out in generate(session, 2, prompts(session, 5), 9)] == [9] * 5


def test_encode_gives_ids_of_the_vocabulary(opened: tuple[Backend, Session]) -> None:
    _, session = opened
    ids = session.encode("Hello, world! äöü 漢字")
    assert len(ids) > 5
    assert all(0 <= token < session.info.vocab_size for token in ids)


def test_a_context_larger_than_the_models_is_refused_and_the_session_lives_on(opened: tuple[Backend, Session]) -> None:
    backend, session = opened
    if not session.info.context_limit:
        pytest.skip(f"{backend.name} has no limit here")
    with pytest.raises(EngineError, match="context") as caught:
        session.prepare(1, session.info.context_limit + 1)
    assert caught.value.kind == "context"
    assert len(generate(session, 1, prompts(session, 1))[0]) == LENGTH


def test_memory_is_accounted_or_a_reason_is_given(opened: tuple[Backend, Session]) -> None:
    _, session = opened
    session.prepare(1, 512)
    one = session.memory()
    session.prepare(8, 512)
    eight = session.memory()
    assert one.reason is not None or one.weights_bytes > 0
    assert eight.kv_cache_bytes == 8 * one.kv_cache_bytes


def test_a_model_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    backend = backends.load("llama_cpp")
    pytest.importorskip("llama_cpp")
    (tmp_path / "text.gguf").write_text("hello")
    for path in (tmp_path / "none.gguf", tmp_path / "text.gguf"):
        with pytest.raises(EngineError) as caught:
            backend.open(ModelFile("m", str(path), "gguf"), backend.Options())
        assert caught.value.kind == "load"
        assert "\n" not in str(caught.value)
