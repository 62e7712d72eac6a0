"""The arithmetic rate is the machine's, and a document that has it shows how much of it a prompt took."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_documents import device_document
from rigbench.analysis.table import table
from rigbench.ceilings import engine, gemm_program
from rigbench.documents import store
from rigbench.predict.document import predictions
from rigbench.records import Arithmetic


def test_the_fastest_library_of_each_type_counts() -> None:
    libraries = {"rates": {"f32": {"numpy": [1e9, 3e9], "torch": [2e9]}, "bf16": {"torch": [8e9]}}, "reasons": []}
    ggml = {"rates": {"F32": [1e9], "Q8_0": [5e9], "Q4_0": [4e9, 6e9]}}
    by_type = engine.from_products("cpu", libraries, ggml)
    assert by_type.flops_per_s == {"f32": 3e9, "bf16": 8e9, "int8": 6e9}
    assert by_type.source == "bf16 by torch, f32 by numpy, int8 by llama.cpp"
    assert (by_type.rate("f32"), by_type.rate(None), by_type.rate("fp4")) == (3e9, 8e9, 8e9)


def test_without_a_library_there_is_the_reason() -> None:
    by_type = engine.from_products(
        "vulkan", {"rates": {}, "reasons": ["torch: ModuleNotFoundError"]}, "llama.cpp is not here"
    )
    assert not by_type.known and by_type.reason == "llama.cpp is not here; torch: ModuleNotFoundError"
    assert by_type.rate(None) is None


def test_a_product_counts_two_operations_for_each_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(gemm_program.time, "perf_counter", lambda: next(ticks) / 1000)
    assert max(gemm_program.best_rate(lambda n: lambda: None)) == pytest.approx(2 * 8192**3 / 1e-3)


def test_this_machine_s_numpy_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm_program, "SIZES", (256,))
    rates = gemm_program.main("cpu", 0, 1)["rates"]
    assert max(rates["f32"]["numpy"]) > 1e8 and np.isfinite(rates["f32"]["numpy"]).all()


def test_prefill_above_its_ceiling_is_flagged() -> None:
    document = store.parse(device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M", seed=1), "made")
    [engine_info] = document.engines
    for flops_per_s, flagged in ((1e15, False), (1e9, True)):
        with_rate = replace(document, arithmetic=(Arithmetic(engine_info.device, {"f16": flops_per_s}),))
        row = table(replace(with_rate, predictions=predictions(with_rate)))[0]
        assert ("above_ceiling" in row.flags) is flagged
        mfu, ceiling, prefill = row["prefill_mfu"], row["prefill_ceiling_tps"], row["prefill_tps"]
        assert mfu and ceiling and prefill and prefill / ceiling >= mfu * 0.999
        assert row["mfu"] and row["ceiling_tps"]
        if flagged:
            assert mfu > 1


def test_a_rate_that_no_such_device_has_is_refused(tmp_path: Path) -> None:
    from rigbench.documents.validate import validate

    content = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M", seed=1)
    content["arithmetic"] = [
        {"device": "cuda", "flops_per_s": {"f16": 1e18}, "source": "", "reason": None, "detail": {}}
    ]
    content["id"] = store.content_id(content)
    path = tmp_path / "made.json"
    path.write_text(json.dumps(content))
    assert any(fault.path == "$.arithmetic[0].flops_per_s.f16" for fault in validate(path).faults)
