"""Which version of an engine made it slower: each in an environment of its own, the same suite in each, halved until one is left.

    rigbench bisect --suite smoke --good 'llama-cpp-python==0.3.30' --bad 'llama-cpp-python==0.3.36'

The two ends are measured first and compared (analysis/compare.py). The case and metric in which the bad end is most
clearly slower is then the yardstick for every version between: one whose interval is below that of the good end is bad, one that
is as fast as the good end, or faster than the bad one, is good. What is neither is measured once more, and then passed over.
Environments stay in the cache and results in the folder of the run, so that a bisection that was ended is taken up again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from rigbench.analysis import compare
from rigbench.analysis.table import Row
from rigbench.errors import InputError, UnavailableError
from rigbench.paths import cache_dir, slug
from rigbench.run.processes import WINDOWS
from rigbench.text import printable

INSTALL_LIMIT_S = 2 * 3600
"""Building an engine from source takes long."""
QUERY_LIMIT_S = 120
WORSE, BETTER = ("slower", "more"), ("faster", "less")
Measure = Callable[[str, bool], list[Row]]
"""(version, again) -> the rows of its runs, of twice as many the second time. Raises CannotMeasure."""


class CannotMeasure(Exception):
    """This version cannot be installed or run; its sentence says why."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One version as it was judged: good, bad, unclear, or skipped with the reason. `ratio`: the yardstick's, to the good end."""

    version: str
    state: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Culprit:
    """`bad` is the first version known to be slower, `good` the last one before it known not to be; `between` those that could
    not be judged, any of which may be the culprit. `bad` is None where the bad end is not slower than the good one."""

    good: str
    bad: str | None
    between: tuple[str, ...]
    group: str | None
    metric: str | None
    trials: tuple[Trial, ...]


def pinned(text: str) -> tuple[str, str]:
    """`name[extra]==1.2` -> ("name[extra]", "1.2"). InputError if it is not one version of one package."""
    try:
        requirement = Requirement(text)
        pins = list(requirement.specifier)
        if len(pins) != 1 or pins[0].operator != "==" or requirement.url or requirement.marker:
            raise InvalidRequirement("not pinned")
        version = str(Version(pins[0].version))
    except (InvalidRequirement, InvalidVersion) as error:
        example = "llama-cpp-python==0.3.36"
        raise InputError(f"{text!r}: write a package and one version of it, such as {example}") from error
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}", version


def between(versions: Sequence[str], good: str, bad: str) -> list[str]:
    """The versions from `good` to `bad`, both in it, as versions are ordered. Pre-releases only where an end is one."""
    low, high = Version(good), Version(bad)
    if low >= high:
        raise InputError(f"--good {good} must be the earlier version and --bad {bad} the later one")
    early = low.is_prerelease or high.is_prerelease
    within = [version for version in map(Version, versions) if low < version < high]
    return list(map(str, sorted({low, high, *(version for version in within if early or not version.is_prerelease)})))


def available(package: str, python: str, pip: Sequence[str] = ()) -> list[str]:
    """Every version of `package` that pip can find with the arguments `pip`. UnavailableError if it finds none."""
    name = Requirement(package).name
    done = _run([python, "-m", "pip", "index", "versions", name, *pip], QUERY_LIMIT_S)
    match = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
    if done.returncode or match is None:
        raise UnavailableError(f"pip finds no versions of {name} ({_reason(done)}); name them with --candidates")
    return [text.strip() for text in match[1].split(",")]


def environment(package: str, version: str, python: str, pip: Sequence[str] = (), more: Sequence[str] = ()) -> Path:
    """The interpreter of an environment with this version (and `more` requirements); made once. CannotMeasure if that fails."""
    from filelock import FileLock

    key = json.dumps([package, version, python, list(pip), list(more)])
    name = f"{slug(package)}-{slug(version)}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    folder = cache_dir() / "bisect" / name
    interpreter = folder / ("Scripts/python.exe" if WINDOWS else "bin/python")
    ready = folder / "ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not ready.exists():
            process = _run([python, "-m", "venv", "--clear", "--without-pip", str(folder)], QUERY_LIMIT_S)
            if process.returncode:
                raise CannotMeasure(f"no environment: {_reason(process)}")
            requirements = [f"{package}=={version}", *more]
            done = _run(
                [python, "-m", "pip", "--python", str(interpreter), "install", *pip, *requirements], INSTALL_LIMIT_S
            )
            if done.returncode:
                raise CannotMeasure(f"cannot be installed: {_reason(done)}")
            ready.touch()
    return interpreter


def search(versions: Sequence[str], measure: Measure, metrics: Sequence[str], say: Callable[[str], None]) -> Culprit:
    """The first slower one of `versions` (in their order; the first is good, the last bad). CannotMeasure if an end fails."""
    if len(versions) < 2:
        raise InputError("two versions are needed")
    first, last = measure(versions[0], False), measure(versions[-1], False)
    yardstick = clearest(compare.compare(first, last, metrics).cells)
    if yardstick is None:
        return Culprit(versions[0], None, (), None, None, ())

    def judged(version: str, again: bool = False) -> Trial:
        try:
            mine = measure(version, again)
        except CannotMeasure as error:
            return Trial(version, "skipped", reason=str(error))
        cell, state = _cell(first, mine, yardstick), "unclear"
        if cell.verdict in ("failed", "not comparable"):
            state = "skipped"
        elif cell.verdict in WORSE:
            state = "bad"
        elif cell.verdict in (*BETTER, "same") or _cell(last, mine, yardstick).verdict in BETTER:
            state = "good"
        elif not again:
            return judged(version, again=True)
        return Trial(version, state, cell.ratio, cell.low, cell.high, cell.reason)

    say(f"{yardstick.group} {yardstick.metric}: {versions[-1]} is at {yardstick.ratio:.3f} of {versions[0]}")
    trials = {
        versions[0]: Trial(versions[0], "good", 1.0),
        versions[-1]: Trial(versions[-1], "bad", yardstick.ratio, yardstick.low, yardstick.high),
    }
    low, high = 0, len(versions) - 1
    while left := [place for place in range(low + 1, high) if versions[place] not in trials]:
        place = min(left, key=lambda each: (abs(2 * each - low - high), each))
        trial = trials[versions[place]] = judged(versions[place])
        at = f", {trial.ratio:.3f}" if trial.ratio is not None else ""
        say(f"{trial.version}: {trial.state}{at}{f' ({trial.reason})' if trial.reason else ''}")
        if trial.state == "good":
            low = place
        elif trial.state == "bad":
            high = place
    ordered = tuple(trials[version] for version in versions if version in trials)
    unjudged = tuple(versions[low + 1 : high])
    return Culprit(versions[low], versions[high], unjudged, yardstick.group, yardstick.metric, ordered)


def clearest(cells: Sequence[compare.Cell]) -> compare.Cell | None:
    """Of the cells that are worse the one whose interval stays farthest from 1; None if none is."""
    worse = [cell for cell in cells if cell.verdict in WORSE]
    return max(worse, key=lambda cell: max((cell.low or 1.0) - 1, 1 - (cell.high or 1.0)), default=None)


def _cell(base: Sequence[Row], new: Sequence[Row], like: compare.Cell) -> compare.Cell:
    old, young = ([row for row in rows if row.group == like.group] for rows in (base, new))
    return compare.judged(compare.raw_cells(old, young, (like.metric,)))[0]


def _run(command: Sequence[str], limit_s: float) -> subprocess.CompletedProcess[str]:
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONIOENCODING": "utf-8"}
    text: dict[str, Any] = {
        "encoding": "utf-8",
        "errors": "replace",
        "stdin": subprocess.DEVNULL,
        "env": {**os.environ, **quiet},
    }
    try:
        return subprocess.run(list(command), capture_output=True, timeout=limit_s, check=False, **text)
    except subprocess.TimeoutExpired:
        fault = f"no end within {limit_s:.0f} s"
    except OSError as error:
        fault = f"{command[0]}: {error.strerror}"
    return subprocess.CompletedProcess(list(command), 1, "", fault)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """pip's own first fault in one line."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    faults = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    text = (faults or lines[-1:] or [f"exit code {done.returncode}"])[0]
    return printable(text, " ")[:300]
