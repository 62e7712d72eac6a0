"""Why llama.cpp failed, in its own words, and what to try. Pure, standard library: a parent asks it about a worker that is dead.

llama.cpp tells the reason in one line among hundreds, and an abort may push that line out of sight with a backtrace. On
processors the commonest crash is an instruction that the processor lists and the machine does not have (AMX in virtual
machines), or a build for another processor: both die in the first step, without a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rigbench_backends.base import Diagnosis, telling_line

PREFIX = re.compile(r"^[\w.]+: (?:error loading model(?: \w+)?: )*(?:error: )?")
"""The function that logged, and the words that stand before every reason."""
TELLING = (
    r"GGML_ASSERT|error loading model|(?:CUDA|ROCm|HIP|Metal|SYCL) error|vk::\w+Error|ErrorDeviceLost",
    r"out of memory|failed to allocate|cannot allocate|not enough",
    r"failed to initialize|no usable GPU|invalid split|missing tensor|unsupported|unknown",
    r"\berror\b|\bfail(?:ed|ure)?\b|unable",
)
FIXES = {
    r"unknown (model architecture|pre-tokenizer)": "a newer llama.cpp may know it: pip install -U llama-cpp-python",
    r"missing tensor|tensor '.*' not found|wrong shape|file (bounds|is incomplete)|invalid magic": "fetch the file again",
    r"invalid split": "give the first file of the set, under its own name, with the others beside it",
    r"out ?of ?memory|(failed to|cannot) allocate": "try fewer users, -O n_gpu_layers=N, or a smaller model",
    r"driver version is insufficient": "update the driver, or build llama.cpp with a toolkit that the driver can run",
    r"no kernel image|unsupported toolchain": "build llama.cpp for this card: scripts/quickstart",
}
"""What to try, by the cause."""
NO_AMX = (
    "try -O repack=false, which leaves out the kernels for AMX and repacked weights; if that runs, build llama.cpp again with "
    "scripts/quickstart, which proves a build before it is kept"
)
REBUILD = "this llama.cpp was built for another processor: build it again on this machine (scripts/quickstart)"


def diagnose(lines: Sequence[str], phase: str = "", signal: str | None = None, device: str | None = None) -> Diagnosis:
    """What llama.cpp's `lines` say of a failure in `phase` (base.Diagnosis), and the fix to try."""
    line = telling_line(lines, TELLING)
    cause = PREFIX.sub("", line).strip() if line else None
    fix = next((fix for pattern, fix in FIXES.items() if cause and re.search(pattern, cause, re.IGNORECASE)), None)
    if fix is None and signal == "SIGILL":
        fix = REBUILD
    elif fix is None and phase == "first_step" and signal in ("SIGSEGV", "SIGBUS") and device in (None, "cpu"):
        fix = NO_AMX
    return Diagnosis(cause, fix)
