#!/usr/bin/env python3
"""Does a backend train as fast as its engine does without us? Both in one process, in turn, each pair the other way round.

    .venv/bin/python scripts/bench_training.py peft_lora --python WITH_PEFT/bin/python [--model synthetic:llama-160m:BF16]
    .venv/bin/python scripts/bench_training.py mlx_lora --python .venv-mlx/bin/python

peft has no trainer of its own: beside it stands the loop that its documentation shows (forward, loss, backward, AdamW), which reads
the clock after each step's loss was fetched. mlx-lm has one, and `mlx_lora` is held to the tokens per second that this reports.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = 2000


def peft_loop(folder: str, sequence_tokens: int, batch: int, steps: int) -> Callable[[], float]:
    """Measures once: trained tokens per second after the first step."""
    import peft
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config)
    model.train()
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-3)
    ids = torch.randint(0, model.config.vocab_size, (batch, sequence_tokens + 1))

    def measure() -> float:
        stamps = []
        for _ in range(steps):
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()
            stamps.append(time.perf_counter())
        return (steps - 1) * batch * sequence_tokens / (stamps[-1] - stamps[0])

    return measure


def mlx_trainer(folder: str, sequence_tokens: int, batch: int, steps: int) -> Callable[[], float]:
    """Measures once: what mlx-lm's trainer reports of steps after the first ones, in which it compiles."""
    import mlx.core as mx
    from mlx import optimizers
    from mlx_lm.tuner.callbacks import TrainingCallback
    from mlx_lm.tuner.trainer import TrainingArgs, train
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    mx.set_default_device(mx.cpu)
    model, config = load_model(Path(folder))
    model.freeze()
    keys = {"self_attn.q_proj", "self_attn.v_proj"}
    linear_to_lora_layers(model, len(model.layers), {"rank": 8, "scale": 2.0, "dropout": 0.0, "keys": keys})
    draw = random.Random(0)
    data = [(draw.choices(range(config["vocab_size"]), k=sequence_tokens + 1), 0) for _ in range(batch)]
    reports: list[dict[str, float]] = []

    class Listener(TrainingCallback):
        def on_train_loss_report(self, train_info: dict[str, float]) -> None:
            reports.append(train_info)

    def measure() -> float:
        with (
            tempfile.TemporaryDirectory() as place,
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            arguments = TrainingArgs(
                batch_size=batch,
                iters=2 * steps,
                steps_per_report=steps,
                max_seq_length=sequence_tokens + 1,
                adapter_file=f"{place}/adapters.safetensors",
            )
            optimizer = optimizers.AdamW(learning_rate=1e-3)
            train(model, optimizer, data, args=arguments, training_callback=Listener())
        return reports[-1]["tokens_per_second"]

    return measure


def ours(backend: str, folder: str, sequence_tokens: int, batch: int, steps: int) -> Callable[[], float]:
    """The same through the backend and the load loop."""
    import rigbench_backends
    from rigbench.worker import drive
    from rigbench.workloads import Training
    from rigbench_backends.base import ModelFile

    engine = rigbench_backends.load(backend)
    session: Any = engine.open(ModelFile("m", folder, "safetensors"), engine.Options(device="cpu"))
    work = Training("t", "train", sequence_tokens, batch, steps)
    session.prepare_work(work, 1)
    ids = tuple(random.Random(0).choices(range(session.info.vocab_size), k=work.prompt_length))
    load = drive.Load(1, 1, work.units, lambda user, index: ids)

    def measure() -> float:
        _, (record,), _ = drive.drive(session, load)
        return (work.units - work.step_units) / ((record.unit_us[-1] - record.unit_us[0]) * 1e-6)

    return measure


THEIRS = {"peft_lora": peft_loop, "mlx_lora": mlx_trainer}


def compare(backend: str, folder: str, sequence_tokens: int, batch: int, steps: int, pairs: int) -> None:
    """Prints the median of the pairs' ratios with its 95 % interval."""
    shape = (folder, sequence_tokens, batch, steps)
    sides = {"ours": ours(backend, *shape), "theirs": THEIRS[backend](*shape)}
    for measure in sides.values():
        measure()
    ratios, rates = [], []
    for number in range(pairs):
        rate = {name: sides[name]() for name in sorted(sides, reverse=number % 2 == 1)}
        ratios.append(rate["ours"] / rate["theirs"])
        rates.append(rate["ours"])
    luck = random.Random(0)
    medians = sorted(statistics.median(luck.choices(ratios, k=pairs)) for _ in range(SAMPLES))
    low, high = medians[SAMPLES // 40], medians[-SAMPLES // 40]
    print(
        f"{backend}, batch {batch} x {sequence_tokens} tokens: {statistics.median(rates):.1f} trained tokens/s, "
        f"ours / {THEIRS[backend].__name__} {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f}), {pairs} pairs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", choices=THEIRS)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has the engine")
    parser.add_argument("--model", default="synthetic:llama-160m:BF16")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--sequence-tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=20)
    options = parser.parse_args()
    if options.folder is None:
        from rigbench.models.resolve import resolve

        folder = resolve(options.model, formats=("safetensors",)).file.path
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "harness"), str(ROOT / "backends")])}
        command = [options.python, __file__, *sys.argv[1:], "--folder", str(folder)]
        sys.exit(subprocess.run(command, check=False, env=environment).returncode)
    compare(options.backend, options.folder, options.sequence_tokens, options.batch, options.steps, options.pairs)


if __name__ == "__main__":
    main()
