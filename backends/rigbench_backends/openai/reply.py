"""What a server of the OpenAI kind streams, read bytes by bytes: events out of bytes, tokens out of events. Pure, standard library.

    stream, reply = EventStream(), Reply()
    for payload in stream.feed(b'data: {"choices":[{"text":"Hi"}]}\\n\\n'):
        reply.add(payload)                # -> 1: the tokens that this chunk brought

A chunk of text is one token, unless the server says otherwise: by a running total in every chunk (`usage` as vLLM's
continuous_usage_stats gives it, llama-server's `timings`), by `token_ids` or by `logprobs`. A total at the end can say that this
was so; it can never say which chunk held the others (`Reply.account`).
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LONGEST_EVENT_BYTES = 16 * 2**20
DONE = b"[DONE]"
TOLERANCE = 0.02
"""How far chunks and tokens may differ in number before the rate of one says nothing of the other."""
MOST = 2**31
"""Tokens that a server may tell of one answer."""
MOST_NAMES = 4
_raw_decode = json.JSONDecoder().raw_decode
BROKEN_OFF = ("abort", "error", "cancelled", "content_filter")
"""Reasons to finish that no length asked for explains."""


class EventStream:
    """`data` of server-sent events out of bytes cut anywhere: CR, LF or CRLF, comments, several data lines an event."""

    def __init__(self) -> None:
        self._tail = b""
        self._data: list[bytes] = []
        self._begun = False
        self._half_crlf = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that these bytes complete. ValueError if one event grows past 16 MiB."""
        if self._begun and not (self._tail or self._data or self._half_crlf or b"\r" in chunk):
            blocks = chunk.split(b"\n\n")
            tail = blocks.pop()
            events = [block[6:] for block in blocks if block.startswith(b"data: ") and b"\n" not in block]
            if len(events) == len(blocks):  # the usual case: whole events of one line
                self._tail = tail
                return events
        return self._lines(chunk)

    def _lines(self, chunk: bytes) -> list[bytes]:
        text = self._tail + chunk
        if not self._begun:
            if len(text) < 3 and b"\xef\xbb\xbf".startswith(text):
                self._tail = text
                return []
            text = text.removeprefix(b"\xef\xbb\xbf")
            self._begun = True
        if len(text) > LONGEST_EVENT_BYTES or sum(map(len, self._data)) > LONGEST_EVENT_BYTES:
            raise ValueError(f"one event of the stream is longer than {LONGEST_EVENT_BYTES} bytes")
        # A CR at the very end is a line's end already, and may be the first half of a CRLF.
        if self._half_crlf and chunk:
            text = text.removeprefix(b"\n")
        self._half_crlf = text.endswith(b"\r") or (self._half_crlf and not chunk)
        *lines, self._tail = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        events = []
        for line in lines:
            if not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif line == b"data":
                self._data.append(b"")
        return events

    def end(self) -> list[bytes]:
        """The stream is over: what was still waiting for its empty line counts, as some servers forget it."""
        events = self.feed(b"\n\n") if self._begun else []
        self._tail = b""
        return events


@dataclass(slots=True)
class Chunk:
    """One event that brought tokens: as many as it `seemed` to, and as the server `told` (None: it did not); whether with text."""

    seemed: int
    reported: int | None
    text: bool


@dataclass(slots=True)
class Reply:
    """One request's answer as its events tell it; `asked` tokens were asked for. `error` is set once it is clear that there will be
    no sound one."""

    max_units: int = 0
    chunks: list[Chunk] = field(default_factory=list)
    tokens: int = 0
    total_tokens: int | None = None
    """What the last event that counts the output so far says; None once text came after it."""
    running_total: bool | None = None
    whole_tokens: int | None = None
    """The sum of all tokens less the prompt's."""
    reasoning_tokens: int = 0
    reasons_aloud: bool = False
    """Reasoning was streamed as text."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    models: dict[str, None] = field(default_factory=dict)
    """Names that the model goes by in the stream, in their order."""
    error: str | None = None
    done: bool = False

    def add(self, payload: bytes) -> int:
        """Take in one event; the tokens that it seems to bring, 0 for a role, a usage, a keep-alive."""
        if payload.strip() == DONE:
            self.done = True
            return 0
        try:
            text = payload.decode()
            chunk, end = _raw_decode(text)  # json.loads looks for spaces before and after, which takes as long again
            return self._read(chunk if end == len(text) else json.loads(text))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            excerpt = plain(payload[:200].decode("utf-8", "replace"))
            self.error = f"the server streamed what OpenAI's would not: {excerpt}"
            return 0

    def _read(self, chunk: dict[str, Any]) -> int:
        if chunk.get("error") or chunk.get("object") == "error":
            self.error = f"the server broke off: {sentence(chunk)}"
            return 0
        usage, timings = chunk.get("usage"), chunk.get("timings")
        before = self.total_tokens or 0
        total = self._so_far(usage, timings) if usage or timings else None
        choices = chunk.get("choices")
        if not choices:
            return 0
        if (name := chunk.get("model")) and len(self.models) < MOST_NAMES:
            self.models[str(name)] = None
        choice = choices[0]
        if choice.get("finish_reason"):
            self.finish_reason = choice["finish_reason"]
        text = _characters(choice) > 0
        self.reasons_aloud = self.reasons_aloud or _reasons(choice)
        listed = _listed(choice)
        if total is None and (text or listed):
            self.total_tokens = None
        if self.running_total is None:
            self.running_total = total is not None
        reported = listed or (max(0, total - before) if self.running_total and total is not None else None)
        seemed = reported or (1 if text else 0)
        if seemed:
            self.tokens += seemed
            self.chunks.append(Chunk(seemed, reported, text))
        return seemed

    def _so_far(self, usage: dict[str, Any] | None, timings: dict[str, Any] | None) -> int | None:
        """Output tokens so far, where the chunk tells them; prompt and cached tokens are kept."""
        total = None
        if usage:
            total = _count(usage.get("completion_tokens"))
            self.prompt_tokens = _count(usage.get("prompt_tokens")) or self.prompt_tokens
            if self.prompt_tokens and (whole := _count(usage.get("total_tokens"))):
                self.whole_tokens = whole - self.prompt_tokens
            details = usage.get("prompt_tokens_details")
            if details and details.get("cached_tokens") is not None:
                self.cached_tokens = _count(details["cached_tokens"])
            details = usage.get("completion_tokens_details")
            if details and details.get("reasoning_tokens"):
                self.reasoning_tokens = _count(details["reasoning_tokens"]) or 0
        if timings and "predicted_n" in timings:
            total = _count(timings["predicted_n"])
            self.cached_tokens = _count(timings.get("cache_n", self.cached_tokens))
        if total is not None:
            self.total_tokens = total
        return total

    def finish(self) -> None:
        """No more events will come: without a sign that all is said, the answer is broken off."""
        if self.error is not None:
            return
        if not self.done and self.finish_reason is None:
            self.error = f"the server closed the stream after {self.tokens} tokens, before its end"
        elif self.finish_reason in BROKEN_OFF:
            self.error = f"the server gave up after {self.tokens} tokens ({self.finish_reason})"
        elif not self.chunks:
            self.error = "the server answered without a single token"

    def account(self) -> Account:
        """What the whole stream says of its chunks' tokens: what was seen outranks what was reported.

        Where the server tells each chunk's tokens, those. Else a chunk of text is one token, as far as the total at the end (or
        the length asked for, where that ended it) agrees; tokens that it names as reasoning and did not stream are not among
        them. Where neither agrees, which chunk held how many is not known.
        """
        texts = sum(chunk.text for chunk in self.chunks)
        reported = sum(chunk.reported or 0 for chunk in self.chunks)
        total = self.total_tokens or None
        if all(chunk.reported is not None for chunk in self.chunks) and reported >= texts * (1 - TOLERANCE):
            counts = [chunk.reported or 0 for chunk in self.chunks]
            return Account(self._differing(counts), total if total and total > reported else None)
        counts = [int(chunk.text) for chunk in self.chunks]
        silent = 0 if self.reasons_aloud else self.reasoning_tokens
        if total is None and self.finish_reason == "length":
            total = self.max_units or None
        if total is None:
            return Account(
                self._differing(counts), None, "the server does not tell how many tokens it streamed (no usage)"
            )
        if _agree(texts, total):
            return Account(self._differing(counts), max(total, texts + silent) if total + silent != texts else None)
        # Some count the reasoning apart: what was asked for, or the sum with the prompt, tells whether this total holds it.
        whole = self.max_units if self.finish_reason == "length" else self.whole_tokens
        if silent and whole == total and _agree(texts, total - silent):
            return Account(self._differing(counts), total)
        reason = (
            f"the server counts {total} tokens and streamed {texts} chunks of text: which held how many is not known"
        )
        return Account(self._differing(counts), total, reason)

    def _differing(self, counts: list[int]) -> tuple[int, ...] | None:
        return None if counts == [chunk.seemed for chunk in self.chunks] else tuple(counts)


class Account(NamedTuple):
    """Of a whole stream: each chunk's tokens (None: as they seemed), the server's own count where it is another, and why the
    chunks' are not known (None: they are)."""

    counts: tuple[int, ...] | None
    reported: int | None
    unknown: str | None = None


def _count(value: object) -> int | None:
    """A number of tokens as a server tells it; None where it tells none. ValueError for what cannot be one."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or not 0 <= value < MOST:
        raise ValueError("no number of tokens")
    return int(value)


def _agree(chunks: int, tokens: int) -> bool:
    """Whether the rate is the same within TOLERANCE, be it of chunks or of tokens."""
    return abs(tokens - chunks) <= TOLERANCE * (max(tokens, chunks) - 1)


def _reasons(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return bool(delta.get("reasoning_content") or delta.get("reasoning"))


def _characters(choice: dict[str, Any]) -> int:
    """Length of whatever text the chunk holds, in whichever field: answer, reasoning, or a tool's arguments."""
    text = choice.get("text")
    if text is not None:
        return len(text)
    delta = choice.get("delta") or {}
    # Servers that know both names of the reasoning send it twice.
    length = len(delta.get("content") or "") + len(delta.get("reasoning_content") or delta.get("reasoning") or "")
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        length += len(function.get("name") or "") + len(function.get("arguments") or "")
    return length


def _listed(choice: dict[str, Any]) -> int:
    """Tokens that the chunk lists one by one, 0 where it does not."""
    if ids := choice.get("token_ids"):
        return len(ids)
    logprobs = choice.get("logprobs")
    return len(logprobs.get("tokens") or logprobs.get("content") or ()) if logprobs else 0


def sentence(body: Any) -> str:
    """What a server says went wrong, out of the shapes that servers give it, on one line."""
    for _ in range(3):
        if not isinstance(body, dict):
            break
        body = body.get("error") or body.get("message") or body.get("detail") or json.dumps(body)
    return plain(body if isinstance(body, str) else json.dumps(body))


def plain(text: str, longest: int = 300) -> str:
    """One line, free of control characters, cut to `longest`."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."
