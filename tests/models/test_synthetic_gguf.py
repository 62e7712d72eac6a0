from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rigbench.errors import InputError, UnavailableError
from rigbench.models.formats.gguf import facts_from_gguf, read_gguf
from rigbench.models.shapes import Shape, shape, shapes
from rigbench.models.synthetic import gguf as synthetic
from rigbench.models.synthetic.gguf import ARCHITECTURES, ensure_synthetic, plan, write_synthetic
from rigbench.models.synthetic.weights import is_whole

FIRST_OF_EACH = list({one.architecture: one.id for one in reversed(shapes().values())}.values())


@pytest.mark.parametrize("model_id", ["tiny", "tiny-moe"])
@pytest.mark.parametrize("quant", ["F16", "Q8_0", "Q4_0", "Q4_K_M"])
def test_llama_cpp_runs_it_and_counts_the_same(model_id: str, quant: str, llama: Any, cache: Path) -> None:
    import numpy as np

    path = ensure_synthetic(model_id, quant)
    model = llama.load(path)
    assert llama.api.llama_model_size(model) == sum(tensor.size_bytes for tensor in read_gguf(path).tensors)
    assert llama.api.llama_model_n_params(model) == facts_from_gguf(path).parameters
    llama.api.llama_model_free(model)
    tokens, logits = llama.greedy(path, 40)
    assert np.isfinite(logits).all()
    assert len(set(tokens)) >= 20, "greedy decoding fell into a loop, in which experts are not drawn evenly"


@pytest.mark.parametrize("model_id", FIRST_OF_EACH)
def test_llama_cpp_runs_every_architecture(
    model_id: str, small: Callable[[str], Shape], llama: Any, tmp_path: Path
) -> None:
    import numpy as np

    quant = "MXFP4" if model_id.startswith("gpt-oss") else "Q4_K_M"
    write_synthetic(small(model_id), quant, path := tmp_path / "m.gguf")
    _, logits = llama.greedy(path, 3)
    assert np.isfinite(logits).all() and logits.std() > 0.01


@pytest.mark.skipif(sys.platform != "linux", reason="needs files with holes")
@pytest.mark.parametrize("model_id", sorted({one.id for one in shapes().values()}))
def test_llama_cpp_accepts_every_catalogued_shape(model_id: str, llama: Any, tmp_path: Path) -> None:
    """Header and tensor table in full size; the weights are one hole, and llama.cpp allocates nothing for them."""
    one = replace(shape(model_id), vocab=512)  # a small vocabulary: its text is what takes time
    layout = plan(one, "F16")
    path = tmp_path / "hole.gguf"
    with path.open("wb") as file:
        file.write(layout.header)
        file.truncate(layout.file_bytes)
    model = llama.load(path, allocate=False)
    assert llama.api.llama_model_n_params(model) == facts_from_gguf(path).parameters
    assert llama.api.llama_model_n_swa(model) == one.window
    llama.api.llama_model_free(model)


def test_all_catalogued_architectures_can_be_made() -> None:
    assert {one.architecture for one in shapes().values()} <= ARCHITECTURES


@pytest.mark.parametrize(
    ("quant", "digest"),
    [
        ("Q8_0", "4dbf3a7ac04a0aeecf892f5605c3d93260bf3c46f5fdf88d8027ae568aca1a67"),
        ("Q4_K_M", "47a26c6950ba07721bca49905961f2d9ef093ce2ece8145c4bfe3ba46063af9e"),
        ("F16", "e7f2743e11778b6b2ad8a152ec37ecf352e828a6c0a0971e6e51f7b9942b26a6"),
    ],
)
def test_the_bytes_are_the_same_everywhere(quant: str, digest: str, cache: Path) -> None:
    """A change here makes results of synthetic models incomparable: raise layout.SYNTHETIC_VERSION with it."""
    assert hashlib.sha256(ensure_synthetic("tiny", quant).read_bytes()).hexdigest() == digest


def test_the_weights_are_neither_constant_nor_repeated(cache: Path) -> None:
    content = ensure_synthetic("tiny-150k", "Q8_0").read_bytes()
    pages = [content[start : start + 4096] for start in range(4 << 20, len(content), 4096 * 17)]
    assert len(set(pages)) == len(pages) > 200
    assert min(len(set(page)) for page in pages[:-1]) > 150


def test_a_file_that_is_whole_is_left_alone_and_a_wrong_one_is_made_anew(cache: Path) -> None:
    path = ensure_synthetic("tiny", "Q8_0")
    good, before = path.read_bytes(), path.stat().st_mtime_ns
    assert ensure_synthetic("TINY", "q8_0") == path
    assert path.stat().st_mtime_ns == before
    for wrong in (good[:-1], good[:3000], b"", good[:2000] + b"x" + good[2001:]):
        path.write_bytes(wrong)
        ensure_synthetic("tiny", "Q8_0")
        assert path.read_bytes() == good
    assert [one.name for one in path.parent.iterdir() if one.suffix == ".part"] == []


def test_progress_ends_at_the_whole_size(cache: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    path = ensure_synthetic("tiny", "Q8_0", lambda *call: steps.append(call))
    assert steps == sorted(steps)
    assert steps[-1][0] == path.name
    assert steps[-1][2] - 64 < steps[-1][1] <= steps[-1][2] == path.stat().st_size


def test_a_disk_that_fills_leaves_nothing_behind(cache: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1 << 20, hard)
    )  # the kernel refuses what goes beyond, as a full disk does
    try:
        with pytest.raises(UnavailableError, match=r"tiny-Q8_0\.gguf could not be written to .*: File too large"):
            ensure_synthetic("tiny", "Q8_0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(synthetic.synthetic_folder().glob("*.gguf*")) in (
        [],
        [synthetic.synthetic_folder() / "tiny-Q8_0.gguf.lock"],
    )


def test_too_little_room_is_said_before_anything_is_written(cache: Path) -> None:
    huge = replace(shape("llama-3.1-405b"), layers=20_000, vocab=512)
    with pytest.raises(
        UnavailableError, match=r"big\.gguf needs 1\d\d TB and .* free; make room, or set RIGBENCH_CACHE"
    ):
        write_synthetic(huge, "F16", cache / "big.gguf")
    assert not (cache / "big.gguf").exists()


def test_two_at_once_write_it_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = synthetic._content
    both = threading.Barrier(2, timeout=30)

    def counting(*arguments: Any) -> Any:
        written.append("once")
        yield from real(*arguments)

    def make() -> None:
        both.wait()
        ensure_synthetic("tiny", "Q4_0")

    monkeypatch.setattr(synthetic, "_content", counting)
    others = [threading.Thread(target=make) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert written == ["once"]
    assert is_whole(synthetic.synthetic_path("tiny", "Q4_0"), plan(shape("tiny"), "Q4_0"))


def test_two_processes_at_once_write_one_whole_file(cache: Path) -> None:
    line = "from rigbench.models.synthetic.gguf import ensure_synthetic; ensure_synthetic('tiny-moe', 'Q8_0')"
    started = [subprocess.Popen([sys.executable, "-c", line]) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    assert is_whole(synthetic.synthetic_path("tiny-moe", "Q8_0"), plan(shape("tiny-moe"), "Q8_0"))


def test_memory_is_constant() -> None:
    one = replace(shape("llama-3.1-70b"), vocab=512)
    layout = plan(one, "Q4_K_M")
    tracemalloc.start()
    written = sum(len(piece) for piece in synthetic._content(one, layout))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert written == layout.file_bytes > 35e9
    assert peak < 200e6


@pytest.mark.parametrize(
    ("model_id", "quant", "kind", "message"),
    [
        ("tinny", "Q8_0", InputError, "did you mean tiny"),
        ("tiny", "Q8", InputError, "did you mean Q8_0"),
        ("tiny", "Q3_K_M", UnavailableError, r"not made in Q3_K_M \(it needs Q3_K\)"),
    ],
)
def test_what_cannot_be_made(model_id: str, quant: str, kind: type[Exception], message: str, cache: Path) -> None:
    with pytest.raises(kind, match=message):
        ensure_synthetic(model_id, quant)


def test_an_architecture_that_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="rigbench does not write mamba models yet"):
        write_synthetic(replace(shape("tiny"), architecture="mamba"), "Q8_0", tmp_path / "m.gguf")
