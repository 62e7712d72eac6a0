#!/usr/bin/env python3
"""Our CPU read bandwidth beside a C read loop with all cores on the same machine, in turn (ABBA), medians.

    python scripts/bench_bandwidth.py [--rounds 12]

The C program keeps its own array of the same size (touched, huge pages asked for, as numpy does) and reads it on
demand with one thread per core, so that both sides are measured in the same second: memory bandwidth of a shared host
drifts by far more than the 5 % that is allowed between the two.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rigbench.ceilings import cpu
from rigbench.telemetry import host, machine

C_SOURCE = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

typedef struct { const uint64_t *data; size_t count; int passes; uint64_t sum; } Job;

static void *read_slice(void *arg) {
    Job *job = arg;
    uint64_t sum = 0;
    for (int pass = 0; pass < job->passes; pass++) {
        for (size_t i = 0; i < job->count; i++) sum += job->data[i];
        __asm__ volatile("" ::"r"(sum) : "memory");
    }
    job->sum = sum;
    return NULL;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
    size_t bytes = strtoull(argv[1], NULL, 10), count = bytes / 8;
    uint64_t *data = aligned_alloc(1 << 21, (bytes + (1 << 21) - 1) >> 21 << 21);
    if (!data) return 1;
#ifdef MADV_HUGEPAGE
    madvise(data, bytes, MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < count; i++) data[i] = i * 2654435761u + 1;
    int threads, passes;
    while (scanf("%d %d", &threads, &passes) == 2) {
        pthread_t ids[1024];
        Job jobs[1024];
        double start = now();
        for (int t = 0; t < threads; t++) {
            size_t from = count * t / threads, to = count * (t + 1) / threads;
            jobs[t] = (Job){data + from, to - from, passes, 0};
            pthread_create(&ids[t], NULL, read_slice, &jobs[t]);
        }
        for (int t = 0; t < threads; t++) pthread_join(ids[t], NULL);
        printf("%.0f\n", (double)bytes * passes / (now() - start));
        fflush(stdout);
    }
}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="pairs of samples, each of about 0.2 s (default 12)")
    rounds = parser.parse_args().rounds
    cores = machine.usable_cores()
    size, limit = cpu.array_size(host.available_memory_bytes() // 2, host.last_level_cache_bytes())
    print(f"{host.cpu_name()}, {cores} cores, {size / 1e6:.0f} MB on each side" + (f" ({limit})" if limit else ""))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(cores) as pool:
        program = compiled(Path(folder))
        array = cpu.filled(size, pool, cores)
        kernel = cpu.READ_KERNELS[cpu.read_sweep(array, pool, cores)[0]]
        ours = cpu.Work(pool, kernel, cpu.chunks(array), cores, size).rate
        with subprocess.Popen([program, str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdin is not None and child.stdout is not None

            def theirs(passes: int) -> float:
                print(cores, passes, file=child.stdin, flush=True)
                return float(child.stdout.readline())  # type: ignore[union-attr]

            theirs(1)
            passes = max(1, round(0.2 * ours(1) / size))
            pairs = [
                (ours(passes), theirs(passes)) if n % 2 == 0 else (theirs(passes), ours(passes))[::-1]
                for n in range(rounds)
            ]
            child.stdin.close()
    mine, c = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"numpy, all cores: median {mine / 1e9:.2f} GB/s, best {max(a for a, _ in pairs) / 1e9:.2f}")
    print(f"C loop, all cores: median {c / 1e9:.2f} GB/s, best {max(b for _, b in pairs) / 1e9:.2f}")
    print(
        f"ratio of medians {mine / c:.3f}; median of pairwise ratios {statistics.median(a / b for a, b in pairs):.3f}"
    )
    best = cpu.measure()
    print(f"rigbench bandwidth: {best.read_bytes_per_s or 0:.4g} B/s with {best.threads} threads ({best.source})")
    return 0


def compiled(folder: Path) -> str:
    """The C program, built with whichever compiler is there."""
    source, program = folder / "read.c", folder / "read"
    source.write_text(C_SOURCE)
    for compiler in ("cc", "gcc", "clang"):
        try:
            subprocess.run([compiler, "-O3", "-march=native", "-pthread", str(source), "-o", str(program)], check=True)
            return str(program)
        except FileNotFoundError:
            continue
    sys.exit("no C compiler (cc, gcc or clang) was found; install one to compare with")


if __name__ == "__main__":
    sys.exit(main())
