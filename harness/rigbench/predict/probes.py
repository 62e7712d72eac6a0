"""Probes of this machine, kept for the very device and engine that they are of.

What was kept for another device, by another backend, or more than 90 days ago is not used; each answer that a probe moves says
which one, of which day, with which engine.

    rigbench predict --probe
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rigbench import ceilings
from rigbench.ceilings import figure
from rigbench.clock import utc_now
from rigbench.errors import InputError, UnavailableError
from rigbench.paths import cache_dir, read_json, write_json
from rigbench.predict.calibrate import KEPT_FOR, Probe, fitted, measured_rows, probe_of
from rigbench.predict.roofline import constants
from rigbench.records import RunDocument


def fit(document: RunDocument) -> Probe:
    """What a document of the suite says of its machine. UnavailableError where nothing of it was measured."""
    try:
        logs, spread, rows = fitted(constants(), measured_rows(document, flagged=True))
    except InputError:
        raise UnavailableError("the probe has no measured speed: see rigbench run probe") from None
    case = next(result for result in document.cases if result.engine is not None)
    info = document.engines[case.engine or 0]
    engine = info.version if info.version[:1].isalpha() else f"{info.engine} {info.version}"
    factors = {name: round(math.exp(log), 4) for name, log in logs.items()}
    utc, backend = document.created_utc, case.case.backend
    probe = Probe(utc, backend, info.device, engine, rows, round(spread, 4), factors)
    if probe_of(asdict(probe)) is None:
        name = max(factors, key=lambda each: abs(math.log(factors[each])))
        raise UnavailableError(
            f"what the probe found is of no machine ({name} x{factors[name]:.3g}, {spread:.0%} left over): "
            "end other programs and probe again"
        )
    return probe


def save(probe: Probe, python: str = sys.executable) -> None:
    """From now on it is this machine's for its device and backend."""
    path, place = _place(probe.device, probe.backend, python)
    write_json(path, {**read_json(path), place: asdict(probe)})


def load(device: str, backend: str, python: str = sys.executable, now: Callable[[], str] = utc_now) -> Probe | None:
    """The probe of this machine's device by that backend; None where there is none, or only an old one."""
    path, place = _place(device, backend, python)
    probe = probe_of(read_json(path).get(place))
    if probe is None or datetime.fromisoformat(now()) - datetime.fromisoformat(probe.utc) > KEPT_FOR:
        return None
    return probe


def _place(device: str, backend: str, python: str) -> tuple[Path, str]:
    return cache_dir() / "probe.json", f"{figure.place_of(device, ceilings.identity(device, python))}/{backend}"
