"""MLX in this process, through mlx-lm's BatchGenerator: continuous batching on Apple's Metal, on CUDA, or on a CPU.

MLX computes ahead: a step queues the next token's graph, then waits for the current tokens, so that the device never idles
between them. A token is stamped as `GenerationBatch._step` returns: its ids have just been copied to the host, and what
follows in the same call (a waiting prompt's next chunk, the caches of sequences that end) is no part of it. Stamping the
call's end instead would date tokens late by a whole prompt chunk.

A model that needs several machines: `mlx.launch -n 2 -- rigbench run ...` runs the same suite on every rank; each loads its share,
and all take the times of rank 0, so that they decide alike when warm-up is over. The result is that of rank 0.

    rigbench run smoke --backend mlx_lm --model synthetic:tiny:4bit
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os
import re
import sys
import textwrap
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigbench_backends import base

OLDEST_MLX_LM = (0, 32)
"""The first whose BatchGenerator has `next_generated` and a batch that this file can stamp."""
OUT_OF_MEMORY = re.compile(r"out ?of ?memory|insufficient memory|\[.*alloc.*\]|bad_alloc|attempting to allocate", re.I)


@dataclass(frozen=True, slots=True)
class MlxOptions:
    """What people tune in MLX, under mlx-lm's own names."""

    device: str | None = base.option(None, "gpu or cpu; left out: the GPU where MLX has one", choices=("gpu", "cpu"))
    prefill_step_size: int = base.option(
        2048, "prompt tokens of a sequence in one step", "--prefill-step-size", least=1
    )
    prefill_batch_size: int = base.option(8, "prompts computed together", least=1)
    pipeline: bool = base.option(
        False, "under mlx.launch: layers over the machines, not parts of each layer", "--pipeline"
    )


def install_command(platform: str = sys.platform) -> str:
    """How MLX is installed on this kind of machine."""
    if platform == "darwin":
        return "pip install 'rigbench[mlx]'"
    if platform == "win32":
        return "MLX has no build for Windows; in WSL 2: pip install 'mlx[cpu]' mlx-lm"
    kind = "cuda12" if Path("/proc/driver/nvidia/version").exists() else "cpu"
    return f"pip install 'mlx[{kind}]' mlx-lm; in a checkout: python scripts/engine_env.py mlx"


def modules() -> tuple[Any, str]:
    """(mlx.core, version of mlx-lm). EngineError("unavailable") if either is missing, broken or too old."""
    try:
        version = importlib.metadata.version("mlx-lm")
        import mlx.core as mx
    except importlib.metadata.PackageNotFoundError:
        raise base.EngineError("unavailable", "mlx-lm is not installed in this interpreter") from None
    except (ImportError, OSError) as error:
        raise base.EngineError("unavailable", f"MLX does not load in this interpreter ({_one_line(error)})") from error
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_MLX_LM:
        oldest = ".".join(map(str, OLDEST_MLX_LM))
        raise base.EngineError("unavailable", f"mlx-lm {version} is too old; {oldest} or later is needed")
    return mx, version


def device_of(mx: Any, name: str | None) -> tuple[Any, str, str]:
    """(MLX's device, its kind as in EngineInfo, its name). EngineError("options") if it is not there."""
    if name not in (None, "gpu", "cpu"):
        raise base.EngineError("options", f"device = {name!r}: choose gpu or cpu")
    has_gpu = mx.is_available(mx.gpu)
    if name == "gpu" and not has_gpu:
        raise base.EngineError("options", "device = 'gpu': MLX in this interpreter has no GPU to use")
    on_gpu = has_gpu and name != "cpu"
    device = mx.Device(mx.gpu if on_gpu else mx.cpu, 0)
    kind = "cpu" if not on_gpu else "metal" if mx.metal.is_available() else "cuda"
    return device, kind, str(mx.device_info(device).get("device_name", kind))


def _one_line(error: BaseException) -> str:
    return textwrap.shorten(str(error), 240, placeholder="…") or type(error).__name__


def engine_error(kind: str, message: str, error: BaseException) -> base.EngineError:
    """With MLX's own words; its allocation failures are of kind `memory` whatever was being done."""
    words = _one_line(error)
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(words):
        kind = "memory"
    return base.EngineError(kind, f"{message}: {words}")


def load_error(error: Exception, name: str, version: str) -> base.EngineError:
    """Why mlx-lm (of that version) could not load the folder of that name."""
    if unknown := re.search(r"Model type (\S+) not supported", str(error)):
        return base.EngineError("load", f"mlx-lm {version} does not know the architecture {unknown[1]}")
    return engine_error("load", f"MLX cannot load {name}", error)


class MlxSession(base.Session):
    """One model in MLX. `prepare` makes a generator for that many users; the weights stay."""

    def __init__(self, model: base.ModelFile, options: MlxOptions) -> None:
        if not model.path or not Path(model.path).is_dir():
            raise base.EngineError("load", f"there is no model folder {model.path or model.name}")
        for name in ("prefill_step_size", "prefill_batch_size"):
            if getattr(options, name) < 1:
                raise base.EngineError("options", f"{name} = {getattr(options, name)}: at least 1")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the folder is whole; a look at a hub would be in the measurement
        mx, version = modules()
        self._mx, self._options = mx, options
        self._device, kind, device_name = device_of(mx, options.device)
        mx.set_default_device(self._device)
        self._group = mx.distributed.init()
        self._stream = mx.new_stream(self._device)
        self._generator: Any = None
        self._waiting: deque[base.Request] = deque()
        self._running: dict[int, int] = {}
        self._uids: list[int] = []
        self._users = self._stamp_ns = self._shift_ns = self._room_bytes = self._cache_peak_bytes = 0
        self._cache: list[Any] = []
        self.info = self._describe(version, self._load(model, version), kind, device_name)

    def _load(self, model: base.ModelFile, version: str) -> dict[str, Any]:
        """The model's configuration. One token is run: it shows that this device can, and how large the caches (`_cache`) of one
        sequence are."""
        from mlx_lm.models.cache import make_prompt_cache
        from mlx_lm.utils import load, sharded_load

        mx, name = self._mx, Path(str(model.path)).name
        try:
            if self._group.size() > 1:
                groups = (self._group, None) if self._options.pipeline else (None, self._group)
                self._model, self._tokenizer, config = sharded_load(model.path, *groups, return_config=True)
            else:
                self._model, self._tokenizer, config = load(model.path, return_config=True)
        except Exception as error:  # whatever is wrong in a folder of files comes as any of a dozen types
            raise load_error(error, name, version) from error
        caches = make_prompt_cache(self._model)
        try:
            with mx.stream(self._stream):
                mx.eval(self._model(mx.array([[0]]), cache=caches))
        except Exception as error:  # as above: a model's own code runs here for the first time
            raise engine_error("load", f"MLX cannot run {name} here", error) from error
        self._cache = [part for cache in caches for part in getattr(cache, "caches", (cache,))]
        return {**config, **(config.get("text_config") or {})}

    def _describe(self, version: str, config: dict[str, Any], kind: str, device_name: str) -> base.EngineInfo:
        from mlx.utils import tree_flatten
        from mlx_lm.utils import get_total_parameters

        mx, ranks = self._mx, self._group.size()
        detail: dict[str, Any] = {"architecture": config.get("model_type")}
        if quantization := config.get("quantization"):
            detail["quantization"] = {key: quantization[key] for key in ("bits", "group_size") if key in quantization}
        if ranks > 1:
            sharding = "pipeline" if self._options.pipeline else "tensor"
            detail |= {"ranks": ranks, "rank": self._group.rank(), "sharding": sharding}
        widths = [cache.keys.dtype.size for cache in self._cache if getattr(cache, "keys", None) is not None]
        return base.EngineInfo(
            engine="MLX",
            version=f"mlx {mx.__version__}, mlx-lm {version}",
            device=kind,
            device_names=(device_name,),
            weights_bytes=sum(weight.nbytes for _, weight in tree_flatten(self._model.parameters())),
            parameters=int(get_total_parameters(self._model)),
            vocab_size=config.get("vocab_size"),
            context_limit=config.get("max_position_embeddings"),
            kv_bits=8.0 * max(widths, default=2),
            resolved={
                "prefill_step_size": self._options.prefill_step_size,
                "prefill_batch_size": self._options.prefill_batch_size,
                "cache": sorted({type(cache).__name__ for cache in self._cache}),
            },
            detail=detail,
        )

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def prepare(self, users: int, context_tokens: int) -> None:
        mx = self._mx
        room_bytes = users * self._cache_bytes(context_tokens)
        device = mx.device_info(self._device)
        memory_bytes = device.get("memory_size") or device.get("total_memory")
        if memory_bytes and room_bytes + (self.info.weights_bytes or 0) > memory_bytes:
            need = (
                f"{users} users of {context_tokens} tokens need a cache of {room_bytes / 1e9:.1f} GB beside the weights"
            )
            have = f"{self.info.device_names[0]} has {memory_bytes / 1e9:.1f} GB in all"
            raise base.EngineError("memory", f"{need}, and {have}")
        from mlx_lm.generate import BatchGenerator

        self._end_generator()
        mx.reset_peak_memory()
        self._generator = BatchGenerator(
            self._model,
            completion_batch_size=users,
            prefill_batch_size=min(users, self._options.prefill_batch_size),
            prefill_step_size=self._options.prefill_step_size,
            stream=self._stream,
        )
        self._watch(self._generator)
        self._users, self._room_bytes = users, room_bytes

    def _watch(self, generator: Any) -> None:
        """Stamp each step of the batch as its tokens reach the host; look at the caches where they are at their largest."""
        batch: Any = getattr(generator, "_generation_batch", None)
        if not hasattr(batch, "_step"):
            batch_of = f"the batch of mlx-lm {self.info.version.rpartition(' ')[2]}"
            raise base.EngineError("unavailable", f"rigbench does not know {batch_of}: install mlx-lm 0.32")
        compute = batch._step

        def step() -> Any:
            computed = compute()
            self._stamp_ns = self.clock()
            if any(done + 1 >= most for done, most in zip(batch._num_tokens, batch.max_tokens, strict=True)):
                self._cache_peak_bytes = max(self._cache_peak_bytes, generator.prompt_cache_nbytes)
            return computed

        batch._step = step

    def _cache_bytes(self, tokens: int) -> int:
        """What the caches of one sequence take at this context. They grow by whole steps (256 tokens), windows up to their size."""
        total = 0
        for cache in self._cache:
            step, keys = getattr(cache, "step", 0), getattr(cache, "keys", None)
            if step and keys is not None:
                rows = -(-min(tokens, getattr(cache, "max_size", None) or tokens) // step) * step
                total += cache.nbytes * rows // keys.shape[2]
            else:
                total += cache.nbytes  # a recurrent state: the same at any length
        return total

    def clock(self) -> int:
        """`time.perf_counter_ns`; under mlx.launch every rank follows rank 0's."""
        return time.perf_counter_ns() + self._shift_ns

    def submit(self, request: base.Request) -> None:
        self._waiting.append(request)

    def step(self) -> base.Step:
        while self._waiting and len(self._running) < self._users:
            request = self._waiting.popleft()
            [uid] = self._generator.insert([list(request.prompt)], [request.output_tokens])
            self._running[uid] = request.id
        if not self._running:
            return base.IDLE
        try:
            responses = self._generator.next_generated()
        except (RuntimeError, ValueError, MemoryError) as error:
            self._running.clear()
            raise engine_error("decode", "MLX failed in a step", error) from error
        uids = [response.uid for response in responses]
        ends = {response.uid for response in responses if response.finish_reason is not None}
        if self._group.size() > 1 and (ends or uids != self._uids):
            self._follow_rank_0()
        self._uids = uids
        events = [base.Event(self._running[uid], 1, uid in ends) for uid in uids]
        for uid in ends:
            del self._running[uid]
        return base.Step(self._stamp_ns, events, bool(ends), [response.token for response in responses])

    def _follow_rank_0(self) -> None:
        """Take rank 0's time where a request's first or last token is: what is decided from them is then the same everywhere."""
        mx = self._mx
        own = self._stamp_ns if self._group.rank() == 0 else 0
        with mx.stream(self._stream):  # behind the step that is being computed: two streams could mix up their messages
            stamp = int(mx.distributed.all_sum(mx.array([own], mx.int64)).item())
        self._shift_ns += stamp - self._stamp_ns
        self._stamp_ns = stamp

    def memory(self) -> base.EngineMemory:
        peak, weights = self._mx.get_peak_memory(), self.info.weights_bytes or 0
        if not self._cache_peak_bytes:
            reason = "nothing has been generated yet: the cache is a plan"
            return base.EngineMemory(weights, self._room_bytes, device_peak_bytes=peak, reason=reason)
        cache = self._cache_peak_bytes
        return base.EngineMemory(weights, cache, max(0, peak - weights - cache), peak)

    def _end_generator(self) -> None:
        self._waiting.clear()
        self._running.clear()
        self._uids = []
        self._cache_peak_bytes = 0
        if self._generator is not None:
            with contextlib.suppress(RuntimeError):  # of a step that had failed already
                self._mx.synchronize(self._stream)  # it computes one step ahead
            self._generator.close()
            self._generator = None
            gc.collect()  # its batches know the generator through `_watch`
            self._mx.clear_cache()

    def close(self) -> None:
        self._end_generator()
        self._model = self._tokenizer = None
        self._cache = []
        gc.collect()
        self._mx.clear_cache()


class MlxBackend(base.Backend):
    """mlx-lm as a backend."""

    name = "mlx_lm"
    Options = MlxOptions
    model_formats = ("mlx", "safetensors")
    default_model = "synthetic:llama-1.5b:4bit"
    device_kinds = ("metal", "cuda", "cpu")

    def open(self, model: base.ModelFile, options: MlxOptions) -> MlxSession:
        return MlxSession(model, options)

    def probe(self, options: MlxOptions | None = None) -> base.Probe:
        try:
            mx, version = modules()
            device, kind, name = device_of(mx, options.device if options else None)
        except base.EngineError as error:
            return base.Probe(False, reason=str(error), fix=install_command())
        gpus = (device_of(mx, "gpu")[2],) if mx.is_available(mx.gpu) else ()
        gpu_fix = f"install MLX for it, where it can use it: {install_command()}"
        mlx = f"mlx {mx.__version__}, mlx-lm {version}"
        most = mx.device_info(device).get("max_recommended_working_set_size") if kind == "metal" else None
        return base.Probe(True, mlx, kind, (f"{kind}: {name}",), gpus=gpus, memory_bytes=most, gpu_fix=gpu_fix)

    def platform(self, info: base.EngineInfo) -> str:
        return "mlx"


BACKEND = MlxBackend()
