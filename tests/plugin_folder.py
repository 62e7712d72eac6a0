"""A third party's package in a folder outside the project: one file, and the entry point that registers it."""

from __future__ import annotations

from pathlib import Path


def plugin_folder(folder: Path, group: str, name: str, attribute: str, source: str) -> Path:
    """`folder` as a place on the path where `source` is installed as the entry point `name` of `group`."""
    metadata = folder / f"{name}-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}_plugin:{attribute}\n")
    (folder / f"{name}_plugin.py").write_text(source)
    return folder
