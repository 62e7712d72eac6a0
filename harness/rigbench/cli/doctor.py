"""`rigbench doctor`: what this machine is, what its sensors say, and which engines work here."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from rigbench.cli.options import JSON, say


def command(as_json: bool = JSON) -> None:
    """Say what this machine is, which backends work here, and the command that fixes those that do not."""
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
    for source in sources:
        source.close()
    models = local_models()
    if as_json:
        content = {
            "machine": asdict(machine),
            "adapters": [asdict(adapter) for adapter in adapters()],
            "bandwidth": asdict(memory) if memory else None,
            "backends": {name: asdict(found) for name, found in probes.items()},
            "telemetry": states,
            "models": [asdict(model) for model in models],
        }
        typer.echo(json.dumps(content, indent=1))
        return
    from rigbench import units
    from rigbench.report.table import output_console

    console = output_console()

    def line(what: str, text: str) -> None:
        console.print(f"{what:10} {text}", soft_wrap=True)

    cores = f", {machine.physical_cores} cores" if machine.physical_cores else ""
    line("machine", f"{machine.cpu}{cores}, {units.bytes_text(machine.memory_bytes)}, {machine.os}, {machine.arch}")
    for gpu in machine.gpus:
        line("", f"{gpu.get('name')}, {units.bytes_text(gpu.get('memory_bytes'))}")
    if memory is not None:
        line("memory", f"read {units.bandwidth_text(memory.read_bytes_per_s)} ({memory.method})")
    for name, found in probes.items():
        if found.usable:
            line("backend", f"{name}: ready, {found.version} ({', '.join(found.devices)})")
            if (sentence := engines.unused_gpu(found, adapters())) is not None:
                line("", f"! {sentence}")
        else:
            line("backend", f"{name}: not usable: {found.reason}" + (f"; fix: {found.fix}" if found.fix else ""))
    for sensor in states:
        what = f"ready: {', '.join(sensor['metrics'])}" if sensor["usable"] else f"not usable: {sensor['reason']}"
        line("telemetry", f"{sensor['name']}: {what}" + (f"; fix: {sensor['fix']}" if sensor["fix"] else ""))
    for model in models:
        line("model", f"{model.spec} ({units.bytes_text(model.bytes)})")
    if not models:
        line("model", "none yet; `rigbench run quickstart` makes one")
