"""Where rigbench's own files and the user's caches are."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

PACKAGE_ROOT = Path(__file__).resolve().parent


def configs_dir() -> Path:
    """The data that rigbench ships: `configs/` of the checkout, or its copy inside an installed wheel."""
    checkout = PACKAGE_ROOT.parent.parent / "configs"
    return checkout if checkout.is_dir() else PACKAGE_ROOT / "_configs"


def cache_dir() -> Path:
    """Models and measured bandwidths. `RIGBENCH_CACHE` overrides the platform's own place."""
    override = os.environ.get("RIGBENCH_CACHE")
    if override:
        return Path(override).expanduser()
    import platformdirs  # here, because only few commands need it and `--help` must stay quick

    return Path(platformdirs.user_cache_dir("rigbench", appauthor=False))


def slug(text: str) -> str:
    """Safe in a file name on every system."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "unknown"


def file_stem(machine_id: str, created_utc: str, suite: str) -> Path:
    """`<machine>/<utc>-<suite>`, without the id, which is known only at the end."""
    return Path(slug(machine_id)) / f"{re.sub('[^0-9TZ]', '', created_utc)}-{slug(suite)}"


def read_json(path: Path) -> dict[str, Any]:
    """The table in a file of a cache, which may be lost or damaged at any time: it is empty then."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A file of a cache, whole or not at all: one that cannot be written costs time, not the answer."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
