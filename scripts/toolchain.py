"""What the parts of a build of llama.cpp share: an error, a question to another program, a compiler for a kind of GPU.

Standard library only, like every script that runs before anything is installed.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field


class SetupError(Exception):
    """One sentence: what is missing, and the command that fixes it."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """How one kind of GPU is built for.

    `reason` is the sentence fragment for people ("nvcc 13.0 of this system builds for compute capability 9.0"). `packages` are what
    pip has to install into a folder first; `environment` and `cmake_args` are what the build then reads. In both, the text
    `{packages}` stands for that folder. `identity` names all that may change the result, for the key of the kept wheel.
    """

    reason: str
    identity: str
    cmake_args: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()


def answer(command: list[str], limit_s: float = 20) -> str | None:
    """What `command` prints; None where it is not there, fails, or takes longer than `limit_s`."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
