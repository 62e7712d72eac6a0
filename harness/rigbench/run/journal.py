"""The journal of a run: what has been measured, safe on disk case by case.

One JSON line each with its checksum, flushed with fsync: first the header (what is to be run, on what), then every finished
case. After a crash, a power cut, a full disk or Ctrl-C, `rigbench run --resume JOURNAL` takes it up and repeats nothing that is
complete. A reserve file beside it keeps space on the disk; when the disk is full it is given up, so that the case in hand still
gets down. A run holds a lock on its journal, so that no two go on with one.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import sys
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from rigbench.errors import InputError, UnavailableError
from rigbench.records import CaseResult, Machine
from rigbench.suites.suite import EnginePart, Suite
from rigbench_backends.base import EngineInfo

if sys.platform != "win32":
    import fcntl

RESERVE_BYTES = 32 * 2**20
CHECKSUM = re.compile(rb"\t[0-9a-f]{8}$")
OTHER_VERSION = "was written by another version of rigbench: finish it with that one, or start again"


@dataclass(frozen=True, slots=True)
class Header:
    """The first line: what is to be run, on what. `models` has the hash of each model's file by the model's name,
    `telemetry` whether readings are taken meanwhile, `cases` how many there are to be (None: an older journal)."""

    format: Literal["rigbench-journal-2"] = field(default="rigbench-journal-2", kw_only=True)
    created_utc: str
    created_unix: float
    machine: Machine
    suite: Suite
    engines: tuple[EnginePart, ...]
    models: dict[str, str | None]
    telemetry: bool = True
    cases: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """Each line after it: a case that is over, and the engine that it ran on."""

    result: CaseResult
    engine: EngineInfo | None


@dataclass(frozen=True, slots=True)
class JournalContent:
    """What a journal holds. `dropped` says in words which lines could not be read."""

    header: Header
    cases: tuple[Finished, ...]
    dropped: tuple[str, ...]


class DiskFull(UnavailableError):
    """No space for another case; everything finished is safe."""


class Journal:
    """An open journal. `append` returns only when the line is on the disk."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle
        self._reserve = path.with_suffix(".reserve")
        with contextlib.suppress(OSError), self._reserve.open("wb") as reserve:
            try:
                os.posix_fallocate(reserve.fileno(), 0, RESERVE_BYTES)
            except AttributeError:  # not on Windows and macOS: written out instead
                reserve.write(b"\0" * RESERVE_BYTES)

    def append(self, record: Header | Finished) -> None:
        """One more line. DiskFull, after the line is down in the reserve's space, if that was the last there was."""
        content = json.dumps(asdict(record), default=_plain, allow_nan=False, separators=(",", ":")).encode()
        line = content + _checksum(content) + b"\n"
        try:
            self._write(line)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            self.release_reserve()
            try:
                self._write(line)
            except OSError as again:
                raise DiskFull(f"the disk is full, and the last case is not saved ({self.path.name})") from again
            fix = f"Free some space, then: rigbench run --resume {self.path}"
            raise DiskFull(f"the disk is full; every finished case is saved. {fix}") from error

    def _write(self, line: bytes) -> None:
        """The whole line, or nothing of it."""
        start = os.fstat(self._handle).st_size
        view = memoryview(line)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
            os.fsync(self._handle)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, start)
            raise

    def release_reserve(self) -> None:
        """Give the kept space back: for the last case on a full disk, or for the document."""
        with contextlib.suppress(OSError):
            self._reserve.unlink()

    def close(self) -> None:
        """Leave the file as it is."""
        self.release_reserve()
        with contextlib.suppress(OSError):
            os.close(self._handle)


def _plain(part: Suite | EnginePart) -> dict[str, Any]:
    return part.model_dump(mode="json")


def _checksum(content: bytes) -> bytes:
    """A tab, which JSON never holds, and eight digits."""
    return b"\t%08x" % zlib.crc32(content)


def _checked(line: bytes) -> bytes:
    """The JSON of a line. ValueError where it is not what was written."""
    content, tab, digits = line.rpartition(b"\t")
    if tab + digits != _checksum(content):
        raise ValueError("the checksum does not fit")
    return content


def _lock(handle: int, path: Path) -> None:
    """Released by the system when the process ends, however it ends."""
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise UnavailableError(f"{path} is in use by a run that is going on: wait for it, or end it") from None


def create(path: Path, header: Header) -> Journal:
    """A new journal with its header. UnavailableError if the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = Journal(path, _open(path, os.O_CREAT | os.O_EXCL))
    except OSError as error:
        fix = "choose another folder with -o DIR"
        raise UnavailableError(f"cannot write in {path.parent}: {error.strerror}; {fix}") from error
    try:
        journal.append(header)
    except (OSError, DiskFull) as error:
        journal.close()
        path.unlink(missing_ok=True)
        fix = "free some space or use -o DIR"
        raise UnavailableError(f"cannot write in {path.parent}: the disk is full; {fix}") from error
    return journal


def _open(path: Path, more: int = 0) -> int:
    handle = os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0) | more, 0o644)
    _lock(handle, path)
    return handle


@functools.cache
def _reader(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read(path: Path) -> JournalContent:
    """A journal as it lies on disk. A torn last line and unreadable ones are left out and said so."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"no journal at {path}: {error.strerror}") from error
    first, _, after = data.partition(b"\n")
    *rest, torn = after.split(b"\n")
    try:
        header = _reader(Header).validate_json(_checked(first))
    except ValueError as error:  # pydantic's ValidationError is one
        if b'"rigbench-journal-' in first and (isinstance(error, ValidationError) or not CHECKSUM.search(first)):
            raise InputError(f"{path} {OTHER_VERSION}") from error
        why = "is not a journal of rigbench, or its first line is damaged; start the suite again"
        raise InputError(f"{path} {why}") from error
    dropped = [f"the last line was torn ({len(torn)} bytes): its case will run again"] if torn else []
    cases = []
    for number, line in enumerate(rest, 2):
        try:
            cases.append(_reader(Finished).validate_json(_checked(line)))
        except ValueError:
            dropped.append(f"line {number} is damaged: its case will run again")
    if rest and not cases:
        raise InputError(f"no case of {path} can be read: it is damaged, or it {OTHER_VERSION}")
    return JournalContent(header, tuple(cases), tuple(dropped))


def reopen(path: Path) -> Journal:
    """Take a journal up again; a torn last line is cut off first, so that the next one starts cleanly."""
    try:
        handle = _open(path)
        data = path.read_bytes()
        os.ftruncate(handle, data.rfind(b"\n") + 1)
    except OSError as error:
        raise UnavailableError(f"cannot write to {path}: {error.strerror}") from error
    return Journal(path, handle)
