"""What others wrote, on its way to a terminal or into a document."""

import os

import pytest

from rigbench import text as texts


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("cannot open /home/alice/models/llama.gguf: no such file", "cannot open llama.gguf: no such file"),
        ("in '/tmp/x/y.py', line 3", "in 'y.py', line 3"),
        ("alice on greybox", "<private> on <private>"),
        ("malice is no name", "malice is no name"),
        ("connect to 192.168.1.20:8080", "connect to <address>:8080"),
        ("file:/home/alice/a/b.gguf and ~/notes/", "file:b.gguf and notes"),
        ("as me@example.org on 3c:22:fb:aa:bb:cc", "as <private> on <private>"),
        ("GPU-8f3c6f2e-1d2b-4c3a-9e8f-001122334455 at fe80::1ff:fe23:4567:890a", "GPU-<private> at <address>"),
        (
            "/proc/self/maps at 11:17:57, std::string of CUDA 12.4.1.5.1",
            "/proc/self/maps at 11:17:57, std::string of CUDA 12.4.1.5.1",
        ),
        ("12/34 tokens/s at 1.5 GB/s", "12/34 tokens/s at 1.5 GB/s"),
    ],
)
@pytest.mark.skipif(os.sep != "/", reason="POSIX paths")
def test_private_things_are_taken_out_of_what_engines_say(text: str, clean: str) -> None:
    assert texts.scrub(text, ["/home/alice", "greybox", "alice"]) == clean


def test_nothing_that_is_printed_moves_the_cursor() -> None:
    assert texts.printable("a\x1b[31m\nb\ud800é") == "a?[31m?b?é"
    assert texts.printable("a\tb", " ") == "a b"


def test_the_nearest_name() -> None:
    assert texts.nearest("quickstar", ["smoke", "quickstart"]) == "quickstart"
    assert texts.nearest("zzz", ["smoke", "quickstart"]) is None
