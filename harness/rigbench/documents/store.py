"""Result documents on disk: read any version, write whole or not at all.

Format history
  1  first version (rigbench 0.1)
  2  a case holds its workload as an object; `unit_us` and `chunk_units` for `token_us` and `chunk_tokens`; `end_us`;
     an engine's `resolved`; a failure's `phase` and `fix`

`results/<machine>/<utc>-<suite>-<short id>.json`. The id is the SHA-256 of the canonical content (keys sorted, no spaces, no `id`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rigbench.documents import bounds
from rigbench.documents.schema import schema_faults
from rigbench.errors import InputError, UnavailableError, ValidationFailed
from rigbench.paths import file_stem
from rigbench.predict.document import predictions
from rigbench.records import SCHEMA_VERSION, RunDocument


@cache
def adapter() -> TypeAdapter[RunDocument]:
    """What reads a document's content into its types, kindly."""
    return TypeAdapter(RunDocument)


def to_content(document: RunDocument) -> dict[str, Any]:
    """The document as plain JSON types."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(document), allow_nan=False))
    return content


def content_id(content: dict[str, Any]) -> str:
    """SHA-256 over the canonical form of everything but `id`."""
    rest = {key: value for key, value in content.items() if key != "id"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def with_id(document: RunDocument) -> RunDocument:
    """The same document under the id of its content."""
    return replace(document, id=content_id(to_content(document)))


def write(document: RunDocument, folder: Path) -> Path:
    """Write `document` below `folder` under its own name; whole (temporary file, fsync, rename) or not at all."""
    stem = file_stem(document.machine.id, document.created_utc, document.suite.name)
    path = folder / stem.parent / f"{stem.name}-{document.id[:8]}.json"
    data = dumps(to_content(document)).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}") from error
    return path


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a reader, or a power cut, sees the old content or the new one, nothing between."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the rename itself is on the disk only once the folder is
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def dumps(content: dict[str, Any]) -> str:
    """JSON for people and `jq`: indented, but a list of plain values on one line."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    # A leaf list spread over lines by `indent` is folded; strings cannot contain a raw newline, so none is touched.
    return re.sub(r"\[\n\s*([^\[\]{}\"]*?)\n\s*\]", lambda m: "[" + re.sub(r"\s*\n\s*", " ", m[1]) + "]", text) + "\n"


def read(path: Path) -> RunDocument:
    """A document of any version, with the predictions that its facts give today: those that it states may be of other constants.
    InputError if there is no readable file, ValidationFailed (with the JSON path) if it is wrong."""
    try:
        content, faults = bounds.load(path, texts=False)
    except OSError as error:
        raise InputError(f"no result at {path}: {error.strerror}") from error
    if faults:
        raise ValidationFailed(f"{path}: {faults[0]}")
    document = parse(content, str(path))
    try:
        return replace(document, predictions=predictions(document))
    except (InputError, ArithmeticError, LookupError, TypeError, ValueError):  # what does not hold is read all the same
        return document


def parse(content: Any, where: str) -> RunDocument:
    """A document from its JSON content, migrated to the present version."""
    if not isinstance(content, dict) or not isinstance(content.get("schema_version"), int):
        raise ValidationFailed(f"{where}: not a result document of rigbench (it has no schema_version)")
    version = content["schema_version"]
    if version > SCHEMA_VERSION:
        reason = f"schema version {version} is newer than this rigbench knows ({SCHEMA_VERSION}); upgrade"
        raise ValidationFailed(f"{where}: {reason}")
    content = migrated(content)
    try:
        return adapter().validate_python(content)
    except ValidationError as error:
        fault = next(schema_faults("$", content, RunDocument), None)  # the first alone: there may be a million
        raise ValidationFailed(f"{where}: {fault or error}") from error


WORKLOAD_V1 = {
    "workload": "name",
    "workload_kind": "kind",
    "prompt_tokens": "prompt_tokens",
    "output_tokens": "output_tokens",
}
RECORD_V1 = {"token_us": "unit_us", "chunk_tokens": "chunk_units"}


def migrated(content: dict[str, Any]) -> dict[str, Any]:
    """The content in the form of the present version. What does not have the form of its own version stays as it is, for the
    check of the form to name."""
    if content.get("schema_version") != 1 or not isinstance(content.get("cases"), list):
        return content
    return {**content, "schema_version": 2, "cases": [_result_from_v1(result) for result in content["cases"]]}


def _result_from_v1(result: Any) -> Any:
    if not isinstance(result, dict):
        return result
    changed = dict(result)
    case = result.get("case")
    if isinstance(case, dict) and WORKLOAD_V1.keys() <= case.keys():
        rest = {name: value for name, value in case.items() if name not in WORKLOAD_V1}
        changed["case"] = {**rest, "workload": {new: case[old] for old, new in WORKLOAD_V1.items()}}

    def record(content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {RECORD_V1.get(name, name): value for name, value in content.items()}

    for part in ("requests", "warmup"):
        if isinstance(result.get(part), list):
            changed[part] = list(map(record, result[part]))
    return changed


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the present version, as `results/schema-v2.json` holds it."""
    schema = adapter().json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "rigbench result document", **schema}
