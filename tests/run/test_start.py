"""What a run writes can be read again, however long it was."""

from dataclasses import replace
from pathlib import Path

import pytest

from device_documents import device_document
from rigbench.cli.main import main
from rigbench.documents import bounds, store
from rigbench.documents.validate import validate_bytes
from rigbench.records import RunDocument
from rigbench.run.start import numbers_of, thinned


def with_long_readings(document: RunDocument, times: int) -> RunDocument:
    """Each series read so many times as often."""
    cases = []
    for result in document.cases:
        readings = []
        for series in result.readings:
            at = tuple(
                int(a + (b - a) * part / times)
                for a, b in zip(series.time_us, series.time_us[1:], strict=False)
                for part in range(times)
            )
            values = tuple(value for value in series.values[:-1] for _ in range(times))
            readings.append(replace(series, time_us=(*at, series.time_us[-1]), values=(*values, series.values[-1])))
        cases.append(replace(result, readings=tuple(readings)))
    return replace(document, cases=tuple(cases))


def test_readings_of_hours_are_thinned_until_the_document_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    content = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M", seed=1)
    short = store.parse(content, "x")
    long = with_long_readings(short, 40)
    monkeypatch.setattr(bounds, "MOST_NUMBERS", 2 * numbers_of(short))
    assert numbers_of(long) > bounds.MOST_NUMBERS
    record = thinned(long)
    assert numbers_of(record) <= bounds.MOST_NUMBERS
    assert record.cases[0].requests == short.cases[0].requests
    for before, after in zip(long.cases[0].readings, record.cases[0].readings, strict=True):
        assert (before.time_us[-1], before.values[-1]) == (after.time_us[-1], after.values[-1])
    assert thinned(short) is short


def test_the_numbers_that_are_written_at_most_can_be_read() -> None:
    """A million times and readings, each as long as those of a run of hours."""
    content = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M", seed=1)
    half = bounds.MOST_NUMBERS // 2
    series = content["cases"][0]["readings"][0]
    series["time_us"] = list(range(3_600_000_000, 3_600_000_000 + half))
    series["values"] = [round(300 + number / 7919, 3) for number in range(half)]
    data = store.dumps(content).encode()
    assert bounds.loads(data)[1] == [] and len(data) <= bounds.MAX_BYTES
    assert "$" not in [fault.path for fault in validate_bytes(data, "x").faults]


def test_a_run_whose_result_nobody_could_read_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["-b", "sim", "-m", "synthetic:llama-160m:Q4_0", "-p", "16", "-n", "4096", "-u", "64", "-r", "5"]
    for command in ("plan", "run"):
        assert main([command, *words]) == 2
        text = capsys.readouterr().err
        assert "and a result holds 1,000,000" in text
    assert not list(tmp_path.glob("results/*/*"))
