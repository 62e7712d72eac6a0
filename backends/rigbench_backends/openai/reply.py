"""What a server of the OpenAI kind streams, read bytes by bytes: events out of bytes, tokens out of events. Pure, standard library.

    stream, reply = EventStream(), Reply()
    for payload in stream.feed(b'data: {"choices":[{"text":"Hi"}]}\\n\\n'):
        reply.add(payload)                # -> 1: the tokens that this chunk brought

A chunk is one token, unless the server says otherwise: by a running total in every chunk (`usage` as vLLM's
continuous_usage_stats gives it, llama-server's `timings`), by `token_ids` or by `logprobs`. Where only the end tells the
total, tokens that came hidden in others' chunks are spread over the chunks by the length of their text.
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

LONGEST_EVENT_BYTES = 16 * 2**20
DONE = b"[DONE]"
_raw_decode = json.JSONDecoder().raw_decode
BROKEN_OFF = ("abort", "error", "cancelled", "content_filter")
"""Reasons to finish that no length asked for explains."""


class EventStream:
    """`data` of server-sent events out of bytes cut anywhere: CR, LF or CRLF, comments, several data lines an event."""

    def __init__(self) -> None:
        self._tail = b""
        self._data: list[bytes] = []
        self._begun = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that these bytes complete. ValueError if one event grows past 16 MiB."""
        if self._begun and not (self._tail or self._data or b"\r" in chunk):
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
        # A CR at the very end may be the first half of a CRLF: it waits for the next byte.
        open_cr = b"\r" if text.endswith(b"\r") else b""
        if b"\r" in text:
            text = text[: len(text) - len(open_cr)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, tail = text.split(b"\n")
        self._tail = tail + open_cr
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
class Reply:
    """One request's answer as its events tell it. `error` is set once it is clear that there will be no sound one."""

    counts: list[int] = field(default_factory=list)
    """Tokens of each chunk that brought any."""
    weights: list[int] = field(default_factory=list)
    """Characters of those chunks."""
    tokens: int = 0
    total_tokens: int | None = None
    running_total: bool | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    model: str | None = None
    error: str | None = None
    done: bool = False

    def add(self, payload: bytes) -> int:
        """Take in one event; the tokens that it brought, 0 for a role, a usage, a keep-alive."""
        if payload.strip() == DONE:
            self.done = True
            return 0
        try:
            text = payload.decode()
            chunk, end = _raw_decode(text)  # json.loads looks for spaces before and after, which takes as long again
            return self._read(chunk if end == len(text) else json.loads(text))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            shown = plain(payload[:200].decode("utf-8", "replace"))
            self.error = f"the server streamed what OpenAI's would not: {shown}"
            return 0

    def _read(self, chunk: dict[str, Any]) -> int:
        if chunk.get("error") or chunk.get("object") == "error":
            self.error = f"the server broke off: {sentence(chunk)}"
            return 0
        usage, timings = chunk.get("usage"), chunk.get("timings")
        total = self._account(usage, timings) if usage or timings else None
        choices = chunk.get("choices")
        if not choices:
            return 0
        if self.model is None:
            self.model = chunk.get("model")
        elif chunk.get("model", self.model) != self.model:
            self.error = "the server changed to another model in the middle"
        choice = choices[0]
        if choice.get("finish_reason"):
            self.finish_reason = choice["finish_reason"]
        characters = _characters(choice)
        if self.running_total is None:
            self.running_total = total is not None
        if self.running_total and total is not None:
            tokens = max(0, total - self.tokens)
        else:
            tokens = _listed(choice) or (1 if characters else 0)
        if tokens:
            self.tokens += tokens
            self.counts.append(tokens)
            self.weights.append(characters)
        return tokens

    def _account(self, usage: dict[str, Any] | None, timings: dict[str, Any] | None) -> int | None:
        """Output tokens so far, where the chunk tells them; prompt and cached tokens are kept."""
        total = None
        if usage:
            total = usage.get("completion_tokens")
            self.prompt_tokens = usage.get("prompt_tokens", self.prompt_tokens)
            details = usage.get("prompt_tokens_details")
            if details and details.get("cached_tokens") is not None:
                self.cached_tokens = details["cached_tokens"]
        if timings and "predicted_n" in timings:
            total = timings["predicted_n"]
            self.cached_tokens = timings.get("cache_n", self.cached_tokens)
        if total is not None:
            self.total_tokens = total = int(total)
        return total

    def finish(self) -> None:
        """No more events will come: without a sign that all is said, the answer is broken off."""
        if self.error is not None:
            return
        if not self.done and self.finish_reason is None:
            self.error = f"the server closed the stream after {self.tokens} tokens, before its end"
        elif self.finish_reason in BROKEN_OFF:
            self.error = f"the server gave up after {self.tokens} tokens ({self.finish_reason})"
        elif not self.counts:
            self.error = "the server answered without a single token"

    def true_counts(self) -> tuple[int, ...] | None:
        """Tokens of each chunk, where the total at the end says otherwise than `counts`; None where that holds."""
        if self.total_tokens is None or self.total_tokens == self.tokens or not self.counts:
            return None
        return spread(self.total_tokens, self.weights)


def spread(total: int, weights: list[int]) -> tuple[int, ...]:
    """`total` tokens over chunks, one each at least as far as they go round, the rest by weight (largest remainder first)."""
    if total <= len(weights):
        return (1,) * total + (0,) * (len(weights) - total)
    rest, whole = total - len(weights), sum(weights)
    shares = [rest * weight / whole if whole else rest / len(weights) for weight in weights]
    counts = [1 + int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: (int(shares[i]) - shares[i], i))
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return tuple(counts)


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
