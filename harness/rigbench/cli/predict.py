"""`rigbench predict`: what a machine should do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rigbench.cli.options import CONTEXT, HARDWARE, JSON, KNOWN_MODEL, QUANT, USERS, devices_of, say, say_json
from rigbench.errors import InputError

if TYPE_CHECKING:
    from rigbench.predict.fit import Fit
    from rigbench.predict.hardware import Hardware
    from rigbench.records import ModelFacts, Prediction


def command(
    hardware: str | None = HARDWARE,
    model: str | None = KNOWN_MODEL,
    quant: str = QUANT,
    users: int = USERS,
    context: int = CONTEXT,
    backend: str = typer.Option(
        "", "--backend", "-b", help="Engine: llama.cpp-cuda, mlx, vllm … (the device's usual one)."
    ),
    tensor_parallel: bool = typer.Option(
        False, "--tensor-parallel", help="Several devices share every layer, not whole layers."
    ),
    kv_bits: float = typer.Option(16, "--kv-bits", help="Bits per value of the KV cache."),
    bandwidth: float | None = typer.Option(None, "--bandwidth", help="GB/s, in place of the catalogue's."),
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
    as_json: bool = JSON,
) -> None:
    """Predict tokens per second, show whether it fits, and say from what."""
    from rigbench.predict.hardware import hardware as catalogue
    from rigbench.report import prediction
    from rigbench.report.table import output_console

    console = output_console()
    if cases is not None:
        _cases(cases, out)
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
        models, rows = prediction.grid(hardware, model, quant, users, context)
        if as_json:
            say_json(
                [
                    {
                        "hardware": device.id,
                        "model": facts.name,
                        "fit": fit.answer,
                        "user_tps": made.user_tps,
                        "output_tps": made.output_tps,
                    }
                    for device, row in rows
                    for facts, (fit, made) in zip(models, row, strict=True)
                ]
            )
        else:
            title = f"user t/s by the roofline, {quant}, {users} users, context {context}"
            prediction.print_grid(console, models, rows, title)
    else:
        if model is None:
            raise InputError(
                "name a model: --model llama-3.3-70b (or --table, --published, --cases FILE, --list-hardware)"
            )
        facts, device, found, predicted = predictions(
            hardware, model, quant, users, context, backend, tensor_parallel, kv_bits, bandwidth, calibrate
        )
        if as_json:
            say_json({"model": facts, "hardware": device, "fit": found, "predictions": predicted})
        else:
            prediction.print_prediction(console, facts, device, found, predicted)


def _cases(cases: Path, out: Path | None) -> None:
    from rigbench.predict.cases import predict_cases

    try:
        text = cases.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{cases} is no text in UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot read {cases}: {error.strerror}") from None
    made = predict_cases(text)
    if out is None:
        typer.echo(made, nl=False)
        return
    from rigbench.documents.store import write_whole

    try:
        write_whole(out, made.encode())
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    rows = made.count("\n") - 1
    say(f"{rows} rows written to {out}")


def predictions(
    hardware: str | None,
    model: str,
    quant: str,
    users: int,
    context: int,
    backend: str,
    tensor_parallel: bool,
    kv_bits: float,
    bandwidth: float | None,
    calibrate: Path | None,
) -> tuple[ModelFacts, Hardware | None, Fit | None, list[Prediction]]:
    """(facts, device or None, fit or None, predictions: roofline first)."""
    from rigbench.models.resolve import facts_of
    from rigbench.predict import predictors
    from rigbench.predict.fit import fit, with_fit

    if kv_bits <= 0 or kv_bits > 32:
        raise InputError(f"{kv_bits:g} bits per cached value is impossible: give 4 to 32")
    facts = facts_of(model, quant)
    device, devices, kind, measured, cores = None, 1, "", False, None
    rate = None if bandwidth is None else bandwidth * 1e9
    if hardware is not None:
        device, devices = devices_of(hardware)
    else:
        device, kind, here, cores = _this_machine()
        if rate is None and here is not None:
            rate, measured = here, True
    if rate is None and device is not None:
        rate = device.bandwidth_bytes_per_s
    known = None if calibrate is None else _calibrated(calibrate)
    whole = rate if rate is None or not tensor_parallel else rate * devices
    mean = context / 2
    made = [
        predictors.roofline(
            facts,
            rate,
            backend=backend,
            device_kind=kind,
            device=device,
            users=users,
            context_tokens=mean,
            kv_bits=kv_bits,
            devices=devices,
            tensor_parallel=tensor_parallel,
            measured=measured,
            cpu_cores=cores,
            known=known,
        )
    ]
    made += [
        rule(facts, whole, users=users, context_tokens=mean, kv_bits=kv_bits)
        for rule in (predictors.active_bytes, predictors.published, predictors.ceiling)
    ]
    if device is None:
        return facts, None, None, made
    found = fit(facts, device, users=users, context_tokens=context, kv_bits=kv_bits, devices=devices)
    return facts, device, found, [with_fit(made[0], found), *made[1:]]


def _this_machine() -> tuple[Hardware | None, str, float | None, int | None]:
    """(catalogued device, kind, measured bandwidth, CPU cores) of the machine that this runs on."""
    from rigbench.predict.calibrate import device_of
    from rigbench.run import engines
    from rigbench.telemetry.machine import this_machine

    machine = this_machine()
    device = device_of(machine, "gpu")
    if device is not None:
        return device, "", None, machine.physical_cores
    found = engines.device_bandwidth("cpu", (), (), say=say)
    return None, "cpu", found.read_bytes_per_s if found else None, machine.physical_cores


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
