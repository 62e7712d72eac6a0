"""A compiler for a kind of GPU, as cuda_toolkit and vulkan_sdk describe it and engine_build uses it.

Standard library only, like every script that runs before anything is installed.
"""

from __future__ import annotations

from dataclasses import dataclass, field


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
