"""`rigbench doctor`: what this machine is, what its sensors say, and which engines work here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rigbench.cli.options import JSON, say, say_json
from rigbench.errors import UnavailableError

if TYPE_CHECKING:
    from rigbench.telemetry.base import Source

REPORT = typer.Option(
    None, "--report", help="Write all that this machine says of its sensors into one anonymous JSON file, to send in."
)


def command(as_json: bool = JSON, report: Path | None = REPORT) -> None:
    """Say what this machine is, what works here, and how to fix what does not."""
    import rigbench_backends
    from rigbench.models.resolve import local_models
    from rigbench.run import engines
    from rigbench.run.processes import find_python
    from rigbench.telemetry import open_sources
    from rigbench.telemetry.adapters import adapters
    from rigbench.telemetry.base import SourceOptions, state
    from rigbench.telemetry.machine import this_machine

    machine = this_machine()
    memory = engines.device_bandwidth("cpu", (), (), say=say)
    probes = {name: engines.probe(name, find_python(None)) for name in rigbench_backends.registry()}
    sources = open_sources(SourceOptions())
    states = [state(source) for source in sources]
    if report is not None:
        _report(report, sources, {"machine": machine, "adapters": adapters(), "backends": probes})
    for source in sources:
        source.close()
    models = local_models()
    if as_json:
        say_json(
            {
                "machine": machine,
                "adapters": adapters(),
                "bandwidth": memory,
                "backends": probes,
                "telemetry": states,
                "models": models,
            }
        )
        return
    from rigbench import units
    from rigbench.report.table import output_console, print_pairs
    from rigbench.telemetry.wall import HOW, PRESETS

    cores = f", {machine.physical_cores} cores" if machine.physical_cores else ""
    lines = [
        ("machine", f"{machine.cpu}{cores}, {units.bytes_text(machine.memory_bytes)}, {machine.os}, {machine.arch}"),
        *(("", f"{gpu.get('name')}, {units.bytes_text(gpu.get('memory_bytes'))}") for gpu in machine.gpus),
    ]
    if memory is not None:
        when = str(memory.detail.get("measured_utc", ""))[:10] + (
            " on a busy machine" if "busy_share" in memory.detail else ""
        )
        lines.append(
            ("memory", f"read {units.bandwidth_text(memory.read_bytes_per_s)} ({memory.method} {when})".rstrip())
        )
    for name, answer in sorted(probes.items(), key=lambda item: (not item[1].usable, item[0] == "sim")):
        if answer.usable:
            lines.append(("backend", f"{name}: ready, {answer.version} ({', '.join(answer.devices)})"))
            if (sentence := engines.unused_gpu(answer, adapters())) is not None:
                lines.append(("", f"! {sentence}"))
        else:
            lines.append(
                ("backend", f"{name}: not usable: {answer.reason}" + (f"; fix: {answer.fix}" if answer.fix else ""))
            )
    for sensor in states:
        what = f"ready: {', '.join(sensor['metrics'])}" if sensor["usable"] else f"not usable: {sensor['reason']}"
        lines.append(("telemetry", f"{sensor['name']}: {what}" + (f"; fix: {sensor['fix']}" if sensor["fix"] else "")))
    lines.append(("telemetry", f"wall: a meter of {', '.join(PRESETS)}: {HOW}"))
    lines += [("model", f"{model.spec} ({units.bytes_text(model.bytes)})") for model in models]
    if not models:
        lines.append(("model", "none yet; `rigbench run quickstart` makes one"))
    print_pairs(output_console(), lines)


def _report(path: Path, sources: Sequence[Source], more: dict[str, Any]) -> None:
    """The file, and a sentence that says what is in it."""
    import rigbench
    from rigbench.ceilings.engine import ggml_devices
    from rigbench.documents.store import write_whole
    from rigbench.telemetry import snapshot

    content = {"format": "rigbench-machine-1", "rigbench": rigbench.__version__, **more, "ggml": ggml_devices()}
    content |= {"raw": snapshot.raw(), **snapshot.readings(sources, snapshot.READINGS_S)}
    plain = json.loads(json.dumps(content, default=asdict))
    try:
        write_whole(path, json.dumps(snapshot.anonymous(plain), indent=1).encode())
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}") from error
    say(
        f"{path} has what this machine's sensors say, and no name, address, serial number or folder of yours: look, and attach it"
    )
