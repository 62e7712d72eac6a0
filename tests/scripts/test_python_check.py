"""An old Python gets one sentence, or a newer one from PATH, and can read every script that it may be started on."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("python_check", SCRIPTS / "python_check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python_that_says(folder: Path, name: str, code: int) -> Path:
    """A program called `name` that ends with `code`, as a Python does that is new enough (0) or not (1)."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\nexit {code}\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("script", ["quickstart", "test", "check", "python_check.py"])
def test_python_3_6_can_read_it(script: str) -> None:
    ast.parse((SCRIPTS / script).read_text(), feature_version=(3, 6))


def test_this_python_is_new_enough(check: ModuleType) -> None:
    check.require()
    assert check.runs_new_enough(sys.executable)


@pytest.mark.skipif(os.name != "posix", reason="shell scripts stand for Pythons")
def test_a_launcher_without_a_python_behind_it_is_passed_by(check: ModuleType, tmp_path: Path) -> None:
    python_that_says(tmp_path / "a", "python3.13", 127)
    python_that_says(tmp_path / "a", "python3", 1)
    assert check.find_newer(str(tmp_path / "a")) is None
    good = python_that_says(tmp_path / "b", "python3.11", 0)
    assert check.find_newer(f"{tmp_path / 'a'}{os.pathsep}{tmp_path / 'b'}") == str(good)


def test_an_old_python_alone_ends_in_one_sentence(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.sys, "version_info", (3, 8, 18))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit) as ended:
        check.require()
    assert str(ended.value).startswith("rigbench needs Python 3.11 or newer and this is 3.8: install")
    assert "\n" not in str(ended.value)


@pytest.mark.skipif(os.name != "posix", reason="shell scripts stand for Pythons")
def test_an_old_python_goes_on_with_a_newer_one(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = python_that_says(tmp_path, "python3.12", 0)
    monkeypatch.setattr(check.sys, "version_info", (3, 6, 15))
    monkeypatch.setattr(check.sys, "argv", ["scripts/quickstart", "--model", "x"])
    monkeypatch.setenv("PATH", str(tmp_path))
    started: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(check.os, "execv", lambda program, words: started.append((program, words)))
    check.require()
    assert started == [(str(newer), [str(newer), "scripts/quickstart", "--model", "x"])]
    assert capsys.readouterr().err == f"This is Python 3.6, which is too old for rigbench; going on with {newer}.\n"
