"""Files that llama.cpp does not load, or ends the process over: the reason arrives. Made with the gguf package."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rigbench_backends.base import EngineError, ModelFile, Request
from rigbench_backends.llama_cpp import BACKEND, LlamaCppOptions
from split_gguf import split

pytest.importorskip("llama_cpp")
gguf = pytest.importorskip("gguf")

WIDTH, LAYERS, HEADS, FFN, VOCABULARY = 64, 2, 4, 128, 300


def open_model(path: Path) -> Any:
    return BACKEND.open(ModelFile(path.stem, str(path), "gguf"), LlamaCppOptions())


def refusal(path: Path) -> str:
    with pytest.raises(EngineError) as caught:
        open_model(path)
    assert caught.value.kind == "load"
    return str(caught.value)


def write(
    path: Path,
    architecture: str,
    tensors: dict[str, tuple[int, ...]],
    *,
    bert: bool = False,
    parts: int = 1,
    **more: Any,
) -> Path:
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FFN)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(0)
    for name, value in more.items():
        getattr(writer, name)(value)
    if parts > 1:
        writer.add_uint16("split.no", 0)
        writer.add_uint16("split.count", parts)
        writer.add_int32("split.tensors.count", len(tensors))
    if bert:
        tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"t{i}" for i in range(VOCABULARY - 5))]
        writer.add_tokenizer_model("bert" if architecture == "bert" else "t5")
        writer.add_token_list(tokens)
        writer.add_token_types([1] * VOCABULARY)
        writer.add_token_scores([0.0] * VOCABULARY)
        writer.add_unk_token_id(1)
        writer.add_token_type_count(2)
    else:
        writer.add_tokenizer_model("none")
        writer.add_vocab_size(VOCABULARY)
    random = np.random.default_rng(1)
    for name, shape in tensors.items():
        writer.add_tensor(name, (random.standard_normal(shape) * 0.05).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def llama_tensors() -> dict[str, tuple[int, ...]]:
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCABULARY, WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (VOCABULARY, WIDTH),
    }
    for layer in range(LAYERS):
        block = {f"attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")}
        block |= {"attn_norm.weight": (WIDTH,), "ffn_norm.weight": (WIDTH,), "ffn_down.weight": (WIDTH, FFN)}
        block |= {"ffn_gate.weight": (FFN, WIDTH), "ffn_up.weight": (FFN, WIDTH)}
        tensors |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    return tensors


LLAMA = {"add_head_count_kv": HEADS, "add_rope_dimension_count": WIDTH // HEADS}


def test_an_architecture_that_llama_cpp_does_not_know(tmp_path: Path) -> None:
    reason = refusal(write(tmp_path / "newer.gguf", "futurenet", llama_tensors(), **LLAMA))
    assert "unknown model architecture: 'futurenet'" in reason
    assert "a newer llama.cpp may know it: pip install -U llama-cpp-python" in reason


def test_a_tensor_that_is_not_there(tmp_path: Path) -> None:
    tensors = llama_tensors()
    del tensors["blk.1.ffn_down.weight"]
    reason = refusal(write(tmp_path / "lacks.gguf", "llama", tensors, **LLAMA))
    assert "tensor 'blk.1.ffn_down.weight' not found" in reason and "fetch the file again" in reason


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "whole.gguf", "llama", llama_tensors(), **LLAMA)
    cut = tmp_path / "cut.gguf"
    shutil.copy(path, cut)
    with cut.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)
    assert "fetch the file again" in refusal(cut)


def test_a_model_for_embeddings_is_refused_and_does_not_end_the_process(tmp_path: Path) -> None:
    tensors: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, WIDTH), "token_types.weight": (2, WIDTH)}
    tensors |= {
        "position_embd.weight": (512, WIDTH),
        "token_embd_norm.weight": (WIDTH,),
        "token_embd_norm.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        block: dict[str, tuple[int, ...]] = {}
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            block |= {f"{part}.weight": (WIDTH, WIDTH), f"{part}.bias": (WIDTH,)}
        for part in ("attn_output_norm", "layer_output_norm"):
            block |= {f"{part}.weight": (WIDTH,), f"{part}.bias": (WIDTH,)}
        block |= {"ffn_up.weight": (FFN, WIDTH), "ffn_up.bias": (FFN,)}
        block |= {"ffn_down.weight": (WIDTH, FFN), "ffn_down.bias": (WIDTH,)}
        tensors |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    more = {"add_causal_attention": False, "add_pooling_type": gguf.PoolingType.MEAN, "add_layer_norm_eps": 1e-5}
    reason = refusal(write(tmp_path / "embed.gguf", "bert", tensors, bert=True, **more))
    assert reason.startswith(
        "embed.gguf is an encoder (architecture bert), which makes embeddings: it generates no text"
    )


def test_an_encoder_decoder_is_refused_and_does_not_end_the_process(tmp_path: Path) -> None:
    tensors: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, WIDTH)}
    for side in ("enc", "dec"):
        tensors[f"{side}.output_norm.weight"] = (WIDTH,)
        tensors[f"{side}.blk.0.attn_rel_b.weight"] = (32, HEADS)
        for layer in range(LAYERS):
            block = {f"attn_{part}.weight": (WIDTH, WIDTH) for part in "qkvo"}
            block |= {"attn_norm.weight": (WIDTH,), "ffn_norm.weight": (WIDTH,), "ffn_down.weight": (WIDTH, FFN)}
            block |= {"ffn_gate.weight": (FFN, WIDTH), "ffn_up.weight": (FFN, WIDTH)}
            if side == "dec":
                block |= {f"cross_attn_{part}.weight": (WIDTH, WIDTH) for part in "qkvo"}
                block["cross_attn_norm.weight"] = (WIDTH,)
            tensors |= {f"{side}.blk.{layer}.{name}": shape for name, shape in block.items()}
    more = {"add_key_length": 16, "add_value_length": 16, "add_relative_attn_buckets_count": 32}
    more |= {"add_decoder_start_token_id": 0, "add_layer_norm_eps": 1e-6}
    reason = refusal(write(tmp_path / "t5.gguf", "t5", tensors, bert=True, **more))
    assert reason.startswith("t5.gguf has an encoder (architecture t5): it generates no text token by token")


def test_a_model_without_a_tokenizer_takes_token_ids_alone(tmp_path: Path) -> None:
    session = open_model(write(tmp_path / "plain.gguf", "llama", llama_tensors(), **LLAMA))
    with pytest.raises(EngineError, match="holds no tokenizer: use a workload of kind `tokens`"):
        session.encode("text")
    session.close()


def test_a_part_of_a_set_under_another_name(tmp_path: Path) -> None:
    path = write(tmp_path / "renamed.gguf", "llama", llama_tensors(), **LLAMA, parts=2)
    assert "invalid split" in refusal(path) and "give the first file of the set, under its own name" in refusal(path)


def test_a_split_model_under_other_names_is_the_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts, found by what they say of themselves, compute what the one file computes."""
    from rigbench.models.resolve import resolve

    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "whole.gguf", "llama", llama_tensors(), **LLAMA)
    parts = split(path, tmp_path / "parts", ["first.gguf", "z.gguf", "b.gguf"])
    whole, joined = (resolve(str(file), formats=("gguf",)) for file in (path, parts[1]))
    assert (whole.file.parts, joined.file.parts) == ((), tuple(map(str, parts)))
    read, same = joined.file.step_bytes, whole.file.step_bytes
    assert read is not None and same is not None
    assert (read.dense_bytes, read.kv_bytes_per_token) == (same.dense_bytes, same.kv_bytes_per_token)
    answers = []
    for model in (whole.file, joined.file):
        session = BACKEND.open(model, LlamaCppOptions(threads=1))
        session.prepare(1, 64)
        session.submit(Request(0, tuple(range(5, 21)), 8))
        tokens: list[int] = []
        while (step := session.step()).events:
            tokens += step.token_ids
        answers.append((session.info.weights_bytes, tokens))
        session.close()
    assert answers[0] == answers[1]
    assert len(answers[0][1]) == 8
