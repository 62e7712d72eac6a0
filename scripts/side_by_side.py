"""Two ways of measuring the same thing, in turn: A B, B A, A B … on the same model file in the same minutes.

What drifts (clocks, neighbours on a shared machine) falls on both of a pair alike. So the verdict is on the median of the
pairs' ratios. Beside it stands the 95 % interval of that median: where it is wider than the limit, the verdict is luck.

A pair should take seconds. Where starting an engine takes longer than that, both sides are held: ours is a worker that keeps its
model, the tool is a process that waits before each of its own trials until its turn comes (`Paused`). Whoever waits is stopped.
"""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from llama_tools import Flags, fail
from rigbench.analysis.definitions import case_values
from rigbench.analysis.requests import Repetition
from rigbench.documents import store
from rigbench.records import Case, CaseResult, RequestRecord
from rigbench.run.processes import WorkerGone, WorkerLate, WorkerProcess, find_python, interrupt_on_terminate
from rigbench.workloads import Generation

LIMIT_S = 900


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
    def ratios(self) -> list[float]:
        """Ours over theirs, one a pair."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def differences(self) -> list[float]:
        """Ours less theirs, one a pair."""
        return [a - b for a, b in zip(self.ours, self.theirs, strict=True)]


def in_sittings(
    open_pairs: Callable[[], AbstractContextManager[Sequence[Comparison]]], sittings: int, rounds: int
) -> list[Outcome]:
    """`in_turn` with what `open_pairs` holds, opened anew for each sitting: where in memory a process lies is luck that lasts as
    long as the process."""
    interrupt_on_terminate()  # so that nobody stays behind, stopped for good
    wholes: list[Outcome] = []
    for sitting in range(sittings):
        print(f"sitting {sitting + 1} of {sittings}: starting both sides", file=sys.stderr, flush=True)
        with open_pairs() as pairs:
            parts = in_turn(pairs, rounds)
        if len(parts) < len(pairs):
            break  # interrupted
        if wholes:
            both = zip(wholes, parts, strict=True)
            parts = [
                replace(part, ours=whole.ours + part.ours, theirs=whole.theirs + part.theirs) for whole, part in both
            ]
        wholes = parts
    return wholes


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the median of whatever distribution the values are from: two of them, counted in from the ends by the
    binomial distribution. Of fewer than six values the smallest and the largest, which is less than 95 %."""
    ordered, n = sorted(values), len(values)
    below = 0.0  # the chance that at most `inward` of n values lie on one side of the median
    inward = 0
    while inward < (n - 1) // 2 and (below := below + math.comb(n, inward) / 2**n) <= 0.025:
        inward += 1
    inward = max(0, inward - 1)
    return ordered[inward], ordered[n - 1 - inward]


def conclude(outcomes: Sequence[Outcome], limit_of: Callable[[Outcome], float], file: Path | None) -> int:
    """Print the table of ratios as results/LOG.md keeps it, write all samples to `file`, return the exit code: 1 where a median
    is further from 1 than its limit."""
    print(f"\n{ratio_table(outcomes, limit_of)}")
    if file:
        file.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1), encoding="utf-8")
    if min((len(outcome.ours) for outcome in outcomes), default=0) < 5:
        print("fewer than 5 pairs: no verdict")
    return int(any(_is_outside(outcome, limit_of(outcome)) for outcome in outcomes))


def _is_outside(outcome: Outcome, limit: float) -> bool:
    return abs(statistics.median(outcome.ratios) - 1) > limit


def ratio_table(outcomes: Sequence[Outcome], limit_of: Callable[[Outcome], float]) -> str:
    """Markdown."""
    lines = [
        "| what | against | pairs | rigbench | tool | ratio | 95 % interval | limit | |",
        "|---|---|--:|--:|--:|--:|---|--:|---|",
    ]
    for outcome in outcomes:
        low, high = median_interval(outcome.ratios)
        cells = [f"{outcome.name}, {outcome.unit}", f"`{outcome.against}`", str(len(outcome.ours))]
        cells += [f"{statistics.median(outcome.ours):.2f}", f"{statistics.median(outcome.theirs):.2f}"]
        cells += [f"{statistics.median(outcome.ratios):.4f}", f"{low:.3f} to {high:.3f}", f"{limit_of(outcome):.0%}"]
        verdict = "OUTSIDE" if _is_outside(outcome, limit_of(outcome)) else "ok"
        lines.append("| " + " | ".join([*cells, verdict]) + " |")
    return "\n".join(lines)


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
    from rigbench.models.synthetic.gguf import ensure_synthetic

    kind, _, rest = spec.partition(":")
    if kind == "synthetic":
        shape, _, quant = rest.partition(":")
        return ensure_synthetic(shape, quant)
    if not Path(spec).is_file():
        fail(f"{spec} is not a file: give a GGUF file or synthetic:SHAPE:QUANT.")
    return Path(spec).resolve()


def _ask(worker: WorkerProcess, command: dict[str, Any]) -> dict[str, Any]:
    worker.send(command)
    try:
        while (answer := worker.receive(time.monotonic() + LIMIT_S))["event"] == "phase":
            pass
    except (WorkerGone, WorkerLate) as error:
        fail(f"rigbench's worker ended: {error} {' | '.join(worker.log_lines()[-2:])}")
    if answer["event"] == "error":
        fail(f"rigbench could not measure: {answer['message']}")
    return dict(answer)


@contextmanager
def opened(backend: str, model: dict[str, Any], options: dict[str, Any], python: str) -> Iterator[WorkerProcess]:
    """A worker that holds a model, as in a run."""
    worker = WorkerProcess(find_python(python))
    try:
        _ask(worker, {"do": "open", "backend": backend, "model": model, "options": options})
        yield worker
    finally:
        worker.kill()


def measured(
    worker: WorkerProcess, *, users: int, prompt: int, output: int, turns: int = 1, warm: bool = True
) -> CaseResult:
    """One case of random token ids, `turns` requests a user; if `warm`, after a round of warm-up of the same length."""
    case = Case(
        id="case",
        group="case",
        backend="any",
        model="model",
        workload=Generation("tokens", "tokens", prompt, output),
        concurrency=users,
        requests_per_user=turns,
        repetition=0,
        seed=time.time_ns(),  # other prompts for each sample: no cache of the engine's may know them
    )
    warmup = {"max_rounds": int(warm), "tolerance": 0.03, "prompt_tokens": prompt, "output_tokens": output}
    with _going(worker.pid):
        answer = _ask(worker, {"do": "case", "case": asdict(case), "text": None, "warmup": warmup})
    records = TypeAdapter(tuple[RequestRecord, ...]).validate_python(answer["requests"])
    short = [record for record in records if record.error or len(record.unit_us) != output]
    if short:
        fail(f"rigbench's worker did not write {output} tokens for each request: {short[0].error or 'fewer came'}")
    return CaseResult(case, order=0, started_s=0.0, requests=records)


@contextmanager
def _going(group: int) -> Iterator[None]:
    """The group of processes goes on meanwhile, and stands still from then on: an engine that waits spins for seconds, on the very
    core where the other side computes (vLLM's worker: half the speed)."""
    if sys.platform == "win32":  # nothing can be stopped there, and llama.cpp, which is compared there, need not be
        yield
        return
    os.killpg(group, signal.SIGCONT)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGSTOP)


def rigbench_metrics(model: Path, flags: Flags, *, users: int, prompt: int, output: int) -> dict[str, float]:
    """llama.cpp through a worker for this sample alone, as the tools start anew for each.

    Where in memory a process happens to lie makes steps of 0.6 ms up to 8 % slower or faster for as long as it lives.
    """
    file = {"name": model.stem, "path": str(model), "format": "gguf"}
    with opened("llama_cpp", file, asdict(flags), sys.executable) as worker:
        return case_values(Repetition(measured(worker, users=users, prompt=prompt, output=output)))[0]


def command_metrics(model: Path, flags: Flags, *, users: int, prompt: int, output: int) -> dict[str, float]:
    """The same by `rigbench run MODEL -p … -n …`, from the document that it leaves: as a user measures, with all sensors on."""
    options = [word for name, value in asdict(flags).items() for word in ("-O", f"{name}={value}".lower())]
    with tempfile.TemporaryDirectory() as folder:
        load = ["-p", prompt, "-n", output, "-u", users, "-r", 1, "-o", folder]
        words = [sys.executable, "-m", "rigbench", "run", model, *load, *options]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode:
            fail(f"rigbench run ended with {done.returncode}: {done.stderr.strip().splitlines()[-1]}")
        document = store.read(Path(done.stdout.splitlines()[-1].removeprefix("result: ")))
    return case_values(Repetition(document.cases[0]))[0]


GATE = '''
import sys

def my_turn():
    """Wait for it. At the end of stdin there is none."""
    if not sys.stdin.readline():
        sys.exit()

def figure(value):
    print(f"figure: {value!r}", flush=True)
'''


class Paused:
    """A tool's own benchmark, stopped before each of its trials until called. Calling gives that trial's figure.

    `code` runs in `python` after `GATE`: it arranges that the benchmark calls `my_turn()` before and `figure(x)` after each
    trial.
    """

    def __init__(self, python: str, code: str, words: Sequence[object], environment: dict[str, str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self._process = subprocess.Popen(
            [find_python(python), "-c", GATE + code, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **environment},
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )

    def __call__(self) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        output = []
        with suppress(OSError), _going(self._process.pid):
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                if line.startswith("figure: "):
                    return float(line.removeprefix("figure: "))
                output.append(line)
        self._log.seek(0)
        output += self._log.read().decode(errors="replace").splitlines()
        fail(f"the tool ended: {' | '.join(line.strip() for line in output[-3:])}")

    def close(self) -> None:
        """End it with all that it has started."""
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
