"""Energy counters of the processor on Linux (RAPL, Intel and AMD), through /sys/class/powercap.

Each package, and on servers its memory, has a counter in microjoules that falls back to 0 at `max_energy_range_uj`
(some 260 kJ: a quarter of an hour at 300 W). It is read ten times a second, so no round can be missed. `core` and
`uncore` are parts of their package and are left out; so is `psys`, whose meaning differs by laptop. A nominal power
limit (TDP) is never given for a measurement.

    cat /sys/class/powercap/intel-rapl:0/energy_uj
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from rigbench.telemetry.base import (
    ENERGY,
    POWER_PERIOD_S,
    Limits,
    Metric,
    Missing,
    Reading,
    Source,
    SourceOptions,
    read_text,
)

POWERCAP = Path("/sys/class/powercap")
GRANT = "to allow it until the next boot: sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj"
LOAD = "to load the driver: sudo modprobe intel_rapl_msr"


@dataclass(slots=True)
class Domain:
    """One counter: a package or its memory. `gained_uj` since it was opened, whatever the counter's rounds."""

    name: str
    path: Path
    range_uj: int
    last_uj: int
    gained_uj: int = 0

    def read_j(self) -> Reading:
        """Joules since opening. A step of over half the range is a counter that was set back, not one that went round."""
        try:
            now_uj = int(self.path.read_text())
        except PermissionError:
            return Missing(f"energy_uj of {self.name} may not be read; {GRANT}", "denied")
        except (OSError, ValueError) as error:
            return Missing(f"energy_uj of {self.name} cannot be read ({type(error).__name__})")
        step = (now_uj - self.last_uj) % self.range_uj
        self.last_uj = now_uj
        if step > self.range_uj // 2:
            return Missing(f"the counter of {self.name} went backwards")
        self.gained_uj += step
        return self.gained_uj * 1e-6


class RaplSource(Source):
    """Packages and memory of this machine, in joules since the source was opened."""

    name = "rapl"
    scope = "package"
    platforms = ("linux",)

    def __init__(self, domains: Sequence[Domain], broken: Mapping[str, str] = MappingProxyType({})) -> None:
        self._domains = {domain.name: domain for domain in domains}
        self.devices = tuple(self._domains)
        counter = Metric(*ENERGY, "powercap energy_uj", "package", "counter", POWER_PERIOD_S)
        self.metrics = (
            *(replace(counter, device=name) for name in self.devices),
            *(replace(counter, device=name, status="unavailable", reason=reason) for name, reason in broken.items()),
        )

    @classmethod
    def open(cls, options: SourceOptions, root: Path = POWERCAP, proc: Path = Path("/proc")) -> Source:
        zones = sorted(path for path in root.glob("intel-rapl:*") if (path / "energy_uj").exists())
        if not zones:
            virtual = "hypervisor" in read_text(proc / "cpuinfo")
            return cls.absent("no powercap; virtual machine") if virtual else cls.absent("no powercap", LOAD)
        domains, broken = [], {}
        for zone in zones:
            name = read_text(zone / "name")
            package = zone.name.removeprefix("intel-rapl:").partition(":")[0]
            if not name.startswith(("package", "dram")):
                continue
            name = name if "-" in name else f"{name}-{package}"
            try:
                range_uj, now_uj = (int((zone / file).read_text()) for file in ("max_energy_range_uj", "energy_uj"))
            except PermissionError:
                return cls.absent("energy_uj may be read by root only", GRANT, "denied")
            except (OSError, ValueError) as error:  # kept by name: the sum of two sockets is not that of one
                broken[name] = f"energy_uj of {name} cannot be read ({type(error).__name__})"
                continue
            domains.append(Domain(name, zone / "energy_uj", range_uj + 1, now_uj))
        return cls(domains, broken) if domains else cls.absent("powercap has no readable package counter")

    @classmethod
    def limits(cls, device: str | None) -> Limits:
        """It counts every millisecond."""
        return Limits(2.0, 2.0)

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [self._domains[str(metric.device)].read_j() for metric in metrics]
