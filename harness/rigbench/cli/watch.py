"""`rigbench watch`: what every sensor says, live."""

from __future__ import annotations

import sys
import time

import typer

from rigbench.cli.options import WALL_METER, WALL_PATH, WALL_UNIT, WALL_URL


def command(
    seconds: float = typer.Option(0, "--seconds", help="End after so long; 0: until Ctrl-C."),
    wall_url: str | None = WALL_URL,
    wall_meter: str = WALL_METER,
    wall_path: str | None = WALL_PATH,
    wall_unit: str = WALL_UNIT,
) -> None:
    """Show live what every sensor says, or why it says nothing: for setting up a wall meter or permissions."""
    from rigbench.report.live import table_of
    from rigbench.telemetry import open_sources
    from rigbench.telemetry.base import SourceOptions
    from rigbench.telemetry.sampler import Sampler

    sampler = Sampler(
        open_sources(SourceOptions(wall_url=wall_url, wall_preset=wall_meter, wall_path=wall_path, wall_unit=wall_unit))
    ).start()
    end = time.monotonic() + seconds if seconds else None
    try:
        if sys.stdout.isatty():
            from rich.live import Live

            with Live(table_of(sampler.recent(3)), refresh_per_second=2, screen=False) as live:
                while end is None or time.monotonic() < end:
                    time.sleep(0.5)
                    live.update(table_of(sampler.recent(3)))
        else:
            from rigbench.report.table import output_console

            time.sleep(min(seconds or 2.0, 2.0))
            while True:
                output_console().print(table_of(sampler.recent(3)))
                if end is None or time.monotonic() >= end:
                    break
                time.sleep(1)
    finally:
        sampler.stop()
