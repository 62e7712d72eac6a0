"""Measured memory bandwidth: what decode can at best be fed with.

A decode step reads every weight once and writes next to nothing, so the headline is a read-only kernel; copy stands
beside it (its bytes are those read plus those written; the read that a cache does before it writes is not counted).
On the CPU: a numpy reduction over one slice per thread (numpy lets go of the interpreter's lock), over memory that
was really touched: untouched pages are all the same page of zeros and are read from cache.

    rate = bytes x passes / (last thread's end - first thread's start)

The array holds at least 1 GiB and 4 last-level caches, and at most a quarter of the free memory. Threads are swept
over 1, 2, 4 ... all cores. Best and median are both kept: the best is the ceiling, the distance to the median is the
machine's unrest.

    python scripts/bench_bandwidth.py      # beside a C loop on the same machine
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np

from rigbench.clock import Clock, now_ns, utc_now
from rigbench.errors import InputError
from rigbench.paths import cache_dir
from rigbench.records import Bandwidth
from rigbench.telemetry import host

GIB = 1 << 30
FILL_CHUNK = 1 << 17
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
    said = f"only {size / 1e6:.0f} MB read, a quarter of the free memory, in place of {wanted / 1e6:.0f} MB"
    return size, said + ("; part of it may come from cache" if size < 4 * (cache_bytes or 32 << 20) else "")


def filled(size: int, pool: ThreadPoolExecutor, threads: int) -> Array:
    """An array of `size` bytes, every page touched with non-zero data by the thread that will read it."""
    array = np.empty(size // 8, dtype=np.int64)
    template = np.arange(FILL_CHUNK, dtype=np.int64) * 2 + 1

    def fill(part: Array) -> None:
        for at in range(0, part.size, FILL_CHUNK):
            piece = part[at : at + FILL_CHUNK]
            np.bitwise_xor(template[: piece.size], at << 8, out=piece)

    list(pool.map(fill, np.array_split(array, threads)))
    return array


def rate(
    pool: ThreadPoolExecutor,
    work: Callable[[int], object],
    threads: int,
    bytes_each_pass: int,
    passes: int,
    clock: Clock,
) -> float:
    """Bytes per second of `passes` rounds of `work(thread)` in `threads` threads that begin together."""
    together = Barrier(threads)

    def timed(thread: int) -> tuple[int, int]:
        together.wait()
        start = clock()
        for _ in range(passes):
            work(thread)
        return start, clock()

    times = list(pool.map(timed, range(threads)))
    return bytes_each_pass * passes / ((max(end for _, end in times) - min(start for start, _ in times)) * 1e-9)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to look. Samples of 0.1 s make the starting of threads count for nothing."""

    clock: Clock = now_ns
    sample_s: float = 0.1

    def samples(
        self, pool: ThreadPoolExecutor, work: Callable[[int], object], threads: int, size: int, count: int
    ) -> tuple[float, ...]:
        """Up to `count` samples, 3 at least: fewer where the machine is busy with other things and each takes
        longer."""
        first = rate(pool, work, threads, size, 1, self.clock)
        passes = max(1, round(self.sample_s * first / size))
        end = self.clock() + round(2 * count * self.sample_s * 1e9)
        found: list[float] = []
        while len(found) < 3 or (len(found) < count and self.clock() < end):
            found.append(rate(pool, work, threads, size, passes, self.clock))
        return tuple(found)


def measure_cpu(*, cores: int | None = None, array_bytes: int | None = None, pace: Pace | None = None) -> Bandwidth:
    """Read and copy bandwidth of the host's memory in bytes per second. Takes some 3 s on 2 cores, 10 s on 128.

    `read_bytes_per_s` and `copy_bytes_per_s` are the best samples; medians, sweep and kernel are in `detail`.
    """
    cores = cores or host.usable_cores()
    pace = pace or Pace()
    cache_bytes = host.last_level_cache_bytes()
    size, said = array_size(host.available_memory_bytes(), cache_bytes)
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
        copies = _copy_samples(source, target, pool, sweep.best()[0], pace)
    threads, best = sweep.best()
    return Bandwidth(
        device="cpu",
        read_bytes_per_s=best,
        copy_bytes_per_s=max(copies),
        source=f"numpy {sweep.kernel} over {size / 1e6:.0f} MB; copy counts bytes read and written",
        threads=threads,
        reason=said,
        detail={
            "read_median_bytes_per_s": statistics.median(sweep.samples[threads]),
            "copy_median_bytes_per_s": statistics.median(copies),
            "read_best_bytes_per_s_by_threads": {str(n): max(rates) for n, rates in sweep.samples.items()},
            "array_bytes": size,
            "last_level_cache_bytes": cache_bytes,
        },
    )


def read_sweep(array: Array, pool: ThreadPoolExecutor, cores: int, pace: Pace | None = None) -> Sweep:
    """The fastest kernel at all cores, then that kernel over the numbers of threads."""
    pace = pace or Pace()

    def work(kernel: Kernel, threads: int) -> Callable[[int], object]:
        parts = np.array_split(array, threads)
        return lambda thread: kernel(parts[thread])

    trial = {
        name: max(pace.samples(pool, work(kernel, cores), cores, array.nbytes, 3))
        for name, kernel in READ_KERNELS.items()
    }
    name = max(trial, key=lambda each: trial[each])
    samples = {
        threads: pace.samples(
            pool, work(READ_KERNELS[name], threads), threads, array.nbytes, 10 if threads == cores else 3
        )
        for threads in thread_counts(cores)
    }
    return Sweep(name, samples)


def _copy_samples(
    source: Array, target: Array, pool: ThreadPoolExecutor, threads: int, pace: Pace
) -> tuple[float, ...]:
    pairs = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    return pace.samples(pool, lambda thread: np.copyto(*pairs[thread]), threads, source.nbytes + target.nbytes, 6)


def measure(device: str, python: str = sys.executable) -> Bandwidth:
    """`cpu`, `cuda`, `cuda:1` or `metal`; `python` is the interpreter that has mlx. InputError for any other device."""
    kind, _, index = device.partition(":")
    if kind == "cpu" and not index:
        return measure_cpu()
    if kind == "cuda" and (index or "0").isdigit():
        from rigbench.telemetry.bandwidth_cuda import measure_cuda

        return measure_cuda(int(index or 0))
    if device == "metal":
        from rigbench.telemetry.bandwidth_metal import measure_metal

        return measure_metal(python)
    raise InputError(f"no bandwidth can be measured on {device!r}; use cpu, cuda, cuda:1 ... or metal")


def hardware_key() -> str:
    """16 hexadecimal digits that stand for this machine's processor, cores and memory; nothing that names its owner."""
    import psutil

    parts = (host.cpu_name(), platform.machine(), os.cpu_count(), round(psutil.virtual_memory().total / GIB))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def cached(
    device: str,
    measure: Callable[[], Bandwidth],
    *,
    path: Path | None = None,
    key: str | None = None,
    refresh: bool = False,
) -> Bandwidth:
    """The bandwidth of `device` on this machine: as measured before, else measured now and kept with its date.

    The file (cache_dir()/bandwidth.json) may be lost or unreadable at any time: it is then measured and written anew.
    What could not be measured is not kept.
    """
    path = path or cache_dir() / "bandwidth.json"
    place = f"{key or hardware_key()}/{device}"
    known = _load(path)
    if place in known and not refresh:
        try:
            return Bandwidth(**known[place])
        except TypeError:  # written by another version of rigbench
            pass
    found = measure()
    if found.read_bytes_per_s is None:
        return found
    found = replace(found, detail={**found.detail, "measured_utc": utc_now()})
    _save(path, {**known, place: asdict(found)})
    return found


def _load(path: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _save(path: Path, known: dict[str, dict[str, Any]]) -> None:
    """Whole or not at all; a cache that cannot be written is no reason to fail."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known, indent=1), encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
