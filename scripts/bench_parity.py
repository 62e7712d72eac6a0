"""Does rigbench measure what llama.cpp's own tools measure? Same build, file, flags and minutes, in turn.

    .venv/bin/python scripts/bench_parity.py [--model synthetic:llama-1.5b:Q4_K_M] [--rounds 25]

decode, 1 user      user_tps     against  llama-bench -p 0 -n N -d P                 within 2 %
decode, 1-8 users   output_tps   against  llama-batched-bench -npp P -ntg N -npl U   within 5 %
prefill             prefill_tps  against  llama-bench -p 512 -n 0                    within 3 %

Exit code 1 where a median is outside. 9 minutes on 2 cores with --model synthetic:llama-160m:Q8_0 --prompt-tokens 64 --rounds 15;
nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from llama_tools import Flags, Tools, batched_tps, bench_tps, build_tools, say_libraries
from rigbench.telemetry.machine import engine_threads
from side_by_side import Comparison, Outcome, command_metrics, conclude, in_turn, model_path, rigbench_metrics

LIMITS = {"decode, 1 user": 0.02, "users": 0.05, "prefill": 0.03}
PREFILL_TOKENS = 512


def comparisons(
    tools: Tools, model: Path, flags: Flags, prompt: int, output: int, levels: list[int], command: bool = False
) -> list[Comparison]:
    """What is laid side by side."""

    def ours(metric: str, users: int, prompt: int, output: int) -> float:
        measure = command_metrics if command else rigbench_metrics
        return measure(model, flags, users=users, prompt=prompt, output=output)[metric]

    batched = partial(batched_tps, tools, model, flags, prompt=prompt, output=output)
    decode = Comparison(
        "decode, 1 user",
        "user_tps",
        f"llama-bench -n {output} -d {prompt}",
        partial(ours, "user_tps", 1, prompt, output),
        partial(bench_tps, tools, model, flags, output=output, depth=prompt),
    )
    many = [
        Comparison(
            f"decode, {users} user{'s' if users > 1 else ''} in all",
            "output_tps",
            f"llama-batched-bench -npp {prompt} -ntg {output} -npl {users}",
            partial(ours, "output_tps", users, prompt, output),
            partial(batched, users=users),
        )
        for users in levels
    ]
    prefill = Comparison(
        f"prefill of {PREFILL_TOKENS}",
        "prefill_tps",
        f"llama-bench -p {PREFILL_TOKENS}",
        partial(ours, "prefill_tps", 1, PREFILL_TOKENS, 8),
        partial(bench_tps, tools, model, flags, prompt=PREFILL_TOKENS),
    )
    return [decode, *many, prefill]


def limit_of(outcome: Outcome) -> float:
    """The largest distance of its ratio from 1."""
    if outcome.name in LIMITS:
        return LIMITS[outcome.name]
    return LIMITS["prefill" if outcome.unit == "prefill_tps" else "users"]


def arguments(words: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="synthetic:llama-1.5b:Q4_K_M", help="a GGUF file or synthetic:SHAPE:QUANT")
    parser.add_argument("--rounds", type=int, default=25, help="pairs of measurements (at least 5 for a verdict)")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=int, default=engine_threads())
    parser.add_argument("--flash-attn", choices=["auto", "on", "off"], default="auto")
    parser.add_argument("--kv-type", default="f16", help="type of the K and V cache")
    parser.add_argument("--kv-unified", action="store_true")
    parser.add_argument(
        "--command", action="store_true", help="our side is `rigbench run MODEL -p … -n …`, not its worker alone"
    )
    parser.add_argument(
        "--source", type=Path, help="llama-cpp-python's unpacked source package (else pip downloads it)"
    )
    parser.add_argument("--json", type=Path, help="write all samples there")
    return parser.parse_args(words)


def main() -> int:
    options = arguments()
    tools = build_tools(options.source)
    say_libraries(tools)
    model = model_path(options.model)
    flags = Flags(
        threads=options.threads,
        flash_attn=options.flash_attn,
        type_k=options.kv_type,
        type_v=options.kv_type,
        kv_unified=options.kv_unified,
    )
    print(
        f"model {options.model}; llama-cpp-python {tools.version}; {' '.join(flags.words())}; {options.rounds} rounds",
        flush=True,
    )
    pairs = comparisons(
        tools, model, flags, options.prompt_tokens, options.output_tokens, options.users, options.command
    )
    outcomes = in_turn(pairs, options.rounds)
    return conclude(outcomes, limit_of, options.json)


if __name__ == "__main__":
    sys.exit(main())
