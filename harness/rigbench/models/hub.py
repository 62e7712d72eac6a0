"""Files of models from a hub, through huggingface_hub: found in its cache, or downloaded, resumed and checked.

The library's own download begins anew when it was broken off; a model of 40 GB must not. So the library tells where a
file is, how large, and its hash; the bytes are appended to `FILE.part`, which a later call takes up; and the file gets its
name only when size and hash are right. Where it is kept: RIGBENCH_CACHE/models/hub/OWNER/REPO/FILE.

    python -c "from rigbench.models.hub import *; print(download_file('ggml-org/gpt-oss-20b-GGUF', 'gpt-oss-20b-mxfp4.gguf'))"
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

from rigbench.errors import InputError, UnavailableError
from rigbench.models import Progress
from rigbench.paths import cache_dir
from rigbench.units import bytes_text

FOLDER_FILES = re.compile(r"^[^/]+\.(safetensors|json|jinja|txt|model|tiktoken)$")
"""What a safetensors or MLX model needs of its repository: the files at its top, and not other formats of the weights."""
_REPO = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_FILE = re.compile(r"^[\w+-][\w.+-]*(/[\w+-][\w.+-]*)*$")
_COMPLETE = ".rigbench-complete"
"""Written last into a downloaded folder: the names of all files that belong to it."""
_TRIES = 5


def check_names(repo: str, file: str | None = None) -> None:
    """Raises InputError unless these can be a repository and a file in it."""
    if not _REPO.match(repo):
        raise InputError(f"{repo!r} is no repository of a hub; it is written OWNER/NAME.")
    if file is not None and (not _FILE.match(file) or len(file) > 500):
        raise InputError(f"{file!r} cannot be a file of {repo}.")


def hub_folder(repo: str) -> Path:
    """Where files of this repository are kept."""
    return cache_dir() / "models" / "hub" / repo


def find_file(repo: str, file: str) -> Path | None:
    """The file where it is already here whole: in rigbench's cache, or in huggingface_hub's own. No network."""
    check_names(repo, file)
    own = hub_folder(repo) / file
    if own.is_file():
        return own
    from huggingface_hub import try_to_load_from_cache

    shared = try_to_load_from_cache(repo, file)
    return Path(shared) if isinstance(shared, str) else None


def download_file(
    repo: str,
    file: str,
    progress: Progress | None = None,
    *,
    endpoint: str | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """The file, downloaded now if it is not here yet. `endpoint` is the hub's address (else HF_ENDPOINT, else huggingface.co).

    Raises InputError: no such repository or file; UnavailableError: offline, unreachable, needs permission, disk full,
    arrived damaged.
    """
    return find_file(repo, file) or _download(repo, file, progress, endpoint, wait)


def _download(
    repo: str, file: str, progress: Progress | None, endpoint: str | None, wait: Callable[[float], None] = time.sleep
) -> Path:
    """The file in rigbench's own cache, also where huggingface_hub has it in its own."""
    from filelock import FileLock
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    target = hub_folder(repo) / file
    try:
        url = hf_hub_url(repo, file, endpoint=endpoint)
        facts = get_hf_file_metadata(url)
        if facts.size is None:
            raise UnavailableError(f"The hub does not tell the size of {repo}/{file}; download it and name its path.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_file():
                part = target.with_name(target.name + ".part")
                _fetch(url, part, facts.size, progress, wait)
                _verify(part, facts.etag or "", f"{repo}/{file}")
                part.replace(target)
    except (InputError, UnavailableError):
        raise
    except Exception as error:  # the library has changed its transport's exceptions twice: told apart by name
        raise _explained(error, repo, file) from None
    return target


def download_folder(repo: str, progress: Progress | None = None, *, endpoint: str | None = None) -> Path:
    """A folder with config, tokenizer and safetensors of a repository, downloaded as far as they are not here yet.

    Raises as `download_file` does.
    """
    local = find_folder(repo)
    if local is not None:
        return local
    from huggingface_hub import HfApi

    try:
        # not list_repo_files: where the network is missing, that tries for half a minute, aloud
        files = HfApi(endpoint=endpoint).model_info(repo).siblings or []
        names = [file.rfilename for file in files if FOLDER_FILES.match(file.rfilename)]
    except Exception as error:  # as in download_file
        raise _explained(error, repo, None) from None
    if not any(name.endswith(".safetensors") for name in names):
        raise InputError(f"{repo} holds no safetensors files; for a GGUF file write hf:{repo}/FILE.gguf.")
    folder = hub_folder(repo)
    for name in names:
        check_names(repo, name)
        _download(repo, name, progress, endpoint)
    (folder / _COMPLETE).write_text("\n".join(names))
    return folder


def find_folder(repo: str) -> Path | None:
    """The folder of a repository that is already here whole, in rigbench's cache or in huggingface_hub's own. No network."""
    check_names(repo)
    own = hub_folder(repo)
    with contextlib.suppress(OSError):
        if all((own / name).is_file() for name in (own / _COMPLETE).read_text().splitlines()):
            return own
    config = find_file(repo, "config.json")
    if config is None or config.parent == own:
        return None
    index = config.with_name("model.safetensors.index.json")
    try:
        named = set(json.loads(index.read_bytes())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
        return config.parent if all((config.parent / str(name)).is_file() for name in named) else None
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None


def _fetch(url: str, part: Path, size_bytes: int, progress: Progress | None, wait: Callable[[float], None]) -> None:
    """Appends what is missing to `part`; a connection that breaks is taken up again, at most 5 times without any new byte."""
    import shutil

    have = _size(part)
    if have > size_bytes:
        part.unlink()
        have = 0
    free, needed = shutil.disk_usage(part.parent).free, size_bytes - have
    if free < needed:
        raise UnavailableError(
            f"{part.stem} needs {bytes_text(needed)} more and {part.parent} has {bytes_text(free)} free."
        )
    tries = 0
    while have < size_bytes:
        failure, before = None, have
        try:
            _append(url, part, have, size_bytes, progress)
        except Exception as error:
            failure = error
        have = _size(part)
        tries = 0 if have > before else tries + 1
        if failure is not None and (tries >= _TRIES or not _is_passing(failure)):
            raise failure
        if tries >= _TRIES:
            raise UnavailableError(f"The hub sends no more than {bytes_text(have)} of {part.stem}; try again later.")
        if failure is not None:
            wait(min(2.0**tries, 10.0))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _append(url: str, part: Path, have: int, size_bytes: int, progress: Progress | None) -> None:
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # lazily exported

    headers: dict[str, str] = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=30) as response:
        hf_raise_for_status(response)
        resumed = have > 0 and response.status_code == 206
        have = have if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            for piece in response.iter_bytes():  # as it arrives: what is here is kept when the connection breaks
                file.write(piece)
                have += len(piece)
                if progress:
                    progress(part.stem, have, size_bytes)
                if have > size_bytes:
                    break


def _verify(part: Path, etag: str, name: str) -> None:
    """Holds the file against the hash that the hub gives: SHA-256 of large files, git's blob SHA-1 of small ones."""
    kinds = {64: hashlib.sha256(), 40: hashlib.sha1(b"blob %d\0" % _size(part), usedforsecurity=False)}
    if len(etag) not in kinds or not re.fullmatch(r"[0-9a-f]+", etag):
        return
    with part.open("rb") as file:
        arrived = hashlib.file_digest(file, lambda: kinds[len(etag)])
    if arrived.hexdigest() != etag:
        part.unlink()
        raise UnavailableError(f"{name} arrived damaged (its hash is not what the hub gives); download it again.")


def _is_passing(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    passing = names & {"TransportError", "TimeoutException", "ConnectionError"}
    return bool(passing) and "OfflineModeIsEnabled" not in names


def _explained(error: Exception, repo: str, file: str | None) -> InputError | UnavailableError:
    from huggingface_hub import errors

    what = f"{repo}/{file}" if file else repo
    page = f"huggingface.co/{repo}"
    not_here = f"{what} is not on this machine and"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return UnavailableError(f"{not_here} HF_HUB_OFFLINE forbids to fetch it; unset it, or name a local file.")
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return UnavailableError(f"{repo} asks for permission: accept its terms at {page} and run `hf auth login`.")
    if isinstance(error, errors.EntryNotFoundError):
        return InputError(f"{repo} has no file {file}; look up its name at {page}.")
    if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError)) or status in (401, 404):
        return InputError(f"The hub has no repository {repo}, or it is private (then run `hf auth login`).")
    if isinstance(error, errors.HFValidationError):
        return InputError(f"{what}: {error}")
    if status is not None:
        return UnavailableError(f"The hub answered {status} for {what}; try again later.")
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError):
        return UnavailableError(f"{what} could not be saved: {error.strerror}.")
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    if _is_passing(error):
        return UnavailableError(f"{not_here} the hub cannot be reached ({reason}); connect, or name a local file.")
    return UnavailableError(f"{what} could not be fetched: {type(error).__name__}, {reason}.")
