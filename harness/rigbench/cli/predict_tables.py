"""What `predict`, `cost` and `advise` print: tables on a terminal, plain and whole when piped, JSON where asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rigbench import units
from rigbench.errors import InputError
from rigbench.models.footprint import catalogued_facts
from rigbench.models.shapes import shapes
from rigbench.predict import cost
from rigbench.predict.advise import Advice, memory_text
from rigbench.predict.fit import Fit, fit, with_fit
from rigbench.predict.hardware import GIB, Hardware, find, hardware
from rigbench.predict.predictors import roofline
from rigbench.records import ModelFacts, Prediction
from rigbench.report.table import output_console


def say_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=1, default=asdict))


def make_table(console: Console, columns: Sequence[str], left: int = 1) -> Table:
    """A table whose first `left` columns are words and the rest figures."""
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, name in enumerate(columns):
        table.add_column(
            name, justify="left" if i < left else "right", no_wrap=i >= left or i == 0 or not console.is_terminal
        )
    return table


def one(
    facts: ModelFacts, device: Hardware | None, found: Fit | None, predictions: Sequence[Prediction], as_json: bool
) -> None:
    """One model on one device: every predictor with its formula and inputs."""
    if as_json:
        say_json({"model": facts, "hardware": device, "fit": found, "predictions": list(predictions)})
        return
    console = output_console()
    where = (
        f"{device.name}, {units.bandwidth_text(device.bandwidth_bytes_per_s)} ({device.status})"
        if device
        else "this machine"
    )
    active = "" if not facts.experts else f", {facts.experts_used} of {facts.experts} experts"
    console.print(Text(f"{facts.name} {facts.quantization} on {where}", style="bold"))
    console.print(
        f"{units.bytes_text(facts.file_bytes)} file, {facts.parameters / 1e9:.3g} B parameters"
        f" ({facts.active_parameters / 1e9:.3g} B active{active}), {facts.layers} layers"
    )
    if found is not None:
        console.print(f"memory: {found.answer}: {found.reason}")
    table = make_table(console, ("predictor", "user t/s", "all t/s", "bytes a step"))
    for made in predictions:
        table.add_row(
            made.predictor,
            units.rate_text(made.user_tps),
            units.rate_text(made.output_tps),
            units.bytes_text(made.bytes_per_step),
        )
    console.print(table)
    for made in predictions:
        missing = f" ({made.reason})" if made.user_tps is None else ""
        console.print(Text(f"{made.predictor}: {made.formula}{missing}", style="dim"), soft_wrap=True)
    console.print(
        Text(f"inputs of {predictions[0].predictor}: {json.dumps(predictions[0].inputs)}", style="dim"), soft_wrap=True
    )
    if predictions[0].reason and predictions[0].user_tps is not None:
        console.print(Text(predictions[0].reason, style="yellow"))


def hardware_list(as_json: bool) -> None:
    """The hardware catalogue."""
    if as_json:
        say_json(list(hardware()))
        return
    console = output_console()
    table = make_table(console, ("id", "name", "status", "memory GB", "GB/s", "FP16 TFLOPS", "W", "cores"), left=3)
    for device in hardware():
        table.add_row(
            device.id,
            device.name,
            device.status,
            ", ".join(f"{size / GIB:.0f}" for size in device.memory_options_bytes),
            f"{device.bandwidth_bytes_per_s / 1e9:g}",
            units.MISSING if device.fp16_flops is None else f"{device.fp16_flops / 1e12:g}",
            units.MISSING if device.power_w is None else f"{device.power_w:g}",
            units.MISSING if device.gpu_cores is None else str(device.gpu_cores),
        )
    console.print(table)


def grid(
    only_hardware: str | None, only_model: str | None, quant: str, users: int, context: int, as_json: bool
) -> None:
    """user_tps of every model on every device (or of one model, or on one device); '-' where it does not fit."""
    devices = [find(only_hardware)] if only_hardware else [d for d in hardware() if d.status == "shipping"]
    names = [only_model] if only_model else [name for name, shape in shapes().items() if shape.family != "synthetic"]
    models = [catalogued_facts(name, quant) for name in names]
    rows: list[tuple[Hardware, list[tuple[Fit, Prediction]]]] = []
    for device in devices:
        cells = []
        for facts in models:
            found = fit(facts, device, users=users, context_tokens=context)
            made = roofline(facts, device.bandwidth_bytes_per_s, device=device, users=users, context_tokens=context / 2)
            cells.append((found, with_fit(made, found)))
        rows.append((device, cells))
    if as_json:
        say_json(
            [
                {
                    "hardware": d.id,
                    "model": f.name,
                    "fit": c[0].answer,
                    "user_tps": c[1].user_tps,
                    "output_tps": c[1].output_tps,
                }
                for d, cells in rows
                for f, c in zip(models, cells, strict=True)
            ]
        )
        return
    console = output_console()
    console.print(Text(f"user t/s by the roofline, {quant}, {users} users, context {context}", style="bold"))
    mark = {"fits": "", "tight": "!", "offload": "*"}
    if len(models) == 1 and console.is_terminal:
        table = make_table(console, ("hardware", models[0].name))
        for device, ((found, made),) in rows:
            table.add_row(device.id, units.rate_text(made.user_tps) + mark.get(found.answer, ""))
        console.print(table)
        rows = []
    widest = max(len(facts.name) for facts in models) + 4
    for block in _blocks(rows, console.width - widest) if console.is_terminal else [rows]:
        lines = [["model", *(device.id for device, _ in block)]]
        for i, facts in enumerate(models):
            shown = (units.rate_text(cells[i][1].user_tps) + mark.get(cells[i][0].answer, "") for _, cells in block)
            lines.append([facts.name, *shown])
        if console.is_terminal:
            table = make_table(console, lines[0])
            for line in lines[1:]:
                table.add_row(*line)
            console.print(table)
        else:  # too wide for any padding: tabs, as spreadsheets and `cut` read them
            typer.echo("\n".join("\t".join(line) for line in lines))
    console.print(Text("- does not fit      ! fits tightly      * layers in the host's memory", style="dim"))


def _blocks(rows: list[Any], width: int) -> list[list[Any]]:
    """The devices in blocks that fit side by side."""
    blocks: list[list[Any]] = [[]] if rows else []
    used = 0
    for row in rows:
        needed = max(len(row[0].id), 6) + 3
        if blocks[-1] and used + needed > width:
            blocks.append([])
            used = 0
        blocks[-1].append(row)
        used += needed
    return blocks


def cost_lines(found: cost.Cost, inputs: dict[str, Any], as_json: bool) -> None:
    """The figures of one machine; each missing one with its reason."""
    if as_json:
        say_json({"inputs": inputs, **asdict(found)})
        return
    console = output_console()
    console.print(Text("inputs: " + ", ".join(f"{name} {value}" for name, value in inputs.items()), style="dim"))
    shown = (
        ("energy of a year", f"{found.annual_kwh:.0f} kWh, {found.annual_energy_cost:.2f}"),
        ("energy of a month", f"{found.energy_cost_per_month:.2f}"),
        (
            "energy of a million tokens",
            _money(found.energy_cost_per_million_tokens, found, "energy_cost_per_million_tokens"),
        ),
        (
            "all costs of a million tokens",
            _money(found.total_cost_per_million_tokens, found, "total_cost_per_million_tokens"),
        ),
        ("API a month", _money(found.api_cost_per_month, found, "")),
        ("break-even", _money(found.break_even_months, found, "break_even_months", " months")),
        (
            "break-even without energy",
            _money(found.break_even_months_ignoring_energy, found, "break_even_months", " months"),
        ),
    )
    for what, text in shown:
        console.print(f"{what:32} {text}", soft_wrap=True)


def _money(value: float | None, found: cost.Cost, name: str, unit: str = "") -> str:
    if value is not None:
        return f"{value:.3g}{unit}" if abs(value) < 1 else f"{value:.2f}{unit}"
    reason = found.reasons.get(name)
    return f"{units.MISSING} ({reason})" if reason else units.MISSING


def advice(found: Sequence[Advice], as_json: bool) -> None:
    """Machines, best first, each with what decides it."""
    if as_json:
        say_json(list(found))
        return
    if not found:
        raise InputError("no machine of the catalogue does what was asked for; lower --least or take a smaller model")
    console = output_console()
    table = make_table(console, ("hardware", "memory", "user t/s", "all t/s", "W", "bound", "why"), left=1)
    for column in table.columns[-2:]:
        column.justify, column.no_wrap = "left", not console.is_terminal
    for one_ in found:
        power = units.MISSING if one_.hardware.power_w is None else f"{one_.hardware.power_w:g}"
        table.add_row(
            one_.hardware.id,
            memory_text(one_.hardware),
            units.rate_text(one_.user_tps),
            units.rate_text(one_.output_tps),
            power,
            one_.bound,
            one_.sentence,
        )
    console.print(table)
    console.print(Text("user t/s and all t/s are those of the slowest model, by the roofline", style="dim"))
