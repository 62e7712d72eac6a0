"""What a page shows of one result, for `rigbench report` and for the site alike: facts, charts, flags in words, cost, the table.

Every number is a row's, as `rigbench show --json` has it, or a raw record's.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rigbench import units
from rigbench.analysis import definitions, flags
from rigbench.analysis.table import Row
from rigbench.analysis.windows import points
from rigbench.predict.cost import energy_cost_per_million
from rigbench.records import CaseResult, Prediction, RunDocument, Series
from rigbench.report import charts
from rigbench.report.live import value_text
from rigbench.report.table import remarks
from rigbench.workloads import KINDS

if TYPE_CHECKING:
    from markupsafe import Markup

SPEEDS = ("user_tps", "output_tps")
QUANTITIES = (("Power", ("W", "J")), ("Clocks", ("Hz",)), ("Memory", ("B",)), ("Temperature", ("degC",)))
HIDDEN_SERIES = ("memory_available", "swap_in", "swap_out", "rss_anonymous", "rss_file_backed")
"""In bytes, but no amount of memory that is in use, or a part of one that is."""
WORDS = ("workload", "model", "flags")
"""Columns of the table that are not numbers."""


@dataclass(frozen=True, slots=True)
class Price:
    """Of electricity, for the cost of a million tokens."""

    per_kwh: float = 0.16
    currency: str = "USD"


def view(rows: Sequence[Row], price: Price) -> dict[str, Any]:
    """By the names that `result_body.html` uses; from the rows of one result (one at least) alone, as an index has them."""
    kinds = dict.fromkeys(KINDS[row.workload_kind] for row in rows)
    return {
        "result": rows[0],
        "hardware": hardware_name(rows[0]),
        "engines": list(
            dict.fromkeys((row.engine_version, row.device) for row in rows if row.engine_version or row.device)
        ),
        "models": list(dict.fromkeys(row.model for row in rows)),
        "words": WORDS,
        "tables": [_table([row for row in rows if KINDS[row.workload_kind] == kind]) for kind in kinds],
        "remarks": [each.removeprefix("! ") for each in remarks(rows)],
        "flags": _flags(rows),
        "charts": [*_speeds(rows), *_over_users(rows)],
        "costs": _costs(rows, price),
        "price": f"{price.per_kwh:g} {price.currency} a kWh",
    }


def record_charts(document: RunDocument, rows: Sequence[Row]) -> list[Markup]:
    """The charts for which the raw records are needed."""
    return [*_rooflines(document, rows), *_over_time(document.cases), *_gaps(document.cases, rows)]


def hardware_name(row: Row) -> str:
    """What computed, in words."""
    return ", ".join(dict.fromkeys(row.device_names)) or row.cpu or row.machine_id


def speed(row: Row) -> tuple[definitions.Metric, float] | None:
    """The number that a row is known by: user t/s, else its first rate; None where it has none."""
    for metric in definitions.registry():
        value = row[metric.name]
        if metric.better == "higher" and value is not None and row.samples.get(metric.name):
            return metric, value
    return None


def ceiling(row: Row, metric: definitions.Metric) -> float | None:
    """The bound of that number; None where it is not known, or has none."""
    name = definitions.CEILINGS.get(metric.name)
    return row[name] if name else None


def label_of(row: Row, rows: Sequence[Row]) -> str:
    """A case among those rows: what all have alike is left out."""
    parts = [row.backend] if len({each.backend for each in rows}) > 1 else []
    parts += [row.model] if len({each.model for each in rows}) > 1 else []
    return " ".join([*parts, row.workload, f"x{row.concurrency}"])


def _table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """(headings, lines) of rows that have the same metrics."""
    columns = _columns(rows)
    return [label for label, _ in columns], [[text(row) for _, text in columns] for row in rows]


def _columns(rows: Sequence[Row]) -> list[tuple[str, Callable[[Row], str]]]:
    """(heading, text of a row) of what the rows are of, each metric that one of them has, and their flags."""
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("workload", lambda row: row.workload),
        ("model", lambda row: row.model),
        ("users", lambda row: str(row.concurrency)),
    ]
    for metric in definitions.registry():
        if metric.priority is not None and any(row[metric.name] is not None for row in rows):
            columns.append((metric.label, _with_interval(metric)))
    if any(row.flags or row.error for row in rows):
        columns.append(("flags", lambda row: ", ".join(row.flags) or ("failed" if row.error else "")))
    return columns


def _with_interval(metric: definitions.Metric) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        interval = row.interval(metric.name)
        value = metric.cell(row.__getitem__)
        if interval is None or interval.n < 2 or interval.low is None or interval.high is None:
            return value
        return f"{value} ({metric.text(interval.low)} to {metric.text(interval.high)})"

    return text


def _flags(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Each flag that a row has, with what it means and what to do."""
    meanings = {each.name: each.meaning for each in flags.FLAGS}
    names = dict.fromkeys(name for row in rows for name in row.flags)
    return [(name, meanings.get(name, "a flag of the engine's own")) for name in names]


def _speeds(rows: Sequence[Row]) -> Iterator[Markup]:
    by_metric: dict[str, list[tuple[Row, float]]] = {}
    for row in rows:
        if (best := speed(row)) is not None:
            by_metric.setdefault(best[0].name, []).append((row, best[1]))
    for name, entries in by_metric.items():
        metric = definitions.metric(name)
        bars = [
            charts.Bar(
                label_of(row, rows),
                value,
                row["predicted_tps"] if name == "user_tps" else None,
                ceiling(row, metric),
                (low, high)
                if name == "user_tps" and (low := row["predicted_low_tps"]) and (high := row["predicted_high_tps"])
                else None,
            )
            for row, value in entries
        ]
        legend = ""
        if any(bar.predicted for bar in bars):
            legend = " (bar), predicted (diamond, 80 % of cases within its line) and the ceiling (line)"
        elif any(bar.ceiling for bar in bars):
            legend = " (bar) and the ceiling (line)"
        yield charts.bars(f"{metric.label}: measured{legend}", bars, metric.text, metric.unit)


def _over_users(rows: Sequence[Row]) -> Iterator[Markup]:
    series: dict[str, list[Row]] = {}
    for row in rows:
        if row["user_tps"] is not None:
            series.setdefault(row.group.rpartition("/")[0], []).append(row)
    several = {key: sorted(own, key=lambda row: row.concurrency) for key, own in series.items() if len(own) > 1}
    for name in SPEEDS:
        metric = definitions.metric(name)
        curves = []
        for own in several.values():
            known = [(float(row.concurrency), value) for row in own if (value := row[name]) is not None]
            if len(known) > 1:
                curves.append(charts.Curve(label_of(own[0], rows).rpartition(" x")[0], known, dots=True))
        if curves:
            yield charts.curves(
                f"{metric.label} over users",
                curves,
                x_text=lambda value: f"{value:g}",
                y_text=metric.text,
                x_label="users at once",
                y_label=metric.unit,
                log_x=True,
                x_ticks=sorted({x for curve in curves for x, _ in curve.points}),
            )


def _rooflines(document: RunDocument, rows: Sequence[Row]) -> Iterator[Markup]:
    """One for each pair of a bandwidth and an arithmetic rate, with a point for each case's decoding and prompt."""
    by_group = {each.group: each for each in document.predictions if each.flops_per_s and each.bandwidth_bytes_per_s}
    machines: dict[tuple[float, float], list[tuple[str, float, float]]] = {}
    for row in rows:
        if (prediction := by_group.get(row.group)) is not None:
            key = (prediction.bandwidth_bytes_per_s or 0.0, prediction.flops_per_s or 0.0)
            machines.setdefault(key, []).extend(_roofline_points(row, prediction, label_of(row, rows)))
    for (bytes_per_s, flops_per_s), entries in machines.items():
        if entries:
            title = f"Roofline: {units.bandwidth_text(bytes_per_s)} and {units.flops_text(flops_per_s)}"
            yield charts.roofline(title, bytes_per_s, flops_per_s, entries[: 2 * charts.STYLES], units.flops_text)


def _roofline_points(row: Row, prediction: Prediction, label: str) -> Iterator[tuple[str, float, float]]:
    flops, size, user_tps = prediction.flops_per_step, prediction.bytes_per_step, row["user_tps"]
    if flops and size and user_tps:
        yield label, flops / size, flops * user_tps
    token, read = (prediction.inputs.get(f"prefill_{part}_per_token") for part in ("flops", "bytes"))
    if token and read and row["prefill_tps"]:
        yield f"{label}, prompt", token / read, token * row["prefill_tps"]


def _over_time(cases: Sequence[CaseResult]) -> Iterator[Markup]:
    """What the sensors read, over the run, with the stretches in which a case was measured."""
    spans = [
        charts.Span("measured" if mark.name == "measure" else mark.name, *_seconds(case, mark.start_us, mark.end_us))
        for case in cases
        for mark in case.phases
        if mark.name in ("measure", "load", "idle")
    ]
    for title, names in QUANTITIES:
        curves: dict[str, list[tuple[float, float]]] = {}
        for case in cases:
            for series in case.readings:
                if series.unit in names and series.name not in HIDDEN_SERIES and (read := _read(series)):
                    label = " ".join(filter(None, (series.source, series.device, series.name)))
                    moments = [(case.started_s + at / 1e6, value) for at, value in read]
                    curves.setdefault(label, []).extend(moments)
        used = [_read_curve(label, sorted(own)) for label, own in curves.items() if _moves(own)]
        if used:
            unit = names[0]
            yield charts.curves(
                f"{title} over the run",
                sorted(used, key=lambda curve: -max(value for _, value in curve.points)),
                x_text=lambda value: units.seconds_text(value) if value else "0 s",
                y_text=lambda value, unit=unit: value_text(value, unit),  # type: ignore[misc]
                x_label="time of the run; shaded: loading, idle and measured stretches",
                y_label="",
                spans=spans,
            )


def _read_curve(label: str, moments: Sequence[tuple[float, float]]) -> charts.Curve:
    """Broken where five readings are missing, as between two cases."""
    steps = [later - earlier for (earlier, _), (later, _) in pairwise(moments)]
    return charts.Curve(label, moments, most_apart=5 * statistics.median(steps))


def _read(series: Series) -> list[tuple[float, float]]:
    """(microseconds, value) of what was read, of a counter its rate."""
    read = [(float(at), value) for at, value in points(series)]
    if series.method != "counter":
        return read
    return [(at, rate * 1e6) for at, rate in charts.rates(read)] if series.unit == "J" else []


def _moves(read: Sequence[tuple[float, float]]) -> bool:
    """Whether there is a curve to draw: more than zeros, over more than a moment (a simulated run leaves its sensors behind)."""
    times = [at for at, _ in read]
    return any(value for _, value in read) and max(times) - min(times) > 0.01 * max(times)


def _seconds(case: CaseResult, start_us: float, end_us: float) -> tuple[float, float]:
    return case.started_s + start_us / 1e6, case.started_s + end_us / 1e6


def _gaps(cases: Sequence[CaseResult], rows: Sequence[Row]) -> Iterator[Markup]:
    """How long the gaps between tokens are: for each length the share of gaps that are no longer."""
    by_group: dict[str, list[float]] = {}
    for case in cases:
        for record in case.requests:
            times = record.unit_us
            by_group.setdefault(case.case.group, []).extend(
                (later - earlier) / 1e6 for earlier, later in pairwise(times)
            )
    curves = [
        charts.Curve(label_of(row, rows), cumulative)
        for row in rows
        if len(cumulative := charts.cumulative(by_group.get(row.group, ()))) > 2
    ]
    if curves:
        yield charts.curves(
            "Gaps between outputs: the share of gaps that are at most so long",
            curves,
            x_text=units.seconds_text,
            y_text=lambda share: f"{share:.0%}",
            x_label="gap",
            y_label="",
            log_x=True,
        )


def _costs(rows: Sequence[Row], price: Price) -> list[tuple[str, ...]]:
    """(case, watts with their scope, kWh, cost of a million output tokens) of what has a measured power."""
    costs: list[tuple[str, ...]] = []
    for row in rows:
        watts, output_tps = row["watts_mean"], row["output_tps"]
        if watts and output_tps:
            kwh = energy_cost_per_million(watts, output_tps, 1.0)
            amount = f"{kwh * price.per_kwh:.3g} {price.currency}"
            costs.append((label_of(row, rows), f"{watts:.4g} W ({row.power_scope})", f"{kwh:.3g} kWh", amount))
    return costs


def headline(rows: Sequence[Row]) -> str:
    """The page in one sentence: the fastest case of each kind of work, and the most that the machine delivers."""
    best: dict[str, tuple[float, str]] = {}
    for row in rows:
        if (one := speed(row)) is not None:
            metric, rate = one
            unit = "tokens/s for each user" if metric.name == "user_tps" else metric.label
            this = (rate, f"{metric.text(rate)} {unit} ({label_of(row, rows)})")
            best[metric.name] = max(best.get(metric.name, this), this)
    if not best:
        return "Nothing was measured."
    text = ", ".join(text for _, text in best.values())
    most = max(
        (row for row in rows if row["output_tps"] is not None), key=lambda row: row["output_tps"] or 0, default=None
    )
    if most is not None:
        text += f", {units.rate_text(most['output_tps'])} tokens/s in all ({label_of(most, rows)})"
    shares = [value for row in rows if (value := row["measured_over_predicted"]) is not None]
    return text + (f"; {statistics.median(shares):.0%} of what was predicted, in the median" if shares else "")
