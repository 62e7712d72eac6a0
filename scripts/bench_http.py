"""What the HTTP client costs and how true its times are: many paced streams from a local server, stamped by both sides.

    .venv/bin/python scripts/bench_http.py                          # 200 streams of 50 tokens/s
    .venv/bin/python scripts/bench_http.py --vllm .venv-vllm/bin/python --tokenizer FOLDER     # and `vllm bench serve` beside it

CPU per token is the client process's own, from its first request to its last token; the server is another process. The
pace is what the server kept, by its own record, not what it was told to keep.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "backends")]

from paced_server import paced_server, sent_ns  # noqa: E402

from rigbench.records import RequestRecord  # noqa: E402
from rigbench.run.processes import find_python  # noqa: E402
from rigbench.worker import drive  # noqa: E402
from rigbench_backends.base import ModelFile  # noqa: E402
from rigbench_backends.openai import BACKEND, HttpOptions  # noqa: E402

CPU_LIMIT_US = 20.0
PACE_LIMIT = 0.01
RUN_VLLM = """
import resource, sys
from vllm.benchmarks.serve import add_cli_args, main
try:
    from vllm.utils.argparse_utils import FlexibleArgumentParser as Parser
except ImportError:
    from argparse import ArgumentParser as Parser
parser = Parser()
add_cli_args(parser)
arguments = parser.parse_args()
before = resource.getrusage(resource.RUSAGE_SELF)
main(arguments)
after = resource.getrusage(resource.RUSAGE_SELF)
print("cpu_s", after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""


def ours(base_url: str, streams: int, tokens: int) -> tuple[list[RequestRecord], float, tuple[tuple[str, str], ...]]:
    """(records, CPU seconds, flags) of one round by rigbench's own client and loop."""
    session = BACKEND.open(ModelFile("paced", None, "remote"), HttpOptions(base_url=base_url))
    try:
        session.prepare(streams, 100)
        drive.drive(session, drive.Load(streams, 1, 2, lambda user, _: drive.TextPrompt(f"warm-up {user}", 7)))
        session.flags()
        before = time.process_time()
        _, records, _ = drive.drive(
            session, drive.Load(streams, 1, tokens, lambda user, _: drive.TextPrompt(f"prompt {user}", 7))
        )
        return records, time.process_time() - before, session.flags()
    finally:
        session.close()


def pace_errors(records: list[RequestRecord], sent: dict[str, list[int]]) -> list[float]:
    """Relative difference of each stream's rate to the rate of the sender's record."""
    errors = []
    for record in records:
        stamps = sent[f"prompt {record.user}"]
        errors.append((stamps[-1] - stamps[0]) / 1e3 / (record.unit_us[-1] - record.unit_us[0]) - 1)
    return errors


def vllm_round(python: str, base_url: str, tokenizer: str, streams: int, tokens: int) -> tuple[float, float]:
    """(CPU seconds, of which nothing was sent yet) of `vllm bench serve` with the same load: a full round less one of 1 token."""

    def one(count: int) -> float:
        words = ["--backend", "openai", "--base-url", base_url.removesuffix("/v1"), "--endpoint", "/v1/completions"]
        words += ["--model", "paced", "--tokenizer", tokenizer, "--dataset-name", "random", "--random-input-len", "7"]
        words += ["--random-output-len", str(count), "--num-prompts", str(streams), "--max-concurrency", str(streams)]
        words += ["--ignore-eos", "--disable-tqdm"]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "bench_serve.py"
            script.write_text(RUN_VLLM)
            command = [python, str(script), *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
        if done.returncode != 0:
            sys.exit(f"vllm bench serve failed: {' | '.join(done.stderr.strip().splitlines()[-3:])}")
        return float(done.stdout.rpartition("cpu_s ")[2])

    little = one(1)
    return one(tokens), little


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--tps", type=float, default=50.0)
    parser.add_argument("--tokens", type=int, default=250, help="per stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vllm", help="a Python interpreter that has vLLM")
    parser.add_argument("--tokenizer", help="a folder with a tokenizer, for vLLM's client")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * options.streams + 256)), hard))
    costs, worst = [], []
    for round_index in range(options.rounds):
        with paced_server(options.tps) as base_url:
            records, cpu_s, flags = ours(base_url, options.streams, options.tokens)
            sent = sent_ns(base_url)
        count = sum(len(record.unit_us) for record in records)
        errors = [abs(error) for error in pace_errors(records, sent)]
        pace = statistics.median((len(s) - 1) / (s[-1] - s[0]) * 1e9 for name, s in sent.items() if "prompt" in name)
        costs.append(cpu_s / count * 1e6)
        worst.append(max(errors))
        print(
            f"rigbench, round {round_index + 1}: {count} tokens, {costs[-1]:.1f} us of CPU per token; server's pace {pace:.2f}"
            f" tokens/s, streams off by {max(errors):.2%} at most, {statistics.median(errors):.3%} in the median"
            + "".join(f"; {name}: {evidence}" for name, evidence in flags),
            flush=True,
        )
    if options.vllm:
        with paced_server(options.tps) as base_url:
            full, little = vllm_round(
                find_python(options.vllm), base_url, options.tokenizer, options.streams, options.tokens
            )
        per_token = (full - little) / (options.streams * (options.tokens - 1)) * 1e6
        print(f"vllm bench serve: {per_token:.1f} us of CPU per token (a round of 1 token each taken off)", flush=True)
    cost = statistics.median(costs)
    holds = cost <= CPU_LIMIT_US and statistics.median(worst) <= PACE_LIMIT
    print(
        json.dumps(
            {"cpu_us_per_token": round(cost, 2), "worst_stream": round(statistics.median(worst), 5), "holds": holds}
        )
    )
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
