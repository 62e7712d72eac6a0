"""What `predict --published` and `cost --published` print: the published figures, the computed ones, and why they part."""

from __future__ import annotations

from dataclasses import asdict

from rich.text import Text

from rigbench import units
from rigbench.cli.predict_tables import make_table, say_json
from rigbench.models.footprint import catalogued_facts
from rigbench.predict import published
from rigbench.predict.hardware import find
from rigbench.predict.predictors import active_bytes, roofline
from rigbench.report.table import output_console

CATALOGUED = {"m3-ultra": "m3-ultra-80", "m4-pro": "m4-pro-20"}


def cells(as_json: bool) -> None:
    """Both published tables: printed and computed cells, and beside them what is really read and what the roofline says."""
    printed = published.cells()
    rows = []
    for cell in printed:
        machine, model = published.machines()[cell.hardware], published.models()[cell.model]
        name = cell.hardware.removesuffix("x2") if machine.devices > 1 else cell.hardware
        device = find(CATALOGUED.get(name, name))
        facts = catalogued_facts(_model_id(model.id), published.MOE_QUANT)
        tensor = machine.devices > 1
        whole = machine.bandwidth_gbs * 1e9
        fits = cell.computed is not None
        read = active_bytes(facts, whole)
        made = roofline(facts, whole / machine.devices, device=device, devices=machine.devices, tensor_parallel=tensor)
        rows.append((cell, read.user_tps if fits else None, made.user_tps if fits else None))
    if as_json:
        say_json([{**asdict(cell), "active_bytes": active, "roofline": roof} for cell, active, roof in rows])
        return
    console = output_console()
    for source in dict.fromkeys(cell.source for cell in printed):
        console.print(Text(f"published comparison {source}", style="bold"))
        columns = ("model", "hardware", "published", "computed", "verdict", "active", "roofline")
        table = make_table(console, columns, left=2)
        table.padding = (0, 1, 0, 0)
        table.columns[1].no_wrap = True
        for cell, active, roofed in rows:
            if cell.source == source:
                computed = units.MISSING if cell.computed is None else f"{cell.computed:.2f}"
                figures = (units.rate_text(active), units.rate_text(roofed))
                short = cell.model.removesuffix("-q4_k_m")
                table.add_row(short, cell.hardware, cell.published, computed, cell.verdict, *figures)
        console.print(table)
    footnote = "- does not fit; computed: bandwidth / file size x 0.65; active: the same on the bytes that a step reads"
    console.print(Text(footnote, style="dim"), soft_wrap=True)
    for cell in printed:
        if cell.verdict != "reproduces":
            console.print(Text(f"! {cell.verdict}: {cell.model} on {cell.hardware}: {cell.note}"), soft_wrap=True)
    verdicts = [cell.verdict for cell in printed]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    console.print(f"{len(printed)} cells: {counts}")
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


def costs(as_json: bool) -> None:
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
