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
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

import numpy as np

from rigbench.ceilings.figure import figure
from rigbench.clock import Clock, now_ns
from rigbench.records import Bandwidth
from rigbench.telemetry import host, machine

GIB = 1 << 30
FILL_CHUNK = 1 << 17
CHUNK_BYTES = 8 << 20
Array = np.ndarray[Any, np.dtype[np.int64]]
Kernel = Callable[[Array], object]

READ_KERNELS: dict[str, Kernel] = {
    "or": np.bitwise_or.reduce,
    "max": np.maximum.reduce,
    "sum": np.add.reduce,
}
"""Reductions over 64-bit integers. All three are limited by memory on x86 with AVX; which one is vectorised best on
another processor depends on how numpy was built, so the fastest here is found by trial."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Bytes per second of each sample, by number of threads, with the kernel that read them."""

    kernel: str
    samples: dict[int, tuple[float, ...]]

    def best(self) -> tuple[int, float]:
        """Number of threads and rate of the best sample."""
        return max(((threads, max(rates)) for threads, rates in self.samples.items()), key=lambda pair: pair[1])


def thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and all: 6 -> (1, 2, 4, 6)."""
    doubling = [1 << n for n in range(cores.bit_length()) if 1 << n < cores]
    return (*doubling, cores)


def array_size(available_bytes: int, cache_bytes: int | None) -> tuple[int, str | None]:
    """Bytes to read, and what is to be said of it: None where the array is as large as it should be."""
    wanted = max(GIB, 4 * (cache_bytes or 0))
    size = min(wanted, available_bytes // 4) // 4096 * 4096
    if size == wanted:
        return size, None
    remark = f"only {size / 1e6:.0f} MB read, a quarter of the free memory, in place of {wanted / 1e6:.0f} MB"
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


def rate(
    pool: ThreadPoolExecutor,
    kernel: Callable[[Any], object],
    pieces: Iterable[Any],
    threads: int,
    moved_bytes: int,
    passes: int,
    clock: Clock,
) -> float:
    """Bytes per second of `passes` rounds of `kernel` over all `pieces`, `moved_bytes` each round, in threads that begin together.

    Each takes the next piece when it is done with one, so that slow cores (efficiency cores, or busy ones) do less and nobody
    waits for them.
    """
    together = Barrier(threads)
    waiting = deque(list(pieces) * passes)

    def timed(_: int) -> tuple[int, int]:
        together.wait()
        start = clock()
        while waiting:
            try:
                piece = waiting.popleft()
            except IndexError:  # another thread took the last one
                break
            kernel(piece)
        return start, clock()

    times = list(pool.map(timed, range(threads)))
    return moved_bytes * passes / ((max(end for _, end in times) - min(start for start, _ in times)) * 1e-9)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to look. Samples of 0.1 s make the starting of threads count for nothing."""

    clock: Clock = now_ns
    sample_s: float = 0.1

    def samples(
        self,
        pool: ThreadPoolExecutor,
        kernel: Callable[[Any], object],
        pieces: Iterable[Any],
        threads: int,
        moved_bytes: int,
        count: int,
    ) -> tuple[float, ...]:
        """Up to `count` samples, 3 at least: fewer where the machine is busy with other things and each takes longer."""
        first = rate(pool, kernel, pieces, threads, moved_bytes, 1, self.clock)
        passes = max(1, round(self.sample_s * first / moved_bytes))
        end = self.clock() + round(2 * count * self.sample_s * 1e9)
        found: list[float] = []
        while len(found) < 3 or (len(found) < count and self.clock() < end):
            found.append(rate(pool, kernel, pieces, threads, moved_bytes, passes, self.clock))
        return tuple(found)


def measure(*, cores: int | None = None, array_bytes: int | None = None, pace: Pace | None = None) -> Bandwidth:
    """Read and copy bandwidth of the host's memory in bytes per second. Takes some 3 s on 2 cores, 10 s on 128.

    `read_bytes_per_s` and `copy_bytes_per_s` are the best samples; medians, sweep and kernel are in `detail`.
    """
    cores = cores or machine.usable_cores()
    pace = pace or Pace()
    cache_bytes = host.last_level_cache_bytes()
    size, remark = array_size(host.available_memory_bytes(), cache_bytes)
    size = array_bytes or size
    with ThreadPoolExecutor(cores) as pool:
        try:
            array = filled(size, pool, cores)
        except MemoryError:
            return Bandwidth(
                "cpu", None, reason=f"{size / 1e6:.0f} MB of memory could not be had; close other programs"
            )
        sweep = read_sweep(array, pool, cores, pace)
        source, target = array[: array.size // 2], array[array.size // 2 : array.size // 2 * 2]
        pairs = list(zip(chunks(target), chunks(source), strict=True))
        moved_bytes = source.nbytes + target.nbytes
        copies = pace.samples(pool, lambda pair: np.copyto(*pair), pairs, sweep.best()[0], moved_bytes, 6)
    threads = sweep.best()[0]
    return figure(
        "cpu",
        sweep.samples[threads],
        copies,
        source=f"numpy {sweep.kernel} over {size / 1e6:.0f} MB",
        array_bytes=size,
        threads=threads,
        reason=remark,
        read_best_bytes_per_s_by_threads={str(n): max(rates) for n, rates in sweep.samples.items()},
        last_level_cache_bytes=cache_bytes,
    )


def read_sweep(array: Array, pool: ThreadPoolExecutor, cores: int, pace: Pace | None = None) -> Sweep:
    """The fastest kernel at all cores, then that kernel over the numbers of threads."""
    pace = pace or Pace()
    pieces = chunks(array)
    trial = {
        name: max(pace.samples(pool, kernel, pieces, cores, array.nbytes, 3)) for name, kernel in READ_KERNELS.items()
    }
    name = max(trial, key=lambda each: trial[each])
    samples = {
        threads: pace.samples(pool, READ_KERNELS[name], pieces, threads, array.nbytes, 10 if threads == cores else 3)
        for threads in thread_counts(cores)
    }
    return Sweep(name, samples)


def identity() -> tuple[object, ...]:
    """This machine's processor, cores, those of them that this process may use, and memory; nothing that names its owner."""
    import psutil

    memory_gib = round(psutil.virtual_memory().total / GIB)
    return host.cpu_name(), platform.machine(), os.cpu_count(), machine.usable_cores(), memory_gib
