"""Text that others wrote: made safe to show, cut to a line, compared with known names, and searched for what is private.

What is private stands here alone: `scrub` takes it out of what engines say, `rigbench submit` names it before a document
leaves the machine, and a document with a home folder in it is not valid.
"""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

SECRET_MIN_LENGTH = 3
"""Shorter user or host names would be found inside ordinary words."""
HOMES = ("/home/", "/Users/", "/root/", "/var/folders/")
HOME = re.compile(rf"(?:^|[^\w/.])(?:{'|'.join(HOMES)}|[A-Za-z]:[\\/]+Users[\\/])", re.IGNORECASE)
"""A path in somebody's home folder, on any system."""
PATH = re.compile(r"(?<![\w.<>/-])(?!/(?:proc|sys|dev)/)(?:~|[A-Za-z]:)?[\\/](?:[^\\/\s'\":]+[\\/])+[^\\/\s'\":]*")
ADDRESS = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)|(?<![\w.:])[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?![\w.:])"
)
PRIVATE = {
    "a path": PATH,
    "an e-mail address": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "a hardware address": re.compile(r"\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b"),
    "a UUID": re.compile(r"\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b"),
    "an IP address": ADDRESS,
}
"""Patterns of what may say whose machine this is. What looks like an address is one only if `is_address` agrees."""


def printable(text: str, instead: str = "?") -> str:
    """`text` on one line, safe on a terminal and in a table: each character that cannot be printed becomes `instead`."""
    return "".join(letter if letter.isprintable() else instead for letter in text)


def inert(text: str) -> str:
    """`text` as Markdown that can neither break a table nor hold markup, a link, an image or HTML."""
    return re.sub(r"[\\`*\[\]|~#<>&!]|\b_|_\b", r"\\\g<0>", " ".join(printable(text, " ").split()))


def markdown_table(
    heading: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = (), bold: Collection[str] = ()
) -> list[str]:
    """The lines of a Markdown table whose texts are inert. `right`: headings of numbers; `bold`: texts that stand out."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [line(map(inert, heading)), line("---:" if name in right else "---" for name in heading)]
    return lines + [line(f"**{inert(cell)}**" if cell in bold else inert(cell) for cell in row) for row in rows]


def last_part(path: str) -> str:
    """Of a path, whichever system's, the name alone."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`; None if none is like it."""
    return next(iter(_alike(name, known)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """How a sentence about an unknown name ends: `; did you mean a or b?` with the names most like it, or `.`"""
    close = _alike(name, known)
    return f"; did you mean {' or '.join(close)}?" if close else "."


def _alike(name: str, known: Iterable[str]) -> list[str]:
    """At most three names: those that hold `name`, then those that differ by a few letters."""
    import difflib  # here, because only mistakes need it

    names = sorted(known)
    inside = [each for each in names if len(name) > 2 and name in each]
    inside.sort(key=lambda each: (not each.startswith(name), len(each)))
    return list(dict.fromkeys(inside + difflib.get_close_matches(name, names)))[:3]


def hint(name: str, known: Iterable[str]) -> str:
    """What a sentence about an unknown name goes on with: the nearest known one, else all of them."""
    names = list(known)
    near = nearest(name.lower(), names) or nearest(name, names)
    return f"did you mean {near}?" if near else f"choose one of {', '.join(names)}"


def private_words(*paths: str | None) -> list[str]:
    """What must not leave this machine: user, host, home, working folder and the folders of `paths`, longest first."""
    words = {str(Path.home()), str(Path.cwd()), socket.gethostname(), socket.getfqdn()}
    words |= {str(Path(path).parent) for path in paths if path}
    with contextlib.suppress(OSError, KeyError):
        words.add(getpass.getuser())
    words_kept = {word for word in words if len(word) >= SECRET_MIN_LENGTH and word not in ("localhost", "root")}
    return sorted(words_kept, key=len, reverse=True)


def private_parts(text: str) -> Iterator[tuple[str, str]]:
    """(kind, part) of the first part of each kind in `text` that may say whose machine this is."""
    for kind, pattern in PRIVATE.items():
        for match in pattern.finditer(text):
            if pattern is not ADDRESS or is_address(match[0]):
                yield kind, match[0]
                break


def is_address(text: str) -> bool:
    """Whether it is an IP address of something."""
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False


def scrub(text: str, words: list[str]) -> str:
    """`text` with everything private replaced, paths cut down to their last part, and without a terminal's colours and other
    control characters (engines colour their last words)."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", " ", text)
    text = PATH.sub(lambda path: last_part(path[0]), text)
    for word in words:
        edge = "" if os.sep in word else r"\b"
        text = re.sub(f"{edge}{re.escape(word)}{edge}", "<private>", text)
    for pattern in PRIVATE.values():
        if pattern not in (PATH, ADDRESS):
            text = pattern.sub("<private>", text)
    return ADDRESS.sub(lambda match: "<address>" if is_address(match[0]) else match[0], text)
