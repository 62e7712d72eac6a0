"""The load loop: N users in a closed loop over one engine, each sending its next request as its last one ends.

Single-threaded: submit for N users, step the engine, keep what it says, submit the next. Everything else (prompt making,
sorting tokens to their requests, statistics, JSON) happens before or after: inside the loop a step costs one list append.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import math
import random
import statistics
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rigbench.records import PhaseMark, RequestRecord
from rigbench_backends.base import EngineError, Event, Request, Session, Step

PREFIX_TOKENS = 16
"""How much of each prompt is unique to its request: longer than any engine's cache block minus a hit's use."""
BODIES_PER_USER = 4
"""Distinct random prompts that a user cycles through, so that long runs need no prompt making inside the window."""
PREFIX_WORDS = (  # noqa: SIM905  sixty quoted words are no easier to read
    "amber anchor basil birch candle cedar clover comet copper coral dawn delta ember fern flint frost garnet ginger harbor hazel "
    "indigo ivory jasper juniper kestrel lantern larch linen maple marble meadow mistral nectar nutmeg oak olive onyx orchid "
    "pebble pine plume quartz quill raven reed rowan saffron sage slate sorrel spruce tansy thistle timber topaz umber velvet "
    "violet walnut willow yarrow zephyr"
).split()


class TextPrompt(NamedTuple):
    """A prompt for an engine that takes no token ids. `tokens` is the length asked for; the engine may count otherwise."""

    text: str
    tokens: int


Prompt = tuple[int, ...] | TextPrompt
Prompts = Callable[[int, int], Prompt]
"""(user, index of the request) -> its prompt."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the users do, with requests of so many `units`. `duration_ns` (if set) replaces `requests_per_user`."""

    users: int
    requests_per_user: int
    units: int
    prompt: Prompts
    duration_ns: int | None = None


class _Flight(NamedTuple):
    """A request as it was sent, at `submitted_ns` of the session's clock."""

    user: int
    turn: int
    prompt: Prompt
    submitted_ns: int


def token_prompts(vocabulary: int, length: int, seed: str) -> Prompts:
    """Seeded random token ids of the exact length, another beginning for every request."""

    def draw(key: str, count: int) -> list[int]:
        return random.Random(f"{seed}/{key}").choices(range(vocabulary), k=count)

    @functools.cache
    def body(user: int, turn: int) -> list[int]:
        return draw(f"body/{user}/{turn}", length)

    def prompt(user: int, index: int) -> tuple[int, ...]:
        head = draw(f"prefix/{user}/{index}", min(PREFIX_TOKENS, length))
        return tuple(head + body(user, index % BODIES_PER_USER)[len(head) :])

    return prompt


def text_prompts(encode: Callable[[str], list[int]], text: str, length: int, seed: str) -> Prompts:
    """A standardized text, cut to `length` tokens of the model's own tokenizer, behind a few seeded words per request.

    EngineError("context") if the text is too short for the length: a repeated text would be another prompt.
    """
    body = encode(text)

    def prompt(user: int, index: int) -> tuple[int, ...]:
        ids = encode(_prefix(seed, user, index)) + body
        if len(ids) < length:
            raise EngineError("context", f"the prompt text has {len(ids)} tokens; {length} are asked for")
        return tuple(ids[:length])

    return prompt


def cut_prompts(cut: Callable[[str, int], str], text: str, length: int, seed: str) -> Prompts:
    """The same text and prefixes for an engine that takes text alone: cut by it to about `length` tokens."""

    def prompt(user: int, index: int) -> TextPrompt:
        return TextPrompt(cut(_prefix(seed, user, index) + text, length), length)

    return prompt


def word_prompts(seed: str) -> Prompts:
    """A few seeded words per request: what an image is to show. They are no tokens of any engine, so their length is 0."""

    def prompt(user: int, index: int) -> TextPrompt:
        return TextPrompt(_prefix(seed, user, index).strip("[]\n"), 0)

    return prompt


def _prefix(seed: str, user: int, index: int) -> str:
    """A few seeded words that begin one request's prompt and no other's."""
    words = random.Random(f"{seed}/prefix/{user}/{index}").choices(PREFIX_WORDS, k=6)
    return f"[{' '.join(words)}]\n"


def prompt_bytes(prompt: Prompt) -> bytes:
    """A prompt as the hash of a case's prompts takes it in."""
    return prompt.text.encode() if isinstance(prompt, TextPrompt) else array("i", prompt).tobytes()


def drive(
    session: Session, load: Load, stepped: Callable[[], None] = lambda: None
) -> tuple[int, list[RequestRecord], str]:
    """Run the load. Returns t0 (ns, the first submission), the records in order of submission, SHA-256 of all prompts sent.

    `stepped` is called once, after the first step. The collector is off meanwhile: a pause in it would be a gap between tokens.
    """
    ahead = load.requests_per_user if load.duration_ns is None else BODIES_PER_USER
    ready = {(user, index): load.prompt(user, index) for user in range(load.users) for index in range(ahead)}
    flights: list[_Flight] = []
    log: list[Step] = []
    clock, step = session.clock, session.step

    def send(user: int, index: int) -> None:
        prompt = ready.pop((user, index), None) or load.prompt(user, index)
        ids, text = ((), prompt.text) if isinstance(prompt, TextPrompt) else (prompt, None)
        flights.append(_Flight(user, index, prompt, clock()))
        session.submit(Request(len(flights) - 1, ids, load.units, text))

    def goes_on(turn: int) -> bool:
        return turn < load.requests_per_user if load.duration_ns is None else clock() - start < load.duration_ns

    gc.collect()
    gc.disable()
    try:
        for user in range(load.users):
            send(user, 0)
        start = flights[0].submitted_ns
        active = load.users
        moved = step()
        stepped()
        while True:
            log.append(moved)
            if moved.ended:
                for event in moved.events:
                    if event.finished:
                        flight = flights[event.request_id]
                        if goes_on(flight.turn + 1):
                            send(flight.user, flight.turn + 1)
                        else:
                            active -= 1
                if not active:
                    break
            elif not moved.events:
                raise EngineError("decode", f"the engine went idle with {active} requests unfinished")
            moved = step()
    finally:
        gc.enable()
    sent = hashlib.sha256()
    for flight in flights:
        sent.update(prompt_bytes(flight.prompt))
    return start, _records(flights, log), sent.hexdigest()


def _records(flights: list[_Flight], log: list[Step]) -> list[RequestRecord]:
    """Each request with its own tokens out of the log of all steps. What its end tells of prompt and chunks is truer than what was
    asked for and what each chunk seemed to be."""
    start = flights[0].submitted_ns
    stamps: list[list[int]] = [[] for _ in flights]
    chunks: list[list[int]] = [[] for _ in flights]
    ends: dict[int, tuple[int, Event]] = {}
    for step in log:
        stamp = (step.time_ns - start) // 1000
        for event in step.events:
            if event.units:
                stamps[event.request_id].append(stamp)
                chunks[event.request_id].append(event.units)
            if event.finished:
                ends[event.request_id] = stamp, event
    records = []
    for id, (flight, times, counts) in enumerate(zip(flights, stamps, chunks, strict=True)):
        end_us, end = ends.get(id, (0, Event(id)))
        length = flight.prompt.tokens if isinstance(flight.prompt, TextPrompt) else len(flight.prompt)
        if end.chunk_units is not None:
            times = [time for time, count in zip(times, end.chunk_units, strict=True) if count]
            counts = [count for count in end.chunk_units if count]
        record = RequestRecord(
            user=flight.user,
            index=flight.turn,
            prompt_tokens=end.prompt_tokens or length,
            submit_us=(flight.submitted_ns - start) // 1000,
            unit_us=tuple(times),
            chunk_units=None if all(count == 1 for count in counts) else tuple(counts),
            end_us=end_us if times and end_us > times[-1] else None,
            cached_tokens=end.cached_tokens,
            error=end.error,
            reported_units=end.reported_units,
            units_reason=end.units_reason,
            marks=tuple(PhaseMark(name, (a - start) // 1000, (b - start) // 1000) for name, a, b in end.marks),
            loss=end.loss,
        )
        records.append(record)
    return records


def assert_some_sound(records: list[RequestRecord]) -> None:
    """EngineError("decode") if no request came to its end, or if a training trains nothing: there is nothing to measure."""
    if records and all(record.error is not None for record in records):
        raise EngineError("decode", f"all {len(records)} requests failed: {records[0].error}")
    for record in records:
        if (fault := loss_fault(record.loss)) is not None:
            raise EngineError("decode", fault)


def loss_fault(loss: Sequence[float] | None) -> str | None:
    """Why these losses of the steps on one batch are not those of a training; None where they may be."""
    if loss is None:
        return None
    wild = next((step for step, value in enumerate(loss, 1) if not math.isfinite(value)), None)
    if wild is not None:
        return f"the loss of step {wild} is {loss[wild - 1]}: nothing is trained"
    if len(loss) > 1 and len(set(loss)) == 1:
        return f"the loss stayed {loss[0]:.6g} for {len(loss)} steps on one batch: nothing is trained"
    return None


def round_tpot_us(records: list[RequestRecord]) -> float | None:
    """Median microseconds per output token over the requests of a warm-up round; None if none decoded two tokens."""
    values = []
    for record in records:
        tokens = sum(record.chunk_units) if record.chunk_units else len(record.unit_us)
        if tokens > 1:
            values.append((record.unit_us[-1] - record.unit_us[0]) / (tokens - 1))
    return statistics.median(values) if values else None


def is_steady(tpots: list[float], tolerance: float) -> bool:
    """Whether the last three rounds differ by less than `tolerance` of their median."""
    last = sorted(tpots[-3:])
    return len(last) == 3 and last[2] - last[0] < tolerance * last[1]
