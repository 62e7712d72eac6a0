"""The fingerprint, and what is kept out of it."""

import os

import pytest

from rigbench.run import machine


def test_the_fingerprint_says_what_the_machine_is() -> None:
    made = machine.fingerprint()
    assert made.cpu
    assert made.memory_bytes > 10**8
    assert made.id == machine.fingerprint().id
    assert set(made.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_a_gpu_names_the_machine() -> None:
    two = ({"name": "NVIDIA GeForce RTX 5090"}, {"name": "NVIDIA GeForce RTX 5090"})
    assert machine.fingerprint(two[:1]).id.startswith("nvidia-geforce-rtx-5090-")
    assert machine.fingerprint(two).id.startswith("2x-nvidia-geforce-rtx-5090-")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("cannot open /home/alice/models/llama.gguf: no such file", "cannot open llama.gguf: no such file"),
        ("in '/tmp/x/y.py', line 3", "in 'y.py', line 3"),
        ("alice on greybox", "<private> on <private>"),
        ("malice is no name", "malice is no name"),
        ("connect to 192.168.1.20:8080", "connect to <address>:8080"),
        ("12/34 tokens/s at 1.5 GB/s", "12/34 tokens/s at 1.5 GB/s"),
    ],
)
@pytest.mark.skipif(os.sep != "/", reason="POSIX paths")
def test_private_things_are_taken_out_of_what_engines_say(text: str, clean: str) -> None:
    assert machine.scrub(text, ["/home/alice", "greybox", "alice"]) == clean
