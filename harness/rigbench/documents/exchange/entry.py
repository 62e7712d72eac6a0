"""What the readers of other tools' files share: an object of the file with its types checked, and the figure they make of it.

A reader takes an `Entry` and yields a `Figure` for each test in it, or a sentence for what it leaves out. A figure becomes a case,
and `importing` puts those of one machine, build, version and day into one document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rigbench.errors import InputError
from rigbench.text import last_part, printable
from rigbench.workloads import Generation
from rigbench_backends.base import EngineInfo

TEXT_LETTERS = 200
LARGEST = 1e24
UNKNOWN = "unknown"
MOST_SETTINGS, MOST_NODES = 200, 5000
_PRIVATE = re.compile(
    r"(^|[._])(api_?keys?|headers?|authorization|cookies?|secrets?|password|urls?|target|hosts?)$", re.IGNORECASE
)
"""Settings that may say whose server it is, or open it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One test of the file: what ran, with which settings, and its metrics, one number per repetition.

    `created_utc`, `machine` and the like are '' where the file does not tell. `note` is a sentence about the whole document,
    `definitions` say what a metric is where it is not ours.
    """

    tool: str
    backend: str
    model: str
    workload: Generation
    users: int
    requests: int
    options: dict[str, Any]
    engine: EngineInfo
    metrics: dict[str, list[float]]
    seconds: float
    created_utc: str = ""
    machine: str = ""
    cpu: str = ""
    gpu: str = ""
    duration_s: float | None = None
    note: str | None = None
    tool_version: str = ""
    definitions: dict[str, str] = field(default_factory=dict)
    distinction: dict[str, Any] = field(default_factory=dict)
    """Beside the options: what makes it another case."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that makes it another case, but for what the workload's name tells."""
        return {name: value for name, value in (self.options | self.distinction).items() if name != "n_depth"}


class Entry:
    """One object of the file, read with its types checked and its texts made harmless."""

    def __init__(self, content: dict[str, Any], where: str) -> None:
        self.content, self.where = content, where

    def text(self, name: str) -> str:
        """A short printable text; '' if it is missing."""
        value = self.content.get(name) or ""
        if not isinstance(value, str):
            raise InputError(f"{self.where}.{name}: not a text")
        return plain(value)

    def number(self, name: str) -> float | None:
        """A finite number; None if it is missing."""
        value = self.content.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
            raise InputError(f"{self.where}.{name}: not a finite number")
        return value

    def above(self, *names: str) -> float | None:
        """The first of these numbers that is there and above 0."""
        return next((value for value in map(self.number, names) if value is not None and value > 0), None)

    def count(self, name: str) -> int:
        """A whole number from 0 to 2**53; 0 if it is missing."""
        value = self.number(name) or 0
        if value != int(value) or not 0 <= value <= 2**53:
            raise InputError(f"{self.where}.{name}: not a count")
        return int(value)

    def positive(self, name: str) -> list[float]:
        """The numbers above 0 of a list; [] if it is missing."""
        values = self.content.get(name)
        if values is None:
            return []
        if not isinstance(values, list):
            raise InputError(f"{self.where}.{name}: not a list")
        numbers = [Entry({name: value}, self.where).number(name) for value in values]
        return [value for value in numbers if value is not None and value > 0]

    def within(self, *names: str) -> Entry:
        """The object below these names, one in another; an empty one if it is missing."""
        entry = self
        for name in names:
            value = entry.content.get(name)
            if value is not None and not isinstance(value, dict):
                raise InputError(f"{entry.where}.{name}: not an object")
            entry = Entry(value or {}, f"{entry.where}.{name}")
        return entry

    def each(self, name: str) -> list[Entry]:
        """The objects of a list; [] if it is missing."""
        values = self.content.get(name)
        if values is None:
            return []
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise InputError(f"{self.where}.{name}: not a list of objects")
        return [Entry(value, f"{self.where}.{name}[{place}]") for place, value in enumerate(values)]

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain values by name, where they are there."""
        settings: dict[str, Any] = {}
        for name in names:
            value = self.content.get(name)
            if isinstance(value, str):
                settings[name] = plain(value)
            elif isinstance(value, int | float) and -LARGEST < value < LARGEST:
                settings[name] = value
        return settings

    def all_settings(self) -> dict[str, Any]:
        """Every plain value below, by its path; of a path its last part, and nothing that holds an address or a key."""
        settings: dict[str, Any] = {}
        stack: list[tuple[str, Any]] = [("", self.content)]
        for _ in range(MOST_NODES):  # what YAML's anchors share could be walked for ever
            if not stack or len(settings) == MOST_SETTINGS:
                break
            path, value = stack.pop()
            if _PRIVATE.search(path) or len(path) > TEXT_LETTERS:
                continue
            if isinstance(value, dict | list):
                children = value.items() if isinstance(value, dict) else enumerate(value)
                stack += [(f"{path}.{name}" if path else str(name), each) for name, each in reversed(list(children))]
            elif isinstance(value, str) and "://" not in value:
                settings[plain(path)] = plain(last_part(value))
            elif isinstance(value, int | float) and -LARGEST < value < LARGEST:
                settings[plain(path)] = value
        return settings


def plain(text: str) -> str:
    """Short, printable, on one line."""
    return printable(text[:TEXT_LETTERS], " ").strip()


def utc(text: str) -> tuple[str, bool]:
    """(`2026-01-31T12:00:00Z`, whether the text told no zone); '' where it tells no time at all."""
    for form in (
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M:%SZ",
        "%Y%m%d-%H%M%S",
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S.%f",
    ):
        try:
            return f"{datetime.strptime(text, form).isoformat(timespec='seconds')}Z", not form.endswith("Z")
        except ValueError:
            continue
    return "", False


def utc_of_epoch(seconds: float | None) -> str:
    """Of seconds since 1970; '' where there are none, or no such date."""
    try:
        return (
            f"{datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"
            if seconds
            else ""
        )
    except (OverflowError, OSError, ValueError):
        return ""
