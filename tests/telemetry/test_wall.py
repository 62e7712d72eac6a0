"""A real HTTP server on this machine plays the meter, and dies in the middle."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

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
    """Answers every GET with `answer` (text, or a status code), and keeps the paths asked for. `password`: it wants a digest of it
    as Shelly's second generation does, whose user is always `admin`; `header`: it wants that line."""

    def __init__(self) -> None:
        self.answer: object = SHELLY
        self.paths: list[str] = []
        self.password: str | None = None
        self.header: tuple[str, str] | None = None
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Meter

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        answer = self.server.answer
        if self.server.password is not None and not self.knows(self.server.password):
            self.send_response(401)
            self.send_header(
                "WWW-Authenticate",
                'Digest qop="auth", realm="shellyplusplugs-4022d8", nonce="60dc2c69", algorithm=SHA-256',
            )
            self.end_headers()
            return
        if self.server.header is not None and self.headers.get(self.server.header[0]) != self.server.header[1]:
            answer = 401
        if isinstance(answer, int):
            self.send_error(answer)
            return
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def knows(self, password: str) -> bool:
        """By RFC 7616."""
        parts = dict(re.findall(r'(\w+)="?([^",]*)"?', self.headers.get("Authorization", "")))
        if not parts:
            return False

        def digest(*words: str) -> str:
            return hashlib.sha256(":".join(words).encode()).hexdigest()

        one, two = digest("admin", "shellyplusplugs-4022d8", password), digest("GET", self.path)
        right = digest(one, "60dc2c69", parts["nc"], parts["cnonce"], "auth", two)
        return parts["username"] == "admin" and parts["algorithm"] == "SHA-256" and parts["response"] == right

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
        source = wall.WallSource(wall.Page(url, timeout_s=0.05), wall.PRESETS["shelly"], "shelly HTTP")
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
        ({"url": "http://10.0.0.1:99999"}, "address must be like"),
        ({"url": "http://admin:secret@10.0.0.1"}, "a login: RIGBENCH_WALL_LOGIN"),
        ({"url": "192.168.1.20", "preset": "fritz"}, "'fritz' is not known; use one of shelly, "),
        ({"url": "192.168.1.20", "path": "a", "unit": "hp"}, "'hp' is not known; use one of W, mW, kW"),
    ],
)
def test_wrong_options(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(**arguments)


@pytest.mark.parametrize(
    ("preset", "path", "answer", "watts", "joules"),
    [
        ("shelly-pm1", "/rpc/PM1.GetStatus?id=0", {"apower": 61.2, "aenergy": {"total": 10.5}}, 61.2, 10.5 * 3600),
        ("shelly-em1", "/rpc/EM1.GetStatus?id=0", {"act_power": 805.0, "aprt_power": 820.1}, 805.0, None),
        # The first generation counts watt-minutes, but its energy meters watt-hours.
        ("shelly-gen1", "/status", {"meters": [{"power": 22.5, "is_valid": True, "total": 4212}]}, 22.5, 4212 * 60.0),
        ("shelly-gen1-em", "/status", {"emeters": [{"power": 431.0, "total": 83412.2}]}, 431.0, 83412.2 * 3600),
    ],
)
def test_the_other_shellys(
    preset: str, path: str, answer: object, watts: float, joules: float | None, meter: Meter
) -> None:
    meter.answer = answer
    source = opened(meter.url, preset=preset)
    assert source.read(source.metrics) == [pytest.approx(value) for value in (watts, joules) if value is not None]
    assert meter.paths == [path]


def test_a_digest_login(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    meter.password = "open sesame"
    assert opened(meter.url).read(opened(meter.url).metrics)[0] == Missing("the meter answered HTTP 401", "denied")
    monkeypatch.setenv("RIGBENCH_WALL_LOGIN", "admin:wrong")
    assert opened(meter.url).read(opened(meter.url).metrics)[0] == Missing("the meter answered HTTP 401", "denied")
    monkeypatch.setenv("RIGBENCH_WALL_LOGIN", "admin:open sesame")
    source = opened(meter.url)
    assert [source.read(source.metrics)[0] for _ in range(8)] == [
        431.5
    ] * 8  # each time anew: no count of tries adds up
    assert "sesame" not in repr((source.metrics, source.probe(), source.read(source.metrics)))


HOME_ASSISTANT = {
    "entity_id": "sensor.rig_power",
    "state": "0.4315",
    "attributes": {"state_class": "measurement", "unit_of_measurement": "kW", "device_class": "power"},
    "last_updated": "2026-01-01T00:00:00+00:00",
}


def test_home_assistant(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    meter.answer, meter.header = HOME_ASSISTANT, ("Authorization", "Bearer abc.def")
    address = meter.url + "/api/states/sensor.rig_power"
    assert opened(address, preset="home-assistant").probe().reason == "the meter answered HTTP 401"
    monkeypatch.setenv("RIGBENCH_WALL_HEADER", "Authorization: Bearer abc.def")
    source = opened(address, preset="home-assistant")
    assert source.read(source.metrics) == [pytest.approx(431.5)]  # it says kW itself
    for state, unit, reason in [
        ("unavailable", "W", "state of the meter's answer is not a number"),
        ("12.5", "kWh", "the meter's answer is in a unit that is not one of power"),
        ("12.5", None, "the meter's answer is in a unit that is not one of power"),
    ]:
        meter.answer = HOME_ASSISTANT | {"state": state, "attributes": {"unit_of_measurement": unit}}
        assert source.read(source.metrics) == [Missing(reason)]
    (metric,) = source.metrics
    assert metric.period_s == 30 and source.limits(metric.device).min_s == 180  # it polls the meter, and not often


def test_a_redirect_does_not_take_the_key_along(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIGBENCH_WALL_HEADER", "Authorization: Bearer abc.def")
    keys: list[str | None] = []

    class Away(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers.get("Authorization"))
            if self.path == "/":
                self.send_response(302)
                self.send_header("Location", "/elsewhere")
            else:
                self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Away) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        source = opened(f"http://127.0.0.1:{server.server_port}", path="power")
        source.read(source.metrics)
        server.shutdown()
    assert keys == ["Bearer abc.def", None]


class Upsd(socketserver.StreamRequestHandler):
    """A server of Network UPS Tools, as its developer guide has the protocol."""

    supplies: ClassVar[dict[str, dict[str, str]]] = {}

    def handle(self) -> None:
        for line in self.rfile:
            match line.decode().split():
                case ["LIST", "UPS"]:
                    names = "".join(f'UPS {name} "of the test"\n' for name in self.supplies)
                    answer = f"BEGIN LIST UPS\n{names}END LIST UPS\n"
                case ["GET", "VAR", name, _] if name not in self.supplies:
                    answer = "ERR UNKNOWN-UPS\n"
                case ["GET", "VAR", name, variable] if variable in self.supplies[name]:
                    answer = f'VAR {name} {variable} "{self.supplies[name][variable]}"\n'
                case ["GET", "VAR", *_]:
                    answer = "ERR VAR-NOT-SUPPORTED\n"
                case ["LOGOUT"]:
                    self.wfile.write(b"OK Goodbye\n")
                    return
                case _:
                    answer = "ERR UNKNOWN-COMMAND\n"
            self.wfile.write(answer.encode())


@pytest.mark.parametrize(
    ("supplies", "name", "reading"),
    [
        ({"desk": {"ups.realpower": "431"}}, "", 431.0),
        ({"desk": {"ups.realpower": "431"}, "nas": {"ups.realpower": "22.5"}}, "nas@", 22.5),
        (
            {"desk": {}, "nas": {}},
            "",
            Missing("the UPS server has 2 supplies: put the name before the address, NAME@HOST"),
        ),
        ({"desk": {"ups.load": "31"}}, "", Missing("this UPS does not tell ups.realpower")),
        ({"desk": {}}, "other@", Missing("the UPS server says UNKNOWN-UPS")),
        ({}, "", Missing("the UPS server has 0 supplies: put the name before the address, NAME@HOST")),
    ],
)
def test_a_supply_behind_nut(
    supplies: dict[str, dict[str, str]], name: str, reading: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Upsd, "supplies", supplies)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Upsd) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        source = opened(f"{name}127.0.0.1:{server.server_address[1]}", preset="nut")
        assert source.read(source.metrics) == [reading]
        server.shutdown()
    (answer,) = source.read(source.metrics)
    assert isinstance(answer, Missing)


class Kasa(asyncio.DatagramProtocol):
    """A plug of TP-Link's first protocol: JSON behind four bytes of length, each byte exclusive-or'd with the one before it."""

    system: ClassVar[dict[str, Any]] = {
        "sw_ver": "1.5.6 Build 191125 Rel.083657",
        "hw_ver": "2.0",
        "type": "IOT.SMARTPLUGSWITCH",
        "model": "HS110(EU)",
        "mac": "00:00:00:00:00:00",
        "deviceId": "0" * 40,
        "oemId": "0" * 32,
        "hwId": "0" * 32,
        "alias": "rig",
        "dev_name": "Smart Wi-Fi Plug With Energy Monitoring",
        "relay_state": 1,
        "on_time": 10,
        "active_mode": "none",
        "feature": "TIM:ENE",
        "updating": 0,
        "rssi": -50,
        "led_off": 0,
        "longitude_i": 0,
        "latitude_i": 0,
        "err_code": 0,
    }

    def __init__(self, measures: bool = True) -> None:
        self.measures = measures

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while size := await reader.read(4):
            query = json.loads(self.crypt(await reader.readexactly(int.from_bytes(size, "big")), encrypt=False))
            body = self.crypt(
                json.dumps({module: self.answer(module, what) for module, what in query.items()}).encode()
            )
            writer.write(len(body).to_bytes(4, "big") + body)
            await writer.drain()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        """Discovery: the same without the length."""
        answer = {"system": self.answer("system", {"get_sysinfo": {}})}
        self.transport.sendto(self.crypt(json.dumps(answer).encode()), address)

    def answer(self, module: str, what: dict[str, Any]) -> dict[str, Any]:
        realtime = {"voltage_mv": 231900, "current_ma": 1910, "power_mw": 431500, "total_wh": 7190, "err_code": 0}
        if "get_sysinfo" in what:
            return {"get_sysinfo": self.system | ({} if self.measures else {"feature": "TIM", "model": "HS100(EU)"})}
        if "get_timezone" in what:
            clock = {"year": 2026, "month": 1, "mday": 2, "hour": 3, "min": 4, "sec": 5, "err_code": 0}
            return {name: clock if name == "get_time" else {"index": 39, "err_code": 0} for name in what}
        if "get_realtime" in what and self.measures:
            return {
                name: realtime if name == "get_realtime" else {"err_code": 0, "day_list": [], "month_list": []}
                for name in what
            }
        return {name: {"err_code": -1, "err_msg": "module not support"} for name in what}

    @staticmethod
    def crypt(data: bytes, encrypt: bool = True) -> bytes:
        key, result = 171, bytearray()
        for byte in data:
            result.append(key ^ byte)
            key = result[-1] if encrypt else byte
        return bytes(result)


@pytest.fixture
def kasa_plug() -> Iterator[Callable[[bool], int]]:
    """Starts a plug; its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def start(measures: bool) -> int:
        async def serve() -> int:
            plug = Kasa(measures)
            server = await asyncio.start_server(plug, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            await loop.create_datagram_endpoint(lambda: plug, local_addr=address)
            return int(address[1])

        return asyncio.run_coroutine_threadsafe(serve(), loop).result(10)

    yield start
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def test_a_plug_of_tp_link(kasa_plug: Callable[[bool], int]) -> None:
    pytest.importorskip("kasa")
    source = opened(f"127.0.0.1:{kasa_plug(True)}", preset="kasa")
    assert [source.read(source.metrics) for _ in range(3)] == [[431.5]] * 3
    source.close()
    source = opened(f"127.0.0.1:{kasa_plug(False)}", preset="kasa")
    assert source.read(source.metrics) == [Missing("this plug does not measure power")]
    source.close()


def test_a_plug_without_its_library_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kasa", None)
    source = opened("127.0.0.1:9", preset="kasa")
    assert source.read(source.metrics) == [Missing("python-kasa is not installed; pip install 'rigbench[kasa]'")]
    source.close()
