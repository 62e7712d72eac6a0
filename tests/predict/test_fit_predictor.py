"""scripts/fit_predictor.py: the stored constants are what it fits, and its matrices are the prediction's own physics."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rigbench.predict.roofline import constants, step_seconds

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fit_predictor.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fit_predictor", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["fit_predictor"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fitted(script):
    table = script.priors()
    fixed = script.fixed_constants(table)
    data = script.load(script.MEASURED, fixed)
    model = script.build(data, fixed, table)
    stored = constants()
    start = np.log([stored[name] for name in model.names])
    return data, model, start, script.fit(model, data, np.arange(len(data.cases)), start)


def test_stored_constants_are_what_the_script_fits(fitted) -> None:
    _, model, stored, again = fitted
    for name, old, new in zip(model.names, stored, again, strict=True):
        assert new == pytest.approx(old, abs=0.001), name


def test_matrices_and_prediction_agree_on_every_row(script, fitted) -> None:
    data, model, x, _ = fitted
    seconds, _ = script.step_seconds(model, x, np.arange(len(data.cases)))
    for case, expected in zip(data.cases, seconds, strict=True):
        parts = step_seconds(case.facts, case.setup, constants())
        floor = parts.pop("step")
        assert sum(parts.values()) == pytest.approx(expected, rel=1e-5)
        assert floor >= sum(parts.values()) * (1 - 1e-12)


def test_slopes_are_those_of_small_steps(script, fitted) -> None:
    data, model, x, _ = fitted
    rows = np.arange(0, len(data.cases), 40)
    _, slope = script.step_seconds(model, x, rows)
    for i in range(0, len(x), 7):
        moved = x.copy()
        moved[i] += 1e-6
        numeric = (script.step_seconds(model, moved, rows)[0] - script.step_seconds(model, x, rows)[0]) / 1e-6
        assert numeric == pytest.approx(slope[:, i], rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("chip", ["RTX A6000", "Apple M2 Max", "L40S", "Radeon PRO W7900"])
def test_a_chip_left_out_is_predicted_well(script, fitted, chip: str) -> None:
    data, model, x, _ = fitted
    left_out = data.column("hardware") == chip
    miss = script.errors(
        model, data, script.fit(model, data, np.flatnonzero(~left_out), x), np.flatnonzero(left_out & data.core)
    )
    assert miss.mean() < 0.09


def test_stored_errors_meet_what_was_asked() -> None:
    import tomllib

    stored = tomllib.loads(
        (SCRIPT.parents[1] / "configs" / "predictors" / "roofline.toml").read_text(encoding="utf-8")
    )["fit"]
    assert stored["core_rows"] == 306
    assert stored["left_out_chip_mean_error"] <= 0.065
    assert stored["left_out_chip_median_error"] <= 0.0355
    assert stored["left_out_chip_mean_error_experts"] <= 0.14


def test_the_report_keeps_to_the_errors_for_depth_users_and_prompts() -> None:
    """Mean errors on left-out chips, and the share of rows within their 80 % interval, as the report has them."""
    report = (SCRIPT.parents[1] / "configs" / "predictors" / "roofline-report.md").read_text(encoding="utf-8")
    cells = {
        line.split(" | ")[0].strip("| "): line.split(" | ")[1:4] for line in report.splitlines() if line.startswith("|")
    }
    most_percent = {"one user, depth over 2K": 10, "many users": 15, "prefill": 18}
    for name, most in most_percent.items():
        _, inside, error = cells[name]
        assert float(error.partition("%")[0]) <= most, name
        assert 75 <= float(inside.strip("%")) <= 85, name
