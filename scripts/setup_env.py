"""`.venv` in the checkout, made whole or not at all, and quick when nothing has changed. Standard library only.

    scripts/quickstart      scripts/test      scripts/check

What is installed is noted in `.venv/rigbench-setup.json`, keyed by all that it was made from; where the note fits, pip
is not called. A mark stands while pip changes the environment, so that one left half done by Ctrl-C or a power cut is
made anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engine_build
from commands import SetupError, answer, run_logged, say

CHECKOUT = Path(__file__).resolve().parent.parent
NOTE = "rigbench-setup.json"
MARK = "rigbench-unfinished"
PIP_FIX = "Check the network and pip's settings (pip config list), then run this again."


def program(venv: Path, name: str) -> Path:
    """`python`, `rigbench` ... of the environment."""
    return venv / "Scripts" / f"{name}.exe" if os.name == "nt" else venv / "bin" / name


def pinned_version(constraints: str, package: str) -> str:
    """The version that the text of constraints.txt gives `package`."""
    pin = re.search(rf"^{re.escape(package)}==(\S+)", constraints, re.MULTILINE)
    if not pin:
        raise SetupError(f"constraints.txt names no version of {package}: add a line {package}==VERSION.")
    return pin.group(1)


def packages_key(checkout: Path) -> str:
    """What the installed libraries were made from: project metadata, pinned versions, Python, place."""
    parts = [(checkout / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    parts.append(f"{sys.version_info[:2]} {checkout}".encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def read_note(venv: Path) -> dict[str, Any]:
    """What is noted of the environment; {} where nothing is, and where it is half done or was moved."""
    if (venv / MARK).exists() or not program(venv, "python").exists():
        return {}
    try:
        note = json.loads((venv / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) and note.get("place") == str(venv) else {}


def write_note(venv: Path, note: dict[str, Any]) -> None:
    """Whole or not at all."""
    part = venv / f"{NOTE}.part"
    part.write_text(json.dumps({**note, "place": str(venv)}, indent=1), encoding="utf-8")
    part.replace(venv / NOTE)


@contextlib.contextmanager
def changing(venv: Path) -> Iterator[None]:
    """Marks the environment as half done until the block has ended well."""
    mark = venv / MARK
    mark.touch()
    yield
    mark.unlink()


def prepare(
    *extras: str,
    name: str = ".venv",
    kind: str | None = None,
    checkout: Path = CHECKOUT,
    run: Callable[..., None] | None = None,
    prove: Callable[[Path, str], engine_build.Proof] = engine_build.prove,
) -> Path:
    """Bring the environment `name` to hold rigbench with at least `extras`, and return its folder.

    `kind` is what llama.cpp is built for (engine_build.KINDS); None leaves it to RIGBENCH_LLAMA_BUILD, and that to what is here.
    `run` starts a command (see `run_logged`), `prove` lets an installed llama.cpp compute. Raises SetupError with one sentence.
    """
    run = run or functools.partial(run_logged, checkout)
    venv = checkout / name
    note = read_note(venv)
    key = {"packages": packages_key(checkout), "extras": sorted({*extras, *note.get("extras", ())})}
    version = pinned_version((checkout / "constraints.txt").read_text(encoding="utf-8"), engine_build.PACKAGE)
    engine = engine_build.plan(version, kind) if "llama-cpp" in extras else None
    if engine is not None and note.get("engine") == engine.keys:
        unused = engine.choice.reason if engine.choice.unused_gpu else note.get("unused_gpu")
        if unused:
            say(unused)
        engine = None
    if engine is not None:
        say(engine.choice.reason)
        if not any(map(engine_build.kept_wheel, engine.keys)) and (problem := engine_build.missing_compiler()):
            raise SetupError(problem)
    python = program(venv, "python")
    pip, environment = [str(python), "-m", "pip"], pip_environment()

    def install_packages() -> None:
        if {**note, **key} != note:
            command = [*pip, "install", "-c", "constraints.txt", "-e", f".[{','.join(key['extras'])}]"]
            with changing(venv):
                title = "Installing rigbench and the libraries that it uses: about a minute"
                run(title, command, venv / "setup-packages.log", environment, PIP_FIX)
            note.update(key)

    def install_engine(build: engine_build.Build) -> None:
        engine_build.fetch_tools(pip, build, venv / "setup-engine-tools.log", run, environment)
        wheel = engine_build.kept_wheel(build.key)
        if wheel is None:
            log = venv / f"setup-engine-{build.kind}-{build.level}.log"
            wheel = engine_build.build_wheel(pip, version, build, log, run, environment)
        with changing(venv):
            command = [*pip, "install", "--no-deps", "--force-reinstall", str(wheel)]
            run("Installing llama.cpp: a few seconds", command, venv / "setup-engine-install.log", environment, PIP_FIX)
        install_packages()  # before the proof, which needs them, and after the engine, which pip would build by itself

    if not note:
        make_venv(venv, run)
    if engine is not None:
        if note.pop("engine", None):
            # What is noted is about to be replaced, perhaps by an engine that does not compute.
            write_note(venv, note)
        unused = engine_build.settle(engine, install_engine, lambda build: prove(python, build.kind), say)
        note |= {"engine": engine.keys, "unused_gpu": unused}
    install_packages()
    if note != read_note(venv):
        write_note(venv, note)
    return venv


def make_venv(venv: Path, run: Callable[..., None]) -> None:
    """An environment with pip: the one that is there if it works, else a new one. Somebody else's is moved aside."""
    ours = (venv / MARK).exists() or (venv / NOTE).exists()
    works = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    if not ours and answer([str(program(venv, "python")), "-c", works]) is not None:
        return
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise SetupError(
            "This Python cannot make environments, its venv module is missing: on Debian and Ubuntu, sudo apt install "
            f"python3-venv (or python3.{sys.version_info.minor}-venv), and run this again."
        )
    if ours:
        say(f"{venv} was left half done, or moved: making it anew.")
        shutil.rmtree(venv)
    elif venv.exists():
        aside = venv.with_name(f"{venv.name}-{time.strftime('%Y%m%d-%H%M%S')}")
        say(f"{venv} has no pip that works under Python 3.11 or newer: moving it to {aside.name}.")
        venv.rename(aside)
    venv.mkdir()
    with changing(venv):
        command = [sys.executable, "-m", "venv", str(venv)]
        run(f"Making the environment {venv.name}: a few seconds", command, venv / "setup-venv.log")


def pip_environment() -> dict[str, str]:
    """The user's own constraints and ours, for what builds packages too (pip's old and its new name for that)."""
    return {
        name: f"{os.environ.get(name, '')} constraints.txt".strip()
        for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")
    }
