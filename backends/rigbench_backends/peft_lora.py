"""Fine-tuning with PyTorch: transformers' models, peft's adapters, AdamW. On CUDA, on Apple's GPU through MPS, or on a CPU.

A step is forward, loss, backward, optimizer, and gradients to none; it is stamped when the device has done all of it. `lora` and
`full` train the weights in the type that the options name, `qlora` holds them in 4 bits (bitsandbytes' NF4). What a case trained is
gone with the next one: adapters are taken off, weights that were trained are loaded anew.

    rigbench run finetune --backend peft_lora --model synthetic:tiny:BF16
"""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigbench_backends import base
from rigbench_backends.training import TrainingSession

PACKAGES = ("torch", "transformers", "peft")
INSTALL = (
    "pip install torch transformers peft (and bitsandbytes for qlora), or --python with an interpreter that has them"
)
QLORA_INSTALL = "pip install bitsandbytes"
OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory|bad_alloc|alloc.*failed", re.I)
DTYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
MODULES = {"attention": ["q_proj", "v_proj"], "all": "all-linear"}
KINDS = {"cuda": "cuda", "mps": "metal", "cpu": "cpu"}
"""PyTorch's name of a device -> as in EngineInfo."""


@dataclass(frozen=True, slots=True)
class PeftOptions:
    """What people tune, under the libraries' own names where they have one."""

    device: str | None = base.option(None, "left out: the GPU where there is one", choices=("cuda", "mps", "cpu"))
    dtype: str = base.option("bf16", "type of the weights and of the arithmetic", choices=tuple(DTYPES))
    modules: str = base.option(
        "attention", "what gets adapters: q_proj and v_proj, or every matrix", choices=tuple(MODULES)
    )
    learning_rate: float = base.option(1e-3, "of AdamW", least=0)
    gradient_checkpointing: bool = base.option(False, "computes activations twice and keeps fewer")
    threads: int | None = base.option(None, "threads of a CPU", "-t", "--threads", least=1)


def _torch() -> tuple[Any, str]:
    """(torch, the versions of all packages). EngineError("unavailable") if one is missing or broken."""
    try:
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
        import torch
    except importlib.metadata.PackageNotFoundError as error:
        raise base.EngineError("unavailable", f"{error.name} is not installed in this interpreter") from None
    except (ImportError, OSError) as error:
        raise base.EngineError(
            "unavailable", f"torch does not load in this interpreter ({_one_line(error)})"
        ) from error
    return torch, versions


def _device(torch: Any, name: str | None) -> tuple[str, str]:
    """(PyTorch's name of the device, what it is called). EngineError("options") if it is not there."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is not None and not here.get(name):
        raise base.EngineError("options", f"device = {name!r}: torch in this interpreter has none")
    device = name or next(kind for kind, is_here in here.items() if is_here)
    if device == "cuda":
        return device, str(torch.cuda.get_device_name(0))
    return device, {"mps": "Apple GPU", "cpu": "CPU"}[device]


def _one_line(error: BaseException) -> str:
    return textwrap.shorten(str(error), 240, placeholder="…") or type(error).__name__


def _engine_error(kind: str, message: str, error: BaseException) -> base.EngineError:
    words = _one_line(error)
    kind = "memory" if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(words) else kind
    return base.EngineError(kind, f"{message}: {words}")


class PeftSession(TrainingSession):
    """One model, with or without adapters on it."""

    def __init__(self, model: base.ModelFile, options: PeftOptions) -> None:
        super().__init__()
        if not model.path or not Path(model.path).is_dir():
            raise base.EngineError("load", f"there is no model folder {model.path or model.name}")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the folder is whole
        self._torch, versions = _torch()
        self._options, self._path = options, str(model.path)
        self._device, device_name = _device(self._torch, options.device)
        if options.threads:
            self._torch.set_num_threads(options.threads)
        self._model: Any = None
        self._optimizer: Any = None
        self._in_4_bits = self._is_changed = False
        self._peaks: dict[str, int] = {}
        self._load(in_4_bits=False)
        self.info = self._describe(versions, device_name)

    def _load(self, in_4_bits: bool) -> None:
        """The weights as they are in the folder, or in 4 bits."""
        import transformers

        torch = self._torch
        dtype = getattr(torch, DTYPES[self._options.dtype])
        extra: dict[str, Any] = {}
        if in_4_bits:
            if importlib.util.find_spec("bitsandbytes") is None:
                raise base.EngineError("options", f"qlora needs bitsandbytes in this interpreter: {QLORA_INSTALL}")
            extra["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
            )
        self._model = self._optimizer = None
        gc.collect()
        transformers.utils.logging.set_verbosity_error()
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(self._path, dtype=dtype, **extra)
            self._model = model if in_4_bits else model.to(self._device)
        except Exception as error:  # whatever is wrong in a folder of files comes as any of a dozen types
            raise _engine_error("load", f"transformers cannot load {Path(self._path).name}", error) from error
        self._in_4_bits, self._is_changed = in_4_bits, False

    def _describe(self, versions: str, device_name: str) -> base.EngineInfo:
        torch, model = self._torch, self._model
        config, parameters = model.config, list(model.parameters())
        matrices = [each for each in model.modules() if isinstance(each, torch.nn.Linear)]
        if not getattr(config, "num_experts", None) and not getattr(config, "num_local_experts", None):
            self._matrix_weights = sum(each.in_features * each.out_features for each in matrices)
        bus_ids: tuple[str, ...] = ()
        if self._device == "cuda":
            card = torch.cuda.get_device_properties(0)
            place = base.bus_id(f"{card.pci_domain_id:04x}:{card.pci_bus_id:02x}:{card.pci_device_id:02x}.0")
            bus_ids = (place,) if place else ()
        return base.EngineInfo(
            engine="PEFT",
            version=versions,
            device=KINDS[self._device],
            device_names=(device_name,),
            weights_bytes=sum(each.nbytes for each in parameters),
            parameters=sum(each.numel() for each in parameters),
            vocab_size=config.vocab_size,
            context_limit=getattr(config, "max_position_embeddings", None),
            max_users=1,
            threads=torch.get_num_threads() if self._device == "cpu" else None,
            compute_type=self._options.dtype,
            bus_ids=bus_ids,
            resolved={
                "modules": self._options.modules,
                "optimizer": "AdamW",
                "learning_rate": self._options.learning_rate,
                "attention": config._attn_implementation,
                "gradient_checkpointing": self._options.gradient_checkpointing,
            },
            detail={"architecture": config.model_type},
        )

    def _arrange(self, work: Any) -> int:
        import peft

        torch, in_4_bits = self._torch, work.method == "qlora"
        self._optimizer = None
        if isinstance(self._model, peft.PeftModel):
            self._model = self._model.unload()
        if self._model is None or self._is_changed or self._in_4_bits != in_4_bits:
            self._load(in_4_bits)
        torch.manual_seed(0)  # adapters of a case begin alike in every run
        if work.method == "full":
            self._is_changed = True
            self._model.requires_grad_(True)
        else:
            config = peft.LoraConfig(
                r=work.rank,
                lora_alpha=2 * work.rank,
                target_modules=MODULES[self._options.modules],
                task_type="CAUSAL_LM",
            )
            try:
                self._model = peft.get_peft_model(self._model, config)
            except ValueError as error:  # a model whose layers bear other names
                raise _engine_error("options", f"modules = {self._options.modules!r} do not fit", error) from error
        if self._options.gradient_checkpointing:
            self._model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            self._model.enable_input_require_grads()
        self._model.train()
        trained = [each for each in self._model.parameters() if each.requires_grad]
        self._optimizer = torch.optim.AdamW(trained, lr=self._options.learning_rate)
        self._peaks = {}
        return sum(each.numel() for each in trained)

    def _batch(self, sequences: list[list[int]]) -> Any:
        return self._torch.tensor(sequences, device=self._device)

    def _train(self, batch: Any) -> float:
        torch = self._torch
        try:
            logits = self._model(input_ids=batch[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())
            self._peak("forward")
            loss.backward()
            self._peak("backward")
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            self._peak("optimizer")
            value = float(loss.item())
            if self._device != "cpu":
                getattr(torch, self._device).synchronize()
        except (RuntimeError, ValueError, MemoryError) as error:
            raise _engine_error("decode", "torch failed in a step", error) from error
        return value

    def _peak(self, phase: str) -> None:
        """The most memory that a part of a step has had so far. The allocator's own count: nothing waits for the device."""
        if self._device == "cuda":
            self._peaks[phase] = max(self._peaks.get(phase, 0), self._torch.cuda.max_memory_allocated())
            self._torch.cuda.reset_peak_memory_stats()
        elif self._device == "mps":
            self._peaks[phase] = max(self._peaks.get(phase, 0), self._torch.mps.driver_allocated_memory())

    def memory(self) -> base.EngineMemory:
        weights = self.info.weights_bytes
        if not self._peaks:
            return base.EngineMemory(weights, reason="torch counts no memory of a processor")
        phase = max(self._peaks, key=lambda name: self._peaks[name])
        return base.EngineMemory(
            weights, None, None, self._peaks[phase], "a training has no cache", device_peak_phase=phase
        )

    def close(self) -> None:
        self._model = self._optimizer = None
        self._waiting.clear()
        gc.collect()
        if self._device == "cuda":
            self._torch.cuda.empty_cache()


class PeftBackend(base.Backend):
    """peft on PyTorch as a backend of training steps."""

    name = "peft_lora"
    Options = PeftOptions
    workloads = ("train",)
    model_formats = ("safetensors",)
    default_model = "synthetic:llama-160m:BF16"
    device_kinds = ("cuda", "metal", "cpu")

    def open(self, model: base.ModelFile, options: PeftOptions) -> PeftSession:
        return PeftSession(model, options)

    def probe(self, options: PeftOptions | None = None) -> base.Probe:
        try:
            torch, versions = _torch()
            device, name = _device(torch, options.device if options else None)
        except base.EngineError as error:
            return base.Probe(False, reason=str(error), fix=INSTALL)
        gpus = (_device(torch, None)[1],) if device != "cpu" or _device(torch, None)[0] != "cpu" else ()
        gpu_fix = "install torch's build for it: https://pytorch.org/get-started"
        return base.Probe(True, versions, KINDS[device], (f"{KINDS[device]}: {name}",), gpus=gpus, gpu_fix=gpu_fix)

    def platform(self, info: base.EngineInfo) -> str:
        return info.device

    def diagnose(self, lines: Sequence[str], phase: str, signal: str | None, device: str | None) -> base.Diagnosis:
        cause = base.telling_line(lines)
        if cause and OUT_OF_MEMORY.search(cause):
            return base.Diagnosis(cause, "take a smaller batch, a shorter sequence, or gradient_checkpointing=true")
        return base.Diagnosis(cause)


BACKEND = PeftBackend()
