"""`rigbench watch`: what every sensor says, live."""

from __future__ import annotations

import time

from rigbench.cli.options import Wall, grouped, number


@grouped
def command(
    wall: Wall,
    seconds: float = number(0, "--seconds", "End after so long; 0: until Ctrl-C.", 0, 1e7),
) -> None:
    """Show live what every sensor says, or why it says nothing."""
    from rich.console import Group

    from rigbench.report import live, table
    from rigbench.telemetry.sampler import Sampler

    console = table.output_console()
    sampler = Sampler(wall.sources()).start()
    end = time.monotonic() + seconds if seconds else None

    def view_now() -> Group:
        return Group(*table.parts(console.width, live.HEADINGS, live.reading_rows(sampler.recent(3)), keys=2))

    try:
        if console.is_terminal:
            from rich.live import Live

            with Live(view_now(), console=console, refresh_per_second=2, screen=False) as view:
                while end is None or time.monotonic() < end:
                    time.sleep(0.5)
                    view.update(view_now())
        else:
            time.sleep(min(seconds or 2.0, 2.0))
            while True:
                table.print_table(console, live.HEADINGS, live.reading_rows(sampler.recent(3)))
                if end is None or time.monotonic() >= end:
                    break
                time.sleep(1)
    finally:
        sampler.stop()
