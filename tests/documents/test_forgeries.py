"""Forged documents: each made consistent again by the product's own code, so that only what cannot be true gives it away.

A forgery counts as caught where it is refused, or falls below the level of the honest document, with the JSON path of the reason.
UNKNOWABLE are those that one file cannot give away; README names them.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import itertools

from device_documents import device_document, rederived
from rigbench.documents import store
from rigbench.documents.validate import (
    LEVELS,
    OTHER_CONSTANTS,
    Report,
    read_rows,
    validate,
    validate_bytes,
)
from rigbench.suites.suite import parse_suite, suite_record

Content = dict[str, Any]
Forge = Callable[[Content], None]
V1 = Path(__file__).parent / "v1.json"
BASES: dict[str, Callable[[], Content]] = {
    "gpu": lambda: device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M", seed=1),
    "cpu": lambda: device_document("ddr5-5600-dual", "llama-1.5b", "Q8_0", seed=2),
    "moe": lambda: device_document("rtx-3090", "qwen3-30b-a3b", "Q4_K_M", seed=3),
    "real": lambda: rederived(store.migrated(json.loads(V1.read_text()))),
}
SOME = ("gpu", "cpu", "moe")
BOARDS = ("gpu", "moe")
ALL = (*SOME, "real")


@cache
def base(name: str) -> Content:
    return BASES[name]()


def checked(content: Content) -> Report:
    try:
        content = rederived(content)
    except Exception:  # what cannot even be summed up: the forger leaves the old figures
        content["id"] = store.content_id(content)
    return validate_bytes(json.dumps(content).encode(), "x.json")


FORGERIES: list[tuple[str, Forge, tuple[str, ...]]] = []
UNKNOWABLE: dict[str, str] = {}


def forgery(*bases: str, name: str = "", why: str = "") -> Callable[[Forge], Forge]:
    """Registers a forgery for these bases; `why` it cannot be known, where it cannot."""

    def register(forge: Forge) -> Forge:
        called = name or forge.__name__
        FORGERIES.append((called, forge, bases or SOME))
        if why:
            UNKNOWABLE[called] = why
        return forge

    return register


def several(values: dict[str, Any], *bases: str) -> Callable[[Callable[[Content, Any], None]], None]:
    """One forgery for each of the values."""

    def register(forge: Callable[[Content, Any], None]) -> None:
        for name, value in values.items():
            forgery(*bases, name=f"{forge.__name__}-{name}")(lambda content, value=value: forge(content, value))

    return register


def cases(content: Content) -> list[Content]:
    return [result for result in content["cases"] if result["requests"]]


def records(content: Content) -> list[Content]:
    return [record for result in cases(content) for record in result["requests"]]


# Times


@several({"0.7": 0.7, "0.4": 0.4, "0.1": 0.1}, *ALL)
def request_times_scaled(content: Content, factor: float) -> None:
    for record in records(content):
        record["submit_us"] = round(record["submit_us"] * factor)
        record["unit_us"] = [round(at * factor) for at in record["unit_us"]]


@several({"0.8": 0.8, "0.5": 0.5, "0.2": 0.2}, *SOME)
def everything_scaled(content: Content, factor: float) -> None:
    scaled(content, factor)


def scaled(content: Content, factor: float) -> None:
    """Requests, phases, readings and the run's own times alike."""
    content["duration_s"] *= factor
    for result in content["cases"]:
        result["started_s"] *= factor
        for record in (*result["requests"], *result["warmup"]):
            record["submit_us"] = round(record["submit_us"] * factor)
            record["unit_us"] = [round(at * factor) for at in record["unit_us"]]
        for mark in result["phases"]:
            mark["start_us"], mark["end_us"] = round(mark["start_us"] * factor), round(mark["end_us"] * factor)
        for series in result["readings"]:
            series["time_us"] = [round(at * factor) for at in series["time_us"]]


@several({"2x": 2, "5x": 5, "20x": 20}, *ALL)
def decode_faster(content: Content, factor: int) -> None:
    for record in records(content):
        first = record["unit_us"][0]
        record["unit_us"] = [first + (at - first) // factor for at in record["unit_us"]]


@several({"0": 0, "1ms": 1000, "tenth": None}, *SOME)
def first_token_at(content: Content, us: int | None) -> None:
    for record in records(content):
        wait = record["unit_us"][0] - record["submit_us"]
        record["unit_us"][0] = record["submit_us"] + (wait // 10 if us is None else us)


@forgery()
def prefill_of_nothing(content: Content) -> None:
    """Everything up to the first token is cut away, and the rest follows."""
    for result in cases(content):
        cut = min(record["unit_us"][0] for record in result["requests"]) - 50
        for record in result["requests"]:
            record["unit_us"] = [at - cut for at in record["unit_us"]]
            record["submit_us"] = max(0, record["submit_us"] - cut)


@forgery()
def burst_in_the_window(content: Content) -> None:
    """All tokens of all users but the last in a hundredth of the time."""
    for result in cases(content):
        for record in result["requests"]:
            first, last = record["unit_us"][0], record["unit_us"][-1]
            record["unit_us"] = [last - (last - at) // 100 if at > first else at for at in record["unit_us"]]


@forgery(*BOARDS)
def queueing_hidden(content: Content) -> None:
    """Each user is said to have sent only as it was served."""
    for result in cases(content):
        for record in result["requests"]:
            if record["user"]:
                record["submit_us"] = record["unit_us"][0] - 500


@forgery()
def pauses_hidden(content: Content) -> None:
    """The second request of each user is said to have been sent much later."""
    for result in cases(content):
        for record in result["requests"]:
            if record["index"]:
                record["submit_us"] = record["unit_us"][0] - (record["unit_us"][0] - record["submit_us"]) // 20


# Repetitions


def copied(content: Content, change: Callable[[int], int]) -> None:
    for result in cases(content):
        first = next(one for one in cases(content) if one["case"]["group"] == result["case"]["group"])
        if first is not result:
            result["requests"] = copy.deepcopy(first["requests"])
            for record in result["requests"]:
                moved = [change(at) for at in record["unit_us"]]
                record["unit_us"] = [max(moved[: place + 1]) for place in range(len(moved))]


@forgery(*ALL)
def repetitions_copied(content: Content) -> None:
    copied(content, lambda at: at)


@forgery(*ALL)
def repetitions_shifted(content: Content) -> None:
    copied(content, lambda at: at + 777)


@forgery(*SOME)
def repetitions_scaled(content: Content) -> None:
    copied(content, lambda at: round(at * 1.003))


@several({"5us": 5, "20us": 20}, *SOME)
def repetitions_with_jitter(content: Content, jitter: int) -> None:
    luck = random.Random(1)
    copied(content, lambda at: at + luck.randrange(-jitter, jitter + 1))


@forgery()
def case_copied_into_another_level(content: Content) -> None:
    one, other = cases(content)[:2]
    for record, source in zip(other["requests"], one["requests"], strict=False):
        record["unit_us"] = copy.deepcopy(source["unit_us"])


# What was slow


@several({"crash": "crash", "killed": "killed", "memory": "memory", "skipped": "skipped", "not_run": "not_run"}, *SOME)
def slow_repetition_turned_into(content: Content, kind: str) -> None:
    cases(content)[2] |= {
        "requests": [],
        "error": {"kind": kind, "message": "it was so", "log": [], "phase": None, "fix": None},
    }


@several({"skipped": "skipped", "time_limit": "time_limit"}, *SOME)
def level_turned_into(content: Content, kind: str) -> None:
    group = content["cases"][-1]["case"]["group"]
    error = {"kind": kind, "message": "4 users need about 99 GB", "log": [], "phase": None, "fix": None}
    for result in content["cases"]:
        if result["case"]["group"] == group:
            result |= {"requests": [], "error": error, "engine": None}


@forgery(*ALL)
def repetitions_dropped_as_if_ended_early(content: Content) -> None:
    content["cases"] = content["cases"][:-1]
    content["complete"] = False


@forgery(*ALL)
def repetition_dropped(content: Content) -> None:
    content["cases"].remove(cases(content)[-1])


@forgery()
def first_case_dropped(content: Content) -> None:
    del content["cases"][0]


@forgery()
def slow_requests_failed(content: Content) -> None:
    for result in cases(content):
        result["requests"][-1] |= {"error": "the server gave up"}


@forgery()
def repetitions_reordered(content: Content) -> None:
    content["cases"][0], content["cases"][2] = content["cases"][2], content["cases"][0]


@forgery()
def all_orders_0(content: Content) -> None:
    for result in content["cases"]:
        result["order"] = 0


# Warm-up, windows, prompts


@forgery(*ALL)
def warmup_removed(content: Content) -> None:
    for result in cases(content):
        result |= {"warmup": [], "warmup_rounds": 0, "warmup_steady": None}


@forgery()
def warmup_rounds_invented(content: Content) -> None:
    for result in cases(content):
        result["warmup"] = result["warmup"][: result["case"]["concurrency"]]


@forgery()
def warmup_called_steady(content: Content) -> None:
    for result in cases(content):
        result["warmup_steady"] = not result["warmup_steady"]


@forgery()
def measuring_marked_longer(content: Content) -> None:
    for result in cases(content):
        next(mark for mark in result["phases"] if mark["name"] == "measure")["end_us"] += 5_000_000


@several({"missing": None, "made up": "ab" * 32, "text": "x"}, *SOME)
def prompts_hash(content: Content, value: str | None) -> None:
    cases(content)[0]["prompts_sha256"] = value


@several({"1": 1, "10^9": 10**9}, *SOME)
def prompt_tokens(content: Content, count: int) -> None:
    for record in records(content):
        record["prompt_tokens"] = count


@forgery()
def shorter_output(content: Content) -> None:
    for record in records(content):
        del record["unit_us"][-8:]


# The device


def engine(content: Content) -> Content:
    part: Content = content["engines"][0]
    return part


@several({"rocm": "rocm", "gpu": "gpu", "remote": "remote", "word": "quantum"}, *SOME)
def device_kind(content: Content, kind: str) -> None:
    engine(content)["device"] = kind
    content["bandwidth"][0]["device"] = kind


@several({"slow": "NVIDIA GeForce GT 1030", "fast": "NVIDIA H100 80GB HBM3", "unknown": "ACME Turbo 9"}, *BOARDS)
def device_name(content: Content, name: str) -> None:
    engine(content)["device_names"] = [name]


@several({"8": 8, "64": 64}, *BOARDS)
def devices_claimed(content: Content, count: int) -> None:
    engine(content)["device_names"] *= count


@forgery(*SOME)
def machine_with_64_gpus(content: Content) -> None:
    content["machine"]["gpus"] = [{"name": "NVIDIA GeForce RTX 4090", "memory_bytes": 24 * 2**30}] * 64


@forgery(*ALL)
def machine_id_of_another(content: Content) -> None:
    content["machine"]["id"] = "m4-max-128gb"


@forgery(*BOARDS)
def no_device_names(content: Content) -> None:
    engine(content)["device_names"] = []


@several({"8x": 8, "1000x": 1000, "0": 0, "negative": -1}, *ALL)
def bandwidth_inflated(content: Content, factor: float) -> None:
    content["bandwidth"][0]["read_bytes_per_s"] *= factor


@forgery(*ALL)
def bandwidth_removed(content: Content) -> None:
    content["bandwidth"] = []


@forgery()
def bandwidth_twice(content: Content) -> None:
    content["bandwidth"].append({**content["bandwidth"][0], "read_bytes_per_s": 1e12})


@forgery()
def bandwidth_from_the_future(content: Content) -> None:
    content["bandwidth"][0]["detail"] = {"measured_utc": "2026-11-01T00:00:00Z"}


@forgery()
def cores_invented(content: Content) -> None:
    content["machine"]["logical_cores"] = 4000


@forgery()
def one_engine_is_two(content: Content) -> None:
    content["engines"].append({**engine(content), "version": "llama-cpp-python 0.3.37"})
    cases(content)[-1]["engine"] = 1


@forgery()
def backend_of_another(content: Content) -> None:
    for result in content["cases"]:
        result["case"]["backend"] = "vllm"


@forgery(name="simulator_in_its_place")
def simulator(content: Content) -> None:
    engine(content) | {}
    engine(content).update(device="sim", simulated_bandwidth_bytes_per_s=1e12)


# The model


def model(content: Content) -> Content:
    part: Content = content["models"][0]
    return part


@several(
    {
        "bytes": {"dense_bytes": 10**6},
        "file": {"file_bytes": 10**6},
        "parameters": {"parameters": 10**6, "active_parameters": 10**6},
        "kv": {"kv_bytes_per_token": -1},
        "no cache": {"kv_bytes_per_token": 0, "kv_window_bytes_per_token": 0},
        "layers": {"layers": 1},
        "experts": {"experts": 8, "experts_used": 0, "expert_bytes": 10**6},
        "hash missing": {"sha256": None},
        "hash text": {"sha256": "x" * 64},
        "quantisation": {"quantization": "F16"},
        "unknown quantisation": {"quantization": "Z9"},
        "name": {"name": "llama-3.3-70b-Q4_K_M"},
        "not synthetic": {"synthetic": False, "dense_bytes": 10**8, "file_bytes": 2 * 10**8},
    },
    *SOME,
)
def model_facts(content: Content, facts: Content) -> None:
    if "name" in facts:
        text = json.dumps(content).replace(model(content)["name"], facts["name"])
        content.clear()
        content.update(json.loads(text))
    model(content).update(facts)


@forgery(*ALL)
def model_removed(content: Content) -> None:
    content["models"] = []


@several({"0": 0, "negative": -4, "half": 0.5}, *SOME)
def cached_bits(content: Content, bits: float) -> None:
    engine(content)["kv_bits"] = bits


@forgery()
def engine_loaded_less(content: Content) -> None:
    engine(content)["weights_bytes"] //= 100


@forgery()
def engine_has_fewer_parameters(content: Content) -> None:
    engine(content)["parameters"] //= 10


# Derived figures


def written(folder: Path, change: Forge) -> Path:
    content = copy.deepcopy(base("gpu"))
    change(content)
    content["id"] = store.content_id(content)
    path = folder / "x.json"
    path.write_text(json.dumps(content))
    return path


def test_derived_figures_are_never_believed(tmp_path: Path) -> None:
    """Ceilings inflated or predictions left out: refused, with the path. Predictions halved, as another state of the program
    might have them: every view has those that are worked out again."""
    honest = read_rows(written(tmp_path, lambda content: None))[1]

    def edit(change: Forge) -> list[str]:
        return [fault.path for fault in validate(written(tmp_path, change)).faults]

    def halve(content: Content) -> None:
        content["predictions"][0]["user_tps"] /= 2

    def inflate(content: Content) -> None:
        content["predictions"][0]["ceiling_user_tps"] *= 64
        content["predictions"][0]["bandwidth_bytes_per_s"] *= 64

    def leave_out(content: Content) -> None:
        content["predictions"] = []

    halved = written(tmp_path, halve)
    assert OTHER_CONSTANTS in validate(halved).notes
    assert [row["predicted_tps"] for row in read_rows(halved)[1]] == [row["predicted_tps"] for row in honest]
    assert "$.predictions[0].ceiling_user_tps" in edit(inflate)
    assert "$.predictions" in edit(leave_out)


# Readings and flags


@forgery(*ALL)
def readings_removed(content: Content) -> None:
    for result in content["cases"]:
        result["readings"], result["flags"] = [], []


@forgery(*ALL)
def readings_and_their_sources_removed(content: Content) -> None:
    readings_removed(content)
    content["telemetry"] = {}


@forgery()
def one_series_removed(content: Content) -> None:
    for result in cases(content):
        del result["readings"][0]


@forgery()
def readings_interpolated(content: Content) -> None:
    for result in cases(content):
        for series in result["readings"]:
            times = series["time_us"]
            series["time_us"] = [t + (u - t) * k // 20 for t, u in itertools.pairwise(times) for k in range(20)]
            values = series["values"]
            series["values"] = [v + (w - v) * k / 20 for v, w in itertools.pairwise(values) for k in range(20)]


@forgery(*BOARDS)
def power_drawn_with_a_ruler(content: Content) -> None:
    for result in cases(content):
        for series in result["readings"]:
            if series["name"] == "power":
                count = len(series["values"])
                series["values"] = [100 + 200 * place / count for place in range(count)]


@forgery(*BOARDS)
def power_pasted_from_another_case(content: Content) -> None:
    one, other = cases(content)[1:4:2]
    power = next(series for series in one["readings"] if series["name"] == "power")
    for series in other["readings"]:
        if series["name"] == "power":
            series["values"], series["time_us"] = list(power["values"]), list(power["time_us"])


@several({"0 W": 0.0, "1 W": 0.003, "100 kW": 300.0, "negative": -1.0}, *BOARDS)
def watts(content: Content, factor: float) -> None:
    for result in cases(content):
        for series in result["readings"]:
            if series["name"] == "power":
                series["values"] = [value * factor for value in series["values"]]


@forgery(*BOARDS)
def board_called_wall(content: Content) -> None:
    for result in cases(content):
        for series in result["readings"]:
            if series["name"] == "power":
                series["scope"] = "wall"


@forgery(*BOARDS)
def idle_made_up(content: Content) -> None:
    """Nearly all of the power at work is said to be drawn at rest, so the net energy is small."""
    result = cases(content)[0]
    idle = next(mark for mark in result["phases"] if mark["name"] == "idle")
    for series in result["readings"]:
        if series["name"] == "power":
            series["values"] = [
                value * 14 if idle["start_us"] <= at <= idle["end_us"] else value
                for at, value in zip(series["time_us"], series["values"], strict=True)
            ]


@forgery()
def flag_removed(content: Content) -> None:
    for result in cases(content):
        for series in result["readings"]:
            if series["name"] == "swap_used":
                series["values"] = [0.0] * (len(series["values"]) // 2) + [1e9] * (
                    len(series["values"]) - len(series["values"]) // 2
                )


@forgery()
def counter_backwards(content: Content) -> None:
    for result in cases(content):
        result["readings"][0]["values"].reverse()


@forgery()
def more_core_seconds_than_cores(content: Content) -> None:
    for result in cases(content):
        result["readings"][0]["values"] = [value * 500 for value in result["readings"][0]["values"]]


@several({"tenth": 0.1, "none": None}, "cpu", "real")
def peak_memory(content: Content, factor: float | None) -> None:
    for result in cases(content):
        peak = result["host_memory"]["rss_peak_bytes"]
        result["host_memory"]["rss_peak_bytes"] = None if factor is None else round(peak * factor)


# Identity


@several(
    {
        "2099": {"created_utc": "2099-01-01T00:00:00Z"},
        "nonsense": {"created_utc": "0000-99-99T99:99:99Z"},
        "1999": {"created_utc": "1999-01-01T00:00:00Z"},
        "later release": {"rigbench_version": "9.9.9"},
        "no release": {"rigbench_version": "best"},
        "31 years": {"duration_s": 1e9},
        "negative time": {"duration_s": -0.5},
    },
    *ALL,
)
def identity(content: Content, facts: Content) -> None:
    content.update(facts)


@forgery(*ALL)
def imported_called_measured(content: Content) -> None:
    for result in content["cases"]:
        result["requests"] = []


@forgery(*ALL)
def suite_of_another_name(content: Content) -> None:
    content["suite"]["name"] = content["suite"]["content"]["name"] = "standard"
    content["suite"]["sha256"] = suite_record(parse_suite(content["suite"]["content"], "x")).sha256


@forgery()
def suite_under_another_version(content: Content) -> None:
    content["suite"]["content"]["version"] = content["suite"]["version"] = "7"
    suite_of_another_name(content)


# What one file cannot give away


@forgery("real", name="other_system_and_driver", why="system, kernel and driver stand in no figure")
def other_system(content: Content) -> None:
    content["machine"] |= {"os": "Arch Linux", "kernel": "7.0", "virtualized": "no", "drivers": {"nvidia": "600.1"}}


@forgery(name="slightly_faster", why="all times scaled by up to a tenth, readings and all, below every bound")
def slightly_faster(content: Content) -> None:
    scaled(content, 0.9)


@forgery("gpu", name="vulkan_for_cuda", why="by which interface a card was driven stands in no figure")
def vulkan_for_cuda(content: Content) -> None:
    engine(content)["device"] = content["bandwidth"][0]["device"] = "vulkan"


@forgery("gpu", name="engine_version", why="an engine's version stands in no figure")
def engine_version(content: Content) -> None:
    engine(content)["version"] = "llama-cpp-python 9.9"


@forgery("gpu", name="hash_of_another", why="a model's hash follows from nothing else in the document")
def hash_of_another(content: Content) -> None:
    model(content)["sha256"] = "ab" * 32


@forgery(
    "cpu", name="another_processor", why="a processor that is not in the catalogue has the bounds of its cores alone"
)
def another_processor(content: Content) -> None:
    from rigbench.telemetry.machine import machine_id

    machine = content["machine"]
    machine["cpu"] = "ACME 9000"
    machine["id"] = machine_id("ACME 9000", machine["physical_cores"], machine["memory_bytes"], ())
    engine(content)["device_names"] = ["ACME 9000"]


ONE_BY_ONE = [(name, forge, place) for name, forge, places in FORGERIES for place in places]


def caught(name: str, forge: Forge, place: str) -> str | None:
    """The path and sentence of what gives a forgery away; None where it keeps the level of the honest one."""
    honest = validate_bytes(json.dumps(base(place)).encode(), "x.json")
    content = copy.deepcopy(base(place))
    forge(content)
    report = checked(content)
    if report.faults:
        return str(report.faults[0])
    if LEVELS.index(report.level) < LEVELS.index(honest.level):
        return str(report.doubts[0])
    return None


@pytest.mark.parametrize("place", BASES)
def test_the_honest_documents_are_complete(place: str) -> None:
    report = validate_bytes(json.dumps(base(place)).encode(), "x.json")
    assert (report.level, report.faults, report.doubts) == ("complete", (), ())


@pytest.mark.parametrize(
    ("name", "forge", "place"), ONE_BY_ONE, ids=[f"{name}-{place}" for name, _, place in ONE_BY_ONE]
)
def test_a_forgery_loses_its_level(name: str, forge: Forge, place: str) -> None:
    part = caught(name, forge, place)
    if name in UNKNOWABLE:
        assert part is None, f"this can be known now: {part}"
    else:
        assert part is not None and part.startswith("$"), f"{name} of {place} keeps its level"


README = {
    "other_system_and_driver": "another system, driver or engine version",
    "engine_version": "another system, driver or engine version",
    "slightly_faster": "all times scaled alike within the bounds",
    "vulkan_for_cuda": "Vulkan named for CUDA",
    "hash_of_another": "the hash of another model",
    "another_processor": "a processor that the catalogue lacks",
}
"""How README names each forgery that cannot be known."""


def test_each_forgery_that_cannot_be_known_is_named_in_readme() -> None:
    text = " ".join((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split())
    assert set(UNKNOWABLE) == set(README) and len(UNKNOWABLE) == 6
    assert [name for name, words in README.items() if words not in text] == []


def test_nineteen_of_twenty_forgeries_are_caught() -> None:
    assert len(ONE_BY_ONE) >= 100
    assert sum(name in UNKNOWABLE for name, _, _ in ONE_BY_ONE) <= 0.05 * len(ONE_BY_ONE)


def test_a_repetition_that_met_another_program_at_its_second_token_keeps_its_level() -> None:
    """A hole after the first token is a forgery where every first token of a row has one."""

    def held_up(repetitions: int) -> Content:
        content = copy.deepcopy(base("cpu"))
        alone = [result for result in cases(content) if result["case"]["concurrency"] == 1]
        for result in alone[:repetitions]:
            for record in result["requests"]:
                first, second, third = record["unit_us"][:3]
                record["unit_us"][0] = first - 4 * (third - second)
        return content

    assert checked(held_up(1)).level == "complete"
    assert "between the first token and the second" in str(checked(held_up(10)).doubts[0])


def test_a_card_whose_counter_disagrees_with_its_power_is_honest() -> None:
    """Consumer cards are reported to lose energy in their counter: that is told of the energy, and no fault of the document."""
    content = copy.deepcopy(base("gpu"))
    for result in cases(content):
        power = next(series for series in result["readings"] if series["name"] == "power")
        joules = [
            37 / 65 * watts * (later - earlier) * 1e-6
            for watts, (earlier, later) in zip(power["values"], itertools.pairwise(power["time_us"]), strict=False)
        ]
        counter = {"name": "energy", "unit": "J", "method": "counter", "values": [0.0, *itertools.accumulate(joules)]}
        result["readings"].append(power | counter)
    for source in content["telemetry"]["sources"]:
        source["metrics"] += source["name"] == power["source"]
    report = checked(content)
    assert (report.faults, report.level) == ((), "complete")
