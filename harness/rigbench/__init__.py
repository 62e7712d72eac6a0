"""rigbench: measure live LLM inference on the machine in front of you, and say how far it is from what the memory allows.

The folders are the way of the data: suites -> run (-> worker) -> documents -> analysis, predict -> report, cli.
This module and everything the worker imports use the standard library alone.
"""

__version__ = "0.1.0"
