"""Does rigbench measure what mlx-lm's own benchmark measures? Same interpreter, model and minutes, in turn.

    .venv/bin/python scripts/bench_mlx.py --python .venv-mlx/bin/python [--model synthetic:llama-1.5b:4bit] [--rounds 5]

decode, 1 user      user_tps     against  mlx_lm.benchmark -p P -g N -b 1   within 3 %
decode, U users     output_tps   against  mlx_lm.benchmark -p P -g N -b U   within 3 %

Two things are put right before the ratio is taken. With one user mlx-lm divides N tokens by the time from the first to
the last, which holds N - 1 gaps: its figure is multiplied by (N - 1) / N. And each side gives the median of its trials, where
mlx-lm prints their mean. Not put right: with one user mlx-lm runs `generate_step`, and rigbench the BatchGenerator that it runs for
any number of users, whose masks and offsets cost 1 to 2 % of a step in a model of a few MB, and less in a real one;
with several users mlx-lm's time holds their beginning and their end, 20 to 30 ms on a CPU: take N of 256 or more.
`--json` keeps all samples. Exit code 1 where a median is outside; nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from llama_tools import fail
from side_by_side import REPETITIONS, Comparison, Outcome, in_turn, rigbench

LIMIT = 0.03
_TRIAL = re.compile(r"^Trial \d+: .*generation_tps=([\d.]+)", re.MULTILINE)


def suite_text(model: str, python: str, *, users: int, prompt: int, output: int) -> str:
    """One workload of random token ids, one request a user, warmed up at the same lengths."""
    return f"""\
name = "side-by-side"
version = "1"
about = "One case, to lay beside mlx-lm's own benchmark."
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
backend = "mlx_lm"
model = {json.dumps(model)}
python = {json.dumps(python)}
"""


def rigbench_tps(model: str, python: str, *, users: int, prompt: int, output: int) -> float:
    """Tokens/s of one case run through the command line, as people do: per user with one user, else in all."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suite.toml"
        suite.write_text(suite_text(model, python, users=users, prompt=prompt, output=output), encoding="utf-8")
        said = rigbench("run", str(suite), "-o", str(Path(folder) / "results"))
        document = said.strip().splitlines()[-1].removeprefix("result: ")
        (row,) = json.loads(rigbench("show", document, "--json"))
    if row["error"]:
        fail(f"rigbench could not measure {users} users: {row['error']}")
    figure = row["user_tps" if users == 1 else "output_tps"]
    if figure is None:
        fail(f"rigbench gave no figure for {users} users: take more --output-tokens.")
    return float(figure)


def mlx_tps(folder: str, python: str, *, users: int, prompt: int, output: int) -> float:
    """Tokens/s that mlx-lm's benchmark says, the median of its trials, per gap between tokens."""
    words = ["-m", "mlx_lm.benchmark", "--model", folder, "-p", prompt, "-g", output, "-b", users, "-n", REPETITIONS]
    done = subprocess.run([python, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail(f"mlx_lm.benchmark failed: {' | '.join(done.stderr.strip().splitlines()[-2:])}")
    return benchmark_tps(done.stdout, users, output)


def benchmark_tps(said: str, users: int, output: int) -> float:
    """The figure out of what mlx_lm.benchmark printed."""
    trials = [float(found) for found in _TRIAL.findall(said)]
    if not trials:
        fail("mlx_lm.benchmark printed no trial that this script understands.")
    return statistics.median(trials) * ((output - 1) / output if users == 1 else 1.0)


def comparisons(spec: str, folder: str, python: str, prompt: int, output: int, levels: list[int]) -> list[Comparison]:
    """What is laid side by side."""
    return [
        Comparison(
            f"decode, {users} user{'s' if users > 1 else ''}",
            "t/s",
            f"mlx_lm.benchmark -p {prompt} -g {output} -b {users}",
            partial(rigbench_tps, spec, python, users=users, prompt=prompt, output=output),
            partial(mlx_tps, folder, python, users=users, prompt=prompt, output=output),
        )
        for users in levels
    ]


def table(outcomes: list[Outcome]) -> str:
    """Markdown, as results/LOG.md keeps it."""
    lines = [
        "| what | against | rigbench t/s | mlx-lm t/s | ratio | rounds' ratios | |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for outcome in outcomes:
        ours, theirs = statistics.median(outcome.ours), statistics.median(outcome.theirs)
        spread = f"{outcome.round_ratios[0]:.3f} to {outcome.round_ratios[-1]:.3f}"
        verdict = "ok" if abs(outcome.ratio - 1) <= LIMIT else "OUTSIDE"
        cells = [outcome.name, f"`{outcome.against}`", f"{ours:.2f}", f"{theirs:.2f}", f"{outcome.ratio:.4f}", spread]
        lines.append("| " + " | ".join([*cells, verdict]) + " |")
    return "\n".join(lines)


def arguments(words: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has mlx-lm")
    parser.add_argument("--model", default="synthetic:llama-1.5b:4bit", help="a folder or synthetic:SHAPE:QUANT")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements (at least 5 for a verdict)")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=256)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--json", type=Path, help="write all samples there")
    return parser.parse_args(words)


def main() -> int:
    from harness.models.files import resolve

    given = arguments()
    folder = resolve(given.model, formats=("mlx", "safetensors")).file.path
    print(f"model {given.model}; {given.rounds} rounds", flush=True)
    pairs = comparisons(given.model, str(folder), given.python, given.prompt_tokens, given.output_tokens, given.users)
    outcomes = in_turn(pairs, given.rounds)
    print(f"\n{table(outcomes)}")
    if given.json:
        given.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1), encoding="utf-8")
    if min((len(outcome.ours) for outcome in outcomes), default=0) < 5:
        print("fewer than 5 rounds: no verdict")
    return int(any(abs(outcome.ratio - 1) > LIMIT for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
