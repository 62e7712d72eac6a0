"""The calls into macOS that apple.py needs, and nothing else: IOReport, the SMC, notifications and rusage through ctypes.

This is the seam: `Darwin` asks the system, tests answer in its place. Every function has its argument and result types
set; without them ctypes cuts pointers to 32 bits.

    python -c "from rigbench.telemetry.darwin import *; print(Darwin().energy(), Darwin().smc_float('PSTR'))"
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_long, c_size_t, c_uint8, c_uint32, c_uint64
from ctypes import c_void_p as p
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
UTF8 = 0x08000100
SMC_SELECTOR, SMC_READ_BYTES, SMC_READ_KEY_INFO = 2, 5, 9
NOT_PERMITTED = 0xE00002E2
RUSAGE_INFO_V4, HOST_VM_INFO64, VM_INFO64_WORDS = 4, 4, 64
"""The last: room in 32-bit words for what a newer system may add."""


class Channel(NamedTuple):
    """One channel of IOReport's group "Energy Model": what it gained since the last time it was asked, in `unit`."""

    name: str
    unit: str
    gained: int


class State(NamedTuple):
    """One state of a channel of IOReport: `OFF`, `P1` ..., and how long it was the one, in units of the channel's own."""

    name: str
    residency: int


@dataclass
class Reports:
    """A subscription to a group of IOReport, and its last sample."""

    channels: p
    subscription: int | None = None
    last: int | None = None


class Footprint(NamedTuple):
    """proc_pid_rusage: bytes now, and the most since `reset_footprint`."""

    bytes_now: int
    bytes_max: int


class HostMemory(NamedTuple):
    """Bytes of the machine: wired, in the compressor, read back from swap and written to it since it started."""

    wired: int
    compressed: int
    swapped_in: int
    swapped_out: int


class VmStatistics64(Structure):
    """struct vm_statistics64 of <mach/vm_statistics.h>: pages."""

    _fields_ = [
        *((name, c_uint32) for name in ("free_count", "active_count", "inactive_count", "wire_count")),
        *((name, c_uint64) for name in ("zero_fill_count", "reactivations", "pageins", "pageouts")),
        *((name, c_uint64) for name in ("faults", "cow_faults", "lookups", "hits", "purges")),
        *((name, c_uint32) for name in ("purgeable_count", "speculative_count")),
        *((name, c_uint64) for name in ("decompressions", "compressions", "swapins", "swapouts")),
        *((name, c_uint32) for name in ("compressor_page_count", "throttled_count", "external_page_count")),
        ("internal_page_count", c_uint32),
        ("total_uncompressed_pages_in_compressor", c_uint64),
    ]


class _SmcKeyInfo(Structure):
    _fields_ = [("size", c_uint32), ("type", c_uint32), ("attributes", c_uint8)]


class SmcMessage(Structure):
    """The 80 bytes that go to the SMC and come back."""

    _fields_ = [
        ("key", c_uint32),
        ("version_and_limits", c_uint8 * 24),
        ("info", _SmcKeyInfo),
        ("result", c_uint8),
        ("status", c_uint8),
        ("command", c_uint8),
        ("data32", c_uint32),
        ("bytes", c_uint8 * 32),
    ]


class RusageV4(Structure):
    """struct rusage_info_v4 of <libproc.h>: a UUID, then 35 64-bit numbers, of which two are wanted."""

    _fields_ = [
        ("uuid", c_uint8 * 16),
        ("before", c_uint64 * 7),
        ("phys_footprint", c_uint64),
        ("between", c_uint64 * 25),
        ("interval_max_phys_footprint", c_uint64),
        ("after", c_uint64),
    ]


def four_characters(key: str) -> int:
    """'PSTR' as the SMC's 32-bit key."""
    return int.from_bytes(key.encode("ascii"), "big")


def mach_task(system: Any) -> int:
    """The port of this very task, which libSystem keeps in a variable."""
    return c_uint32.in_dll(system, "mach_task_self_").value


class Darwin:
    """macOS itself. Opening it on another system raises OSError; later one says in one sentence what the system refused,
    PermissionError that it may not."""

    def __init__(self) -> None:
        self._report = ctypes.CDLL("/usr/lib/libIOReport.dylib")
        self._cf = ctypes.CDLL("/System/Library/Frameworks/CoreFoundation.framework/CoreFoundation")
        self._io = ctypes.CDLL("/System/Library/Frameworks/IOKit.framework/IOKit")
        self._system = ctypes.CDLL("/usr/lib/libSystem.B.dylib")
        for function, result, arguments in self._prototypes():
            function.restype, function.argtypes = result, arguments
        self._groups: dict[str, Reports] = {}
        self._smc = c_uint32(0)
        self._smc_sizes: dict[str, int] = {}
        self._thermal: c_int | None = None
        self._host: int = self._system.mach_host_self()
        """Asked for once: each answer is one more right to a port, which nobody would give back."""

    def _prototypes(self) -> tuple[tuple[Any, Any, list[Any]], ...]:
        cf, report, io, system = self._cf, self._report, self._io, self._system
        return (
            (cf.CFStringCreateWithCString, p, [p, c_char_p, c_uint32]),
            (cf.CFStringGetCString, c_uint8, [p, c_char_p, c_long, c_uint32]),
            (cf.CFDictionaryGetValue, p, [p, p]),
            (cf.CFArrayGetCount, c_long, [p]),
            (cf.CFArrayGetValueAtIndex, p, [p, c_long]),
            (cf.CFRelease, None, [p]),
            (report.IOReportCopyChannelsInGroup, p, [p, p, c_uint64, c_uint64, c_uint64]),
            (report.IOReportCreateSubscription, p, [p, p, POINTER(p), c_uint64, p]),
            (report.IOReportCreateSamples, p, [p, p, p]),
            (report.IOReportCreateSamplesDelta, p, [p, p, p]),
            (report.IOReportChannelGetChannelName, p, [p]),
            (report.IOReportChannelGetUnitLabel, p, [p]),
            (report.IOReportSimpleGetIntegerValue, ctypes.c_int64, [p, ctypes.c_int32]),
            (report.IOReportStateGetCount, ctypes.c_int32, [p]),
            (report.IOReportStateGetNameForIndex, p, [p, ctypes.c_int32]),
            (report.IOReportStateGetResidency, ctypes.c_int64, [p, ctypes.c_int32]),
            (io.IOServiceMatching, p, [c_char_p]),
            (io.IOServiceGetMatchingService, c_uint32, [c_uint32, p]),
            (io.IOServiceOpen, c_uint32, [c_uint32, c_uint32, c_uint32, POINTER(c_uint32)]),
            (io.IOServiceClose, c_uint32, [c_uint32]),
            (io.IOObjectRelease, c_uint32, [c_uint32]),
            (io.IOConnectCallStructMethod, c_uint32, [c_uint32, c_uint32, p, c_size_t, p, POINTER(c_size_t)]),
            (system.notify_register_check, c_uint32, [c_char_p, POINTER(c_int)]),
            (system.notify_get_state, c_uint32, [c_int, POINTER(c_uint64)]),
            (system.proc_pid_rusage, c_int, [c_int, c_int, p]),
            (system.proc_reset_footprint_interval, c_int, [c_int]),
            (system.mach_host_self, c_uint32, []),
            (system.host_statistics64, c_int, [c_uint32, c_int, p, POINTER(c_uint32)]),
            (system.getpagesize, c_int, []),
        )

    def energy(self) -> list[Channel]:
        """What every channel of "Energy Model" gained since the last call; [] at the first, which begins the count."""
        return self._gained("Energy Model", None, self._channel)

    def gpu_states(self) -> list[State]:
        """How long the GPU was in each state of its channel GPUPH since the last call; [] at the first, which begins the count."""
        channels = self._gained("GPU Stats", "GPU Performance States", self._states)
        return next((states for name, states in channels if name == "GPUPH"), [])

    def _gained(self, group: str, part: str | None, read: Callable[[int], T]) -> list[T]:
        """What `read` makes of each channel of a group, as the difference to the last call."""
        reports = self._groups.get(group) or self._subscribe(group, part)
        sample = self._report.IOReportCreateSamples(reports.subscription, reports.channels, None)
        if not sample:
            raise OSError("IOReport gives no sample")
        last, reports.last = reports.last, sample
        if last is None:
            return []
        delta = self._report.IOReportCreateSamplesDelta(last, sample, None)
        self._cf.CFRelease(last)
        if not delta:
            raise OSError("IOReport gives no difference of two samples")
        try:
            key = self._text("IOReportChannels")
            items = self._cf.CFDictionaryGetValue(delta, key)
            self._cf.CFRelease(key)
            count = self._cf.CFArrayGetCount(items) if items else 0
            return [read(self._cf.CFArrayGetValueAtIndex(items, index)) for index in range(count)]
        finally:
            self._cf.CFRelease(delta)

    def _subscribe(self, group: str, part: str | None) -> Reports:
        names = [self._text(name) if name else None for name in (group, part)]
        channels = self._report.IOReportCopyChannelsInGroup(*names, 0, 0, 0)
        for name in filter(None, names):
            self._cf.CFRelease(name)
        if not channels:
            raise OSError(f'IOReport has no group "{part or group}"')
        reports = Reports(p())
        reports.subscription = self._report.IOReportCreateSubscription(None, channels, byref(reports.channels), 0, None)
        self._cf.CFRelease(channels)
        if not reports.subscription:
            raise OSError("IOReport refuses a subscription")
        self._groups[group] = reports
        return reports

    def _channel(self, item: int) -> Channel:
        unit = self._string(self._report.IOReportChannelGetUnitLabel(item))
        return Channel(self._name(item), unit.strip(), self._report.IOReportSimpleGetIntegerValue(item, 0))

    def _states(self, item: int) -> tuple[str, list[State]]:
        report = self._report
        return self._name(item), [
            State(
                self._string(report.IOReportStateGetNameForIndex(item, index)),
                report.IOReportStateGetResidency(item, index),
            )
            for index in range(report.IOReportStateGetCount(item))
        ]

    def _name(self, item: int) -> str:
        return self._string(self._report.IOReportChannelGetChannelName(item))

    def _text(self, text: str) -> Any:
        return self._cf.CFStringCreateWithCString(None, text.encode(), UTF8)

    def _string(self, reference: int | None) -> str:
        buffer = ctypes.create_string_buffer(256)
        if not reference or not self._cf.CFStringGetCString(reference, buffer, len(buffer), UTF8):
            return ""
        return buffer.value.decode("utf-8", "replace")

    def smc_float(self, key: str) -> float:
        """A key of type `flt ` (little-endian 32-bit float), such as PSTR, the watts of the whole system."""
        if not self._smc.value:
            self._open_smc()
        message = SmcMessage(key=four_characters(key), command=SMC_READ_KEY_INFO)
        if key not in self._smc_sizes:
            self._smc_sizes[key] = self._smc_call(message).info.size
        if self._smc_sizes[key] != 4:
            raise OSError(f"the SMC's key {key} is not a 32-bit float")
        message.info.size, message.command = 4, SMC_READ_BYTES
        return ctypes.c_float.from_buffer_copy(bytes(self._smc_call(message).bytes)).value

    def _open_smc(self) -> None:
        refused = 0
        for name in (b"AppleSMC", b"AppleSMCKeysEndpoint"):
            if service := self._io.IOServiceGetMatchingService(0, self._io.IOServiceMatching(name)):
                refused = self._io.IOServiceOpen(service, mach_task(self._system), 0, byref(self._smc))
                self._io.IOObjectRelease(service)
                if refused == 0:
                    return
        if refused == NOT_PERMITTED:
            raise PermissionError("macOS does not let this program open the SMC")
        raise OSError(f"the SMC cannot be opened (0x{refused:x})" if refused else "this Mac has no SMC service")

    def _smc_call(self, message: SmcMessage) -> SmcMessage:
        answer, size = SmcMessage(), c_size_t(ctypes.sizeof(SmcMessage))
        failed = self._io.IOConnectCallStructMethod(
            self._smc, SMC_SELECTOR, byref(message), ctypes.sizeof(message), byref(answer), byref(size)
        )
        if failed or answer.result:
            raise OSError(f"the SMC does not answer (0x{failed:x}, {answer.result})")
        return answer

    def thermal_pressure(self) -> int:
        """0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping."""
        state = c_uint64()
        if self._thermal is None:
            token = c_int()
            if not self._system.notify_register_check(b"com.apple.system.thermalpressurelevel", byref(token)):
                self._thermal = token
        if self._thermal is None or self._system.notify_get_state(self._thermal, byref(state)):
            raise OSError("macOS does not tell thermal pressure")
        return int(state.value)

    def footprint(self, pid: int) -> Footprint:
        usage = RusageV4()
        if self._system.proc_pid_rusage(pid, RUSAGE_INFO_V4, byref(usage)):
            raise OSError("the process is gone, or another user's")
        fields: Any = usage
        return Footprint(fields.phys_footprint, fields.interval_max_phys_footprint)

    def reset_footprint(self, pid: int) -> None:
        """Its largest footprint counts from now on (macOS 10.14 and newer)."""
        if self._system.proc_reset_footprint_interval(pid):
            raise OSError("macOS does not begin a new peak for this process")

    def memory(self) -> HostMemory:
        """Wired and compressed bytes, and those read from and written to swap: psutil's own count pages of files as well."""
        statistics, count = (c_uint32 * VM_INFO64_WORDS)(), c_uint32(VM_INFO64_WORDS)
        if self._system.host_statistics64(self._host, HOST_VM_INFO64, byref(statistics), byref(count)):
            raise OSError("macOS does not tell its memory statistics")
        page = self._system.getpagesize()
        fields = VmStatistics64.from_buffer(statistics)
        pages = (fields.wire_count, fields.compressor_page_count, fields.swapins, fields.swapouts)
        return HostMemory(*(count * page for count in pages))

    def close(self) -> None:
        for reports in self._groups.values():
            if reports.last is not None:
                self._cf.CFRelease(reports.last)
                reports.last = None
        if self._smc.value:
            self._io.IOServiceClose(self._smc)
            self._smc = c_uint32(0)
