"""Facts about the measurement that do not depend on how fast this machine is."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rigbench.ceilings import cpu
from rigbench.telemetry import machine


def test_threads_double_up_to_all_cores() -> None:
    assert cpu.thread_counts(1) == (1,)
    assert cpu.thread_counts(2) == (1, 2)
    assert cpu.thread_counts(6) == (1, 2, 4, 6)
    assert cpu.thread_counts(8) == (1, 2, 4, 8)


def test_array_is_1_gib_or_4_caches_and_a_quarter_of_memory_at_most() -> None:
    assert cpu.array_size(64 << 30, 32 << 20) == (1 << 30, None)
    assert cpu.array_size(64 << 30, 1 << 30) == (4 << 30, None)
    size, limit = cpu.array_size(2 << 30, 32 << 20)
    assert size == 512 << 20
    assert limit is not None and "only 537 MB" in limit and "cache" not in limit
    size, limit = cpu.array_size(256 << 20, 32 << 20)
    assert size == 64 << 20
    assert limit is not None and "may come from cache" in limit


def test_every_page_is_touched_with_non_zero_data() -> None:
    with ThreadPoolExecutor(3) as pool:
        array = cpu.filled(8 << 20, pool, 3)
    assert array.nbytes == 8 << 20
    assert np.all(array != 0)
    assert len(np.unique(array[::512])) > 1000  # no two pages need be the same page


def test_rate_spans_first_start_to_last_end() -> None:
    # One thread: the clock answers 1 s, then 3 s: 2 passes of 500 bytes in 2 s.
    times = iter([1_000_000_000, 3_000_000_000])
    with ThreadPoolExecutor(1) as pool:
        assert cpu.Work(pool, lambda _: None, [1, 2], 1, 500, lambda: next(times)).rate(2) == 500.0


def test_a_busy_machine_gets_fewer_samples_not_a_longer_wait() -> None:
    # The first pass takes 1 ms, so 100 passes make a sample of 0.1 s; then every sample takes 3 s on this clock.
    now = [0]

    def clock() -> int:
        now[0] += 1_000_000 if now[0] <= 1_000_000 else 1_500_000_000
        return now[0]

    with ThreadPoolExecutor(1) as pool:
        samples = cpu.Work(pool, lambda _: None, [1], 1, 1000, clock).samples(10)
    assert len(samples) == 3


def test_the_sweep_goes_over_threads_with_the_kernel_that_reads_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {("or", 1): 8.0, ("or", 2): 9.0, ("max", 1): 12.0, ("max", 2): 20.0, ("sum", 1): 1.0, ("sum", 2): 7.0}
    names = {kernel: name for name, kernel in cpu.READ_KERNELS.items()}
    monkeypatch.setattr(cpu.Work, "samples", lambda work, count: (rates[names[work.kernel], work.threads],))
    with ThreadPoolExecutor(1) as pool:
        assert cpu.read_sweep(np.ones(8, np.int64), pool, 2) == ("max", {1: (12.0,), 2: (20.0,)})


def test_measure_reports_best_and_median_of_a_small_array() -> None:
    bandwidth = cpu.measure(cores=2, array_bytes=16 << 20, sample_s=0.001)
    assert bandwidth.read_bytes_per_s is not None and bandwidth.copy_bytes_per_s is not None
    assert bandwidth.read_bytes_per_s >= bandwidth.detail["read_median_bytes_per_s"] > 1e8
    assert set(bandwidth.detail["read_best_bytes_per_s_by_threads"]) == {"1", "2"}
    assert bandwidth.detail["array_bytes"] == 16 << 20


def test_memory_that_cannot_be_had_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(size: int, pool: ThreadPoolExecutor, threads: int) -> cpu.Array:
        raise MemoryError

    monkeypatch.setattr(cpu, "filled", refuse)
    bandwidth = cpu.measure()
    assert bandwidth.read_bytes_per_s is None
    assert bandwidth.reason is not None and "could not be had" in bandwidth.reason


def test_every_piece_is_read_once_in_each_pass_whichever_thread_takes_it() -> None:
    """A thread that is stuck in its first piece keeps nobody from the rest."""
    array = np.arange(6 * cpu.CHUNK_BYTES // 8, dtype=np.int64)
    pieces = cpu.chunks(array)
    assert [piece.nbytes for piece in pieces] == [cpu.CHUNK_BYTES] * 6
    calls: list[tuple[int, int]] = []
    others_done, first, ticks = threading.Event(), threading.Lock(), itertools.count(1)

    def kernel(piece: cpu.Array) -> None:
        if first.acquire(blocking=False):
            assert others_done.wait(30)
        calls.append((int(piece[0]) // len(piece), threading.get_ident()))
        if len(calls) == 11:
            others_done.set()

    with ThreadPoolExecutor(2) as pool:
        cpu.Work(pool, kernel, pieces, 2, array.nbytes, lambda: next(ticks)).rate(2)
    assert sorted(piece for piece, _ in calls) == sorted([0, 1, 2, 3, 4, 5] * 2)


def test_identity_is_stable_and_names_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cpu.identity()
    assert before == cpu.identity()
    monkeypatch.setattr(machine, "usable_cores", lambda: 10_000)
    assert cpu.identity() != before
