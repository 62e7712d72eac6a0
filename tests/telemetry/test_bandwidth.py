"""Facts about the measurement that do not depend on how fast this machine is."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from rigbench.errors import InputError
from rigbench.records import Bandwidth
from rigbench.telemetry import bandwidth


def test_threads_double_up_to_all_cores() -> None:
    assert bandwidth.thread_counts(1) == (1,)
    assert bandwidth.thread_counts(2) == (1, 2)
    assert bandwidth.thread_counts(6) == (1, 2, 4, 6)
    assert bandwidth.thread_counts(8) == (1, 2, 4, 8)


def test_array_is_1_gib_or_4_caches_and_a_quarter_of_memory_at_most() -> None:
    assert bandwidth.array_size(64 << 30, 32 << 20) == (1 << 30, None)
    assert bandwidth.array_size(64 << 30, 1 << 30) == (4 << 30, None)
    size, said = bandwidth.array_size(2 << 30, 32 << 20)
    assert size == 512 << 20
    assert said is not None and "only 537 MB" in said and "cache" not in said
    size, said = bandwidth.array_size(256 << 20, 32 << 20)
    assert size == 64 << 20
    assert said is not None and "may come from cache" in said


def test_every_page_is_touched_with_non_zero_data() -> None:
    with ThreadPoolExecutor(3) as pool:
        array = bandwidth.filled(8 << 20, pool, 3)
    assert array.nbytes == 8 << 20
    assert np.all(array != 0)
    assert len(np.unique(array[::512])) > 1000  # no two pages need be the same page


def test_rate_spans_first_start_to_last_end() -> None:
    # One thread: the clock answers 1 s, then 3 s: 2 passes of 500 bytes in 2 s.
    times = iter([1_000_000_000, 3_000_000_000])
    with ThreadPoolExecutor(1) as pool:
        assert bandwidth.rate(pool, lambda _: None, 1, 500, 2, lambda: next(times)) == 500.0


def test_a_busy_machine_gets_fewer_samples_not_a_longer_wait() -> None:
    # The first pass takes 1 ms, so 100 passes make a sample of 0.1 s; then every sample takes 3 s on this clock.
    now = [0]

    def clock() -> int:
        now[0] += 1_000_000 if now[0] <= 1_000_000 else 1_500_000_000
        return now[0]

    with ThreadPoolExecutor(1) as pool:
        found = bandwidth.Pace(clock).samples(pool, lambda _: None, 1, 1000, 10)
    assert len(found) == 3


def test_a_kernel_that_reads_more_threads_is_found_best() -> None:
    sweep = bandwidth.Sweep("or", {1: (10.0, 12.0), 2: (20.0, 19.0), 4: (18.0, 19.5)})
    assert sweep.best() == (2, 20.0)


def test_measure_reports_best_and_median_of_a_small_array() -> None:
    found = bandwidth.measure_cpu(cores=2, array_bytes=16 << 20, pace=bandwidth.Pace(sample_s=0.001))
    assert found.read_bytes_per_s is not None and found.copy_bytes_per_s is not None
    assert found.read_bytes_per_s >= found.detail["read_median_bytes_per_s"] > 1e8
    assert set(found.detail["read_best_bytes_per_s_by_threads"]) == {"1", "2"}
    assert found.detail["array_bytes"] == 16 << 20


def test_memory_that_cannot_be_had_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(size: int, pool: ThreadPoolExecutor, threads: int) -> bandwidth.Array:
        raise MemoryError

    monkeypatch.setattr(bandwidth, "filled", refuse)
    found = bandwidth.measure_cpu()
    assert found.read_bytes_per_s is None
    assert found.reason is not None and "could not be had" in found.reason


def test_cached_measures_once_and_again_on_refresh(tmp_path: Path) -> None:
    path, calls = tmp_path / "sub" / "bandwidth.json", count(1)

    def measure() -> Bandwidth:
        return Bandwidth("cpu", next(calls) * 1e9)

    first = bandwidth.cached("cpu", measure, path=path, key="k")
    assert first.read_bytes_per_s == 1e9 and first.detail["measured_utc"].endswith("Z")
    assert bandwidth.cached("cpu", measure, path=path, key="k") == first
    assert bandwidth.cached("cpu", measure, path=path, key="other").read_bytes_per_s == 2e9
    assert bandwidth.cached("cpu", measure, path=path, key="k", refresh=True).read_bytes_per_s == 3e9
    assert set(json.loads(path.read_text())) == {"k/cpu", "other/cpu"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"k/cpu": 3}', '{"k/cpu": {"speed": 1}}'])
def test_a_broken_cache_is_measured_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bandwidth.json"
    path.write_text(content)
    assert bandwidth.cached("cpu", lambda: Bandwidth("cpu", 5e9), path=path, key="k").read_bytes_per_s == 5e9


def test_what_could_not_be_measured_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "bandwidth.json"
    found = bandwidth.cached("cuda:0", lambda: Bandwidth("cuda:0", None, reason="no driver"), path=path, key="k")
    assert found.reason == "no driver" and not path.exists()


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "measure_cpu", lambda: Bandwidth("cpu", 1.0))
    monkeypatch.setattr("rigbench.telemetry.bandwidth_cuda.measure_cuda", lambda index: Bandwidth(f"cuda:{index}", 2.0))
    monkeypatch.setattr(
        "rigbench.telemetry.bandwidth_metal.measure_metal", lambda python: Bandwidth(f"metal {python}", 3.0)
    )
    found = [bandwidth.measure(device, "py").device for device in ("cpu", "cuda", "cuda:3", "metal")]
    assert found == ["cpu", "cuda:0", "cuda:3", "metal py"]
    for device in ("", "tpu", "cpu:1", "cuda:x", "metal:0"):
        with pytest.raises(InputError, match="use cpu, cuda"):
            bandwidth.measure(device)


def test_key_is_stable_and_opaque() -> None:
    key = bandwidth.hardware_key()
    assert key == bandwidth.hardware_key() and len(key) == 16 and int(key, 16) >= 0
