"""What this process, and every process that an engine starts, has printed: the end of the file that stderr is. Standard library.

A worker's stdout and stderr are one file that its parent reads after a crash (harness/rigbench/run/processes.py), so whatever
explains a failure has to be in it before the process dies. Engines of several processes are read here for the same reason.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys

OUTPUT_BYTES = 256 * 1024
STDERR = 2


def output_end() -> int:
    """Where the output ends now: what comes later begins here. 0 where stderr is no file."""
    with contextlib.suppress(OSError):
        state = os.fstat(STDERR)
        return state.st_size if stat.S_ISREG(state.st_mode) else 0
    return 0


def output_lines(since: int = 0) -> list[str]:
    """The lines printed from byte `since` on, the last OUTPUT_BYTES of them at most; [] where stderr is no file."""
    sys.stderr.flush()
    end = output_end()
    begin = max(since, end - OUTPUT_BYTES)
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            os.lseek(STDERR, begin, os.SEEK_SET)
            data = os.read(STDERR, end - begin)
            os.lseek(STDERR, 0, os.SEEK_END)
        else:
            data = os.pread(STDERR, end - begin, begin)  # leaves the place where all the processes write
        return data.decode("utf-8", "replace").replace("\r", "\n").splitlines()
    return []
