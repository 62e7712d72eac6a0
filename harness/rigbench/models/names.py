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

import difflib
import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rigbench.errors import InputError


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
        raise InputError(
            "The model's name is empty; name a file, synthetic:SHAPE:QUANT, hf:OWNER/REPO/FILE.gguf or a catalogue id."
        )
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
    `mix` is the llama.cpp mix that it is, or the nearest one whose tensors are known (models/mixes.py).
    `file_type` is its number in GGUF files (llama.h, enum llama_ftype), None where they have none.
    """

    name: str
    bits: float
    unpacking: str
    mix: str
    file_type: int | None = None


QUANTS = {
    quant.name: quant
    for quant in (
        Quant("F32", 32.0, "f16", "F32", 0),
        Quant("F16", 16.0, "f16", "F16", 1),
        Quant("BF16", 16.0, "f16", "BF16", 32),
        Quant("Q8_0", 8.5, "q8", "Q8_0", 7),
        Quant("Q6_K", 6.56, "k", "Q6_K", 18),
        Quant("Q5_K_M", 5.70, "k", "Q5_K_M", 17),
        Quant("Q5_K_S", 5.57, "k", "Q5_K_S", 16),
        Quant("Q5_1", 6.05, "q4", "Q5_1", 9),
        Quant("Q5_0", 5.58, "q4", "Q5_0", 8),
        Quant("Q4_K_M", 4.89, "k", "Q4_K_M", 15),
        Quant("Q4_K_S", 4.67, "k", "Q4_K_S", 14),
        Quant("Q4_1", 5.11, "q4", "Q4_1", 3),
        Quant("Q4_0", 4.64, "q4", "Q4_0", 2),
        Quant("IQ4_NL", 4.68, "q4", "IQ4_NL", 25),
        Quant("IQ4_XS", 4.46, "k", "IQ4_XS", 30),
        Quant("MXFP4", 4.25, "mx", "MXFP4", 38),
        Quant("NVFP4", 4.5, "mx", "Q4_0", 39),
        Quant("Q3_K_L", 4.30, "k", "Q3_K_L", 13),
        Quant("Q3_K_M", 4.00, "k", "Q3_K_M", 12),
        Quant("Q3_K_S", 3.64, "k", "Q3_K_S", 11),
        Quant("IQ3_M", 3.76, "k", "Q3_K_M", 27),
        Quant("IQ3_S", 3.66, "k", "Q3_K_M", 26),
        Quant("IQ3_XS", 3.50, "k", "Q3_K_M", 22),
        Quant("IQ3_XXS", 3.25, "k", "Q3_K_M", 23),
        Quant("Q2_K", 3.16, "k", "Q2_K", 10),
        Quant("Q2_K_S", 2.97, "k", "Q2_K", 21),
        Quant("IQ2_M", 2.93, "k", "Q2_K", 29),
        Quant("IQ2_S", 2.74, "k", "Q2_K", 28),
        Quant("IQ2_XS", 2.59, "k", "Q2_K", 20),
        Quant("IQ2_XXS", 2.38, "k", "Q2_K", 19),
        Quant("Q2_0", 2.25, "k", "Q2_K", 41),
        Quant("TQ2_0", 2.06, "k", "Q2_K", 37),
        Quant("IQ1_M", 2.15, "k", "Q2_K", 31),
        Quant("IQ1_S", 2.00, "k", "Q2_K", 24),
        Quant("TQ1_0", 1.69, "k", "Q2_K", 36),
        Quant("Q1_0", 1.13, "k", "Q2_K", 40),
        # some tensors finer than in the mix, by whoever made the file: which ones is not known
        Quant("Q8_K_XL", 8.5, "q8", "Q8_0"),
        Quant("Q6_K_XL", 6.56, "k", "Q6_K"),
        Quant("Q6_K_L", 6.56, "k", "Q6_K"),
        Quant("Q5_K_XL", 5.70, "k", "Q5_K_M"),
        Quant("Q5_K_L", 5.70, "k", "Q5_K_M"),
        Quant("Q4_K_XL", 4.89, "k", "Q4_K_M"),
        Quant("Q4_K_L", 4.89, "k", "Q4_K_M"),
        Quant("Q3_K_XL", 4.00, "k", "Q3_K_M"),
        Quant("Q2_K_XL", 3.16, "k", "Q2_K"),
        Quant("Q2_K_L", 3.16, "k", "Q2_K"),
        # of MLX: a 16-bit scale and bias for each 64 weights
        Quant("8bit", 8.5, "q8", "Q8_0"),
        Quant("6bit", 6.5, "k", "Q8_0"),
        Quant("5bit", 5.5, "k", "Q4_0"),
        Quant("4bit", 4.5, "q4", "Q4_0"),
        Quant("3bit", 3.5, "k", "Q4_0"),
        Quant("2bit", 2.5, "k", "Q4_0"),
        # of vLLM and others
        Quant("FP8", 8.0, "q8", "Q8_0"),
        Quant("INT8", 8.0, "q8", "Q8_0"),
        Quant("FP4", 4.25, "q4", "Q4_0"),
        Quant("INT4", 4.25, "q4", "Q4_0"),
        Quant("AWQ", 4.25, "q4", "Q4_0"),
        Quant("GPTQ", 4.25, "q4", "Q4_0"),
    )
}
"""Every quantisation that is known, by its canonical name."""
_OTHER_NAMES = {
    **{"Q2": "Q2_K", "Q3": "Q3_K_M", "Q4": "Q4_K_M", "Q5": "Q5_K_M", "Q6": "Q6_K", "Q8": "Q8_0"},
    **{"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16"},
    **{"F8": "FP8", "W8A8": "INT8", "W4A16": "INT4"},
}
_BY_NAME = {name.upper(): quant for name, quant in QUANTS.items()}
_BY_NAME |= {name: QUANTS[canonical] for name, canonical in _OTHER_NAMES.items()}
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
        raise InputError(f"No quantisation {text!r} among {', '.join(known.values())}{nearest(text.upper(), known)}")
    return known[text.upper()]


def nearest(name: str, known: Iterable[str]) -> str:
    """How a sentence about an unknown name ends: `; did you mean a or b?` with the names most like it, or `.`"""
    names = sorted(known)
    inside = sorted(
        (one for one in names if len(name) > 2 and name in one), key=lambda one: (not one.startswith(name), len(one))
    )
    close = (inside + [one for one in difflib.get_close_matches(name, names, n=3, cutoff=0.6) if one not in inside])[:3]
    return f"; did you mean {' or '.join(close)}?" if close else "."
