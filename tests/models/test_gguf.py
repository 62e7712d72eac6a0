from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rigbench.errors import InputError
from rigbench.models.formats.gguf import (
    facts_from_gguf,
    header_bytes,
    key_bytes,
    parts_of,
    read_gguf,
    text_bytes,
    value_bytes,
)
from rigbench.models.shapes import shape
from rigbench.models.synthetic.gguf import plan, write_synthetic
from split_gguf import split

HEAD = b"GGUF" + struct.pack("<I", 3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny-Q4_K_M.gguf"
    write_synthetic(shape("tiny"), "Q4_K_M", path)
    return path


def test_the_gguf_package_reads_the_same(tiny: Path) -> None:
    gguf = pytest.importorskip("gguf")
    theirs, ours = gguf.GGUFReader(tiny), read_gguf(tiny)
    assert [
        (t.name, tuple(map(int, t.shape)), t.tensor_type.name, int(t.n_bytes), int(t.data_offset))
        for t in theirs.tensors
    ] == [tuple(tensor) for tensor in ours.tensors]
    assert ours.metadata["llama.block_count"] == theirs.fields["llama.block_count"].contents() == 4
    assert ours.lengths["tokenizer.ggml.tokens"] == 512
    assert ours.data_start == len(plan(shape("tiny"), "Q4_K_M").header)


def test_values_of_every_type(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "all.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for kind, value in {
        "uint8": 200,
        "int8": -3,
        "uint16": 60000,
        "int16": -300,
        "uint64": 2**60,
        "int64": -(2**60),
        "float64": 0.5,
    }.items():
        getattr(writer, f"add_{kind}")(kind, value)
    writer.add_array("numbers", [1, 2, 3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    header = read_gguf(path)
    assert {
        key: header.metadata[key] for key in ("uint8", "int8", "uint16", "int16", "uint64", "int64", "float64")
    } == {
        **{"uint8": 200, "int8": -3, "uint16": 60000, "int16": -300, "uint64": 2**60, "int64": -(2**60), "float64": 0.5}
    }
    assert header.metadata["numbers"] == (1, 2, 3)


def _counts(tensors: int, keys: int) -> bytes:
    return HEAD + struct.pack("<QQ", tensors, keys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a GGUF file"),
        (b"# Notes about llamas, which are no model at all\n", "is not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0) + bytes(64), "of version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(64), "big-endian machine"),
        (_counts(2**60, 1), "announces 1152921504606846976 tensors"),
        (_counts(0, 2**60), "and 1152921504606846976 keys"),
        (_counts(0, 1) + struct.pack("<Q", 2**63) + bytes(64), "a key is 9223372036854775808 bytes long"),
        (_counts(0, 1) + text_bytes("a") + struct.pack("<IQ", 8, 5000) + bytes(9), "runs past the end"),
        (_counts(0, 1) + text_bytes("a") + struct.pack("<I", 77) + bytes(9), "unknown type 77"),
        (_counts(0, 1) + text_bytes("a") + struct.pack("<IIQ", 9, 9, 1) + bytes(64), "a list of the unknown type 9"),
        (
            _counts(0, 1) + text_bytes("a") + struct.pack("<IIQ", 9, 8, 2**50) + bytes(64),
            "announces 1125899906842624 entries",
        ),
        (_counts(0, 1) + text_bytes("a") + struct.pack("<IIQ", 9, 4, 2**62) + bytes(64), "runs past the end"),
        (_counts(1, 0) + text_bytes("t") + struct.pack("<I", 9) + bytes(64), "has 9 dimensions"),
        (
            _counts(1, 0) + text_bytes("t") + struct.pack("<IQIQ", 1, 32, 99, 0) + bytes(64),
            "type 99, which rigbench does not know",
        ),
        (
            _counts(1, 0) + text_bytes("t") + struct.pack("<IQIQ", 1, 33, 8, 0) + bytes(64),
            "of type Q8_0 has the dimensions",
        ),
        (_counts(1, 0) + text_bytes("t") + struct.pack("<IQIQ", 1, 0, 0, 0) + bytes(64), "has the dimensions"),
        (
            _counts(1, 0) + text_bytes("t") + struct.pack("<IQIQ", 1, 2**50, 0, 0) + bytes(64),
            "runs past the end of the file",
        ),
        (_counts(0, 1) + value_bytes("general.alignment", 0) + bytes(64), "general.alignment is 0"),
        (_counts(0, 1) + key_bytes("general.alignment", 8, text_bytes("x")) + bytes(64), "general.alignment is 'x'"),
    ],
)
def test_what_is_no_whole_gguf_file_gets_one_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        read_gguf(path)
    assert "\n" not in str(raised.value) and "model.gguf" in str(raised.value)


def test_a_file_cut_in_half_says_so(tiny: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.gguf"
    half.write_bytes(tiny.read_bytes()[: tiny.stat().st_size // 2])
    with pytest.raises(InputError, match=r"half\.gguf is cut off: tensor 'blk\.2.*download it again"):
        read_gguf(half)


def test_a_header_cut_anywhere_is_an_input_error(tiny: Path, tmp_path: Path) -> None:
    header = tiny.read_bytes()[: read_gguf(tiny).data_start]
    cut = tmp_path / "cut.gguf"
    for length in [*range(0, 300), *range(300, len(header), 97)]:
        cut.write_bytes(header[:length])
        with pytest.raises(InputError):
            facts_from_gguf(cut)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)), min_size=1, max_size=8))
def test_damage_never_gives_anything_but_facts_or_an_input_error(
    flips: list[tuple[int, int]], tiny: Path, tmp_path: Path
) -> None:
    content = bytearray(tiny.read_bytes())
    end = read_gguf(tiny).data_start
    for place, change in flips:
        content[place % end] ^= change
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(content)
    try:
        facts = facts_from_gguf(damaged)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert facts.file_bytes == len(content)


def test_a_hostile_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    with path.open("wb") as file:
        file.write(_counts(0, 1) + text_bytes("a") + struct.pack("<IIQ", 9, 4, 1 << 34))
        file.truncate(1 << 40)  # a hole: a terabyte that takes no space
    tracemalloc.start()
    with pytest.raises(InputError, match="header is larger than 128 MiB"):
        read_gguf(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_folders_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file .*none\.gguf"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(InputError, match="is a folder, not a GGUF file"):
        read_gguf(tmp_path)


def test_parts_of_a_split_file(tmp_path: Path) -> None:
    names = [f"m-0000{index}-of-00003.gguf" for index in (1, 2, 3)]
    for name in names[:2]:
        (tmp_path / name).touch()
    with pytest.raises(
        InputError, match=r"m-00002-of-00003\.gguf is one of 3 parts, and m-00003-of-00003\.gguf is not beside it"
    ):
        parts_of(tmp_path / names[1])
    (tmp_path / names[2]).touch()
    assert [part.name for part in parts_of(tmp_path / names[1])] == names
    assert parts_of(tmp_path / "m.gguf") == [tmp_path / "m.gguf"]
    assert parts_of(tmp_path / "m-00004-of-00003.gguf") == [tmp_path / "m-00004-of-00003.gguf"]


NUMBERED = [f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    "names", [NUMBERED, ["model.gguf", *NUMBERED[1:]], ["a.gguf", "c.gguf", "b.gguf"], [*NUMBERED[:2], "last.gguf"]]
)
def test_the_parts_of_a_split_model_whatever_their_names(tiny: Path, tmp_path: Path, names: list[str]) -> None:
    parts = split(tiny, tmp_path, names)
    whole = facts_from_gguf(tiny)
    for part in parts:
        assert parts_of(part) == parts
        facts = facts_from_gguf(part)
        assert (facts.dense_bytes, facts.parameters, facts.vocab_size) == (
            whole.dense_bytes,
            whole.parameters,
            whole.vocab_size,
        )
        assert facts.file_bytes == sum(one.stat().st_size for one in parts)


def test_the_parts_of_two_models_in_one_folder(tiny: Path, tmp_path: Path) -> None:
    """Another quantisation has as many parts and tensors; it is whole by its names, so its parts are not the renamed one's."""
    other = split(tiny, tmp_path, [f"other-0000{number}-of-00003.gguf" for number in (1, 2, 3)])
    mine = split(tiny, tmp_path, ["mine.gguf", *NUMBERED[1:]])
    assert parts_of(mine[0]) == mine
    assert parts_of(other[0]) == other
    lonely = split(tiny, tmp_path / "more", ["first.gguf", "second.gguf", "third.gguf"])
    split(tiny, tmp_path / "more", ["a.gguf", "b.gguf", "c.gguf"])
    with pytest.raises(InputError, match=r"first\.gguf is part 1 of 3, and more than one file may be part 2: put all"):
        parts_of(lonely[0])


def test_a_part_that_is_missing(tiny: Path, tmp_path: Path) -> None:
    parts = split(tiny, tmp_path, ["model.gguf", *NUMBERED[1:]])
    parts[1].unlink()
    with pytest.raises(InputError, match=r"model\.gguf is part 1 of 3, and nothing beside it is part 2: put all parts"):
        facts_from_gguf(parts[0])


@pytest.mark.parametrize(
    ("architecture", "metadata", "tensor", "message"),
    [
        ("clip", {"general.type": "mmproj"}, "v.blk.0.attn_q.weight", "is the projector for images or sound"),
        (
            "clip",
            {},
            "mm.0.weight",
            "is the projector for images or sound, which lies beside a model: name the model's own",
        ),
        (
            "llama",
            {"general.type": "adapter", "adapter.type": "lora"},
            "blk.0.attn_q.weight.lora_a",
            "is a LoRA adapter",
        ),
        ("", {"general.type": "imatrix"}, "blk.0.attn_q.weight.in_sum2", "is an importance matrix"),
        (
            "bert",
            {"bert.attention.causal": False},
            "blk.0.attn_q.weight",
            r"is an encoder \(architecture bert\), which makes",
        ),
        (
            "t5",
            {},
            "enc.blk.0.attn_q.weight",
            r"has an encoder \(architecture t5\): it generates no text token by token",
        ),
    ],
)
def test_what_has_the_ending_and_is_no_language_model(
    architecture: str, metadata: dict[str, str | bool], tensor: str, message: str, tmp_path: Path
) -> None:
    keys = [value_bytes(name, value) for name, value in {"general.architecture": architecture, **metadata}.items()]
    head, _, size = header_bytes(keys, [(tensor, (32, 32), "F32")])
    path = tmp_path / "other.gguf"
    path.write_bytes(head.ljust(size, b"\0"))
    with pytest.raises(InputError, match=message) as raised:
        facts_from_gguf(path)
    assert "\n" not in str(raised.value)
