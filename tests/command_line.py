"""The command line as a test types it, in this process: an interpreter of its own would cost each call a second.

What needs a process of its own (signals, a lost parent) starts `python -m rigbench`.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from rigbench.cli.main import main


class Answer(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str

    @property
    def result(self) -> str:
        """The path in its last line, `result: PATH`."""
        last = self.stdout.rstrip().splitlines()[-1]
        assert last.startswith("result: "), self.stdout
        return last.removeprefix("result: ")


def rigbench(*words: str | Path, cwd: Path, expect: int = 0, **environment: str) -> Answer:
    """Run it in the folder `cwd`; it has to end with the exit code `expect`, in sentences."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch("sys.stdin", io.StringIO()),
        mock.patch.dict(os.environ, environment),
    ):
        code = main([*map(str, words)])
    assert code == expect, out.getvalue() + err.getvalue()
    assert "Traceback" not in err.getvalue()
    return Answer(out.getvalue(), err.getvalue())
