"""One served model as a session: requests out, stamped bytes in, tokens read from them when the loop is at rest."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from rigbench_backends.base import IDLE, EngineError, EngineInfo, EngineMemory, Event, ModelFile, Request, Session, Step
from rigbench_backends.openai.connection import Arrival, Client, Flight, Refusal, allow_connections, client_doubts
from rigbench_backends.openai.reply import Reply
from rigbench_backends.openai.servers import (
    ANY,
    NOT_THERE,
    PATHS,
    UNKNOWN,
    HttpOptions,
    facts,
    last_name,
    model_choice,
    place_of,
    recognise,
)
from rigbench_backends.process import StartedProcess, listens

GUESSED_CHARACTERS_PER_TOKEN = 4.0
MOST_QUESTIONS = 6
LENGTHS = ("max_tokens", "max_completion_tokens")
"""What servers call the length; newer ones of the chat alone know the second."""
RUNAWAY = 2
"""A stream of more than this many times the tokens asked for will not end by itself."""
FUTILE_FAILURES = 50
"""So many requests in a row without a token, and the case is over."""
VOCABULARY_SAMPLE = (
    "In 1987, Zoë's naïve XML parser (v2.7) crashed: 64,128 kB; why? Схема, 漢字, العربية, हिन्दी. "
    "Photosynthesis, jurisprudence; #define MAX_PATH 260; import numpy as np; https://example.org/?q=1&r=~tilde"
)


class HttpSession(Session):
    """One served model behind one address."""

    def __init__(self, model: ModelFile, options: HttpOptions) -> None:
        server, place = place_of(options)
        self._options = options
        self._server = server or UNKNOWN
        self._flights: dict[int, Flight] = {}
        self._failures = 0
        self._answered_as: dict[str, None] = {}
        self._cuts: dict[tuple[int, str], int] = {}
        self._process: StartedProcess | None = None
        self._client = Client(place, os.environ.get(options.api_key_env), options.ca_file)
        self._endpoint, self._length = options.endpoint or "completions", LENGTHS[0]
        self._loop = self._client.loop
        self._flags_asked_ns = time.perf_counter_ns(), time.thread_time_ns()
        try:
            if options.start:
                self._start(model)
            self._client.name = self._server.name
            answers = {"/v1/models": self._listed()}
            if server is None:
                self._server = recognise(answers["/v1/models"], place.port) or UNKNOWN
            answers |= self._own_answers(None)
            # A file's name is what the server was started with, and it may call it otherwise.
            exact = model.format == "remote" or options.served_model is not None
            self._model = model_choice(answers, self._server, options.served_model or model.name, exact=exact)
            answers["hello"] = self._hello()
            if model.format == "remote":
                self._must_be(model.name, answers)
            answers |= self._own_answers(self._model)
            self.info = self._describe(answers)
        except BaseException:
            self.close()
            raise

    def _start(self, model: ModelFile) -> None:
        """Run the option's command and wait until its server answers."""
        place = self._client.place
        if listens(place.host, place.port):
            raise EngineError("load", f"something answers at {place.place} already; stop it, or leave out `start`")
        deadline_s = time.monotonic() + self._options.start_limit_s
        values = {"{port}": str(place.port), "{model}": model.path or model.name, "{python}": sys.executable}
        command = list(self._options.start)
        for key, value in values.items():
            command = [word.replace(key, value) for word in command]
        self._process = StartedProcess(command)
        self._client.wait_until_ready(self._server.health, self._process, deadline_s)

    def _listed(self) -> Any:
        try:
            return self._client.ask("/models")
        except EngineError as error:
            # Some have no list, and mlx_lm.server breaks off where its download folder is missing.
            if self._server.model is None and not (isinstance(error, Refusal) and error.status in NOT_THERE):
                raise
            return {}

    def _must_be(self, name: str, answers: dict[str, Any]) -> None:
        """EngineError("options") unless `name` is what runs: listed under it, or what the server's answers call it."""
        says = facts(self._server, answers, self._model).get("answers_as")
        listed = bool(answers["/v1/models"]) and last_name(self._model) in (name, f"{name}:latest")
        if says not in (None, name) and name != ANY and not listed:
            fix = f"--model remote:{says} -O served_model={last_name(self._model)}"
            raise EngineError(
                "options", f"{self._server.name} answers as {says}, not {name}: a row bears its name; {fix}"
            )

    def _hello(self) -> Any:
        """The answer to a first request of one token, in the first way that the server takes. Which it is stays so."""
        refusals = []
        endpoint = self._options.endpoint
        for self._endpoint in (endpoint,) if endpoint else PATHS:
            for self._length in LENGTHS:
                try:
                    return self._one_token("Hello")
                except Refusal as refusal:
                    refusals.append(refusal)
                    if refusal.status in NOT_THERE:
                        break
                    if refusal.status not in (400, 422) or not any(name in str(refusal) for name in LENGTHS):
                        raise
        raise EngineError("load", f"{refusals[0]}; is its address right, with /v1?")

    def _own_answers(self, model: str | None) -> dict[str, Any]:
        """What the server's own paths answer; what it does not know is left out."""
        answers = {}
        for path in self._server.asks:
            about_model = path == "/api/show"
            if model is not None or not about_model:
                with contextlib.suppress(EngineError):
                    answer = self._client.ask(path, {"model": model} if about_model else None, root=True)
                    if isinstance(answer, dict):
                        answers[path] = answer
        return answers

    def _one_token(self, prompt: str) -> Any:
        """The whole answer to a request outside of any window; a server may load its model for it."""
        return self._client.ask(self._path, self._body(prompt, 1, stream=False), self._options.start_limit_s)

    def _describe(self, answers: dict[str, Any]) -> EngineInfo:
        options, server = self._options, self._server
        known = facts(server, answers, self._model)
        vocabulary = options.vocab_size or known.get("vocab_size")
        ids = server.takes_token_ids and self._endpoint == "completions"
        if ids and vocabulary is None and server.tokenize:
            vocabulary = max(self.encode(VOCABULARY_SAMPLE), default=0) + 1  # a part of it is enough to draw from
        ids = ids and vocabulary is not None
        served, answers_as = last_name(self._model), known.get("answers_as")
        detail = {
            "server": server.name,
            "endpoint": self._endpoint,
            "place": self._client.place.place,
            "served_model": served,
            "answers_as": answers_as if answers_as != served else None,
            "prompts": "token ids" if ids else "text",
            "quantization": known.get("quantization"),
            "slots": known.get("slots"),
            "started_by_command": self._process is not None,
        }
        return EngineInfo(
            engine=server.name,
            version=known.get("version", "unknown"),
            device=options.device,
            place="worker" if self._process else "machine" if self._client.place.local else "elsewhere",
            weights_bytes=known.get("weights_bytes"),
            parameters=known.get("parameters"),
            vocab_size=vocabulary,
            context_limit=known.get("context_limit"),
            accepts_token_ids=ids,
            fixed_length=server.fixed_length,
            resolved=known["resolved"],
            detail={name: value for name, value in detail.items() if value is not None},
        )

    def encode(self, text: str) -> list[int]:
        if self._server.tokenize is None:
            raise EngineError("options", f"{self._server.name} has no tokenizer to ask")
        path, key = self._server.tokenize
        body = {"model": self._model, key: text, "add_special_tokens": False, "add_special": False}
        ids = self._client.ask(path, body, root=True).get("tokens")
        if not isinstance(ids, list) or not all(isinstance(token, int) for token in ids):
            raise EngineError("options", f"{self._server.name} answers {path} without token ids")
        return ids

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of `text` that the server counts as `tokens` tokens. Asked once for each length; later texts, which
        differ in their first words alone, are cut at the same character."""
        key = (tokens, text[-64:])
        if key not in self._cuts:

            def count(beginning: str) -> Any:
                return (self._one_token(beginning).get("usage") or {}).get("prompt_tokens")

            # Another first character: the server's cache must not know a request of the window by its question.
            self._cuts[key] = measured_cut(count, f"0{text[1:]}", tokens)
        length = self._cuts[key]
        if len(text) < length:
            reason = f"the prompt text has {len(text)} characters; {length} are needed for {tokens} tokens"
            raise EngineError("context", reason)
        return text[:length]

    @property
    def _path(self) -> str:
        return PATHS[self._endpoint]

    def _body(self, prompt: str | tuple[int, ...], tokens: int, *, stream: bool = True) -> dict[str, Any]:
        chat = self._endpoint == "chat"
        body = {"model": self._model, self._length: tokens, "temperature": 0, **self._server.body}
        body |= {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        if stream:
            running = {"continuous_usage_stats": True} if self._server.running_usage else {}
            body |= {"stream": True, "stream_options": {"include_usage": True, **running}}
        return {name: value for name, value in (body | self._options.extra).items() if value is not None}

    def prepare(self, users: int, context_tokens: int) -> None:
        for flight in list(self._flights.values()):
            self._land(flight)
        self._loop.arrivals.clear()
        self._failures = 0
        allow_connections(2 * users)

    def submit(self, request: Request) -> None:
        prompt: str | tuple[int, ...] | None = request.prompt if self.info.accepts_token_ids else request.text
        if not prompt:
            raise EngineError("options", f"{self._server.name} takes no token ids: use a workload of kind `text`")
        if not self._flights:
            self._loop.tick(self._tick)
        most = RUNAWAY * request.output_tokens + 16
        flight = self._flights[request.id] = Flight(
            request.id, most, (Event(request.id),), Reply(request.output_tokens)
        )
        body = json.dumps(self._body(prompt, request.output_tokens)).encode()
        flight.task = self._loop.create_task(self._send(flight, body))

    async def _send(self, flight: Flight, body: bytes) -> None:
        """Up to the head of the answer; from there on its connection stamps what comes."""
        try:
            refusal = await self._client.post(self._path, body, flight)
        except self._client.failures as error:
            refusal = self._client.why(error)
        if refusal is not None:
            self._fail(flight, refusal)

    def _fail(self, flight: Flight, error: str) -> None:
        self._loop.arrive((time.perf_counter_ns(), flight, None, error))

    def _tick(self) -> bool:
        """Give up on streams that have been silent for too long. False when there is nothing to watch."""
        late_ns = time.perf_counter_ns() - round(self._options.idle_limit_s * 1e9)
        for flight in self._flights.values():
            if flight.last_ns < late_ns:
                self._fail(flight, f"the server sent nothing for {self._options.idle_limit_s:g} s (idle_limit_s)")
        return bool(self._flights)

    def step(self) -> Step:
        arrivals = self._loop.arrivals
        while True:
            while arrivals:
                moved = self._read(arrivals.popleft())
                if moved is not None:
                    return moved
            if not self._flights:
                return IDLE
            self._loop.run_forever()

    def _read(self, arrival: Arrival) -> Step | None:
        """What an arrival means; None where it brings neither token nor end."""
        stamp, flight, body, error = arrival
        if flight.over:
            return None
        flight.last_ns = stamp
        counts, ended = flight.read(body, error)
        if ended:
            return Step(stamp, [*(Event(flight.id, tokens) for tokens in counts), self._last_event(flight)], ended=True)
        if counts == [1]:
            return Step(stamp, flight.one)
        return Step(stamp, [Event(flight.id, tokens) for tokens in counts]) if counts else None

    def _last_event(self, flight: Flight) -> Event:
        reply = flight.reply
        error = self._client.clean(reply.error) if reply.error else None
        self._failures = self._failures + 1 if error and not reply.tokens else 0
        self._answered_as |= reply.models
        self._land(flight)
        if self._failures >= FUTILE_FAILURES:
            raise EngineError("decode", f"{self._failures} requests in a row failed: {error}")
        return flight.end(error)

    def _land(self, flight: Flight) -> None:
        """The flight is over. A sound answer's connection is kept for the next request; any other is closed."""
        flight.over = True
        self._flights.pop(flight.id, None)
        if not flight.reply.done:
            flight.close()

    def flags(self) -> tuple[tuple[str, str], ...]:
        wall_ns, cpu_ns = self._flags_asked_ns
        self._flags_asked_ns = time.perf_counter_ns(), time.thread_time_ns()
        lags_s, self._loop.lags_s = self._loop.lags_s, []
        busy = (self._flags_asked_ns[1] - cpu_ns) / max(1, self._flags_asked_ns[0] - wall_ns)
        flags = []
        if evidence := client_doubts(busy, lags_s):
            flags.append(("client_bound", evidence))
        names = list(dict.fromkeys(map(last_name, self._answered_as)))
        if names and names != [last_name(self._model)]:
            names_text = self._client.clean(" and ".join(names[:4]))
            flags.append(("other_model", f"asked for {last_name(self._model)}, the server's answers name {names_text}"))
        self._answered_as = {}
        return tuple(flags)

    def memory(self) -> EngineMemory:
        known = facts(self._server, self._own_answers(None), self._model) if self._server.name == "ollama" else {}
        if on_device := known.get("device_bytes"):
            return EngineMemory(device_peak_bytes=on_device, reason="Ollama tells only its sum on the device")
        return EngineMemory(self.info.weights_bytes, reason=f"{self._server.name} does not tell its memory")

    def close(self) -> None:
        for flight in list(self._flights.values()):
            self._land(flight)
        self._client.close()
        if self._process is not None:
            self._process.stop()
            self._process = None


def measured_cut(count: Callable[[str], int | None], text: str, tokens: int) -> int:
    """Characters of `text` that `count` says are nearest to `tokens` tokens, after at most six questions.

    Tokens grow with characters almost linearly, so two questions give the line and a third mostly meets the number.
    Whatever a server adds of its own (a chat template) is in its count. One that does not count (None) gets the guess of 4
    characters a token. May be longer than `text`, when all of it is too short.
    """
    length = max(1, round(tokens * GUESSED_CHARACTERS_PER_TOKEN))
    tried: dict[int, int] = {}
    for _ in range(MOST_QUESTIONS):
        cut = min(length, len(text))
        counted = count(text[:cut])
        if counted is None:
            return length
        tried[cut] = counted
        if counted == tokens:
            return cut
        near, *others = sorted(tried, key=lambda one: abs(tried[one] - tokens))
        rate = cut / max(1, counted)
        if others and tried[near] != tried[others[0]]:
            rate = (near - others[0]) / (tried[near] - tried[others[0]])
        length = max(1, near + round((tokens - tried[near]) * max(rate, 0.5)))
        if min(length, len(text)) in tried:
            break
    if max(tried.values()) < tokens and len(text) in tried:
        return max(length, len(text) + 1)
    return min(tried, key=lambda one: abs(tried[one] - tokens))
