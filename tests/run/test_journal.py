"""The journal under torn lines, damage, and a disk that is really full."""

import errno
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from rigbench.errors import InputError, UnavailableError
from rigbench.records import Case, CaseResult, Failure, Machine
from rigbench.run import journal
from rigbench.run.journal import Finished, Header
from rigbench.suites.suite import load_suite
from rigbench.workloads import Generation

MACHINE = Machine("box", "cpu", 1, 2, 1, (), "Linux", "6", "x86_64", "3.11")
HEADER = Header("2026-01-01T00:00:00Z", 1.5, MACHINE, load_suite("smoke"), (), {"m": None})


def finished(n: int, text: str = "") -> Finished:
    case = Case(f"g/r{n}", "g", "sim", "m", Generation("chat", "text", 8, 8), 1, 1, n, 0)
    return Finished(CaseResult(case, n, 0.5, error=Failure("crash", text or "é" * n)), None)


CASES = tuple(finished(n) for n in range(5))


def written(path: Path) -> Path:
    one = journal.create(path, HEADER)
    for case in CASES:
        one.append(case)
    one.close()
    return path


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    content = journal.read(written(tmp_path / "a" / "j.journal"))
    assert content.header == HEADER
    assert content.cases == CASES
    assert content.dropped == ()
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "j.journal"]  # the reserve is gone


@pytest.mark.slow
def test_cut_at_every_byte_loses_the_torn_case_alone(tmp_path: Path) -> None:
    whole = written(tmp_path / "j.journal").read_bytes()
    header_end = whole.index(b"\n") + 1
    for cut in range(header_end, len(whole)):
        path = tmp_path / "cut.journal"
        path.write_bytes(whole[:cut])
        content = journal.read(path)
        assert content.cases == CASES[: whole[header_end:cut].count(b"\n")]
        assert bool(content.dropped) == (not whole[:cut].endswith(b"\n"))


def test_going_on_after_a_torn_line_keeps_both_sides(tmp_path: Path) -> None:
    path = written(tmp_path / "j.journal")
    path.write_bytes(path.read_bytes()[:-3])
    again = journal.reopen(path)
    again.append(finished(9))
    again.close()
    assert journal.read(path).cases == (*CASES[:4], finished(9))


def test_a_damaged_line_in_the_middle_costs_that_case(tmp_path: Path) -> None:
    path = written(tmp_path / "j.journal")
    lines = path.read_bytes().split(b"\n")
    lines[2] = b"\0" * len(lines[2])
    path.write_bytes(b"\n".join(lines))
    content = journal.read(path)
    assert content.cases == (CASES[0], *CASES[2:])
    assert "line 3" in content.dropped[0]


@pytest.mark.parametrize("data", [b"", b"hello\n", b'{"format": "other"}\n', b"\xff\xfe\n"])
def test_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "j.journal"
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a journal"):
        journal.read(path)


def test_another_version_is_named(tmp_path: Path) -> None:
    header, *cases = written(tmp_path / "j.journal").read_bytes().splitlines(keepends=True)
    path = tmp_path / "other.journal"
    for lines in (
        header.split(b"\t")[0].replace(b"journal-2", b"journal-1")
        + b"\n"
        + b"".join(cases),  # before there were checksums
        signed(header.replace(b"journal-2", b"journal-9")) + b"".join(cases),
        header + b"".join(signed(case.replace(b'"order"', b'"place"')) for case in cases),
    ):
        path.write_bytes(lines)
        with pytest.raises(InputError, match="written by another version of rigbench"):
            journal.read(path)


def signed(line: bytes) -> bytes:
    content = line.rpartition(b"\t")[0]
    return content + b"\t%08x\n" % zlib.crc32(content)


def test_a_flipped_bit_costs_its_line_and_is_never_taken_for_data(tmp_path: Path) -> None:
    whole = written(tmp_path / "j.journal").read_bytes()
    lines = whole.splitlines(keepends=True)
    path = tmp_path / "flipped.journal"
    for at in range(len(lines[0]), len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        content = journal.read(path)
        assert all(case in CASES for case in content.cases)
        assert len(CASES) - 2 <= len(content.cases) < len(CASES) and content.dropped
    for at in range(0, len(lines[0]) - 1, 29):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(InputError):
            journal.read(path)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no lock of this kind")
def test_two_runs_never_go_on_with_one_journal(tmp_path: Path) -> None:
    first = journal.create(tmp_path / "j.journal", HEADER)
    with pytest.raises(UnavailableError, match="in use by a run that is going on"):
        journal.reopen(tmp_path / "j.journal")
    first.close()
    journal.reopen(tmp_path / "j.journal").close()


def test_no_journal_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no journal"):
        journal.read(tmp_path / "none")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UnavailableError, match="cannot write"):
        journal.create(tmp_path / "sub" / "j.journal", HEADER)


def test_a_full_disk_still_takes_the_case_in_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write fails half-way, as on a full disk, until the reserve is given up."""
    one = journal.create(tmp_path / "j.journal", HEADER)
    one.append(CASES[0])
    real = os.write
    reserve = tmp_path / "j.reserve"
    assert reserve.stat().st_size == journal.RESERVE_BYTES

    def full(handle: int, data: bytes) -> int:
        if reserve.exists():
            real(handle, bytes(data)[:5])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(journal.DiskFull, match="every finished case is saved"):
        one.append(CASES[1])
    one.close()
    assert journal.read(tmp_path / "j.journal").cases == CASES[:2]


FULL_DISK = """
import sys
from pathlib import Path
from run.test_journal import HEADER, finished
from rigbench.run import journal
path = Path(sys.argv[1]) / "j.journal"
made = journal.create(path, HEADER)
filler = (path.parent / "filler").open("wb", buffering=0)
try:
    while True:
        filler.write(b"x" * 65536)
except OSError:
    pass
try:
    made.append(finished(1, "y" * 1_000_000))
except journal.DiskFull as error:
    print("full:", error)
made.close()
print("cases:", [case.result.order for case in journal.read(path).cases])
"""


def test_on_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A file system of 40 MB in a mount namespace of its own, filled to the last byte by another file."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare on this system")
    script = f"mount -t tmpfs -o size=40m tmpfs {tmp_path} && exec {sys.executable} -c '{FULL_DISK}' {tmp_path}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0 and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "full: the disk is full; every finished case is saved" in done.stdout
    assert "cases: [1]" in done.stdout
