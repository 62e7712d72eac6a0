"""`rigbench predict`, `cost` and `advise`: what a machine should do, what it costs, and which one to take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rigbench.cli.progress import say
from rigbench.errors import InputError

if TYPE_CHECKING:
    from rigbench.predict.hardware import Hardware
    from rigbench.records import ModelFacts, Prediction

JSON = typer.Option(False, "--json", help="As JSON.")
HARDWARE = typer.Option(
    None, "--hardware", "-d", help="A catalogued device, rtx-5090 or 2 of them: rtx-5090x2. Without it: this machine."
)
MODEL = typer.Option(None, "--model", "-m", help="A catalogued model (qwen3-30b-a3b, with :QUANT) or a .gguf file.")
QUANT = typer.Option("Q4_K_M", "--quant", "-q", help="Quantisation of a catalogued model.")
USERS = typer.Option(1, "--users", "-u", help="Users who decode at once.")
CONTEXT = typer.Option(4096, "--context", "-c", help="Tokens of context for each user.")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(predict)
    app.command()(cost)
    app.command()(advise)


def predict(
    hardware: str | None = HARDWARE,
    model: str | None = MODEL,
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
    from rigbench.cli import predict_tables, published_tables

    if cases is not None:
        _cases(cases, out)
    elif published:
        published_tables.cells(as_json)
    elif list_hardware:
        predict_tables.hardware_list(as_json)
    elif table:
        predict_tables.grid(hardware, model, quant, users, context, as_json)
    else:
        if model is None:
            raise InputError(
                "name a model: --model llama-3.3-70b (or --table, --published, --cases FILE, --list-hardware)"
            )
        made = _predictions(
            hardware, model, quant, users, context, backend, tensor_parallel, kv_bits, bandwidth, calibrate
        )
        predict_tables.one(*made, as_json)


def cost(
    active_watts: float | None = typer.Option(
        None, "--active-watts", help="Watts while it works (else the catalogue's, with --hardware)."
    ),
    idle_watts: float = typer.Option(0.0, "--idle-watts", help="Watts while it waits."),
    hours: float = typer.Option(8.0, "--hours", help="Hours of work a day."),
    price_kwh: float = typer.Option(0.16, "--price-kwh", help="Price of a kWh."),
    tokens_per_s: float | None = typer.Option(
        None, "--tokens-per-s", help="All users together; else predicted from --hardware and --model."
    ),
    hardware_price: float | None = typer.Option(None, "--hardware-price", help="What the machine costs."),
    years: float = typer.Option(3.0, "--years", help="Years over which its price is spread."),
    api_input: float = typer.Option(0.0, "--api-input", help="Million input tokens a day that an API would take."),
    api_output: float = typer.Option(0.0, "--api-output", help="Million output tokens a day."),
    api_input_price: float = typer.Option(2.50, "--api-input-price", help="Price of a million input tokens."),
    api_output_price: float = typer.Option(10.0, "--api-output-price", help="Price of a million output tokens."),
    hardware: str | None = HARDWARE,
    model: str | None = MODEL,
    quant: str = QUANT,
    users: int = USERS,
    context: int = CONTEXT,
    published: bool = typer.Option(
        False, "--published", help="The published cost figures beside what their inputs give."
    ),
    as_json: bool = JSON,
) -> None:
    """Electricity of a year, a million tokens' cost, and when the machine has paid for itself against an API."""
    from rigbench.cli import predict_tables, published_tables
    from rigbench.predict import cost as money

    if published:
        published_tables.costs(as_json)
        return
    source = "stated"
    if active_watts is None:
        if hardware is None:
            raise InputError("state --active-watts, or name --hardware to take the catalogue's board power")
        device, devices = _device(hardware)
        if device.power_w is None:
            raise InputError(f"the catalogue has no power of {device.id}; state --active-watts")
        active_watts, source = (
            device.power_w * devices,
            f"board power of {device.id} in the catalogue, without the rest of the machine",
        )
    if tokens_per_s is None and hardware is not None and model is not None:
        prediction = _predictions(hardware, model, quant, users, context, "", False, 16, None, None)[3][0]
        tokens_per_s = prediction.output_tps
    api = money.api_cost_per_day(api_input, api_output, api_input_price, api_output_price) * money.DAYS_PER_MONTH
    found = money.cost(
        active_w=active_watts,
        idle_w=idle_watts,
        hours_per_day=hours,
        price_per_kwh=price_kwh,
        tokens_per_s=tokens_per_s,
        hardware_price=hardware_price,
        years_of_use=years,
        api_per_month=api or None,
    )
    predict_tables.cost_lines(
        found,
        {"active_watts": active_watts, "from": source, "tokens_per_s": tokens_per_s and round(tokens_per_s, 1)},
        as_json,
    )


def advise(
    model: list[str] = typer.Option([], "--model", "-m", help="A model it must run; may be repeated."),
    quant: str = QUANT,
    users: int = USERS,
    context: int = CONTEXT,
    memory: float | None = typer.Option(None, "--memory", help="At most this much memory, GB."),
    vendor: str | None = typer.Option(None, "--vendor", help="Only nvidia, apple, amd or intel."),
    least: float | None = typer.Option(None, "--least", help="At least this many tokens per second for each user."),
    offload: bool = typer.Option(
        False, "--offload", help="Count machines that keep part of the layers in the host's memory."
    ),
    top: int = typer.Option(15, "--top", help="How many machines to show (0: all)."),
    as_json: bool = JSON,
) -> None:
    """Which machine of the catalogue runs these models for these users, with the reason in a sentence each."""
    from rigbench.cli import predict_tables
    from rigbench.models.resolve import facts_of
    from rigbench.predict.advise import advise as ask
    from rigbench.predict.hardware import GIB

    for name, given in (("--memory", memory), ("--least", least)):
        if given is not None and not 0 < given < 1e9:
            raise InputError(f"{name} {given:g} is impossible: give a number above 0")
    found = ask(
        [facts_of(name, quant) for name in model],
        users=users,
        context_tokens=context,
        most_memory_bytes=None if memory is None else round(memory * GIB),
        vendor=vendor,
        least_user_tps=least,
        offload=offload,
    )
    predict_tables.advice(found[:top] if top else found, as_json)


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


def _device(name: str) -> tuple[Hardware, int]:
    """A catalogued device and how many of it: 'rtx-5090x2' is two."""
    from rigbench.predict.hardware import find

    base, _, count = name.strip().lower().rpartition("x")
    if base and count.isdigit() and 1 <= int(count) <= 64:
        try:
            return find(base), int(count)
        except InputError:
            pass  # the name itself may end so; the message is then about the whole of it
    return find(name), 1


def _predictions(
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
) -> tuple[ModelFacts, Any, Any, list[Prediction]]:
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
        device, devices = _device(hardware)
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
    from rigbench.run.machine import this_machine

    machine = this_machine()
    device = device_of(machine, "gpu")
    if device is not None:
        return device, "", None, machine.physical_cores
    found = engines.device_bandwidth("cpu", (), (), say=say)
    return None, "cpu", found.read_bytes_per_s if found else None, machine.physical_cores


def _calibrated(path: Path) -> dict[str, float]:
    from rigbench.documents import store
    from rigbench.predict.calibrate import calibrated, measured_rows
    from rigbench.predict.roofline import constants

    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    documents = [store.read(file) for file in files if not file.name.startswith("schema-")]
    machines = {document.machine.id for document in documents}
    if len(machines) > 1:
        raise InputError(f"{path} holds results of {len(machines)} machines; name the folder of one")
    rows = [row for document in documents for row in measured_rows(document)]
    known = calibrated(constants(), rows)
    say(f"calibrated with {len(rows)} rows of {len(documents)} results")
    return known
