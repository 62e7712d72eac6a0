"""Comparisons and histories as a terminal table and as Markdown for a pull request. Computes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from rigbench import units
from rigbench.analysis.compare import BAD, Cell, Comparison, Scatter
from rigbench.analysis.definitions import metric
from rigbench.analysis.regress import ENOUGH, History
from rigbench.report.table import print_table
from rigbench.text import inert, markdown_table

HEADINGS = ("case", "metric", "base", "new", "change", "95 % interval", "p", "n", "verdict")
STYLES = {
    "slower": "red",
    "more": "red",
    "failed": "bold red",
    "faster": "green",
    "less": "green",
    "not comparable": "yellow",
}
FOOTNOTES = (
    "change: NEW / BASE - 1, of runs; 95 % interval by Student's t on logarithms of the runs; p: Hochberg over the table",
    "same: the interval lies inside +-3 %      slower, faster, more, less: p < 0.03      ~: cannot tell",
    "n: repetitions on either side, or documents (d) where a side has several",
)
LEFT = ("case", "metric", "verdict", "differs", "at", "until")
LONG = 40
"""Longer values are shown by what differs in them."""
SPREAD_HEADINGS = ("case", "metric", "mean", "runs differ by", "runs", "more until +-3 %")
SHIFT_HEADINGS = ("case", "metric", "at", "until", "before", "after", "change", "to best", "verdict")
SHIFT_NOTES = (
    "at: the first value of the new level, or the range in which it begins      until: the first value after it",
    "change: after / before - 1; it counts beyond 3 %      to best: after / the best level before it - 1",
    "a run is the median of a day; of tables in which nothing changed at most 1 in 20 holds a shift",
)
NOTHING = "No level is told apart from the noise."


def percent(ratio: float | None) -> str:
    """0.953 -> '-4.7 %'."""
    if ratio is None:
        return units.MISSING
    return ">+999 %" if ratio > 10.99 else f"{(ratio - 1) * 100:+.1f} %"


def cell_texts(cell: Cell) -> tuple[str, ...]:
    """As in HEADINGS."""
    interval = units.MISSING
    if cell.low is not None and cell.high is not None:
        interval = f"{percent(cell.low).removesuffix(' %')} to {percent(cell.high)}"
    p = units.MISSING if cell.p is None else "<0.001" if cell.p < 0.001 else f"{cell.p:.3f}"
    letter = "d" if cell.unit == "document" else ""
    n = f"{cell.n_base}/{cell.n_new}{letter}" if cell.n_base or cell.n_new else units.MISSING
    if cell.metric == "all":
        name, values = "", (units.MISSING, units.MISSING)
    else:
        metric_of = metric(cell.metric)
        name, values = metric_of.label, (metric_of.text(cell.base), metric_of.text(cell.new))
    text = cell.verdict + (f": {cell.reason}" if cell.reason else "")
    return cell.group, name, *values, percent(cell.ratio), interval, p, n, text


def print_comparison(console: Console, comparison: Comparison) -> None:
    """What differs, the table, its formulas, and the flags in words."""
    if comparison.differences:
        rows = [(each.name, *differing(each.base, each.new)) for each in comparison.differences]
        print_texts(console, ("differs", "base", "new"), rows)
    else:
        console.print("The same machine, system, drivers, engine and options on both sides.")
    for remark in comparison.remarks:
        console.print(Text(f"! {remark}", style="yellow"))
    print_cells(console, comparison.cells)
    for note in FOOTNOTES:
        console.print(Text(note, style="dim"))
    for line in (*reason_lines(comparison.cells), *flag_lines(comparison.cells)):
        console.print(Text(f"! {line}", style="yellow"))


def differing(base: str, new: str) -> tuple[str, str]:
    """Two values that differ; of long lists (an engine's build flags) only what the other does not have."""
    mark = next((mark for mark in (" | ", ", ", " ") if mark in base and mark in new), None)
    if mark is None or max(len(base), len(new)) <= LONG:
        return base, new
    sides = base.split(mark), new.split(mark)
    alone = [mark.join(part for part in side if part not in other) for side, other in (sides, sides[::-1])]
    return f"… {alone[0] or 'without it'}", f"… {alone[1] or 'without it'}"


def print_cells(console: Console, cells: Sequence[Cell]) -> None:
    """A table for each backend and model. Reasons stand below, in `reason_lines`: they are too long for a column."""
    for label in dict.fromkeys(cell.group.rsplit("/", 2)[0] for cell in cells):
        console.print(Text(label, style="bold"))
        rows, last = [], ""
        for cell in cells:
            if cell.group.rsplit("/", 2)[0] == label:
                case, *texts, _ = cell_texts(cell)
                rows.append(("" if case == last else short_case(case), *texts, cell.verdict))
                last = case
        print_texts(console, HEADINGS, rows)


def short_case(group: str) -> str:
    """backend/model/chat/c1 -> chat/c1."""
    return "/".join(group.rsplit("/", 2)[1:]) or group


def print_texts(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of texts, in the colours of its verdicts."""
    keys = 2 if headings[0] == "case" else 1
    print_table(console, headings, rows, keys=keys, left=LEFT, styles=[STYLES.get(row[-1], "") for row in rows])


def spread_texts(scatters: Sequence[Scatter]) -> list[tuple[str, ...]]:
    """As in SPREAD_HEADINGS."""
    return [
        (
            short_case(each.group),
            metric(each.metric).label,
            metric(each.metric).text(each.value),
            f"{each.sd * 100:.1f} % (sd)",
            str(each.runs),
            str(each.more) if each.more < 900 else "many",
        )
        for each in scatters
    ]


def print_histories(console: Console, histories: Sequence[History], *, every: bool) -> None:
    """The shifts, then what is worth knowing of the series: outliers, two states, what else changed. `every`: all cases."""
    machines = {each.machine_id for each in histories}
    runs = {run.document_id for each in histories for run in each.runs}
    console.print(f"{len(runs)} runs, {len(histories)} cases on {len(machines)} machines")
    if shifts := shift_texts(histories):
        print_texts(console, SHIFT_HEADINGS, shifts)
        for note in SHIFT_NOTES:
            console.print(Text(note, style="dim"))
    else:
        console.print(NOTHING)
    for line in side_lines(histories, every=every):
        console.print(Text(f"! {line}", style="yellow"))


def shift_texts(histories: Sequence[History]) -> list[tuple[str, ...]]:
    """As in SHIFT_HEADINGS."""
    return [
        (
            each.group,
            "" if shift.metric == "all" else metric(shift.metric).label,
            shift.at if shift.earliest == shift.latest else f"{shift.earliest} to {shift.latest}",
            shift.until or units.MISSING,
            *(
                units.MISSING if shift.metric == "all" else metric(shift.metric).text(x)
                for x in (shift.before, shift.after)
            ),
            percent(shift.after / shift.before) if shift.after and shift.before else units.MISSING,
            percent(shift.against_best),
            shift.verdict,
        )
        for each in histories
        for shift in each.shifts
    ]


def side_lines(histories: Sequence[History], *, every: bool = False) -> list[str]:
    """What a reader must know of the series, each thing once."""
    lines: dict[str, None] = {}
    for each in histories:
        case = short_case(each.group)
        for shift in each.shifts:
            label = "" if shift.metric == "all" else f" {metric(shift.metric).label}"
            if shift.kind == "drift":
                lines[
                    f"{case}{label}: a drift in small steps from {shift.at} on, {percent(shift.against_best)} in all"
                ] = None
            if shift.kind == "sum":
                lines[f"{case}{label}: the sum of small steps until {shift.at}"] = None
            if shift.known is not None:
                lines[f"{case}{label} at {shift.at}: known: {shift.known}"] = None
            if shift.reason is not None:
                lines[f"{case}: {shift.reason}"] = None
            for other in shift.differences:
                lines[f"at {shift.at} also the {other.name} changed: {other.base} -> {other.new}"] = None
        for state in each.states:
            of = metric(state.metric)
            two = f"{of.text(state.low)} and {of.text(state.high)}"
            lines[
                f"{case} {of.label}: this machine has two states, {two}; what changes less than they differ is not seen"
            ] = None
        for one in each.outliers:
            of = metric(one.metric)
            lines[f"{case} {of.label}: one outlier, {of.text(one.value)} at {one.at} (level {of.text(one.level)})"] = (
                None
            )
        if each.left_out:
            lines[f"{case}: {each.left_out} runs without a value on this axis are left out"] = None
        if each.remark is not None:
            lines[f"{case}: {each.remark} in some of the runs, which are a history of their own"] = None
        if each.numbers < ENOUGH:
            lines[
                f"{case}: {each.numbers} days; a change is told from {ENOUGH} on, before that only one far beyond 5 %"
            ] = None
        if every and not each.shifts:
            lines[f"{case}: no shift in {each.numbers} days"] = None
    return list(lines)


def history_markdown(histories: Sequence[History], *, every: bool) -> str:
    """The same for a pull request."""
    shifts = shift_texts(histories)
    lines = markdown_table(SHIFT_HEADINGS, shifts) if shifts else [NOTHING]
    lines += ["", *(f"{inert(note)}  " for note in SHIFT_NOTES)]
    lines += [f"- {inert(line)}" for line in side_lines(histories, every=every)]
    return "\n".join(lines) + "\n"


def reason_lines(cells: Sequence[Cell]) -> list[str]:
    """`chat/c8: not comparable: another power limit`: each reason once, with the cases that it concerns."""
    reasons: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell.reason and cell.verdict != "same":
            reasons.setdefault(f"{cell.verdict}: {cell.reason}", {})[short_case(cell.group)] = None
    return [f"{', '.join(cases)}: {reason}" for reason, cases in reasons.items()]


def flag_lines(cells: Sequence[Cell]) -> list[str]:
    """`noisy: chat/c1, chat/c2`: each flag once, with the cases that it concerns."""
    flags: dict[str, dict[str, None]] = {}
    for cell in cells:
        for flag in cell.flags:
            flags.setdefault(flag, {})[short_case(cell.group)] = None
    return [f"{flag}: {', '.join(groups)}" for flag, groups in flags.items()]


def markdown(comparison: Comparison) -> str:
    """For a pull request or an issue: what differs, the table, the flags. Every text is made inert."""
    lines = []
    if comparison.differences:
        lines += markdown_table(("differs", "base", "new"), [(d.name, d.base, d.new) for d in comparison.differences])
        lines.append("")
    lines += [f"> {inert(remark)}" for remark in comparison.remarks]
    if comparison.remarks:
        lines.append("")
    bad = [cell_texts(cell)[-1] for cell in comparison.cells if cell.verdict in BAD]
    lines += markdown_table(HEADINGS, map(cell_texts, comparison.cells), bold=bad)
    lines += ["", *(f"{inert(note)}  " for note in FOOTNOTES)]
    lines += [f"- {inert(line)}" for line in flag_lines(comparison.cells)]
    return "\n".join(lines) + "\n"
