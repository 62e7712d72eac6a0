"""Run in an engine's interpreter, as source: how fast its torch, MLX and numpy multiply matrices. The last line of stdout is JSON.

python -c "$(cat gemm_program.py)" cuda 0 8      # kind of device, its index, threads on the processor
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

SIZES = (1024, 2048, 4096, 8192)
SAMPLES, LONG_S = 8, 0.4
Product = Callable[[], object]
"""Multiplies two square matrices once, and waits for it."""


def best_rate(product: Callable[[int], Product]) -> list[float]:
    """Operations per second, 2 n^3 a product, of each sample of the size that gave the fastest. Sizes grow until a product takes
    LONG_S: what is restless in a small one is nothing there."""
    best: list[float] = []
    for n in SIZES:
        run = product(n)
        seconds: list[float] = []
        while len(seconds) <= SAMPLES and (len(seconds) < 3 or sum(seconds) < 2 * LONG_S):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
            if len(seconds) == 2 and min(seconds) > 2 * LONG_S:  # a type that is not made for this processor
                return best or [2 * n**3 / min(seconds)]
        best = max(best, [2 * n**3 / each for each in seconds[1:]], key=lambda rates: max(rates, default=0.0))
        if min(seconds) > LONG_S:
            break
    return best


def with_torch(kind: str, index: int, threads: int) -> Iterator[tuple[str, Callable[[int], Product]]]:
    """Also of AMD's cards, which torch calls cuda."""
    import torch

    name = {"metal": "mps", "rocm": "cuda", "cuda": "cuda", "cpu": "cpu"}.get(kind)
    module: Any = getattr(torch, name or "", None)
    if name is None or (name != "cpu" and not module.is_available()):
        return
    device = torch.device(name if name in ("cpu", "mps") else f"{name}:{index}")
    if name == "cpu":
        torch.set_num_threads(threads)

    def product(dtype: Any) -> Callable[[int], Product]:
        def of_size(n: int) -> Product:
            whole = dtype == torch.int8
            a, b = (torch.randn(n, n, device=device).mul(9 if whole else 1).to(dtype) for _ in range(2))
            # a layer's layout: f16 is ten times faster in it
            multiply = torch._int_mm if whole else torch.nn.functional.linear
            return lambda: (multiply(a, b), name == "cpu" or module.synchronize())

        return of_size

    for short, dtype in (
        ("f32", torch.float32),
        ("bf16", torch.bfloat16),
        ("f16", torch.float16),
        ("int8", torch.int8),
    ):
        yield short, product(dtype)


def with_mlx(kind: str, index: int, threads: int) -> Iterator[tuple[str, Callable[[int], Product]]]:
    """Of Metal and CUDA; on a processor numpy and ggml are faster."""
    import mlx.core as mx

    if kind not in ("metal", "cuda") or not mx.is_available(mx.gpu):
        return

    def product(dtype: Any) -> Callable[[int], Product]:
        def of_size(n: int) -> Product:
            a, b = (mx.random.normal((n, n)).astype(dtype) for _ in range(2))
            mx.eval(a, b)
            return lambda: mx.eval(a @ b)

        return of_size

    for short, dtype in (("f32", mx.float32), ("bf16", mx.bfloat16), ("f16", mx.float16)):
        yield short, product(dtype)


def with_numpy(kind: str, index: int, threads: int) -> Iterator[tuple[str, Callable[[int], Product]]]:
    """Of the processor, in as many threads as its BLAS takes."""
    import numpy as np

    def of_size(n: int) -> Product:
        a, b = (np.random.default_rng(seed).random((n, n), dtype=np.float32) for seed in range(2))
        out = np.empty_like(a)
        return lambda: np.matmul(a, b, out=out)

    if kind == "cpu":
        yield "f32", of_size


LIBRARIES = {"torch": with_torch, "mlx": with_mlx, "numpy": with_numpy}


def main(kind: str, index: int, threads: int) -> dict[str, Any]:
    """The answer for the parent: samples in operations per second by type and library, and why others gave none."""
    rates: dict[str, dict[str, list[float]]] = {}
    reasons: list[str] = []
    for library, products in LIBRARIES.items():
        try:
            for short, product in products(kind, index, threads):
                try:
                    rates.setdefault(short, {})[library] = best_rate(product)
                except Exception as error:  # a type that this device does not know, or no memory
                    reasons.append(f"{library} {short}: {type(error).__name__}")
        except Exception as error:  # not in this interpreter
            reasons.append(f"{library}: {type(error).__name__}")
    return {"rates": rates, "reasons": reasons}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))
