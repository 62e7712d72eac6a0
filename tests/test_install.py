"""What is installed is `rigbench` and `rigbench_backends` alone, and lives beside others' top-level `harness` and `backends`."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def run(*words: str | Path, cwd: Path) -> str:
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, cwd=cwd, env=surroundings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, CHECKOUT, cwd=CHECKOUT)
    return next(folder.glob("rigbench-*.whl"))


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """Another distribution that ships the names of our folders at top level."""
    path = tmp_path / "stranger-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("harness", "backends"):
            archive.writestr(f"{name}/__init__.py", "raise ImportError('this is a stranger')\n")
        metadata = "stranger-1.dist-info"
        archive.writestr(f"{metadata}/METADATA", "Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
        archive.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        record = [
            *(f"{name}/__init__.py" for name in ("harness", "backends")),
            f"{metadata}/METADATA",
            f"{metadata}/WHEEL",
        ]
        archive.writestr(f"{metadata}/RECORD", "".join(f"{name},,\n" for name in [*record, f"{metadata}/RECORD"]))
    return path


def test_the_wheel_ships_two_packages_and_the_configuration(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"rigbench", "rigbench_backends"}
    assert "rigbench/_configs/suites/quickstart.toml" in names


@pytest.mark.parametrize("order", ["before", "after"])
def test_every_command_works_beside_a_stranger_and_after_it_is_gone(
    order: str, wheel: Path, stranger: Path, tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")  # what rigbench depends on
    for what in (stranger, wheel) if order == "before" else (wheel, stranger):
        run(python, "-m", "pip", "install", "--no-deps", "--no-index", what, cwd=tmp_path)
    work(python, tmp_path / "beside")
    run(python, "-m", "pip", "uninstall", "--yes", "stranger", cwd=tmp_path)
    work(python, tmp_path / "alone")


def work(python: Path, folder: Path) -> None:
    """The way of a result through the commands."""
    folder.mkdir()
    rigbench = [python, "-c", "import sys; sys.argv[0] = 'rigbench'; from rigbench.cli.main import main; main()"]
    where = "import rigbench, rigbench_backends; print(rigbench.__file__, rigbench_backends.__file__)"
    assert run(python, "-c", where, cwd=folder).count(str(python.parents[1])) == 2
    run(*rigbench, "doctor", cwd=folder)
    last = run(*rigbench, "run", "smoke", "-b", "sim", "-m", "synthetic:llama-160m:Q4_0", cwd=folder).splitlines()[-1]
    result = last.removeprefix("result: ")
    for words in (
        ["show", result],
        ["metrics"],
        ["plan", "standard", "-b", "sim"],
        ["validate", result],
        ["compare", result, result],
        ["export", result, "--format", "csv"],
        ["index", "results"],
        ["models", "list"],
        ["predict", "-m", "llama-3.1-8b"],
    ):
        run(*rigbench, *words, cwd=folder)
