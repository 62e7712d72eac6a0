"""`rigbench serve`: loopback, its own pages alone, and clients that hang."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from rigbench.errors import UnavailableError
from rigbench.report import serve, site


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[serve.Server]:
    monkeypatch.setattr(site, "devices", lambda: ())
    (tmp_path / "results").mkdir()
    opened = serve.open_server(tmp_path / "results", tmp_path / "site", 0)
    thread = threading.Thread(target=opened.serve_forever, daemon=True)
    thread.start()
    yield opened
    opened.shutdown()
    opened.server_close()


def status(server: serve.Server, path: str = "/index.html", **headers: str) -> int:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


def test_only_loopback_is_bound_and_a_page_is_served(server: serve.Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert status(server) == 200


def test_an_occupied_port_is_said_before_the_site_is_made(server: serve.Server, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=f"cannot serve on port {server.server_port}: Address already in use"):
        serve.open_server(tmp_path / "results", tmp_path / "other", server.server_port)
    assert not (tmp_path / "other").exists()


def test_another_host_or_origin_is_refused(server: serve.Server) -> None:
    assert status(server, Host="evil.example") == 403
    assert status(server, Origin="http://evil.example") == 403
    assert status(server, "/events", Origin="null") == 403
    assert status(server, Origin=f"http://127.0.0.1:{server.server_port}") == 200


@pytest.mark.parametrize("path", ["/.rigbench-site", "/../results", "/result/", "/%2e%2e/%2e%2e/etc/passwd"])
def test_nothing_else_can_be_read(server: serve.Server, path: str) -> None:
    assert status(server, path) == 404


def test_clients_that_hang_do_not_stop_others(server: serve.Server) -> None:
    hanging = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(serve.CONNECTIONS // 2)]
    assert status(server) == 200
    for each in hanging:
        each.close()


@pytest.mark.slow
def test_clients_that_send_a_byte_now_and_then_lock_nobody_out(server: serve.Server) -> None:
    slow = []
    for _ in range(serve.CONNECTIONS + 4):
        slow.append(socket.create_connection(("127.0.0.1", server.server_port)))
        slow[-1].sendall(b"G")
    for _ in range(3):
        assert status(server) == 200
    for each in slow:
        each.close()


def test_a_request_that_never_ends_is_ended(server: serve.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "TIMEOUT_S", 0.3)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as slow:
        slow.sendall(b"GET /index.html HTTP/1.1\r\n")
        slow.setblocking(False)
        ended, until = False, time.monotonic() + 60
        while not ended:
            assert time.monotonic() < until, "it is still open"
            with contextlib.suppress(BlockingIOError):
                ended = slow.recv(1) == b""
            with contextlib.suppress(OSError):
                slow.sendall(b"x")
            time.sleep(0.02)


def test_a_case_of_the_journal_is_a_line_with_its_numbers(tmp_path: Path) -> None:
    from device_documents import device_document
    from rigbench.documents import store
    from rigbench.run import journal
    from rigbench.suites.suite import parse_suite

    document = store.parse(device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M"), "made")
    suite = parse_suite(document.suite.content, "made")
    header = journal.Header(document.created_utc, 0.0, document.machine, suite, (), {})
    line = serve.case_line(header, journal.Finished(document.cases[0], document.engines[0]))
    assert line[0] == document.cases[0].case.id
    assert all(text != "-" for text in line[1:5]), line
