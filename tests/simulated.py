"""A small suite over the simulator, for tests of the command line."""

from __future__ import annotations

import re

SUITE = """
name = "t"
version = "1"
[load]
concurrency = [1, 2]
repetitions = 2
requests_per_user = 1
case_time_limit_s = 60
[warmup]
max_rounds = 1
[[workload]]
name = "w"
kind = "tokens"
prompt_tokens = 50
output_tokens = 40
[[engine]]
backend = "sim"
model = "synthetic:llama-160m:Q4_0"
"""
REAL_TIME = 'options = { pace = "real", bandwidth_gb_per_s = 20 }\n'


def suite_text(extra: str = "", **changes: str) -> str:
    """The suite with other values of these keys, and `extra` lines of its engine."""
    text = SUITE
    for name, value in changes.items():
        text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
    return text + extra
