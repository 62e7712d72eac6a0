"""Numbers of image requests: from the request to its pixels, its parts, and what an image costs.

submitted     first step                              last step      pixels
   |-- encode --|----- denoise: (steps - 1) / it/s ------|-- decode --|
"""

from __future__ import annotations

from rigbench.analysis import energy, stats
from rigbench.analysis.requests import Repetition, Unknown
from rigbench.analysis.windows import Window
from rigbench.records import RequestRecord
from rigbench.workloads import Image

NO_IMAGE = "no request came to its pixels"


def seconds_per_image(one: Repetition) -> float | Unknown:
    """From the request to its pixels, for each image of the batch: the median over the requests."""
    median = stats.median([(end_us(record) - record.submit_us) / 1e6 / _batch(one) for record in _whole(one)])
    return Unknown(NO_IMAGE) if median is None else median


def images_rate(one: Repetition) -> float | Unknown:
    """Images of all requests per second, from the first request to the last pixels."""
    window = _window(one)
    return Unknown(NO_IMAGE) if window is None else window.tokens / window.length_s


def joules_per_image(one: Repetition) -> float | Unknown:
    """Energy from the first request to the last pixels, for each image."""
    window = _window(one)
    power = energy.power_of(one.result, window, one.place, one.idle)
    joules = power.joules_per_token  # a unit of this window is an image
    return Unknown(power.reason or (NO_IMAGE if window is None else "not read")) if joules is None else joules


def part_s(one: Repetition, name: str) -> float | Unknown:
    """The median over the requests of the time of their part of that name: `encode`, `denoise`, `decode`."""
    lengths = [(mark.end_us - mark.start_us) / 1e6 for r in _whole(one) for mark in r.marks if mark.name == name]
    median = stats.median(lengths)
    return Unknown("the engine does not tell its parts") if median is None else median


def end_us(record: RequestRecord) -> int:
    """When its pixels were there."""
    return record.end_us if record.end_us is not None else record.unit_us[-1]


def _whole(one: Repetition) -> list[RequestRecord]:
    return [record for record in one.result.requests if record.unit_us and record.error is None]


def _batch(one: Repetition) -> int:
    work = one.result.case.workload
    assert isinstance(work, Image)
    return work.batch


def _window(one: Repetition) -> Window | None:
    """From the first request to the last pixels, with the images in it."""
    records = _whole(one)
    return Window(0, max(map(end_us, records)), len(records) * _batch(one)) if records else None
