"""The ctypes calls themselves, against libraries that the test plays: what is asked for, in which order, and what is
given back."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import pytest

from rigbench.telemetry import darwin
from rigbench.telemetry.darwin import Channel, Darwin, Footprint, SmcMessage, State


class Function:
    """A foreign function: takes restype and argtypes like ctypes' own, and calls into the fake."""

    def __init__(self, fake: FakeMacOs, name: str) -> None:
        self.fake, self.name = fake, name
        self.restype: Any = None
        self.argtypes: Any = None

    def __call__(self, *arguments: Any) -> Any:
        assert len(arguments) == len(self.argtypes), self.name
        self.fake.calls.append(self.name)
        return getattr(self.fake, self.name)(*arguments)


class Library:
    def __init__(self, fake: FakeMacOs) -> None:
        self.fake = fake
        self.functions: dict[str, Function] = {}

    def __getattr__(self, name: str) -> Function:
        return self.functions.setdefault(name, Function(self.fake, name))


class FakeMacOs:
    """Objects are numbers; `alive` holds those that must be released."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.objects: dict[int, Any] = {}
        self.alive: set[int] = set()
        self.samples = [{"CPU Energy": ("mJ", 1000)}, {"CPU Energy": ("mJ", 3500)}, {"CPU Energy": ("mJ ", 4000)}]
        other = [("OFF", 1), ("P1", 1)]
        self.states = [
            {"GPUPH_OTHER": other, "GPUPH": [("OFF", 100), ("P1", 10), ("P2", 5)]},
            {"GPUPH_OTHER": other, "GPUPH": [("OFF", 130), ("P1", 30), ("P2", 55)]},
        ]
        self.open_result = 0
        self.smc_type_size = 4
        self.peak = 7

    def new(self, value: Any, owned: bool = True) -> int:
        handle = 1000 + len(self.objects)
        self.objects[handle] = value
        if owned:
            self.alive.add(handle)
        return handle

    def CFStringCreateWithCString(self, allocator: Any, text: bytes, encoding: int) -> int:
        return self.new(text.decode())

    def CFStringGetCString(self, handle: int, buffer: Any, size: int, encoding: int) -> int:
        buffer.value = self.objects[handle].encode()
        return 1

    def CFRelease(self, handle: int) -> None:
        self.alive.remove(handle)

    def CFDictionaryGetValue(self, handle: int, key: int) -> int | None:
        assert self.objects[key] == "IOReportChannels"
        return self.new(list(self.objects[handle].items()), owned=False)

    def CFArrayGetCount(self, handle: int) -> int:
        return len(self.objects[handle])

    def CFArrayGetValueAtIndex(self, handle: int, index: int) -> int:
        return self.new(self.objects[handle][index], owned=False)

    def IOReportCopyChannelsInGroup(self, group: int, part: int | None, *rest: Any) -> int:
        names = (self.objects[group], part and self.objects[part])
        assert names in (("Energy Model", None), ("GPU Stats", "GPU Performance States"))
        return self.new(names[0])

    def IOReportCreateSubscription(self, nothing: Any, channels: int, out: Any, number: int, rest: Any) -> int:
        out._obj.value = self.new(self.objects[channels], owned=False)
        return self.new("subscription", owned=False)

    def IOReportCreateSamples(self, subscription: int, channels: Any, rest: Any) -> int:
        return self.new((self.states if self.objects[channels.value] == "GPU Stats" else self.samples).pop(0))

    def IOReportCreateSamplesDelta(self, last: int, now: int, rest: Any) -> int:
        before, after = self.objects[last], self.objects[now]
        if "GPUPH" in after:
            gained = {
                name: [(state, time - then) for (state, time), (_, then) in zip(after[name], before[name], strict=True)]
                for name in after
            }
            return self.new(gained)
        return self.new({name: (unit, value - before[name][1]) for name, (unit, value) in after.items()})

    def IOReportChannelGetChannelName(self, item: int) -> int:
        return self.new(self.objects[item][0], owned=False)

    def IOReportChannelGetUnitLabel(self, item: int) -> int:
        return self.new(self.objects[item][1][0], owned=False)

    def IOReportSimpleGetIntegerValue(self, item: int, index: int) -> int:
        return int(self.objects[item][1][1])

    def IOReportStateGetCount(self, item: int) -> int:
        return len(self.objects[item][1])

    def IOReportStateGetNameForIndex(self, item: int, index: int) -> int:
        return self.new(self.objects[item][1][index][0], owned=False)

    def IOReportStateGetResidency(self, item: int, index: int) -> int:
        return int(self.objects[item][1][index][1])

    def IOServiceMatching(self, name: bytes) -> bytes:
        return name

    def IOServiceGetMatchingService(self, port: int, matching: bytes) -> int:
        return 77 if matching == b"AppleSMC" else 0

    def IOServiceOpen(self, service: int, task: Any, kind: int, connection: Any) -> int:
        connection._obj.value = 0 if self.open_result else 55
        return self.open_result

    def IOServiceClose(self, connection: Any) -> int:
        return 0

    def IOObjectRelease(self, service: int) -> int:
        return 0

    def IOConnectCallStructMethod(
        self, connection: Any, selector: int, sent: Any, size: int, out: Any, out_size: Any
    ) -> int:
        message: SmcMessage = sent._obj
        assert (connection.value, selector, size, message.key) == (55, 2, 80, 0x50535452)
        if message.command == 9:
            out._obj.info.size = self.smc_type_size
        else:
            assert (message.command, message.info.size) == (5, self.smc_type_size)
            out._obj.bytes[:4] = struct.pack("<f", 87.25)
        return 0

    def notify_register_check(self, name: bytes, token: Any) -> int:
        assert name == b"com.apple.system.thermalpressurelevel"
        token._obj.value = 9
        return 0

    def notify_get_state(self, token: Any, state: Any) -> int:
        state._obj.value = 2
        return 0

    def proc_pid_rusage(self, pid: int, flavor: int, buffer: Any) -> int:
        if pid != 42:
            return -1
        buffer._obj.phys_footprint, buffer._obj.interval_max_phys_footprint = 5, self.peak
        return 0

    def proc_reset_footprint_interval(self, pid: int) -> int:
        self.peak = 5
        return 0 if pid == 42 else -1

    def mach_host_self(self) -> int:
        return 9

    def getpagesize(self) -> int:
        return 16384

    def host_statistics64(self, host: int, flavor: int, buffer: Any, count: Any) -> int:
        assert (host, flavor, count._obj.value) == (9, 4, 64)
        fields = darwin.VmStatistics64.from_buffer(buffer._obj)
        fields.wire_count, fields.compressor_page_count, fields.pageins = 100, 7, 10**6
        fields.swapins, fields.swapouts = 2, 3
        return 0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeMacOs:
    system = FakeMacOs()
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Library(system))
    monkeypatch.setattr(darwin, "mach_task", lambda library: 3)
    return system


def test_energy_is_what_channels_gained_and_nothing_leaks(fake: FakeMacOs) -> None:
    mac = Darwin()
    assert mac.energy() == []
    assert mac.energy() == [Channel("CPU Energy", "mJ", 2500)]
    assert mac.energy() == [Channel("CPU Energy", "mJ", 500)]
    mac.close()
    assert fake.alive == set()


def test_states_of_the_gpu_beside_the_energy(fake: FakeMacOs) -> None:
    mac = Darwin()
    assert (mac.energy(), mac.gpu_states()) == ([], [])
    assert mac.gpu_states() == [State("OFF", 30), State("P1", 20), State("P2", 50)]
    assert mac.energy() == [Channel("CPU Energy", "mJ", 2500)]
    mac.close()
    assert fake.alive == set()


def test_smc_asks_for_the_size_once_and_reads_a_float(fake: FakeMacOs) -> None:
    mac = Darwin()
    assert [mac.smc_float("PSTR"), mac.smc_float("PSTR")] == [87.25, 87.25]
    assert fake.calls.count("IOConnectCallStructMethod") == 3
    assert fake.calls.count("IOServiceOpen") == 1
    mac.close()
    assert fake.calls[-1] == "IOServiceClose"


def test_smc_refused(fake: FakeMacOs) -> None:
    fake.open_result = darwin.NOT_PERMITTED
    with pytest.raises(PermissionError, match="does not let this program open the SMC"):
        Darwin().smc_float("PSTR")
    fake.open_result = 0xE00002BC
    with pytest.raises(OSError, match="0xe00002bc"):
        Darwin().smc_float("PSTR")


def test_smc_key_of_another_type(fake: FakeMacOs) -> None:
    fake.smc_type_size = 2
    with pytest.raises(OSError, match="not a 32-bit float"):
        Darwin().smc_float("PSTR")


def test_thermal_pressure_and_footprint(fake: FakeMacOs) -> None:
    mac = Darwin()
    assert [mac.thermal_pressure(), mac.thermal_pressure()] == [2, 2]
    assert fake.calls.count("notify_register_check") == 1
    assert mac.footprint(42) == Footprint(5, 7)
    with pytest.raises(OSError, match="gone, or another user's"):
        mac.footprint(43)
    mac.reset_footprint(42)
    assert mac.footprint(42) == Footprint(5, 5)
    with pytest.raises(OSError, match="begin a new peak"):
        mac.reset_footprint(43)


def test_pages_of_files_are_not_swap(fake: FakeMacOs) -> None:
    """A program that starts reads a million pages from files."""
    mac = Darwin()
    assert [mac.memory(), mac.memory()] == [(100 * 16384, 7 * 16384, 2 * 16384, 3 * 16384)] * 2
    assert fake.calls.count("mach_host_self") == 1  # each is one more right to a port
