"""Fine-tuning with MLX: mlx-lm's models, adapters and loss, AdamW. On Apple's Metal, on CUDA, or on a CPU.

A step is the one that mlx-lm's trainer compiles: loss, gradients and the optimizer's update as one graph. It is stamped when the
device has done all of it and the allocator's cache is empty again: there the trainer reads its own clock. `lora` and `full` train
weights of 16 bits and more, `qlora` adapters beside weights in few bits: those of the model as it is, or 4 bits made of it. What a
case trained is gone with the next one: adapters are taken off, weights that were trained are loaded anew.

    rigbench run finetune --backend mlx_lora --model synthetic:tiny:BF16
"""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rigbench_backends import base, mlx_lm
from rigbench_backends.training import TrainingSession

ATTENTION = ("q_proj", "v_proj")
SCALE = 2.0
"""What an adapter's product is multiplied with: peft's alpha / rank for an alpha of twice the rank."""
GROUP_SIZE, BITS = 64, 4
"""Of the weights that `qlora` makes: mlx-lm's own defaults."""
TYPES = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}


@dataclass(frozen=True, slots=True)
class MlxLoraOptions:
    """What people tune, under mlx-lm's own names where it has one."""

    device: str | None = base.option(None, "gpu or cpu; left out: the GPU where MLX has one", choices=("gpu", "cpu"))
    modules: str = base.option(
        "attention", "what gets adapters: q_proj and v_proj, or every matrix", choices=("attention", "all")
    )
    learning_rate: float = base.option(1e-3, "of AdamW", "--learning-rate", least=0)
    grad_checkpoint: bool = base.option(False, "computes activations twice and keeps fewer", "--grad-checkpoint")


class MlxLoraSession(TrainingSession):
    """One model in MLX, with or without adapters on it."""

    def __init__(self, model: base.ModelFile, options: MlxLoraOptions) -> None:
        super().__init__()
        if not model.path or not Path(model.path).is_dir():
            raise base.EngineError("load", f"there is no model folder {model.path or model.name}")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the folder is whole
        self._mx, self._version = mlx_lm.modules()
        self._options, self._path = options, Path(model.path)
        device, kind, device_name = mlx_lm.device_of(self._mx, options.device)
        self._mx.set_default_device(device)
        self._model: Any
        self._optimizer: Any
        self._step: Any = None
        self._state: list[Any] = []
        self._bare: list[tuple[str, Any]] = []
        self._is_changed = self._made_4_bits = False
        config = self._load(in_4_bits=False)
        if options.grad_checkpoint:
            from mlx_lm.tuner.trainer import grad_checkpoint

            grad_checkpoint(self._model.layers[0])  # of all layers of this class, those of a model loaded later too
        self.info = self._describe(config, kind, device_name)

    def _load(self, in_4_bits: bool) -> dict[str, Any]:
        """The weights as they are in the folder, or 4 bits made of them; the model's configuration."""
        from mlx_lm.utils import load_model, maybe_set_recommended_wired_limit, quantize_model

        mx = self._mx
        self._model = self._optimizer = self._step = None
        self._state, self._bare = [], []
        gc.collect()
        mx.clear_cache()
        maybe_set_recommended_wired_limit()  # as the trainer does
        try:
            self._model, config = load_model(self._path, lazy=in_4_bits)
            if in_4_bits:
                self._model, _ = quantize_model(self._model, config, GROUP_SIZE, BITS)
                mx.eval(self._model.parameters())
        except Exception as error:  # whatever is wrong in a folder of files comes as any of a dozen types
            raise mlx_lm.load_error(error, self._path.name, self._version) from error
        self._made_4_bits, self._is_changed = in_4_bits, False
        return {**config, **(config.get("text_config") or {})}

    def _describe(self, config: dict[str, Any], kind: str, device_name: str) -> base.EngineInfo:
        from mlx.utils import tree_flatten
        from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
        from mlx_lm.utils import get_total_parameters

        modules = [module for _, module in self._model.named_modules()]
        self._bits = (config.get("quantization") or {}).get("bits")
        if not any(isinstance(module, SwitchLinear | QuantizedSwitchLinear) for module in modules):
            self._matrix_weights = sum(map(self._weights_of, modules))
            if config.get("tie_word_embeddings"):
                self._matrix_weights += config["vocab_size"] * config["hidden_size"]
        weights = [weight for _, weight in tree_flatten(self._model.parameters())]
        widest = max(weights, key=lambda weight: 0 if weight.dtype == self._mx.uint32 else weight.size)
        return base.EngineInfo(
            engine="MLX",
            version=f"mlx {self._mx.__version__}, mlx-lm {self._version}",
            device=kind,
            device_names=(device_name,),
            weights_bytes=sum(weight.nbytes for weight in weights),
            parameters=int(get_total_parameters(self._model)),
            vocab_size=config.get("vocab_size"),
            context_limit=config.get("max_position_embeddings"),
            max_users=1,
            compute_type=TYPES.get(str(widest.dtype).rpartition(".")[2]),
            resolved={
                "modules": self._options.modules,
                "optimizer": "AdamW",
                "learning_rate": self._options.learning_rate,
                "grad_checkpoint": self._options.grad_checkpoint,
            },
            detail={"architecture": config.get("model_type")} | ({"bits": self._bits} if self._bits else {}),
        )

    def _weights_of(self, module: Any) -> int:
        """Weights of a matrix that every token is multiplied with; 0 for any other module."""
        from mlx import nn

        if isinstance(module, nn.QuantizedLinear):
            return int(module.weight.size) * 32 // int(module.bits)
        return int(module.weight.size) if isinstance(module, nn.Linear) else 0

    def _arrange(self, work: Any) -> int:
        from mlx import optimizers
        from mlx.utils import tree_flatten, tree_unflatten

        mx = self._mx
        if work.method != "qlora" and self._bits:
            raise base.EngineError(
                "options",
                f"{work.method} trains beside weights of 16 bits and more; these have {self._bits}: use qlora",
            )
        make_4_bits = work.method == "qlora" and not self._bits
        if self._model is None or self._is_changed or self._made_4_bits != make_4_bits:
            self._load(make_4_bits)
        elif self._bare:
            self._model.update_modules(tree_unflatten(self._bare))
        self._optimizer = self._step = None
        self._state, self._bare = [], []
        mx.random.seed(0)  # adapters of a case begin alike in every run
        self._model.freeze()
        if work.method == "full":
            self._is_changed = True
            self._model.unfreeze()
        else:
            self._add_adapters(work.rank)
        self._model.train()
        trained = self._model.trainable_parameters()
        self._optimizer = optimizers.AdamW(learning_rate=self._options.learning_rate)
        self._optimizer.init(trained)
        self._state = [self._model.state, self._optimizer.state, mx.random.state]
        self._step = self._compile()
        mx.eval(self._state)
        mx.clear_cache()
        mx.reset_peak_memory()
        return sum(weight.size for _, weight in tree_flatten(trained))

    def _add_adapters(self, rank: int) -> None:
        from mlx_lm.tuner.utils import linear_to_lora_layers

        before = dict(self._model.named_modules())
        config: dict[str, Any] = {"rank": rank, "scale": SCALE, "dropout": 0.0}
        if self._options.modules == "attention":
            names = {name for layer in self._model.layers for name, _ in layer.named_modules()}
            config["keys"] = {name for name in names if name.rpartition(".")[2] in ATTENTION}
        try:
            linear_to_lora_layers(self._model, len(self._model.layers), config)
        except ValueError as error:  # a layer that mlx-lm has no adapter for
            self._is_changed = True
            raise mlx_lm.engine_error("options", f"modules = {self._options.modules!r} do not fit", error) from error
        after = dict(self._model.named_modules())
        self._bare = [(name, module) for name, module in before.items() if after[name] is not module]
        if not self._bare:
            raise base.EngineError("options", f"this model has no {' and '.join(ATTENTION)}: take modules=all")

    def _compile(self) -> Any:
        """The trainer's step, for this model, its adapters and their optimizer."""
        from mlx import nn
        from mlx_lm.tuner.trainer import default_loss

        model, optimizer = self._model, self._optimizer
        loss_and_gradients = nn.value_and_grad(model, default_loss)

        @partial(self._mx.compile, inputs=self._state, outputs=self._state)
        def step(ids: Any, lengths: Any) -> Any:
            (loss, _), gradients = loss_and_gradients(model, ids, lengths)
            optimizer.update(model, gradients)
            return loss

        return step

    def _batch(self, sequences: list[list[int]]) -> Any:
        lengths = [[0, len(sequence)] for sequence in sequences]
        return self._mx.array(sequences), self._mx.array(lengths)

    def _train(self, batch: Any) -> float:
        mx = self._mx
        try:
            loss = self._step(*batch)
            mx.eval(self._state, loss)
            value = float(loss.item())
            mx.clear_cache()
        except (RuntimeError, ValueError, MemoryError) as error:
            raise mlx_lm.engine_error("decode", "MLX failed in a step", error) from error
        return value

    def memory(self) -> base.EngineMemory:
        peak = self._mx.get_peak_memory()
        return base.EngineMemory(self.info.weights_bytes, device_peak_bytes=peak, reason="a training has no cache")

    def close(self) -> None:
        self._model = self._optimizer = self._step = None
        self._state, self._bare = [], []
        self._waiting.clear()
        gc.collect()
        self._mx.clear_cache()


class MlxLoraBackend(base.Backend):
    """mlx-lm's tuner as a backend of training steps."""

    name = "mlx_lora"
    Options = MlxLoraOptions
    workloads = ("train",)
    model_formats = ("mlx", "safetensors")
    default_model = "synthetic:llama-160m:BF16"
    device_kinds = mlx_lm.BACKEND.device_kinds

    def open(self, model: base.ModelFile, options: MlxLoraOptions) -> MlxLoraSession:
        return MlxLoraSession(model, options)

    def probe(self, options: MlxLoraOptions | None = None) -> base.Probe:
        return mlx_lm.BACKEND.probe(mlx_lm.MlxOptions(device=options.device if options else None))

    def platform(self, info: base.EngineInfo) -> str:
        return mlx_lm.BACKEND.platform(info)


BACKEND = MlxLoraBackend()
