"""Fits the roofline's constants to measured decode speeds, says how wrong it is on chips it has not seen, and stores both.

    python scripts/fit_predictor.py                  # fit, cross-validate, write configs/predictors/roofline.toml and its report
    python scripts/fit_predictor.py --dry-run        # the same without writing
    python scripts/fit_predictor.py --nested         # also choose the priors' spread inside each fold (minutes)

The fit is rigbench.predict.fitting, the priors are configs/predictors/priors.toml. Core rows (one user, one device, depth <= 2048,
stated size) count in full, other decode rows a tenth; rows marked unfit a fifth of that.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from rigbench.errors import InputError
from rigbench.predict import fitting
from rigbench.predict.cases import CaseRow, parse_row, read_rows, settled
from rigbench.predict.fitting import Model, step_seconds
from rigbench.predict.predictors import active_bytes, published
from rigbench.predict.roofline import interval, kind_of, terms
from rigbench.records import Prediction

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MEASURED = (CONFIGS / "reference" / "measured_train.csv", CONFIGS / "reference" / "measured_fresh.csv")
PREDICTORS = CONFIGS / "predictors"
Array = np.ndarray
LEVELS = (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
ENOUGH, FEW = 20, 3
"""Rows from which on a group's residuals are its own, and from which on they say anything."""


@dataclass(frozen=True)
class Data:
    """Rows with a measured speed. `log_time[i]` is the logarithm of the seconds of a step, or of a prompt's token. `later`: not of
    the first file."""

    cases: list[CaseRow]
    rows: list[dict[str, str]]
    log_time: Array
    weight: Array
    core: Array
    unfit: Array
    later: Array

    def column(self, name: str) -> Array:
        return np.array([row.get(name, "") for row in self.rows])


def load(paths: Sequence[Path], fixed: dict[str, float]) -> Data:
    """Every row that can be read. Rows that cannot are left out of the fit (and of nothing else)."""
    rows = [(row, path) for path in paths for row in read_rows(path.read_text(encoding="utf-8"))[1]]
    start = {**fixed, **{name: float(np.exp(x)) for name, x in _starts(priors()).items()}}
    cases, fitted, log_time, later = [], [], [], []
    for row, path in rows:
        try:
            case = parse_row(row, fixed)
        except InputError:
            continue
        case = CaseRow(case.facts, settled(case, start), case.target)
        rate = float(row["tokens_per_s"])
        log_time.append(np.log((case.setup.users if case.target == "output" else 1) / rate))
        cases.append(case)
        fitted.append(row)
        later.append(path != paths[0])
    core = np.array([is_core(row) for row in fitted])
    unfit = np.array(["excl=" in row["note"] for row in fitted])
    weight = np.where(core, 1.0, 0.2) * np.where(unfit, 0.2, 1.0)
    chips = np.array([row["hardware"] for row in fitted])
    many = {chip: float(weight[chips == chip].sum()) for chip in set(chips)}
    weight = weight * np.array([many[chip] ** -0.15 for chip in chips])
    return Data(cases, fitted, np.array(log_time), weight / weight[core].mean(), core, unfit, np.array(later))


def is_core(row: dict[str, str]) -> bool:
    """One user, one device, depth of at most 2048, and a stated size."""
    return (
        row["tokens_per_s_kind"] == "decode per-user"
        and row["concurrency"] != ""
        and float(row["concurrency"]) == 1
        and float(row["devices"] or 1) == 1
        and float(row["context_depth"] or 0) <= 2048
        and row["model_size_gib"] != ""
    )


def priors() -> dict[str, dict]:
    return tomllib.loads((PREDICTORS / "priors.toml").read_text(encoding="utf-8"))


def fixed_constants(table: dict[str, dict]) -> dict[str, float]:
    return {f"{group}.{key}": float(v) for group, values in table["fixed"].items() for key, v in values.items()}


def _starts(table: dict[str, dict]) -> dict[str, float]:
    return {
        f"{g}.{k}": np.log(v["start"])
        for g, values in table.items()
        if g != "fixed"
        for k, v in values.items()
        if k != "other"
    }


def build(data: Data, fixed: dict[str, float], table: dict[str, dict]) -> Model:
    """The roofline of these rows as matrices."""
    return fitting.build([terms(case.facts, case.setup, fixed) for case in data.cases], table)


def fit(model: Model, data: Data, rows: Array, x: Array | None = None, loosen: float = 1.0) -> Array:
    """The logarithms of the constants by these rows."""
    return fitting.fit(model, data.log_time, data.weight, rows, x, loosen)


def errors(model: Model, data: Data, x: Array, rows: Array) -> Array:
    """|predicted / measured - 1| in tokens per second."""
    return np.abs(ratios(model, data, x, rows) - 1)


def ratios(model: Model, data: Data, x: Array, rows: Array) -> Array:
    """Predicted over measured tokens per second."""
    return np.exp(data.log_time[rows]) / step_seconds(model, x, rows)[0]


def leave_out(
    model: Model, data: Data, groups: Array, x: Array, choose: Callable[[Array], float] | None = None
) -> Array:
    """Predicted over measured of each row by constants fitted without its group."""
    out = np.zeros(len(groups))
    for group in dict.fromkeys(groups):
        left_out = groups == group
        loosen = choose(~left_out) if choose else 1.0
        out[left_out] = ratios(
            model, data, fit(model, data, np.flatnonzero(~left_out), x, loosen), np.flatnonzero(left_out)
        )
    return out


def held_out(model: Model, data: Data, x: Array) -> Array:
    """Error of the later files' rows by constants fitted to the first file alone; NaN elsewhere."""
    out = np.full(len(data.cases), np.nan)
    out[data.later] = errors(model, data, fit(model, data, np.flatnonzero(~data.later), x), np.flatnonzero(data.later))
    return out


def summary(miss: Array, mask: Array) -> dict[str, float]:
    """Rows, mean and median error of the chosen rows."""
    return {"rows": int(mask.sum()), "mean": float(miss[mask].mean()), "median": float(np.median(miss[mask]))}


def simple_rule(data: Data, rule: Callable[..., Prediction]) -> Array:
    """Error of `published` or `active_bytes` on each row of one user; NaN elsewhere."""
    out = np.full(len(data.cases), np.nan)
    for i, case in enumerate(data.cases):
        prediction = rule(case.facts, case.setup.bandwidth_bytes_per_s, context_tokens=case.setup.context_tokens)
        if case.setup.users == 1 and case.target != "prefill" and prediction.user_tps is not None:
            out[i] = abs(prediction.user_tps * np.exp(data.log_time[i]) - 1)
    return out


def selections(data: Data) -> dict[str, Array]:
    """The rows that errors are told for."""
    core, fit_for_use = data.core, data.core & ~data.unfit
    experts = np.array([case.facts.experts > 0 for case in data.cases])
    platform = np.array([case.setup.platform for case in data.cases])
    masks = {
        "core": core,
        "core, mixture of experts": core & experts,
        "core without rows marked unfit": fit_for_use,
        "the same, mixture of experts": fit_for_use & experts,
    }
    masks |= {f"the same, {name}": fit_for_use & (platform == name) for name in dict.fromkeys(platform[fit_for_use])}
    kind, one = (
        np.array([kind_of(case.setup) for case in data.cases]),
        np.array([case.setup.devices == 1 for case in data.cases]),
    )
    alike = {
        "one user, depth up to 2K": (kind == "one") & one & ~data.unfit,
        "one user, depth over 2K": (kind == "depth") & one & ~data.unfit,
        "many users": (kind == "users") & one & ~data.unfit,
        "prefill": (kind == "prefill") & one & ~data.unfit,
        "several devices, decode": (kind != "prefill") & ~one,
    }
    first = {f"{name}, {MEASURED[0].name} alone": mask & ~data.later for name, mask in alike.items()}
    return masks | alike | first


def interval_factors(data: Data, ratio: Array, rows: Array, levels: dict[str, float]) -> dict[str, float]:
    """The factor that holds the question's level of these rows' left-out ratios, by kind of question, then by platform and kind of
    model where there are 20 rows. A platform with fewer has the larger of its own and its kind's."""
    kind = np.array([kind_of(case.setup) for case in data.cases])
    platform = np.array([case.setup.platform for case in data.cases])
    model = np.array(["experts" if case.facts.experts else "dense" for case in data.cases])

    def width(members: Array, question: str) -> float:
        return float(np.exp(np.quantile(np.abs(np.log(ratio[members])), levels[question])))

    widths = {}
    for name in dict.fromkeys(kind[rows]):
        members = rows & (kind == name) & ~data.unfit
        widths[f"interval.{name}"] = width(members, name)
        for each in dict.fromkeys(model[members]):
            if (own := members & (model == each)).sum() >= ENOUGH:
                widths[f"interval.{name}_{each}"] = width(own, f"{name}_{each}")
        for one in dict.fromkeys(platform[members]):
            here = members & (platform == one)
            if here.sum() < ENOUGH:
                few = width(here, name) if here.sum() >= FEW else 0.0
                widths[f"interval.{name}_{one}"] = max(few, widths[f"interval.{name}"])
                for each in dict.fromkeys(model[here]):
                    general = widths.get(f"interval.{name}_{each}", widths[f"interval.{name}"])
                    widths[f"interval.{name}_{one}_{each}"] = max(few, general)
                continue
            widths[f"interval.{name}_{one}"] = width(here, name)
            for each in dict.fromkeys(model[here]):
                if (own := here & (model == each)).sum() >= ENOUGH:
                    widths[f"interval.{name}_{one}_{each}"] = width(own, f"{name}_{each}")
    return widths


def levels_by_question(data: Data, ratio: Array, chips: Array) -> dict[str, float]:
    """For each kind of question, and for it by kind of model, the quantile of the other chips' residuals within which 80 % of a
    chip's rows lie. Rows of one chip miss alike, so that with few chips it is not 0.8."""
    kind = np.array([kind_of(case.setup) for case in data.cases])
    experts = np.array([case.facts.experts > 0 for case in data.cases])
    questions = {}
    for name in dict.fromkeys(map(str, kind)):
        of_kind = (kind == name) & ~data.unfit
        questions |= {name: of_kind, f"{name}_dense": of_kind & ~experts, f"{name}_experts": of_kind & experts}
    best: dict[str, tuple[float, float]] = {}
    for level in LEVELS:
        inside = covered(data, ratio, chips, dict.fromkeys(questions, level))
        for name, members in questions.items():
            off = abs(inside[members].mean() - 0.8) if members.any() else 1.0
            best[name] = min(best.get(name, (2.0, 0.0)), (off, level))
    return {name: level for name, (_, level) in best.items()}


def covered(data: Data, ratio: Array, chips: Array, levels: dict[str, float]) -> Array:
    """Whether each row lies within the interval that the other chips' rows give."""
    inside = np.zeros(len(ratio), dtype=bool)
    for chip in dict.fromkeys(chips):
        factors = interval_factors(data, ratio, chips != chip, levels)
        for i in np.flatnonzero(chips == chip):
            factor = interval(data.cases[i].facts, data.cases[i].setup, factors)
            inside[i] = factor is not None and abs(np.log(ratio[i])) <= np.log(factor)
    return inside


def nested(model: Model, data: Data, groups: Array) -> Callable[[Array], float]:
    """A choice of the priors' spread that sees only the training rows: the best of three over five folds of their groups."""

    def choose(training: Array) -> float:
        names = list(dict.fromkeys(groups[training]))
        score = {}
        for loosen in (0.5, 1.0, 2.0):
            missed = []
            for fold in range(5):
                left_out = training & np.isin(groups, names[fold::5])
                x = fit(model, data, np.flatnonzero(training & ~left_out), None, loosen)
                missed.append(errors(model, data, x, np.flatnonzero(left_out & data.core)))
            score[loosen] = float(np.concatenate(missed).mean())
        return min(score, key=lambda loosen: score[loosen])

    return choose


def constants_text(
    model: Model, x: Array, fixed: dict[str, float], summaries: dict[str, dict[str, float]], rows: int
) -> str:
    """roofline.toml: what was fitted, when, to how much, with which error; then the constants and the facts beside them."""
    core = summaries["core"]
    lines = [
        "# Written by scripts/fit_predictor.py; harness/rigbench/predict/roofline.py says what each is. Edit priors.toml instead.",
        "[fit]",
        f'date = "{datetime.now(UTC):%Y-%m-%d}"',
        f"rows = {rows}",
        f"core_rows = {core['rows']}",
        f"left_out_chip_mean_error = {core['mean']:.4f}",
        f"left_out_chip_median_error = {core['median']:.4f}",
        f"left_out_chip_mean_error_experts = {summaries['core, mixture of experts']['mean']:.4f}",
    ]
    unseen = {name: float(np.exp(v)) for name, v in _starts(priors()).items()}
    flat = {**unseen, **{name: float(np.exp(v)) for name, v in zip(model.names, x, strict=True)}, **fixed}
    for table in dict.fromkeys(name.split(".", 1)[0] for name in flat):
        lines += ["", f"[{table}]"]
        own = {name.split(".", 1)[1]: v for name, v in flat.items() if name.startswith(f"{table}.")}
        lines += [f'"{key}" = {v:.6g}' if "." in key else f"{key} = {v:.6g}" for key, v in own.items()]
    return "\n".join(lines) + "\n"


def report_text(data: Data, errors_by: dict[str, Array], inside: Array) -> str:
    """The report: every way of judging, for every selection of rows; then each chip by constants that have not seen it."""
    chips = data.column("hardware")
    lines = [
        "# How wrong the roofline is",
        "",
        f"Written by scripts/fit_predictor.py on {datetime.now(UTC):%Y-%m-%d} from configs/reference/measured_*.csv: "
        f"{len(data.cases)} rows of {len(set(chips))} chips. Error of a row: |predicted / measured - 1|, mean / median.",
        "`first file alone`: the rows of measured_fresh.csv by constants fitted to measured_train.csv.",
        "Core rows: one user, one device, depth of at most 2048 tokens, stated size. `excl=` in a row's note marks it unfit.",
        "",
        f"| rows | n | within the 80 % interval | {' | '.join(errors_by)} |",
        f"|---|---|---|{'---|' * len(errors_by)}",
    ]
    for name, mask in selections(data).items():
        cells = []
        for miss in errors_by.values():
            known = mask & ~np.isnan(miss)
            cells.append(f"{miss[known].mean():.1%} / {np.median(miss[known]):.1%}" if known.any() else "")
        lines.append(f"| {name} | {int(mask.sum())} | {inside[mask].mean():.0%} | {' | '.join(cells)} |")
    left_out = errors_by["chip left out"]
    lines += [
        "",
        "Core rows of each chip, predicted by constants fitted without that chip:",
        "",
        "| chip | rows | mean | worst |",
    ]
    lines += ["|---|---|---|---|"]
    for chip in sorted(set(chips[data.core]), key=lambda chip: left_out[data.core & (chips == chip)].mean()):
        own = left_out[data.core & (chips == chip)]
        lines.append(f"| {chip} | {len(own)} | {own.mean():.1%} | {own.max():.1%} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    parser.add_argument("--nested", action="store_true", help="choose the priors' spread inside each fold")
    args = parser.parse_args()
    table = priors()
    fixed = fixed_constants(table)
    data = load(MEASURED, fixed)
    model = build(data, fixed, table)
    every = np.arange(len(data.cases))
    x = fit(model, data, every)
    chips = data.column("hardware")
    family = np.array([f"{c.setup.hardware.family if c.setup.hardware else ''} {c.setup.platform}" for c in data.cases])
    ratio = leave_out(model, data, chips, x, nested(model, data, chips) if args.nested else None)
    levels = levels_by_question(data, ratio, chips)
    inside = covered(data, ratio, chips, levels)
    errors_by = {
        "chip left out": np.abs(ratio - 1),
        "family left out": np.abs(leave_out(model, data, family, x) - 1),
        "source left out": np.abs(leave_out(model, data, data.column("source_id"), x) - 1),
        "first file alone": held_out(model, data, x),
        "nothing left out": errors(model, data, x, every),
        "published rule": simple_rule(data, published),
        "active bytes": simple_rule(data, active_bytes),
    }
    summaries = {name: summary(errors_by["chip left out"], mask) for name, mask in selections(data).items()}
    report = report_text(data, errors_by, inside)
    fixed |= interval_factors(data, ratio, every >= 0, levels)
    print(report)
    if not args.dry_run:
        (PREDICTORS / "roofline.toml").write_text(
            constants_text(model, x, fixed, summaries, len(data.cases)), encoding="utf-8"
        )
        (PREDICTORS / "roofline-report.md").write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
