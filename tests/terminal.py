"""The command line in a terminal of a given width, in a forked child: what is imported already need not be again."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(words: Sequence[str], folder: Path, width: int) -> tuple[int, str]:
    """(exit code, all that a pseudo-terminal of `width` columns shows)."""
    import fcntl
    import pty
    import struct
    import termios

    child, master = pty.fork()
    if not child:
        code = 99
        try:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
            os.environ.update(COLUMNS=str(width), TERM="xterm", NO_COLOR="1")
            os.chdir(folder)
            sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
            from rigbench.cli.main import main

            code = main(words)
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    parts = []
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    _, status = os.waitpid(child, 0)
    os.close(master)
    return os.waitstatus_to_exitcode(status), CONTROL.sub("", b"".join(parts).decode()).replace("\r\n", "\n")
