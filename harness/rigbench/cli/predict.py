"""`rigbench predict`: what a machine should do."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rigbench.cli.options import (
    CONTEXT,
    HARDWARE,
    JSON,
    KNOWN_MODEL,
    QUANT,
    USERS,
    devices_of,
    facts_named,
    number,
    say,
    say_json,
    without_effect,
)
from rigbench.errors import InputError
from rigbench.text import hint

if TYPE_CHECKING:
    from rigbench.predict.calibrate import Probe
    from rigbench.predict.fit import Fit
    from rigbench.predict.hardware import Hardware
    from rigbench.records import ModelFacts, Prediction


ENGINES = ("llama.cpp", "llama.cpp-cuda", "llama.cpp-metal", "llama.cpp-vulkan", "ollama", "mlx", "vllm", "sglang")
HERE = "this machine"
"""The status of a device that is no entry of the catalogue."""
TABLE = {"hardware", "model", "quant", "users", "context", "table", "as_json"}
MODES = {
    "--cases": {"cases", "out"},
    "--published": {"published", "as_json"},
    "--list-hardware": {"list_hardware", "as_json"},
    "--table": TABLE,
    "--probe": {"probe", "backend", "python", "out", "as_json"},
}
"""What each way of asking uses; whatever else is given has no effect, and is refused."""


def command(
    context: typer.Context,
    hardware: str | None = HARDWARE,
    model: str | None = KNOWN_MODEL,
    quant: str | None = QUANT,
    users: int = USERS,
    context_tokens: int = CONTEXT,
    backend: str = typer.Option(
        "", "--backend", "-b", help="Engine: llama.cpp-cuda, mlx, vllm, ollama ... (the device's usual one)."
    ),
    tensor_parallel: bool = typer.Option(
        False, "--tensor-parallel", help="Several devices share every layer, not whole layers."
    ),
    kv_bits: float = number(16, "--kv-bits", "Bits per value of the KV cache.", 1, 32),
    bandwidth: float | None = number(None, "--bandwidth", "GB/s, in place of the catalogue's.", above=True),
    calibrate: Path | None = typer.Option(
        None, "--calibrate", help="Results of this machine (file or folder) to take the constants from."
    ),
    cases: Path | None = typer.Option(
        None, "--cases", help="A CSV of cases, columns as in configs/reference/measured_train.csv."
    ),
    out: Path | None = typer.Option(None, "-o", "--out", help="Where --cases writes its CSV (else to stdout)."),
    table: bool = typer.Option(False, "--table", help="The grid of all models over all hardware."),
    published: bool = typer.Option(False, "--published", help="Both published tables beside what their rule gives."),
    list_hardware: bool = typer.Option(False, "--list-hardware", help="The hardware catalogue."),
    probe: bool = typer.Option(
        False, "--probe", help="Measure three synthetic models here, for about a minute; kept, and used from then on."
    ),
    python: str | None = typer.Option(None, "--python", help="With --probe: the interpreter that has the engine."),
    as_json: bool = JSON,
) -> None:
    """Predict tokens per second, whether it fits, and from what."""
    from rigbench.predict.hardware import hardware as catalogue
    from rigbench.report import prediction
    from rigbench.report.table import output_console

    flags = {"--cases": cases, "--published": published, "--list-hardware": list_hardware, "--table": table}
    flags["--probe"] = probe
    modes = [name for name, on in flags.items() if on]
    if len(modes) > 1:
        raise InputError(f"{' and '.join(modes)} contradict each other: ask for one")
    if modes:
        without_effect(context, modes[0], MODES[modes[0]])
    elif out is not None or python is not None:
        name, other = ("--out", "--cases") if out is not None else ("--python", "--probe")
        raise InputError(f"{name} has no effect without {other}: leave it out")
    console = output_console()
    if cases is not None:
        _cases(cases, out)
    elif probe:
        _probe(backend, python, out, as_json)
    elif published:
        cells = prediction.published_cells()
        if as_json:
            say_json([{**asdict(cell), "active_bytes": active, "roofline": roof} for cell, active, roof in cells])
        else:
            prediction.print_published(console, cells)
    elif list_hardware:
        if as_json:
            say_json(list(catalogue()))
        else:
            prediction.print_hardware(console)
    elif table:
        models, rows = prediction.grid(hardware, model, quant or "Q4_K_M", users, context_tokens)
        if as_json:
            say_json(
                [
                    {
                        "hardware": device.id,
                        "model": facts.name,
                        "fit": fit.answer,
                        "user_tps": answers.user_tps,
                        "user_tps_80_percent": answers.inputs.get("user_tps_80_percent"),
                        "output_tps": answers.output_tps,
                    }
                    for device, row in rows
                    for facts, (fit, answers) in zip(models, row, strict=True)
                ]
            )
        else:
            title = f"user t/s by the roofline, {quant or 'Q4_K_M'}, {users} users, context {context_tokens}"
            prediction.print_grid(console, models, rows, title)
    else:
        if model is None:
            raise InputError(
                "name a model: --model llama-3.3-70b (or --table, --published, --cases FILE, --list-hardware)"
            )
        facts, device, fitting, predicted = predictions(
            hardware, model, quant, users, context_tokens, backend, tensor_parallel, kv_bits, bandwidth, calibrate
        )
        if as_json:
            say_json({"model": facts, "hardware": device, "fit": fitting, "predictions": predicted})
        else:
            prediction.print_prediction(console, facts, device, fitting, predicted[0], predicted[1:])


def _cases(cases: Path, out: Path | None) -> None:
    from rigbench.predict.cases import predict_cases

    try:
        text = cases.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{cases} is no text in UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot read {cases}: {error.strerror}") from None
    table = predict_cases(text)
    if out is None:
        typer.echo(table, nl=False)
        return
    from rigbench.documents.store import write_whole

    try:
        write_whole(out, table.encode())
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    rows = table.count("\n") - 1
    say(f"{rows} rows written to {out}")


def predictions(
    hardware: str | None,
    model: str,
    quant: str | None,
    users: int,
    context: int,
    backend: str,
    tensor_parallel: bool,
    kv_bits: float,
    bandwidth: float | None,
    calibrate: Path | None,
) -> tuple[ModelFacts, Hardware, Fit | None, list[Prediction]]:
    """(facts, device, fit or None where the memory is not known, predictions: roofline first)."""
    from rigbench.predict import predictors
    from rigbench.predict.fit import fit, with_fit
    from rigbench.predict.roofline import constants, is_engine

    facts, stood_in = facts_named(model, quant)
    if facts.context_limit and context > facts.context_limit:
        raise InputError(f"--context {context} is beyond the {facts.context_limit} tokens that {facts.name} has")
    devices, measured, cores = 1, False, None
    if hardware is not None:
        device, devices = devices_of(hardware)
    else:
        device, cores = _this_machine(measure=bandwidth is None)
        measured = device.status == HERE and bandwidth is None
    if tensor_parallel and devices == 1:
        raise InputError("--tensor-parallel has no effect on one device: write --hardware rtx-4090x2")
    if backend and not is_engine(backend):
        raise InputError(f"no engine {backend!r}; {hint(backend, ENGINES)}")
    rate = device.bandwidth_bytes_per_s or None if bandwidth is None else bandwidth * 1e9
    whole = rate if rate is None or not tensor_parallel else rate * devices
    mean = context / 2
    ours = _own_probe(device, backend, of=hardware) if calibrate is None else None
    known = _calibrated(calibrate) if calibrate is not None else None if ours is None else ours.constants(constants())
    roofline = predictors.roofline(
        facts,
        rate,
        backend=backend,
        device_kind="cpu" if device.status == HERE else "",
        device=None if device.status == HERE else device,
        users=users,
        context_tokens=mean,
        kv_bits=kv_bits,
        devices=devices,
        tensor_parallel=tensor_parallel,
        measured=measured,
        cpu_cores=cores,
        known=known,
    )
    if ours is not None:
        roofline = replace(roofline, inputs={**roofline.inputs, "calibrated_by": ours.sentence})
    rules = [
        rule(facts, whole, users=users, context_tokens=mean, kv_bits=kv_bits)
        for rule in (predictors.active_bytes, predictors.published, predictors.ceiling)
    ]
    fitting = None
    if device.memory_bytes:
        reserved = _reserved(device) if hardware is None else None
        fitting = fit(
            facts,
            device,
            users=users,
            context_tokens=context,
            kv_bits=kv_bits,
            devices=devices,
            reserved_bytes=reserved,
        )
        roofline = with_fit(roofline, fitting)
    if stood_in:
        roofline = replace(roofline, reason="; ".join(filter(None, (stood_in, roofline.reason))))
    return facts, device, fitting, [roofline, *rules]


def _this_machine(*, measure: bool) -> tuple[Hardware, int | None]:
    """(the machine that this runs on: its catalogued GPU, else its processor with the bandwidth as measured; its CPU cores)."""
    from rigbench.predict.calibrate import device_of
    from rigbench.predict.hardware import Hardware
    from rigbench.run import engines
    from rigbench.telemetry.machine import this_machine

    machine = this_machine()
    device = device_of(machine, "gpu")
    if device is not None:
        return device, machine.physical_cores
    matches = engines.device_bandwidth("cpu", (), (), say=say) if measure else None
    memory = machine.memory_bytes or 0
    rate = (matches.read_bytes_per_s if matches else None) or 0.0
    nothing = (None,) * 6
    here = Hardware("here", machine.cpu, "cpu", "cpu", memory, (memory,), rate, *nothing, HERE, "measured", (), ())
    return here, machine.physical_cores


def _own_probe(device: Hardware, backend: str, of: str | None) -> Probe | None:
    """This machine's probe by that engine, where this machine is meant."""
    from rigbench.predict.probes import load
    from rigbench.predict.roofline import platform_of

    if of is not None:
        return None
    platform = "cpu" if device.status == HERE else platform_of(backend, device)
    engine = {"mlx": "mlx_lm", "vllm": "vllm"}.get(platform_of(backend or "llama.cpp", device), "llama_cpp")
    kind = {"mlx": "metal", "vllm": "cuda"}.get(platform, platform)
    return load(kind, engine)


def _probe(backend: str, python: str | None, out: Path | None, as_json: bool) -> None:
    from tempfile import TemporaryDirectory

    from rigbench.cli.progress import Reporter
    from rigbench.run import probe

    with TemporaryDirectory() as folder:
        place = Path(folder) if out is None else out
        ours = probe.run([backend] if backend else [], python, place, say, Reporter)
    if as_json:
        say_json(ours)
        return
    factors = ", ".join(f"{name} x{factor:.2f}" for name, factor in ours.factors.items() if abs(factor - 1) > 0.005)
    typer.echo(f"{ours.sentence}: {ours.rows} figures, which it leaves {ours.spread:.0%} off (standard deviation)")
    typer.echo(f"against published measurements: {factors or 'nothing differs'}")
    typer.echo("predict, plan and run use it on this machine for 90 days, and say so")


def _reserved(device: Hardware) -> int | None:
    """What this machine's driver keeps of its GPU's memory, or macOS of a limit that was raised; None where neither says."""
    from rigbench.telemetry.machine import this_machine

    gpu = next(iter(this_machine().gpus), {})
    wired = gpu.get("wired_limit_bytes")
    return device.memory_bytes - wired if wired else gpu.get("memory_reserved_bytes")


def _calibrated(path: Path) -> dict[str, float]:
    from rigbench.documents import store
    from rigbench.documents.find import result_files
    from rigbench.predict.calibrate import calibrated, measured_rows
    from rigbench.predict.roofline import constants

    documents = [store.read(file) for file in result_files([path], may_be_none=True)]
    machines = {document.machine.id for document in documents}
    if len(machines) > 1:
        raise InputError(f"{path} holds results of {len(machines)} machines; name the folder of one")
    rows = [row for document in documents for row in measured_rows(document)]
    known = calibrated(constants(), rows)
    say(f"calibrated with {len(rows)} rows of {len(documents)} results")
    return known
