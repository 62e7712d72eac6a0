"""How models and quantisations are written: the one grammar of each.

    PATH                     a .gguf file, the first part of a split one, or a folder with config.json and safetensors
    synthetic:SHAPE:QUANT    random weights of a catalogued shape, made when first used (synthetic:llama-1.5b:Q4_K_M)
    hf:OWNER/REPO/FILE.gguf  one file from a hub; hf:OWNER/REPO a folder of safetensors
    ID or ID:QUANT           a model of the catalogue, from the repository that it names (qwen3-30b-a3b:Q4_K_M)
    ollama:NAME:TAG          a model that Ollama holds on this machine, as a file (ollama:llama3.1:8b)
    remote:NAME              whatever a server calls NAME: of its size nothing is known, so nothing is predicted

A quantisation may stand anywhere in a text ('UD-Q4_K_XL', 'i1-Q4_K_M', 'GPTQ-Int4', '4-bit', 'F16 (MXFP4 experts)').

    python -c "from rigbench.models.names import quantisation; print(quantisation('UD-Q4_K_XL'))"
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rigbench.errors import InputError
from rigbench.text import did_you_mean


class ModelName(NamedTuple):
    """`kind` is `path`, `synthetic`, `hf`, `ollama`, `remote` or `catalogue`; `name` a path, shape, OWNER/REPO, server's or
    Ollama's name, or id."""

    text: str
    kind: str
    name: str
    quant: str = ""
    file: str = ""


def model_name(text: str) -> ModelName:
    """What kind of model a text names, by its form alone. Raises InputError where it has none of the forms."""
    kind, _, rest = text.partition(":")
    if not text.strip():
        forms = "a file, synthetic:SHAPE:QUANT, hf:OWNER/REPO/FILE.gguf or a catalogue id"
        raise InputError(f"The model's name is empty; name {forms}.")
    if kind == "synthetic":
        shape_id, _, quant = rest.partition(":")
        return ModelName(text, kind, shape_id, quant)
    if kind == "ollama" and rest:
        return ModelName(text, kind, rest)
    if kind == "remote":
        if not rest:
            raise InputError(f"{text!r} names no model; write remote:NAME as the server calls it.")
        return ModelName(text, kind, rest)
    if kind == "hf":
        owner, repo, *file = rest.split("/", 2) if "/" in rest else (rest, "")
        if not owner or not repo or file == [""]:
            raise InputError(f"{text!r} is not hf:OWNER/REPO/FILE.gguf (or hf:OWNER/REPO for a folder of safetensors).")
        if file and not file[0].endswith(".gguf"):
            raise InputError(f"{text!r} does not name a .gguf file.")
        return ModelName(text, kind, f"{owner}/{repo}", file="".join(file))
    if "/" in text or os.sep in text or text.endswith(".gguf") or text.startswith((".", "~")) or Path(text).is_dir():
        return ModelName(text, "path", text)
    return ModelName(text, "catalogue", kind, rest)


class Quant(NamedTuple):
    """A quantisation. `bits` a weight in a file of 8 billion weights, scales and finer tensors of its mix included.

    `unpacking` groups those that cost alike to unpack: f16, q8, q4 (plain blocks of 32), k (K and I quants), mx.
    `file_type` is its number in GGUF files (llama.h, enum llama_ftype), None where they have none.
    `mix` is the llama.cpp mix that it is, or the nearest one whose tensors are known (models/mixes.py).
    """

    name: str
    bits: float
    unpacking: str
    file_type: int | None
    mix: str


# fmt: off
_ROWS: tuple[tuple[Any, ...], ...] = (
    ("F32", 32.0, "f16", 0), ("F16", 16.0, "f16", 1), ("BF16", 16.0, "f16", 32),
    ("Q8_0", 8.5, "q8", 7), ("Q6_K", 6.56, "k", 18),
    ("Q5_K_M", 5.70, "k", 17), ("Q5_K_S", 5.57, "k", 16),
    ("Q5_1", 6.05, "q4", 9), ("Q5_0", 5.58, "q4", 8),
    ("Q4_K_M", 4.89, "k", 15), ("Q4_K_S", 4.67, "k", 14),
    ("Q4_1", 5.11, "q4", 3), ("Q4_0", 4.64, "q4", 2),
    ("IQ4_NL", 4.68, "q4", 25), ("IQ4_XS", 4.46, "k", 30),
    ("MXFP4", 4.25, "mx", 38), ("NVFP4", 4.5, "mx", 39, "Q4_0"),
    ("Q3_K_L", 4.30, "k", 13), ("Q3_K_M", 4.00, "k", 12), ("Q3_K_S", 3.64, "k", 11),
    ("IQ3_M", 3.76, "k", 27, "Q3_K_M"), ("IQ3_S", 3.66, "k", 26, "Q3_K_M"),
    ("IQ3_XS", 3.50, "k", 22, "Q3_K_M"), ("IQ3_XXS", 3.25, "k", 23, "Q3_K_M"),
    ("Q2_K", 3.16, "k", 10), ("Q2_K_S", 2.97, "k", 21, "Q2_K"),
    ("IQ2_M", 2.93, "k", 29, "Q2_K"), ("IQ2_S", 2.74, "k", 28, "Q2_K"),
    ("IQ2_XS", 2.59, "k", 20, "Q2_K"), ("IQ2_XXS", 2.38, "k", 19, "Q2_K"),
    ("Q2_0", 2.25, "k", 41, "Q2_K"), ("TQ2_0", 2.06, "k", 37, "Q2_K"),
    ("IQ1_M", 2.15, "k", 31, "Q2_K"), ("IQ1_S", 2.00, "k", 24, "Q2_K"),
    ("TQ1_0", 1.69, "k", 36, "Q2_K"), ("Q1_0", 1.13, "k", 40, "Q2_K"),
    # some tensors finer than in the mix, by whoever made the file: which ones is not known
    ("Q8_K_XL", 8.5, "q8", None, "Q8_0"),
    ("Q6_K_XL", 6.56, "k", None, "Q6_K"), ("Q6_K_L", 6.56, "k", None, "Q6_K"),
    ("Q5_K_XL", 5.70, "k", None, "Q5_K_M"), ("Q5_K_L", 5.70, "k", None, "Q5_K_M"),
    ("Q4_K_XL", 4.89, "k", None, "Q4_K_M"), ("Q4_K_L", 4.89, "k", None, "Q4_K_M"),
    ("Q3_K_XL", 4.00, "k", None, "Q3_K_M"),
    ("Q2_K_XL", 3.16, "k", None, "Q2_K"), ("Q2_K_L", 3.16, "k", None, "Q2_K"),
    # of MLX: a 16-bit scale and bias for each 64 weights
    ("8bit", 8.5, "q8", None, "Q8_0"), ("6bit", 6.5, "k", None, "Q8_0"), ("5bit", 5.5, "k", None, "Q4_0"),
    ("4bit", 4.5, "q4", None, "Q4_0"), ("3bit", 3.5, "k", None, "Q4_0"), ("2bit", 2.5, "k", None, "Q4_0"),
    # of vLLM and others
    ("FP8", 8.0, "q8", None, "Q8_0"), ("INT8", 8.0, "q8", None, "Q8_0"),
    ("FP4", 4.25, "q4", None, "Q4_0"), ("INT4", 4.25, "q4", None, "Q4_0"),
    ("AWQ", 4.25, "q4", None, "Q4_0"), ("GPTQ", 4.25, "q4", None, "Q4_0"),
)
# fmt: on
QUANTS = {name: Quant(name, bits, kind, number, *(mix or [name])) for name, bits, kind, number, *mix in _ROWS}
"""Every quantisation that is known, by its canonical name."""
_BY_NAME = {name.upper(): quant for name, quant in QUANTS.items()}
# fmt: off
_BY_NAME |= {other: QUANTS[name] for other, name in {
    "Q2": "Q2_K", "Q3": "Q3_K_M", "Q4": "Q4_K_M", "Q5": "Q5_K_M", "Q6": "Q6_K", "Q8": "Q8_0", "Q3_K": "Q3_K_M",
    "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "F8": "FP8", "W8A8": "INT8", "W4A16": "INT4",
}.items()}
# fmt: on
_NAME = re.compile(rf"(?<!\d)(?:{'|'.join(sorted(_BY_NAME, key=len, reverse=True))})(?!\d)")
_WEAK = ("AWQ", "GPTQ")


@cache
def quantisation(text: str) -> Quant:
    """The quantisation that a text names: MXFP4 before others (of the experts), a method (AWQ) only where no bits are named.

    Raises InputError where it names none.
    """
    names = _NAME.findall(re.sub(r"(?<=\d)_(?=BIT)", "", re.sub(r"[-\s]", "_", text.upper())))
    if not names:
        raise InputError(f"the quantisation {text!r} is not known; write for example Q4_K_M, Q8_0, MXFP4, BF16 or 4bit")
    return _BY_NAME[min(names, key=lambda name: (name != "MXFP4", name in _WEAK))]


def unpacking(text: str) -> str:
    """`Quant.unpacking` of a quantisation; of one that is not known that of most, `k`."""
    try:
        return quantisation(text).unpacking
    except InputError:
        return "k"


def one_of(text: str, names: Iterable[str]) -> str:
    """The one of these names of quantisations that `text` is, upper and lower case alike. Raises InputError."""
    known = {name.upper(): name for name in names}
    if text.upper() not in known:
        nearest = did_you_mean(text.upper(), known)
        raise InputError(f"No quantisation {text!r} among {', '.join(known.values())}{nearest}")
    return known[text.upper()]
