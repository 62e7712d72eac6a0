"""Which files of a folder are result documents: the one rule for every command that takes files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rigbench.errors import InputError


def result_files(paths: Sequence[Path], *, may_be_none: bool = False) -> list[Path]:
    """The result documents among files and folders: all below a folder (see `below`). A file that is named is taken as it is.
    InputError for a folder without any, unless `may_be_none`."""
    files: list[Path] = []
    for path in paths:
        inside = [file for file, _ in below(path)] if path.is_dir() else [path]
        if not inside and not may_be_none:
            raise InputError(f"no result documents (*.json) in {path}")
        files += inside
    return files


def below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Each JSON file below `folder` that may be a result, in order, and its state. Schemas, links and hidden files are left out."""
    for root, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        with os.scandir(root) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                may_be = entry.name.endswith(".json") and not entry.name.startswith((".", "schema-v"))
                if may_be and entry.is_file(follow_symlinks=False):
                    yield Path(entry.path), entry.stat(follow_symlinks=False)
