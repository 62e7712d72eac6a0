"""Handing in: what is sent is what was shown, once, to a branch of its own, and nothing private without a word."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rigbench.documents import store, submit
from rigbench.documents.exchange import importing
from rigbench.errors import InputError, UnavailableError, ValidationFailed

HERE = Path(__file__).parent
V1 = HERE / "v1.json"


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that knows no user, and temporary folders that the test sees."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A bare repository with one commit on `main`."""
    path = tmp_path / "results.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(path))
    tree = subprocess.run(["git", "-C", str(path), "mktree"], input="", capture_output=True, text=True, check=True)
    who = ("-c", "user.name=a", "-c", "user.email=a@b.invalid")
    commit = git(path, *who, "commit-tree", tree.stdout.strip(), "-m", "begun")
    git(path, "update-ref", "refs/heads/main", commit)
    return path


def document(folder: Path, **changes: Any) -> Path:
    content = json.loads(V1.read_text()) | changes
    content["id"] = store.content_id(content)
    path = folder / "result.json"
    path.write_text(json.dumps(content))
    return path


def test_the_branch_holds_the_very_file_and_nothing_else(tmp_path: Path, repository: Path) -> None:
    parcel = submit.prepare(document(tmp_path))
    sent = submit.send(parcel, str(repository), body="text of the pull request")
    assert sent.state == "pushed"
    assert git(repository, "branch", "--list").split() == ["*", "main", sent.branch]
    assert git(repository, "diff", "--name-status", "main", sent.branch) == f"A\t{parcel.target}"
    output = subprocess.run(
        ["git", "-C", str(repository), "show", f"{sent.branch}:{parcel.target}"], capture_output=True, check=True
    )
    assert output.stdout == parcel.path.read_bytes()
    assert git(repository, "log", "-1", "--format=%B", sent.branch) == f"{parcel.title}\n\ntext of the pull request"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_no_name_of_the_user_or_the_host_and_no_time_zone(tmp_path: Path, repository: Path) -> None:
    sent = submit.send(submit.prepare(document(tmp_path)), str(repository), body="")
    name, mail = submit.NEUTRAL
    who = git(repository, "log", "-1", "--format=%an <%ae> %cn <%ce> %ai", sent.branch)
    assert who.startswith(f"{name} <{mail}> {name} <{mail}> ")
    assert who.endswith(" +0000")
    assert sent.author == f"{name} <{mail}>"


def test_git_s_own_author_where_there_is_one(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("[user]\nname = Ada\nemail = ada@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    assert submit.author() == ("Ada", "ada@example.org")
    sent = submit.send(submit.prepare(document(tmp_path)), str(repository), body="")
    assert git(repository, "log", "-1", "--format=%an %ae", sent.branch) == "Ada ada@example.org"


@pytest.mark.parametrize("form", ["path", "url", "working copy", "empty"])
def test_twice_is_once(tmp_path: Path, repository: Path, form: str) -> None:
    where = str(repository)
    if form == "url":
        git(repository, "config", "uploadpack.allowFilter", "true")
        where = repository.as_uri()
    if form == "working copy":
        git(tmp_path, "clone", "--quiet", str(repository), "copy")
        where = "copy"
    if form == "empty":
        git(tmp_path, "init", "--quiet", "--bare", "empty.git")
        where = "empty.git"
    parcel = submit.prepare(document(tmp_path))
    first = submit.send(parcel, where, body="")
    assert first.state == "pushed"
    refs = git(Path(where) if form != "url" else repository, "for-each-ref")
    assert submit.send(parcel, where, body="").state == "already_sent"
    assert git(Path(where) if form != "url" else repository, "for-each-ref") == refs


def test_what_was_merged_is_there_already_even_under_another_name(tmp_path: Path, repository: Path) -> None:
    parcel = submit.prepare(document(tmp_path))
    sent = submit.send(parcel, str(repository), body="")
    git(repository, "update-ref", "refs/heads/main", sent.branch)
    git(repository, "branch", "-D", sent.branch)
    again = submit.send(parcel, str(repository), body="")
    assert (again.state, again.where) == ("already_in", parcel.target)
    git(tmp_path, "clone", "--quiet", str(repository), "copy")
    copy = tmp_path / "copy"
    git(copy, "mv", parcel.target, "results/moved.json")
    git(copy, "-c", "user.name=a", "-c", "user.email=a@b.invalid", "commit", "--quiet", "-m", "moved")
    git(copy, "push", "--quiet")
    again = submit.send(parcel, str(repository), body="")
    assert (again.state, again.where) == ("already_in", "results/moved.json")


def test_a_refused_push_keeps_the_commit_and_says_how_to_go_on(tmp_path: Path, repository: Path) -> None:
    git(repository, "config", "receive.hideRefs", "refs/heads/result")
    parcel = submit.prepare(document(tmp_path))
    with pytest.raises(submit.PushFailed, match=r"deny updating a hidden ref.*\n.*go on with: git -C ") as caught:
        submit.send(parcel, str(repository), body="")
    command = str(caught.value).rpartition("go on with: ")[2].split()
    git(repository, "config", "--unset", "receive.hideRefs")
    subprocess.run(command, check=True, capture_output=True)  # the advice, word by word
    assert parcel.branch in git(repository, "branch", "--list")


def test_no_such_repository_and_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parcel = submit.prepare(document(tmp_path))
    with pytest.raises(UnavailableError, match="cannot clone"):
        submit.send(parcel, str(tmp_path / "none.git"), body="")
    with pytest.raises(InputError, match="is no repository"):
        submit.send(parcel, "--upload-pack=touch x", body="")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no git here"):
        submit.send(parcel, str(tmp_path), body="")


def test_what_is_not_valid_is_not_prepared(tmp_path: Path) -> None:
    path = document(tmp_path)
    content = json.loads(path.read_text())
    content["summary"][-1]["concurrency"] = 7
    path.write_text(json.dumps(content))
    with pytest.raises(ValidationFailed, match=r"\$\.id: "):
        submit.prepare(path)
    with pytest.raises(InputError, match="no result"):
        submit.prepare(tmp_path / "none.json")
    imported = store.write(importing.read(HERE / "llama_bench.json").documents[0], tmp_path)
    with pytest.raises(InputError, match="no raw records"):
        submit.prepare(imported)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("measured by ada", "'ada', a name or folder"),
        ("on frida.local at night", "'frida.local', a name or folder"),
        ("see /mnt/disk/models/a.gguf", "a path: /mnt/disk/models/a.gguf"),
        (r"C:\Users\x\a.gguf", "a path"),
        ("~/models/a/b", "a path"),
        ("ask me@example.org", "an e-mail address"),
        ("at 192.168.1.7:8080", "an IP address: 192.168.1.7"),
        ("at fe80::1ff:fe23:4567:890a", "an IP address"),
        ("nic 3c:22:fb:aa:bb:cc", "a hardware address"),
        ("GPU-8f3c6f2e-1d2b-4c3a-9e8f-001122334455", "a UUID"),
    ],
)
def test_private_texts_are_found_where_they_stand(text: str, what: str) -> None:
    places = list(submit.private_places({"annotations": {"notes": ["fine", text]}}, ["ada", "frida.local"]))
    assert places[0][0] == "$.annotations.notes[1]"
    assert what in places[0][1]
    assert list(submit.private_places({text: 1}, ["ada", "frida.local"])) != []  # in a key, too


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("drivers", "32.0.15.163"),
        ("version", "12.4.1.5"),
        ("note", "ggml::cuda at 11:17:57, Canada, std::string"),
        ("note", "/proc/PID/status of the process tree"),
        ("note", "https://example.org/a/b"),
        ("note", "tokens/s, J/token, 3/4"),
        ("note", "0123456789abcdef" * 4),
    ],
)
def test_what_only_looks_like_it_is_no_hindrance(place: str, text: str) -> None:
    assert list(submit.private_places({"machine": {place: text}}, ["ada"])) == []


def test_a_real_document_holds_nothing_private() -> None:
    assert list(submit.private_places(json.loads(V1.read_text()))) == []


def test_the_place_in_the_repository_comes_from_cleaned_names(tmp_path: Path) -> None:
    content = json.loads(V1.read_text())
    content["machine"]["id"] = "../../.git/hooks"
    content["id"] = store.content_id(content)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    try:
        target = submit.prepare(path).target
    except ValidationFailed:
        return  # refused outright
    assert target.startswith("results/git-hooks/")


@pytest.mark.parametrize(
    ("repository", "link"),
    [
        ("https://github.com/a/b.git", "https://github.com/a/b/compare/x?expand=1"),
        ("git@github.com:a/b.git", "https://github.com/a/b/compare/x?expand=1"),
        ("https://example.org/a/b", None),
        ("/srv/b.git", None),
    ],
)
def test_where_github_takes_the_pull_request(repository: str, link: str | None) -> None:
    assert submit.pull_request_link(repository, "x") == link


@pytest.mark.parametrize("name", ["--upload-pack=touch x", "ext::sh -c touch% x", "ssh://-oProxyCommand=touch"])
def test_a_remote_that_would_start_something_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no repository"):
        submit.send(submit.prepare(document(tmp_path)), name, body="")


def test_no_hook_of_the_results_repository_runs(tmp_path: Path, repository: Path) -> None:
    for name in ("pre-receive", "update", "post-receive", "pre-push", "reference-transaction"):
        hook = repository / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'struck'}\n")
        hook.chmod(0o755)
    submit.send(submit.prepare(document(tmp_path)), str(repository), body="")
    assert not (tmp_path / "struck").exists()
