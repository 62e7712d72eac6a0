"""The metrics: each with its name, unit, formula, what computes it and how it prints, in this one place.

The row, the table, `show --json`, CSV, Markdown, the index's columns, what `compare` and `regress` can compare, `rigbench metrics`
and README's table are all made from this list. A metric is a function of one repetition of a case (`of_case`; the row has the
median over the repetitions) or of a row (`of_row`). A third party adds one by the entry-point group `rigbench.metrics`:

    # my_metric.py, and in its package's metadata:  [rigbench.metrics]  first_gap = my_metric:METRIC
    from rigbench.analysis.definitions import Metric
    METRIC = Metric("first_gap_s", "first gap", "s", "second token - first token of the first request", "lower",
                    of_case=lambda one: one.requests[0].gaps_s[0])

    rigbench metrics
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from rigbench import units
from rigbench.analysis import images, stats
from rigbench.analysis.memory import device_memory
from rigbench.analysis.requests import Repetition, Unknown, output_rate, prefill_rate, tpot, user_rate
from rigbench.errors import UnavailableError
from rigbench.records import Prediction
from rigbench.workloads import Training

GROUP = "rigbench.metrics"
NO_ARITHMETIC = "the arithmetic rate of the device is not known"
TOKENS = ("text", "tokens")
"""The kinds of workload that generate text."""
IMAGE, TRAIN = ("image",), ("train",)
RATES = ("user_tps", "it_per_s", "trained_tokens_per_s")
"""The units of its workload that one user gets in a second: the metric that ceilings are held against. A row has one of them."""
CEILINGS = dict(zip(RATES, ("ceiling_tps", "ceiling_it_per_s", "ceiling_trained_tps"), strict=True))
"""The ceiling of each."""


@dataclass(frozen=True, slots=True)
class RowInput:
    """What a metric of a row is computed from: the numbers of the row so far, the prediction, and the published rule's."""

    values: Mapping[str, float | None]
    prediction: Prediction | None
    published: Prediction | None

    @property
    def steps_per_s(self) -> float | None:
        """Steps of the engine in a second for one user: a decode step and a denoising step are one unit, a training step many."""
        rate = next((value for name in RATES if (value := self.values.get(name)) is not None), None)
        units = (self.prediction.inputs.get("step_units") if self.prediction else None) or 1
        return rate / units if rate is not None else None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Either `of_case` or `of_row` computes it: a number, None, or Unknown with the reason.

    `kinds`: the kinds of workload that have it, all of them if empty; a row of another kind is without it. `join` makes one
    number of the repetitions'. `unit` decides how it prints. `priority` of its column: on a narrow terminal the largest goes first,
    0 always stays; None has no column, and from 8 on a column without any number is left out. `compared`: whether `compare` and
    `regress` show it unless asked for others.
    """

    name: str
    label: str
    unit: str
    formula: str
    better: Literal["higher", "lower"] | None
    of_case: Callable[[Repetition], float | Unknown | None] | None = None
    of_row: Callable[[RowInput], float | Unknown | None] | None = None
    kinds: tuple[str, ...] = ()
    join: Callable[[Sequence[float]], float] = statistics.median
    priority: int | None = 11
    compared: bool = True
    span: tuple[str, str] | None = None
    """The metrics between which it lies in 80 % of cases, shown beside it."""

    def cell(self, number: Callable[[str], float | None]) -> str:
        """How it prints in a row of these numbers: with its span where that is known."""
        text = self.text(number(self.name))
        low, high = (number(name) for name in self.span or ("", ""))
        return text if low is None or high is None else f"{text} ({self.text(low)} to {self.text(high)})"

    def of(self, kind: str) -> bool:
        """Whether a workload of this kind has it."""
        return not self.kinds or kind in self.kinds

    def text(self, value: float | None) -> str:
        """The number as it prints, in its unit."""
        return units.TEXTS.get(self.unit, units.number_text)(value)

    @property
    def verdicts(self) -> tuple[str, str]:
        """What `compare` calls a worse and a better number: speed is slower or faster, cost (memory, energy) more or less."""
        speed = self.better == "higher" or self.unit in ("s", "s/token")
        return ("slower", "faster") if speed else ("more", "less")

    def describe(self) -> dict[str, Any]:
        """As plain JSON types, without the functions."""
        described = {name: getattr(self, name) for name in ("name", "label", "unit", "formula", "better")}
        return described | {"of": "case" if self.of_case else "row", "kinds": list(self.kinds)}


@dataclass(frozen=True, slots=True)
class Term:
    """A word of the formulas. `of`: what has one."""

    name: str
    formula: str
    unit: str
    of: str


# fmt: off
TERMS = (
    Term("ttft", "first output token - request submitted (queueing included)", "s", "request"),
    Term("tpot",
         "(last token - first token) / (output tokens - 1); where several tokens come in one chunk or at once, less the first ones",
         "s/token", "request"),
    Term("latency", "last token - request submitted", "s", "request"),
    Term("itl", "gaps between successive tokens; called chunk_gap where chunks hold several tokens", "s", "request"),
    Term("decode_tps", "1 / tpot: what one user sees while the text streams", "tokens/s", "request"),
    Term("steady window",
         "from N requests first being in their decode phase together until the requests in flight last fall below N; "
         "shorter than 5 median tpot or with < 20 tokens: no output_tps", "s", "case"),
    Term("percentiles", "p50 always; p90, p95, p99 only from 20, 40, 200 samples", "", "case"),
    Term("phase_joules", "energy of load, of prefill (first submission until all users decode) and of decode (the steady window)",
         "J", "case"),
    Term("across repetitions",
         "median; 95 % interval by bootstrap of the repetitions' numbers, minimum and maximum below 5 repetitions",
         "", "row"),
)
# fmt: on


def _rss(one: Repetition) -> float | Unknown:
    memory = one.result.host_memory
    if memory is None or memory.rss_peak_bytes is None:
        return Unknown((memory.reason if memory else None) or "not read")
    return memory.rss_peak_bytes


def _memory(one: Repetition) -> float | Unknown:
    return _rss(one) if one.memory is None else one.memory.size


def _device_memory(one: Repetition) -> float | Unknown:
    used = device_memory(one.result, one.place)
    return Unknown("not read") if used is None else used


def _power(one: Repetition, name: str) -> float | Unknown:
    value: float | None = getattr(one.power, name)
    return Unknown(one.power.reason or one.units_reason or one.hidden or "not read") if value is None else value


def _predicted(row: RowInput, name: str) -> float | Unknown:
    if row.prediction is None:
        return Unknown("no prediction was made")
    value: float | None = getattr(row.prediction, name)
    return Unknown(row.prediction.reason or "unknown") if value is None else value


def _predicted_input(row: RowInput, name: str, place: int | None = None) -> float | Unknown:
    """A figure that stands in the prediction's inputs; of a pair the one at `place`."""
    value = row.prediction.inputs.get(name) if row.prediction else None
    if value is None:
        return Unknown(
            (row.prediction and row.prediction.reason) or "not predicted: no measurement of its kind is known"
        )
    return float(value if place is None else value[place])


def _mbu(row: RowInput) -> float | Unknown | None:
    prediction, steps_per_s = row.prediction, row.steps_per_s
    if prediction and steps_per_s and prediction.bytes_per_step and prediction.bandwidth_bytes_per_s:
        return prediction.bytes_per_step * steps_per_s / prediction.bandwidth_bytes_per_s
    ceiling = _predicted(row, "ceiling_user_tps")
    return ceiling if isinstance(ceiling, Unknown) else None


def _mfu(row: RowInput) -> float | Unknown | None:
    prediction, steps_per_s = row.prediction, row.steps_per_s
    if prediction and prediction.flops_per_step and prediction.flops_per_s:
        return prediction.flops_per_step * steps_per_s / prediction.flops_per_s if steps_per_s else None
    return Unknown(NO_ARITHMETIC)


def _prefill_part(row: RowInput, token: str, rate: str) -> float | Unknown | None:
    """Which part of that rate (bytes or operations per second) the prompt takes, whose token has so many of them."""
    prediction, prefill_tps = row.prediction, row.values["prefill_tps"]
    if prediction is None or token not in prediction.inputs:
        return Unknown(NO_ARITHMETIC)
    most = getattr(prediction, rate)
    return float(prediction.inputs[token] * prefill_tps / most) if prefill_tps and most else None


def _prefill_ceiling(row: RowInput) -> float | Unknown | None:
    prediction = row.prediction
    if prediction is None or not prediction.flops_per_s or not prediction.bandwidth_bytes_per_s:
        return Unknown(NO_ARITHMETIC)
    flops, size = prediction.inputs["prefill_flops_per_token"], prediction.inputs["prefill_bytes_per_token"]
    return float(min(prediction.flops_per_s / flops, prediction.bandwidth_bytes_per_s / size))


def _samples_rate(one: Repetition) -> float | Unknown:
    rate, work = user_rate(one), one.result.case.workload
    assert isinstance(work, Training)
    return rate if isinstance(rate, Unknown) else rate / work.sequence_tokens


def _joules_per_1000(one: Repetition) -> float | Unknown:
    joules = _power(one, "joules_per_token")
    return joules if isinstance(joules, Unknown) else 1000 * joules


def _loss(one: Repetition, place: int) -> float | Unknown | None:
    losses = [record.loss[place] for record in one.result.requests if record.loss]
    return stats.median(losses) if losses else Unknown("the engine tells no loss")


def _over_predicted(row: RowInput) -> float | None:
    user_tps, predicted = row.values["user_tps"], row.values["predicted_tps"]
    return user_tps / predicted if user_tps and predicted else None


# fmt: off
METRICS = (
    Metric("user_tps", "user t/s", "tokens/s",
           "median over the requests of 1 / tpot, tpot = (last token - first token) / (output tokens - 1): what one user sees",
           "higher", user_rate, kinds=TOKENS, priority=0),
    Metric("output_tps", "all t/s", "tokens/s",
           "output tokens stamped inside the steady window / its length: what the machine delivers",
           "higher", output_rate, kinds=TOKENS, priority=1),
    Metric("ttft_s", "TTFT", "s",
           "median over the requests of first output token - request submitted, queueing included",
           "lower", lambda one: one.median("ttft_s"), kinds=TOKENS, priority=2),
    Metric("tpot_s", "TPOT", "s/token", "median of tpot over the requests",
           "lower", tpot, kinds=TOKENS, priority=7, compared=False),
    Metric("latency_s", "latency", "s", "median of latency over the requests",
           "lower", lambda one: one.median("latency_s"), kinds=TOKENS, priority=None, compared=False),
    Metric("prefill_tps", "prefill t/s", "tokens/s", "prompt tokens / ttft, for one user alone",
           "higher", prefill_rate, kinds=TOKENS, priority=5, compared=False),
    Metric("it_per_s", "it/s", "steps/s",
           "median over the requests of (steps - 1) / (last step - first step); a step is of the whole batch, with guidance too",
           "higher", user_rate, kinds=IMAGE, priority=0),
    Metric("seconds_per_image", "per image", "s",
           "median over the requests of (pixels - request submitted) / images of the batch: text encoder, all steps, decoding",
           "lower", images.seconds_per_image, kinds=IMAGE, priority=1),
    Metric("images_per_s", "images/s", "images/s", "images of all requests / (last pixels - first request submitted)",
           "higher", images.images_rate, kinds=IMAGE, priority=2, compared=False),
    Metric("encode_s", "encode", "s", "median over the requests of the text encoder's time",
           "lower", lambda one: images.part_s(one, "encode"), kinds=IMAGE, priority=9, compared=False),
    Metric("decode_s", "decode", "s", "median over the requests of the time from latents to pixels",
           "lower", lambda one: images.part_s(one, "decode"), kinds=IMAGE, priority=9, compared=False),
    Metric("trained_tokens_per_s", "trained t/s", "tokens/s",
           "median over the requests of the trained tokens after the first step / (last step - first step); every token of a step "
           "has a target, none is padding",
           "higher", user_rate, kinds=TRAIN, priority=0),
    Metric("samples_per_s", "samples/s", "samples/s", "trained_tokens_per_s / tokens of a sequence",
           "higher", _samples_rate, kinds=TRAIN, priority=1, compared=False),
    Metric("memory_peak_bytes", "memory", "bytes",
           "what holds the model: the largest of device memory (added up over the devices used), footprint (Mac), resident memory "
           "and the engine's own account; device and resident memory together where layers stay with the processor",
           "lower", _memory, join=max, priority=6),
    Metric("rss_peak_bytes", "resident", "bytes",
           "peak resident memory of the engine's whole process tree during the case; the largest of the repetitions",
           "lower", _rss, join=max, priority=None, compared=False),
    Metric("device_memory_peak_bytes", "device memory", "bytes",
           "peak of the used memory of the engine's devices during the case, added up; the largest of the repetitions",
           "lower", _device_memory, join=max, priority=None, compared=False),
    Metric("joules_per_token", "J/token", "J",
           "energy in the steady window / output tokens in it, of the widest sensor that holds the device "
           "(board, package, SoC, wall)",
           "lower", lambda one: _power(one, "joules_per_token"), kinds=TOKENS, priority=8),
    Metric("joules_per_token_net", "J/token net", "J", "joules_per_token net of the idle power before the model was loaded",
           "lower", lambda one: _power(one, "joules_per_token_net"), kinds=TOKENS, priority=None, compared=False),
    Metric("joules_per_image", "J/image", "J", "energy from the first request to the last pixels / images",
           "lower", images.joules_per_image, kinds=IMAGE, priority=8),
    Metric("joules_per_1000_tokens", "J/1000 tokens", "J",
           "1000 x energy from the first step to the last / trained tokens in between",
           "lower", _joules_per_1000, kinds=TRAIN, priority=8),
    Metric("watts_mean", "watts", "W", "mean power over the steady window, with its scope (board, package, soc, host, wall)",
           None, lambda one: _power(one, "watts_mean"), priority=None),
    Metric("watts_peak", "peak watts", "W", "largest reading of power in the steady window",
           None, lambda one: _power(one, "watts_peak"), priority=None),
    Metric("ceiling_tps", "ceiling", "tokens/s",
           "the slower of arithmetic rate / operations of a step and "
           "read bandwidth / bytes that one decode step must read (weights once, of a mixture of experts the part that N users' "
           "tokens go through, and each user's KV cache at its mean length): no user can see more",
           None, of_row=lambda row: _predicted(row, "ceiling_user_tps"), kinds=TOKENS, priority=4),
    Metric("ceiling_it_per_s", "ceiling", "steps/s",
           "the slower of arithmetic rate / operations of a step and read bandwidth / bytes of the denoiser",
           None, of_row=lambda row: _predicted(row, "ceiling_user_tps"), kinds=IMAGE, priority=4),
    Metric("ceiling_trained_tps", "ceiling", "tokens/s",
           "the slower of arithmetic rate / (4 x active weights; 6 x where all are trained) and what reading the weights twice a "
           "step allows",
           None, of_row=lambda row: _predicted(row, "ceiling_user_tps"), kinds=TRAIN, priority=4),
    Metric("predicted_tps", "predicted", "tokens/s",
           "roofline: 1 / (time to stream the bytes + per layer + per user ...), per user; `rigbench predict` shows its terms",
           None, of_row=lambda row: _predicted(row, "user_tps"), kinds=TOKENS, priority=9,
           span=("predicted_low_tps", "predicted_high_tps")),
    Metric("predicted_low_tps", "predicted, low", "tokens/s",
           "predicted_tps / the factor that held 80 % of measurements on chips left out of the fit, of its kind and platform",
           None, of_row=lambda row: _predicted_input(row, "user_tps_80_percent", 0), kinds=TOKENS, priority=None),
    Metric("predicted_high_tps", "predicted, high", "tokens/s", "predicted_tps x the same factor",
           None, of_row=lambda row: _predicted_input(row, "user_tps_80_percent", 1), kinds=TOKENS, priority=None),
    Metric("predicted_ttft_s", "predicted TTFT", "s",
           "users x prompt tokens / predicted_prefill_tps + one step: all users' prompts come at once",
           None, of_row=lambda row: _predicted_input(row, "ttft_s"), kinds=TOKENS, priority=10),
    Metric("predicted_prefill_tps", "predicted prefill", "tokens/s",
           "roofline of one prompt: operations / (arithmetic rate x efficiency) + reading the weights + layers",
           None, of_row=lambda row: _predicted_input(row, "prefill_tps"), kinds=TOKENS, priority=None),
    Metric("published_tps", "published", "tokens/s", "published rule: bandwidth / file size x 0.65, for one user",
           None, of_row=lambda row: row.published.user_tps if row.published else None, kinds=TOKENS, priority=None),
    Metric("measured_over_predicted", "measured/predicted", "ratio", "user_tps / predicted_tps",
           None, of_row=_over_predicted, kinds=TOKENS, priority=None),
    Metric("mbu", "MBU", "ratio", "bytes that a step must read x steps per second (of a decode step: user_tps) / read bandwidth",
           None, of_row=_mbu, priority=3),
    Metric("mfu", "MFU", "ratio", "operations of a step x steps per second / arithmetic rate",
           None, of_row=_mfu, priority=9),
    Metric("prefill_ceiling_tps", "prefill ceiling", "tokens/s",
           "the slower of arithmetic rate / (2 x active weights) and read bandwidth x prompt tokens / bytes of the weights",
           None, of_row=_prefill_ceiling, kinds=TOKENS, priority=None),
    Metric("prefill_mfu", "prefill MFU", "ratio", "2 x active weights x prefill_tps / arithmetic rate, for one user alone",
           None, of_row=lambda row: _prefill_part(row, "prefill_flops_per_token", "flops_per_s"),
           kinds=TOKENS, priority=None),
    Metric("prefill_mbu", "prefill MBU", "ratio", "bytes of the weights x prefill_tps / prompt tokens / read bandwidth",
           None, of_row=lambda row: _prefill_part(row, "prefill_bytes_per_token", "bandwidth_bytes_per_s"),
           kinds=TOKENS, priority=None),
    Metric("loss_first", "first loss", "nats", "median over the requests of the loss of the first step",
           None, lambda one: _loss(one, 0), kinds=TRAIN, priority=10),
    Metric("loss_last", "last loss", "nats", "median over the requests of the loss of the last step, on the same batch",
           None, lambda one: _loss(one, -1), kinds=TRAIN, priority=10),
)
# fmt: on


@cache
def registry() -> tuple[Metric, ...]:
    """METRICS and those of third parties. UnavailableError if one of theirs cannot be used."""
    by_name = {metric.name: metric for metric in METRICS}
    for entry in entry_points(group=GROUP):
        metric = _loaded(entry)
        if by_name.setdefault(metric.name, metric) is not metric:
            raise UnavailableError(f"the metric {metric.name} of {entry.value} is there already: give it another name")
    return tuple(by_name.values())


@cache
def metric(name: str) -> Metric:
    """The metric of that name. KeyError if there is none."""
    return {each.name: each for each in registry()}[name]


@cache
def comparable() -> tuple[str, ...]:
    """Names of the metrics that `compare` and `regress` can compare: those that have a number per repetition and a better side."""
    return tuple(each.name for each in registry() if each.of_case is not None and each.better is not None)


@cache
def compared() -> tuple[str, ...]:
    """Those of `comparable` that are shown unless others are asked for."""
    return tuple(each.name for each in registry() if each.name in comparable() and each.compared)


def headlines(kind: str) -> list[Metric]:
    """The metrics that tell most of a workload of this kind."""
    return [each for each in registry() if each.of(kind) and each.priority in (0, 1, 2)]


def case_values(one: Repetition, metrics: Sequence[Metric] = METRICS) -> tuple[dict[str, float], dict[str, str]]:
    """(the numbers of one repetition by metric, the reasons of those that are unknown)."""
    kind = one.result.case.workload.kind
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for each in metrics:
        if each.of_case is None:
            continue
        if not each.of(kind):
            continue
        value = each.of_case(one)
        if isinstance(value, Unknown):
            reasons[each.name] = value.reason
        elif value is not None:
            values[each.name] = value
    return values, reasons


def _loaded(entry: EntryPoint) -> Metric:
    try:
        metric = entry.load()
    except Exception as error:  # a stranger's module may raise anything
        raise UnavailableError(f"the metric {entry.value} cannot be loaded: {type(error).__name__}: {error}") from error
    if (
        not isinstance(metric, Metric)
        or not metric.name.isidentifier()
        or (metric.of_case is None) == (metric.of_row is None)
    ):
        raise UnavailableError(
            f"{entry.value} is not a metric: give a rigbench.analysis.definitions.Metric whose name is a word of letters, digits "
            "and _, with either of_case or of_row"
        )
    if metric.of_case is not None:
        return replace(metric, of_case=_guarded(metric.of_case))
    return replace(metric, of_row=metric.of_row and _guarded(metric.of_row))


def _guarded(compute: Callable[[Any], float | Unknown | None]) -> Callable[[Any], float | Unknown | None]:
    """A stranger's function, so that what it raises, or a number that is not finite, is a reason and stops nothing."""

    def guarded(what: Any) -> float | Unknown | None:
        try:
            value = compute(what)
            if value is None or isinstance(value, Unknown):
                return value
            return float(value) if math.isfinite(value) else Unknown(f"it is {value}")
        except Exception as error:
            return Unknown(f"{type(error).__name__}: {error}")

    return guarded
