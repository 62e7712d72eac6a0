"""`rigbench doctor`, `bandwidth` and `watch`: what this machine is, how fast its memory is, and what its sensors say."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import typer

from rigbench.cli import progress
from rigbench.cli.progress import say


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(doctor)
    app.command()(bandwidth)
    app.command()(watch)


def doctor(as_json: bool = typer.Option(False, "--json", help="As JSON.")) -> None:
    """Say what this machine is, which backends work here, and the command that mends those that do not."""
    import rigbench_backends
    from rigbench.models.resolve import local_models
    from rigbench.run import engines
    from rigbench.run.machine import this_machine
    from rigbench.run.processes import find_python
    from rigbench.telemetry.adapters import adapters
    from rigbench.telemetry.facts import source_states
    from rigbench.telemetry.source import SourceOptions, open_sources

    machine = this_machine()
    memory = engines.device_bandwidth("cpu", (), (), say=say)
    probes = {name: engines.probe(name, find_python(None)) for name in rigbench_backends.registry()}
    sources = open_sources(SourceOptions())
    states = source_states(sources)
    for source in sources:
        source.close()
    models = local_models()
    if as_json:
        content = {
            "machine": asdict(machine),
            "adapters": [asdict(adapter) for adapter in adapters()],
            "bandwidth": asdict(memory) if memory else None,
            "backends": {name: asdict(found) for name, found in probes.items()},
            "telemetry": [asdict(state) for state in states],
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
            line("backend", f"{name}: not usable: {found.reason}" + (f"; mend: {found.mend}" if found.mend else ""))
    for state in states:
        what = f"ready: {', '.join(state.metrics)}" if state.usable else f"not usable: {state.reason}"
        line("telemetry", f"{state.name}: {what}" + (f"; mend: {state.mend}" if state.mend else ""))
    for model in models:
        line("model", f"{model.spec} ({units.bytes_text(model.bytes)})")
    if not models:
        line("model", "none yet; `rigbench run quickstart` makes one")


def bandwidth(
    device: str = typer.Option("cpu", "--device", help="cpu, cuda or metal."),
    again: bool = typer.Option(False, "--again", help="Measure anew, in place of the figure that is kept."),
    as_json: bool = typer.Option(False, "--json", help="As JSON."),
) -> None:
    """Measure the memory bandwidth of this machine: read (what decoding is bound by) and copy. Kept for later runs."""
    from rigbench import units
    from rigbench.errors import UnavailableError
    from rigbench.run.engines import measured_bandwidth

    found = measured_bandwidth(device, again=again, say=say)
    if found.read_bytes_per_s is None:
        raise UnavailableError(f"the bandwidth of {device} cannot be measured here: {found.reason}")
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
        return
    typer.echo(f"read  {units.bandwidth_text(found.read_bytes_per_s)}  ({found.source})")
    typer.echo(f"copy  {units.bandwidth_text(found.copy_bytes_per_s)}  (bytes read + bytes written)")


def watch(
    seconds: float = typer.Option(0, "--seconds", help="End after so long; 0: until Ctrl-C."),
    wall_url: str | None = progress.WALL_URL,
    wall_meter: str = progress.WALL_METER,
    wall_path: str | None = progress.WALL_PATH,
    wall_unit: str = progress.WALL_UNIT,
) -> None:
    """Show live what every sensor says, or why it says nothing: for setting up a wall meter or permissions."""
    import sys

    from rigbench.report.live import table_of
    from rigbench.telemetry.sampler import Sampler
    from rigbench.telemetry.source import SourceOptions, open_sources

    sampler = Sampler(
        open_sources(SourceOptions(wall_url=wall_url, wall_preset=wall_meter, wall_path=wall_path, wall_unit=wall_unit))
    ).start()
    end = time.monotonic() + seconds if seconds else None
    try:
        if sys.stdout.isatty():
            from rich.live import Live

            with Live(table_of(sampler.recent(3)), refresh_per_second=2, screen=False) as live:
                while end is None or time.monotonic() < end:
                    time.sleep(0.5)
                    live.update(table_of(sampler.recent(3)))
        else:
            from rigbench.report.table import output_console

            time.sleep(min(seconds or 2.0, 2.0))
            while True:
                output_console().print(table_of(sampler.recent(3)))
                if end is None or time.monotonic() >= end:
                    break
                time.sleep(1)
    finally:
        sampler.stop()
