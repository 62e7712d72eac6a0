"""Charts as SVG that needs no script: bars, curves and a roofline, drawn from rows and raw records.

Colours come from the page's style (classes s0 to s5), so they follow a dark screen and paper; curves differ by their dashes and
points by their shapes, too. Every chart carries its numbers in words (`<desc>`), for who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from rigbench.text import printable

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 520, 66, 26, 14, 40
STYLES = 6
"""Classes of curves in style.css."""
MAX_POINTS = 300
MAX_BARS = 40
LABEL_LETTERS = 44
ROW = 30
Text = Callable[[float], str]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a chart: (x, y) in rising x. `dots`: every point is a measurement, and is drawn as one. The line is broken where
    two points are further apart than `most_apart`: between them nobody looked."""

    label: str
    points: Points
    dots: bool = False
    most_apart: float = math.inf


@dataclass(frozen=True, slots=True)
class Bar:
    """A measured value, with what was predicted, the ceiling, and the span of 80 % of cases where they are known."""

    label: str
    value: float
    predicted: float | None = None
    ceiling: float | None = None
    span: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A named stretch of the x axis, shaded."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Scale:
    """From a value to its place: `low` to `high` on `start` to `end`, evenly or by logarithms."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        return self.start + self._share(value) * (self.end - self.start)

    def _share(self, value: float) -> float:
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values: about five of them, or each power of ten (with 2 and 5 where there are few)."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            factors = (1, 2, 5) if last - first <= 2 else (1,)
            ticks = [f * 10**p for p in range(first, last + 1) for f in factors]
            inside = [tick for tick in ticks if self.low * 0.999 <= tick <= self.high * 1.001]
            return inside[:: -(-len(inside) // 8) or 1]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next((f for f in (1, 2, 5) if (self.high - self.low) / (step * f) <= 6), 10)
        return [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]


def bars(title: str, entries: Sequence[Bar], text: Text, unit: str) -> Markup:
    """A bar for each value from 0, a diamond where it was predicted with a line over its span, a line at its ceiling."""
    drawn = entries[:MAX_BARS]
    most = max(max(each.value, each.predicted or 0, each.ceiling or 0, *(each.span or ())) for each in drawn)
    x, height = Scale(0, most * 1.02, LEFT, WIDTH - RIGHT), len(drawn) * 2 * ROW * 0.85 + BOTTOM
    parts, words = [_grid_x(x, text, height, unit)], []
    for place, each in enumerate(drawn):
        y = place * ROW * 1.7 + 15
        facts = [f"{text(each.value)} measured"]
        if each.predicted is not None:
            span = f" ({text(each.span[0])} to {text(each.span[1])})" if each.span else ""
            facts.append(f"{text(each.predicted)} predicted{span}")
        facts += [f"ceiling {text(each.ceiling)}"] if each.ceiling is not None else []
        words.append(f"{each.label}: {', '.join(facts)} {unit}")
        parts.append(_text(LEFT, y, f"{_short(each.label)}: {', '.join(facts)}"))
        parts.append(f'<rect class="s0" x="{LEFT}" y="{y + 6:.1f}" width="{x(each.value) - LEFT:.1f}" height="16"/>')
        if each.predicted is not None:
            at = x(each.predicted)
            if each.span:
                parts.append(_line(x(each.span[0]), y + 14, x(each.span[1]), y + 14, "mark"))
            parts.append(f'<path class="mark" d="M{at:.1f} {y + 5:.1f}l7 9l-7 9l-7 -9z"/>')
        if each.ceiling is not None:
            parts.append(_line(x(each.ceiling), y + 2, x(each.ceiling), y + 26, "limit"))
    return _svg(title, words, height, "".join(parts), _more(entries, drawn, "bars"))


def curves(
    title: str,
    entries: Sequence[Curve],
    *,
    x_text: Text,
    y_text: Text,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    x_ticks: Sequence[float] | None = None,
    spans: Sequence[Span] = (),
    height: int = 260,
) -> Markup:
    """Curves over one x axis, from 0 upwards; stretches of x shaded. `x_ticks`: what is marked, else round values."""
    drawn = entries[:STYLES]
    xs = [x for each in drawn for x, _ in each.points]
    ys = [y for each in drawn for _, y in each.points]
    low, high = min(xs), max(xs)
    if low == high:
        low, high = (low / 2, high * 2) if log_x else (low - 0.5, high + 0.5)
    legend = 18 * len(drawn) if len(drawn) > 1 else 0
    x = Scale(low, high, LEFT, WIDTH - RIGHT, log_x)
    y = Scale(min(0, *ys, 0), max(*ys, 0) * 1.05 or 1, height - BOTTOM, TOP)
    parts = [_shade(span, x, height) for span in spans]
    parts += [_grid_x(x, x_text, height, x_label, x_ticks), _grid_y(y, y_text, y_label)]
    words = []
    for place, each in enumerate(drawn):
        dots = each.points
        for stretch in _stretches(each):
            line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in thinned(stretch, len(each.points)))
            parts.append(f'<polyline class="line s{place}" points="{line}"/>')
        if each.dots:
            parts += [_dot(x(a), y(b), place) for a, b in dots]
            numbers = "; ".join(f"{y_text(b)} at {x_text(a)}" for a, b in dots)
        else:
            numbers = f"{y_text(min(b for _, b in dots))} to {y_text(max(b for _, b in dots))}"
        words.append(f"{each.label}: {numbers}")
        if legend:
            at = height + 18 * place + 4
            parts.append(f'<polyline class="line s{place}" points="{LEFT},{at} {LEFT + 34},{at}"/>')
            parts.append(_dot(LEFT + 17, at, place) if each.dots else "")
            parts.append(_text(LEFT + 42, at + 4, _short(each.label, 62)))
    words += [f"{span.name}: {x_text(span.start)} to {x_text(span.end)}" for span in spans]
    return _svg(title, words, height + legend, "".join(parts), _more(entries, drawn, "curves"))


def roofline(
    title: str,
    bytes_per_s: float,
    flops_per_s: float,
    entries: Sequence[tuple[str, float, float]],
    rate_text: Text,
) -> Markup:
    """Operations per second over operations per byte, both by logarithms: the slope is the memory, the flat part the arithmetic.
    `entries`: (label, operations per byte, operations per second)."""
    ridge = flops_per_s / bytes_per_s
    low = min([ridge / 10, *(a for _, a, _ in entries)]) / 2
    high = max([ridge * 10, *(a for _, a, _ in entries)]) * 2
    bottom = min([low * bytes_per_s, *(b for _, _, b in entries)]) / 2
    height = 340
    x = Scale(low, high, LEFT + 16, WIDTH - RIGHT, log=True)
    y = Scale(bottom, flops_per_s * 2, height - BOTTOM, TOP, log=True)
    start = max(low, bottom / bytes_per_s)
    roof = f"{x(start):.1f},{y(start * bytes_per_s):.1f} {x(ridge):.1f},{y(flops_per_s):.1f} {x(high):.1f},{y(flops_per_s):.1f}"
    parts = [
        _grid_x(x, lambda value: f"{value:g}", height, "operations per byte"),
        _grid_y(y, rate_text, "", LEFT + 16),
    ]
    parts.append(f'<polyline class="limit" points="{roof}"/>')
    words = [
        f"the memory's slope meets the arithmetic rate, {rate_text(flops_per_s)}, at {ridge:.3g} operations per byte"
    ]
    labels: list[str] = []
    for place, (label, intensity, rate) in enumerate(entries):
        parts.append(_dot(x(intensity), y(rate), place % STYLES))
        labels.append(_dot(LEFT + 17, height + 18 * place + 4, place % STYLES))
        most = min(flops_per_s, intensity * bytes_per_s)
        words.append(f"{label}: {rate_text(rate)} of {rate_text(most)} at {intensity:.3g} operations per byte")
        labels.append(_text(LEFT + 42, height + 18 * place + 8, f"{_short(label, 44)}: {rate / most:.0%} of its roof"))
    return _svg(title, words, height + 18 * len(entries), "".join([*parts, *labels]), "")


def _stretches(curve: Curve) -> Iterator[Points]:
    """The curve's points, anew where it is broken."""
    ends = [k for k in range(1, len(curve.points)) if curve.points[k][0] - curve.points[k - 1][0] > curve.most_apart]
    return (curve.points[start:end] for start, end in pairwise([0, *ends, len(curve.points)]))


def thinned(points: Points, total: int) -> Points:
    """Those of a curve of `total` points that are drawn, at most about MAX_POINTS of all: of every few neighbours the lowest and
    the highest, so that no peak is lost."""
    size = -(-2 * total // MAX_POINTS)
    if size <= 2:
        return points
    extremes: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        extremes += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return extremes


def cumulative(values: Sequence[float], steps: int = 60) -> list[tuple[float, float]]:
    """(value, share of the values that are at most it), in `steps` steps; values must be above 0."""
    ordered = sorted(value for value in values if value > 0)
    if not ordered:
        return []
    places = sorted({round(k / steps * (len(ordered) - 1)) for k in range(steps + 1)})
    return [(ordered[place], (place + 1) / len(ordered)) for place in places]


def rates(points: Points) -> list[tuple[float, float]]:
    """A counter's readings as what it gained per unit of x, at the end of each stretch."""
    return [(u, (q - p) / (u - t)) for (t, p), (u, q) in pairwise(points) if u > t]


def _svg(title: str, words: Sequence[str], height: float, body: str, more: str) -> Markup:
    from markupsafe import Markup, escape

    title = printable(title, "\ufffd")
    description = escape(printable(". ".join(words), "\ufffd"))
    note = Markup("<p class=note>{}</p>").format(more) if more else ""
    return Markup(
        f'<figure><figcaption>{escape(title)}</figcaption><svg role="img" viewBox="0 0 {WIDTH} {height + 8:.0f}">'
        f"<title>{escape(title)}</title><desc>{description}</desc>{body}</svg>{note}</figure>"
    )


def _more(entries: Sequence[object], drawn: Sequence[object], what: str) -> str:
    return f"{len(entries) - len(drawn)} more {what} are in the table only." if len(entries) > len(drawn) else ""


def _short(text: str, most: int = LABEL_LETTERS) -> str:
    text = printable(text, "\ufffd")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    from markupsafe import escape

    return f'<text x="{x:.1f}" y="{y:.1f}"{f" class={kind}" if kind else ""}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(x: float, y: float, style: int) -> str:
    shapes = ("m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", "m-4 -4h8v8h-8z", "m0 -5l5 9h-10z")
    return f'<path class="dot s{style}" d="M{x:.1f} {y:.1f}{shapes[style % len(shapes)]}"/>'


def _grid_x(x: Scale, text: Text, height: float, label: str, ticks: Sequence[float] | None = None) -> str:
    bottom, ticks = height - BOTTOM, x.ticks() if ticks is None else ticks
    parts = [_line(x(tick), TOP - 8, x(tick), bottom, "grid") for tick in ticks]
    parts += [_text(x(tick), bottom + 16, text(tick), "middle") for tick in ticks]
    return "".join(parts) + _text(WIDTH - RIGHT, bottom + 32, label, "end")


def _grid_y(y: Scale, text: Text, label: str, left: float = LEFT) -> str:
    parts = [_line(left, y(tick), WIDTH - RIGHT, y(tick), "grid") for tick in y.ticks()]
    parts += [_text(left - 6, y(tick) + 4, text(tick), "end") for tick in y.ticks()]
    return "".join(parts) + (_text(left + 4, TOP + 2, label) if label else "")


def _shade(span: Span, x: Scale, height: float) -> str:
    start, end = max(span.start, x.low), min(span.end, x.high)
    if end <= start:
        return ""
    left, width = x(start), x(end) - x(start)
    rect = f'<rect class="phase" x="{left:.1f}" y="{TOP}" width="{width:.1f}" height="{height - BOTTOM - TOP:.1f}"/>'
    return rect + (_text(left + 2, height - BOTTOM - 4, span.name, "phase-name") if width > 8 * len(span.name) else "")
