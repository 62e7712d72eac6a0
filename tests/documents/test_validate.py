"""Documents that hold, and what strangers may send: each fault at its JSON path, quickly, in little memory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rigbench.documents import bounds, store
from rigbench.documents.validate import OTHER_CONSTANTS, Report, validate, validate_bytes
from rigbench.records import SCHEMA_VERSION
from rigbench.workloads import Generation

V1 = Path(__file__).parent / "v1.json"
"""Made by the real program, llama.cpp on a CPU: one workload in two repetitions, and one that does not fit."""
Content = dict[str, Any]


@pytest.fixture
def content() -> Content:
    """The same in the present version, its summary as this version derives it."""
    v1: Content = store.migrated(json.loads(V1.read_text()))
    rederive(v1)
    return v1


def check(content: Content, *, new_id: bool = True) -> Report:
    """Validate what a forger would send: with the right id."""
    if new_id:
        content["id"] = store.content_id(content)
    return validate_bytes(json.dumps(content).encode(), "x.json")


def paths(report: Report) -> list[str]:
    return [fault.path for fault in report.faults]


def test_a_document_of_schema_version_1_still_loads_and_holds() -> None:
    document = store.read(V1)
    assert document.schema_version == SCHEMA_VERSION
    assert document.cases[1].case.workload == Generation("short", "tokens", 32, 48)
    assert document.cases[1].requests[0].unit_us == tuple(
        json.loads(V1.read_text())["cases"][1]["requests"][0]["token_us"]
    )
    assert [result.error is None for result in document.cases].count(True) == 2
    report = validate(V1)
    assert report.faults == ()
    assert report.level == "complete"
    assert report.notes == ("custom suite 'v1'", OTHER_CONSTANTS)  # it was made long before today's were fitted


def test_an_id_that_is_not_of_the_content_is_the_only_fault_of_a_changed_annotation(content: Content) -> None:
    content["annotations"]["room_c"] = 21.5
    assert paths(check(content, new_id=False)) == ["$.id"]
    assert check(content).valid


def stamps(content: Content, case: int = 0) -> list[int]:
    times: list[int] = content["cases"][measured(content)[case]]["requests"][0]["unit_us"]
    return times


def measured(content: Content) -> list[int]:
    return [place for place, result in enumerate(content["cases"]) if result["requests"]]


def skipped(content: Content) -> int:
    return next(place for place, result in enumerate(content["cases"]) if result["error"])


def edit_summary(content: Content) -> None:
    content["summary"][first_row(content)]["user_tps"] *= 1.02


def first_row(content: Content) -> int:
    return next(place for place, row in enumerate(content["summary"]) if row["user_tps"])


def edit_interval(content: Content) -> None:
    content["summary"][first_row(content)]["intervals"]["user_tps"]["low"] *= 0.99


def drop_failure(content: Content) -> None:
    del content["cases"][skipped(content)]
    for order, result in enumerate(content["cases"]):
        result["order"] = order
    content["summary"] = [row for row in content["summary"] if row["user_tps"]]


def hide_failure(content: Content) -> None:
    content["cases"][skipped(content)]["error"] = None


def drop_repetition(content: Content) -> None:
    del content["cases"][measured(content)[1]]


def reverse_time(content: Content) -> None:
    stamps(content).reverse()


def swap_cases(content: Content) -> None:
    first, second = (content["cases"][place] for place in measured(content))
    first["started_s"], second["started_s"] = second["started_s"], first["started_s"]


def outlast_the_run(content: Content) -> None:
    content["duration_s"] = 0.5


def speed_up(content: Content) -> None:
    """Ten times as fast, with everything derived made again: only physics can tell."""
    for place in measured(content):
        for record in content["cases"][place]["requests"]:
            first = record["unit_us"][0]
            record["unit_us"] = [first + (stamp - first) // 40 for stamp in record["unit_us"]]
    rederive(content)


def rederive(content: Content) -> None:
    from rigbench.analysis.table import summary

    content["summary"] = json.loads(json.dumps(summary(store.parse(content, "x"))))


def widen_bandwidth(content: Content) -> None:
    content["bandwidth"][0]["read_bytes_per_s"] *= 1000
    for prediction in content["predictions"]:
        prediction["bandwidth_bytes_per_s"] *= 1000
        prediction["ceiling_user_tps"] *= 1000
    speed_up(content)


def widen_known_device(content: Content) -> None:
    """A named GPU has a datasheet, whatever the document says of its bandwidth."""
    content["engines"][0] |= {"device": "cuda", "device_names": ["NVIDIA GeForce RTX 4090"]}
    content["bandwidth"][0] |= {"device": "cuda", "read_bytes_per_s": 2e12}


def shrink_model(content: Content) -> None:
    content["models"][0]["dense_bytes"] //= 10
    for prediction in content["predictions"]:
        prediction["bytes_per_step"] //= 10
        prediction["ceiling_user_tps"] *= 10


def drop_bandwidth(content: Content) -> None:
    content["bandwidth"] = []


def raise_ceiling(content: Content) -> None:
    content["predictions"][0]["ceiling_user_tps"] *= 2


def lose_tokens(content: Content) -> None:
    del stamps(content)[-5:]


def lose_request(content: Content) -> None:
    content["cases"][measured(content)[0]]["requests"] = content["cases"][measured(content)[0]]["requests"][:-1]


def other_suite_content(content: Content) -> None:
    content["suite"]["name"] = content["suite"]["content"]["name"] = "smoke"
    from rigbench.suites.suite import parse_suite, suite_record

    content["suite"]["sha256"] = suite_record(parse_suite(content["suite"]["content"], "x")).sha256


def other_suite_name(content: Content) -> None:
    content["suite"]["name"] = "smoke"


def no_suite(content: Content) -> None:
    content["suite"]["content"]["workload"] = []


def shorter_prompts(content: Content) -> None:
    for result in content["cases"]:
        result["case"]["workload"]["prompt_tokens"] = 8


def path_as_name(content: Content) -> None:
    content["machine"]["id"] = "../../etc/cron.d"


def script_as_name(content: Content) -> None:
    content["machine"]["cpu"] = "<script>alert(1)</script>"


def image_as_name(content: Content) -> None:
    content["models"][0]["name"] = "<x onload=alert(1)>"


def escape_codes(content: Content) -> None:
    content["engines"][0]["version"] = "1.0\x1b[2J"


def another_line(content: Content) -> None:
    content["machine"]["cpu"] = "AMD EPYC\nresult: valid"


def nobody_sees_it(content: Content) -> None:
    content["machine"]["os"] = "Debian\u200b"


def long_text(content: Content) -> None:
    content["machine"]["os"] = "x" * 20_000


def home_folder(content: Content) -> None:
    content["engines"][0]["detail"]["file"] = "/home/someone/models/x.gguf"


def unknown_key(content: Content) -> None:
    content["cases"][0]["case"]["priority"] = 1


def float_for_int(content: Content) -> None:
    stamps(content)[3] = float(stamps(content)[3])  # type: ignore[call-overload]


def text_for_number(content: Content) -> None:
    content["duration_s"] = "12.5"


def a_million_nulls(content: Content) -> None:
    stamps(content)[:] = [None] * 1_000_000  # type: ignore[list-item]


def missing_key(content: Content) -> None:
    del content["cases"][0]["case"]["seed"]


def huge(content: Content) -> None:
    content["duration_s"] = 1e308


def huge_int(content: Content) -> None:
    stamps(content)[-1] = 10**30


def newer_version(content: Content) -> None:
    content["schema_version"] = 99


def no_such_engine(content: Content) -> None:
    content["cases"][measured(content)[0]]["engine"] = 7


def endless_request(content: Content) -> None:
    stamps(content).extend([stamps(content)[-1]] * 100_000)


def hide_flag(content: Content) -> None:
    """The readings show that it swapped."""
    result = content["cases"][measured(content)[0]]
    end = result["requests"][0]["unit_us"][-1]
    series = {"name": "swap_used", "unit": "B", "source": "host", "api": "x", "scope": "host", "method": "sampled"}
    series |= {"status": "ok", "reason": None, "device": None, "time_us": [0, end], "values": [0, 10**9]}
    result["readings"] = [series]


HOSTILE: list[tuple[Callable[[Content], None], str]] = [
    (edit_summary, "$.summary[1].user_tps"),
    (edit_interval, "$.summary[1].intervals.user_tps.low"),
    (drop_failure, "$.cases"),
    (hide_failure, "$.cases[0]"),
    (drop_repetition, "$.cases"),
    (reverse_time, "$.cases[1].requests[0].unit_us[1]"),
    (swap_cases, "$.cases[2].started_s"),
    (outlast_the_run, "$.cases[2].requests"),
    (speed_up, "$.cases[1].requests[0].unit_us"),
    (widen_bandwidth, "$.bandwidth[0].read_bytes_per_s"),
    (widen_known_device, "$.bandwidth[0].read_bytes_per_s"),
    (shrink_model, "$.models[0].dense_bytes"),
    (drop_bandwidth, "$.bandwidth"),
    (raise_ceiling, "$.predictions[0].ceiling_user_tps"),
    (lose_tokens, "$.cases[1].requests[0].unit_us"),
    (lose_request, "$.cases[1].requests"),
    (other_suite_content, "$.suite.content.load.repetitions"),
    (other_suite_name, "$.suite.name"),
    (no_suite, "$.suite.content.workload"),
    (shorter_prompts, "$.cases[0].case.workload.prompt_tokens"),
    (path_as_name, "$.machine.id"),
    (script_as_name, "$.machine.cpu"),
    (image_as_name, "$.models[0].name"),
    (escape_codes, "$.engines[0].version"),
    (another_line, "$.machine.cpu"),
    (nobody_sees_it, "$.machine.os"),
    (long_text, "$.machine.os"),
    (home_folder, "$.engines[0].detail.file"),
    (unknown_key, "$.cases[0].case.priority"),
    (float_for_int, "$.cases[1].requests[0].unit_us[3]"),
    (text_for_number, "$.duration_s"),
    (a_million_nulls, "$.cases[1].requests[0].unit_us[0]"),
    (missing_key, "$.cases[0].case.seed"),
    (huge, "$.duration_s"),
    (huge_int, "$.cases[1].requests[0].unit_us[47]"),
    (newer_version, "$.schema_version"),
    (no_such_engine, "$.cases[1].engine"),
    (endless_request, "$.cases[1].requests[0].unit_us"),
    (hide_flag, "$.cases[1].flags"),
]


@pytest.mark.parametrize(("forge", "path"), HOSTILE, ids=[forge.__name__ for forge, _ in HOSTILE])
def test_what_was_changed_is_found_at_its_place(forge: Callable[[Content], None], path: str, content: Content) -> None:
    forge(content)
    report = check(content)
    assert any(times == path or times.startswith(f"{path}.") for times in paths(report)), [
        str(f) for f in report.faults
    ]
    assert "$.id" not in paths(report)


MIB = 2**20
RAW: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "not json": (lambda _: b"{", "$", "not JSON"),
    "empty": (lambda _: b"", "$", "not JSON"),
    "not utf-8": (
        lambda good: good.replace(b'"Debian', b'"\xff\xfeDebian', 1).replace(b'"os"', b'"o\xffs"', 1),
        "$",
        "UTF-8",
    ),
    "a list": (lambda good: b"[" + good + b"]", "$.schema_version", "no result document"),
    "NaN": (lambda good: replaced(good, b'"duration_s": ', b"NaN"), "$.duration_s", "NaN"),
    "Infinity": (lambda good: replaced(good, b'"duration_s": ', b"-Infinity"), "$.duration_s", "Infinity"),
    "1e999": (lambda good: replaced(good, b'"duration_s": ', b"1e999"), "$.duration_s", "1e999"),
    "a key twice": (lambda good: good.replace(b'"machine": {', b'"machine": {"id": "x", ', 1), "$.machine.id", "twice"),
    "5000 digits": (lambda good: replaced(good, b'"duration_s": ', b"9" * 5000), "$", "not JSON"),
    "depth of 10,000": (
        lambda good: replaced(good, b'"annotations": ', b"[" * 10_000 + b"]" * 10_000),
        "$.annotations",
        "nested deeper",
    ),
    "millions of lists": (lambda _: b"[" + b"[]," * (5 * MIB) + b"[]]", "$", "more than"),
    "a million objects": (lambda _: b"[" + b'{"a":0},' * 1_000_000 + b"0]", "$", "more than"),
    "millions of strings": (lambda _: b"[" + b'"ab":' * 2_400_000 + b"0]", "$", "more than"),
    "millions of numbers": (lambda _: b"[" + b"1.25," * (3 * MIB) + b"0]", "$", "more than"),
    "one string of 16 MiB": (lambda _: b'"' + b"\\\\" * (8 * MIB - 2) + b'"', "$", "longer than"),
    "17 MiB": (lambda good: good + b" " * (17 * MIB), "$", "at most"),
    "a lone surrogate": (lambda good: good.replace(b'"cpu": "', b'"cpu": "\\ud800', 1), "$.machine.cpu", "control"),
}


def replaced(good: bytes, key: bytes, value: bytes) -> bytes:
    """The value after the first `key` replaced, whatever plain value or empty object it was."""
    before, after = good.split(key, 1)
    return before + key + value + after[min(place for place in map(after.find, (b",", b"\n")) if place >= 0) :]


@pytest.mark.parametrize("name", RAW)
def test_bytes_that_are_no_document_are_refused(name: str, tmp_path: Path) -> None:
    make, path, message = RAW[name]
    file = tmp_path / "x.json"
    file.write_bytes(make(V1.read_bytes()))
    report = validate(file)
    assert (report.faults[0].path, message in report.faults[0].message) == (path, True), report.faults[0]


def test_100_mb_are_not_even_read(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    with file.open("wb") as handle:
        handle.truncate(100_000_000)
    assert [str(fault) for fault in validate(file).faults] == ["$: 100000000 bytes; at most 16777216 are read"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    assert validate(tmp_path / "x.json").faults == (bounds.Fault("$", "is no plain file"),)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak through /proc")
def test_the_worst_within_the_bounds_takes_little_memory(tmp_path: Path) -> None:
    """As many values as the bounds let through, in a child whose peak the kernel tells."""
    file = tmp_path / "x.json"
    numbers = ",".join(str(10**5 + at) for at in range(1_000_000))
    objects = '{"a":0},' * (bounds.MAX_CONTAINERS - 10)
    file.write_text(f"[{objects}[{numbers}]]")
    code = (
        "import re, sys, pathlib\n"
        "from rigbench.documents.validate import validate\n"
        "print(validate(pathlib.Path(sys.argv[1])).faults[0].path)\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    where, peak_mib = done.stdout.split()
    assert where == "$.schema_version"
    assert int(peak_mib) < 477  # 500 MB


def test_tokens_of_models_in_an_engines_log_are_no_markup(content: Content) -> None:
    log = ["print_info: EOS token = 2 '</s>'", "<|im_start|> <think>", "<private> at <address>", "a < b"]
    content["cases"][skipped(content)]["error"]["log"] = log
    assert check(content).valid


def test_reading_is_kinder_than_judging_and_takes_the_control_characters_out(content: Content, tmp_path: Path) -> None:
    """An engine may colour its last words; the document of that run must still be readable, and a terminal safe."""
    content["cases"][skipped(content)]["error"]["log"] = ["\x1b[31mfailed\x1b[0m"]
    assert paths(check(content)) == ["$.cases[0].error.log[0]"]
    (tmp_path / "x.json").write_text(json.dumps(content))
    error = store.read(tmp_path / "x.json").cases[0].error
    assert error is not None
    assert error.log == ("\ufffd[31mfailed\ufffd[0m",)


def test_an_imported_document_is_said_to_be_one(content: Content) -> None:
    content["annotations"]["imported"] = {"from": "llama-bench", "metrics": {}}
    assert paths(check(content)) == ["$.annotations.imported"]
    for result in content["cases"]:
        result["requests"] = []
    report = check(content)
    assert (report.valid, report.level) == (True, "unchecked")
    assert [str(doubt) for doubt in report.doubts] == [
        "$.annotations.imported: imported from llama-bench: figures of another tool, with no raw records to check"
    ]


def test_a_document_of_another_state_of_the_program_holds_but_not_with_other_measured_numbers(content: Content) -> None:
    """Figures that the other state did not know or knows more of, other words, other constants of the predictor."""
    for row in content["summary"]:
        del row["watts_peak"]
        row |= {"figure_of_tomorrow": 1.0, "reasons": {"watts_peak": "in other words"}}
        if row["predicted_tps"] is not None:
            row["predicted_tps"] *= 1.1
            row["measured_over_predicted"] /= 1.1
    for prediction in content["predictions"]:
        if prediction["user_tps"] is not None:
            prediction |= {"user_tps": prediction["user_tps"] * 1.1, "formula": "another"}
    report = check(content)
    assert (report.faults, report.level) == ((), "complete")
    assert OTHER_CONSTANTS in report.notes
    edit_summary(content)
    assert paths(check(content)) == ["$.summary[1].user_tps"]


@pytest.mark.parametrize(
    ("key", "many", "path"),
    [("device_names", 65, "$.engines[0].device_names"), ("bandwidth", 17, "$.bandwidth")],
)
def test_what_would_be_compared_with_everything_is_bounded(key: str, many: int, path: str, content: Content) -> None:
    """Device names times bandwidths, predictions times bandwidths: a small document could keep a reader busy for hours."""
    place = content if key == "bandwidth" else content["engines"][0]
    place[key] = (place[key] or ["x"]) * many
    assert path in paths(check(content))
