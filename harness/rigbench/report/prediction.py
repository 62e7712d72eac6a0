"""What `rigbench predict` shows: one prediction with its terms, the catalogue, the grid, and the published tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from rigbench import units
from rigbench.models.footprint import catalogued_facts
from rigbench.models.shapes import shapes
from rigbench.predict import published
from rigbench.predict.fit import Fit, fit, with_fit
from rigbench.predict.hardware import GIB, Hardware, find, hardware
from rigbench.predict.predictors import active_bytes, roofline
from rigbench.records import ModelFacts, Prediction
from rigbench.report.table import print_notes, print_pairs, print_table

CATALOGUED = {"m3-ultra": "m3-ultra-80", "m4-pro": "m4-pro-20"}


def print_prediction(
    console: Console,
    facts: ModelFacts,
    device: Hardware,
    fitting: Fit | None,
    answer: Prediction,
    rules: Sequence[Prediction],
) -> None:
    """One model on one device: whether it fits, the roofline's answer with its inputs, and beside it simpler rules."""
    bandwidth = units.bandwidth_text(answer.bandwidth_bytes_per_s)
    console.print(
        Text(f"{facts.name} {facts.quantization} on {device.name}, {bandwidth} ({device.status})", style="bold")
    )
    active = "" if not facts.experts else f", {facts.experts_used} of {facts.experts} experts"
    model = (
        f"{units.bytes_text(facts.file_bytes)} file, {facts.parameters / 1e9:.3g} B parameters"
        f" ({facts.active_parameters / 1e9:.3g} B active{active}), {facts.layers} layers"
    )
    fits = f"{fitting.answer}: {fitting.reason}" if fitting else "not known"
    speed = f"{units.rate_text(answer.user_tps)} t/s for a user, {units.rate_text(answer.output_tps)} t/s in all"
    if "user_tps_80_percent" in answer.inputs:
        speed += f" ({span_text(answer)} for a user in 80 % of cases)"
    if answer.user_tps is None:
        speed = f"{units.MISSING} ({answer.reason})"
    ceiling = (
        f"{units.rate_text(answer.ceiling_user_tps)} t/s for a user: {units.bytes_text(answer.bytes_per_step)} a step"
    )
    prompt = units.MISSING
    if tokens := answer.inputs.get("prompt_tokens"):
        rate, span = answer.inputs["prefill_tps"], span_text(answer, "prefill_tps")
        prompt = f"{units.rate_text(rate)} t/s of a prompt of {tokens} tokens ({span} in 80 % of cases), "
        prompt += f"first token after {units.seconds_text(answer.inputs['ttft_s'])}"
    pairs = [("model", model), ("memory", fits), ("predicted", speed), ("prefill", prompt), ("ceiling", ceiling)]
    print_pairs(console, pairs)
    if sentence := answer.inputs.get("calibrated_by"):
        console.print(Text(f"! {sentence}: rigbench predict --probe measures it again", style="yellow"))
    if answer.reason and answer.user_tps is not None:
        console.print(Text(f"! {answer.reason}", style="yellow"))
    console.print()
    rows = [
        (
            prediction.predictor,
            units.rate_text(prediction.user_tps),
            units.rate_text(prediction.output_tps),
            prediction.formula,
        )
        for prediction in rules
    ]
    print_table(console, ("simpler rules", "user t/s", "all t/s", "formula"), rows)
    inputs = ", ".join(f"{name} {_text(value)}" for name, value in answer.inputs.items() if value is not None)
    print_notes(console, [f"predicted: {answer.formula}", f"from {inputs}"])


def span_text(prediction: Prediction, name: str = "user_tps") -> str:
    """`44.2 to 57.7`: where that speed lies in 80 % of cases; '-' where nothing of the kind was measured."""
    span = prediction.inputs.get(f"{name}_80_percent")
    return f"{units.rate_text(span[0])} to {units.rate_text(span[1])}" if span else units.MISSING


def _text(value: Any) -> str:
    """An input; of several by name those that are not 0."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_text(one)}" for name, one in value.items() if one) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_hardware(console: Console) -> None:
    """The hardware catalogue."""
    rows = [
        (
            device.id,
            device.name,
            device.status,
            ", ".join(f"{size / GIB:.0f}" for size in device.memory_options_bytes),
            f"{device.bandwidth_bytes_per_s / 1e9:g}",
            units.MISSING if device.fp16_flops is None else f"{device.fp16_flops / 1e12:g}",
            units.MISSING if device.power_w is None else f"{device.power_w:g}",
            units.MISSING if device.gpu_cores is None else str(device.gpu_cores),
        )
        for device in hardware()
    ]
    print_table(console, ("id", "name", "status", "memory GB", "GB/s", "FP16 TFLOPS", "W", "cores"), rows)


def grid(
    only_hardware: str | None, only_model: str | None, quant: str, users: int, context: int
) -> tuple[list[ModelFacts], list[tuple[Hardware, list[tuple[Fit, Prediction]]]]]:
    """(models, devices each with a cell per model): every model on every device, or one model, or one device."""
    devices = [find(only_hardware)] if only_hardware else [d for d in hardware() if d.status == "shipping"]
    names = [only_model] if only_model else [name for name, shape in shapes().items() if shape.family != "synthetic"]
    models = [catalogued_facts(name, quant) for name in names]
    rows: list[tuple[Hardware, list[tuple[Fit, Prediction]]]] = []
    for device in devices:
        cells = []
        for facts in models:
            answer = fit(facts, device, users=users, context_tokens=context)
            prediction = roofline(
                facts, device.bandwidth_bytes_per_s, device=device, users=users, context_tokens=context / 2
            )
            cells.append((answer, with_fit(prediction, answer)))
        rows.append((device, cells))
    return models, rows


def print_grid(
    console: Console,
    models: Sequence[ModelFacts],
    rows: list[tuple[Hardware, list[tuple[Fit, Prediction]]]],
    title: str,
) -> None:
    """user_tps of each cell; '-' where the model does not fit. A line for each machine where there is one model, else for each
    model."""
    console.print(Text(title, style="bold"))
    mark = {"fits": "", "tight": "!", "offload": "*"}
    cells = [
        [units.rate_text(prediction.user_tps) + mark.get(fit.answer, "") for fit, prediction in row] for _, row in rows
    ]
    machines = [device.id for device, _ in rows]
    if len(models) == 1:
        spans = [span_text(row[0][1]) for _, row in rows]
        lines = list(zip(machines, (row[0] for row in cells), spans, strict=True))
        print_table(console, ("hardware", models[0].name, "80 % of cases"), lines)
    else:
        names = [facts.name for facts in models]
        print_table(console, ("model", *machines), list(zip(names, *cells, strict=True)))
    print_notes(
        console, ["- does not fit      ! fits tightly      * layers in the host's memory      intervals: --json"]
    )


def published_cells() -> list[tuple[published.Cell, float | None, float | None]]:
    """Both published tables: each cell with the tokens per second of what is really read, and of the roofline."""
    rows = []
    for cell in published.cells():
        machine, model = published.machines()[cell.hardware], published.models()[cell.model]
        name = cell.hardware.removesuffix("x2") if machine.devices > 1 else cell.hardware
        device = find(CATALOGUED.get(name, name))
        facts = catalogued_facts(_model_id(model.id), published.MOE_QUANT)
        tensor = machine.devices > 1
        whole = machine.bandwidth_gbs * 1e9
        fits = cell.computed is not None
        read = active_bytes(facts, whole)
        prediction = roofline(
            facts, whole / machine.devices, device=device, devices=machine.devices, tensor_parallel=tensor
        )
        rows.append((cell, read.user_tps if fits else None, prediction.user_tps if fits else None))
    return rows


def print_published(console: Console, rows: Sequence[tuple[published.Cell, float | None, float | None]]) -> None:
    """The cells as printed and computed, the real figures beside them, and why they part."""
    printed = [cell for cell, _, _ in rows]
    for source in dict.fromkeys(cell.source for cell in printed):
        console.print(Text(f"published comparison {source}", style="bold"))
        columns = ("model", "hardware", "published", "computed", "verdict", "active", "roofline")
        lines = [
            (
                cell.model.removesuffix("-q4_k_m"),
                cell.hardware,
                cell.published,
                units.MISSING if cell.computed is None else f"{cell.computed:.2f}",
                cell.verdict,
                units.rate_text(active),
                units.rate_text(roofed),
            )
            for cell, active, roofed in rows
            if cell.source == source
        ]
        print_table(console, columns, lines, keys=2)
    footnote = "- does not fit; computed: bandwidth / file size x 0.65; active: the same on the bytes that a step reads"
    print_notes(console, [footnote])
    for cell in printed:
        if cell.verdict != "reproduces":
            print_notes(console, [f"! {cell.verdict}: {cell.model} on {cell.hardware}: {cell.note}"], "")
    verdicts = [cell.verdict for cell in printed]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    console.print(f"{len(printed)} cells: {counts}")
    print_notes(console, explanations(), "")


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
        prediction = roofline(
            facts, device.bandwidth_bytes_per_s, device=device, users=int(row["concurrency"]), context_tokens=256
        )
        rule = device.bandwidth_bytes_per_s / facts.file_bytes * 0.65
        users = f", {row['concurrency']} users" if row["concurrency"] != "1" else ""
        lines.append(
            f"{row['model']} on {device.name}{users}: quoted {row['tokens_per_s_per_user']} t/s; the rule says {rule:.1f}, "
            f"the roofline {units.rate_text(prediction.user_tps)} ({row['note']})."
        )
    return lines
