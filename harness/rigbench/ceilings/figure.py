"""From samples to a figure, by one rule for every device; and figures of before, of this very device: a swapped card does not keep
its predecessor's, nor is one kept for ever."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from rigbench.clock import utc_now
from rigbench.paths import cache_dir, read_json, write_json
from rigbench.records import Arithmetic, Bandwidth

Figure = TypeVar("Figure", Bandwidth, Arithmetic)
KEPT_FOR = timedelta(days=30)
BUSY = 0.25
"""With more of the processor in use by others, a bandwidth is not the machine's."""


def figure(
    device: str,
    reads: Sequence[float],
    copies: Sequence[float] = (),
    *,
    source: str,
    array_bytes: int,
    threads: int | None = None,
    reason: str | None = None,
    **detail: Any,
) -> Bandwidth:
    """The best sample is the ceiling: what disturbs a machine only slows it. The medians beside it say how restless it is."""
    detail |= {"read_median_bytes_per_s": statistics.median(reads), "array_bytes": array_bytes}
    if copies:
        detail["copy_median_bytes_per_s"] = statistics.median(copies)
        source += "; copy counts bytes read and written"
    return Bandwidth(device, max(reads), max(copies, default=None), "measured", source, threads, reason, detail)


def place_of(device: str, identity: object) -> str:
    """The key of what is kept for this machine's device: of what tells it from others only a hash is written."""
    return f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:16]}/{device}"


def cached(
    device: str,
    identity: object,
    measure: Callable[[], Figure],
    kind: type[Figure] = Bandwidth,  # type: ignore[assignment]  # mypy knows no default of a type variable
    *,
    again: bool = False,
    quiet: Callable[[], bool] = lambda: False,
    path: Path | None = None,
    now: Callable[[], str] = utc_now,
) -> Figure:
    """The figure of `device` of that kind: as measured in the last 30 days on the hardware that `identity` describes, else measured
    now and kept. `again` measures in any case, and a figure of a busy machine is measured again where it is `quiet` now. Of the
    identity only a hash is written.

    The file (cache_dir()/bandwidth.json) may be lost or unreadable at any time: it is then measured and written anew.
    What could not be measured is not kept.
    """
    path = path or cache_dir() / f"{kind.__name__.lower()}.json"
    place = place_of(device, identity)
    record = read_json(path)
    if not again:
        try:
            # Files of older versions name the device otherwise (cuda:0): what it is kept under counts.
            old = kind(**{**record[place], "device": device})
            young = datetime.fromisoformat(now()) - datetime.fromisoformat(old.detail["measured_utc"]) < KEPT_FOR
            if young and not ("busy_share" in old.detail and quiet()):
                return old
        except (KeyError, TypeError, ValueError):  # not there, or written by another version of rigbench
            pass
    figure = measure()
    if figure.known:
        figure = replace(figure, detail={**figure.detail, "measured_utc": now()})
        write_json(path, {**record, place: asdict(figure)})
    return figure


def busy_share() -> float:
    """The share of all cores that other programs hold while this process waits; 0 where it is too small to matter."""
    import psutil

    share = psutil.cpu_percent(interval=0.3) / 100
    return round(share, 2) if share > BUSY else 0.0
