"""Two ways of measuring the same thing, in turn: A B, B A, A B … on the same model file in the same minutes.

What drifts (clocks, neighbours on a shared machine) then falls on both alike. The verdict is on the ratio of the
medians; the smallest and largest ratio of a round stand beside it, and tell how quiet the machine was.
"""

from __future__ import annotations

import atexit
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llama_tools import Flags, fail
from pydantic import TypeAdapter

from harness.analysis.metrics import CaseMetrics, case_metrics
from harness.records import Case, CaseResult, RequestRecord

LIMIT_S = 900
REPETITIONS = 5
"""Of a case within one measurement, where starting the engine takes longer than measuring."""


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


@cache
def _opened(model: Path, flags: Flags) -> Any:
    """A worker that holds the model, as in a run. One for all samples: starting anew for each would take longer than the sample
    itself, and what the machine does meanwhile would part the two that are compared."""
    from harness.run.processes import WorkerProcess

    worker = WorkerProcess(sys.executable)
    atexit.register(worker.kill)
    file = {"name": model.stem, "path": str(model), "format": "gguf"}
    _ask(worker, {"do": "open", "backend": "llama_cpp", "model": file, "options": asdict(flags)})
    return worker


def _ask(worker: Any, command: dict[str, Any]) -> dict[str, Any]:
    worker.send(command)
    while (answer := worker.receive(time.monotonic() + LIMIT_S))["event"] == "phase":
        pass
    if answer["event"] == "error":
        fail(f"rigbench could not measure: {answer['message']}")
    return dict(answer)


def rigbench_metrics(model: Path, flags: Flags, *, users: int, prompt: int, output: int) -> CaseMetrics:
    """One case of random token ids, one request a user, after a round of warm-up of the same length.

    As in a run: the worker, its loop, the raw records and the metrics.
    """
    case = Case(
        id="case",
        group="case",
        backend="llama_cpp",
        model=model.stem,
        workload="tokens",
        workload_kind="tokens",
        prompt_tokens=prompt,
        output_tokens=output,
        concurrency=users,
        requests_per_user=1,
        repetition=0,
        seed=1,
    )
    warmup = {"max_rounds": 1, "tolerance": 0.03, "prompt_tokens": prompt, "output_tokens": output}
    answer = _ask(_opened(model, flags), {"do": "case", "case": asdict(case), "text": None, "warmup": warmup})
    records = TypeAdapter(tuple[RequestRecord, ...]).validate_python(answer["requests"])
    return case_metrics(CaseResult(case, order=0, started_s=0.0, requests=records))


def rigbench(*words: str) -> str:
    """What the command prints on stdout."""
    command = [sys.executable, "-m", "harness.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail(f"rigbench {words[0]} failed: {' | '.join(done.stderr.strip().splitlines()[-3:])}")
    return done.stdout
