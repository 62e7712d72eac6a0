"""Machines as `rigbench doctor --report` has written them: the sensors opened again on what they gave.

python tests/machine_reports.py FILE...    # after a sensor has learnt more: what it reads, written anew from `raw`
"""

from __future__ import annotations

import json
import plistlib
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pynvml

from rigbench.telemetry import snapshot
from rigbench.telemetry.amd import AmdSource
from rigbench.telemetry.apple import FREQUENCIES, AppleSource
from rigbench.telemetry.base import Source, SourceOptions
from rigbench.telemetry.battery import BatterySource
from rigbench.telemetry.darwin import Channel, Footprint, HostMemory, State
from rigbench.telemetry.intel import IntelSource
from rigbench.telemetry.jetson import JetsonSource
from rigbench.telemetry.module import ModuleSource
from rigbench.telemetry.nvidia import NvmlSource
from rigbench.telemetry.rapl import RaplSource

MACHINES = Path(__file__).parent / "telemetry" / "machines"
OPTIONS = SourceOptions()


def rebuild(files: dict[str, str | None], root: Path) -> Path:
    """The kernel's files below `root`; one that could not be read is a folder, which cannot be read either."""
    for name, text in sorted(files.items(), key=lambda item: not (item[1] or "").startswith("->")):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.mkdir()
        elif text.startswith("->"):
            (root / text[2:]).mkdir(parents=True, exist_ok=True)
            path.symlink_to(root / text[2:])
        else:
            path.write_bytes(bytes.fromhex(text[4:]) if text.startswith("hex:") else f"{text}\n".encode())
    return root


class Played:
    """A library that answers from a tape. What is not on it fails as `unknown` does."""

    def __init__(self, answers: dict[str, Any], unknown: Exception, constants: Any = None) -> None:
        self._answers, self._unknown, self._constants = answers, unknown, constants

    def __getattr__(self, name: str) -> Any:
        constant = getattr(self._constants, name, None)
        if constant is not None and (not callable(constant) or isinstance(constant, type)):
            return constant

        def call(*arguments: Any) -> Any:
            words = f"{name}({', '.join(map(str, arguments))})"
            if words not in self._answers:
                raise self._unknown
            answer = self._answers[words]
            if isinstance(answer, dict) and "error" in answer:
                raise pynvml.NVMLError(answer["code"]) if answer["code"] else OSError(answer["text"])
            return _object(answer)

        return call


def _object(answer: Any) -> Any:
    if isinstance(answer, dict):
        return types.SimpleNamespace(**{name: _object(each) for name, each in answer.items()})
    return [_object(each) for each in answer] if isinstance(answer, list) else answer


class PlayedMac(Played):
    """Its answers as the types that they had."""

    def energy(self) -> list[Channel]:
        return [Channel(*each) for each in self.__getattr__("energy")()]

    def gpu_states(self) -> list[State]:
        return [State(*each) for each in self.__getattr__("gpu_states")()]

    def close(self) -> None:
        pass

    def memory(self) -> HostMemory:
        return HostMemory(*self.__getattr__("memory")())

    def footprint(self, pid: int) -> Footprint:
        (words,) = [each for each in self._answers if each.startswith("footprint(")][:1] or ["footprint()"]
        return Footprint(*self.__getattr__("footprint")(words[10:-1]))


def play(report: dict[str, Any], root: Path) -> tuple[list[Source], list[dict[str, Any]]]:
    """Its sensors, as far as they read what is in the report, and its GPUs as they name them."""
    raw = report["raw"]
    rebuild(raw["files"], root)
    drm, classes = root / "sys/class/drm", root / "sys/class"
    nvml = Played(raw["nvml"], pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED), pynvml)
    openers: dict[str, Callable[[], Source | None]] = {
        "amd": lambda: AmdSource.open(OPTIONS, drm),
        "intel": lambda: IntelSource.open(OPTIONS, drm),
        "rapl": lambda: RaplSource.open(OPTIONS, classes / "powercap", root / "proc"),
        "module": lambda: ModuleSource.open(OPTIONS, classes / "hwmon"),
        "jetson": lambda: JetsonSource.open(OPTIONS, root / "sys"),
        "battery": lambda: BatterySource.open(OPTIONS, classes / "power_supply"),
        "nvml": lambda: NvmlSource.open(OPTIONS, nvml),
        "apple": lambda: AppleSource.open(
            OPTIONS,
            lambda: PlayedMac(raw["darwin"], OSError("not on the tape")),
            registry=lambda: plistlib.dumps([{FREQUENCIES: bytes.fromhex(raw["registry"])}]).decode(),
        ),
    }
    sources = [openers[each["name"]]() for each in report["sensors"] if each["name"] in openers]
    gpus = [*AmdSource.gpus(drm), *IntelSource.gpus(drm), *(NvmlSource.gpus(nvml) if raw["nvml"] else ())]
    return [source for source in sources if source is not None], gpus


def write_anew(path: Path, root: Path) -> None:
    report = json.loads(path.read_text())
    report |= snapshot.readings(play(report, root)[0], 0.7)
    path.write_text(json.dumps(report, indent=1) + "\n")


def main(paths: Sequence[str]) -> None:
    import tempfile

    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            write_anew(Path(path), Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
