"""The load loop over the simulator, in this process: what it sends, what it notes, how it ends."""

import gc
import hashlib

import pytest

from rigbench.records import RequestRecord
from rigbench.worker import drive
from rigbench_backends.base import IDLE, EngineError, ModelFile, Request, Step, StepBytes
from rigbench_backends.sim import SimOptions, SimSession

MODEL = ModelFile("m", None, "shape", StepBytes(1_000_000_000, kv_bytes_per_token=0))


def session(**options: object) -> SimSession:
    session = SimSession(MODEL, SimOptions(**options))
    session.prepare(8, 1000)
    return session


def load(users: int = 1, requests: int = 1, tokens: int = 10, prompt: int = 50, **rest: object) -> drive.Load:
    return drive.Load(users, requests, tokens, drive.token_prompts(256, prompt, "seed"), **rest)


def test_every_user_sends_every_request_and_gets_the_exact_length() -> None:
    _, records, _ = drive.drive(session(), load(users=3, requests=2, tokens=7))
    assert sorted((r.user, r.index) for r in records) == [(u, i) for u in range(3) for i in range(2)]
    assert {len(r.unit_us) for r in records} == {7}
    assert {r.prompt_tokens for r in records} == {50}


def test_users_start_together_and_each_sends_its_next_as_its_last_ends() -> None:
    _, records, _ = drive.drive(session(), load(users=4, requests=2))
    by = {(r.user, r.index): r for r in records}
    assert {by[user, 0].submit_us for user in range(4)} == {0}
    for user in range(4):
        assert by[user, 1].submit_us == by[user, 0].unit_us[-1]


def test_a_duration_replaces_the_number_of_requests() -> None:
    # One request: 50 tokens at 5000/s + 9 steps of 10 ms = 0.1 s. A user who may send until 0.35 s starts its fourth at 0.3 s.
    _, records, _ = drive.drive(session(), load(duration_ns=350_000_000))
    assert [r.index for r in records] == [0, 1, 2, 3]


def test_prompts_have_the_exact_length_and_another_beginning_each() -> None:
    prompt = drive.token_prompts(1000, 40, "seed")
    prompts = [prompt(user, index) for user in range(4) for index in range(6)]
    assert {len(ids) for ids in prompts} == {40}
    assert len({ids[:16] for ids in prompts}) == len(prompts)
    assert drive.token_prompts(1000, 40, "seed")(2, 3) == prompt(2, 3)
    assert drive.token_prompts(1000, 40, "other")(2, 3) != prompt(2, 3)
    assert len(drive.token_prompts(1000, 3, "seed")(0, 0)) == 3


def test_a_text_prompt_is_cut_to_length_behind_its_own_prefix() -> None:
    prompt = drive.text_prompts(lambda text: list(text.encode()), "x" * 500, 100, "seed")
    first, second = prompt(0, 0), prompt(1, 0)
    assert len(first) == len(second) == 100
    assert first != second
    assert set(first[-20:]) == {ord("x")}


def test_a_text_that_is_too_short_is_refused_and_not_repeated() -> None:
    with pytest.raises(EngineError, match="500 are asked for"):
        drive.text_prompts(lambda text: list(text.encode()), "short", 500, "seed")(0, 0)


def test_the_hash_of_what_was_sent_follows_the_prompts() -> None:
    hashes = [
        drive.drive(session(), drive.Load(2, 1, 3, drive.token_prompts(256, 20, seed)))[2] for seed in ("a", "a", "b")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_chunks_of_several_tokens_are_recorded_as_such() -> None:
    _, records, _ = drive.drive(session(tokens_per_chunk=4), load(tokens=10))
    assert records[0].chunk_units == (1, 4, 4, 1)
    assert len(records[0].unit_us) == 4


class Wire(SimSession):
    """A session that takes texts, and tells at each request's end what its server counted."""

    texts: list[str | None]

    def submit(self, request: Request) -> None:
        self.texts = [*getattr(self, "texts", []), request.text]
        super().submit(Request(request.id, (0,) * 5, request.output_tokens))

    def step(self) -> Step:
        moved = super().step()
        events = [e._replace(prompt_tokens=44, chunk_units=(2, 0, 1)) if e.finished else e for e in moved.events]
        return moved._replace(events=events)


def test_a_text_prompt_is_sent_as_text_and_the_servers_counts_are_what_is_recorded() -> None:
    wire = Wire(MODEL, SimOptions())
    wire.prepare(1, 100)
    cut = drive.cut_prompts(lambda text, tokens: text[: 4 * tokens], "x" * 500, 50, "seed")
    _, records, sha = drive.drive(wire, drive.Load(1, 1, 3, cut))
    assert wire.texts == [cut(0, 0).text]
    assert len(cut(0, 0).text) == 200 and cut(0, 0).text != cut(0, 1).text
    assert (records[0].prompt_tokens, records[0].chunk_units, len(records[0].unit_us)) == (44, (2, 1), 2)
    assert sha == hashlib.sha256(cut(0, 0).text.encode()).hexdigest()


def test_a_load_of_failures_alone_is_told_from_one_with_a_sound_request() -> None:
    failed = RequestRecord(0, 0, 5, 0, (), error="HTTP 500: no")
    sound = RequestRecord(0, 1, 5, 0, (1, 2))
    with pytest.raises(EngineError, match=r"^all 2 requests failed: HTTP 500: no$"):
        drive.assert_some_sound([failed, failed])
    drive.assert_some_sound([failed, sound])
    drive.assert_some_sound([])


def test_an_engine_that_goes_idle_too_soon_is_an_error() -> None:
    class Lazy(SimSession):
        def step(self) -> Step:
            return IDLE

    with pytest.raises(EngineError, match="idle with 2 requests unfinished"):
        drive.drive(Lazy(MODEL, SimOptions()), load(users=2))


def test_the_collector_is_off_inside_and_on_again_after_a_failure() -> None:
    received = []

    class Failing(SimSession):
        def submit(self, request: Request) -> None:
            received.append(gc.isenabled())
            raise EngineError("decode", "no")

    with pytest.raises(EngineError):
        drive.drive(Failing(MODEL, SimOptions()), load())
    assert received == [False]
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("tpots", "steady"),
    [([100, 100], False), ([100, 101, 102], True), ([100, 104, 100], False), ([150, 101, 100, 102], True)],
)
def test_warmup_is_over_when_three_rounds_agree_within_three_percent(tpots: list[float], steady: bool) -> None:
    assert drive.is_steady(tpots, 0.03) is steady
