"""Reading JSON that a stranger wrote: nothing large is built before its size is known, and nothing odd gets through.

    1  a plain file of at most 16 MiB, UTF-8
    2  one pass over the bytes: depth, and how many containers, strings and values there would be
    3  the parse, which finds keys that are there twice, NaN and Infinity
    4  a walk over the tree: numbers that no run can have, texts that are too long, hold control characters, markup or a home folder

A walk without paths says first whether there is any fault: of the many documents without one that is all. Every fault has its JSON
path. Only what is without faults is handed on.

    python -c "from rigbench.documents.bounds import *; import pathlib; print(load(pathlib.Path('x.json'))[1])"
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rigbench.text import HOME

MAX_BYTES = 16 * 2**20
MAX_DEPTH = 24
MAX_CONTAINERS = 200_000
MAX_STRINGS = 1_000_000
MAX_VALUES = 1_500_000
MOST_NUMBERS = 1_000_000
"""Of times and readings in a document that rigbench writes: within MAX_VALUES, and as text within MAX_BYTES."""
MAX_TEXT = 16_384
MAX_KEY = 256
MAX_INT = 2**63 - 1
MAX_FLOAT = 1e24
"""The largest honest figures are floating-point operations per second (1e18) and nanoseconds."""
MAX_FAULTS = 50

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters, and those that nobody sees: they move a cursor, turn text round or begin another line of a table."""
_LINE_KEYS = frozenset(("log", "message", "evidence", "options", "about", "detail", "reason", "build", "error"))
_LINES = re.compile(rf"\.(?:{'|'.join(sorted(_LINE_KEYS))})\b")
"""Where a text may have several lines or tabs: what an engine says, and what it is told. They are taken out before it is shown."""
_ACTIVE = "script|style|iframe|object|embed|svg|math|img|image|link|meta|base|form|input|button|video|audio|body|html|a|details"
_MARKUP = re.compile(rf"<\s*/?\s*(?:{_ACTIVE})\b|<!--|javascript:", re.IGNORECASE)
"""Not every `<`: the tokens of models are called <s>, </think>, <|end|>, and engines write them into their logs."""
_NUMBERS = {int, float, bool, type(None)}
_PLAIN = re.compile(r"[A-Za-z_]\w{0,63}")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that does not hold: where (JSON path), and a sentence. `below`: it refutes nothing, but keeps the document
    below that level, because it cannot be checked or is too strange to vouch for."""

    path: str
    message: str
    below: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def load(path: Path, *, texts: bool = True) -> tuple[Any, list[Fault]]:
    """(content, no faults) or (None, faults). OSError if there is no readable file. `texts=False` for those who want to read a
    document and not to judge it: odd texts are no faults then, and control characters in them are replaced."""
    data, fault = read_bytes(path)
    return (None, [fault]) if fault is not None else loads(data, texts=texts)


def read_bytes(path: Path, most: int = MAX_BYTES) -> tuple[bytes, Fault | None]:
    """The bytes of a plain file that has at most so many of them."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        content = os.fstat(handle)
        if not stat.S_ISREG(content.st_mode):
            return b"", Fault("$", "is no plain file")
        data = b"" if content.st_size > most else file.read(most + 1)
    if content.st_size > most or len(data) > most:
        return b"", Fault("$", f"{content.st_size} bytes; at most {most} are read")
    return data, None


def loads(data: bytes, *, texts: bool = True) -> tuple[Any, list[Fault]]:
    """(content, no faults) or (None, faults) of the bytes of a document."""
    if (fault := _counted(data)) is not None:
        return None, [fault]
    if (content := _sound(data)) is not None:
        return content, []
    if (fault := _deep(data)) is not None:
        return None, [fault]
    twice: list[tuple[dict[str, Any], str]] = []

    def pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            names: set[str] = set()
            twice.extend((result, key) for key, _ in pairs if key in names or names.add(key))  # type: ignore[func-returns-value]
        return result

    try:
        text = data.decode("utf-8")
        content = json.loads(text, object_pairs_hook=pairs, parse_constant=_NoNumber, parse_float=_number)
    except UnicodeDecodeError as error:
        return None, [Fault("$", f"is not UTF-8 text (byte {error.start})")]
    except RecursionError:
        return None, [Fault("$", f"is nested deeper than {MAX_DEPTH} levels")]
    except ValueError as error:
        return None, [Fault("$", f"is not JSON: {error}")]
    faults = list(islice(_faults_of(content, {(id(owner), key) for owner, key in twice}, texts), MAX_FAULTS))
    if faults:
        return None, faults
    return content if texts else _cleaned(content), []


def _sound(data: bytes) -> Any:
    """The content, if nothing at all is wrong with it, else None."""

    def pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            raise ValueError("a key is there twice")
        return result

    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None
    return content if _holds(content, 0, False, set()) else None


def _refused(text: str) -> None:
    raise ValueError(text)


def _holds(value: Any, depth: int, lines: bool, keys: set[str]) -> bool:
    """What _faults_of finds nothing in. `keys` are those that are good, `lines` says whether a text here may have several."""
    kind = type(value)
    if kind is str:
        return _text_fault(value, MAX_TEXT, lines=lines) is None
    if kind is dict:
        for key, each in value.items():
            if key not in keys:
                if _text_fault(key, MAX_KEY, lines=False) is not None:
                    return False
                keys.add(key)
            if each is not None and not _holds(each, depth + 1, lines or key in _LINE_KEYS, keys):
                return False
        return depth < MAX_DEPTH
    if kind is list:
        kinds = set(map(type, value))
        if kinds <= _NUMBERS:
            numbers = (
                value if kinds <= {int, bool} or kinds == {float} else [each for each in value if each is not None]
            )
            least, most = min(numbers, default=0), max(numbers, default=0)
            limit = (
                MAX_INT if kinds <= {int, bool, type(None)} else MAX_FLOAT if kinds <= {float, type(None)} else 2**53
            )
            return depth < MAX_DEPTH and bool(-limit <= least and most <= limit)
        return depth < MAX_DEPTH and all(_holds(each, depth + 1, lines, keys) for each in value)
    if kind is int:
        return bool(-MAX_INT <= value <= MAX_INT)
    return kind is not float or bool(-MAX_FLOAT <= value <= MAX_FLOAT)


def _counted(data: bytes) -> Fault | None:
    """What the parse would build, counted before it builds anything (brackets and commas inside strings count too)."""
    if data.count(b",") > MAX_VALUES:
        return Fault("$", f"holds more than {MAX_VALUES} values")
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS:
        return Fault("$", f"holds more than {MAX_CONTAINERS} lists and objects")
    if data.count(b'"') > 2 * MAX_STRINGS:
        return Fault("$", f"holds more than {MAX_STRINGS} strings")
    return None


def _deep(data: bytes) -> Fault | None:
    """Where it is nested too deep."""
    depth, key = 0, ""
    for depths in _TOKEN.finditer(data):
        first = data[depths.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return Fault(f"${key}", f"is nested deeper than {MAX_DEPTH} levels")
        elif first in b"]}":
            depth -= 1
        elif depth == 1:
            name = depths[0][1:65].decode("ascii", "replace").rstrip('"')
            key = f".{name}" if _PLAIN.fullmatch(name) else ""
    return None


class _NoNumber:
    """NaN, Infinity, or what is too large for a number, until the walk finds where it stands."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text[:40]


def _number(text: str) -> float | _NoNumber:
    value = float(text)
    return value if -MAX_FLOAT <= value <= MAX_FLOAT else _NoNumber(text)


def _cleaned(value: Any) -> Any:
    """Control characters replaced, so that no name can move a terminal's cursor."""
    if isinstance(value, str):
        return _CONTROL.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_CONTROL.sub("\ufffd", key): _cleaned(each) for key, each in value.items()}
    if isinstance(value, list) and not set(map(type, value)) <= {int, float, bool, type(None)}:
        return [_cleaned(each) for each in value]
    return value


def _faults_of(content: Any, twice: set[tuple[int, str]], texts: bool) -> Iterator[Fault]:
    """Faults of the tree. Lists of plain numbers are looked at as a whole."""
    stack: list[tuple[str, Any]] = [("$", content)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            for key in value:
                if texts and (why := _text_fault(key, MAX_KEY, lines=False)) is not None:
                    yield Fault(path, f"a key {why}")
                if (id(value), key) in twice:
                    yield Fault(member(path, key), "is there twice")
            stack += [(member(path, key), each) for key, each in reversed(value.items())]
        elif isinstance(value, list):
            kinds = set(map(type, value))
            if kinds <= {int, bool, type(None)}:
                numbers = [each for each in value if each is not None] if type(None) in kinds else value
                if not numbers or (max(numbers) <= MAX_INT and min(numbers) >= -MAX_INT):
                    continue
            elif kinds <= {float, type(None)}:
                continue
            stack += [(f"{path}[{place}]", each) for place, each in reversed(list(enumerate(value)))]
        elif isinstance(value, str):
            if texts and (why := _text_fault(value, MAX_TEXT, lines=bool(_LINES.search(path)))) is not None:
                yield Fault(path, why)
        elif isinstance(value, _NoNumber):
            yield Fault(path, f"{value.text} is no number that a run can have")
        elif isinstance(value, int) and not -MAX_INT <= value <= MAX_INT:
            yield Fault(path, "a whole number of more than 63 bits")


def member(path: str, key: str) -> str:
    """The JSON path of a key of an object."""
    return f"{path}.{key}" if _PLAIN.fullmatch(key) else f"{path}[{json.dumps(key[:64])}]"


def _text_fault(text: str, longest: int, *, lines: bool) -> str | None:
    if len(text) > longest:
        return f"is longer than {longest} characters"
    if _CONTROL.search(re.sub(r"[\t\n\r]", " ", text) if lines else text):
        return "holds control characters"
    if _MARKUP.search(text):
        return "holds markup"
    if HOME.search(text):
        return "holds the path of a home folder, which is nobody's business"
    return None
