"""What a laptop on its battery draws, as the battery tells: the whole machine, with its screen (Linux).

Plugged in, a battery tells what charges it, or what it adds to a weak supply, not what the machine draws: there is no reading
then. Gauges average over seconds, so short windows have no energy.

    cat /sys/class/power_supply/BAT0/power_now
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rigbench.telemetry import base
from rigbench.telemetry.base import Limits, Metric, Missing, Reading, Source, SourceOptions, file_reading, read_text

SUPPLIES = Path("/sys/class/power_supply")
PERIOD_S = 2.0


class BatterySource(Source):
    """All batteries together."""

    name = "battery"
    scope = "host"
    platforms = ("linux",)

    def __init__(self, batteries: Sequence[Path]) -> None:
        self._batteries = batteries
        self.devices = tuple(path.name for path in batteries)
        self.metrics = (
            Metric(*base.POWER, "power_supply power_now", "host", "sampled", PERIOD_S, published_s=PERIOD_S),
        )

    @classmethod
    def open(cls, options: SourceOptions, root: Path = SUPPLIES) -> Source | None:
        batteries = [path for path in sorted(root.glob("*")) if _is_machine_s(path)]
        return cls(batteries) if batteries else None

    @classmethod
    def limits(cls, device: str | None) -> Limits:
        """Its gauge averages over several seconds."""
        return Limits(20.0, 60.0)

    @classmethod
    def modes(cls, root: Path = SUPPLIES) -> dict[str, str]:
        """On mains or on the battery: many laptops are slower on the latter. Nothing where there is no battery."""
        batteries = [path for path in sorted(root.glob("*")) if _is_machine_s(path)]
        return {"power_source": "battery" if _draining(batteries) else "mains"} if batteries else {}

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [self._watts()] * len(metrics)

    def _watts(self) -> Reading:
        draining = _draining(self._batteries)
        if not draining:
            return Missing("on mains: a battery that is not discharging says nothing of what the machine draws")
        parts = [_battery_w(path) for path in draining]
        return next((part for part in parts if isinstance(part, Missing)), None) or sum(map(float, parts))  # type: ignore[arg-type]


def _battery_w(path: Path) -> Reading:
    watts = file_reading((1e-6, [path / "power_now"]))
    if not isinstance(watts, Missing) and watts:
        return abs(watts)  # some drivers count what leaves the battery as negative
    amperes, volts = (file_reading((1e-6, [path / name])) for name in ("current_now", "voltage_now"))
    if isinstance(amperes, Missing) or isinstance(volts, Missing):
        if isinstance(watts, Missing) and watts.status == "denied":
            return watts
        return Missing("the battery tells neither power nor current and voltage")
    return abs(amperes) * volts


def _draining(batteries: Sequence[Path]) -> list[Path]:
    """Those that alone feed the machine: none while a supply is plugged in."""
    supplies = batteries[0].parent.glob("*/online") if batteries else ()
    if any(read_text(path) == "1" and read_text(path.with_name("scope")) != "Device" for path in supplies):
        return []
    return [path for path in batteries if read_text(path / "status") == "Discharging"]


def _is_machine_s(path: Path) -> bool:
    """Not a mouse's or a keyboard's."""
    return read_text(path / "type") == "Battery" and read_text(path / "scope") != "Device"
