"""Other programs, as the scripts that set up run them: one question and its answer, a long command that shows that it lives.

Standard library only, like every script that runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

PIPED_TICK_S = 15.0


class SetupError(Exception):
    """One sentence: what is missing, and the command that fixes it."""


def say(text: str) -> None:
    """To stderr: what is said about setting up is not the result."""
    print(text, file=sys.stderr, flush=True)


def answer(command: list[str], limit_s: float = 20) -> str | None:
    """What `command` prints; None where it is not there, fails, or takes longer than `limit_s`."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def run_logged(
    checkout: Path,
    title: str,
    command: Sequence[str],
    log: Path,
    environment: dict[str, str] | None = None,
    fix: str = "",
) -> None:
    """Run `command` in the checkout, its output in `log`, and show that it lives. Raises SetupError if it fails."""
    say(title)
    started = time.monotonic()
    terminal = sys.stderr.isatty()
    group: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {"creationflags": 0x200}
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=checkout,
            env={**os.environ, **(environment or {})},
            **group,
        )
    try:
        while process.poll() is None:
            try:
                process.wait(1.0 if terminal else PIPED_TICK_S)
            except subprocess.TimeoutExpired:
                line = f"  {elapsed(started)}{progress(log)}"
                print(f"\r{line:<60}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
    finally:
        if terminal:
            print(f"\r{'':<60}\r", end="", file=sys.stderr, flush=True)
        if process.poll() is None:
            end_tree(process)
    if process.returncode != 0:
        for line in last_words(log.read_text(encoding="utf-8", errors="replace")):
            say(f"  | {line}")
        raise SetupError(f"{title.partition(':')[0]} failed, see {log}; its last lines are above. {fix}".strip())
    say(f"  done in {elapsed(started)}")


def elapsed(started: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def progress(log: Path) -> str:
    """How far ninja is, by its last `[12/83]`; make and Visual Studio count in other ways, and get no figure."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2_000_000))
        counts = re.findall(rb"\[(\d+)/(\d+)\]", file.read())
    return f", {counts[-1][0].decode()} of {counts[-1][1].decode()} files" if counts else ""


def last_words(text: str, count: int = 15) -> list[str]:
    """The first lines that speak of an error, and the last lines; each cut to 200 characters."""
    lines = [line.strip()[:200] for line in text.splitlines() if line.strip()]
    tail = lines[-count:]
    errors = [line for line in lines[:-count] if re.search(r"\b(fatal )?error\b\W", line, re.IGNORECASE)]
    return [*errors[:5], *tail]


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a command and all that it started."""
    if os.name == "posix":
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal_number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
                break
    else:
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
        process.wait()


def hand_over(command: Sequence[str | Path]) -> NoReturn:
    """Become `command`; on Windows, which cannot, wait for it and end as it ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    words = [str(word) for word in command]
    if os.name == "posix":
        os.execv(words[0], words)
    process = subprocess.Popen(words)
    while True:
        try:
            sys.exit(process.wait())
        except KeyboardInterrupt:  # the command got it too, and saves what there is
            continue


def run_script(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Run a script's `main` on its arguments; a SetupError and Ctrl-C end in one line (exit codes 3 and 130)."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as error:
        say(str(error))
        sys.exit(3)
    except KeyboardInterrupt:
        say("Stopped. Run the same command to go on.")
        sys.exit(130)
