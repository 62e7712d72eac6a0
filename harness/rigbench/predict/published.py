"""The two published tables, cell by cell: what they print, what their own rule gives, and where the rule fails.

The rule is bandwidth / file size x 0.65, devices add up, and a model fits whose file is no larger than the memory. 76 of 77
cells come out by rounding; one was cut off instead, and the rows of one model count two cards as one.

    rigbench predict --published
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from rigbench.paths import configs_dir
from rigbench.predict import cost
from rigbench.predict.predictors import efficiency

MOE_QUANT = "Q4_K_M"


class Machine(NamedTuple):
    """A row of configs/reference/hardware.csv. `memory_gb` is infinite where the tables do not say."""

    memory_gb: float
    bandwidth_gbs: float
    devices: int


class Model(NamedTuple):
    """A row of configs/reference/models.csv."""

    id: str
    name: str
    file_size_gb: float
    kind: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. `computed` is the rule's figure with all devices, or None where the file is larger than the memory.
    `verdict`: `reproduces`, `truncated` (cut off instead of rounded), `one device` (two cards counted as one), `differs`."""

    source: str
    model: str
    hardware: str
    published: str
    computed: float | None
    verdict: str
    note: str = ""


def _rows(name: str) -> list[dict[str, str]]:
    with (configs_dir() / "reference" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def machines() -> dict[str, Machine]:
    """The machines of both tables, by id."""
    return {
        row["id"]: Machine(float(row["memory_gb"] or "inf"), float(row["bandwidth_gbs"]), int(row["devices"]))
        for row in _rows("hardware.csv")
    }


@cache
def models() -> dict[str, Model]:
    """The models of both tables, by id."""
    rows = _rows("models.csv")
    return {row["id"]: Model(row["id"], row["name"], float(row["file_size_gb"]), row["kind"]) for row in rows}


def measurements() -> list[dict[str, str]]:
    """What the two documents quote as measured."""
    return _rows("published_measurements.csv")


def cells() -> list[Cell]:
    """Every published cell with the computed one beside it."""
    return [_cell(row) for row in _rows("published_predictions.csv")]


def _cell(row: dict[str, str]) -> Cell:
    machine, model = machines()[row["hardware"]], models()[row["model"]]
    computed = None
    if model.file_size_gb <= machine.memory_gb:
        computed = machine.bandwidth_gbs / model.file_size_gb * efficiency("published")
    printed = row["tokens_per_s"] or "-"
    verdict, note = "differs", ""
    if computed is None:
        verdict = "differs" if row["fits"] == "yes" else "reproduces"
        note = f"{model.file_size_gb:g} GB do not fit {machine.memory_gb:g} GB"
    elif printed.replace(".", "").isdigit():
        scale = 10 ** len(printed.partition(".")[2])
        if same(printed, computed):
            verdict = "reproduces"
        elif int(computed * scale) / scale == float(printed):
            verdict, note = "truncated", f"{computed:.2f} was cut off, not rounded"
        elif same(printed, computed / machine.devices):
            verdict, note = "one device", f"{machine.devices} cards counted as one: the model fits one of them"
    return Cell(row["source"], row["model"], row["hardware"], printed, computed, verdict, note)


def costs() -> list[dict[str, str]]:
    """The published money figures: source, quantity, value, unit, inputs."""
    return _rows("published_costs.csv")


def computed_cost(row: dict[str, str]) -> float:
    """What the inputs that a row itself states give."""
    numbers = [float(text) for text in re.findall(r"\d+(?:\.\d+)?", row["inputs"])]
    quantity = row["quantity"]
    if quantity.startswith("annual energy cost"):
        active_w, hours, idle_w, _, _, price = numbers
        return cost.annual_kwh(active_w, idle_w, hours) * price
    if quantity == "daily API cost":
        return cost.api_cost_per_day(numbers[0], numbers[2], numbers[1], numbers[3])
    if quantity == "monthly API cost":
        return next(computed_cost(other) for other in costs() if other["quantity"] == "daily API cost") * numbers[0]
    return cost.break_even_months(numbers[0], numbers[1]) or math.inf


def same(printed: str, computed: float) -> bool:
    """Whether a printed figure is the computed one, rounded as it was printed."""
    return round(computed, len(printed.partition(".")[2])) == float(printed)
