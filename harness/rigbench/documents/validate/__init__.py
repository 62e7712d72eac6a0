"""Does a result document hold? Every fault with its JSON path, from the file alone; nothing that it names is ever opened.

bytes      bounds.py: size, depth, duplicate keys, NaN, control characters, markup
schema     the version, every key and type of records.py, nothing unknown
id         SHA-256 of the content
suite      the content is what its hash says; under a name that ships with rigbench it is that suite, else `custom`
records    checks.py: the plan, times, counts, energy, flags
physics    physics.py: bandwidth, bytes, no decode above the ceiling
summary    each number again from the raw records

rigbench validate results/
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rigbench import __version__
from rigbench.analysis.table import summary
from rigbench.documents import bounds, store
from rigbench.documents.bounds import MAX_FAULTS, Fault
from rigbench.documents.schema import schema_faults
from rigbench.documents.validate.checks import name_faults, plan_faults, record_faults, shape_faults
from rigbench.documents.validate.physics import physics_faults
from rigbench.errors import InputError
from rigbench.records import SCHEMA_VERSION, RunDocument
from rigbench.suites.suite import Suite, load_suite, parse_suite, suite_files, suite_record

NUMBER_TOLERANCE = 1e-6
BOOTSTRAP_TOLERANCE = 0.02
"""Another version of numpy may draw other resamples."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in one file. `notes` are no faults, but a reader should know them (custom suite, ended early, imported)."""

    file: str
    faults: tuple[Fault, ...]
    notes: tuple[str, ...] = ()
    id: str | None = None

    @property
    def valid(self) -> bool:
        return not self.faults


def validate(path: Path) -> Report:
    """All faults of one file. OSError if it cannot be read."""
    data, fault = bounds.read_bytes(path)
    return Report(str(path), (fault,)) if fault is not None else validate_bytes(data, str(path))


def validate_bytes(data: bytes, name: str) -> Report:
    """The same of a file's bytes."""
    content, faults = bounds.loads(data)
    if faults:
        return Report(name, tuple(faults))
    faults = list(islice(_schema_faults(content), MAX_FAULTS))
    if faults:
        return Report(name, tuple(faults))
    document = store.parse(content, name)
    notes: list[str] = []
    found: list[Fault] = []
    for fault in _content_faults(document, content, notes):
        found.append(fault)
        if len(found) == MAX_FAULTS:
            notes.append(f"there may be more than these {MAX_FAULTS} faults")
            break
    return Report(name, tuple(found), tuple(notes), content["id"])


def _content_faults(document: RunDocument, content: dict[str, Any], notes: list[str]) -> Iterator[Fault]:
    right = store.content_id(content)
    if content["id"] != right:
        yield Fault("$.id", f"is not the SHA-256 of the content ({right[:12]}…): something was changed")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document.created_utc):
        yield Fault("$.created_utc", "is no time like 2026-01-31T12:00:00Z")
    yield from name_faults(document)
    imported = document.annotations.get("imported")
    if isinstance(imported, dict):
        notes.append(f"imported from {imported.get('from')}: figures of another tool, with no raw records to check")
        if any(result.requests for result in document.cases):
            yield Fault("$.annotations.imported", "an imported document has no requests of its own")
        return
    if not document.complete:
        notes.append("ended early: cases are missing")
    if unknown := sorted({result.case.model for result in document.cases} - {model.name for model in document.models}):
        notes.append(f"of {', '.join(unknown)[:200]} nothing is known: no ceiling could be checked")
    shape = list(shape_faults(document))
    yield from shape
    suite, suite_faults = _suite(document, notes)
    yield from suite_faults
    if shape:
        return  # nothing can be computed from columns that do not fit
    if suite is not None:
        yield from plan_faults(document, suite)
    yield from record_faults(document)
    try:
        yield from physics_faults(document)
    except (InputError, ArithmeticError) as error:
        yield Fault("$.models", f"cannot be computed with: {error}")
    try:
        again = json.loads(json.dumps(summary(document), allow_nan=False))
    except (ArithmeticError, ValueError, LookupError, InputError) as error:
        yield Fault("$.summary", f"cannot be computed from these records: {error}")
        return
    older = document.rigbench_version != __version__ or content["schema_version"] != SCHEMA_VERSION
    yield from differing("$.summary", content.get("summary", []), again, may_lack=older)


def _schema_faults(content: Any) -> Iterator[Fault]:
    """Version, then every key and type."""
    if not isinstance(content, dict) or type(content.get("schema_version")) is not int:
        yield Fault("$.schema_version", "is missing: this is no result document of rigbench")
    elif not 1 <= content["schema_version"] <= SCHEMA_VERSION:
        yield Fault("$.schema_version", f"is {content['schema_version']}; this rigbench knows 1 to {SCHEMA_VERSION}")
    else:
        yield from schema_faults("$", store.migrated(content), RunDocument)


def _suite(document: RunDocument, notes: list[str]) -> tuple[Suite | None, list[Fault]]:
    """The document's suite, and whether it is the one that it is called."""
    try:
        suite = parse_suite(document.suite.content, "suite")
    except InputError as error:
        lines = [line.removeprefix("suite: ").partition(": ") for line in str(error).splitlines()]
        return None, [
            Fault("$.suite.content" if key == "the file" else f"$.suite.content.{key}", message)
            for key, _, message in lines[:MAX_FAULTS]
        ]
    faults = []
    stated, record = document.suite, suite_record(suite)
    for name in ("name", "version", "sha256"):
        if getattr(stated, name) != getattr(record, name):
            faults.append(
                Fault(
                    f"$.suite.{name}", f"is {getattr(stated, name)[:64]!r}; its content says {getattr(record, name)!r}"
                )
            )
    if stated.name not in suite_files():
        notes.append(f"custom suite {stated.name!r}")
        return suite, faults
    known = suite_record(load_suite(stated.name))
    if known.version != stated.version:
        notes.append(f"version {stated.version} of suite {stated.name}, of which this rigbench has {known.version}")
    elif known.content != record.content:
        for where in differing(
            "$.suite.content", record.content, known.content, among=f"suite {stated.name} {known.version}"
        ):
            faults.append(where)
    return suite, faults


def differing(
    path: str, stated: Any, right: Any, *, among: str = "the records", may_lack: bool = False
) -> Iterator[Fault]:
    """Where two trees of JSON differ: numbers by more than rounding, all else at all. `may_lack`: another release's tree may
    not know every key of ours."""
    if isinstance(stated, dict) and isinstance(right, dict):
        resampled = right.get("method") == "bootstrap"
        for name in {**right, **stated}:
            here = f"{path}.{name}"
            if name not in right:
                yield Fault(here, f"does not follow from {among}")
            elif name not in stated:
                if not may_lack:
                    yield Fault(here, "is missing")
            elif resampled and name in ("low", "high") and _close(stated[name], right[name], BOOTSTRAP_TOLERANCE):
                continue
            else:
                yield from differing(here, stated[name], right[name], among=among, may_lack=may_lack)
    elif isinstance(stated, list) and isinstance(right, list):
        if len(stated) != len(right):
            yield Fault(path, f"has {len(stated)} entries, not {len(right)} by {among}")
        for place, (left, other) in enumerate(zip(stated, right, strict=False)):
            yield from differing(f"{path}[{place}]", left, other, among=among, may_lack=may_lack)
    elif not _close(stated, right, NUMBER_TOLERANCE) and (type(stated), stated) != (type(right), right):
        yield Fault(path, f"is {_short(stated)}, not {_short(right)} by {among}")


def _close(stated: Any, right: Any, tolerance: float) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (stated, right))
    return numbers and math.isclose(stated, right, rel_tol=tolerance, abs_tol=1e-12)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
