"""Several runs in one sitting: `rigbench run --runs N`, and with `--against "OPTIONS"` a second set of options beside the first.

    rigbench run my-model.gguf -u 1,8 --runs 3 --against "-fa on"

Each run is a `rigbench run` of its own, with a fresh worker. The two sides take turns (A B, B A, A B ...), so that a machine that
warms up or slows down does so for both. The second side has all words of the first but those that it names itself. At the end
stands a comparison of the sides, or how much the runs differ.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from rigbench.cli.options import INTERRUPTED, say
from rigbench.errors import InputError, UnavailableError

OWN = ("runs", "against")
"""Parameters of `run` that make a series."""
OPTION = "option"
"""The parameter of `-O NAME=VALUE`, of which each NAME counts alone."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """Of a command: its name, and whether a word follows it."""

    name: str
    valued: bool


Names = Mapping[str, Parameter]
"""Parameters by each of the words that name them (-m, --model)."""


def names_of(context: typer.Context) -> Names:
    """The options of the command that is called."""
    return {
        word: Parameter(str(each.name), not getattr(each, "is_flag", False))
        for each in context.command.params
        if each.param_type_name == "option"
        for word in (*each.opts, *each.secondary_opts)
    }


def pieces(words: Sequence[str], names: Names) -> Iterator[tuple[str, list[str]]]:
    """The words of a command line by what they set: (parameter, or "" for what stands alone; the words). As click reads them."""
    left = list(words)
    while left:
        word = left.pop(0)
        name, is_joined, value = word.partition("=")
        known = names.get(name)
        if known is None and not word.startswith("--") and word[:2] in names:  # -u8
            known, is_joined, value = names[word[:2]], "=", word[2:]
        if known is None or word == "-":
            yield "", [word]
            continue
        taken_words = [word]
        if known.valued and not is_joined and left:
            value = left.pop(0)
            taken_words.append(value)
        yield (f"{OPTION} {value.partition('=')[0]}" if known.name == OPTION else known.name), taken_words


def sides_of(words: Sequence[str], against: str | None, names: Names) -> list[list[str]]:
    """The words of `rigbench run` for each side, one without `against`. InputError for a text that is no command line."""
    first = [(name, each) for name, each in pieces(words, names) if name not in OWN]
    sides = [first]
    if against is not None:
        try:
            second = list(pieces(shlex.split(against), names))
        except ValueError as error:
            raise InputError(f"--against {against!r}: {error}") from None
        if not second:
            raise InputError('--against names no option: write --against "-fa on"')
        named = {name for name, _ in second}
        if wrong := named & {*OWN, "resume", "out"}:
            raise InputError(f"--against cannot hold --{min(wrong)}: it is of both sides")
        sides.append([*(piece for piece in first if piece[0] not in named), *second])
    return [[word for _, each in side for word in each] for side in sides]


def measured(sides: Sequence[Sequence[str]], runs: int, *, strict: bool) -> int:
    """Run each side `runs` times, in turns; then say what they tell. The exit code."""
    from rigbench.run import processes

    results: list[list[Path]] = [[] for _ in sides]
    exit_code = failures = 0
    order = list(range(len(sides)))
    turns = [side for turn in range(runs) for side in (order[::-1] if turn % 2 else order)]
    try:
        for number, side in enumerate(turns, 1):
            say(f"run {number} of {len(turns)}{f', side {chr(65 + side)}' if len(sides) > 1 else ''}")
            ended = processes.rigbench(["run", *sides[side], "--trust-suite"])
            if ended.code == INTERRUPTED:
                raise KeyboardInterrupt
            if ended.code == InputError.exit_code:
                return ended.code  # it would be so again; the run has said why
            if ended.result is not None and ended.code == 0:
                results[side].append(ended.result)
            else:
                failures += 1
                say(f"run {number} failed (exit code {ended.code}); what it said stands above")
    except KeyboardInterrupt:
        say(f"interrupted: {sum(map(len, results))} of {len(turns)} runs are finished and kept")
        exit_code = INTERRUPTED
    for path in (path for each in results for path in each):
        typer.echo(f"result: {path}")
    if all(results):
        _say_what_they_tell(results)
    elif not exit_code:
        say("one side was not measured: there is nothing to compare" if any(results) else "nothing was measured")
        exit_code = UnavailableError.exit_code
    return exit_code or (UnavailableError.exit_code if failures and strict else 0)


def _say_what_they_tell(results: Sequence[Sequence[Path]]) -> None:
    from rigbench.analysis import compare
    from rigbench.cli.options import levels_of, levels_text, rows_of
    from rigbench.report import compare_table, table

    rows = [rows_of(side) for side in results]
    if len(rows) > 1:
        compare_table.print_comparison(table.output_console(), compare.compare(rows[0], rows[1]))
        typer.echo(levels_text(levels_of(*rows)))
    elif len(results[0]) > 1:
        compare_table.print_texts(
            table.output_console(), compare_table.SPREAD_HEADINGS, compare_table.spread_texts(compare.spreads(rows[0]))
        )
