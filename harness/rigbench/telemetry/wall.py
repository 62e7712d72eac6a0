"""A wall meter: the only scope that is fair across vendors, because nothing inside the machine is left out.

Any meter that answers a GET with JSON will do: its address, where the watts are (`StatusSNS.ENERGY.Power`,
`meters.0.power`), and their unit. Presets know Shelly's generations, Tasmota, Home Assistant's states, and two
that speak otherwise: TP-Link's plugs (kasa_plug.py) and supplies behind NUT (nut.py). Never written to. The address is the
user's own: it is in no reading, reason or document. A login comes from the environment, so that no list of processes shows it:
RIGBENCH_WALL_LOGIN (`admin:password`, basic or digest), RIGBENCH_WALL_HEADER (`Authorization: Bearer ...`).

    rigbench watch --wall-url 192.168.1.20 --wall-meter shelly
    rigbench watch --wall-url http://homeassistant.local:8123/api/states/sensor.plug_power --wall-meter home-assistant
    rigbench watch --wall-url myups@localhost --wall-meter nut
"""

from __future__ import annotations

import hashlib
import http.client
import json
import math
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from rigbench.errors import InputError
from rigbench.telemetry import base, nut
from rigbench.telemetry.base import Limits, Metric, Missing, Reading, Source, SourceOptions
from rigbench.telemetry.kasa_plug import Plug
from rigbench_backends.base import Probe

TIMEOUT_S = 0.9
MAX_ANSWER_BYTES = 64 * 1024
WATTS = {"W": 1.0, "mW": 1e-3, "kW": 1e3}
POLLED, POLLED_S = "polled", 30.0
"""The device of what is itself polled by something that polls slowly (the watts behind NUT every 30 s, Home Assistant's
integrations alike)."""
HOW = "name one with --wall-url ADDRESS --wall-meter NAME; its login in RIGBENCH_WALL_LOGIN or RIGBENCH_WALL_HEADER"


class Meter(NamedTuple):
    """A kind of meter: the path of its answer, and where in the JSON its W and J are, with what makes them W and J.
    `unit`: where the answer itself names the unit of its power. `polled`: it has a new value only every some seconds."""

    path: str
    power: str
    power_scale: float = 1.0
    energy: str | None = None
    energy_scale: float = 3600.0  # of watt-hours
    unit: str | None = None
    polled: bool = False


PRESETS = {
    "shelly": Meter("/rpc/Switch.GetStatus?id=0", "apower", energy="aenergy.total"),
    "shelly-pm1": Meter("/rpc/PM1.GetStatus?id=0", "apower", energy="aenergy.total"),
    "shelly-em1": Meter("/rpc/EM1.GetStatus?id=0", "act_power"),
    "shelly-gen1": Meter("/status", "meters.0.power", energy="meters.0.total", energy_scale=60.0),  # watt-minutes
    "shelly-gen1-em": Meter("/status", "emeters.0.power", energy="emeters.0.total"),
    "tasmota": Meter("/cm?cmnd=Status%208", "StatusSNS.ENERGY.Power"),
    "home-assistant": Meter("", "state", unit="attributes.unit_of_measurement", polled=True),
    "kasa": Meter("", "power"),
    "nut": Meter("", "power", polled=True),
}
"""Tasmota's own total is in steps of 1 Wh (3600 J) or coarser: of no use for the energy of a window."""


class Digest(urllib.request.HTTPDigestAuthHandler):
    """A digest login with SHA-256, too, which Shelly's second generation wants (RFC 7616) and Python has since 3.14 only."""

    def get_algorithm_impls(self, algorithm: str) -> Any:
        """(hash of a text, hash of secret and data)."""
        if algorithm != "SHA-256":
            return super().get_algorithm_impls(algorithm)

        def digest(text: str) -> str:
            return hashlib.sha256(text.encode()).hexdigest()

        return digest, lambda secret, data: digest(f"{secret}:{data}")


class Basic(urllib.request.HTTPBasicAuthHandler):
    """A basic login; Python's own raises ValueError where another kind is wanted."""

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """The answer to a second try; None where it would be no better."""
        basic = headers.get("WWW-Authenticate", "").lower().startswith("basic")
        return super().http_error_401(req, fp, code, msg, headers) if basic else None


class Page:
    """JSON at an address; an instance is called for it."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._request = urllib.request.Request(url)
        name, _, value = os.environ.get("RIGBENCH_WALL_HEADER", "").partition(":")
        if name.strip() and value.strip():
            self._request.add_unredirected_header(name.strip(), value.strip())
        logins = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if (own := login()) is not None:
            logins.add_password(None, url, *own)
        # A meter stands in the local network: a proxy from the environment would never reach it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Digest(logins), Basic(logins))

    def __call__(self) -> object:
        """The meter's answer, or Missing. No error text of the library is passed on: it can hold the address."""
        try:
            with self._opener.open(self._request, timeout=self._timeout_s) as answer:
                return json.loads(answer.read(MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            error.close()
            denied = error.code in (401, 403)
            return Missing(f"the meter answered HTTP {error.code}", "denied" if denied else "unavailable")
        except (TimeoutError, urllib.error.URLError) as error:
            if isinstance(getattr(error, "reason", error), TimeoutError):
                return Missing(f"the meter did not answer within {self._timeout_s:g} s")
            return Missing("the meter cannot be reached")
        except (OSError, http.client.HTTPException):
            return Missing("the connection to the meter broke")
        except ValueError:
            return Missing("the meter's answer is not JSON")

    def close(self) -> None:
        """Let go of the connection."""
        self._opener.close()


def login() -> tuple[str, str] | None:
    """User and password of RIGBENCH_WALL_LOGIN."""
    user, _, password = os.environ.get("RIGBENCH_WALL_LOGIN", "").partition(":")
    return (user, password) if user else None


class WallSource(Source):
    """One meter."""

    name = "wall"
    scope = "wall"
    idle_s = 62.0

    def __init__(self, ask: Callable[[], object], meter: Meter, api: str) -> None:
        self._ask, self._meter = ask, meter
        period_s, device = (POLLED_S, POLLED) if meter.polled else (base.SLOW_PERIOD_S, None)
        power = Metric(*base.POWER, api, "wall", "sampled", period_s, device, published_s=period_s)
        self._places = {power: (meter.power, meter.power_scale)}
        if meter.energy is not None:
            energy = Metric(*base.ENERGY, api, "wall", "counter", period_s, device)
            self._places[energy] = (meter.energy, meter.energy_scale)
        self.metrics = tuple(self._places)
        if meter.polled:
            self.idle_s = 182.0  # type: ignore[misc]  # of this meter

    @classmethod
    def open(cls, options: SourceOptions) -> Source | None:
        """The meter at `wall_url`, where one is given. With `wall_path` any meter: the JSON path of its power, in `wall_unit`
        times `wall_scale`; with a preset the address alone is enough (`192.168.1.20`).

        Raises InputError for what is not an address, a preset or a unit.
        """
        url, preset, path, unit = options.wall_url, options.wall_preset, options.wall_path, options.wall_unit
        if not url:
            return None
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in ("http", "https") or (parts.username and preset != "nut"):
            raise InputError(
                "the wall meter's address must be like http://192.168.1.20 or 192.168.1.20; a login: RIGBENCH_WALL_LOGIN"
            )
        if unit not in WATTS:
            raise InputError(f"the wall meter's unit {unit!r} is not known; use one of {', '.join(WATTS)}")
        if path is not None:
            return cls(Page(parts.geturl()), Meter("/", path, WATTS[unit] * options.wall_scale), "HTTP JSON")
        if preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise InputError(f"the wall meter's preset {preset!r} is not known; use one of {known}, or a JSON path")
        meter = PRESETS[preset]
        if preset == "nut":
            return cls(partial(nut.read, host, port or nut.PORT, parts.username, TIMEOUT_S), meter, "NUT ups.realpower")
        if preset == "kasa":
            return cls(Plug(host, port, login()), meter, "python-kasa")
        bare = parts.path in ("", "/") and not parts.query
        return cls(
            Page(f"{parts.scheme}://{parts.netloc}{meter.path}" if bare else parts.geturl()), meter, f"{preset} HTTP"
        )

    @classmethod
    def limits(cls, device: str | None) -> Limits:
        """A plug reads once a second and smooths."""
        return Limits(180.0, 600.0, 0.05) if device == POLLED else Limits(60.0, 60.0, 0.05)

    def probe(self) -> Probe:
        power = self.read(self.metrics[:1])[0]
        if isinstance(power, Missing):
            return Probe(False, reason=power.reason, fix="check the meter's address, preset and JSON path")
        return Probe(True, devices=("wall meter",))

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        answer = self._ask()
        if isinstance(answer, Missing):
            return [answer] * len(metrics)
        scale = 1.0 if self._meter.unit is None else _scale_at(answer, self._meter.unit)
        if isinstance(scale, Missing):
            return [scale] * len(metrics)
        return [number_at(answer, place, own * scale) for place, own in map(self._places.__getitem__, metrics)]

    def close(self) -> None:
        if isinstance(self._ask, (Page, Plug)):
            self._ask.close()


def _at(content: object, path: str) -> Any:
    """What is at a path of names and list positions, `a.0.b`; Missing where nothing is."""
    at: Any = content
    for step in path.split("."):
        try:
            at = at[int(step)] if isinstance(at, list) else at[step]
        except (KeyError, IndexError, TypeError, ValueError):
            return Missing(f"the meter's answer has no {path}")
    return at


def _scale_at(content: object, path: str) -> Reading:
    """What makes watts of the unit that an answer names."""
    unit = _at(content, path)
    if isinstance(unit, Missing) or unit in WATTS:
        return unit if isinstance(unit, Missing) else WATTS[unit]
    return Missing("the meter's answer is in a unit that is not one of power")


def number_at(content: object, path: str, scale: float = 1.0) -> Reading:
    """`scale` times the number at a path; text that is a number counts as one."""
    at = _at(content, path)
    if isinstance(at, Missing):
        return at
    try:
        number = math.nan if isinstance(at, bool) else float(at)
    except (TypeError, ValueError):
        number = math.nan
    return number * scale if math.isfinite(number) else Missing(f"{path} of the meter's answer is not a number")
