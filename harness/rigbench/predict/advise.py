"""Which machine of the catalogue: what fits, how fast each would be, and in one sentence what decides it.

speed-bound        everything fits; the bandwidth decides how fast one user's text streams
capacity-bound     memory decides: the largest model fits barely, only in part, or not at all
overhead-bound     everything fits; a step takes longer for its kernels and unpacking than for reading: more bandwidth helps little
concurrency-bound  one user would be quick, but the users together share the bandwidth and the arithmetic

rigbench advise --model llama-3.3-70b --model qwen3-30b-a3b --users 4 --memory 128
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rigbench import units
from rigbench.errors import InputError
from rigbench.predict.cost import Cost, cost
from rigbench.predict.fit import Fit, fit, with_fit
from rigbench.predict.hardware import GIB, Hardware, hardware
from rigbench.predict.predictors import roofline
from rigbench.predict.roofline import Constants
from rigbench.records import ModelFacts, Prediction

SHARED_TOO_MUCH = 0.5
"""Less than this of a single user's speed left to each makes a machine concurrency-bound."""


@dataclass(frozen=True, slots=True)
class Money:
    """What the buyer says of money, in one currency: prices by the hardware's id, what a kWh costs, hours of use a day, what an API
    costs a month for the same work, and over how many years the price is spread."""

    prices: Mapping[str, float] = field(default_factory=dict)
    most: float | None = None
    price_per_kwh: float = 0.0
    hours_per_day: float = 8.0
    api_per_month: float | None = None
    years: float = 3.0

    def of(self, device: Hardware, output_tps: float | None) -> Cost | None:
        """What a machine at this speed costs; None where its watts are not known or it does not do the work. No idle power: that of
        the rest of a computer is not catalogued."""
        if device.power_w is None or not output_tps:
            return None
        return cost(
            active_w=device.power_w,
            idle_w=0.0,
            hours_per_day=self.hours_per_day,
            price_per_kwh=self.price_per_kwh,
            tokens_per_s=output_tps,
            hardware_price=self.prices.get(device.id),
            years_of_use=self.years,
            api_per_month=self.api_per_month,
        )


@dataclass(frozen=True, slots=True)
class Option:
    """One model on one machine."""

    model: str
    fit: Fit
    prediction: Prediction
    alone_tps: float | None


@dataclass(frozen=True, slots=True)
class Advice:
    """One machine. `user_tps` and `output_tps` are those of its slowest model; None where some model does not fit."""

    hardware: Hardware
    bound: str
    user_tps: float | None
    output_tps: float | None
    sentence: str
    options: tuple[Option, ...]
    cost: Cost | None = None
    change: str = ""
    """What would change the answer."""

    @property
    def slowest(self) -> Option:
        """The model that decides `user_tps`."""
        return min(self.options, key=lambda option: option.prediction.user_tps or 0)


def advise(
    models: Sequence[ModelFacts],
    *,
    users: int = 1,
    context_tokens: int = 4096,
    most_memory_bytes: int | None = None,
    vendor: str | None = None,
    least_user_tps: float | None = None,
    offload: bool = False,
    machines: Sequence[Hardware] | None = None,
    known: Constants | None = None,
    most_watts: float | None = None,
    whole: bool = False,
    owned: str | None = None,
    money: Money | None = None,
) -> list[Advice]:
    """Machines that can be bought, best first: those that hold every model, by the speed of the slowest; then the rest.
    `most_memory_bytes` is the budget of memory; `offload` counts what would run partly from the host's memory as held; `whole`
    leaves out what fits tightly. `most_watts` bounds the device's power; with `money.most` only machines whose price is given and
    within it count; `owned` is compared too, at no price.
    Raises InputError where no model is named or no machine is within the budget."""
    if not models:
        raise InputError("name at least one model: rigbench advise --model qwen3-30b-a3b")
    vendor = vendor and vendor.lower()

    def options(device: Hardware) -> list[Option]:
        return [_option(facts, device, users, context_tokens, known) for facts in models]

    advices = []
    for device in hardware() if machines is None else machines:
        of_vendor = device.vendor != "cpu" and vendor in (None, device.vendor)
        sizes = [size for size in device.memory_options_bytes if most_memory_bytes is None or size <= most_memory_bytes]
        cool = most_watts is None or (device.power_w is not None and device.power_w <= most_watts)
        if device.id != owned and not (
            device.status == "shipping" and of_vendor and cool and _affordable(device, money)
        ):
            continue
        if sizes:
            advice = _advice(device, sizes, options, users, offload)
            if whole and any(option.fit.answer != "fits" for option in advice.options):
                advice = replace(advice, user_tps=None, output_tps=None)
            advices.append(_with_money(advice, money, owned, users))
    if not advices:
        raise InputError("no machine of the catalogue is within this budget; raise --memory, or leave out --vendor")
    if least_user_tps is not None:
        advices = [one for one in advices if one.user_tps is not None and one.user_tps >= least_user_tps]
    return sorted(advices, key=lambda one: (one.user_tps is None, -(one.user_tps or 0), one.hardware.power_w or 1e9))


def _affordable(device: Hardware, money: Money | None) -> bool:
    return money is None or money.most is None or money.prices.get(device.id, math.inf) <= money.most


def _with_money(advice: Advice, money: Money | None, owned: str | None, users: int) -> Advice:
    """With its cost, and what would change the answer: the memory that is left, or what bounds its speed."""
    device, slowest = advice.hardware, advice.slowest
    left = slowest.fit.usable_bytes - slowest.fit.needed_bytes
    if advice.user_tps is None:
        change = (
            f"{units.bytes_text(max(0, -left))} more memory, or a smaller quantisation" if left < 0 else "less context"
        )
    else:
        each = slowest.fit.kv_bytes / users
        more = int(left // each) if each else 0
        what = {"speed-bound": "more bandwidth", "overhead-bound": "fewer layers or newer software"}.get(advice.bound)
        change = f"{more} more users of that context would still fit; faster: {what or 'fewer users'}"
    if device.id == owned:
        free = replace(money or Money(), prices={owned: 0.0})
        return replace(advice, cost=free.of(device, advice.output_tps), change=change)
    return replace(advice, cost=money.of(device, advice.output_tps) if money else None, change=change)


def _advice(
    device: Hardware, sizes: Sequence[int], options: Callable[[Hardware], list[Option]], users: int, offload: bool
) -> Advice:
    """The smallest size of this machine that holds every model, or its largest where none does."""
    for size in sorted(sizes):
        device = replace(device, memory_bytes=size)
        candidates = options(device)
        if all(option.fit.answer in ("fits", "tight") for option in candidates):
            break
    answers = ("fits", "tight", "offload") if offload else ("fits", "tight")
    out = [option for option in candidates if option.fit.answer not in answers]
    slowest = min(candidates, key=lambda option: option.prediction.user_tps or 0)
    bound, sentence = _why(device, candidates, out, slowest, users)
    speed = slowest.prediction
    user_tps, output_tps = (None, None) if out else (speed.user_tps, speed.output_tps)
    return Advice(device, bound, user_tps, output_tps, sentence, tuple(candidates))


def _option(facts: ModelFacts, device: Hardware, users: int, context_tokens: int, known: Constants | None) -> Option:
    answer = fit(facts, device, users=users, context_tokens=context_tokens)
    bandwidth, context = device.bandwidth_bytes_per_s, context_tokens / 2
    many, alone = (
        roofline(facts, bandwidth, device=device, users=count, context_tokens=context, known=known)
        for count in (users, 1)
    )
    return Option(facts.name, answer, with_fit(many, answer), alone.user_tps)


def _why(
    device: Hardware, candidates: Sequence[Option], out: Sequence[Option], slowest: Option, users: int
) -> tuple[str, str]:
    if out:
        worst = max(out, key=lambda option: option.fit.needed_bytes - option.fit.usable_bytes)
        return "capacity-bound", f"{worst.model} {_verb(worst.fit)}: {worst.fit.reason}."
    tightest = min(candidates, key=lambda option: option.fit.usable_bytes - option.fit.needed_bytes)
    if tightest.fit.answer in ("tight", "offload"):
        return "capacity-bound", f"{tightest.model} {_verb(tightest.fit)} ({tightest.fit.reason})."
    model, speed, alone = slowest.model, slowest.prediction.user_tps, slowest.alone_tps
    rate = units.rate_text(speed)
    if users > 1 and speed and alone and speed < SHARED_TOO_MUCH * alone:
        first, together = units.rate_text(alone), units.rate_text(slowest.prediction.output_tps)
        sentence = f"one user of {model} would have {first} t/s, {users} have {rate} each and {together} together."
        return "concurrency-bound", sentence
    if not speed or not slowest.prediction.bytes_per_step:
        return "speed-bound", f"every model fits; {model} makes {rate} t/s for a user."
    read_s = slowest.prediction.bytes_per_step / device.bandwidth_bytes_per_s
    rest_s = max(0.0, 1 / speed - read_s)
    step, read, rest = (units.seconds_text(seconds) for seconds in (1 / speed, read_s, rest_s))
    size, bandwidth = (
        units.bytes_text(slowest.prediction.bytes_per_step),
        units.bandwidth_text(device.bandwidth_bytes_per_s),
    )
    sentence = f"{model} reads {size} a step, {read} at {bandwidth}; with {rest} for kernels and unpacking a step takes {step}."
    return "speed-bound" if read_s > rest_s else "overhead-bound", sentence


def _verb(answer: Fit) -> str:
    verbs = {"tight": "fits tightly", "offload": "fits only with layers in the host's memory"}
    return verbs.get(answer.answer, "does not fit")


def memory_text(device: Hardware) -> str:
    """'64 GB': sizes of memory are sold in powers of two and called GB."""
    return f"{device.memory_bytes / GIB:.0f} GB"
