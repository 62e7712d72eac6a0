"""llama.cpp in this process, through the low-level bindings of llama-cpp-python, with real continuous batching.

One `llama_batch` per step holds one decode token for every running sequence and as much of the waiting prompts as
`n_batch` leaves room for; a sequence's cache is freed as its request ends and its place goes to the next one. This is what
llama-server does; the high-level `Llama` class does one request at a time.

What it may cost beside `llama_decode` is tens of microseconds a step, so the batch lives in numpy arrays that llama.cpp reads in
place, a step whose sequences did not change writes two short rows (tokens, positions), and greedy sampling is one argmax
over a zero-copy view of the logits (llama.cpp's sampler chain would first fill a candidate array of the vocabulary's size).

    rigbench run smoke --backend llama_cpp --model synthetic:llama-160m:Q4_0
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import json
import os
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigbench_backends import base
from rigbench_backends.llama_cpp import ggml
from rigbench_backends.llama_cpp.trouble import diagnose
from rigbench_backends.process import output_end, output_lines

CACHE_BITS = {"f32": 32, "q8_0": 8.5, "q5_1": 6, "q5_0": 5.5, "q4_1": 5, "q4_0": 4.5, "iq4_nl": 4.5}
"""Bits per cached value, block scales included; 16 of what is not here."""


CACHE_TYPES = ("f16", "bf16", *CACHE_BITS)
SPLIT_MODES = {"none": 0, "layer": 1, "row": 2, "tensor": 3}
LOAD_MODES = {"auto": -1, "off": 0, "on": 1, "mlock": 3, "direct_io": 4}
FLASH_ATTN = {"auto": -1, "off": 0, "on": 1}


@dataclass(frozen=True, slots=True)
class LlamaCppOptions:
    """What people tune in llama.cpp, under llama.cpp's own names. None leaves llama.cpp's default."""

    n_gpu_layers: int = base.option(
        -1, "layers on the GPU; -1 is all, 0 leaves GPUs alone", "-ngl", "--n-gpu-layers", least=-1
    )
    n_batch: int = base.option(2048, "prompt tokens in one call of the engine", "--batch-size", least=1)
    n_ubatch: int = base.option(512, "prompt tokens computed at once", "-ub", "--ubatch-size", least=1)
    threads: int | None = base.option(
        None, "threads that decode; else the cores that compute best", "-t", "--threads", least=1
    )
    threads_batch: int | None = base.option(None, "threads for prompts", "-tb", "--threads-batch", least=1)
    flash_attn: str = base.option("auto", "flash attention", "-fa", "--flash-attn", choices=FLASH_ATTN)
    type_k: str = base.option("f16", "type of the cached keys", "-ctk", "--cache-type-k", choices=CACHE_TYPES)
    type_v: str = base.option("f16", "type of the cached values", "-ctv", "--cache-type-v", choices=CACHE_TYPES)
    kv_unified: bool = base.option(False, "one cache shared by all users, not one stretch each")
    offload_kqv: bool = base.option(True, "the cache is on the GPU")
    swa_full: bool = base.option(False, "a whole cache for layers that look back a window only")
    split_mode: str = base.option("layer", "how several GPUs share a model", "-sm", "--split-mode", choices=SPLIT_MODES)
    main_gpu: int = base.option(0, "the GPU that is used where the model is not split", "-mg", "--main-gpu", least=0)
    tensor_split: tuple[float, ...] = base.option(
        (), "share of the model on each GPU", "-ts", "--tensor-split", least=0
    )
    mmap: str = base.option("auto", "how the file is read", choices=LOAD_MODES)
    repack: bool = base.option(True, "weights are laid out anew for the processor")
    rpc_servers: tuple[str, ...] = base.option(
        (), "HOST:PORT of llama.cpp RPC servers, added as devices", "--rpc", private=True
    )


def build_record() -> dict[str, Any] | None:
    """How this llama.cpp was built, as scripts/engine_build.py noted beside it; None for a build from elsewhere."""
    import llama_cpp

    with contextlib.suppress(OSError, ValueError):
        content = json.loads((Path(llama_cpp.__file__).parent / "rigbench-build.json").read_text(encoding="utf-8"))
        return {name: content[name] for name in ("kind", "level", "compiler", "cmake_args") if name in content}
    return None


def _engine_error(kind: str, message: str, since: int) -> base.EngineError:
    """With what llama.cpp itself has written of it from byte `since` of the output on."""
    cause, fix = diagnose(output_lines(since))
    return base.EngineError(kind, message + (f": {cause}" if cause else "") + (f"; {fix}" if fix else ""))


def _buffer_bytes(kind: str, log: str) -> int | None:
    """Bytes of all buffers of a kind (a pattern) that llama.cpp's log names; None where it names none."""
    sizes = re.findall(kind + r" +buffer size *(?:=|is) +([\d.]+) MiB", log)
    return round(sum(map(float, sizes)) * 2**20) if sizes else None


def _choice(option: str, value: str, choices: dict[str, int]) -> int:
    if value not in choices:
        raise base.EngineError("options", f"{option} = {value!r}: choose one of {', '.join(choices)}")
    return choices[value]


@dataclass(slots=True, eq=False)
class _Sequence:
    """A request in the cache: which sequence it is, how much of its prompt is in, what it owes."""

    request: base.Request
    id: int
    prompt: Any
    owed: int
    position: int = 0
    """Tokens of the prompt that are in the cache."""
    last_token: int = -1


class LlamaCppSession(base.Session):
    """One model and, from `prepare` on, one context."""

    def __init__(self, model: base.ModelFile, options: LlamaCppOptions) -> None:
        import numpy as np

        self._np = np
        self._lib = lib = ggml.bindings()
        self._options = options
        self._threads = options.threads or os.cpu_count() or 1
        self._context: Any = None
        self._context_shape = (0, 0)
        self._waiting: deque[base.Request] = deque()
        self._prefilling: deque[_Sequence] = deque()
        self._decoding: list[_Sequence] = []
        self._rows_are_current = False  # the first rows of the batch hold `_decoding`, tokens and positions included
        self._steps_since_change = 0
        self._logits_reach_above_0 = True
        self._llama_decode = lib.llama_decode
        self._llama_memory_seq_rm = lib.llama_memory_seq_rm
        # As an address: the bindings' own prototype makes two objects a call, at 150 k logits a row as costly as the search.
        get_logits = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        self._llama_get_logits = get_logits(("llama_get_logits", lib._lib))
        if model.path is None:
            raise base.EngineError("load", f"llama.cpp needs a GGUF file, and {model.name} has none")
        if options.rpc_servers:
            ggml.add_rpc_servers(options.rpc_servers)
        devices = ggml.devices()
        log_begin = output_end()
        if model.parts:
            paths = (ctypes.c_char_p * len(model.parts))(*map(os.fsencode, model.parts))
            self._model = lib.llama_model_load_from_splits(paths, len(paths), self._model_params())
        else:
            self._model = lib.llama_model_load_from_file(os.fsencode(model.path), self._model_params())
        if not self._model:
            raise _engine_error("load", f"llama.cpp cannot load {Path(model.path).name}", log_begin)
        self._load_log = "\n".join(output_lines(log_begin))
        self._must_generate_text(Path(model.path).name)
        self._vocab = lib.llama_model_get_vocab(self._model)
        self._n_vocab = lib.llama_vocab_n_tokens(self._vocab)
        self.info = self._describe(devices)

    def _model_params(self) -> Any:
        lib, options = self._lib, self._options
        params = lib.llama_model_default_params()
        params.n_gpu_layers = options.n_gpu_layers
        if options.n_gpu_layers == 0:
            # Without layers there a GPU would still get the weights sent for each long prompt, and be timed as the processor.
            self._no_devices = (ctypes.c_void_p * 1)()  # llama.cpp's list of devices ends with NULL
            params.devices = ctypes.addressof(self._no_devices)
        params.split_mode = _choice("split_mode", options.split_mode, SPLIT_MODES)
        params.main_gpu = options.main_gpu
        params.load_mode = _choice("mmap", options.mmap, LOAD_MODES)
        params.use_extra_bufts = options.repack
        if options.tensor_split:
            limit = lib.llama_max_devices()
            if len(options.tensor_split) > limit:
                parts = f"tensor_split has {len(options.tensor_split)} parts"
                raise base.EngineError("options", f"{parts}; this build takes {limit}")
            self._tensor_split = (ctypes.c_float * limit)(*options.tensor_split)  # llama.cpp keeps the pointer
            params.tensor_split = ctypes.cast(self._tensor_split, ctypes.POINTER(ctypes.c_float))
        return params

    def _must_generate_text(self, name: str) -> None:
        """llama.cpp ends the whole process over a model that is asked for what it cannot do. EngineError("load") instead."""
        architecture = self._metadata("general.architecture")
        if self._lib.llama_model_has_encoder(self._model):
            what = f"has an encoder (architecture {architecture})"
        elif self._metadata(f"{architecture}.attention.causal") == "false":
            what = f"is an encoder (architecture {architecture}), which makes embeddings"
        else:
            return
        self.close()
        limit = "it generates no text token by token, and rigbench measures that alone"
        raise base.EngineError("load", f"{name} {what}: {limit}")

    def _metadata(self, key: str) -> str | None:
        """A value of the model file's metadata as text."""
        value = ctypes.create_string_buffer(256)
        size = self._lib.llama_model_meta_val_str(self._model, key.encode(), value, len(value))
        return value.value.decode("utf-8", "replace") if size >= 0 else None

    def _describe(self, devices: list[ggml.Device]) -> base.EngineInfo:
        import llama_cpp

        lib = self._lib
        gpus = [device for device in devices if device.is_gpu]
        offloads = bool(gpus) and self._options.n_gpu_layers != 0
        # Not all that there are: llama.cpp leaves integrated GPUs beside others alone, and one card known to two backends.
        used = re.findall(r"using device (\S+) \(", self._load_log)
        at_work = [device for device in gpus if device.name in used or not used]
        names = "|".join(re.escape(device.name) for device in at_work) or "(?!)"
        self._on_device = rf"\b(?:{names})(?:_\w+)? +"  # Vulkan0, MTL0_Mapped; Vulkan_Host is the processor's
        self._device_weights = _buffer_bytes(f"{self._on_device}model", self._load_log)
        return base.EngineInfo(
            engine="llama.cpp",
            version=f"llama-cpp-python {llama_cpp.__version__}, llama.cpp {lib.llama_version().decode()}",
            device=ggml.device_kind(at_work) if offloads else "cpu",
            device_names=tuple(d.description for d in (at_work if offloads else devices) if d.is_gpu == offloads),
            bus_ids=tuple(device.bus_id for device in at_work if device.bus_id) if offloads else (),
            build=lib.llama_print_system_info().decode().strip(" |"),
            weights_bytes=lib.llama_model_size(self._model),
            parameters=lib.llama_model_n_params(self._model),
            vocab_size=self._n_vocab,
            context_limit=lib.llama_model_n_ctx_train(self._model),
            max_users=lib.llama_max_parallel_sequences(),
            threads=self._threads,
            resolved=self._resolved(offloads),
            detail={"gpus": [device.description for device in gpus], "build": build_record()},
            kv_bits=(CACHE_BITS.get(self._options.type_k, 16) + CACHE_BITS.get(self._options.type_v, 16)) / 2,
        )

    def _resolved(self, offloads: bool) -> dict[str, Any]:
        """What becomes of the options. Flash attention is decided as a context is made, so one of a single row is made for it."""
        options = self._options
        layers = re.search(r"offloaded (\d+/\d+) layers", self._load_log)
        params = self._context_params(1, 256)
        params.n_batch = params.n_ubatch = 1
        log_begin = output_end()
        context = self._lib.llama_init_from_model(self._model, params)
        if context:
            self._lib.llama_free(context)
        choice = re.findall(r"Flash Attention\b.*\b(enabled|disabled)", "\n".join(output_lines(log_begin)))
        as_asked = {
            name: getattr(options, name) for name in ("n_batch", "type_k", "type_v", "kv_unified", "split_mode")
        }
        return as_asked | {
            "threads": self._threads,
            "threads_batch": options.threads_batch or self._threads,
            "n_ubatch": min(options.n_ubatch, options.n_batch),
            "flash_attn": {"enabled": "on", "disabled": "off"}[choice[-1]] if choice else options.flash_attn,
            "n_gpu_layers": (layers[1] if layers else None) if offloads else "0",
            "repack": "REPACK model buffer" in self._load_log,
        }

    def encode(self, text: str) -> list[int]:
        if self._lib.llama_vocab_type(self._vocab) == 0:
            raise base.EngineError("options", "the model holds no tokenizer: use a workload of kind `tokens`")
        data = text.encode()
        tokens = (self._lib.llama_token * (len(data) + 8))()
        count = self._lib.llama_tokenize(self._vocab, data, len(data), tokens, len(tokens), False, False)
        if count < 0:
            raise base.EngineError("decode", "llama.cpp's tokenizer refused the prompt")
        return list(tokens[:count])

    def prepare(self, users: int, context_tokens: int) -> None:
        lib = self._lib
        most = self.info.max_users or users
        if users > most:
            raise base.EngineError("context", f"{users} users are more than llama.cpp's {most} sequences")
        self._waiting.clear()
        self._prefilling.clear()
        self._decoding.clear()
        if self._context_shape == (users, context_tokens):
            lib.llama_memory_clear(lib.llama_get_memory(self._context), False)
        else:
            self._free_context()
            self._make_context(users, context_tokens)
        self._memory = lib.llama_get_memory(self._context)
        self._batch.n_tokens = 0
        self._free_ids = list(range(users))
        self._rows_are_current = False
        self._steps_since_change = 0

    def _context_params(self, users: int, context_tokens: int) -> Any:
        lib, options = self._lib, self._options
        params = lib.llama_context_default_params()
        params.n_ctx = users * (-(-context_tokens // 256) * 256)  # llama.cpp pads each sequence to 256 cells itself
        params.n_batch = options.n_batch
        params.n_ubatch = min(options.n_ubatch, options.n_batch)
        params.n_seq_max = users
        # Only a prompt's last token and decode tokens are sampled; the default reserves logits for a whole batch.
        params.n_outputs_max = max(users, 1)
        params.n_threads = self._threads
        params.n_threads_batch = options.threads_batch or self._threads
        params.flash_attn_type = _choice("flash_attn", options.flash_attn, FLASH_ATTN)
        for name in ("type_k", "type_v"):
            value = getattr(options, name)
            kind = getattr(lib, f"GGML_TYPE_{value.upper()}", None)
            if kind is None:
                known = "llama.cpp knows f16, f32, bf16, q8_0, q5_0, q4_0 ..."
                raise base.EngineError("options", f"{name} = {value!r}: {known}")
            setattr(params, name, kind)
        for name in ("kv_unified", "offload_kqv", "swa_full"):
            setattr(params, name, getattr(options, name))
        params.no_perf = True
        return params

    def _make_context(self, users: int, context_tokens: int) -> None:
        np, lib, options = self._np, self._lib, self._options
        params = self._context_params(users, context_tokens)
        log_begin = output_end()
        self._context = lib.llama_init_from_model(self._model, params)
        if not self._context:
            room = f"{users} users of {context_tokens} tokens"
            raise _engine_error("memory", f"llama.cpp cannot make a context for {room}", log_begin)
        self._free_threads = ggml.attach_threadpool(lib, self._context, max(params.n_threads, params.n_threads_batch))
        self._context_log = "\n".join(output_lines(log_begin))
        self._step_log_begin = output_end()
        self._context_shape = (users, context_tokens)

        # The batch: arrays that llama.cpp reads in place. Sequence pointers are addresses into `_ids`.
        size = max(options.n_batch, users)
        self._token = np.zeros(size, np.int32)
        self._position = np.zeros(size, np.int32)
        # Single items through these: a step's few writes must touch little code, for a step over the weights leaves the CPU's
        # caches full of them (measured: 70 us a step with array operations, 45 with items, where both take 20 in a hot loop).
        self._token_items, self._position_items = memoryview(self._token), memoryview(self._position)
        self._output = np.zeros(size, np.int8)
        self._ids = np.arange(users, dtype=np.int32)
        self._id_address = self._ids.ctypes.data + 4 * np.arange(users, dtype=np.uint64)
        self._sequence = np.zeros(size, np.uint64)
        self._one = np.ones(size, np.int32)
        batch = lib.llama_batch()
        batch.token = self._token.ctypes.data_as(ctypes.POINTER(lib.llama_token))
        batch.pos = self._position.ctypes.data_as(ctypes.POINTER(lib.llama_pos))
        batch.n_seq_id = self._one.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.seq_id = self._sequence.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(lib.llama_seq_id)))
        batch.logits = self._output.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        self._batch = batch
        self._logits_key = (0, 0)

    def submit(self, request: base.Request) -> None:
        self._waiting.append(request)

    def step(self) -> base.Step:
        while True:
            finishing = self._fill_batch()
            if self._batch.n_tokens == 0:
                return base.IDLE
            self._decode()
            if self._decoding or finishing:
                return self._sample(finishing)

    def _fill_batch(self) -> list[_Sequence]:
        """One row for each decoding sequence, then prompt chunks; returns the sequences whose prompt ends in this batch."""
        while self._waiting and self._free_ids:
            request = self._waiting.popleft()
            prompt = self._np.asarray(request.prompt, self._np.int32)
            self._prefilling.append(_Sequence(request, heapq.heappop(self._free_ids), prompt, request.output_tokens))
        rows = len(self._decoding)
        if self._rows_are_current:  # same sequences as in the last step: `_sample` has left tokens and positions ready
            if not self._prefilling:
                return []
        else:
            # In the order of their ids: with a cache for each user, llama.cpp computes together only neighbours in that order
            # (8 users in falling order take 8 passes over the weights).
            self._decoding.sort(key=lambda sequence: sequence.id)
            for row, sequence in enumerate(self._decoding):
                self._token[row] = sequence.last_token
                self._sequence[row] = self._id_address[sequence.id]
                self._position[row] = len(sequence.prompt) + sequence.request.output_tokens - sequence.owed - 1
                self._output[row] = 1
            self._rows_are_current = True
            self._same_events = [base.Event(sequence.request.id) for sequence in self._decoding]
            self._steps_to_an_end = min((sequence.owed for sequence in self._decoding), default=0)
        finishing = []
        room = self._options.n_batch
        end = rows
        while self._prefilling and end < room:
            sequence = self._prefilling[0]
            start, length = sequence.position, len(sequence.prompt)
            chunk = min(length - start, room - end)
            stop = end + chunk
            self._token[end:stop] = sequence.prompt[start : start + chunk]
            self._position[end:stop] = self._np.arange(start, start + chunk, dtype=self._np.int32)
            self._sequence[end:stop] = self._id_address[sequence.id]
            self._output[end:stop] = 0
            sequence.position += chunk
            end = stop
            if sequence.position < length:
                break
            self._output[end - 1] = 1
            finishing.append(self._prefilling.popleft())
        self._batch.n_tokens = end
        return finishing

    def _decode(self) -> None:
        status = self._llama_decode(self._context, self._batch)
        if status == 1:
            raise base.EngineError("memory", "llama.cpp found no room in the KV cache for the batch")
        if status != 0:
            raise _engine_error("decode", f"llama_decode failed with status {status}", self._step_log_begin)

    def _sample(self, finishing: list[_Sequence]) -> base.Step:
        """Greedy. llama.cpp keeps the rows in batch order: decoding sequences first, then ended prompts."""
        running = len(self._decoding)
        tokens = self._greedy(running + len(finishing))
        now = self.clock()
        self._steps_since_change += 1
        if not finishing and self._steps_since_change < self._steps_to_an_end:
            for row, token in enumerate(tokens):
                self._token_items[row] = token
                self._position_items[row] += 1
            return base.Step(now, self._same_events, False, tokens)
        return self._change(now, finishing, tokens)

    def _greedy(self, rows: int) -> list[Any]:
        """The token of each row: its largest logit, found in llama.cpp's own buffer without a copy.

        Positive floats compare as their bits do, and numpy finds the largest integer half as fast again as the largest float
        (85 us against 110 for 8 rows of 152 k fresh from llama.cpp). `_change` looks whether the largest are positive.
        """
        address = self._llama_get_logits(self._context)
        if (address, rows) != self._logits_key:
            self._logits_key = (address, rows)
            values = (ctypes.c_float * (rows * self._n_vocab)).from_address(address)
            self._logits = self._np.frombuffer(values, self._np.float32).reshape(rows, self._n_vocab)
            self._rows = list(self._logits.view(self._np.int32) if self._logits_reach_above_0 else self._logits)
        return [row.argmax() for row in self._rows]

    def _change(self, now: int, finishing: list[_Sequence], tokens: list[Any]) -> base.Step:
        """A step in which a sequence begins or ends: free what has ended; the next step writes its rows anew."""
        if self._logits_reach_above_0 and (self._logits.max(1) <= 0).any():
            # A model all of whose logits are negative: from here on its floats are compared as floats.
            self._logits_reach_above_0 = False
            self._logits_key = (0, 0)
            tokens = list(self._logits.argmax(1))
        events = []
        going = []
        for row, sequence in enumerate((*self._decoding, *finishing)):
            # The batch was unchanged for `_steps_since_change` steps, this one included; a new sequence is in this one alone.
            sequence.owed -= self._steps_since_change if row < len(self._decoding) else 1
            events.append(base.Event(sequence.request.id, 1, sequence.owed == 0))
            if sequence.owed == 0:
                self._llama_memory_seq_rm(self._memory, sequence.id, -1, -1)
                heapq.heappush(self._free_ids, sequence.id)
            else:
                sequence.last_token = int(tokens[row])
                going.append(sequence)
        ended = len(going) < len(events)
        self._decoding = going
        self._steps_since_change = 0
        self._rows_are_current = False
        return base.Step(now, events, ended, tokens)

    def memory(self) -> base.EngineMemory:
        """Read from llama.cpp's log, which names every buffer it makes: `CPU KV buffer size = 24.00 MiB`."""
        if self._context is None:
            return base.EngineMemory(weights_bytes=self.info.weights_bytes, reason="no context yet")
        kinds = ("(?:KV|RS)", "compute", "output", f"{self._on_device}(?:KV|RS|compute|output)")
        kv, compute, output, device = (_buffer_bytes(kind, self._context_log) for kind in kinds)
        return base.EngineMemory(
            weights_bytes=self.info.weights_bytes,
            kv_cache_bytes=kv,
            compute_bytes=compute + (output or 0) if compute is not None else None,
            device_peak_bytes=(self._device_weights or 0) + (device or 0) or None,
            reason=None if kv is not None and compute is not None else "llama.cpp's log names no buffer sizes",
        )

    def _free_context(self) -> None:
        if self._context is not None:
            self._lib.llama_free(self._context)
            self._free_threads()
            self._context = None
            self._context_shape = (0, 0)

    def close(self) -> None:
        self._free_context()
        if self._model:
            self._lib.llama_model_free(self._model)
            self._model = None


class LlamaCppBackend(base.Backend):
    """llama.cpp as a backend."""

    name = "llama_cpp"
    Options = LlamaCppOptions
    model_formats = ("gguf",)
    default_model = "synthetic:llama-1.5b:Q4_K_M"
    device_kinds = ("cuda", "metal", "rocm", "vulkan", "rpc", "gpu", "cpu")

    def open(self, model: base.ModelFile, options: LlamaCppOptions) -> LlamaCppSession:
        return LlamaCppSession(model, options)

    def probe(self, options: LlamaCppOptions | None = None) -> base.Probe:
        log_begin = output_end()
        try:
            ggml.bindings()
        except base.EngineError as error:
            return base.Probe(False, reason=str(error), fix=ggml.INSTALL)
        import llama_cpp

        devices = ggml.devices()
        whole = options is None or options.split_mode != "none"
        used = ggml.devices_used(devices, None if whole or options is None else options.main_gpu)
        if options and options.n_gpu_layers == 0:
            used = []
        return base.Probe(
            True,
            f"llama-cpp-python {llama_cpp.__version__}",
            ggml.device_kind(used),
            tuple(f"{each.name}: {each.description}" for each in devices),
            gpus=tuple(each.description for each in devices if each.is_gpu),
            used={each.bus_id: each.description for each in used if each.bus_id},
            memory_bytes=sum(each.memory_bytes or 0 for each in used) or None,
            device_error=diagnose(output_lines(log_begin)).cause,
            gpu_fix="scripts/quickstart builds llama.cpp for the GPU, or says what that needs",
        )

    def diagnose(self, lines: Sequence[str], phase: str, signal: str | None, device: str | None) -> base.Diagnosis:
        return diagnose(lines, phase, signal, device)


BACKEND = LlamaCppBackend()
