"""A figure is kept for the hardware that it was measured on, and for a month."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from rigbench import ceilings
from rigbench.ceilings import cuda, figure
from rigbench.records import Bandwidth


def test_measured_once_and_again_on_request(tmp_path: Path) -> None:
    path, calls = tmp_path / "sub" / "bandwidth.json", count(1)

    def cached(identity: object, **options: Any) -> Bandwidth:
        return figure.cached("cpu", identity, lambda: Bandwidth("cpu", next(calls) * 1e9), path=path, **options)

    first = cached("a")
    assert first.read_bytes_per_s == 1e9 and first.detail["measured_utc"].endswith("Z")
    assert cached("a") == first
    assert cached("another card").read_bytes_per_s == 2e9
    assert cached("a", again=True).read_bytes_per_s == 3e9
    assert "card" not in path.read_text()
    assert [place.partition("/")[2] for place in json.loads(path.read_text())] == ["cpu", "cpu"]


def test_what_was_measured_on_a_busy_machine_is_measured_again_once_it_is_quiet(tmp_path: Path) -> None:
    path, calls = tmp_path / "bandwidth.json", count(1)

    def cached(*, busy: bool) -> float | None:
        measure = lambda: Bandwidth("cpu", next(calls) * 1e9, detail={"busy_share": 0.7} if busy else {})  # noqa: E731
        return figure.cached("cpu", "a", measure, path=path, quiet=lambda: not busy).read_bytes_per_s

    assert [cached(busy=True), cached(busy=True), cached(busy=False), cached(busy=False), cached(busy=True)] == [
        1e9,
        1e9,
        2e9,
        2e9,
        2e9,
    ]


def test_after_30_days_it_is_measured_again(tmp_path: Path) -> None:
    path, calls = tmp_path / "bandwidth.json", count(1)

    def cached(utc: str) -> float | None:
        measure = lambda: Bandwidth("cpu", next(calls) * 1e9)  # noqa: E731
        return figure.cached("cpu", "a", measure, path=path, now=lambda: utc).read_bytes_per_s

    assert cached("2026-01-01T00:00:00Z") == 1e9
    assert cached("2026-01-30T23:59:59Z") == 1e9
    assert cached("2026-01-31T00:00:00Z") == 2e9
    assert cached("2026-02-01T00:00:00Z") == 2e9


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"PLACE": 3}', '{"PLACE": {"speed": 1}}', '{"PLACE": {"read_bytes_per_s": 1}}']
)
def test_a_broken_file_is_measured_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bandwidth.json"
    figure.cached("cpu", "a", lambda: Bandwidth("cpu", 5e9), path=path)
    (place,) = json.loads(path.read_text())
    path.write_text(content.replace("PLACE", place))
    assert figure.cached("cpu", "a", lambda: Bandwidth("cpu", 6e9), path=path).read_bytes_per_s == 6e9


def test_an_entry_that_names_the_device_by_its_index_is_the_device_s(tmp_path: Path) -> None:
    path = tmp_path / "bandwidth.json"
    figure.cached("cuda", "a", lambda: Bandwidth("cuda:0", 5e9), path=path)
    assert figure.cached("cuda", "a", lambda: Bandwidth("cuda", None), path=path).device == "cuda"


def test_what_could_not_be_measured_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "bandwidth.json"
    bandwidth = figure.cached("cuda", "a", lambda: Bandwidth("cuda", None, reason="no driver"), path=path)
    assert bandwidth.reason == "no driver" and not path.exists()


def test_a_swapped_card_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("rigbench.ceilings.figure.busy_share", lambda: 0.0)  # a busy machine is measured again
    calls: list[str] = []
    for card, rate in (("3090", 936e9), ("5090", 1792e9)):
        monkeypatch.setattr(cuda, "identity", lambda index, card=card: card)
        monkeypatch.setattr(cuda, "measure", lambda index, rate=rate: Bandwidth("cuda", rate))
        for _ in range(2):
            assert ceilings.cached("cuda", say=calls.append).read_bytes_per_s == rate
    assert len(calls) == 2
