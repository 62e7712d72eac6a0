"""Handing a result in: what would leave this machine, whether anything in it is private, and a branch with one commit.

    rigbench submit results/…/….json --repo https://example.org/results.git

The results repository is cloned bare and without its files, and the commit is made from git's own objects: no working tree,
so nothing that the repository holds (a link, a hook, a filter) takes part. The branch is named after the document's id, hence
submitting twice finds it there. Only that branch is pushed, never with force. If the push fails, the clone stays and the
message says how to go on from it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigbench.documents import bounds, store
from rigbench.documents.validate import level_sentence, validate_bytes
from rigbench.errors import InputError, UnavailableError, ValidationFailed
from rigbench.paths import file_stem
from rigbench.records import RunDocument
from rigbench.text import printable, private_parts, private_words

PATIENCE_S = 600
FAULTS_SHOWN = 5
TEXT_SHOWN = 300
NEUTRAL = ("rigbench", "rigbench@users.invalid")
"""The author of a commit where git knows none: left alone it would make one of the user's and the host's names."""
VERSIONS = re.compile(r"\.(drivers|os|kernel|version|build|rigbench_version|python)\b|\.telemetry\.")
"""Where four numbers with dots between them are a version and no address."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What would be handed in: `data` are the very bytes of the file, `target` its place in the repository; `level` how far it
    holds, `notes` what its reader should know; `private` JSON path and kind of what should perhaps not be sent."""

    path: Path
    data: bytes
    document: RunDocument
    target: str
    level: str
    notes: tuple[str, ...]
    private: tuple[tuple[str, str], ...]

    @property
    def branch(self) -> str:
        return f"result/{self.document.id[:16]}"

    @property
    def title(self) -> str:
        """First line of the commit and title of the pull request."""
        suite, machine = printable(self.document.suite.name), printable(self.document.machine.id)
        return f"Result: {suite} on {machine}"[:100]


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of it. `state`: pushed, already_in (the repository has it) or already_sent (its branch is there).
    `author` is who the commit names."""

    state: str
    branch: str
    where: str
    author: str | None = None


class PushFailed(UnavailableError):
    """The commit is made, but the repository did not take it; the message says where it is and how to go on."""


def prepare(path: Path) -> Parcel:
    """Read `path`, validate it and look it through. InputError; ValidationFailed with its faults."""
    try:
        data, fault = bounds.read_bytes(path)
    except OSError as error:
        raise InputError(f"no result at {path}: {error.strerror}") from error
    report = validate_bytes(data, str(path))
    if faults := [fault] if fault else report.faults:
        more = f"\n{path}: and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise ValidationFailed("\n".join(f"{path}: {fault}" for fault in faults[:FAULTS_SHOWN]) + more)
    content = json.loads(data)
    document = store.parse(content, str(path))
    if "imported" in document.annotations:
        raise InputError(f"{path}: imported figures have no raw records behind them, so nobody could check them")
    if not any(result.requests for result in document.cases):
        raise InputError(f"{path}: nothing was measured, every case failed: there is nothing to compare with")
    stem = file_stem(document.machine.id, document.created_utc, document.suite.name)
    target = f"results/{stem.as_posix()}-{document.id[:8]}.json"
    return Parcel(path, data, document, target, level_sentence(report), report.notes, tuple(private_places(content)))


def private_places(content: Any, words: list[str] | None = None) -> Iterator[tuple[str, str]]:
    """(JSON path, what it is) of each text that may say whose machine this is. `words` default to this machine's and user's."""
    private = [
        (word, re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")) for word in (private_words() if words is None else words)
    ]
    for place, text in _texts(content, "$"):
        for word, pattern in private:
            if pattern.search(text):
                yield place, f"{word!r}, a name or folder of this machine"
        for kind, part in private_parts(text):
            if kind != "an IP address" or not VERSIONS.search(place):
                yield place, f"{kind}: {printable(part[:TEXT_SHOWN])}"


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield f"{place}.{printable(key[:TEXT_SHOWN])}", key
            yield from _texts(inner, f"{place}.{printable(key[:TEXT_SHOWN])}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            if isinstance(inner, str | dict | list):
                yield from _texts(inner, f"{place}[{number}]")


def send(parcel: Parcel, repository: str, *, body: str) -> Sent:
    """Clone, commit on a branch of its own, push that branch. `body` is the text of the commit and of a pull request.

    UnavailableError if there is no git or no such repository; PushFailed (the clone stays) if it does not take the branch.
    """
    if shutil.which("git") is None:
        raise UnavailableError("no git here: install git, or put the file into the repository by hand")
    if repository.startswith("-") or "::" in repository or re.match(r"\w+://-", repository):
        raise InputError(f"--repo {repository!r} is no repository: give a URL or a path")
    local = Path(repository).expanduser()
    source = str(local.resolve()) if local.exists() else repository
    folder = Path(tempfile.mkdtemp(prefix="rigbench-submit-"))
    clone = folder / "results.git"
    keep = False
    try:
        done = _git(folder, "clone", "--quiet", "--bare", *_thrift(source), "--template=", "--", source, str(clone))
        if done.returncode:
            raise UnavailableError(f"cannot clone {repository}: {_last_line(done)}")
        blob = _ask(clone, "hash-object", "-w", "--stdin", data=parcel.data)
        head = _git(clone, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        parent = _text(head) if head.returncode == 0 else None
        if parent and (there := _in_tree(clone, parent, blob, parcel.target)):
            return Sent("already_in", parcel.branch, there)
        if _text(_git(clone, "ls-remote", "--heads", "origin", f"refs/heads/{parcel.branch}")):
            return Sent("already_sent", parcel.branch, repository)
        name, mail = author()
        tree = _tree(clone, parent, blob, parcel.target)
        commit = _commit(clone, tree, parent, f"{parcel.title}\n\n{body}", (name, mail))
        _ask(clone, "update-ref", f"refs/heads/{parcel.branch}", commit)
        reference = f"refs/heads/{parcel.branch}"
        # The hooks of a repository on this machine would run here; those of another machine are its owner's affair.
        without_hooks = [f"--receive-pack=git -c core.hooksPath={os.devnull} receive-pack"] if local.exists() else []
        pushed = _git(clone, "push", "--quiet", *without_hooks, "origin", f"{reference}:{reference}")
        if pushed.returncode:
            keep = True
            raise PushFailed(
                f"{repository} did not take the branch {parcel.branch}: {_last_line(pushed)}\n"
                f"the commit is kept; once you may push (or to a fork of yours), go on with: git -C {clone} push "
                f"{'FORK_URL' if '://' in source or '@' in source else 'origin'} {parcel.branch}"
            )
        return Sent("pushed", parcel.branch, repository, f"{name} <{mail}>")
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def author() -> tuple[str, str]:
    """Name and address that git is configured with, else a neutral pair."""
    if shutil.which("git") is None:
        return NEUTRAL
    values = [_text(_git(Path.cwd(), "config", "--get", key)) for key in ("user.name", "user.email")]
    return (values[0], values[1]) if all(values) else NEUTRAL


def pull_request_link(repository: str, branch: str) -> str | None:
    """Where GitHub takes the pull request; None for any other place."""
    match = re.fullmatch(r"(?:https://|git@|ssh://git@)github\.com[/:]([\w.-]+)/([\w.-]+?)(?:\.git)?/?", repository)
    return f"https://github.com/{match[1]}/{match[2]}/compare/{branch}?expand=1" if match else None


def _thrift(source: str) -> tuple[str, ...]:
    """The newest commit without files is enough, where it comes over a wire."""
    return () if Path(source).exists() else ("--depth=1", "--filter=blob:none", "--single-branch")


def _in_tree(clone: Path, commit: str, blob: str, target: str) -> str | None:
    """The place of the same file in the repository's present state."""
    listed = _git(clone, "ls-tree", "-r", "-z", commit, "--", "results/")
    for line in listed.stdout.decode("utf-8", "replace").split("\0"):
        facts, _, name = line.partition("\t")
        if name and (facts.split()[2] == blob or name == target):
            return name
    return None


def _tree(clone: Path, parent: str | None, blob: str, target: str) -> str:
    """The tree of `parent` with the file added, made in an index of its own."""
    index = {"GIT_INDEX_FILE": str(clone / "submit.index")}
    _ask(clone, "read-tree", *([parent] if parent else ["--empty"]), more=index)
    _ask(clone, "update-index", "--add", "--cacheinfo", f"100644,{blob},{target}", more=index)
    return _ask(clone, "write-tree", "--missing-ok", more=index)


def _commit(clone: Path, tree: str, parent: str | None, message: str, by: tuple[str, str]) -> str:
    # The time in UTC: a zone would tell where the machine stands.
    who = {
        f"GIT_{role}_{part}": text
        for role in ("AUTHOR", "COMMITTER")
        for part, text in zip(("NAME", "EMAIL"), by, strict=True)
    }
    parents = ["-p", parent] if parent else []
    return _ask(clone, "commit-tree", tree, *parents, "-F", "-", data=message.encode(), more={**who, "TZ": "UTC"})


def _git(
    folder: Path, *words: str, data: bytes | None = None, more: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """git that asks nobody anything."""
    quiet = {
        "GIT_TERMINAL_PROMPT": "0",
        "GCM_INTERACTIVE": "never",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "LC_ALL": "C",
    }
    if "GIT_SSH_COMMAND" not in os.environ:
        quiet["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes"
    # A checkout that this is started from (a hook, a worktree) must not be taken for the repository.
    inherited = {
        name: text for name, text in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    }
    try:
        return subprocess.run(
            ["git", "-c", f"core.hooksPath={os.devnull}", "-c", "protocol.ext.allow=never", *words],
            cwd=folder,
            input=b"" if data is None else data,
            capture_output=True,
            env={**inherited, **quiet, **(more or {})},
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"git {words[0]} gave no answer within {PATIENCE_S} s") from error


def _ask(folder: Path, *words: str, data: bytes | None = None, more: dict[str, str] | None = None) -> str:
    done = _git(folder, *words, data=data, more=more)
    if done.returncode:
        raise UnavailableError(f"git {words[0]} failed: {_last_line(done)}")
    return _text(done)


def _text(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stdout.decode("utf-8", "replace").strip()


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """What git said in the end, without its advice."""
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    faults = [line for line in lines if line.startswith(("fatal:", "error:", "! [", "remote:"))]
    return printable((faults or lines or [f"exit code {done.returncode}"])[0].removeprefix("fatal: ")[:TEXT_SHOWN])
