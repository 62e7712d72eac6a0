"""What was measured before, on this very device: a swapped card does not keep its predecessor's figure, nor does a figure stay
for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path

from rigbench.clock import utc_now
from rigbench.paths import cache_dir, read_json, write_json
from rigbench.records import Bandwidth

KEPT_FOR = timedelta(days=30)


def kept(
    device: str,
    identity: object,
    measure: Callable[[], Bandwidth],
    *,
    again: bool = False,
    path: Path | None = None,
    now: Callable[[], str] = utc_now,
) -> Bandwidth:
    """The bandwidth of `device`: as measured in the last 30 days on the hardware that `identity` describes, else measured now and
    kept. `again` measures in any case. Of the identity only a hash is written.

    The file (cache_dir()/bandwidth.json) may be lost or unreadable at any time: it is then measured and written anew.
    What could not be measured is not kept.
    """
    path = path or cache_dir() / "bandwidth.json"
    place = f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:16]}/{device}"
    known = read_json(path)
    if not again:
        try:
            # Files of older versions name the device otherwise (cuda:0): what it is kept under counts.
            figure = Bandwidth(**{**known[place], "device": device})
            if datetime.fromisoformat(now()) - datetime.fromisoformat(figure.detail["measured_utc"]) < KEPT_FOR:
                return figure
        except (KeyError, TypeError, ValueError):  # not there, or written by another version of rigbench
            pass
    figure = measure()
    if figure.read_bytes_per_s is not None:
        figure = replace(figure, detail={**figure.detail, "measured_utc": now()})
        write_json(path, {**known, place: asdict(figure)})
    return figure
