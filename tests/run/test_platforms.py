"""Whole documents as machines that are not here would leave them: the engine is llama.cpp on the processor that says it computes on
a GPU, and every sensor, driver and bandwidth is played; all between is the program itself."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rigbench_backends
from fake_cuda import GIB, Card, FakeCuda
from fake_nvml import FakeGpu, fake_module
from plugin_folder import plugin_folder
from rigbench import telemetry
from rigbench.analysis.table import Row, table
from rigbench.ceilings import cuda, engine
from rigbench.cli.main import app
from rigbench.documents import store
from rigbench.errors import InputError
from rigbench.predict.calibrate import device_of, measured_rows
from rigbench.records import Arithmetic, RunDocument
from rigbench.telemetry import host
from rigbench.telemetry.amd import AmdSource
from rigbench.telemetry.apple import AppleSource
from rigbench.telemetry.base import Limits, Source, SourceOptions
from rigbench.telemetry.darwin import Channel, Footprint, HostMemory, State
from rigbench.telemetry.host import HostSource
from rigbench.telemetry.intel import IntelSource
from rigbench.telemetry.nvidia import NvmlSource
from rigbench_backends import cuda as libcuda

pytest.importorskip("llama_cpp")

PLUGIN = '''
"""llama.cpp on the processor, which says what the test wants of its device."""
import json, os
from dataclasses import replace
from rigbench_backends import base, cuda, llama_cpp

SAID = json.loads(os.environ["RIGBENCH_TEST_ENGINE"])


class Backend(llama_cpp.LlamaCppBackend):
    name = "ondevice"

    def open(self, model, options):
        session = super().open(model, options)
        info = {name: tuple(value) if isinstance(value, list) else value for name, value in SAID["info"].items()}
        session.info = replace(session.info, **info)
        account = session.memory
        session.memory = lambda: replace(account(), **SAID.get("memory", {}))
        return session

    def probe(self, options=None):
        info = SAID["info"]
        used = dict(zip(info.get("bus_ids", ()), info["device_names"]))
        return replace(super().probe(options), device=info["device"], gpus=tuple(info["device_names"]), used=used)

BACKEND = Backend()
'''
SUITE = """
name = "platform"
version = "1"
about = "Long enough for power at 10 Hz."
[load]
concurrency = [1]
repetitions = 1
requests_per_user = 4
[warmup]
max_rounds = 1
output_tokens = 8
[[workload]]
name = "tokens"
kind = "tokens"
prompt_tokens = 16
output_tokens = 2000
[[engine]]
backend = "ondevice"
model = "synthetic:tiny:F16"
options = { threads = 1 }  # threads that wait for each other by turning would stand still beside another test's
"""


def quick(source: type[Source], **own: Any) -> type[Source]:
    """The sensor with windows of a fifth of a second, so that a test need not run for ten."""
    return type(
        source.__name__, (source,), {"idle_s": 0.6, "limits": classmethod(lambda cls, device: Limits(0.2, 0.2)), **own}
    )


@dataclass
class Box:
    """A machine: what its engine says, and its sensors by name. `rates`: what ggml or mlx would read, in bytes per second."""

    info: dict[str, Any]
    sensors: dict[str, type[Source]]
    memory: dict[str, int] = field(default_factory=dict)
    cards: tuple[Card, ...] = ()
    rate: float = 0.0
    cpu: str | None = None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Box], tuple[RunDocument, Row]]:
    folder = plugin_folder(tmp_path / "plugin", "rigbench.backends", "ondevice", "BACKEND", PLUGIN)
    monkeypatch.syspath_prepend(folder)
    known = rigbench_backends.BUILT_IN | {"ondevice": "ondevice_plugin:BACKEND"}
    monkeypatch.setattr(rigbench_backends, "registry", lambda: known)  # this process may have read the real one before
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rigbench.analysis.flags.FOREIGN_SHARE", 1.0)  # what else runs here is not that machine's
    monkeypatch.setattr("rigbench.analysis.flags.STEAL_SHARE", 1.0)
    (tmp_path / "platform.toml").write_text(SUITE)

    def measure(box: Box) -> tuple[RunDocument, Row]:
        answer = {"info": {"place": "worker", **box.info}, "memory": box.memory}
        monkeypatch.setenv("RIGBENCH_TEST_ENGINE", json.dumps(answer))
        sensors = {"host": quick(HostSource), **box.sensors}
        monkeypatch.setattr(telemetry, "registry", lambda: dict.fromkeys(sensors, "x:y"))
        monkeypatch.setattr(telemetry, "load", sensors.__getitem__)
        telemetry.limits.cache_clear()
        driver = libcuda.Driver(FakeCuda(*box.cards))
        monkeypatch.setattr(cuda, "Driver", lambda: driver)
        monkeypatch.setattr(libcuda, "Driver", lambda: driver)
        device = {"kind": box.info["device"], "description": box.info["device_names"][0], "memory_bytes": GIB}
        rates = {"devices": [device], "device": device["description"], "bytes": GIB, "reasons": []}
        rates |= {"rates": {"F16": [box.rate]}, "metal": True, "read": [box.rate], "copy": [box.rate]}
        monkeypatch.setattr(engine, "answer", lambda *words: rates)
        arithmetic = lambda device, python: Arithmetic(device, {"f16": 2e13})  # noqa: E731
        monkeypatch.setattr(engine, "arithmetic", arithmetic)
        if box.cpu is not None:
            monkeypatch.setattr(host, "cpu_name", lambda *folders: box.cpu)
        runner = CliRunner()
        done = runner.invoke(app, ["run", "./platform.toml"])
        assert done.exit_code == 0, done.output
        path = next(tmp_path.glob("results/*/*.json"))
        for words in (["validate", str(path)], ["compare", str(path), str(path)], ["show", str(path)]):
            checked = runner.invoke(app, words)
            assert checked.exit_code == 0, (words, checked.output)
        telemetry.limits.cache_clear()
        document = store.read(path)
        (row,) = table(document)
        assert row["measured_over_predicted"] is not None and row["mbu"] is not None
        assert row["joules_per_token"] is not None and row["memory_peak_bytes"] is not None
        assert document.bandwidth[0].device == box.info["device"] and document.bandwidth[0].method == "measured"
        fastest = max((card.rate for card in box.cards if card.bus in box.info["bus_ids"]), default=box.rate)
        assert document.bandwidth[0].read_bytes_per_s == pytest.approx(fastest, rel=1e-3)
        rows = measured_rows(document)
        whole = document.engines[0].device_share == 1  # the fit takes no rows of which a part ran elsewhere
        if not row.flags:  # decoding, and the prompt
            assert [bool(each.setup.prompt_tokens) for each in rows] == [False, True] * whole
        words = ["predict", "-d", "rtx-5090", "-m", "llama-3.1-8b", "--json", "--calibrate", str(path)]
        done = runner.invoke(app, words)
        if rows:
            assert done.exit_code == 0, done.output
            assert f"calibrated with {len(rows)} rows of 1 results" in done.stderr
            own = json.loads(done.stdout)["predictions"][0]
            assert own["inputs"]["calibrated_with_rows"] == len(rows)
        else:
            assert isinstance(done.exception, InputError) and "to calibrate with" in str(done.exception)
        return document, row

    return measure


def flags(row: Any) -> tuple[str, ...]:
    """Without the one that says how evenly this machine let the stand-in engine run."""
    return tuple(name for name in row.flags if name != "bursts")


def nvml(*gpus: FakeGpu, driver: str = "580.126.09", **own: Any) -> type[Source]:
    module = fake_module(list(gpus), driver=driver)
    return quick(
        NvmlSource,
        open=classmethod(lambda cls, options: super(cls, cls).open(options, module)),
        gpus=classmethod(lambda cls: super(cls, cls).gpus(module)),
        drivers=classmethod(lambda cls: super(cls, cls).drivers(module)),
        **own,
    )


def in_folder(source: type[Source], root: Path) -> type[Source]:
    return quick(
        source,
        open=classmethod(lambda cls, options: super(cls, cls).open(options, root)),
        gpus=classmethod(lambda cls: super(cls, cls).gpus(root)),
    )


def on_bus(root: Path, bus: str, files: dict[str, Any]) -> Path:
    """A graphics card's folder of the kernel's, `files` by their paths below its device."""
    device = root / "devices" / bus
    for name, content in files.items():
        (device / name).parent.mkdir(parents=True, exist_ok=True)
        (device / name).write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())
    card = root / "drm" / f"card{len(list(root.glob('drm/*')))}"
    card.mkdir(parents=True)
    (card / "device").symlink_to(device)
    return device


def ryzen(root: Path) -> type[Source]:
    """Raphael's own graphics: 62 W of the whole socket."""
    files = {
        "vendor": "0x1002",
        "device": "0x164e",
        "mem_info_vram_total": 512 * 2**20,
        "mem_info_vram_used": 30_000_000,
    }
    on_bus(
        root, "0000:10:00.0", {**files, "hwmon/hwmon3/in1_label": "vddnb", "hwmon/hwmon3/power1_average": 62_000_000}
    )
    return in_folder(AmdSource, root / "drm")


R550 = {186: (0, 560_000), 74: (0, 0), 269: (3, 0), 270: (3, 0), 271: (3, 0)}
NAME_3060, NAME_5090 = "NVIDIA GeForce RTX 3060", "NVIDIA GeForce RTX 5090"
BY_BUS = {
    "0000:01:00.0": Card(NAME_3060, "0000:01:00.0", 350e9, b"3" * 16, 12 * GIB),
    "0000:02:00.0": Card(NAME_5090, "0000:02:00.0", 1700e9, b"5" * 16, 32 * GIB),
}


@pytest.mark.parametrize(("order", "visible"), [(None, None), (None, "0"), ("PCI_BUS_ID", "1"), ("PCI_BUS_ID", None)])
def test_a_5090_beside_a_3060_in_a_ryzen(
    order: str | None, visible: str | None, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name, watts, memory and ceiling are those of the card that works alone, on a driver that counts no heat."""
    for name, value in (("CUDA_DEVICE_ORDER", order), ("CUDA_VISIBLE_DEVICES", visible)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    idle = FakeGpu("00000000:01:00.0", NAME_3060, fields=R550 | {186: (0, 15_000)}, reasons=0, memory_used=400_000_000)
    busy = FakeGpu("00000000:02:00.0", NAME_5090, fields=R550, reasons=0)
    info = {"device": "cuda", "device_names": [NAME_5090], "bus_ids": ["0000:02:00.0"]}
    sensors = {"nvml": nvml(idle, busy, driver="550.163.01"), "amd": ryzen(tmp_path)}
    document, row = run(Box(info, sensors, cards=tuple(BY_BUS.values())))
    assert document.machine.id.startswith("nvidia-geforce-rtx-5090-")
    assert sorted(document.machine.detail["other_gpus"])[-1] == NAME_3060
    assert (row["watts_mean"], row.power_scope, flags(row)) == (pytest.approx(560), "board", ())
    assert (row["memory_peak_bytes"], row.memory_method) == (20_000_000_000, "device memory")
    assert document.bandwidth[0].read_bytes_per_s == pytest.approx(1700e9, rel=1e-4)


def test_a_hot_5090_on_driver_550_is_flagged(run: Any) -> None:
    gpu = FakeGpu("00000000:02:00.0", NAME_5090, fields=R550, reasons=0x68)
    info = {"device": "cuda", "device_names": [NAME_5090], "bus_ids": ["0000:02:00.0"]}
    document, row = run(Box(info, {"nvml": nvml(gpu, driver="550.163.01")}, cards=(BY_BUS["0000:02:00.0"],)))
    assert flags(row) == ("throttled",) and document.machine.drivers["nvidia"] == "550.163.01"


def test_two_cards(run: Any) -> None:
    """Layers dealt out over two 3090: watts and memory are added, the ceiling is one card's."""
    name = "NVIDIA GeForce RTX 3090"
    gpus = [FakeGpu(f"00000000:0{n}:00.0", name, fields=R550 | {186: (0, 300_000)}, reasons=0) for n in (1, 2)]
    buses = ["0000:01:00.0", "0000:02:00.0"]
    cards = tuple(Card(name, bus, 880e9) for bus in buses)
    document, row = run(
        Box({"device": "cuda", "device_names": [name] * 2, "bus_ids": buses}, {"nvml": nvml(*gpus)}, cards=cards)
    )
    assert document.machine.id.startswith("2x-nvidia-geforce-rtx-3090-")
    assert (row["watts_mean"], row["memory_peak_bytes"]) == (pytest.approx(600), 40_000_000_000)
    (bandwidth,) = document.bandwidth
    assert row["ceiling_tps"] == pytest.approx(bandwidth.read_bytes_per_s / document.predictions[0].bytes_per_step)
    assert document.predictions[0].inputs["devices"] == 2


def test_two_cards_that_share_each_layer_have_the_ceiling_of_both(run: Any) -> None:
    name = "NVIDIA GeForce RTX 3090"
    buses = ["0000:01:00.0", "0000:02:00.0"]
    cards = tuple(Card(name, bus, 880e9) for bus in buses)
    gpus = [FakeGpu(f"0000{bus}", name, fields=R550 | {186: (0, 300_000)}, reasons=0) for bus in buses]
    info = {"device": "cuda", "device_names": [name] * 2, "bus_ids": buses, "resolved": {"tensor_parallel_size": 2}}
    document, row = run(Box(info, {"nvml": nvml(*gpus)}, cards=cards))
    one = document.bandwidth[0].read_bytes_per_s / document.predictions[0].bytes_per_step
    assert row["ceiling_tps"] == pytest.approx(2 * one)


def test_a_model_of_which_three_quarters_stay_with_the_processor_has_its_ceiling(run: Any) -> None:
    gpu = FakeGpu("00000000:02:00.0", NAME_5090, fields=R550, reasons=0)
    info = {
        "device": "cuda",
        "device_names": [NAME_5090],
        "bus_ids": ["0000:02:00.0"],
        "resolved": {"n_gpu_layers": "20/80"},
    }
    document, row = run(Box(info, {"nvml": nvml(gpu)}, cards=(BY_BUS["0000:02:00.0"],)))
    moved, alone = document.predictions[0].bytes_per_step, document.bandwidth[0].read_bytes_per_s
    assert row["ceiling_tps"] == pytest.approx(1 / (0.25 * moved / alone + 0.75 * moved / 89.6e9))
    assert row.memory_method == "device memory and resident memory"


class Mac:
    """An M3 Ultra with 60 cores: 210 W for the whole, 61 GB of footprint of which resident memory knows nothing."""

    def energy(self) -> list[Channel]:
        return [
            Channel("DIE_0_CPU Energy", "mJ", 900),
            Channel("DIE_1_CPU Energy", "mJ", 600),
            Channel("GPU Energy", "nJ", 10**10),
        ]

    def smc_float(self, key: str) -> float:
        return 210.0

    def thermal_pressure(self) -> int:
        return 0

    def gpu_states(self) -> list[State]:
        return []

    def footprint(self, pid: int) -> Footprint:
        return Footprint(60_000_000_000, 61_000_000_000)

    def reset_footprint(self, pid: int) -> None:
        pass

    def memory(self) -> HostMemory:
        return HostMemory(70_000_000_000, 0, 0, 0)

    def close(self) -> None:
        pass


def test_an_m3_ultra_with_60_cores(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = {"SPDisplaysDataType": [{"sppci_model": "Apple M3 Ultra", "sppci_cores": "60"}]}
    answers = {"hw.memsize": str(256 * GIB), "iogpu.wired_limit_mb": "0"}
    monkeypatch.setattr(host, "sysctl", answers.get)

    def opened(cls: Any, options: SourceOptions) -> Source:
        source: Source = super(cls, cls).open(options, Mac)
        source.metrics = tuple(replace(each, period_s=0.1) if each.name == "power" else each for each in source.metrics)
        return source

    mac = quick(
        AppleSource,
        platforms=("linux", "darwin", "win32"),
        open=classmethod(opened),
        gpus=classmethod(lambda cls: super(cls, cls).gpus(json.dumps(profile))),
        drivers=classmethod(lambda cls: {"macos_build": "26A1"}),
        modes=classmethod(lambda cls: {"lowpowermode": "0"}),
    )
    box = Box({"device": "metal", "device_names": ["Apple M3 Ultra"]}, {"apple": mac}, rate=750e9, cpu="Apple M3 Ultra")
    document, row = run(box)
    known = device_of(document.machine, "metal")
    assert known is not None and (known.id, known.gpu_cores) == ("m3-ultra-60", 60)
    assert document.machine.id.startswith("apple-m3-ultra-")
    assert (row["watts_mean"], row.power_scope, flags(row)) == (pytest.approx(210), "host", ())
    assert (row["memory_peak_bytes"], row.memory_method) == (61_000_000_000, "footprint")


def test_a_strix_halo_under_vulkan(run: Any, tmp_path: Path) -> None:
    table_3 = bytearray(264)
    table_3[:4] = (264).to_bytes(2, "little") + b"\x03\x00"
    table_3[112:116] = (118_000).to_bytes(4, "little")
    files = {
        "vendor": "0x1002",
        "device": "0x1586",
        "hwmon/hwmon2/in1_label": "vddnb",
        "hwmon/hwmon2/power1_average": 118_000,
        "gpu_metrics": bytes(table_3),
        "mem_info_vram_used": 2**30,
        "mem_info_vram_total": 4 * 2**30,
        "mem_info_gtt_used": 58 * 2**30,
        "mem_info_gtt_total": 96 * 2**30,
    }
    on_bus(tmp_path, "0000:c5:00.0", files)
    name = "Radeon 8060S Graphics (RADV GFX1151)"
    info = {"device": "vulkan", "device_names": [name], "bus_ids": ["0000:c5:00.0"]}
    cpu = "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S"
    document, row = run(Box(info, {"amd": in_folder(AmdSource, tmp_path / "drm")}, rate=220e9, cpu=cpu))
    assert document.machine.id.startswith("radeon-8060s-graphics-")
    known = device_of(document.machine, "vulkan")
    assert known is not None and known.id.startswith("strix-halo")
    assert (row["watts_mean"], row.power_scope, flags(row)) == (pytest.approx(118), "package", ())
    assert (row["memory_peak_bytes"], row.memory_method) == (pytest.approx(59 * 2**30), "device memory")


def test_a_dgx_spark(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(
        "0000000F:01:00.0",
        "NVIDIA GB10",
        fields={186: (0, 65_000), 74: (0, 0), 269: (0, 0), 270: (0, 0), 271: (0, 0)},
        unsupported={"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTotalEnergyConsumption"},
    )

    def watch(source: Any, pid: int | None) -> None:
        source.pid = pid
        gpu.processes = [] if pid is None else [(pid, 60_000_000_000)]

    info = {"device": "cuda", "device_names": ["NVIDIA GB10"], "bus_ids": ["000f:01:00.0"]}
    card = Card("NVIDIA GB10", "000f:01:00.0", 240e9, memory=119 * GIB)
    cpu = "NVIDIA_DGX_Spark (10x Cortex-A725, 10x Cortex-X925)"
    document, row = run(Box(info, {"nvml": nvml(gpu, watch=watch)}, cards=(card,), cpu=cpu))
    assert document.machine.id.startswith("nvidia-gb10-") and document.machine.cpu == cpu
    assert (row["watts_mean"], row.power_scope, flags(row)) == (pytest.approx(65), "board", ())
    assert (row["memory_peak_bytes"], row.memory_method) == (60_000_000_000, "device memory")


def test_an_arc_b580(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = on_bus(
        tmp_path,
        "0000:03:00.0",
        {"vendor": "0x8086", "device": "0xe20b", "hwmon/hwmon5/energy1_input": 10**9, "tile0/gt0/freq0/act_freq": 2850},
    )
    began = time.monotonic()

    def counted(source: Any, metrics: Any) -> Any:
        """150 W."""
        micro_j = 10**9 + round(150e6 * (time.monotonic() - began))
        (device / "hwmon/hwmon5/energy1_input").write_text(str(micro_j))
        return IntelSource.read(source, metrics)

    sensor = in_folder(IntelSource, tmp_path / "drm")
    monkeypatch.setattr(sensor, "read", counted)
    name = "Intel(R) Arc(tm) B580 Graphics (BMG G21)"
    info = {"device": "vulkan", "device_names": [name], "bus_ids": ["0000:03:00.0"]}
    memory = {"weights_bytes": 8 * 10**9, "kv_cache_bytes": 10**9, "compute_bytes": 10**8}
    document, row = run(Box(info, {"intel": sensor}, memory, rate=420e9))
    known = device_of(document.machine, "vulkan")
    assert document.machine.gpus[0]["bus_id"] == "0000:03:00.0"
    assert known is None or known.id == "arc-b580"
    assert (row["watts_mean"], row.power_scope) == (pytest.approx(150, rel=0.05), "board")
    assert (row["memory_peak_bytes"], row.memory_method) == (9_100_000_000, "the engine's own account")
    assert flags(row) == ()
