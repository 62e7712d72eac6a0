"""This machine with all that the telemetry sources know of it."""

from __future__ import annotations

from harness.records import Machine
from harness.run import machine


def this_machine() -> Machine:
    """The fingerprint, with GPUs and drivers."""
    return machine.fingerprint()


def power_sources() -> list[object]:
    """Sources of readings on this machine: usable, or why not."""
    return []
