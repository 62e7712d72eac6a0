"""AMD's `gpu_metrics`: a binary table of the kernel's driver, whose format and content revision say what is where.

Places and units are those of drivers/gpu/drm/amd/include/kgd_pp_interface.h: format 1 is of cards (contents 4 to 6 of Instinct's),
2 and 3 are of processors' graphics. A field that the firmware does not fill has all bits set. What a revision tells in a unit that
depends on firmware (the power of format 2 before content 4), or in bits that depend on the chip (`throttle_status`), is left out.

    od -A d -t u2 /sys/class/drm/card0/device/gpu_metrics | head
"""

from __future__ import annotations

import struct
from pathlib import Path

from rigbench.telemetry import base
from rigbench.telemetry.base import Missing, Quantity, Reading

NAME = "gpu_metrics"
Place = tuple[int, str, float]
"""Byte, kind of number as in `struct`, and what makes it the unit of the quantity."""
CLOCKS = {1: (54, 58), 2: (76, 80), 3: (174, 186)}
"""Of the graphics and of the memory: current ones, of format 3 the filtered ones."""
PLACES: tuple[tuple[int, range, dict[Quantity, Place]], ...] = (
    (
        1,
        range(1, 4),
        {base.POWER: (22, "H", 1.0), base.TEMPERATURE: (6, "H", 1.0), base.MEMORY_TEMPERATURE: (8, "H", 1.0)},
    ),
    (
        1,
        range(4, 7),
        {base.POWER: (10, "H", 1.0), base.TEMPERATURE: (4, "H", 1.0), base.MEMORY_TEMPERATURE: (6, "H", 1.0)},
    ),
    (1, range(4, 5), {base.ENERGY: (24, "Q", 2.0**-16)}),
    (1, range(5, 7), {base.ENERGY: (88, "Q", 2.0**-16)}),
    (2, range(4, 5), {base.POWER: (40, "H", 1e-3), base.TEMPERATURE: (4, "H", 1e-2)}),
    (3, range(1), {base.POWER: (112, "I", 1e-3)}),
    *(
        (kind, contents, {base.CLOCK: (CLOCKS[kind][0], "H", 1e6), base.MEMORY_CLOCK: (CLOCKS[kind][1], "H", 1e6)})
        for kind, contents in ((1, range(1, 4)), (2, range(1, 5)), (3, range(1)))
    ),
)
STATUS = {(1, 3): 112, (2, 2): 120, (2, 3): 120, (2, 4): 120}
"""Where `indep_throttle_status` is, whose bits no chip changes."""
POWER_BITS, HEAT_BITS = 0xFF00FF, 0xFFFF << 32
"""Of it (amdgpu_smu.h): limits of power and of current; temperatures and PROCHOT."""
COUNTERS = {(1, 6): (108, "prochot power heat heat heat"), (3, 0): (228, "prochot power power power heat heat heat")}
"""Where there are counters of the time that each reason slowed the chip, and which. PROCHOT is a signal of heat."""


def content(path: Path) -> bytes:
    """The table; b'' where there is none."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def revision(table: bytes) -> tuple[int, int]:
    """(format, content)."""
    return (table[2], table[3]) if len(table) >= 4 else (0, 0)


def of_apu(table: bytes) -> bool:
    """Whether it is that of a processor's own graphics."""
    return revision(table)[0] > 1


def value(table: bytes, quantity: Quantity) -> Reading:
    """The quantity in its unit; Missing where this revision has none, or the firmware tells none: of a chip at work none is 0."""
    kind, contents = revision(table)
    for own, known, places in PLACES:
        if own == kind and contents in known and quantity in places:
            byte, code, scale = places[quantity]
            size = struct.calcsize(f"<{code}")
            number = struct.unpack_from(f"<{code}", table, byte)[0] if len(table) >= byte + size else 0
            if 0 < number < 2 ** (8 * size) - 1:
                return float(number * scale)
            return Missing(f"{NAME} does not tell its {quantity.name}")
    return Missing(f"{NAME} cannot be read" if not kind else f"{NAME} {kind}.{contents} has no {quantity.name}")


def counters(table: bytes) -> tuple[int, ...] | None:
    """Those of COUNTERS; None where the table has none."""
    byte, reasons = COUNTERS.get(revision(table), (0, ""))
    count = len(reasons.split())
    return struct.unpack_from(f"<{count}I", table, byte) if count and len(table) >= byte + 4 * count else None


def slowed(table: bytes, before: tuple[int, ...] | None) -> Reading:
    """What slows the chip, in NVML's bits; where the table counts, what has since it counted `before`."""
    now = counters(table)
    if now is not None:
        reasons = COUNTERS[revision(table)][1].split()
        gained = {reason for reason, new, old in zip(reasons, now, before or now, strict=True) if new > old}
        power, heat = "power" in gained, bool(gained & {"heat", "prochot"})
    else:
        byte = STATUS.get(revision(table))
        if byte is None or len(table) < byte + 8:
            return Missing(f"{NAME} does not tell what slows the chip")
        (bits,) = struct.unpack_from("<Q", table, byte)
        if bits == 2**64 - 1:
            return Missing(f"{NAME} does not tell what slows the chip")
        power, heat = bool(bits & POWER_BITS), bool(bits & HEAT_BITS)
    return float(base.POWER_CAP_REASON * power | base.HEAT_REASON * heat)
