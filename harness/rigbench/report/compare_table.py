"""Comparisons and histories as a terminal table and as Markdown for a pull request. Computes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from rigbench import units
from rigbench.analysis.compare import BAD, Cell, Comparison
from rigbench.analysis.definitions import metric
from rigbench.analysis.regress import History
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
    "change: NEW / BASE - 1, of geometric means; 95 % interval by Student's t on logarithms; p: Holm over the table",
    "same: the interval lies inside +-3 %      slower, faster, more, less: p < 0.03      ~: cannot tell",
    "n: repetitions on either side, or documents (d) where a side has several",
)


STEP_HEADINGS = ("machine", "from", "to", *HEADINGS)
LEFT = ("case", "metric", "verdict", "differs", "since", "run")
LONG = 40
"""Longer values are shown by what differs in them."""
SHIFT_HEADINGS = ("case", "metric", "since", "run", "before", "after", "change", "verdict")


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
        shown = metric(cell.metric)
        name, values = shown.label, (shown.text(cell.base), shown.text(cell.new))
    said = cell.verdict + (f": {cell.reason}" if cell.reason else "")
    return cell.group, name, *values, percent(cell.ratio), interval, p, n, said


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


def print_histories(console: Console, histories: Sequence[History], *, every: bool) -> None:
    """Each step with what is not `same` or `~` there (with all of it for `every`), then the shifts, then what else changed."""
    machines = {each.machine_id for each in histories}
    runs = {run.document_id for each in histories for run in each.runs}
    found = shown_steps(histories, every=every)
    count = sum(len(step.cells) for each in histories for step in each.steps)
    console.print(f"{len(runs)} runs, {len(histories)} cases on {len(machines)} machines, {count} comparisons")
    if not found:
        console.print("No step is told apart from the noise.")
    for (machine, before, after), cells in found.items():
        where = f" on {machine}" if len(machines) > 1 else ""
        console.print(Text(f"{before} -> {after}{where}", style="bold underline"))
        print_cells(console, cells)
        for line in (*reason_lines(cells), *flag_lines(cells)):
            console.print(Text(f"! {line}", style="yellow"))
    if shifts := shift_texts(histories):
        console.print(Text("Levels that changed (change points of the series of runs)", style="bold underline"))
        print_texts(console, SHIFT_HEADINGS, shifts)
    for note in FOOTNOTES:
        console.print(Text(note, style="dim"))
    for line in side_lines(histories):
        console.print(Text(f"! {line}", style="yellow"))


def shown_steps(histories: Sequence[History], *, every: bool) -> dict[tuple[str, str, str], list[Cell]]:
    """(machine, from, to) -> the cells to show."""
    found: dict[tuple[str, str, str], list[Cell]] = {}
    for each in histories:
        for step in each.steps:
            cells = [cell for cell in step.cells if every or cell.verdict not in ("same", "~")]
            if cells:
                found.setdefault((each.machine_id, step.before, step.after), []).extend(cells)
    return found


def shift_texts(histories: Sequence[History]) -> list[tuple[str, ...]]:
    """As in SHIFT_HEADINGS."""
    return [
        (
            each.group,
            metric(shift.metric).label,
            shift.at,
            f"{shift.created_utc} {shift.document_id[:8]}",
            metric(shift.metric).text(shift.before),
            metric(shift.metric).text(shift.after),
            percent(shift.after / shift.before),
            shift.verdict,
        )
        for each in histories
        for shift in each.shifts
    ]


def side_lines(histories: Sequence[History]) -> list[str]:
    """What else changed at a step, said once: it may be the cause as well."""
    found = {
        f"from {step.before} to {step.after} also the {each.name} changed: {each.base} -> {each.new}": None
        for one in histories
        for step in one.steps
        for each in step.differences
    }
    return list(found)


def history_markdown(histories: Sequence[History], *, every: bool) -> str:
    """The same tables for a pull request."""
    rows = [
        (machine, before, after, *cell_texts(cell))
        for (machine, before, after), cells in shown_steps(histories, every=every).items()
        for cell in cells
    ]
    shifts = shift_texts(histories)
    lines = markdown_table(STEP_HEADINGS, rows) if rows else ["No step is told apart from the noise."]
    if shifts:
        lines += ["", "Levels that changed:", "", *markdown_table(SHIFT_HEADINGS, shifts)]
    lines += ["", *(f"{inert(note)}  " for note in FOOTNOTES)]
    lines += [f"- {inert(line)}" for line in side_lines(histories)]
    return "\n".join(lines) + "\n"


def reason_lines(cells: Sequence[Cell]) -> list[str]:
    """`chat/c8: not comparable: another power limit`: each reason once, with the cases that it concerns."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell.reason and cell.verdict != "same":
            found.setdefault(f"{cell.verdict}: {cell.reason}", {})[short_case(cell.group)] = None
    return [f"{', '.join(cases)}: {reason}" for reason, cases in found.items()]


def flag_lines(cells: Sequence[Cell]) -> list[str]:
    """`noisy: chat/c1, chat/c2`: each flag once, with the cases that it concerns."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        for flag in cell.flags:
            found.setdefault(flag, {})[short_case(cell.group)] = None
    return [f"{flag}: {', '.join(groups)}" for flag, groups in found.items()]


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
