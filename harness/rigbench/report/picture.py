"""The headline of a result as a PNG of 1200 x 630, the size that sites show of a link; drawn by Pillow, without a browser.

rigbench report results/box/x.json --png headline.png
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rigbench import __version__
from rigbench.analysis.table import table
from rigbench.documents import store
from rigbench.errors import InputError, UnavailableError
from rigbench.report import result_view
from rigbench.report.table import engine_text
from rigbench.text import printable

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

WIDTH, HEIGHT, MARGIN = 1200, 630, 60
MOST_BARS = 6
PAPER, INK, SOFT, BAND, BAR, LIMIT = "#ffffff", "#1c2026", "#596170", "#eef1f6", "#1d56b8", "#b3261e"


def draw(file: Path, out: Path) -> None:
    """UnavailableError where Pillow is missing, InputError if `out` cannot be written."""
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise UnavailableError("--png needs Pillow: pip install pillow") from error
    document = store.read(file)
    rows = table(document)
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(image)
    hardware = result_view.hardware_name(rows[0]) if rows else document.machine.cpu
    _write(pen, MARGIN, 44, hardware, 44, INK)
    models = ", ".join(dict.fromkeys(row.model for row in rows))
    engines = ", ".join(dict.fromkeys(engine_text(engine) for engine in document.engines))
    _write(pen, MARGIN, 104, f"{models} · {engines}", 26, SOFT)
    _bars(pen, [row for row in rows if result_view.speed(row) is not None][:MOST_BARS])
    _write(
        pen, MARGIN, HEIGHT - 50, f"rigbench {__version__} · {document.created_utc[:10]} · {document.id[:12]}", 22, SOFT
    )
    try:
        image.save(out, format="PNG", optimize=True)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from error


def _bars(pen: ImageDraw, rows: list[Any]) -> None:
    """The speed of each case, with the prediction as a diamond and the ceiling as a line."""
    entries = [(row, *speed) for row in rows if (speed := result_view.speed(row)) is not None]
    if not entries:
        _write(pen, MARGIN, 280, "Nothing was measured.", 36, INK)
        return
    most: dict[str, float] = {}  # of each kind of work: its rates have a scale of their own
    for row, metric, value in entries:
        ends = (most.get(metric.name, 0), value, row["predicted_tps"] or 0, result_view.ceiling(row, metric) or 0)
        most[metric.name] = max(ends)
    top, step = 160, min(110, (HEIGHT - 240) / len(entries))
    for place, (row, metric, value) in enumerate(entries):
        y, width = top + place * step, WIDTH - 2 * MARGIN
        scale = width / most[metric.name]
        unit = metric.unit if metric.name == "user_tps" else metric.label
        text = f"{result_view.label_of(row, rows)}: {metric.text(value)} {unit}"
        if (ratio := row["measured_over_predicted"]) is not None:
            text += f", {ratio:.0%} of the prediction"
        _write(pen, MARGIN, y, text, 24, INK)
        pen.rectangle((MARGIN, y + 32, MARGIN + width, y + 54), fill=BAND)
        pen.rectangle((MARGIN, y + 32, MARGIN + value * scale, y + 54), fill=BAR)
        if (predicted := row["predicted_tps"]) is not None and metric.name == "user_tps":
            x = MARGIN + predicted * scale
            pen.polygon([(x, y + 30), (x + 9, y + 43), (x, y + 56), (x - 9, y + 43)], fill=PAPER, outline=INK, width=2)
        if (ceiling := result_view.ceiling(row, metric)) is not None:
            x = MARGIN + ceiling * scale
            pen.rectangle((x - 2, y + 28, x + 1, y + 58), fill=LIMIT)


def _write(pen: ImageDraw, x: float, y: float, text: str, size: int, colour: str) -> None:
    """On one line, cut where the picture ends."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    text = printable(text)[:400]
    while text and pen.textlength(text, font=font) > WIDTH - MARGIN - x:
        text = f"{text[:-2].rstrip()}…" if len(text) > 2 else ""
    pen.text((x, y), text, font=font, fill=colour)
