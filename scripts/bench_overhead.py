"""What rigbench itself adds to a decode step: a model whose step takes under a millisecond, with a vocabulary of 152 k.

    .venv/bin/python scripts/bench_overhead.py [--rounds 25]

Microseconds a step, ours (`tpot_s`) less the tool's, the median of pairs in turn. The tools pick their next token at random
and never look at the logits; ours takes the argmax of each row, stamps it, and hands it to the load loop.

1 user    against  llama-bench           at most  30 us
8 users   against  llama-batched-bench   at most  80 us

Exit code 1 where a median is above. About 2 minutes; nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from llama_tools import Flags, Tools, batched_tps, bench_tps, build_tools, say_libraries
from rigbench.telemetry.machine import engine_threads
from side_by_side import Comparison, Outcome, in_turn, median_interval, model_path, rigbench_metrics

LIMIT_US = {1: 30.0, 8: 80.0}


def comparisons(tools: Tools, model: Path, flags: Flags, prompt: int, output: int) -> list[Comparison]:
    """Microseconds a step at each level."""

    def ours(users: int) -> float:
        return rigbench_metrics(model, flags, users=users, prompt=prompt, output=output).get("tpot_s", 0.0) * 1e6

    def theirs(users: int) -> float:
        if users == 1:
            return 1e6 / bench_tps(tools, model, flags, output=output, depth=prompt)
        return 1e6 * users / batched_tps(tools, model, flags, users=users, prompt=prompt, output=output)

    tool = {1: "llama-bench"}
    return [
        Comparison(
            str(users), "us", tool.get(users, "llama-batched-bench"), partial(ours, users), partial(theirs, users)
        )
        for users in LIMIT_US
    ]


def table(outcomes: list[Outcome]) -> str:
    """Markdown, as results/LOG.md keeps it."""
    lines = [
        "| users | against | pairs | rigbench us/step | tool us/step | added us | 95 % interval | limit us | |",
        "|--:|---|--:|--:|--:|--:|---|--:|---|",
    ]
    for outcome in outcomes:
        limit, added = LIMIT_US[int(outcome.name)], statistics.median(outcome.differences)
        low, high = median_interval(outcome.differences)
        cells = [outcome.name, outcome.against, str(len(outcome.ours)), f"{statistics.median(outcome.ours):.1f}"]
        cells += [
            f"{statistics.median(outcome.theirs):.1f}",
            f"{added:+.1f}",
            f"{low:+.0f} to {high:+.0f}",
            f"{limit:.0f}",
        ]
        lines.append("| " + " | ".join([*cells, "ok" if added <= limit else "ABOVE"]) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="synthetic:tiny-150k:Q4_0", help="a GGUF file or synthetic:SHAPE:QUANT")
    parser.add_argument("--rounds", type=int, default=25, help="pairs of measurements")
    parser.add_argument("--output-tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=engine_threads())
    parser.add_argument(
        "--source", type=Path, help="llama-cpp-python's unpacked source package (else pip downloads it)"
    )
    parser.add_argument("--json", type=Path, help="write all samples there")
    options = parser.parse_args()
    tools = build_tools(options.source)
    say_libraries(tools)
    model = model_path(options.model)
    flags = Flags(threads=options.threads)
    print(
        f"model {options.model}; llama-cpp-python {tools.version}; {' '.join(flags.words())}; {options.rounds} rounds",
        flush=True,
    )
    outcomes = in_turn(comparisons(tools, model, flags, 32, options.output_tokens), options.rounds)
    print(f"\n{table(outcomes)}")
    if options.json:
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1), encoding="utf-8")
    return int(any(statistics.median(outcome.differences) > LIMIT_US[int(outcome.name)] for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
