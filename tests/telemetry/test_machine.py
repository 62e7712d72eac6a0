"""The fingerprint of this machine."""

from rigbench.telemetry import machine


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
