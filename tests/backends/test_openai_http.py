"""The HTTP backend against real servers on this machine: sound ones, slow ones, and ones that break every rule."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import ssl
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httptools")
sys.path.insert(0, str(Path(__file__).parent))

from paced_server import paced_server, sent_ns

from rigbench.records import RequestRecord
from rigbench.worker import drive
from rigbench_backends import openai as backend_module
from rigbench_backends.base import EngineError, ModelFile
from rigbench_backends.openai import BACKEND, HttpOptions, HttpSession
from rigbench_backends.openai.connection import Client, Connection, client_doubts
from rigbench_backends.openai.servers import SERVERS, address, facts, last_name, model_choice, recognise

MODEL = ModelFile("m", None, "remote")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN_END = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
Answer = Callable[[str, dict[str, Any], socket.socket], None]


def token(text: str = "ab", **rest: Any) -> bytes:
    return b"data: " + json.dumps({"model": "m", "choices": [{"text": text}], **rest}).encode() + b"\n\n"


def framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


LAST = (
    b'data: {"model": "m", "choices": [{"text": "", "finish_reason": "length"}]}\n\n'
    b'data: {"model": "m", "choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 4}}\n\ndata: [DONE]\n\n'
)


def as_json(body: Any, status: str = "200 OK", more: str = "") -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n{more}\r\n"
    return head.encode() + text


@contextmanager
def server(
    streaming: Answer, models: Any = None, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[tuple[str, dict[str, Any], str]]]]:
    """A server of raw bytes: `streaming` writes whatever it likes to the socket of a request that wants a stream."""
    listener = socket.create_server(("127.0.0.1", 0))
    calls: list[tuple[str, dict[str, Any], str]] = []
    listed = models if models is not None else {"data": [{"id": "m"}]}

    def serve(connection: socket.socket) -> None:
        if tls is not None:
            try:
                connection = tls.wrap_socket(connection, server_side=True)
            except OSError:  # the client does not trust us
                return
        with connection, connection.makefile("rb") as reader:
            while line := reader.readline():
                method, path = line.decode().split()[:2]
                head = ""
                while (field := reader.readline()) not in (b"\r\n", b""):
                    head += field.decode()
                length = next(
                    (int(f.split(":")[1]) for f in head.splitlines() if f.lower().startswith("content-length")), 0
                )
                body = json.loads(reader.read(length)) if length else {}
                calls.append((path, body, head))
                try:
                    if method == "GET":
                        connection.sendall(listed.pop(0) if isinstance(listed, list) else as_json(listed))
                    elif body.get("stream"):
                        streaming(path, body, connection)
                    else:
                        usage = {"prompt_tokens": len(str(body.get("prompt"))) // 5, "completion_tokens": 1}
                        connection.sendall(as_json({"model": "m", "choices": [{"text": "a"}], "usage": usage}))
                except OSError:
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}/v1", calls
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # a close alone would leave the thread that waits in accept listening
        listener.close()


def sound(_path: str, _body: dict[str, Any], connection: socket.socket) -> None:
    connection.sendall(HEAD + b"".join(map(framed, [token()] * 4 + [LAST])) + b"0\r\n\r\n")


@contextmanager
def opened(base_url: str, model: str = "m", **options: Any) -> Iterator[HttpSession]:
    session = BACKEND.open(ModelFile(model, None, "remote"), HttpOptions(base_url=base_url, **options))
    try:
        yield session
    finally:
        session.close()


def load(users: int = 1, requests: int = 1, tokens: int = 4, prompt: Any = None) -> drive.Load:
    return drive.Load(users, requests, tokens, prompt or (lambda user, index: drive.TextPrompt(f"{user}/{index}", 50)))


def one_record(streaming: Answer, **options: Any) -> RequestRecord:
    with server(streaming) as (base_url, _), opened(base_url, **options) as session:
        return drive.drive(session, load())[1][0]


def test_a_sound_stream_is_recorded_with_what_the_server_counted() -> None:
    record = one_record(sound)
    assert record.error is None
    assert (len(record.unit_us), record.chunk_units, record.prompt_tokens) == (4, None, 40)


@pytest.mark.parametrize("framing", ["chunked", "chunked late head", "cut to pieces", "until close", "length"])
def test_every_framing_of_the_body_gives_the_same_record(framing: str) -> None:
    events = [token()] * 4 + [LAST]
    body = b"".join(events)

    def streaming(_path: str, _body: dict[str, Any], connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        chunked = HEAD + b"".join(map(framed, events)) + b"0\r\n\r\n"
        if framing == "chunked":
            connection.sendall(chunked)
        elif framing == "chunked late head":
            for piece in (
                HEAD[:40],
                HEAD[40:] + framed(events[0])[:9],
                framed(events[0])[9:],
                chunked[len(HEAD + framed(events[0])) :],
            ):
                connection.sendall(piece)
        elif framing == "cut to pieces":
            for at in range(0, len(chunked), 7):
                connection.sendall(chunked[at : at + 7])
        elif framing == "until close":
            connection.sendall(OPEN_END + body)
            connection.shutdown(socket.SHUT_WR)
        else:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)

    with server(streaming) as (base_url, calls), opened(base_url) as session:
        for _ in range(2):  # the second finds the connection as the first left it
            record = drive.drive(session, load())[1][0]
            assert record.error is None
            assert (len(record.unit_us), record.chunk_units, record.prompt_tokens) == (4, None, 40)
    assert all("accept-encoding: identity" in head.lower() for _, _, head in calls)


@pytest.mark.parametrize("cut", range(1, 96, 5))
def test_an_answer_cut_anywhere_is_the_same(cut: int) -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw += b"4\r\nHell\r\n1;x=y\r\no\r\nA\r\n0123\r\n6789\r\n0\r\nTrailer: 1\r\n\r\n"
    client = Client(address("http://127.0.0.1:1"), None)
    ours, theirs = socket.socketpair()

    async def answer() -> tuple[int, bytes | None]:
        _, connection = await client.loop.create_connection(lambda: Connection(client, ("http", "", 1)), sock=ours)
        asking = asyncio.ensure_future(connection.exchange(b"GET / HTTP/1.1\r\n\r\n", None))
        for piece in (raw[:cut], raw[cut : 2 * cut], raw[2 * cut :]):
            theirs.sendall(piece)
            await asyncio.sleep(0.001)
        return (await asking).status, (await asking).body

    client._free[("http", "", 1)] = []
    assert client.loop.wait(answer(), 10) == (200, b"Hello0123\r\n6789")
    theirs.close()
    client.close()


def test_requests_one_after_another_share_a_connection() -> None:
    connections = []

    def noting(path: str, body: dict[str, Any], connection: socket.socket) -> None:
        connections.append(connection.getpeername())
        sound(path, body, connection)

    with server(noting) as (base_url, _), opened(base_url) as session:
        assert [record.error for record in drive.drive(session, load(requests=5))[1]] == [None] * 5
    assert len(connections) == 5 and len(set(connections)) == 1


@pytest.mark.parametrize(("status", "method"), [("307 Temporary Redirect", "POST"), ("302 Found", "GET")])
def test_a_redirect_is_followed_and_the_key_stays_at_home(
    status: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecret")
    with server(sound) as (there, seen_there):
        elsewhere = f"Location: {there.replace('127.0.0.1', 'localhost')}/completions\r\n"
        with server(refuse(status, {}, elsewhere)) as (here, seen_here), opened(here) as session:
            record = drive.drive(session, load())[1][0]
    path, body, head = seen_there[-1]
    assert path == "/v1/completions" and bool(body) == (method == "POST")
    assert "sk-verysecret" in seen_here[-1][2] and "sk-verysecret" not in head
    assert (record.error is None) == (method == "POST")  # what was posted is not asked for by GET


def certificate(folder: Path, address: str = "127.0.0.1") -> tuple[ssl.SSLContext, str]:
    """What a server of its own certificate has, and the file of that certificate."""
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem -subj /CN=localhost -addext"
    try:
        subprocess.run(
            [*shlex.split(make), f"subjectAltName=IP:{address}"], cwd=folder, check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl that makes a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, str(folder / "cert.pem")


@pytest.mark.parametrize("way", ["ca_file", "SSL_CERT_FILE"])
def test_a_server_behind_its_own_certificate_is_measured_where_that_is_trusted(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, file = certificate(tmp_path)
    with server(sound, tls=context) as (base_url, _):
        with pytest.raises(EngineError, match=r"certificate is not trusted; .* -O ca_file=cert\.pem"):
            BACKEND.open(MODEL, HttpOptions(base_url=base_url))
        probe = BACKEND.probe(HttpOptions(base_url=base_url))
        assert not probe.usable and "-O ca_file=cert.pem" in str(probe.reason) and probe.fix is None
        options = {"ca_file": file} if way == "ca_file" else {}
        if way == "SSL_CERT_FILE":
            monkeypatch.setenv(way, file)
        assert BACKEND.probe(HttpOptions(base_url=base_url, **options)).usable
        with opened(base_url, **options) as session:
            records = drive.drive(session, load(users=3, requests=2))[1]
    assert [(record.error, len(record.unit_us)) for record in records] == [(None, 4)] * 6


def test_a_certificate_that_no_file_makes_good_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    context, file = certificate(tmp_path, address="127.0.0.2")
    with server(sound, tls=context) as (base_url, _):
        with pytest.raises(EngineError, match="its TLS certificate is of another address"):
            BACKEND.open(MODEL, HttpOptions(base_url=base_url, ca_file=file))
        for path, why in ((tmp_path / "none.pem", "no such file"), (tmp_path / "key.pem", "holds no certificate")):
            with pytest.raises(EngineError, match=why) as caught:
                BACKEND.open(MODEL, HttpOptions(base_url=base_url, ca_file=str(path)))
            assert caught.value.kind == "options" and str(tmp_path) not in str(caught.value)
            assert why in str(BACKEND.probe(HttpOptions(base_url=base_url, ca_file=str(path))).reason)


def refuse(status: str, body: Any, more: str = "") -> Answer:
    return lambda _path, _body, connection: connection.sendall(as_json(body, status, more))


def part(*pieces: bytes, then: str = "close") -> Answer:
    def streaming(_path: str, _body: dict[str, Any], connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
        if then == "close":
            connection.shutdown(socket.SHUT_RDWR)
        elif then == "for ever":
            while True:
                connection.sendall(framed(token()))

    return streaming


@pytest.mark.parametrize(
    ("streaming", "why", "tokens"),
    [
        (refuse("500 Oops", {"error": {"message": "out of\nmemory"}}), "HTTP 500: out of memory", 0),
        (refuse("429 Slow", {"error": "busy"}, "Retry-After: 7\r\n"), "HTTP 429: busy (it asks to wait 7 s)", 0),
        (refuse("200 OK", {"error": "no stream"}), "answers with application/json in place of a stream: no stream", 0),
        (part(), "it closed the connection without an answer", 0),
        (part(HEAD, framed(token())), "the connection broke off", 1),
        (part(OPEN_END, token()), "closed the stream after 1 tokens, before its end", 1),
        (part(HEAD, framed(token()), framed(b'data: {"error": {"message": "boom"}}\n\n')), "broke off: boom", 1),
        (part(HEAD, b"zz\r\nab\r\n"), "Invalid character in chunk size", 0),
        (part(HEAD, then="for ever"), "streams on past the tokens asked for", None),
        (
            part(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n"),
            "compresses",
            0,
        ),
        (part(b"SSH-2.0-OpenSSH\r\n"), "the connection failed", 0),
    ],
)
def test_a_fault_is_a_failed_request_with_its_reason(streaming: Answer, why: str, tokens: int | None) -> None:
    record = one_record(streaming)
    assert record.error is not None and why in record.error
    assert tokens is None or len(record.unit_us) == tokens


def test_a_connection_that_the_server_closed_without_a_word_costs_no_request() -> None:
    def closing(path: str, body: dict[str, Any], connection: socket.socket) -> None:
        sound(path, body, connection)
        connection.shutdown(socket.SHUT_RDWR)

    with server(closing) as (base_url, _), opened(base_url) as session:
        _, records, _ = drive.drive(session, load(users=4, requests=5))
    assert [record.error for record in records] == [None] * 20


def test_outside_of_a_window_a_429_is_waited_for() -> None:
    answers = [as_json({"error": "busy"}, "429 Slow", "Retry-After: 0\r\n"), as_json({"data": [{"id": "m"}]})]
    with server(sound, answers) as (base_url, calls), opened(base_url) as session:
        assert session.info.detail["served_model"] == "m"
    assert [path for path, _, _ in calls].count("/v1/models") == 2


@pytest.mark.parametrize("begun", [b"", HEAD, HEAD + framed(token())], ids=["no head", "head", "a token"])
def test_a_silent_server_is_given_up_after_the_idle_limit_and_the_session_lives_on(begun: bytes) -> None:
    gate = threading.Event()

    def first_silent(path: str, body: dict[str, Any], connection: socket.socket) -> None:
        if body["prompt"] != "0/0":
            return sound(path, body, connection)
        connection.sendall(begun)
        gate.wait(30)
        return None

    with server(first_silent) as (base_url, _), opened(base_url, idle_limit_s=0.05) as session:
        _, records, _ = drive.drive(session, load(requests=2))
        gate.set()
    assert [record.error for record in records] == ["the server sent nothing for 0.05 s (idle_limit_s)", None]


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b""], ids=["whole", "torn"])
def test_an_answer_that_said_why_it_finished_needs_no_done(end: bytes) -> None:
    last = framed(token(finish_reason=None)) + framed(LAST.partition(b"data: [DONE]")[0])
    record = one_record(part(HEAD, framed(token()) * 3, last, end))
    assert (record.error, len(record.unit_us), record.prompt_tokens) == (None, 4, 40)


def test_one_failed_request_leaves_the_others_sound_and_the_session_alive() -> None:
    def sometimes(path: str, body: dict[str, Any], connection: socket.socket) -> None:
        (refuse("503 No", {"error": "full"}) if body["prompt"].startswith("1/") else sound)(path, body, connection)

    with server(sometimes) as (base_url, _), opened(base_url) as session:
        _, records, _ = drive.drive(session, load(users=3, requests=2))
        assert [record.error for record in records if record.user == 1] == ["HTTP 503: full"] * 2
        assert [record.error for record in records if record.user != 1] == [None] * 4
        session.prepare(1, 10)
        assert not session.step().events
        assert drive.drive(session, load())[1][0].error is None


def test_a_case_of_failures_alone_ends_early() -> None:
    with (
        server(refuse("500 Oops", {"error": "dead"})) as (base_url, _),
        opened(base_url) as session,
        pytest.raises(EngineError, match="50 requests in a row failed: HTTP 500: dead"),
    ):
        drive.drive(session, load(users=2, requests=100))


def test_the_key_and_the_host_are_in_no_error_and_in_no_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-verysecret")
    leak = refuse("401 No", {"error": {"message": "Incorrect API key: sk-verysecret for 127.0.0.1"}})
    with server(leak) as (base_url, calls), opened(base_url, api_key_env="MY_KEY") as session:
        record = drive.drive(session, load())[1][0]
        everything = repr((record, session.info, session.memory(), BACKEND.probe(HttpOptions(base_url=base_url))))
    assert "Authorization: Bearer sk-verysecret" in calls[-1][2] or "Bearer sk-verysecret" in str(calls)
    assert record.error == "HTTP 401: Incorrect API key: <hidden> for <hidden>"
    assert "secret" not in everything and "127.0.0.1" not in everything
    assert session.info.detail["place"] == f"http://<local>:{address(base_url).port}"


def test_nobody_there_is_one_clear_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = HttpOptions(server="vllm", base_url=f"127.0.0.1:{port}")
    with pytest.raises(EngineError, match=rf"vllm at http://<local>:{port}: nothing listens there") as caught:
        BACKEND.open(MODEL, options)
    assert caught.value.kind == "load"
    probe = BACKEND.probe(options)
    assert not probe.usable
    assert probe.fix is not None and "vllm serve" in probe.fix


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "which server"),
        ({"server": "olama"}, "choose one of ollama, lmstudio"),
        ({"base_url": "http://me:pw@host/v1"}, "no user or key"),
        ({"base_url": "ftp://host"}, "no address of a server"),
        ({"server": "vllm", "endpoint": "embeddings"}, "choose one of completions, chat"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_asked(options: dict[str, Any], why: str) -> None:
    with pytest.raises(EngineError, match=why) as caught:
        BACKEND.open(MODEL, HttpOptions(**options))
    assert caught.value.kind == "options"


def test_of_several_models_the_one_that_was_asked_for() -> None:
    several = {"data": [{"id": "a"}, {"id": "m"}, {"id": "/home/me/b.gguf"}]}
    with server(sound, several) as (base_url, calls):
        with opened(base_url) as session:
            assert session.info.detail["served_model"] == "m"
        with opened(base_url, model="b.gguf") as session:
            drive.drive(session, load())
            assert session.info.detail["served_model"] == "b.gguf"
            assert calls[-1][1]["model"] == "/home/me/b.gguf"
        with pytest.raises(EngineError, match=r"has no model 'x'; it has a, m, b\.gguf$"):
            BACKEND.open(ModelFile("x", None, "remote"), HttpOptions(base_url=base_url))
        with pytest.raises(EngineError, match=r"has a, m, b\.gguf: name one"):
            BACKEND.open(ModelFile("any", None, "remote"), HttpOptions(base_url=base_url))


def test_what_is_sent_is_what_the_server_needs() -> None:
    with server(sound) as (base_url, calls):
        with opened(base_url, endpoint="chat", extra={"top_k": 1, "temperature": None}) as session:
            drive.drive(session, load(prompt=lambda *_: drive.TextPrompt("hello", 3)))
            assert calls[-1][0] == "/v1/chat/completions"
            assert calls[-1][1] == {
                "model": "m",
                "max_tokens": 4,
                "messages": [{"role": "user", "content": "hello"}],
                "stream": True,
                "stream_options": {"include_usage": True},
                "top_k": 1,
            }
        with opened(base_url, server="trtllm", vocab_size=1000) as session:
            assert session.info.accepts_token_ids
            drive.drive(session, load(prompt=drive.token_prompts(1000, 20, "seed")))
            sent = calls[-1][1]
            assert (len(sent["prompt"]), sent["ignore_eos"], sent["stream_options"]["continuous_usage_stats"]) == (
                20,
                True,
                True,
            )


def test_text_prompts_are_cut_by_the_servers_own_count_before_the_window() -> None:
    text = "".join(f"word{index:04d} " for index in range(500))
    with server(sound) as (base_url, calls), opened(base_url) as session:
        prompt = drive.cut_prompts(session.cut, text, 100, "seed")
        first, second = prompt(0, 0), prompt(1, 0)
        assert len(first.text) // 5 == 100  # as that server counts
        questions = [body["prompt"] for path, body, _ in calls if path == "/v1/completions"]
        assert len(questions) <= 8
        assert not any(question.startswith(first.text[:5]) for question in questions)
        assert first.text != second.text and len(first.text) == len(second.text)
        with pytest.raises(EngineError, match=r"has .* characters; .* are needed for 5000 tokens"):
            prompt_too_long = drive.cut_prompts(session.cut, text, 5000, "seed")
            prompt_too_long(0, 0)


def test_a_server_started_by_command_is_stopped_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    script = (
        "import subprocess, sys, os, runpy\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "from http.server import *\n"
        "class Handler(BaseHTTPRequestHandler):\n"
        "    def answer(self):\n"
        "        self.send_response(200)\n"
        "        self.end_headers()\n"
        "        self.rfile.read(int(self.headers.get('Content-Length') or 0))\n"
        '        self.wfile.write(b\'{"data": [{"id": "m"}], "model": "m"}\')\n'
        "    do_GET = do_POST = answer\n"
        "HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()\n"
    )
    session = BACKEND.open(MODEL, HttpOptions(start=(sys.executable, "-c", script, "{port}")))
    pids = [int(word) for word in note.read_text().split()]
    assert session.info.detail["started_by_command"]
    session.close()
    for pid in pids:
        state = Path(f"/proc/{pid}/stat")
        if state.exists():
            assert state.read_text().rpartition(")")[2].split()[0] == "Z"  # dead, but its adopter has not looked yet
        elif sys.platform != "linux":
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_started_server_that_dies_says_why() -> None:
    words = (sys.executable, "-c", "print('no such model'); raise SystemExit(3)", "{port}")
    with pytest.raises(EngineError, match=r"exit code 3\): no such model"):
        BACKEND.open(MODEL, HttpOptions(start=words))


def test_of_a_server_of_several_processes_the_cause_is_said() -> None:
    """As vLLM's printed it, shortened: the process that failed first, then those that noticed."""
    printed = """\
(VllmWorker-0 pid=73) ERROR 11-21 16:31:34 [multiproc_executor.py:953]     raise ValueError(
(VllmWorker-0 pid=73) ERROR 11-21 16:31:34 [mp.py:953] ValueError: Available memory on node 0 (22/23 GiB) on startup \
is less than desired CPU memory utilization (0.99, 23.31 GiB). On the CPU backend, the flag controls the fraction of CPU memory.
(EngineCore pid=69) ERROR 11-21 16:31:35 [core.py:1100] Exception: WorkerProc initialization failed due to an exception.
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}
"""
    words = (sys.executable, "-c", f"print({printed!r}); raise SystemExit(1)", "{port}")
    with pytest.raises(EngineError) as caught:
        BACKEND.open(MODEL, HttpOptions(start=words))
    assert str(caught.value) == (
        "the started server ended by itself (exit code 1): Available memory on node 0 (22/23 GiB) on startup is less than "
        "desired CPU memory utilization (0.99, 23.31 GiB)"
    )


def paced(users: int, tps: float, tokens: int) -> list[list[tuple[int, int]]]:
    """Of each of `users` streams at once, every token's (sent by the server's own record, stamped by us) in nanoseconds."""
    with paced_server(tps) as base_url, opened(base_url, model="any") as session:
        session.prepare(users, 100)
        t0, records, _ = drive.drive(session, load(users=users, tokens=tokens))
        sent = sent_ns(base_url)
    return [
        list(zip(sent[f"{r.user}/{r.index}"], (t0 + 1000 * time_us for time_us in r.unit_us), strict=True))
        for r in records
    ]


def test_streams_have_the_pace_that_the_server_kept() -> None:
    """Whatever a busy machine delays in between: the usual delay of the first third is that of the last third."""
    for stream in paced(users=20, tps=100, tokens=60):
        delays = [stamped - sent for sent, stamped in stream]
        assert min(delays) >= -1000  # records are cut to whole microseconds
        drift = statistics.median(delays[40:]) - statistics.median(delays[:20])
        assert drift / (stream[50][0] - stream[10][0]) == pytest.approx(0, abs=0.01)


@pytest.mark.slow
def test_200_streams_have_the_pace_that_the_server_kept_within_one_percent() -> None:
    for stream in paced(users=200, tps=50, tokens=300):
        (first_sent, first), (last_sent, last) = stream[0], stream[-1]
        assert (last_sent - first_sent) / (last - first) == pytest.approx(1, abs=0.01)


def test_a_client_that_is_itself_the_limit_says_so() -> None:
    late = [0.001] * 98 + [0.0061] * 2
    assert client_doubts(0.1, late) == "the HTTP client: its event loop was late by 6.1 ms (p99)"
    assert client_doubts(0.1, [0.001] * 200 + [0.1]) is None
    assert client_doubts(0.9, [0.001] * 100) == "the HTTP client: its core was 90% busy"
    assert client_doubts(0.1, [0.1] * 99) is None  # 2 s of ticks are needed for a 99th percentile


def test_a_running_server_is_found_at_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"data": [{"id": "m", "owned_by": "llamacpp"}]}
    with server(sound, models) as (base_url, _):
        here = replace(SERVERS["llama-server"], port=address(base_url).port)
        monkeypatch.setattr(backend_module, "SERVERS", {"llama-server": here})
        probe = BACKEND.probe()
        assert (probe.usable, probe.devices) == (True, (f"llama-server: port {here.port}",))
    probe = BACKEND.probe()
    assert not probe.usable
    assert probe.reason == f"no server answers at its usual port (llama-server {here.port})"


def test_what_servers_tell_of_themselves() -> None:
    llama = {
        "/v1/models": {
            "data": [{"id": "m", "owned_by": "llamacpp", "meta": {"n_vocab": 32000, "size": 97, "n_params": 162}}]
        },
        "/props": {"build_info": "b0", "total_slots": 4, "default_generation_settings": {"n_ctx": 2048}},
    }
    assert recognise(llama["/v1/models"]) is SERVERS["llama-server"]
    facts_of = facts(SERVERS["llama-server"], llama, "m")
    assert (facts_of["version"], facts_of["vocab_size"], facts_of["context_limit"], facts_of["slots"]) == (
        "b0",
        32000,
        2048,
        4,
    )
    assert facts_of["resolved"] == {"total_slots": 4, "n_ctx": 2048}
    ollama = {
        "/v1/models": {"data": [{"id": "qwen3:latest", "owned_by": "library"}]},
        "/api/version": {"version": "0.9"},
        "/api/show": {
            "details": {"quantization_level": "Q4_K_M"},
            "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960},
        },
        "/api/ps": {"models": [{"name": "qwen3:latest", "size_vram": 5, "context_length": 4096}]},
    }
    facts_of = facts(SERVERS["ollama"], ollama, "qwen3")
    assert (facts_of["version"], facts_of["quantization"], facts_of["context_limit"]) == ("0.9", "Q4_K_M", 4096)
    assert facts_of["resolved"] == {"context_length": 4096, "size_vram": 5} and facts_of["device_bytes"] == 5
    del ollama["/api/ps"]  # nothing is loaded: what the model was trained for
    assert facts(SERVERS["ollama"], ollama, "qwen3")["context_limit"] == 40960
    assert model_choice(ollama, SERVERS["ollama"], "qwen3") == "qwen3:latest"
    studio = {
        "/v1/models": {"data": [{"id": "a"}, {"id": "b"}]},
        "/api/v0/models": {"data": [{"id": "a", "state": "not-loaded"}, {"id": "b", "state": "loaded"}]},
    }
    assert model_choice(studio, SERVERS["lmstudio"], "any") == "b"
    with pytest.raises(EngineError, match="lmstudio has no model 'x'; it has a, b; remote:any takes b"):
        model_choice(studio, SERVERS["lmstudio"], "x")
    mlx = facts(SERVERS["mlx"], {"hello": {"system_fingerprint": "0.32.2-0.32.4-Linux"}}, "default_model")
    assert mlx["version"] == "0.32.2 (mlx 0.32.4)"


def test_names_and_addresses_tell_nobody_whose_machine_it_is() -> None:
    assert last_name("/home/me/models/m.gguf") == "m.gguf"
    assert last_name("C:\\Users\\me\\m.gguf") == "m.gguf"
    assert last_name("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
    there = address("https://gpu7.example.org:8443/api/v1/")
    assert there.place == "https://<remote>:8443"
    assert (there.base_url, there.root) == ("https://gpu7.example.org:8443/api/v1", "https://gpu7.example.org:8443/api")
    assert address("localhost:8080").base_url == "http://localhost:8080/v1"


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 1.5},
        {"prompt_tokens": "40"},
        {"completion_tokens": -4},
        {"completion_tokens": 10**20},
        {"prompt_tokens_details": {"cached_tokens": "zz"}},
        {"total_tokens": True},
    ],
)
def test_a_count_that_cannot_be_one_fails_its_request_alone(usage: dict[str, Any]) -> None:
    counts = {"prompt_tokens": 40, "completion_tokens": 4, **usage}
    last = b"data: " + json.dumps({"model": "m", "choices": [], "usage": counts}).encode() + b"\n\n"
    record = one_record(part(HEAD, *[framed(token())] * 4, framed(last), framed(LAST), b"0\r\n\r\n"))
    assert record.error is not None and "streamed what OpenAI's would not" in record.error


def test_a_total_far_beyond_the_chunks_gives_no_rate() -> None:
    last = LAST.replace(b'"completion_tokens": 4', b'"completion_tokens": 1000000000')
    record = one_record(part(HEAD, *[framed(token())] * 4, framed(last), b"0\r\n\r\n"))
    assert record.units_reason is not None and "1000000000 tokens" in record.units_reason
