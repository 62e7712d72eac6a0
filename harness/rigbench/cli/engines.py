"""`rigbench engines`: the backends with their options, under every name that they have."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import typer

import rigbench_backends
from rigbench.cli.options import JSON, say_json


def command(
    engine: str | None = typer.Argument(None, help="Only this one: llama.cpp, mlx, vllm ..."),
    as_json: bool = JSON,
) -> None:
    """List the engines and their options: flag, meaning, default."""
    from rigbench.run.selection import backend_named

    names = [backend_named(engine)[0]] if engine else list(rigbench_backends.registry())
    entries = [_described(name) for name in names]
    if as_json:
        say_json(entries)
        return
    from rigbench.report.table import output_console, print_notes, print_table

    console = output_console()
    for each in entries:
        also = f", also {', '.join(each['aliases'])}" if each["aliases"] else ""
        print_notes(console, [f"{each['engine']}{also}: opens {', '.join(each['opens'])}"], "bold")
        rows = [
            (one["name"], " ".join(one["flags"]), _text(one["default"]), one["about"] + _limits(one))
            for one in each["options"]
        ]
        print_table(console, ("-O", "flag", "default", "meaning"), rows)
    print_notes(console, ["rigbench run MODEL -O NAME=VALUE sets one, NAME=VALUE,VALUE sweeps over several."])


def _described(name: str) -> dict[str, Any]:
    backend = rigbench_backends.load(name)
    return {
        "engine": name,
        "aliases": [alias for alias, of in rigbench_backends.ALIASES.items() if of == name],
        "opens": list(backend.model_formats),
        "default_model": backend.default_model,
        "options": [
            {
                "name": each.name,
                "flags": list(each.metadata.get("flags", ())),
                "about": each.metadata.get("about", ""),
                "default": {} if each.default is MISSING else each.default,
                "least": each.metadata.get("least"),
                "choices": list(each.metadata.get("choices", ())),
            }
            for each in fields(backend.Options)
        ],
    }


def _limits(option: dict[str, Any]) -> str:
    if option["choices"]:
        return f": {', '.join(option['choices'])}"
    return ""


def _text(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return "-" if default in (None, (), {}) else str(default)
