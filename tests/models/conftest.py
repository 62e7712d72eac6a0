"""Helpers of this room's tests: small shapes, and real llama.cpp where it is installed."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rigbench.models.shapes import Shape, shapes


def smaller(shape: Shape) -> Shape:
    """A few MB of the same architecture: every part of it is there, each as small as it can be."""
    own: dict[str, Any] = {
        "layers": shape.full_every + 1 if shape.full_every > 4 else 4 + (shape.dense_layers > 0),
        "hidden": 256,
        "heads": 4,
        "kv_heads": 4 if shape.kv_heads == shape.heads or shape.kv_lora_rank else 2,
        "head_dim": 64,
        "ffn": 256 if shape.experts and shape.ffn == shape.expert_ffn else 512,
        "vocab": 512,
        "context": 2048,
        "dense_layers": min(1, shape.dense_layers),
        "shared_kv_layers": 0,
    }
    if shape.experts:
        own |= {"experts": 8, "experts_used": min(2, shape.experts_used), "expert_ffn": 256}
    if shape.shared_ffn:
        own["shared_ffn"] = 256 * (shape.shared_ffn // shape.expert_ffn)
    if shape.kv_lora_rank:
        own |= {"q_lora_rank": 256, "kv_lora_rank": 256, "rope_dim": 64, "nope_dim": 64, "v_dim": 64}
    if shape.linear_v_heads:
        own |= {"linear_k_heads": 2, "linear_v_heads": 4, "linear_head_dim": 64}
    if shape.full_head_dim:
        own |= {"full_head_dim": 128, "full_kv_heads": 1}
    if shape.window:
        own["window"] = 64
    return replace(shape, **own)


@pytest.fixture(scope="session")
def small() -> Callable[[str], Shape]:
    """A small shape of a catalogued model's architecture, by the model's id."""
    return lambda model_id: smaller(shapes()[model_id])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of rigbench's and of huggingface_hub's."""
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path / "cache"


@dataclass
class Llama:
    """Real llama.cpp: `log` holds its lines."""

    api: Any
    log: list[str]

    def load(self, path: Path, *, allocate: bool = True) -> Any:
        """The model, or a failed test with llama.cpp's reason. Without `allocate` only header and tensor table are looked at."""
        parameters = self.api.llama_model_default_params()
        if not allocate:
            parameters.load_mode, parameters.no_alloc = 0, True
        model = self.api.llama_model_load_from_file(str(path).encode(), parameters)
        assert model, f"llama.cpp cannot load {path.name}: {' '.join(self.log[-4:])}"
        return model

    def context(self, model: Any, tokens: int) -> Any:
        parameters = self.api.llama_context_default_params()
        parameters.n_ctx, parameters.n_threads, parameters.n_threads_batch = tokens, 1, 1
        return self.api.llama_init_from_model(model, parameters)

    def greedy(self, path: Path, steps: int) -> tuple[list[int], Any]:
        """(tokens, logits of all steps) of greedy decoding."""
        import numpy as np

        model = self.load(path)
        context = self.context(model, 128)
        size = self.api.llama_vocab_n_tokens(self.api.llama_model_get_vocab(model))
        batch = self.api.llama_batch_init(1, 0, 1)
        tokens, chunks = [17], []
        for position in range(steps):
            batch.n_tokens, batch.token[0], batch.pos[0], batch.logits[0] = 1, tokens[-1], position, 1
            batch.n_seq_id[0], batch.seq_id[0][0] = 1, 0
            assert self.api.llama_decode(context, batch) == 0
            logits = np.ctypeslib.as_array(self.api.llama_get_logits_ith(context, -1), shape=(size,)).copy()
            chunks.append(logits)
            tokens.append(int(logits.argmax()))
        self.api.llama_batch_free(batch)
        self.api.llama_free(context)
        self.api.llama_model_free(model)
        return tokens[1:], np.array(chunks)

    def cache_mib(self, path: Path, tokens: int) -> float:
        """MiB that llama.cpp sets aside for keys, values and recurrent states of one sequence."""
        model = self.load(path)
        self.log.clear()
        context = self.context(model, tokens)
        self.api.llama_free(context)
        self.api.llama_model_free(model)
        return sum(float(size) for size in re.findall(r"(?:KV|RS) buffer size = +([\d.]+) MiB", "".join(self.log)))


@pytest.fixture(scope="session")
def llama() -> Iterator[Llama]:
    api = pytest.importorskip("llama_cpp")
    log: list[str] = []
    keep: Callable[..., Any] = api.llama_log_callback(
        lambda level, text, data: log.append(text.decode(errors="replace"))
    )
    api.llama_log_set(keep, ctypes.c_void_p(0))
    yield Llama(api, log)
    api.llama_log_set(api.llama_log_callback(lambda level, text, data: None), ctypes.c_void_p(0))
