"""A worker that dies: its row says of what, while doing what, and what to try. Real signals, llama.cpp's real abort."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from command_line import rigbench
from rigbench_backends.llama_cpp.trouble import NO_AMX, REBUILD, diagnose

pytestmark = pytest.mark.skipif(os.name != "posix", reason="crashes by POSIX signals")

PLUGIN = '''
"""llama.cpp itself, made to die where an option says, by a signal or by ggml's own abort."""
import ctypes, os, signal
from dataclasses import dataclass
from rigbench_backends import llama_cpp

@dataclass(frozen=True, slots=True)
class Options:
    at: str = "step"
    step: int = 1
    by: str = "abort"

def die(by):
    if by == "abort":
        abort = llama_cpp.ggml.ggml("ggml_abort", None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)
        abort(b"ops.cpp", 7, b"GGML_ASSERT(ne0 == 4) failed")
    os.kill(os.getpid(), getattr(signal, by))

class Backend(llama_cpp.LlamaCppBackend):
    name = "dying"
    Options = Options

    def open(self, model, options):
        if options.at == "load":
            llama_cpp.ggml.bindings()
            die(options.by)
        session = llama_cpp.LlamaCppSession(model, llama_cpp.LlamaCppOptions())
        step, steps = session.step, iter(range(1, 10**9))
        def dying_step():
            if next(steps) == options.step:
                die(options.by)
            return step()
        session.step = dying_step
        return session

    def probe(self, options=None):
        return super().probe(None)

BACKEND = Backend()
'''


def run_document(tmp_path: Path, *words: str, expect: int, **environment: str) -> tuple[dict[str, Any], str]:
    command = [sys.executable, "-m", "rigbench.cli.main", "run", "smoke", "--no-telemetry", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == expect, done.stdout + done.stderr
    path = tmp_path / done.stdout.rstrip().splitlines()[-1].removeprefix("result: ")
    return json.loads(path.read_text()), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("at", "step", "signal", "phase", "message"),
    [
        ("load", 1, "SIGSEGV", "load", "the worker crashed (SIGSEGV) while loading the model"),
        ("prepare", 1, "SIGABRT", "prepare", "the worker crashed (SIGABRT) while making room for the users"),
        ("step", 1, "SIGILL", "first_step", "the worker crashed (SIGILL) in its first step"),
        ("step", 10, "SIGBUS", "warmup", "the worker crashed (SIGBUS) while warming up"),
        ("step", 500, "SIGSEGV", "measure", "the worker crashed (SIGSEGV) while measuring"),
        (
            "step",
            10,
            "SIGKILL",
            "warmup",
            "the worker was killed (SIGKILL) while warming up: by hand, or by the system because memory ran out",
        ),
    ],
)
def test_a_crash_says_what_the_worker_was_doing(
    at: str, step: int, signal: str, phase: str, message: str, tmp_path: Path
) -> None:
    options = {"fault": "crash", "fault_at": at, "fault_step": step, "fault_signal": signal}
    words = [word for name, value in options.items() for word in ("-O", f"{name}={value}")]
    suite = tmp_path / "smoke.toml"
    suite.write_text(
        'name = "smoke"\nversion = "1"\n[load]\nconcurrency = [1]\nrepetitions = 1\nrequests_per_user = 9\n'
        '[warmup]\nmax_rounds = 3\noutput_tokens = 64\n[[workload]]\nname = "w"\nkind = "tokens"\nprompt_tokens = 8\n'
        "output_tokens = 64\n"
    )
    model = ("-m", "synthetic:llama-160m:Q4_0")
    done = rigbench("run", suite, "--no-telemetry", "-b", "sim", *words, *model, cwd=tmp_path, expect=3)
    document = json.loads(next(tmp_path.glob("results/*/*.json")).read_text())
    error = document["cases"][0]["error"]
    assert (error["phase"], error["message"]) == (phase, message)
    if signal in ("SIGSEGV", "SIGILL"):
        assert any(line.startswith("Fatal Python error") for line in error["log"])
    assert message in done.stdout and "nothing was measured" in done.stderr


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """A third party's backend, registered by entry point."""
    pytest.importorskip("llama_cpp")
    folder = tmp_path / "plugin"
    metadata = folder / "dying-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dying\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[rigbench.backends]\ndying = dying_backend:BACKEND\n")
    (folder / "dying_backend.py").write_text(PLUGIN)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


@pytest.mark.parametrize(
    ("at", "step", "phase"), [("load", 1, "load"), ("step", 1, "first_step"), ("step", 10, "measure")]
)
def test_an_abort_of_llama_cpp_shows_its_assertion(
    at: str, step: int, phase: str, tmp_path: Path, plugin: dict[str, str]
) -> None:
    document, row = run_document(
        tmp_path, "-b", "dying", "-m", "synthetic:tiny:F16", "-O", f"at={at}", "-O", f"step={step}", expect=3, **plugin
    )
    error = document["cases"][0]["error"]
    assert error["kind"] == "crash" and error["phase"] == phase
    assert "GGML_ASSERT(ne0 == 4) failed" in error["message"]
    assert any("GGML_ASSERT(ne0 == 4) failed" in line for line in error["log"])
    assert "GGML_ASSERT(ne0 == 4) failed" in row


def test_a_crash_in_the_first_step_on_a_processor_names_the_way_round(tmp_path: Path, plugin: dict[str, str]) -> None:
    document, row = run_document(
        tmp_path, "-b", "dying", "-m", "synthetic:tiny:F16", "-O", "by=SIGSEGV", expect=3, **plugin
    )
    error = document["cases"][0]["error"]
    assert (error["phase"], error["fix"]) == ("first_step", NO_AMX)
    assert "try -O repack=false" in row


@pytest.mark.parametrize(
    ("phase", "signal", "device", "fix"),
    [
        ("first_step", "SIGSEGV", "cpu", NO_AMX),
        ("first_step", "SIGSEGV", "cuda", None),
        ("warmup", "SIGSEGV", "cpu", None),
        ("warmup", "SIGILL", "cpu", REBUILD),
    ],
)
def test_the_fix_fits_the_crash(phase: str, signal: str, device: str, fix: str | None) -> None:
    assert diagnose(["load_tensors: CPU model buffer size = 1 MiB"], phase, signal, device) == (None, fix)


@pytest.mark.parametrize(
    ("lines", "cause", "fix"),
    [
        (
            [
                "llama_model_load: error loading model: error loading model architecture: unknown model architecture: 'x'",
                "llama_model_load_from_file_impl: failed to load model",
            ],
            "unknown model architecture: 'x'",
            "a newer llama.cpp may know it",
        ),
        (
            [
                "ggml.c:3: GGML_ASSERT(a) failed",
                "[New LWP 7]",
                "#5 ggml_abort () from libggml-base.so",
                "error reading frame",
            ],
            "ggml.c:3: GGML_ASSERT(a) failed",
            None,
        ),
        (
            ["ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version"],
            "failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version",
            "update the driver",
        ),
        (["CUDA error: out of memory", "  current device: 0"], "CUDA error: out of memory", "try fewer users"),
        (["Fatal Python error: Segmentation fault", "Current thread 0x1 (most recent call first):"], None, None),
    ],
)
def test_the_line_that_tells_most_is_taken(lines: list[str], cause: str | None, fix: str | None) -> None:
    answer = diagnose(lines)
    assert answer.cause == cause
    assert answer.fix is None if fix is None else fix in str(answer.fix)


@pytest.mark.slow
def test_a_crash_of_one_test_is_one_failed_test(tmp_path: Path) -> None:
    """Engines run in a process beside pytest's own, so that what they do to it ends one test alone."""
    (tmp_path / "test_two.py").write_text(
        "import os, signal\ndef test_a():\n    os.kill(os.getpid(), signal.SIGSEGV)\ndef test_b():\n    pass\n"
    )
    settings = Path(__file__).resolve().parents[2] / "pyproject.toml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(settings),
        "--rootdir",
        str(tmp_path),
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout, done.stdout
