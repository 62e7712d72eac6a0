"""Fitting the roofline's constants to measured speeds: robust least squares with priors, by scipy.

The unknowns are logarithms of constants. A row's miss is the logarithm of predicted over measured time, a relative error; beyond
`KNEE` it counts by its size, no longer by its square (pseudo-Huber), so that one wrong row does not pull the rest. Each constant
has a normal prior: what the rows do not tell stays there, and one row moves a constant a little where ten decide it.

    python scripts/fit_predictor.py --dry-run
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from rigbench.predict.roofline import Term

KNEE, NOISE = 0.1, 0.08
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Model:
    """The roofline as matrices: part k of row i is base[k][i] * exp(design[k][i] @ x), x the logarithms of the constants `names`.
    `start` and `spread` are the priors' means and standard deviations."""

    names: list[str]
    start: Array
    spread: Array
    base: dict[str, Array]
    design: dict[str, Array]


def build(listed: Sequence[Mapping[str, Term]], priors: Mapping[str, Mapping[str, Any]]) -> Model:
    """The matrices of rows whose `roofline.terms` are given; `priors` as in configs/predictors/priors.toml."""
    names = ["overlap.power", "years.fall"]
    names += list(dict.fromkeys(name for parts in listed for term in parts.values() for name in term.names))
    place = {name: i for i, name in enumerate(names)}
    kinds = list(dict.fromkeys(kind for parts in listed for kind in parts))
    base = {kind: np.zeros(len(listed)) for kind in kinds}
    design = {kind: np.zeros((len(listed), len(names))) for kind in kinds}
    for i, parts in enumerate(listed):
        for kind, term in parts.items():
            base[kind][i] = term.base
            for name in term.names:
                design[kind][i, place[name]] = -1.0 if term.divide else 1.0
            design[kind][i, place["years.fall"]] = -term.age
    start, spread = np.zeros(len(names)), np.zeros(len(names))
    for name, i in place.items():
        group, key = name.split(".", 1)
        belief = priors[group].get(key) or priors[group]["other"]
        start[i], spread[i] = np.log(belief["start"]), belief["spread"]
    return Model(names, start, spread, base, design)


def step_seconds(model: Model, x: Array, rows: Array) -> tuple[Array, Array]:
    """Seconds of a step for each of these rows, and their derivative by x."""
    part = {kind: model.base[kind][rows] * np.exp(model.design[kind][rows] @ x) for kind in model.base}
    power = np.exp(x[0])
    log_stream, log_compute = np.log(part["stream"]), np.log(part["compute"])
    log_both = np.logaddexp(power * log_stream, power * log_compute) / power
    share = np.exp(power * (log_stream - log_both))
    both = np.exp(log_both)
    slope = (both * share)[:, None] * model.design["stream"][rows]
    slope += (both * (1 - share))[:, None] * model.design["compute"][rows]
    slope[:, 0] += both * (share * log_stream + (1 - share) * log_compute - log_both)
    total = both
    for kind, seconds in part.items():
        if kind not in ("stream", "compute"):
            total = total + seconds
            slope += seconds[:, None] * model.design[kind][rows]
    return total, slope


def fit(
    model: Model, log_time: Array, weight: Array, rows: Array, x: Array | None = None, loosen: float = 1.0
) -> Array:
    """The logarithms of the constants that fit these rows best, sought from `x`; the priors are `loosen` times as wide."""

    def miss(x: Array) -> Array:
        return np.asarray(np.log(step_seconds(model, x, rows)[0]) - log_time[rows])

    def slope(x: Array) -> Array:
        seconds, by_x = step_seconds(model, x, rows)
        return np.asarray(by_x / seconds[:, None])

    start = model.start if x is None else x
    return robust_fit(miss, slope, start, model.start, model.spread * loosen, weight[rows])


def robust_fit(
    miss: Callable[[Array], Array],
    slope: Callable[[Array], Array] | None,
    start: Array,
    prior: Array,
    spread: Array,
    weight: Array | float = 1.0,
    knee: float = KNEE,
    noise: float = NOISE,
) -> Array:
    """The x that is best by the pseudo-Huber loss of `miss` and the priors. `slope`: of `miss` by x, by differences where None.
    A residual is the signed square root of its loss, which makes the whole an ordinary least-squares problem."""
    scale = np.sqrt(weight) * knee / noise

    def residuals(x: Array) -> Array:
        return np.concatenate([scale * _root(miss(x) / knee)[0], (x - prior) / spread])

    def slopes(x: Array) -> Array:
        assert slope is not None
        return np.vstack([(scale / knee * _root(miss(x) / knee)[1])[:, None] * slope(x), np.diag(1 / spread)])

    answer = least_squares(residuals, start, slopes if slope else "2-point", method="lm", xtol=1e-8, ftol=1e-10)
    return np.asarray(answer.x)


def _root(miss: Array) -> tuple[Array, Array]:
    """sign(m) sqrt(2 (sqrt(1 + m^2) - 1)), and its derivative; written so that nothing cancels near 0."""
    bent = np.sqrt(1 + miss**2)
    flat = np.sqrt(2 / (bent + 1))
    return miss * flat, 1 / (bent * flat)
