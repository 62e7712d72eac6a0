"""For every architecture class of the installed mlx-lm that can be made tiny: a folder's bytes of a step and of the cache are those
that the class's own arrays hold. The tables name the classes of which this is not so, and why."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from environments import engine_python
from rigbench.errors import InputError
from rigbench.models.footprint import kv_bytes, weight_bytes
from rigbench.models.formats.folders import facts_from_safetensors

SCRIPT = Path(__file__).parent / "mlx_classes.py"
NOT_MADE = {
    "bitnet": "its layers are kernels of Metal",
    "muse_spark": "its layers are kernels of Metal",
    "olmo": "needs the package ai2-olmo",
    "prism_hadamard_qwen35": "is read from packed weights alone",
}
NOT_KNOWN = {
    "deepseek_v41": "layers that keep compressed keys and values are not known",
    "iquestloopcoder": "layers that a token goes through several times",
}
"""What the folder is refused with."""
OTHERWISE = {
    "dbrx": "MLX keeps its experts as layers of a list, of which its own code picks those of a token",
    **dict.fromkeys(
        ("deepseek_v2", "minicpm3", "youtu_llm"),
        "MLX unpacks keys and values; other engines keep the latent, which counts",
    ),
    **dict.fromkeys(("deepseek_v32", "glm_moe_dsa"), "MLX keeps the keys of the indexer twice"),
    "hunyuan": "MLX keeps the keys that layers share once for each of them",
}
"""Where MLX holds other arrays than a step needs."""
TOLERANCE = 0.01
"""A few ids that a cache keeps beside keys and values."""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """(the folder of the models, what the script says of each class); one that ends the process is begun after again."""
    folder = tmp_path_factory.mktemp("mlx")
    python, classes, begun = engine_python("mlx"), dict[str, dict[str, Any]](), list[str]()
    while True:
        command = [str(python), str(SCRIPT), str(folder), *begun]
        run = subprocess.run(command, capture_output=True, text=True, timeout=600)
        for line in run.stdout.splitlines():
            if line.startswith("{"):
                content = json.loads(line)
                begun += [] if content["name"] in begun else [content["name"]]
                if "error" in content:
                    classes[content["name"]] = content
        if run.returncode == 0:
            return folder, classes
        assert begun and begun[-1] not in classes, run.stderr[-2000:]
        classes[begun[-1]] = {"error": f"ends the process: {run.stderr[-200:]}"}


@pytest.mark.slow
def test_the_bytes_of_every_class_are_those_of_its_own_arrays(lines: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    folder, classes = lines
    assert {name for name, line in classes.items() if line["error"]} == NOT_MADE.keys()
    assert len(classes) > 100
    refused, differing = {}, {}
    for name, line in classes.items():
        if line["error"]:
            continue
        try:
            facts = facts_from_safetensors(folder / name)
        except InputError as error:
            refused[name] = str(error)
            continue
        pairs = {
            "step": (weight_bytes(facts, 1), line["dense"] + line["expert"] * line["used"] / (line["experts"] or 1))
        }
        for tokens, (keys, states) in line["cache"].items():
            # the arrays have 32 bits a value, and facts count 16 for keys and values
            pairs[f"cache of {tokens}"] = (kv_bytes(facts, int(tokens)), keys / 2 + states)
        wrong = {what: pair for what, pair in pairs.items() if pair[0] != pytest.approx(pair[1], rel=TOLERANCE)}
        if wrong:
            differing[name] = wrong
    assert refused.keys() == NOT_KNOWN.keys()
    assert all(NOT_KNOWN[name] in message for name, message in refused.items())
    assert {name: wrong for name, wrong in differing.items() if name not in OTHERWISE} == {}
    assert differing.keys() == OTHERWISE.keys()
