"""macOS played by the test at the seam of darwin.py: channels as IOReport names them on one die and two, batches,
stuck counters."""

from __future__ import annotations

import ctypes
import json
import plistlib
import struct
from types import SimpleNamespace

import pytest

from rigbench.analysis import energy
from rigbench.telemetry import apple, darwin, host
from rigbench.telemetry.apple import AppleSource
from rigbench.telemetry.base import Missing, Source, SourceOptions
from rigbench.telemetry.darwin import Channel, Footprint, HostMemory, State
from rigbench.telemetry.sampler import Sampler

S = 1_000_000_000


def m3_max(cpu_mj: int, gpu_nj: int, dram_mj: int = 0) -> list[Channel]:
    """The channels of one die, with those beside them that must not be counted again."""
    return [
        Channel("EACC_CPU0", "mJ", cpu_mj // 4),
        Channel("PCPU0 Energy", "mJ", cpu_mj // 4),
        Channel("CPU Energy", "mJ", cpu_mj),
        Channel("GPU SRAM", "mJ", 7),
        Channel("GPU Energy", "nJ", gpu_nj),
        Channel("ANE", "mJ", 0),
        Channel("DRAM", "mJ", dram_mj),
        Channel("AMCC", "mJ", 99),
    ]


ULTRA = [
    Channel("DIE_0_CPU Energy", "mJ", 9000),
    Channel("DIE_1_CPU Energy", "mJ", 6000),
    Channel("DIE_0_EACC_CPU Energy", "mJ", 5000),
    Channel("GPU Energy", "nJ", 80_000_000_000),
    Channel("ANE0", "mJ", 1),
    Channel("ANE0_1", "mJ", 2),
    Channel("DRAM0", "mJ", 400),
    Channel("DRAM0_1", "mJ", 600),
    Channel("DRAM1", "uJ", 500_000),
]


# The first six states of an M2's GPU as its device tree has them, and that it may be off.
TABLE = "00000000 90010000 002a7515 3f020000 c04fef1e 7a020000 00cd5627 90020000 0011ec2f c8020000 00558138 16030000"
REGISTRY = plistlib.dumps([{"voltage-states1-sram": b"1234", "voltage-states9": bytes.fromhex(TABLE)}]).decode()


class FakeMac:
    """Answers from lists; the last answer stays."""

    def __init__(self, energies: list[list[Channel]]) -> None:
        self.energies = energies
        self.watts = 61.5
        self.pressure = 0
        self.states: list[State] = []
        self.refuse: dict[str, OSError] = {}
        self.closed = False
        self.reset: list[int] = []
        self.calls = 0

    def _check(self, name: str) -> None:
        if name in self.refuse:
            raise self.refuse[name]

    def energy(self) -> list[Channel]:
        self._check("energy")
        return self.energies.pop(0) if len(self.energies) > 1 else self.energies[0]

    def smc_float(self, key: str) -> float:
        assert key == "PSTR"
        self._check("smc")
        return self.watts

    def thermal_pressure(self) -> int:
        self._check("thermal")
        return self.pressure

    def gpu_states(self) -> list[State]:
        self._check("states")
        return self.states

    def footprint(self, pid: int) -> Footprint:
        self._check("footprint")
        self.calls += 1
        return Footprint(2_000_000_000, 3_000_000_000)

    def reset_footprint(self, pid: int) -> None:
        self.reset.append(pid)

    def memory(self) -> HostMemory:
        self._check("memory")
        return HostMemory(8_000, 2_000, 0, 0)

    def close(self) -> None:
        self.closed = True


class Time:
    def __init__(self) -> None:
        self.now_ns = 0
        self.busy_s = 0.0


def source_of(mac: FakeMac, time: Time | None = None) -> Source:
    time = time or Time()
    return AppleSource.open(SourceOptions(), lambda: mac, lambda: time.now_ns, lambda: time.busy_s, lambda: REGISTRY)


def read(source: Source) -> dict[str, float | Missing]:
    metrics = [metric for metric in source.metrics if metric.readable]
    names = (str(metric.device) if metric.name == "energy" else metric.name for metric in metrics)
    return dict(zip(names, source.read(metrics), strict=True))


def test_one_die_counts_whole_names_alone() -> None:
    assert apple.part_joules(m3_max(12_000, 30_000_000_000, 800)) == {
        "cpu": pytest.approx(12.0),
        "gpu": pytest.approx(30.0),
        "ane": 0.0,
        "dram": pytest.approx(0.8),
    }


def test_two_dies_are_added() -> None:
    joules = apple.part_joules(ULTRA)
    assert joules["cpu"] == pytest.approx(15.0)
    assert joules["gpu"] == pytest.approx(80.0)
    assert joules["ane"] == pytest.approx(0.003)
    assert joules["dram"] == pytest.approx(1.5)


def test_an_unknown_unit_is_no_figure() -> None:
    assert apple.part_joules([Channel("CPU Energy", "events", 5), Channel("GPU Energy", "mJ", 5)]) == {"gpu": 0.005}


def test_gains_add_up_to_a_counter() -> None:
    mac = FakeMac([[], m3_max(0, 0), m3_max(1000, 2_000_000_000), m3_max(3000, 4_000_000_000)])
    source = source_of(mac)
    first, second = read(source), read(source)
    assert [first["cpu"], second["cpu"], first["gpu"], second["gpu"]] == pytest.approx([1.0, 4.0, 2.0, 6.0])
    assert second["power"] == 61.5 and second["thermal_pressure"] == 0.0
    source.close()
    assert mac.closed


def test_batched_publication_is_right_over_ten_seconds_and_null_below() -> None:
    # Read every 2.3 s: 20 W of CPU published every second reading only (nothing, then 92 J); 30 W of GPU fresh each time.
    time = Time()
    batches = [m3_max(92_000 if k % 2 else 0, 69_000_000_000) for k in range(40)]
    source = source_of(FakeMac([[], m3_max(0, 0), *batches]), time)

    def wait(seconds: float) -> bool:
        time.now_ns += round(seconds * 1e9)
        return time.now_ns > 30 * S

    sampler = Sampler([source], lambda: time.now_ns, wait)
    sampler.lanes[0].run()
    readings = sampler.window(0, 5 * S, 25 * S)
    long = {each.device: each for each in energy.case_energies(readings, 5_000_000, 25_000_000)}
    assert long["cpu"].joules == pytest.approx(400, rel=0.11) and long["cpu"].status == "low_confidence"
    assert long["gpu"].joules == pytest.approx(600)
    assert long[None].joules == pytest.approx(61.5 * 20) and long[None].scope == "host"
    short = {each.device: each for each in energy.case_energies(readings, 5_000_000, 10_000_000)}
    assert short["cpu"].joules is None and short["cpu"].reason == "window of 5.00 s; apple needs 10 s"
    assert short["gpu"].joules == pytest.approx(150)


def test_a_stuck_cpu_counter_is_unavailable_a_resting_one_is_not() -> None:
    time = Time()
    source = source_of(FakeMac([[], m3_max(1000, 1), m3_max(0, 5)]), time)
    time.now_ns, time.busy_s = 4 * S, 8.0
    assert read(source)["cpu"] == 0.0
    time.now_ns = 6 * S
    values = read(source)
    assert values["cpu"] == Missing("the CPU counter stands still while the CPU works")
    assert values["gpu"] == pytest.approx(1e-8)
    idle = Time()
    resting = source_of(FakeMac([[], m3_max(1000, 1), m3_max(0, 5)]), idle)
    idle.now_ns = 60 * S
    assert read(resting)["cpu"] == 0.0


def test_what_macos_refuses_is_denied_and_the_rest_stays() -> None:
    mac = FakeMac([[], m3_max(1, 1)])
    mac.refuse["smc"] = PermissionError("macOS does not let this program open the SMC")
    source = source_of(mac)
    power = next(metric for metric in source.metrics if metric.name == "power")
    assert (power.status, power.reason) == ("denied", "macOS does not let this program open the SMC")
    assert "power" not in read(source) and "cpu" in read(source)
    assert source.probe().usable


def test_the_clock_is_the_mean_while_the_gpu_worked() -> None:
    hz = apple.gpu_frequencies_hz(REGISTRY)
    assert hz == (360e6, 519e6, 660e6, 804e6, 948e6)
    mac = FakeMac([[], m3_max(1, 1)])
    source = source_of(mac)
    (clock,) = [metric for metric in source.metrics if metric.name == "clock"]
    assert (clock.device, clock.unit, clock.readable) == ("gpu", "Hz", True)
    mac.states = [
        State("OFF", 900),
        State("P1", 25),
        State("P2", 0),
        State("P3", 75),
        *(State(f"P{n}", 0) for n in range(4, 16)),
    ]
    assert source.read([clock]) == [pytest.approx(0.25 * 360e6 + 0.75 * 660e6)]
    mac.states = [State("OFF", 900), State("P1", 0)]
    assert source.read([clock]) == [Missing("the GPU rested")]
    mac.states = [State("IDLE", 0), *(State(f"P{n}", 1) for n in range(1, 7))]
    assert source.read([clock]) == [Missing("the GPU was in a state whose frequency the registry does not have")]
    mac.refuse["states"] = OSError("IOReport gives no sample")
    assert source.read([clock]) == [Missing("IOReport gives no sample")]


@pytest.mark.parametrize(
    "registry",
    ["", "not a list", plistlib.dumps([{}]).decode(), plistlib.dumps([{"voltage-states9": b"123"}]).decode()],
)
def test_a_registry_without_frequencies_is_no_clock(registry: str) -> None:
    assert apple.gpu_frequencies_hz(registry) == ()
    source = AppleSource.open(SourceOptions(), lambda: FakeMac([[], m3_max(1, 1)]), registry=lambda: registry)
    (clock,) = [metric for metric in source.metrics if metric.name == "clock"]
    assert (clock.status, clock.reason) == ("unavailable", "the registry has no voltage-states9")


def test_frequencies_in_thousands_are_those_in_ones() -> None:
    table = plistlib.dumps([{"voltage-states9": struct.pack("<6I", 0, 400, 360_000, 575, 519_000, 634)}]).decode()
    assert apple.gpu_frequencies_hz(table) == (360e6, 519e6)


def test_no_energy_channels() -> None:
    source = source_of(FakeMac([[], [Channel("something", "mJ", 1)]]))
    (metric_there,) = [metric for metric in source.metrics if metric.name == "energy"]
    assert (
        metric_there.status == "unavailable"
        and metric_there.reason is not None
        and "none of the known channels" in metric_there.reason
    )
    mac = FakeMac([[]])
    mac.refuse["energy"] = OSError('IOReport has no group "Energy Model"')
    (metric_there,) = [metric for metric in source_of(mac).metrics if metric.name == "energy"]
    assert metric_there.reason == 'IOReport has no group "Energy Model"'


def test_an_smc_that_fails_in_the_middle_is_missing() -> None:
    mac = FakeMac([[], m3_max(1, 1)])
    source = source_of(mac)
    mac.refuse["smc"] = OSError("the SMC does not answer (0x0, 132)")
    assert read(source)["power"] == Missing("the SMC does not answer (0x0, 132)")


def test_footprint_needs_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = FakeMac([[], m3_max(1, 1)])
    source = source_of(mac)
    assert read(source)["footprint"] == Missing("no worker is running")
    monkeypatch.setattr(host.Tree, "processes", lambda tree: [SimpleNamespace(pid=100), SimpleNamespace(pid=101)])
    source.watch(100)
    values = read(source)
    assert (values["footprint"], values["footprint_max"]) == (4e9, 6e9)
    assert mac.calls == 2  # each process once
    source.begin_case()
    assert mac.reset == [100, 101]


def test_a_process_that_ends_takes_no_footprint_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = FakeMac([[], m3_max(1, 1)])
    source = source_of(mac)
    monkeypatch.setattr(host.Tree, "processes", lambda tree: [SimpleNamespace(pid=100), SimpleNamespace(pid=101)])
    source.watch(100)
    answer = mac.footprint

    def footprint(pid: int) -> Footprint:
        if pid == 101:
            raise OSError("the process is gone, or another user's")
        return answer(pid)

    monkeypatch.setattr(mac, "footprint", footprint)
    assert read(source)["footprint"] == 2e9
    monkeypatch.setattr(host.Tree, "processes", lambda tree: [SimpleNamespace(pid=101)])
    assert read(source)["footprint"] == Missing("the process is gone, or another user's")


def test_a_peak_that_does_not_begin_anew_is_no_peak_of_the_case(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = FakeMac([[], m3_max(1, 1)])
    source = source_of(mac)
    monkeypatch.setattr(host.Tree, "processes", lambda tree: [SimpleNamespace(pid=100)])
    source.watch(100)

    def reset(pid: int) -> None:
        raise OSError("macOS does not begin a new peak for this process")

    monkeypatch.setattr(mac, "reset_footprint", reset)
    source.begin_case()
    values = read(source)
    assert values["footprint"] == 2e9
    assert values["footprint_max"] == Missing("macOS does not begin a new peak for this process")


def test_a_mac_without_channels_can_be_asked_for_all_that_it_has_not() -> None:
    """As a virtual one: `doctor --report` asks for every metric."""
    source = source_of(FakeMac([[]]))
    assert Missing("IOReport has no such channel") in source.read(source.metrics)


def test_a_mac_that_reads_files_does_not_swap() -> None:
    values = read(source_of(FakeMac([[], m3_max(1, 1)])))
    assert [values[name] for name in ("swap_in", "swap_out", "wired", "compressed")] == [0.0, 0.0, 8_000.0, 2_000.0]
    mac = FakeMac([[], m3_max(1, 1)])
    mac.refuse["memory"] = OSError("macOS does not tell its memory statistics")
    assert "swap_in" not in read(source_of(mac))


def test_batches_of_a_half_minute_are_good_and_idle_is_as_long_where_nothing_else_is_read() -> None:
    assert (AppleSource.limits("cpu").min_s, AppleSource.limits("cpu").good_s) == (10.0, 30.0)
    assert source_of(FakeMac([[], m3_max(1, 1)])).idle_s == 10.5
    mac = FakeMac([[], m3_max(1, 1)])
    mac.refuse["smc"] = OSError("this Mac has no SMC service")
    assert source_of(mac).idle_s == 30.5


def test_another_system_has_no_such_libraries() -> None:
    def missing() -> FakeMac:
        raise OSError("/usr/lib/libIOReport.dylib: cannot open shared object file")

    probe = AppleSource.open(SourceOptions(), missing).probe()
    assert not probe.usable and probe.reason == "macOS' own interfaces cannot be loaded (OSError)"


def test_layouts_are_those_of_the_system() -> None:
    assert ctypes.sizeof(darwin.SmcMessage) == 80
    assert (darwin.SmcMessage.info.offset, darwin.SmcMessage.command.offset, darwin.SmcMessage.bytes.offset) == (
        28,
        42,
        48,
    )
    assert ctypes.sizeof(darwin.RusageV4) == 296
    assert (darwin.RusageV4.phys_footprint.offset, darwin.RusageV4.interval_max_phys_footprint.offset) == (72, 280)
    assert darwin.four_characters("PSTR") == 0x50535452


def test_gpu_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"hw.memsize": "549755813888", "iogpu.wired_limit_mb": "0"}
    monkeypatch.setattr("rigbench.telemetry.host.sysctl", answers.get)
    profile = {
        "SPDisplaysDataType": [
            {
                "_name": "kHW_AppleM3UltraItem",
                "sppci_model": "Apple M3 Ultra",
                "sppci_cores": "80",
                "spdisplays_mtlgpufamilysupport": "spdisplays_metal4",
                "spdisplays_ndrvs": [{"_spdisplays_display-serial-number": "SECRET"}],
            }
        ]
    }
    (gpu,) = AppleSource.gpus(json.dumps(profile))
    assert gpu == {
        "name": "Apple M3 Ultra",
        "vendor": "Apple",
        "device": None,
        "integrated": True,
        "gpu_cores": 80,
        "memory_bytes": 549755813888,
        "wired_limit_bytes": None,
        "metal": "spdisplays_metal4",
    }
    assert AppleSource.gpus("not json") == ()
