"""A wall meter behind HTTP: the only scope that is fair across vendors, because nothing inside the machine is left out.

Any meter that answers a GET with JSON will do: its address, where the watts are (`StatusSNS.ENERGY.Power`,
`meters.0.power`), and their unit. Presets know Shelly's second generation (`apower` W, `aenergy.total` Wh) and
Tasmota. Read once a second, never written to. The address is the user's own: it is in no reading, reason or document.

    rigbench watch --wall-url http://192.168.1.20 --wall-meter shelly
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any, NamedTuple

from rigbench.errors import InputError
from rigbench.telemetry import base
from rigbench.telemetry.base import Limits, Metric, Missing, Reading, Source, SourceOptions
from rigbench_backends.base import Probe

TIMEOUT_S = 0.9
MAX_ANSWER_BYTES = 64 * 1024
WATTS = {"W": 1.0, "mW": 1e-3, "kW": 1e3}


class Meter(NamedTuple):
    """A kind of meter: the path of its answer, and where in the JSON its W and J are, with what makes them W and J."""

    path: str
    power: str
    power_scale: float = 1.0
    energy: str | None = None
    energy_scale: float = 3600.0  # of watt-hours


PRESETS = {
    "shelly": Meter("/rpc/Switch.GetStatus?id=0", "apower", energy="aenergy.total"),
    "tasmota": Meter("/cm?cmnd=Status%208", "StatusSNS.ENERGY.Power"),
}
"""Tasmota's own total is in steps of 1 Wh (3600 J) or coarser: of no use for the energy of a window."""


class WallSource(Source):
    """One meter."""

    name = "wall"
    scope = "wall"
    idle_s = 62.0

    def __init__(self, url: str, meter: Meter, api: str, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._timeout_s = timeout_s
        # A meter stands in the local network: a proxy from the environment would never reach it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        power = Metric(*base.POWER, api, "wall", "sampled", base.SLOW_PERIOD_S)
        self._places = {power: (meter.power, meter.power_scale)}
        if meter.energy is not None:
            energy = Metric(*base.ENERGY, api, "wall", "counter", base.SLOW_PERIOD_S)
            self._places[energy] = (meter.energy, meter.energy_scale)
        self.metrics = tuple(self._places)

    @classmethod
    def open(cls, options: SourceOptions) -> Source | None:
        """The meter at `wall_url`, where one is given. With `wall_path` any meter: the JSON path of its power, in `wall_unit`
        times `wall_scale`; with a preset the address alone is enough (`192.168.1.20`).

        Raises InputError for what is not an address, a preset or a unit.
        """
        url, preset, path, unit = options.wall_url, options.wall_preset, options.wall_path, options.wall_unit
        if not url:
            return None
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError("the wall meter's address must be like http://192.168.1.20 or 192.168.1.20")
        if unit not in WATTS:
            raise InputError(f"the wall meter's unit {unit!r} is not known; use one of {', '.join(WATTS)}")
        if path is not None:
            return cls(parts.geturl(), Meter("/", path, WATTS[unit] * options.wall_scale), "HTTP JSON")
        if preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise InputError(f"the wall meter's preset {preset!r} is not known; use one of {known}, or a JSON path")
        meter = PRESETS[preset]
        bare = parts.path in ("", "/") and not parts.query
        return cls(f"{parts.scheme}://{parts.netloc}{meter.path}" if bare else parts.geturl(), meter, f"{preset} HTTP")

    @classmethod
    def limits(cls, device: str | None) -> Limits:
        """A plug reads once a second and smooths."""
        return Limits(60.0, 60.0, 0.05)

    def probe(self) -> Probe:
        power = self.read(self.metrics[:1])[0]
        if isinstance(power, Missing):
            return Probe(False, reason=power.reason, fix="check the meter's address, preset and JSON path")
        return Probe(True, devices=("wall meter",))

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        answer = self._fetch()
        if isinstance(answer, Missing):
            return [answer] * len(metrics)
        return [number_at(answer, *self._places[metric]) for metric in metrics]

    def close(self) -> None:
        self._opener.close()

    def _fetch(self) -> object:
        """The meter's answer, or Missing. No error text of the library is passed on: it can hold the address."""
        try:
            with self._opener.open(self._url, timeout=self._timeout_s) as answer:
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


def number_at(content: object, path: str, scale: float = 1.0) -> Reading:
    """`scale` times the number at a path of names and list positions, `a.0.b`; text that is a number counts as one."""
    at: Any = content
    for step in path.split("."):
        try:
            at = at[int(step)] if isinstance(at, list) else at[step]
        except (KeyError, IndexError, TypeError, ValueError):
            return Missing(f"the meter's answer has no {path}")
    try:
        number = math.nan if isinstance(at, bool) else float(at)
    except (TypeError, ValueError):
        number = math.nan
    return number * scale if math.isfinite(number) else Missing(f"{path} of the meter's answer is not a number")
