"""Does rigbench measure what mlx-lm's own benchmark measures? Same interpreter, model and minutes, in turn.

    .venv/bin/python scripts/bench_mlx.py --python .venv-mlx/bin/python [--model synthetic:llama-160m:BF16] [--rounds 15]

decode, 1 user      user_tps     against  mlx_lm.benchmark -p P -g N -b 1   within 3 %
decode, U users     output_tps   against  mlx_lm.benchmark -p P -g N -b U   within 3 %

With one user mlx-lm divides N tokens by the time from the first to the last, which holds N - 1 gaps: its figure is multiplied by
(N - 1) / N. Not put right: with one user mlx-lm runs `generate_step`, and rigbench the BatchGenerator that it runs for
any number of users, whose masks and offsets cost 1 to 2 % of a step in a model of a few MB, and less in a real one;
with several users mlx-lm's time holds their beginning and their end, 20 to 30 ms on a CPU: take N of 256 or more.
Exit code 1 where a median is outside; nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from llama_tools import fail
from rigbench.analysis.definitions import case_values
from rigbench.analysis.requests import Repetition
from rigbench.run.processes import WorkerProcess
from side_by_side import Comparison, Paused, conclude, in_sittings, measured, opened

LIMIT = 0.03
TOOL = """
import re, time, types
from mlx_lm import benchmark

def say(line):
    if trial := re.match(r"Trial .*generation_tps=([\\d.]+)", line):
        figure(float(trial[1]))

benchmark.time = types.SimpleNamespace(sleep=lambda _: my_turn(), perf_counter=time.perf_counter)
benchmark.print = say
benchmark.main()
"""
"""mlx_lm.benchmark, its delay between trials made a wait for its turn."""


@contextmanager
def open_pairs(folder: Path, python: str, prompt: int, output: int, levels: list[int]) -> Iterator[list[Comparison]]:
    """What is laid side by side: one worker of ours, and for each level the tool."""
    with ExitStack() as stack:
        file = {"name": folder.name, "path": str(folder), "format": "mlx"}
        worker = stack.enter_context(opened("mlx_lm", file, {}, python))
        pairs = []
        for users in levels:
            lengths = ["-p", prompt, "-g", output, "-b", users]
            words = ["--model", folder, *lengths, "-n", 1_000_000, "--delay", 1]
            tool = stack.enter_context(closing(Paused(python, TOOL, words, {})))
            pairs.append(
                Comparison(
                    f"decode, {users} user{'s' if users > 1 else ''}",
                    "t/s",
                    f"mlx_lm.benchmark {' '.join(map(str, lengths))}",
                    partial(rigbench_tps, worker, users, prompt, output),
                    partial(tool_tps, tool, users, output),
                )
            )
            tool()  # its start is over
            rigbench_tps(worker, users, prompt, output)
        yield pairs


def rigbench_tps(worker: WorkerProcess, users: int, prompt: int, output: int) -> float:
    """Per user with one user, else in all."""
    values, _ = case_values(Repetition(measured(worker, users=users, prompt=prompt, output=output, warm=False)))
    figure = values.get("user_tps" if users == 1 else "output_tps")
    if figure is None:
        fail(f"rigbench gave no figure for {users} users: take more --output-tokens.")
    return figure


def tool_tps(tool: Callable[[], float], users: int, output: int) -> float:
    """The next trial's tokens/s, per gap between tokens."""
    return tool() * ((output - 1) / output if users == 1 else 1.0)


def arguments(words: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has mlx-lm")
    parser.add_argument("--model", default="synthetic:llama-160m:BF16", help="a folder or synthetic:SHAPE:QUANT")
    parser.add_argument("--sittings", type=int, default=2, help="how often both sides are started")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of measurements in each sitting")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=256)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--json", type=Path, help="write all samples there")
    return parser.parse_args(words)


def main() -> int:
    from rigbench.models.resolve import resolve

    options = arguments()
    folder = resolve(options.model, formats=("mlx", "safetensors")).file.path
    print(f"model {options.model}; {options.sittings} sittings of {options.rounds} rounds", flush=True)
    pairs = partial(
        open_pairs,
        Path(str(folder)),
        options.python,
        options.prompt_tokens,
        options.output_tokens,
        options.users,
    )
    outcomes = in_sittings(pairs, options.sittings, options.rounds)
    return conclude(outcomes, lambda _: LIMIT, options.json)


if __name__ == "__main__":
    sys.exit(main())
