"""Whether the llama.cpp of this interpreter computes: run by setup as a child process, because a wrong build ends by a signal.

    .venv/bin/python scripts/prove_engine.py FOLDER

Tiny models of random weights, one for each way in which llama.cpp stores them, decode for 1 and for 4 users. The sizes are
those that the fast kernels take: rows of 256 weights, and prompts longer than the 16 rows of an AMX tile. Where there is a
GPU, the models are computed there and on the processor. They are written to FOLDER, which the caller removes: a process that
ends by a signal cannot. Each line of the output is a JSON object: `devices` first, then
`stage` before each stage, so that the last line tells where a process ended; `ok` comes last.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import sys
from pathlib import Path

QUANTS = ("F16", "Q8_0", "Q4_0", "Q4_K_M")
USERS = (1, 4)
PROMPT_TOKENS, STEPS = 80, 4
ERROR_LEVEL = 4


def tell(**line):
    print(json.dumps(line), flush=True)


def write_model(folder, quant):
    """A GGUF file of one layer. rigbench writes it, as it writes the models that it measures."""
    from rigbench.models.shapes import Shape
    from rigbench.models.synthetic.gguf import write_synthetic

    shape = Shape("proof", "proof", "llama", 1e6, 1, 256, 4, 2, 64, 512, 512, 512)
    path = Path(folder) / f"{quant}.gguf"
    write_synthetic(shape, quant, path)
    return path


def decode(lib, path, users, gpu_layers):
    """A prompt and some tokens for each user. Raises RuntimeError where llama.cpp refuses, or computes what is no number."""
    import numpy as np

    params = lib.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise RuntimeError("the model does not load")
    vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_seq_max = 128 * users, PROMPT_TOKENS * users, users
    params.n_threads = params.n_threads_batch = os.cpu_count() or 1
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError("no context can be made")
    batch = lib.llama_batch_init(PROMPT_TOKENS * users, 0, 1)
    for step in range(1 + STEPS):
        positions = range(PROMPT_TOKENS) if step == 0 else [PROMPT_TOKENS + step - 1]
        rows = [(user, position) for user in range(users) for position in positions]
        batch.n_tokens = len(rows)
        for row, (user, position) in enumerate(rows):
            batch.token[row], batch.pos[row] = (7 * position + 31 * user) % 256, position
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, user
            batch.logits[row] = position == positions[-1]
        status = lib.llama_decode(context, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode gives {status}")
        logits = np.ctypeslib.as_array(lib.llama_get_logits(context), (users, vocab))
        if not np.isfinite(logits).all() or not logits.any():
            raise RuntimeError("the logits are not finite numbers")
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    lib.llama_model_free(model)


def main(folder):
    faulthandler.enable()
    import llama_cpp
    from llama_cpp import llama_cpp as lib

    from rigbench_backends.llama_cpp import ggml

    errors = []

    @lib.llama_log_callback
    def keep(level, text, _user):
        if level == ERROR_LEVEL:
            errors.append(text.decode("utf-8", "replace").strip())

    lib.llama_log_set(keep, ctypes.c_void_p(0))
    lib.llama_backend_init()
    devices = ggml.devices()
    tell(
        devices=[(each.name, each.description, each.is_gpu) for each in devices],
        error=errors[-1] if errors else "",
        folder=str(Path(llama_cpp.__file__).parent),
    )
    layers = {"the GPU": -1, "the processor": 0} if any(device.is_gpu for device in devices) else {"the processor": 0}
    for quant in QUANTS:
        path = write_model(folder, quant)
        for place, gpu_layers in layers.items():
            for users in USERS:
                tell(stage=f"{quant}, {users} user{'s' * (users > 1)}, on {place}")
                try:
                    decode(lib, path, users, gpu_layers)
                except RuntimeError as error:
                    sys.exit(f"{error}{f' ({errors[-1]})' if errors else ''}")
    tell(ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
