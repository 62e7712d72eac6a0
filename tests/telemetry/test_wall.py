"""A real HTTP server on this machine plays the meter, and dies in the middle."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rigbench.errors import InputError
from rigbench.telemetry import wall
from rigbench.telemetry.base import Missing, Source, SourceOptions

SHELLY = {
    "id": 0,
    "source": "WS_in",
    "output": True,
    "apower": 431.5,
    "voltage": 231.9,
    "current": 1.91,
    "aenergy": {"total": 7190.912, "by_minute": [1.0, 2.0, 3.0], "minute_ts": 1700000000},
    "temperature": {"tC": 41.2, "tF": 106.2},
}
TASMOTA = {"StatusSNS": {"Time": "2026-01-01T00:00:00", "ENERGY": {"Total": 3.185, "Power": 84, "Voltage": 230}}}


class Meter(ThreadingHTTPServer):
    """Answers every GET with `answer` (text, or a status code), and keeps the paths asked for."""

    def __init__(self) -> None:
        self.answer: object = SHELLY
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Meter

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        answer = self.server.answer
        if isinstance(answer, int):
            self.send_error(answer)
            return
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def meter() -> Iterator[Meter]:
    with Meter() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


def opened(url: str, **options: Any) -> Source:
    source = wall.WallSource.open(
        SourceOptions(wall_url=url, **{f"wall_{name}": value for name, value in options.items()})
    )
    assert source is not None
    return source


def test_shelly(meter: Meter) -> None:
    source = opened(f"127.0.0.1:{meter.server_port}", preset="shelly")
    assert source.probe().usable
    assert [(metric.name, metric.unit, metric.scope) for metric in source.metrics] == [
        ("power", "W", "wall"),
        ("energy", "J", "wall"),
    ]
    assert source.read(source.metrics) == [431.5, pytest.approx(7190.912 * 3600)]
    assert set(meter.paths) == {"/rpc/Switch.GetStatus?id=0"}
    source.close()


def test_tasmota(meter: Meter) -> None:
    meter.answer = TASMOTA
    source = opened(meter.url + "/", preset="tasmota")
    assert source.read(source.metrics) == [84.0]
    assert meter.paths == ["/cm?cmnd=Status%208"]


def test_any_meter_by_path_unit_and_scale(meter: Meter) -> None:
    meter.answer = {"meters": [{"power": "123500"}], "other": 1}
    source = opened(meter.url + "/status?x=1", path="meters.0.power", unit="mW", scale=2.0)
    (power,) = source.read(source.metrics)
    assert power == pytest.approx(247.0)
    assert meter.paths == ["/status?x=1"]


@pytest.mark.parametrize(
    "answer,reason",
    [
        (b"<html>hello</html>", "the meter's answer is not JSON"),
        (b"", "the meter's answer is not JSON"),
        (b"[1, 2]", "the meter's answer has no apower"),
        ({"apower": None}, "apower of the meter's answer is not a number"),
        ({"apower": "high"}, "apower of the meter's answer is not a number"),
        (b'{"apower": NaN}', "apower of the meter's answer is not a number"),
        ({"apower": True}, "apower of the meter's answer is not a number"),
        (503, "the meter answered HTTP 503"),
    ],
)
def test_bad_answers_are_missing_with_the_reason(meter: Meter, answer: object, reason: str) -> None:
    meter.answer = answer
    source = opened(meter.url)
    power = source.read(source.metrics)[0]
    assert power == Missing(reason)
    assert not source.probe().usable


def test_a_meter_that_wants_a_password_is_denied(meter: Meter) -> None:
    meter.answer = 401
    source = opened(meter.url)
    assert source.read(source.metrics) == [Missing("the meter answered HTTP 401", "denied")] * 2


def test_a_meter_that_dies_in_the_middle() -> None:
    with Meter() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        source = opened(server.url)
        assert source.read(source.metrics)[0] == 431.5
        server.shutdown()
    readings = source.read(source.metrics)
    assert readings == [Missing("the meter cannot be reached")] * 2
    assert str(server.server_port) not in str(readings)  # the address is in no reading


def test_a_meter_that_hangs_is_given_up() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        source = wall.WallSource(url, wall.PRESETS["shelly"], "shelly HTTP", timeout_s=0.05)
        assert source.read(source.metrics)[0] == Missing("the meter did not answer within 0.05 s")


def test_a_meter_that_breaks_off_is_missing() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def hang_up() -> None:
            connection, _ = listening.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        source = opened(f"http://127.0.0.1:{listening.getsockname()[1]}")
        power = source.read(source.metrics)[0]
        thread.join(5)
        assert power == Missing("the connection to the meter broke")


def test_no_proxy_from_the_environment(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    source = opened(meter.url)
    assert source.read(source.metrics)[0] == 431.5


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"url": "ftp://192.168.1.20"}, "address must be like"),
        ({"url": "http://"}, "address must be like"),
        ({"url": "192.168.1.20", "preset": "fritz"}, "'fritz' is not known; use one of shelly, tasmota"),
        ({"url": "192.168.1.20", "path": "a", "unit": "hp"}, "'hp' is not known; use one of W, mW, kW"),
    ],
)
def test_wrong_options(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(**arguments)
