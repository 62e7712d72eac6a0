"""What vLLM and its processes print, kept in a file for error messages, and the reason for a failure found in it."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rigbench_backends.python_log import SAYS_NOTHING, first_sentence, last_exception

LOG_BYTES = 256 * 1024
MEMORY_WORDS = re.compile(r"out of memory|OutOfMemory|cannot allocate|memory|KV cache|cache blocks", re.I)
CONTEXT_WORDS = re.compile(r"max_model_len.*(greater|larger|exceed)|maximum model length", re.I | re.S)

_log: IO[bytes] | None = None


def log_tail(lines: int = 12) -> list[str]:
    """The last words of vLLM and all its processes, for an error message."""
    return [line for line in log_lines() if line.strip()][-lines:]


def log_lines() -> list[str]:
    """The end of the log, a line each."""
    if _log is None:
        return []
    size = os.fstat(_log.fileno()).st_size
    data = os.pread(_log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES))
    return data.decode("utf-8", "replace").replace("\r", "\n").splitlines()


@contextmanager
def output_to_log() -> Iterator[None]:
    """What is printed meanwhile, and whatever processes started meanwhile print ever after, goes to the log."""
    import fcntl  # not on Windows, and nor is vLLM

    global _log
    if _log is None:
        _log = tempfile.TemporaryFile(prefix="rigbench-vllm-", buffering=0)  # noqa: SIM115  lives as long as the process
        fcntl.fcntl(_log.fileno(), fcntl.F_SETFL, os.O_APPEND)  # several processes write it
    os.ftruncate(_log.fileno(), 0)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        for number in (1, 2):
            os.dup2(_log.fileno(), number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)


def root_cause(error: BaseException, lines: list[str]) -> str:
    """One sentence for why vLLM failed; where `error` says only that a process ended, the last exception in that one's log."""
    told = str(error)
    if not told or SAYS_NOTHING.search(told):
        told = last_exception(lines) or "one of its processes ended"
    else:
        wrong = re.search(r"(?:Value|Assertion) error, (.+?)(?: \[type=|$)", told, re.S)  # pydantic's way to quote one
        told = wrong[1] if wrong else told
    return first_sentence(told)


def failure_kind(reason: str) -> str:
    """Which of EngineError's kinds a failed start is."""
    if CONTEXT_WORDS.search(reason):
        return "context"
    return "memory" if MEMORY_WORDS.search(reason) else "load"
