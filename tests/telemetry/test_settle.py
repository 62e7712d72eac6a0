"""The wait for a cool machine, on a clock that moves when it is waited on."""

from __future__ import annotations

from rigbench.records import Flag
from rigbench.telemetry.settle import settle


class Gate:
    """A machine that is hot until `cool_s`, on a clock that moves when it is waited on."""

    def __init__(self, cool_s: float) -> None:
        self.now_ns, self.cool_s, self.looks = 0, cool_s, 0

    def hot(self) -> str | None:
        self.looks += 1
        return "thermal pressure was moderate" if self.now_ns * 1e-9 < self.cool_s else None

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    def settle(self, settle_s: float) -> tuple[Flag, ...]:
        return settle(self.hot, settle_s, lambda: self.now_ns, self.wait)


def test_settle_waits_until_cool() -> None:
    gate = Gate(3.2)
    assert gate.settle(30) == ()
    assert gate.now_ns == 3_500_000_000


def test_settle_does_not_wait_on_a_cool_machine() -> None:
    gate = Gate(0)
    assert gate.settle(30) == () and gate.now_ns == 0 and gate.looks == 1


def test_settle_gives_up_with_a_flag() -> None:
    gate = Gate(1000)
    assert gate.settle(5) == (Flag("throttled", "not cool after 5 s of waiting: thermal pressure was moderate"),)
    assert gate.now_ns == 5_000_000_000
