"""Measured memory bandwidth: what decode can at best be fed with.

A decode step reads every weight once and writes next to nothing, so the headline is a read-only kernel; copy stands
beside it (its bytes are those read plus those written; the read that a cache does before it writes is not counted).
On the CPU: numpy reductions over pieces that the threads take in turn (numpy lets go of the interpreter's lock), over
memory that was really touched: untouched pages are all the same page of zeros and are read from cache.

    rate = bytes x passes / (last thread's end - first thread's start)

The array holds at least 1 GiB and 4 last-level caches, and at most a quarter of the free memory. Threads are swept
over 1, 2, 4 ... all cores. Best and median are both kept: the best is the ceiling, the distance to the median is the
machine's unrest.

    python scripts/bench_bandwidth.py      # beside a C loop on the same machine
"""

from __future__ import annotations

import os
import platform
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier
from typing import Any

import numpy as np
import psutil

from rigbench.ceilings.figure import figure
from rigbench.clock import Clock, now_ns
from rigbench.records import Bandwidth
from rigbench.telemetry import host, machine

GIB = 1 << 30
FILL_CHUNK = 1 << 17
CHUNK_BYTES = 8 << 20
Array = np.ndarray[Any, np.dtype[np.int64]]

READ_KERNELS: dict[str, Callable[[Array], object]] = {
    "or": np.bitwise_or.reduce,
    "max": np.maximum.reduce,
    "sum": np.add.reduce,
}
"""Reductions over 64-bit integers. All three are limited by memory on x86 with AVX; which one is vectorised best on
another processor depends on how numpy was built, so the fastest here is found by trial."""


def thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and all: 6 -> (1, 2, 4, 6)."""
    return (*(1 << n for n in range(cores.bit_length()) if 1 << n < cores), cores)


def array_size(available_bytes: int, cache_bytes: int | None) -> tuple[int, str | None]:
    """Bytes to read, and what is to be said of it: None where the array is as large as it should be."""
    array_bytes = max(GIB, 4 * (cache_bytes or 0))
    size = min(array_bytes, available_bytes // 4) // 4096 * 4096
    if size == array_bytes:
        return size, None
    remark = f"only {size / 1e6:.0f} MB read, a quarter of the free memory, in place of {array_bytes / 1e6:.0f} MB"
    return size, remark + ("; part of it may come from cache" if size < 4 * (cache_bytes or 32 << 20) else "")


def filled(size: int, pool: ThreadPoolExecutor, threads: int) -> Array:
    """An array of `size` bytes, every page touched with non-zero data."""
    array = np.empty(size // 8, dtype=np.int64)
    template = np.arange(FILL_CHUNK, dtype=np.int64) * 2 + 1

    def fill(part: Array) -> None:
        for at in range(0, part.size, FILL_CHUNK):
            piece = part[at : at + FILL_CHUNK]
            np.bitwise_xor(template[: piece.size], at << 8, out=piece)

    list(pool.map(fill, np.array_split(array, threads)))
    return array


def chunks(array: Array) -> list[Array]:
    """`array` in pieces of 8 MiB: large against the cost of a call, small against what one core reads in a sample."""
    return np.array_split(array, max(1, array.nbytes // CHUNK_BYTES))


@dataclass(frozen=True, slots=True)
class Work:
    """A round of `kernel` over all `pieces`, which moves `moved_bytes`, in `threads` threads of `pool`.

    Samples of 0.1 s make the starting of threads count for nothing.
    """

    pool: ThreadPoolExecutor
    kernel: Callable[[Any], object]
    pieces: Sequence[Any]
    threads: int
    moved_bytes: int
    clock: Clock = now_ns
    sample_s: float = 0.1

    def rate(self, passes: int = 1) -> float:
        """Bytes per second of `passes` rounds in threads that begin together.

        Each takes the next piece when it is done with one, so that slow cores (efficiency cores, or busy ones) do less and
        nobody waits for them.
        """
        together = Barrier(self.threads)
        waiting = deque(list(self.pieces) * passes)

        def timed(_: int) -> tuple[int, int]:
            together.wait()
            start = self.clock()
            while waiting:
                try:
                    piece = waiting.popleft()
                except IndexError:  # another thread took the last one
                    break
                self.kernel(piece)
            return start, self.clock()

        spans = list(self.pool.map(timed, range(self.threads)))
        elapsed_ns = max(end for _, end in spans) - min(start for start, _ in spans)
        return self.moved_bytes * passes / (elapsed_ns * 1e-9)

    def samples(self, count: int) -> tuple[float, ...]:
        """Up to `count` rates, 3 at least: fewer where the machine is busy with other things and each takes longer."""
        passes = max(1, round(self.sample_s * self.rate() / self.moved_bytes))
        end = self.clock() + round(2 * count * self.sample_s * 1e9)
        rates: list[float] = []
        while len(rates) < 3 or (len(rates) < count and self.clock() < end):
            rates.append(self.rate(passes))
        return tuple(rates)


def measure(*, cores: int | None = None, array_bytes: int | None = None, sample_s: float = 0.1) -> Bandwidth:
    """Read and copy bandwidth of the host's memory in bytes per second. Takes some 3 s on 2 cores, 10 s on 128.

    `read_bytes_per_s` and `copy_bytes_per_s` are the best samples; medians, sweep and kernel are in `detail`.
    """
    cores = cores or machine.usable_cores()
    cache_bytes = host.last_level_cache_bytes()
    size, remark = array_size(host.available_memory_bytes(), cache_bytes)
    size = array_bytes or size
    with ThreadPoolExecutor(cores) as pool:
        try:
            array = filled(size, pool, cores)
        except MemoryError:
            reason = f"{size / 1e6:.0f} MB of memory could not be had; close other programs"
            return Bandwidth("cpu", None, reason=reason)
        kernel, by_threads = read_sweep(array, pool, cores, sample_s)
        threads = max(by_threads, key=lambda threads: max(by_threads[threads]))
        source, target = array[: array.size // 2], array[array.size // 2 : array.size // 2 * 2]
        pairs = list(zip(chunks(target), chunks(source), strict=True))
        moved_bytes = source.nbytes + target.nbytes
        copying = Work(pool, lambda pair: np.copyto(*pair), pairs, threads, moved_bytes, sample_s=sample_s)
        copies = copying.samples(6)
    return figure(
        "cpu",
        by_threads[threads],
        copies,
        source=f"numpy {kernel} over {size / 1e6:.0f} MB",
        array_bytes=size,
        threads=threads,
        reason=remark,
        read_best_bytes_per_s_by_threads={str(n): max(rates) for n, rates in by_threads.items()},
        last_level_cache_bytes=cache_bytes,
    )


def read_sweep(
    array: Array, pool: ThreadPoolExecutor, cores: int, sample_s: float = 0.1
) -> tuple[str, dict[int, tuple[float, ...]]]:
    """The fastest kernel at all cores, and that kernel's samples by the number of threads."""
    reading = Work(pool, READ_KERNELS["or"], chunks(array), cores, array.nbytes, sample_s=sample_s)
    trial = {name: max(replace(reading, kernel=kernel).samples(3)) for name, kernel in READ_KERNELS.items()}
    fastest = max(trial, key=lambda name: trial[name])
    reading = replace(reading, kernel=READ_KERNELS[fastest])
    return fastest, {n: replace(reading, threads=n).samples(10 if n == cores else 3) for n in thread_counts(cores)}


def identity() -> tuple[object, ...]:
    """This machine's processor, cores, those of them that this process may use, and memory; nothing that names its owner."""
    memory_gib = round(psutil.virtual_memory().total / GIB)
    return host.cpu_name(), platform.machine(), os.cpu_count(), machine.usable_cores(), memory_gib
