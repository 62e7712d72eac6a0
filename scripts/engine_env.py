#!/usr/bin/env python3
"""An environment of its own for an engine that does not share one: `.venv-mlx`, `.venv-vllm`, `.venv-vulkan` (llama.cpp's).

    python scripts/engine_env.py mlx vllm        (prints the interpreters; then: rigbench run ... --python .venv-vllm/bin/python)

What is installed depends on what is here: CUDA where an NVIDIA GPU answers, else the CPU; MLX on a Mac is Metal's.
Exact versions are in scripts/engines/. An environment that is there already is left alone, and this is quick.
"""

import functools
import hashlib
import platform
import shutil
import sys

import engine_build
import python_check
from commands import SetupError, run_logged

ENGINES = ("mlx", "vllm", "vulkan")


def steps(engine, kind):
    """The words after `pip install`, one list per call. SetupError where this engine does not exist here."""
    pins = engine_build.SCRIPTS / "engines" / f"{engine}-{kind}.txt"
    if not pins.exists():
        other = "measure its server with --server vllm-metal" if engine == "vllm" else "use another engine"
        raise SetupError(f"{engine} is not made for {engine_build.NAMES[kind]}: {other}.")
    listed = [line.strip() for line in pins.read_text(encoding="utf-8").splitlines()]
    # Each line is one call: what an engine asks for can be more than it needs, and then its order and --no-deps matter.
    return [line.split() for line in listed if line and not line.startswith("#")]


def prepare(engine):
    """Bring `.venv-ENGINE` to hold the engine, and return its interpreter. Raises SetupError."""
    import cuda_toolkit
    import setup_env

    if engine == "vulkan":
        return setup_env.program(setup_env.prepare("llama-cpp", name=".venv-vulkan", kind="vulkan"), "python")
    kind = "metal" if platform.system() == "Darwin" else "cuda" if cuda_toolkit.nvidia_gpus() else "cpu"
    calls = steps(engine, kind)
    venv = setup_env.CHECKOUT / f".venv-{engine}"
    key = hashlib.sha256(repr((calls, sys.version_info[:2], str(venv))).encode()).hexdigest()
    python = setup_env.program(venv, "python")
    if setup_env.read_note(venv).get("packages") == key:
        return python
    run = functools.partial(run_logged, setup_env.CHECKOUT)
    if venv.exists():
        shutil.rmtree(venv)  # made by this script alone; pip cannot be trusted to turn one set of versions into another
    setup_env.make_venv(venv, run)
    with setup_env.changing(venv):
        for number, words in enumerate(calls, 1):
            title = f"Installing {engine} into {venv.name} ({number} of {len(calls)}): some minutes"
            command = [str(python), "-m", "pip", "install", *words]
            run(title, command, venv / f"setup-{number}.log", None, setup_env.PIP_FIX)
    setup_env.write_note(venv, {"packages": key})
    return python


def main(arguments):
    unknown = [name for name in arguments if name not in ENGINES]
    if unknown or not arguments:
        print(__doc__)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    for engine in arguments:
        print(prepare(engine))
    return 0


if __name__ == "__main__":
    python_check.require()
    import commands

    commands.run_script(main)
