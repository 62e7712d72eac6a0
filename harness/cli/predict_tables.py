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

from harness import units
from harness.errors import InputError
from harness.models.catalog import shapes
from harness.predict import cost, published
from harness.predict.advise import Advice, memory_text
from harness.predict.catalog import GIB, Hardware, find, hardware
from harness.predict.fit import Fit, fit, with_fit
from harness.predict.named import catalogued_facts
from harness.predict.predictors import active_bytes, roofline
from harness.records import ModelFacts, Prediction
from harness.report.table import output_console


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
    widest = max(len(facts.name) for facts in models) + 2
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
    blocks: list[list[Any]] = [[]]
    used = 0
    for row in rows:
        needed = max(len(row[0].id), 6) + 2
        if blocks[-1] and used + needed > width:
            blocks.append([])
            used = 0
        blocks[-1].append(row)
        used += needed
    return blocks


CATALOGUED = {"m3-ultra": "m3-ultra-80", "m4-pro": "m4-pro-20"}


def published_tables(as_json: bool) -> None:
    """Both published tables: printed and computed cells, and beside them what is really read and what the roofline says."""
    cells = published.cells()
    rows = []
    for cell in cells:
        machine, model = published.machines()[cell.hardware], published.models()[cell.model]
        name = cell.hardware.removesuffix("x2") if machine.devices > 1 else cell.hardware
        device = find(CATALOGUED.get(name, name))
        facts = catalogued_facts(_model_id(model.id), published.MOE_QUANT)
        tensor = machine.devices > 1
        whole = machine.bandwidth_gbs * 1e9
        fits = cell.computed is not None
        read = active_bytes(facts, whole)
        made = roofline(facts, whole / machine.devices, device=device, devices=machine.devices, tensor_parallel=tensor)
        rows.append((cell, model, read.user_tps if fits else None, made.user_tps if fits else None))
    if as_json:
        say_json([{**asdict(cell), "active_bytes": active, "roofline": roof} for cell, _, active, roof in rows])
        return
    console = output_console()
    columns = ("table", "model", "hardware", "published", "computed", "verdict", "active bytes", "roofline", "note")
    table = make_table(console, columns, left=3)
    table.columns[5].justify = table.columns[-1].justify = "left"
    for cell, model, active, roofed in rows:
        table.add_row(
            cell.source,
            model.name,
            cell.hardware,
            cell.published,
            units.MISSING if cell.computed is None else f"{cell.computed:.2f}",
            cell.verdict,
            units.rate_text(active),
            units.rate_text(roofed),
            cell.note,
        )
    console.print(table)
    counts = {
        verdict: sum(cell.verdict == verdict for cell in cells) for verdict in dict.fromkeys(c.verdict for c in cells)
    }
    console.print(f"{len(cells)} cells: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    console.print(
        Text("computed: bandwidth / file size x 0.65; active bytes: the same on what a step reads", style="dim")
    )
    for line in explanations():
        console.print(Text(line), soft_wrap=True)


def _model_id(name: str) -> str:
    """'deepseek-r1-671b-q4_k_m' of the tables is 'deepseek-r1' of the catalogue."""
    return name.removesuffix("-q4_k_m").replace("deepseek-r1-671b", "deepseek-r1")


def explanations() -> list[str]:
    """Where the published rule fails, with the figures that show it."""
    lines = []
    for name, model in published.models().items():
        if model.kind != "moe":
            continue
        facts = catalogued_facts(_model_id(name), published.MOE_QUANT)
        read = active_bytes(facts, 1e12).bytes_per_step or 1
        lines.append(
            f"{model.name}: a token goes through {facts.experts_used} of {facts.experts} experts and reads "
            f"{units.bytes_text(read)} of {model.file_size_gb:g} GB, so the rule, which divides by the file, is "
            f"{model.file_size_gb * 1e9 / read:.1f} times too low before anything else."
        )
    ultra = find("m3-ultra-80")
    for row in published.measurements():
        model_id = {"Qwen3 30B-A3B": "qwen3-30b-a3b", "DeepSeek R1 671B Q4": "deepseek-r1"}.get(row["model"])
        if model_id is None or row["hardware"] not in ("m3-ultra", "m4-ultra (projected)"):
            continue
        device = ultra if row["hardware"] == "m3-ultra" else find("m4-ultra")
        facts = catalogued_facts(model_id, published.MOE_QUANT)
        made = roofline(
            facts, device.bandwidth_bytes_per_s, device=device, users=int(row["concurrency"]), context_tokens=256
        )
        rule = device.bandwidth_bytes_per_s / facts.file_bytes * 0.65
        users = f", {row['concurrency']} users" if row["concurrency"] != "1" else ""
        lines.append(
            f"{row['model']} on {device.name}{users}: quoted {row['tokens_per_s_per_user']} t/s; the rule says {rule:.1f}, "
            f"the roofline {units.rate_text(made.user_tps)} ({row['note']})."
        )
    return lines


def published_costs(as_json: bool) -> None:
    """The published money figures beside what their own inputs give."""
    rows = [(row, published.computed_cost(row)) for row in published.costs()]
    if as_json:
        say_json(
            [
                {**row, "computed": computed, "reproduces": published.same(row["value"], computed)}
                for row, computed in rows
            ]
        )
        return
    console = output_console()
    table = make_table(console, ("quantity", "unit", "published", "computed", "verdict", "inputs"), left=2)
    table.columns[4].justify = table.columns[5].justify = "left"
    for row, computed in rows:
        verdict = "reproduces" if published.same(row["value"], computed) else "differs"
        table.add_row(row["quantity"], row["unit"], row["value"], f"{computed:.2f}", verdict, row["inputs"])
    console.print(table)


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
