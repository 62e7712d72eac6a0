from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rigbench.errors import InputError, UnavailableError
from rigbench.models import hub

pytest.importorskip("huggingface_hub")
CONTENT = bytes(range(256)) * 4000


@dataclass
class Hub:
    """A hub on this machine: real HTTP, with faults to order."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    break_after_bytes: int = 0
    breaks_left: int = 0
    refusal: tuple[int, str] | None = None
    serves_ranges: bool = True
    ranges: list[str] = field(default_factory=list)

    def add(self, name: str, content: bytes = CONTENT) -> None:
        self.files[name] = content
        self.etags[name] = hashlib.sha256(content).hexdigest()


@pytest.fixture
def server() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", "as ordered")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            if state.refusal:
                return self.refuse(*state.refusal)
            listing = re.match(r"/api/models/([^/]+/[^/?]+)", self.path)
            if listing:
                inside = [name.split("/", 2)[2] for name in state.files if name.startswith(f"{listing[1]}/")]
                text = json.dumps({"id": listing[1], "siblings": [{"rfilename": name} for name in inside]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(text)
                return None
            name = self.path.lstrip("/").replace("/resolve/main", "")
            if not any(one.startswith("/".join(name.split("/")[:2]) + "/") for one in state.files):
                return self.refuse(404, "RepoNotFound")
            if name not in state.files:
                return self.refuse(404, "EntryNotFound")
            content, start = state.files[name], 0
            range_header = self.headers.get("Range", "")
            if body:
                state.ranges.append(range_header)
            if range_header and state.serves_ranges:
                start = int(range_header.removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", f'"{state.etags[name]}"')
            self.send_header("X-Repo-Commit", "abc")
            self.end_headers()
            if not body:
                return None
            if state.break_after_bytes and state.breaks_left:
                state.breaks_left -= 1
                self.wfile.write(content[start : start + state.break_after_bytes])
                self.close_connection = True  # before the length that was announced: the other side sees it broken off
                return None
            self.wfile.write(content[start:])
            return None

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def get(server: Hub, cache: Path) -> Callable[..., Path]:
    waits: list[float] = []
    return lambda repo, file, progress=None: hub.download_file(
        repo, file, progress, endpoint=server.address, wait=waits.append
    )


def test_a_file_is_fetched_once_and_whole(server: Hub, get: Callable[..., Path], cache: Path) -> None:
    server.add("me/models/sub/m.gguf")
    steps: list[tuple[str, int, int]] = []
    path = get("me/models", "sub/m.gguf", lambda *call: steps.append(call))
    assert path == cache / "models/hub/me/models/sub/m.gguf"
    assert path.read_bytes() == CONTENT
    assert steps[-1] == ("m.gguf", len(CONTENT), len(CONTENT))
    server.refusal = (500, "")
    assert get("me/models", "sub/m.gguf") == path  # no second question
    assert [one.name for one in path.parent.iterdir() if one.name.endswith(".part")] == []


def test_a_connection_that_breaks_is_taken_up_again(server: Hub, get: Callable[..., Path]) -> None:
    server.add("me/models/m.gguf")
    server.break_after_bytes, server.breaks_left = 300_000, 3
    assert get("me/models", "m.gguf").read_bytes() == CONTENT
    assert server.ranges == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_download_broken_off_for_good_is_resumed_by_the_next_call(
    server: Hub, get: Callable[..., Path], cache: Path
) -> None:
    server.add("me/models/m.gguf")

    def stop(name: str, done: int, total: int) -> None:
        if done >= 400_000:
            raise KeyboardInterrupt

    server.break_after_bytes, server.breaks_left = 400_000, 1
    with pytest.raises(KeyboardInterrupt):
        get("me/models", "m.gguf", stop)
    part = cache / "models/hub/me/models/m.gguf.part"
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    server.ranges.clear()
    server.breaks_left = 0
    assert get("me/models", "m.gguf").read_bytes() == CONTENT
    assert server.ranges == [f"bytes={have}-"]
    assert not part.exists()


def test_a_server_that_knows_no_ranges_sends_all_again(server: Hub, get: Callable[..., Path]) -> None:
    server.add("me/models/m.gguf")
    server.break_after_bytes, server.breaks_left, server.serves_ranges = 300_000, 1, False
    assert get("me/models", "m.gguf").read_bytes() == CONTENT


def test_a_server_that_never_sends_more_is_given_up(server: Hub, get: Callable[..., Path]) -> None:
    server.add("me/models/m.gguf")
    server.break_after_bytes, server.breaks_left = 1, 10_000
    server.serves_ranges = False
    with pytest.raises(UnavailableError, match=r"me/models/m\.gguf"):
        get("me/models", "m.gguf")
    assert len(server.ranges) < 20


def test_a_file_that_arrives_changed_is_refused_and_removed(server: Hub, get: Callable[..., Path], cache: Path) -> None:
    server.add("me/models/m.gguf")
    server.files["me/models/m.gguf"] = CONTENT[:-1] + b"?"
    with pytest.raises(UnavailableError, match=r"me/models/m\.gguf arrived damaged"):
        get("me/models", "m.gguf")
    assert list((cache / "models/hub/me/models").glob("m.gguf*")) in ([], [cache / "models/hub/me/models/m.gguf.lock"])


def test_small_files_are_held_against_gits_hash(server: Hub, get: Callable[..., Path]) -> None:
    server.add("me/models/config.json", b"{}\n")
    server.etags["me/models/config.json"] = (
        "0967ef424bce6791893e9a57bb952f80fd536e93"  # git hash-object of these 3 bytes
    )
    assert get("me/models", "config.json").read_bytes() == b"{}\n"
    server.add("me/models/other.json", b"[]\n")
    server.etags["me/models/other.json"] = "0967ef424bce6791893e9a57bb952f80fd536e93"
    with pytest.raises(UnavailableError, match="arrived damaged"):
        get("me/models", "other.json")


@pytest.mark.parametrize(
    ("refusal", "kind", "message"),
    [
        ((401, "GatedRepo"), UnavailableError, "me/models asks for permission: accept its terms"),
        ((403, "GatedRepo"), UnavailableError, "me/models asks for permission: accept its terms"),
        ((404, "RepoNotFound"), InputError, "The hub has no repository me/models, or it is private"),
        ((404, "EntryNotFound"), InputError, r"me/models has no file m\.gguf"),
        ((500, ""), UnavailableError, "The hub answered 500 for me/models/m.gguf"),
        ((429, ""), UnavailableError, "The hub answered 429"),
    ],
)
def test_refusals_get_one_sentence(
    refusal: tuple[int, str], kind: type[Exception], message: str, server: Hub, get: Callable[..., Path]
) -> None:
    server.refusal = refusal
    with pytest.raises(kind, match=message) as raised:
        get("me/models", "m.gguf")
    assert "\n" not in str(raised.value)


def test_no_hub_within_reach(cache: Path) -> None:
    with pytest.raises(
        UnavailableError, match=r"me/models/m\.gguf is not on this machine and the hub cannot be reached"
    ):
        hub.download_file("me/models", "m.gguf", endpoint="http://127.0.0.1:9", wait=lambda _: None)


def test_offline_on_purpose(get: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnavailableError, match="HF_HUB_OFFLINE forbids"):
        get("me/models", "m.gguf")


def test_a_disk_with_too_little_room(server: Hub, get: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    server.add("me/models/m.gguf")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 0, 1000))  # type: ignore[attr-defined]
    with pytest.raises(UnavailableError, match=r"m\.gguf needs 1\.02 MB more and .* has 1 kB free"):
        get("me/models", "m.gguf")


@pytest.mark.parametrize(
    ("repo", "file"),
    [
        ("models", "m.gguf"),
        ("../etc", "m.gguf"),
        ("me/models", "../../m.gguf"),
        ("me/models", "/m.gguf"),
        ("me/m s", "m.gguf"),
    ],
)
def test_names_that_cannot_be(repo: str, file: str, cache: Path) -> None:
    with pytest.raises(InputError, match=r"is no repository of a hub|cannot be a file of"):
        hub.download_file(repo, file)


def test_a_file_in_the_librarys_own_cache_is_used(cache: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hf/models--me--models/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "m.gguf").write_bytes(b"x")
    (tmp_path / "hf/models--me--models/refs").mkdir()
    (tmp_path / "hf/models--me--models/refs/main").write_text("abc")
    assert hub.download_file("me/models", "m.gguf", endpoint="http://127.0.0.1:9") == snapshot / "m.gguf"


def test_a_folder_comes_without_other_formats(server: Hub, cache: Path) -> None:
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "pytorch_model.bin",
        "onnx/model.onnx",
        "README.md",
    ):
        server.add(f"me/models/{name}", name.encode())
    folder = hub.download_folder("me/models", endpoint=server.address)
    assert sorted(one.name for one in folder.iterdir() if one.suffix in (".json", ".safetensors", ".bin", ".md")) == [
        *("config.json", "model.safetensors", "tokenizer.json")
    ]
    server.refusal = (500, "")
    assert hub.download_folder("me/models", endpoint=server.address) == folder


def test_a_folder_without_safetensors(server: Hub, cache: Path) -> None:
    server.add("me/models/m.gguf")
    with pytest.raises(
        InputError, match=r"me/models holds no safetensors files; for a GGUF file write hf:me/models/FILE\.gguf"
    ):
        hub.download_folder("me/models", endpoint=server.address)
