"""JSON that another program wrote, or a stranger: objects read field by field, types checked, texts made harmless."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rigbench.errors import InputError
from rigbench.text import printable

TEXT_LETTERS = 200
LARGEST = 1e24


def entries(data: bytes, path: Path) -> list[Any]:
    """A JSON list, one object, or one object per line."""
    try:
        text = data.decode("utf-8")
        try:
            content = json.loads(text)
        except ValueError:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {str(error)[:200]}") from error
    return content if isinstance(content, list) else [content]


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
        found = [Entry({name: value}, self.where).number(name) for value in values]
        return [value for value in found if value is not None and value > 0]

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain values by name, where they are there."""
        found: dict[str, Any] = {}
        for name in names:
            value = self.content.get(name)
            if isinstance(value, str):
                found[name] = plain(value)
            elif isinstance(value, int | float) and -LARGEST < value < LARGEST:
                found[name] = value
        return found


def plain(text: str) -> str:
    """Short, printable, on one line."""
    return printable(text[:TEXT_LETTERS], " ").strip()
