"""Servers as people report them: what each makes of a request, and what the row says. One small server, whose oddity is its mode.

It streams one token each 20 ms by a clock of its own, whose times the tests compare with: 50 tokens/s, whatever the machine does.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("httptools")

from rigbench.analysis.flags import request_flags
from rigbench.analysis.requests import Repetition, Unknown, output_rate, prefill_rate, user_rate
from rigbench.errors import InputError
from rigbench.records import Case, CaseResult
from rigbench.run.selection import engines_of
from rigbench.suites.custom import default_suite
from rigbench.worker import drive
from rigbench.workloads import Generation
from rigbench_backends.base import EngineError, ModelFile
from rigbench_backends.openai import BACKEND, HttpOptions

TOKENS = 64
"""So many that 2 % of them all are 25 ms: on a busy machine a token may come ten or twenty late."""
GAP_S = 0.02
REAL = "tiny-1b"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mode = ""
    sent_s: tuple[float, ...] = ()
    requests: list[tuple[str, dict[str, Any]]]

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        if self.mode in ("no models", "answers as another", "nothing there") or not self.path.endswith("/models"):
            self.answer(404, {"error": {"message": "Not Found"}})
        else:
            self.answer(200, {"data": [{"id": REAL}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((self.path, body))
        chat = self.path.endswith("/chat/completions")
        if self.mode == "nothing there" or (self.mode == "chat alone" and not chat):
            return self.answer(404, {"error": {"message": "Not Found"}})
        if self.mode == "max_completion_tokens" and "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return self.answer(400, {"error": {"message": message}})
        if not body.get("stream"):
            usage = {"prompt_tokens": 20, "completion_tokens": 1}
            name = {"model": REAL} if self.mode == "answers as another" else {}
            return self.answer(200, {**name, "choices": [{"text": "a", "message": {"content": "a"}}], "usage": usage})
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if self.mode == "json" else "text/event-stream")
        self.end_headers()
        self.close_connection = True
        self.stream(chat)

    def stream(self, chat: bool) -> None:
        silent = 2 * TOKENS // 3 if self.mode == "hidden" else 0
        sent, waiting = [], b""
        begin = time.perf_counter() + GAP_S
        for place in range(TOKENS):
            while (wait_s := begin + place * GAP_S - time.perf_counter()) > 0:
                time.sleep(wait_s)
            if place < silent:
                continue
            name = {"null name": [REAL, None], "empty name": ["", REAL], "dated name": [REAL, f"{REAL}-2026-01-01"]}
            names = name.get(self.mode, [REAL, REAL])
            content = {"delta": {"content": " tok"}} if chat else {"text": " tok"}
            event = {"model": names[min(1, place)], "choices": [{**content, "finish_reason": None}]}
            waiting += b"data: " + json.dumps(event).encode() + b"\n\n"
            if self.mode != "buffered":
                sent.append(time.perf_counter())
                self.wfile.write(waiting[:4])
                self.wfile.write(waiting[4:])
                waiting = b""
        usage: dict[str, Any] = {"prompt_tokens": 20, "completion_tokens": TOKENS}
        if silent:
            usage["completion_tokens_details"] = {"reasoning_tokens": silent}
        last = {"choices": [{"text": "", "delta": {}, "finish_reason": "length"}]}, {"choices": [], "usage": usage}
        waiting += b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in last) + b"data: [DONE]\n\n"
        self.wfile.write(waiting)
        Handler.sent_s = tuple(sent)


@contextmanager
def server(mode: str) -> Iterator[str]:
    Handler.mode, Handler.requests = mode, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{serving.server_port}"
        serving.shutdown()


def measured(address: str, model: str = REAL, **options: Any) -> tuple[Repetition, tuple[tuple[str, str], ...]]:
    """One request of one user, and the session's flags."""
    session = BACKEND.open(ModelFile(model, None, "remote"), HttpOptions(base_url=address, **options))
    try:
        load = drive.Load(1, 1, TOKENS, lambda user, index: drive.TextPrompt(f"{user}/{index}", 20))
        records = drive.drive(session, load)[1]
        flags = session.flags()
    finally:
        session.close()
    case = Case("g/r0", "g", "openai_http", model, Generation("w", "text", 20, TOKENS), 1, 1, 0, 1)
    return Repetition(CaseResult(case, 0, 0.0, requests=tuple(records))), flags


def true_rate() -> float:
    gaps = [after - before for before, after in zip(Handler.sent_s, Handler.sent_s[1:], strict=False)]
    return 1 / statistics.mean(gaps)


@pytest.mark.parametrize("mode", ["", "null name", "empty name", "json", "chat alone", "max_completion_tokens"])
def test_what_a_server_likes_or_leaves_out_is_found_by_itself(mode: str) -> None:
    with server(mode) as address:
        assert BACKEND.probe(HttpOptions(base_url=address)).usable
        one, flags = measured(address)
    assert [record.error for record in one.result.requests] == [None]
    assert user_rate(one) == pytest.approx(true_rate(), rel=0.02)
    assert "other_model" not in dict(flags)
    path, body = Handler.requests[-1]
    assert path == ("/v1/chat/completions" if mode == "chat alone" else "/v1/completions")
    length = "max_completion_tokens" if mode == "max_completion_tokens" else "max_tokens"
    assert body[length] == TOKENS and len({"max_tokens", "max_completion_tokens"} & set(body)) == 1


def test_another_spelling_of_the_model_in_the_stream_is_a_note() -> None:
    with server("dated name") as address:
        one, flags = measured(address)
    assert one.result.requests[0].error is None
    assert dict(flags)["other_model"] == f"asked for {REAL}, the server's answers name {REAL} and {REAL}-2026-01-01"


def test_tokens_that_were_thought_and_hidden_are_in_no_rate() -> None:
    with server("hidden") as address:
        one, _ = measured(address)
    assert user_rate(one) == pytest.approx(true_rate(), rel=0.02)
    assert isinstance(prefill_rate(one), Unknown) and isinstance(output_rate(one), Unknown)
    assert "hidden_tokens" in {flag.name for flag in request_flags(one)}


def test_an_answer_that_came_in_one_piece_has_no_rate_and_no_prefill() -> None:
    with server("buffered") as address:
        one, _ = measured(address)
    assert isinstance(user_rate(one), Unknown) and isinstance(prefill_rate(one), Unknown)
    assert "bursts" in {flag.name for flag in request_flags(one)}


def test_a_server_without_a_list_runs_what_is_named() -> None:
    with server("no models") as address:
        probe = BACKEND.probe(HttpOptions(base_url=address))
        assert (probe.usable, probe.devices) == (True, ("openai: 0 models listed",))
        one, _ = measured(address, model="example-8b")
        assert Handler.requests[-1][1]["model"] == "example-8b" and one.result.requests[0].error is None
        assert engines_of(default_suite(), models=["remote:x"], server=address)[0].model == "remote:x"
        with pytest.raises(InputError, match="lists no model: name the one that it runs"):
            engines_of(default_suite(), server=address)


def test_a_row_bears_the_name_of_what_ran() -> None:
    with server("") as address:
        for model in ("example-70b-instruct", "Tiny-1B"):
            with pytest.raises(InputError, match=f"no model '{model}'; it has {REAL}; remote:any takes {REAL}"):
                engines_of(default_suite(), models=[f"remote:{model}"], server=address)
        assert engines_of(default_suite(), models=["remote:any"], server=address)[0].model == f"remote:{REAL}"
        with pytest.raises(EngineError, match="has no model"):
            measured(address, model="example-70b-instruct")
    with server("answers as another") as address:  # without a list, its answers say what it runs
        with pytest.raises(EngineError, match=f"answers as {REAL}, not example-70b-instruct.*--model remote:{REAL}"):
            measured(address, model="example-70b-instruct")
        one, _ = measured(address, model=REAL, served_model="example-70b-instruct")
    assert one.result.requests[0].error is None


def test_a_server_that_has_none_of_it_says_so() -> None:
    with server("nothing there") as address:
        probe = BACKEND.probe(HttpOptions(base_url=address))
        assert (probe.usable, probe.fix) == (False, "check base_url") and "HTTP 404" in str(probe.reason)
    with server("chat alone") as address, pytest.raises(EngineError, match="HTTP 404: Not Found; is its address right"):
        measured(address, endpoint="completions")
