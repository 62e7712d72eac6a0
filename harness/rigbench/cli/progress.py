"""What a person sees while something takes long: on stderr, redrawn on a terminal, plain lines when piped.

Nothing is ever drawn inside a measured window, and nothing more often than four times a second.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import typer

from rigbench import units

PHASES = {"prepare": "making room", "first_step": "first step", "measure": "measuring"}


class Progress:
    """Progress of making or fetching a model: a line that is redrawn on a terminal, one line per tenth when piped."""

    def __init__(self) -> None:
        self._last = 0.0
        self._tenth = -1

    def __call__(self, what: str, done: int, total: int) -> None:
        text = f"{what}: {units.bytes_text(done)} of {units.bytes_text(total)}"
        if sys.stderr.isatty():
            now = time.monotonic()
            if now - self._last < 0.25 and done < total:
                return
            self._last = now
            typer.echo(f"\r\033[K{text}" + ("\n" if done >= total else ""), err=True, nl=False)
        elif total and done * 10 // total > self._tenth:
            self._tenth = done * 10 // total if done < total else -1
            typer.echo(text, err=True)


class Reporter:
    """Progress of a run: one line per finished case; on a terminal also what is being done, redrawn between windows only."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._total, self._done = total, done
        self._terminal = sys.stderr.isatty()
        self._case = ""
        self._begun = time.monotonic()
        self._measured = 0
        self._status = ""

    def __call__(self, event: str, what: dict[str, Any]) -> None:
        if event == "load":
            self._show(f"loading {what['job'].heading} (at most {units.seconds_text(what['limit_s'])})", line=True)
        elif event == "idle":
            self._show(f"measuring idle power ({what['seconds']:g} s)", line=True)
        elif event == "case":
            case = what["case"]
            self._case = f"{case.workload.name} x{case.concurrency} #{case.repetition + 1}"
        elif event == "phase":
            doing = PHASES.get(what["name"], f"warm-up {what['round'] + 1}")
            self._show(f"[{self._done + 1}/{self._total}] {self._case}: {doing}{self._left()}")
        elif event == "done":
            self._done += 1
            self._measured += 1
            self._show(f"[{self._done}/{self._total}] {self._outcome(what['result'])}", line=True)
        elif event == "end":
            self._show("")

    def _left(self) -> str:
        """Time left at the pace of this run, once there is one."""
        if self._measured < 3:
            return ""
        seconds = (time.monotonic() - self._begun) / self._measured * (self._total - self._done)
        return f", about {units.seconds_text(max(1.0, seconds))} left"

    def _outcome(self, result: Any) -> str:
        from rigbench.analysis.definitions import TOKENS, case_values, headlines
        from rigbench.analysis.requests import Repetition

        case = result.case
        name = f"{case.workload.name} x{case.concurrency} #{case.repetition + 1}"
        if result.error is not None:
            return f"{name}: {result.error}"
        values, _ = case_values(Repetition(result))
        if case.workload.kind not in TOKENS:
            numbers = (f"{each.text(values.get(each.name))} {each.label}" for each in headlines(case.workload.kind))
            return f"{name}: {', '.join(numbers)}"
        return (
            f"{name}: {units.rate_text(values.get('user_tps'))} t/s per user, {units.rate_text(values.get('output_tps'))} in all, "
            f"TTFT {units.seconds_text(values.get('ttft_s'))}"
        )

    def _show(self, text: str, line: bool = False) -> None:
        with contextlib.suppress(OSError):  # the terminal may be closed by now, and the run goes on
            if self._terminal:
                import shutil

                text = text[: shutil.get_terminal_size().columns - 1]
                typer.echo(f"\r\033[K{text}" + ("\n" if line else ""), err=True, nl=False)
            elif line:
                typer.echo(text, err=True)
