"""The fingerprint of this machine: what decides its speed, and nothing that says whose it is.

No host name, user name, serial number, UUID, path, address or environment enters. `scrub` takes such things out of texts
that others wrote, an engine's log above all.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import re
import socket
import sys
from pathlib import Path
from typing import Any

import psutil

from rigbench import telemetry
from rigbench.paths import slug
from rigbench.records import Machine
from rigbench.telemetry import host

SECRET_MIN_LENGTH = 3
"""Shorter user or host names would be found inside ordinary words."""


def this_machine() -> Machine:
    """The fingerprint of this machine, with all that the telemetry sources know of it."""
    return fingerprint(telemetry.gpus(), telemetry.drivers(), telemetry.modes())


def fingerprint(
    gpus: tuple[dict[str, Any], ...] = (), drivers: dict[str, str] | None = None, modes: dict[str, str] | None = None
) -> Machine:
    """The machine that this runs on; `gpus`, `drivers` and power `modes` as the telemetry sources report them."""
    memory = psutil.virtual_memory().total
    cpu = host.cpu_name()
    physical = psutil.cpu_count(logical=False)
    logical = psutil.cpu_count()
    names = [str(gpu.get("name")) for gpu in gpus if gpu.get("name")]
    unit = f"{round(memory / 2**30)}gb"
    main = f"{len(names)}x-{names[0]}" if len(names) > 1 else names[0] if names else f"{cpu}-{physical or logical}c"
    return Machine(
        id=slug(f"{main}-{unit}"),
        cpu=cpu,
        physical_cores=physical,
        logical_cores=logical,
        memory_bytes=memory,
        gpus=gpus,
        os=_os_name(),
        kernel=platform.release(),
        arch=platform.machine(),
        python=platform.python_version(),
        virtualized=_virtualized(),
        detail=modes or {},
        drivers=drivers or {},
    )


def _os_name() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    if sys.platform == "linux":
        try:
            return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        except OSError:
            return "Linux"
    return f"{platform.system()} {platform.version()}"


def _virtualized() -> str | None:
    """`yes` where the processor says so, `no` where it would; None where nobody can tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and platform.machine() in ("x86_64", "i686"):
        return "yes" if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo.read_text(), re.M) else "no"
    if sys.platform == "darwin":
        flag = host.sysctl("kern.hv_vmm_present")
        return None if flag is None else "yes" if flag == "1" else "no"
    return None


def private_words(*paths: str | None) -> list[str]:
    """What must not leave this machine: user, host, home, working folder and the folders of `paths`, longest first."""
    words = {str(Path.home()), str(Path.cwd()), socket.gethostname(), socket.getfqdn()}
    with contextlib.suppress(OSError, KeyError):
        words.add(getpass.getuser())
    for path in paths:
        if path:
            words.add(str(Path(path).parent))
    kept = {word for word in words if len(word) >= SECRET_MIN_LENGTH and word not in ("localhost", "root")}
    return sorted(kept, key=len, reverse=True)


def scrub(text: str, words: list[str]) -> str:
    """`text` with private words replaced, every absolute path cut down to its last part, and without a terminal's colours and
    other control characters (engines colour their last words)."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", " ", text)
    text = re.sub(r"(?<![\w.<>/-])(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\":]+)+[\\/]([^\\/\s'\":]+)", r"\1", text)
    for word in words:
        edge = "" if os.sep in word else r"\b"
        text = re.sub(f"{edge}{re.escape(word)}{edge}", "<private>", text)
    return re.sub(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", "<address>", text)
