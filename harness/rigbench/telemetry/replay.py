"""Recorded readings played again: the same code from source to result, on a machine without the hardware.

The file is JSON: a list of Series as in a result document, or {"readings": [...]} (one case of one). Time counts from
the first reading asked for; what was recorded there is answered until the next one; before the first and after the
last there is nothing.

    rigbench run smoke --replay recorded.json
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from rigbench.clock import Clock, now_ns
from rigbench.errors import InputError
from rigbench.records import Series
from rigbench.telemetry.base import Metric, Missing, Reading, Source


class ReplaySource(Source):
    """Plays `recorded` from its first reading on."""

    name = "replay"

    def __init__(self, recorded: Sequence[Series], clock: Clock = now_ns) -> None:
        self._clock = clock
        self._start_ns: int | None = None
        self._first_us = min((series.time_us[0] for series in recorded if series.time_us), default=0)
        self._series = {_metric(series): series for series in recorded}
        self.metrics = tuple(self._series)
        self.devices = tuple(sorted({metric.device for metric in self.metrics if metric.device}))

    @classmethod
    def load(cls, path: str) -> ReplaySource:
        """Raises InputError where the file is missing or holds no readings."""
        try:
            content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
            rows = content["readings"] if isinstance(content, dict) else content
            recorded = [Series(**row | {name: tuple(row[name]) for name in ("time_us", "values")}) for row in rows]
        except OSError as error:
            raise InputError(f"the recording {path} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            fault = "it must hold a JSON list of readings as in a result document"
            raise InputError(f"{path} is no recording: {fault}") from None
        if not recorded or any(len(each.time_us) != len(each.values) for each in recorded):
            raise InputError(f"{path} is no recording: it holds no readings, or times and values of unequal number")
        return cls(recorded)

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        now = self._clock()
        if self._start_ns is None:
            self._start_ns = now
        at_us = self._first_us + (now - self._start_ns) // 1000
        return [_at(self._series[metric], at_us) for metric in metrics]


def _metric(series: Series) -> Metric:
    gaps = [later - earlier for earlier, later in pairwise(series.time_us)]
    period_s = median(gaps) * 1e-6 if gaps else None
    status = series.status if not series.time_us or series.status == "low_confidence" else "ok"
    api, own = f"recorded from {series.source}: {series.api}", (series.scope, series.method)
    return Metric(series.name, series.unit, api, *own, period_s, series.device, status, series.reason)


def _at(series: Series, at_us: int) -> Reading:
    index = bisect_right(series.time_us, at_us) - 1
    if index < 0:
        return Missing("the recording has not begun")
    if index == len(series.time_us) - 1 and at_us > series.time_us[index]:
        return Missing("the recording is over")
    value = series.values[index]
    return Missing("the recording has no reading here") if value is None else value
