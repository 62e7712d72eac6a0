"""Histories as one SVG picture that any browser and any pull request shows: written by hand, no library, works offline.

A panel per case and metric: along x the values of the axis in their order, along y the metric as a share of its first
median. A dot is a run, the line goes through the medians of each value, red marks a shift for the worse.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from rigbench.analysis import definitions
from rigbench.analysis.compare import BAD
from rigbench.analysis.regress import History
from rigbench.text import printable

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 420, 190, 52, 40, 44, 14
COLUMNS = 3
MAX_PANELS = 240
MAX_LABELS = 6
INK, FAINT, LINE, WORSE = "#222", "#ddd", "#4269d0", "#d62828"


def svg(histories: Sequence[History], axis: str) -> str:
    """The whole picture. Beyond MAX_PANELS panels it says how many it leaves out."""
    panels = [
        (each, metric)
        for each in histories
        for metric in dict.fromkeys(name for run in each.runs for name in run.metrics)
        if sum(metric in run.metrics for run in each.runs) > 1
    ]
    left_out, panels = len(panels) - MAX_PANELS, panels[:MAX_PANELS]
    columns = max(1, min(COLUMNS, len(panels)))
    rows = -(-len(panels) // columns) or 1
    width, height = columns * WIDTH, rows * HEIGHT + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for place, (each, metric) in enumerate(panels):
        x, y = place % columns * WIDTH, place // columns * HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{_panel(each, metric)}</g>')
    note = f"axis: {axis}; 100 % is the median of the first value; a dot is a run; red: a level that is worse"
    note += f"; {left_out} more panels are left out" if left_out > 0 else ""
    parts.append(f'<text x="{LEFT}" y="{height - 8}" fill="{INK}">{escape(note)}</text></svg>')
    return "\n".join(parts) + "\n"


def figure(histories: Sequence[History], axis: str, words: str) -> Markup:
    """The same inside a page, with `words` for who cannot see it."""
    from markupsafe import Markup
    from markupsafe import escape as quoted

    picture = svg(histories, axis).replace("<svg ", f'<svg role="img" aria-label="{quoted(words)}" ', 1)
    return Markup(f'<div class="scroll" tabindex="0" role="region" aria-label="History">{picture}</div>')


def _panel(history: History, metric: str) -> str:
    values: dict[str, list[float]] = {}
    for run in history.runs:
        if metric in run.metrics:
            values.setdefault(run.value, []).append(run.metrics[metric])
    medians = {name: statistics.median(values_of_one) for name, values_of_one in values.items()}
    base = next(iter(medians.values())) or 1.0
    shares = [value / base for values_of_one in values.values() for value in values_of_one]
    low, high = min(*shares, 0.95), max(*shares, 1.05)
    pad = (high - low) * 0.08
    low, high = low - pad, high + pad

    def x_of(place: int) -> float:
        return LEFT + (place + 0.5) * (WIDTH - LEFT - RIGHT) / len(medians)

    def y_of(share: float) -> float:
        return TOP + (high - share) / (high - low) * (HEIGHT - TOP - BOTTOM)

    case = f"{history.group} on {history.machine_id}"
    definition = definitions.metric(metric)
    title = f"{definition.label} ({definition.text(base)} at first)"
    parts = [
        f'<text x="{LEFT}" y="16" fill="{INK}" font-weight="600">{escape(title)}</text>',
        f'<text x="{LEFT}" y="30" fill="{INK}">{escape(_short(case, 58))}</text>',
    ]
    for share in (low + pad, 1.0, high - pad):
        y = y_of(share)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{FAINT}"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{y + 4:.1f}" text-anchor="end" fill="{INK}">{share:.0%}</text>')
    line = " ".join(f"{x_of(place):.1f},{y_of(value / base):.1f}" for place, value in enumerate(medians.values()))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{LINE}"/>')
    worse = _worse(history, metric)
    every = -(-len(medians) // MAX_LABELS)
    for place, (name, values_of_one) in enumerate(values.items()):
        colour = WORSE if name in worse else LINE
        parts += [
            f'<circle cx="{x_of(place):.1f}" cy="{y_of(value / base):.1f}" r="3" fill="{colour}"/>'
            for value in values_of_one
        ]
        if place % every == 0 or name in worse:
            label = escape(_short(name, 22))
            here = f'x="{x_of(place):.1f}" y="{HEIGHT - BOTTOM + 16 + 12 * (place // every % 2)}"'
            parts.append(f'<text {here} text-anchor="middle" fill="{WORSE if name in worse else INK}">{label}</text>')
    return "".join(parts)


def _worse(history: History, metric: str) -> set[str]:
    """Values of the axis at which this metric got worse."""
    return {shift.at for shift in history.shifts if shift.metric == metric and shift.verdict in BAD}


def _short(text: str, most: int) -> str:
    text = printable(text, "\ufffd")
    return text if len(text) <= most else f"{text[: most - 1]}…"
