"""What this machine says of itself, as it says it, for `rigbench doctor --report`: so real hardware reaches those who have none.

Beside the readings of every sensor stands what they come from: the kernel's small files (Linux) by their paths, and the answers of
NVML and of macOS by the words of the call. From these a test opens the same sensors again. Only files and calls that are named here
are read: none of them holds a serial number, an address of a network, a UUID or a name of somebody.

    rigbench doctor --report machine.json
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import plistlib
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rigbench.clock import now_ns
from rigbench.telemetry import apple, base, host, nvidia
from rigbench.telemetry.apple import AppleSource
from rigbench.telemetry.base import Source, SourceOptions, read_text
from rigbench.telemetry.nvidia import NvmlSource
from rigbench.telemetry.sampler import Sampler
from rigbench.text import private_words, scrub

READINGS_S = 5.0
"""Two batches of macOS' counters."""
CARDS, BUS, DISPLAY_CLASSES = "sys/class/drm/card*/device", "sys/bus/pci/devices/*", ("0x03", "0x12")
HWMON = (
    "name",
    "*_label",
    "*_input",
    "power*_average",
    "power*_average_interval",
    "power*_cap*",
    "*_max",
    "*_crit",
    "update_interval",
)
CARD = (
    *("vendor", "device", "revision", "subsystem_*", "product_name", "mem_info_*", "gpu_metrics", "*_link_*"),
    *(
        "gpu_busy_percent",
        "mem_busy_percent",
        "pp_dpm_sclk",
        "pp_dpm_mclk",
        "tile*/gt*/freq0/*",
        "tile*/gt*/freq0/throttle/*",
    ),
    *(f"hwmon/hwmon*/{name}" for name in HWMON),
)
PLACES = (
    *(f"{CARDS}/{name}" for name in CARD),
    "sys/class/drm/card*/gt/gt*/*",
    *(f"sys/class/hwmon/hwmon*/{name}" for name in HWMON),
    "sys/class/hwmon/hwmon*/device/power1_*",
    *(f"sys/bus/iio/devices/iio:device*/{name}" for name in ("rail_name_*", "in_power*_input")),
    *(f"sys/class/powercap/intel-rapl*/{name}" for name in ("name", "energy_uj", "max_energy_range_uj")),
    *(f"sys/class/power_supply/*/{name}" for name in ("type", "scope", "status", "*_now", "online")),
    *(f"sys/class/dmi/id/{name}" for name in ("sys_vendor", "product_name", "board_name", "bios_version")),
    *(f"sys/module/{name}/version" for name in ("amdgpu", "i915", "xe", "nvidia")),
    *(f"sys/devices/system/cpu/cpu*/{name}" for name in ("cpu_capacity", "topology/thread_siblings_list")),
    *(
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_*",
        "sys/devices/cpu_core/cpus",
        "sys/firmware/acpi/platform_profile",
    ),
    *("proc/cpuinfo", "proc/device-tree/model"),
)
"""Patterns of the files that are read, below the root."""
LARGEST_FILE_BYTES = 4096
CPUINFO_ONCE = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features")
CPUINFO_EACH = ("CPU implementer", "CPU part")
"""Of /proc/cpuinfo: what is alike for all processors, and what tells fast and slow cores apart. A Raspberry's serial is neither."""
NVML_CALLS = (
    *("PowerUsage", "EnforcedPowerLimit", "PowerManagementLimitConstraints", "PerformanceState", "Architecture"),
    *(
        "CudaComputeCapability",
        "CurrentDriverModel",
        "DriverModel_v2",
        "PersistenceMode",
        "NumGpuCores",
        "UtilizationRates",
    ),
)
"""What is asked of each NVIDIA GPU beside what its sensor asks."""
SYSCTLS = ("hw.model", "hw.memsize", "hw.nperflevels", "hw.ncpu", "machdep.cpu.brand_string", "kern.osproductversion",
           "kern.osversion", "iogpu.wired_limit_mb", "sysctl.proc_translated", "kern.hv_vmm_present",
           *(f"hw.perflevel{level}.{name}" for level in range(3)
             for name in ("name", "physicalcpu", "l2cachesize")))  # fmt: skip


def raw() -> dict[str, Any]:
    """What lies below the sensors of this machine, as JSON."""
    return {
        "files": files(),
        "nvml": nvml_answers(),
        "darwin": darwin_answers(),
        "sysctl": sysctls(),
        "registry": registry(),
    }


def readings(sources: Sequence[Source], seconds: float) -> dict[str, Any]:
    """What the sensors say of themselves and read in `seconds`: {'sensors', 'readings'}, the latter as in a result document, for
    `--replay` to play. Closes the sources."""
    sensors = [{**base.state(source), "version": source.version} for source in sources]
    start = now_ns()
    sampler = Sampler(sources).start()
    sampler.watch(os.getpid())
    time.sleep(seconds)
    sampler.edge()
    sampler.stop()
    series = [asdict(each) for each in sampler.window(start, start, now_ns())]
    return {"sensors": sensors, "readings": series}


def files(root: Path = Path("/")) -> dict[str, str | None]:
    """Text of each file by its path below `root` (`hex:` of what is no text); None where it may not or cannot be read now; of a
    card's folder where it leads, `->sys/devices/...`."""
    cards = [path for path in sorted(root.glob(BUS)) if read_text(path / "class")[:4] in DISPLAY_CLASSES]
    links = [path for path in (*sorted(root.glob(CARDS)), *cards) if path.is_symlink()]
    contents: dict[str, str | None] = {_below(root, path): f"->{_below(root, path.resolve())}" for path in links}
    own = [path / name for path in cards for name in ("vendor", "device", "class", "product_name")]
    for path in (*own, *(path for pattern in PLACES for path in sorted(root.glob(pattern)))):
        if path.is_file():
            contents[_below(root, path)] = _content(path)
    return contents


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root if path.is_relative_to(root) else root.resolve()).as_posix()


def _content(path: Path) -> str | None:
    if path.name == "cpuinfo":
        return cpuinfo(read_text(path))
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES)
    except OSError:
        return None
    with contextlib.suppress(UnicodeDecodeError):
        text = data.decode("ascii").rstrip("\n\0")
        if text.isprintable() or "\n" in text:
            return text
    return f"hex:{data.hex()}"


def cpuinfo(text: str) -> str:
    """The lines of it that name the processor."""
    lines, known = [], set()
    for line in text.splitlines():
        name = line.partition(":")[0].strip()
        if name in CPUINFO_EACH or (name in CPUINFO_ONCE and name not in known):
            lines.append(line)
            known.add(name)
    return "\n".join(lines)


class Tape:
    """Passes calls on to `target` and keeps the answers as plain JSON, by the words of the call: `nvmlDeviceGetName(gpu0)`."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._handles: list[tuple[Any, str]] = []
        self.answers: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._target, name)
        if not callable(target) or isinstance(target, type):
            return target

        def call(*arguments: Any) -> Any:
            words = f"{name}({', '.join(map(self._word, arguments))})"
            try:
                answer = target(*arguments)
            except Exception as error:
                code = getattr(error, "value", None)
                self.answers[words] = {"error": type(error).__name__, "code": code, "text": str(error)}
                raise
            if name.endswith("HandleByIndex"):
                self._handles.append((answer, f"gpu{arguments[0]}"))
            self.answers[words] = self._plain(answer)
            return answer

        return call

    def _word(self, value: Any) -> str:
        return next((word for handle, word in self._handles if handle is value), str(value))

    def _plain(self, value: Any) -> Any:
        if any(handle is value for handle, _ in self._handles):
            return self._word(value)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, (ctypes.Structure, ctypes.Union)):
            return {name: self._plain(getattr(value, name)) for name, *_ in value._fields_}
        if isinstance(value, (list, tuple, ctypes.Array)):
            return [self._plain(each) for each in value]
        if value is None or isinstance(value, (int, float, str)):
            return value
        return {name: self._plain(each) for name, each in vars(value).items()}

    def ask(self, name: str, *arguments: Any) -> None:
        """Only for the tape; what refuses is on it, too."""
        with contextlib.suppress(Exception):
            getattr(self, name)(*arguments)


def nvml_answers(nvml: Any = None) -> dict[str, Any]:
    """What NVML answers to the sensor and beyond: every field that it knows. {} without a driver."""
    try:
        tape = Tape(nvml or nvidia.load())
    except ImportError:
        return {}
    NvmlSource.gpus(tape)
    NvmlSource.drivers(tape)
    source = NvmlSource.open(SourceOptions(), tape)
    if not isinstance(source, NvmlSource):
        return tape.answers
    source.read(source.metrics)
    for handle in source.handles.values():
        for name in NVML_CALLS:
            tape.ask(f"nvmlDeviceGet{name}", handle)
        for field in range(1, tape.NVML_FI_MAX):
            tape.ask(nvidia.FIELDS, handle, [field])
    source.close()
    return {words: answer for words, answer in tape.answers.items() if not _refused(answer)}


def _refused(answer: Any) -> bool:
    """Whether it is a field's value that NVML does not tell: of 300 a card has some 50."""
    return (
        isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], dict) and answer[0].get("nvmlReturn", 0)
    )


def darwin_answers() -> dict[str, Any]:
    """What macOS answers to the sensor. {} elsewhere."""
    if not AppleSource.here():
        return {}
    tapes: list[Tape] = []

    def make() -> Any:
        from rigbench.telemetry.darwin import Darwin

        tapes.append(Tape(Darwin()))
        return tapes[0]

    source = AppleSource.open(SourceOptions(), make)
    source.watch(os.getpid())
    source.read(source.metrics)
    source.close()
    return tapes[0].answers if tapes else {}


def sysctls() -> dict[str, str]:
    """macOS' answers by name. {} elsewhere."""
    if not AppleSource.here():
        return {}
    return {name: value for name in SYSCTLS if (value := host.sysctl(name)) is not None}


def registry() -> str:
    """Of macOS' registry the table of the GPU's frequencies alone, in hexadecimal. '' elsewhere."""
    try:
        entries = plistlib.loads(base.output(*apple.REGISTRY).encode()) if AppleSource.here() else []
        return next((entry[apple.FREQUENCIES].hex() for entry in entries if apple.FREQUENCIES in entry), "")
    except Exception:  # whatever a damaged property list raises
        return ""


def anonymous(content: Any) -> Any:
    """`content` with what is private taken out of every text in it."""
    words = private_words()

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return scrub(value, words)
        if isinstance(value, dict):
            return {name: clean(each) for name, each in value.items()}
        return [clean(each) for each in value] if isinstance(value, (list, tuple)) else value

    return clean(content)
