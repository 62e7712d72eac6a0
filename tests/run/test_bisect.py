"""Halving: the right version with few measurements, over noise, over versions that fail; and the pip side of it for real."""

import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plain_row import PLAIN
from rigbench.analysis.table import Row
from rigbench.errors import InputError, UnavailableError
from rigbench.run import bisect

GROUP = "llama_cpp/m/w/c1"


def samples(rates: tuple[float, ...], group: str = GROUP, **metrics: float) -> list[Row]:
    """A row for each run."""
    return [
        replace(
            PLAIN,
            created_utc=f"{number}",
            group=group,
            samples={"user_tps": (rate,)} | {k: (v,) for k, v in metrics.items()},
        )
        for number, rate in enumerate(rates)
    ]


def measuring(rates: dict[str, tuple[float, ...]], measured: list[str]) -> bisect.Measure:
    def measure(version: str, again: bool) -> list[Row]:
        measured.append(version + "+" * again)
        if version not in rates:
            raise bisect.CannotMeasure("cannot be installed: no matching distribution")
        return samples(rates[version] * (2 if again else 1))

    return measure


def find(rates: dict[str, tuple[float, ...]], versions: list[str] | None = None) -> tuple[bisect.Culprit, list[str]]:
    measured: list[str] = []
    result = bisect.search(versions or list(rates), measuring(rates, measured), ["user_tps"], lambda text: None)
    return result, measured


FAST, SLOW = (100.0, 101.0, 99.5), (90.0, 90.5, 89.8)


@pytest.mark.parametrize("first_bad", range(1, 16))
def test_every_place_is_found_in_few_steps(first_bad: int) -> None:
    versions = [f"0.3.{number}" for number in range(16)]
    rates = {version: SLOW if number >= first_bad else FAST for number, version in enumerate(versions)}
    result, measured = find(rates)
    assert (result.good, result.bad, result.between) == (versions[first_bad - 1], versions[first_bad], ())
    assert len(measured) <= 2 + 4  # both ends, and 16 halved four times


def test_what_cannot_be_installed_is_passed_over_and_named() -> None:
    versions = ["1", "2", "3", "4", "5"]
    result, _ = find({"1": FAST, "2": FAST, "5": SLOW}, versions)
    assert (result.good, result.bad, result.between) == ("2", "5", ("3", "4"))
    assert [(trial.version, trial.state) for trial in result.trials if trial.state == "skipped"] == [
        ("3", "skipped"),
        ("4", "skipped"),
    ]
    assert result.trials[2].reason == "cannot be installed: no matching distribution"


def test_what_is_unclear_is_measured_once_more_and_then_passed_over() -> None:
    wild = (70.0, 130.0, 95.0)
    result, measured = find({"1": FAST, "2": wild, "3": SLOW})
    assert measured == ["1", "3", "2", "2+"]
    assert (result.good, result.bad, result.between) == ("1", "3", ("2",))


def test_a_slow_end_that_is_not_slower() -> None:
    result, measured = find({"1": FAST, "2": SLOW, "3": FAST})
    assert result.bad is None
    assert measured == ["1", "3"]
    result, _ = find({"1": (100.0,), "2": (50.0,)})  # one number a side says nothing of how much it varies
    assert result.bad is None


def test_an_end_that_cannot_be_measured_ends_it() -> None:
    with pytest.raises(bisect.CannotMeasure):
        find({"1": FAST}, ["1", "2"])


def test_the_yardstick_is_the_clearest_case() -> None:
    def measure(version: str, again: bool) -> list[Row]:
        slow = version == "2"
        other = samples(tuple(rate * (0.5 if slow else 1) for rate in FAST), "llama_cpp/m/w/c2", ttft_s=1.0)
        return [*samples(SLOW if slow else FAST), *other]

    result = bisect.search(["1", "2"], measure, ["user_tps"], lambda text: None)
    assert (result.group, result.metric) == ("llama_cpp/m/w/c2", "user_tps")


def test_versions_are_ordered_as_versions() -> None:
    versions_listed = ["0.3.9", "0.3.10", "0.3.10rc1", "0.4.0", "0.2.90", "0.3.11"]
    assert bisect.between(versions_listed, "0.3.9", "0.4.0") == ["0.3.9", "0.3.10", "0.3.11", "0.4.0"]
    assert bisect.between(versions_listed, "0.3.10rc1", "0.3.11") == ["0.3.10rc1", "0.3.10", "0.3.11"]
    assert bisect.between([], "1", "2") == ["1", "2"]
    with pytest.raises(InputError, match="must be the earlier"):
        bisect.between(versions_listed, "0.3.10", "0.3.9")


@pytest.mark.parametrize(
    "text", ["llama-cpp-python", "a>=1", "a==1,==2", "a==1.*", "a @ https://x/y", "a==1; os_name=='x'", "=="]
)
def test_what_is_not_pinned_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write a package and one version"):
        bisect.pinned(text)


def test_what_is_pinned() -> None:
    assert bisect.pinned("llama-cpp-python == 0.3.36") == ("llama-cpp-python", "0.3.36")
    assert bisect.pinned("x[b,a]==1.0") == ("x[a,b]", "1.0")


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes for its index, and a cache of our own."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path / "cache"))
    return folder


def wheel(folder: Path, version: str, needs: str = "") -> None:
    info = f"rigbenchfake-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: rigbenchfake\nVersion: {version}\n{needs}"
    files = {
        "rigbenchfake.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"rigbenchfake-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


@pytest.mark.slow
def test_pip_lists_installs_and_fails_for_real(
    links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Callable[[], int]
) -> None:
    for version in ("1.9", "1.10"):
        wheel(links, version)
    wheel(links, "1.11", "Requires-Dist: rigbench-no-such-package-anywhere\n")
    pip = ("--no-index", f"-f{links}")
    assert sorted(bisect.available("rigbenchfake[x]", sys.executable, pip)) == ["1.10", "1.11", "1.9"]
    with pytest.raises(UnavailableError, match="no versions of rigbench-not-there"):
        bisect.available("rigbench-not-there", sys.executable, pip)
    python = bisect.environment("rigbenchfake", "1.10", sys.executable, pip)
    site = next((tmp_path / "cache" / "bisect").glob("rigbenchfake-1-10-*/**/rigbenchfake.py"))
    assert site.read_text() == "VERSION = '1.10'\n"
    assert python.exists()
    before = counted()
    assert bisect.environment("rigbenchfake", "1.10", sys.executable, pip) == python
    assert counted() == before  # nothing was started: it is there
    with pytest.raises(bisect.CannotMeasure, match=r"cannot be installed: .*rigbench-no-such-package-anywhere"):
        bisect.environment("rigbenchfake", "1.11", sys.executable, pip)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many programs were started so far."""
    started: list[object] = []
    real = bisect._run

    def run(command: list[str], limit_s: float) -> object:
        started.append(command)
        return real(command, limit_s)

    monkeypatch.setattr(bisect, "_run", run)
    return lambda: len(started)
