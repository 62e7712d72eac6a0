"""What was measured before, on this very device: a swapped card does not keep its predecessor's figure, nor does a figure stay
for ever."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rigbench.clock import utc_now
from rigbench.paths import cache_dir
from rigbench.records import Bandwidth

KEPT_FOR = timedelta(days=30)
BUSY = 0.25
"""With more of the processor in use by others, a bandwidth is not the machine's."""


def kept(
    device: str,
    identity: object,
    measure: Callable[[], Bandwidth],
    *,
    again: bool = False,
    quiet: Callable[[], bool] = lambda: False,
    path: Path | None = None,
    now: Callable[[], str] = utc_now,
) -> Bandwidth:
    """The bandwidth of `device`: as measured in the last 30 days on the hardware that `identity` describes, else measured now and
    kept. `again` measures in any case, and a figure of a busy machine is measured again where it is `quiet` now. Of the identity
    only a hash is written.

    The file (cache_dir()/bandwidth.json) may be lost or unreadable at any time: it is then measured and written anew.
    What could not be measured is not kept.
    """
    path = path or cache_dir() / "bandwidth.json"
    place = f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:16]}/{device}"
    known = _load(path)
    if not again:
        try:
            # Files of older versions name the device otherwise (cuda:0): what it is kept under counts.
            found = Bandwidth(**{**known[place], "device": device})
            young = datetime.fromisoformat(now()) - datetime.fromisoformat(found.detail["measured_utc"]) < KEPT_FOR
            if young and not ("busy_share" in found.detail and quiet()):
                return found
        except (KeyError, TypeError, ValueError):  # not there, or written by another version of rigbench
            pass
    found = measure()
    if found.read_bytes_per_s is None:
        return found
    found = replace(found, detail={**found.detail, "measured_utc": now()})
    _save(path, {**known, place: asdict(found)})
    return found


def busy_share() -> float:
    """The share of all cores that other programs hold while this process waits; 0 where it is too small to matter."""
    import psutil

    share = psutil.cpu_percent(interval=0.3) / 100
    return round(share, 2) if share > BUSY else 0.0


def _load(path: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _save(path: Path, known: dict[str, dict[str, Any]]) -> None:
    """Whole or not at all; a cache that cannot be written is no reason to fail."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known, indent=1), encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
