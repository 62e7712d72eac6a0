"""A measurement in the interpreter that has the engine. The parent never opens a device, and a crash ends the child alone."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

TIME_LIMIT_S = 180.0


def answer(python: str, program: str, package: str, *arguments: str) -> dict[str, Any] | str:
    """The JSON object in the last line that `program`, a module beside this one, prints; or why there is none.

    `package` is what the program imports, by the name that pip knows. The program travels as source, so that its folder's names
    shadow nothing in the other interpreter.
    """
    source = Path(__file__).with_name(program).read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [python, "-c", source, *arguments],
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=False,
            cwd=tempfile.gettempdir(),
        )
    except OSError:
        return f"the interpreter given for {package} does not exist"
    except subprocess.TimeoutExpired:
        return f"{package} took longer than {TIME_LIMIT_S:g} s"
    if f"No module named '{package.replace('-python', '').replace('-', '_')}" in done.stderr:
        return f"{package} is not installed in this interpreter; pip install {package}"
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        # The kind of error alone: its text may hold a path.
        return f"{package} could not measure ({lines[-1].partition(':')[0] if lines else 'no message'})"
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        found = None
    return found if isinstance(found, dict) else f"{package} gave no figures"
