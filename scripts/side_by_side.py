"""Two ways of measuring the same thing, in turn: A B, B A, A B … on the same model file in the same minutes.

What drifts (clocks, neighbours on a shared machine) then falls on both alike. The verdict is on the ratio of the
medians; the smallest and largest ratio of a round stand beside it, and tell how quiet the machine was.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llama_tools import REPETITIONS, Flags, fail


@dataclass(frozen=True, slots=True)
class Comparison:
    """`ours` and `theirs` measure once and return the same quantity."""

    name: str
    unit: str
    against: str
    ours: Callable[[], float]
    theirs: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """All samples of one comparison, a pair a round."""

    name: str
    unit: str
    against: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Of the medians: above 1, ours is larger."""
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def difference(self) -> float:
        """Ours less theirs, of the medians."""
        return statistics.median(self.ours) - statistics.median(self.theirs)

    @property
    def round_ratios(self) -> list[float]:
        """One a round, smallest first."""
        return sorted(a / b for a, b in zip(self.ours, self.theirs, strict=True))


def in_turn(comparisons: Sequence[Comparison], rounds: int) -> list[Outcome]:
    """Measure each comparison `rounds` times, rounds outermost, the order within a pair turned about each round.

    Ctrl-C ends it early, with the pairs that are whole.
    """
    samples: list[tuple[list[float], list[float]]] = [([], []) for _ in comparisons]
    try:
        for number in range(rounds):
            for comparison, (ours, theirs) in zip(comparisons, samples, strict=True):
                if number % 2:
                    second, first = comparison.theirs(), comparison.ours()
                else:
                    first, second = comparison.ours(), comparison.theirs()
                ours.append(first)
                theirs.append(second)
                place = f"round {number + 1} of {rounds}: {comparison.name}"
                print(f"{place}: {first:.1f} against {second:.1f} {comparison.unit}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return [
        Outcome(comparison.name, comparison.unit, comparison.against, tuple(ours), tuple(theirs))
        for comparison, (ours, theirs) in zip(comparisons, samples, strict=True)
        if ours
    ]


def model_path(spec: str) -> Path:
    """The file behind `synthetic:SHAPE:QUANT` (made if need be) or behind a path."""
    from harness.models.synthetic import ensure_synthetic

    kind, _, rest = spec.partition(":")
    if kind == "synthetic":
        shape, _, quant = rest.partition(":")
        return ensure_synthetic(shape, quant)
    if not Path(spec).is_file():
        fail(f"{spec} is not a file: give a GGUF file or synthetic:SHAPE:QUANT.")
    return Path(spec).resolve()


def suite_text(model: str, flags: Flags, *, users: int, prompt: int, output: int) -> str:
    """One workload of random token ids, one request a user, warmed up at the same lengths."""
    options = ", ".join(f"{name} = {json.dumps(value)}" for name, value in asdict(flags).items())
    return f"""\
name = "side-by-side"
version = "1"
about = "One case, to lay beside llama.cpp's own tools."
[load]
concurrency = [{users}]
repetitions = {REPETITIONS}
requests_per_user = 1
[warmup]
prompt_tokens = {prompt}
[[workload]]
name = "tokens"
kind = "tokens"
prompt_tokens = {prompt}
output_tokens = {output}
[[engine]]
backend = "llama_cpp"
model = {json.dumps(model)}
options = {{ {options} }}
"""


def rigbench_row(model: str, flags: Flags, *, users: int, prompt: int, output: int) -> dict[str, Any]:
    """Run one case through the command line, as people do, and read its row back through `show`."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suite.toml"
        suite.write_text(suite_text(model, flags, users=users, prompt=prompt, output=output), encoding="utf-8")
        said = rigbench("run", str(suite), "-o", str(Path(folder) / "results"))
        document = said.strip().splitlines()[-1].removeprefix("result: ")
        (row,) = json.loads(rigbench("show", document, "--json"))
    if row["error"]:
        fail(f"rigbench could not measure {users} users: {row['error']}")
    return dict(row)


def rigbench(*words: str) -> str:
    """What the command prints on stdout."""
    command = [sys.executable, "-m", "harness.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail(f"rigbench {words[0]} failed: {' | '.join(done.stderr.strip().splitlines()[-3:])}")
    return done.stdout
