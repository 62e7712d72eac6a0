"""Does a result document hold, and how far? Every fault with its JSON path, from the file alone; nothing that it names is opened.

bytes      bounds.py: size, depth, duplicate keys, NaN, control characters, markup
schema     the version, every key and type of records.py, nothing unknown
id         SHA-256 of the content
suite      the content is what its hash says; under a name that ships with rigbench it is that suite, else `custom`
records    checks.py: the plan, times, counts, the loop, the warm-up, prompts, dates
readings   readings.py: there, at the sensors' rhythm, possible for the machine, flagged
copies     copies.py: no measurement twice
physics    physics.py: devices, models, steps, arithmetic; simulated.py: the simulator again
derived    predictions, ceilings and summary again, from the raw records and the catalogue. Nobody reads those of the document: of
           another state of the program they may lack figures or hold others, and other predictions; no other measured number

A document without faults has a level, worked out and never read from it: what cannot be checked is named and keeps it lower.

    unchecked  nothing behind the figures could be checked (imported, or of a later rigbench)
    sound      format, arithmetic and times hold
    physical   and it is below every bound of its device and its model, and the readings are there
    complete   and every planned case was measured, or skipped for a reason that holds
    confirmed  and a machine of the same kind of another owner agrees (confirm.py)

rigbench validate results/
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from rigbench.analysis.table import Row, contents, table
from rigbench.clock import utc_now
from rigbench.documents import bounds, store
from rigbench.documents.bounds import MAX_FAULTS, Fault
from rigbench.documents.schema import fits, schema_faults
from rigbench.documents.validate.checks import (
    engine_faults,
    identity_faults,
    name_faults,
    outcome_faults,
    plan_faults,
    prompt_faults,
    record_faults,
    shape_faults,
)
from rigbench.documents.validate.copies import copy_faults
from rigbench.documents.validate.physics import physics_faults
from rigbench.documents.validate.readings import reading_faults
from rigbench.documents.validate.simulated import simulated_faults
from rigbench.errors import InputError
from rigbench.predict.document import predictions
from rigbench.records import SCHEMA_VERSION, Prediction, RunDocument
from rigbench.suites.suite import Suite, load_suite, parse_suite, suite_files, suite_record

LEVELS = ("unchecked", "sound", "physical", "complete", "confirmed")
REFUSED = "refused"
"""In place of a level, of a document with faults."""
DAY_S = 86_400.0
"""How far another machine's clock may be ahead."""
BOUND_FIELDS = ("group", "predictor", "ceiling_user_tps", "bytes_per_step", "bandwidth_bytes_per_s")
"""Of a prediction: what the model's facts and the bandwidth give, whatever the predictor's constants."""
OF_CONSTANTS = ("predict", "publish", "measured_over_predicted")
"""How figures of the summary begin that follow from the predictor's constants."""
WORDING = ("reasons", "evidence")
"""Of the summary: sentences, which each state of the program may word in its own way."""
OTHER_CONSTANTS = "its predictions are of another state of rigbench: they are worked out again"
NUMBER_TOLERANCE = 1e-6
BOOTSTRAP_TOLERANCE = 0.02
"""Another version of numpy may draw other resamples."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in one file. `doubts` are what keeps it below a level, each with its path; `notes` refute nothing, but a
    reader should know them (custom suite)."""

    file: str
    faults: tuple[Fault, ...]
    doubts: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    id: str | None = None
    confirmed_by: str | None = None

    @property
    def valid(self) -> bool:
        return not self.faults

    @property
    def level(self) -> str:
        """One of LEVELS, or REFUSED."""
        if self.faults:
            return REFUSED
        lowest = min((LEVELS.index(str(doubt.below)) for doubt in self.doubts), default=len(LEVELS) - 1)
        return LEVELS[lowest - 1] if self.doubts or self.confirmed_by is None else LEVELS[-1]


def validate(path: Path) -> Report:
    """All faults of one file. OSError if it cannot be read."""
    data, fault = bounds.read_bytes(path)
    return Report(str(path), (fault,)) if fault is not None else validate_bytes(data, str(path))


def read_rows(path: Path) -> tuple[RunDocument, list[Row]]:
    """As `examined`, without what was found."""
    _, document, rows = examined(path)
    return document, rows


def examined(path: Path) -> tuple[Report, RunDocument, list[Row]]:
    """What was found in a file, its document as it stands there, and its rows with their level, read once; of one that does not
    hold, what can be read of it. Raises as store.read."""
    data, fault = bounds.read_bytes(path) if path.is_file() else (b"", Fault("$", "is not there"))
    report, document, rows = (Report(str(path), (fault,)), None, []) if fault else _examined(data, str(path))
    if document is None or not rows:
        document = store.read(path)
        rows = table(document)
    return report, document, [replace(row, level=report.level) for row in rows]


def level_sentence(report: Report) -> str:
    """The level, and what keeps the document from the next one."""
    first = next(iter(report.faults or sorted(report.doubts, key=lambda doubt: LEVELS.index(str(doubt.below)))), None)
    if first is None and report.level == LEVELS[-2]:
        return f"{report.level}: nobody else's machine has confirmed it yet"
    return f"{report.level}: {first}" if first else f"{report.level} by {report.confirmed_by}"


def validate_bytes(data: bytes, name: str) -> Report:
    """The same of a file's bytes."""
    return _examined(data, name)[0]


def _examined(data: bytes, name: str) -> tuple[Report, RunDocument | None, list[Row]]:
    """(what was found, the document where it has the form of one, its rows where they were needed for that)."""
    content, faults = bounds.loads(data)
    if faults:
        return Report(name, tuple(faults)), None, []
    faults = list(islice(_schema_faults(content), MAX_FAULTS))
    if faults:
        return Report(name, tuple(faults)), None, []
    document = store.parse(content, name)
    notes: list[str] = []
    rows: list[Row] = []
    all_faults: list[Fault] = []
    doubts: dict[tuple[str | None, str], Fault] = {}
    for fault in _content_faults(document, content, notes, rows):
        if fault.below is not None:
            if len(doubts) < MAX_FAULTS:
                doubts.setdefault((fault.below, fault.message), fault)  # of one thing at many places, the first place
            continue
        all_faults.append(fault)
        if len(all_faults) == MAX_FAULTS:
            notes.append(f"there may be more than these {MAX_FAULTS} faults")
            break
    return Report(name, tuple(all_faults), tuple(doubts.values()), tuple(notes), content["id"]), document, rows


def _content_faults(
    document: RunDocument, content: dict[str, Any], notes: list[str], rows: list[Row]
) -> Iterator[Fault]:
    right = store.content_id(content)
    if content["id"] != right:
        yield Fault("$.id", f"is not the SHA-256 of the content ({right[:12]}…): something was changed")
    yield from name_faults(document)
    imported = document.annotations.get("imported")
    if isinstance(imported, dict):
        source = f"imported from {imported.get('from')}: figures of another tool, with no raw records to check"
        yield Fault("$.annotations.imported", source, below="sound")
        if any(result.requests for result in document.cases):
            yield Fault("$.annotations.imported", "an imported document has no requests of its own")
        return
    shape = list(shape_faults(document))
    yield from shape
    suite, suite_faults = _suite(document, notes)
    yield from suite_faults
    if shape:
        return  # nothing can be computed from columns that do not fit
    yield from identity_faults(document, utc_now(DAY_S))
    if suite is not None:
        yield from plan_faults(document, suite)
    yield from record_faults(document)
    yield from engine_faults(document)
    yield from outcome_faults(document)
    yield from prompt_faults(document)
    predicted: tuple[Prediction, ...] = ()
    try:
        yield from physics_faults(document)
        yield from reading_faults(document)
        predicted = predictions(document)
        yield from _prediction_faults(document, predicted, notes)
    except (InputError, ArithmeticError, TypeError) as error:
        yield Fault("$.models", f"cannot be computed with: {error}")
    yield from simulated_faults(document)
    yield from copy_faults(document)
    try:
        rows += table(replace(document, predictions=predicted))
        again = json.loads(json.dumps(contents(rows), allow_nan=False))
    except (ArithmeticError, ValueError, LookupError, InputError) as error:
        yield Fault("$.summary", f"cannot be computed from these records: {error}")
        return
    stated = [
        {name: value for name, value in row.items() if name not in WORDING and not name.startswith(OF_CONSTANTS)}
        for row in content.get("summary", [])
    ]
    yield from differing("$.summary", stated, again, same_keys=False)


def _prediction_faults(document: RunDocument, predicted: Sequence[Prediction], notes: list[str]) -> Iterator[Fault]:
    """The bytes, the bandwidth and the ceiling that the document's predictions state, against those that it gives."""
    if len(predicted) != len(document.predictions):
        yield Fault("$.predictions", f"{len(document.predictions)} of the {len(predicted)} that these cases have")
        return
    for place, pair in enumerate(zip(document.predictions, predicted, strict=True)):
        trees = [json.loads(json.dumps({name: getattr(one, name) for name in BOUND_FIELDS})) for one in pair]
        yield from differing(f"$.predictions[{place}]", *trees, among="the model's facts and the catalogue")
        stated, right = (one.user_tps for one in pair)
        if stated != right and not _close(stated, right, NUMBER_TOLERANCE) and OTHER_CONSTANTS not in notes:
            notes.append(OTHER_CONSTANTS)


def _schema_faults(content: Any) -> Iterator[Fault]:
    """Version, then every key and type."""
    if not isinstance(content, dict) or type(content.get("schema_version")) is not int:
        yield Fault("$.schema_version", "is missing: this is no result document of rigbench")
    elif not 1 <= content["schema_version"] <= SCHEMA_VERSION:
        yield Fault("$.schema_version", f"is {content['schema_version']}; this rigbench knows 1 to {SCHEMA_VERSION}")
    else:
        migrated = store.migrated(content)
        if not fits(RunDocument)(migrated):
            yield from schema_faults("$", migrated, RunDocument)


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
        other = f"is {stated.version[:32]}; of suite {stated.name} this rigbench has {known.version}"
        faults.append(Fault("$.suite.version", other, below="complete"))
    elif known.content != record.content:
        for where in differing(
            "$.suite.content", record.content, known.content, among=f"suite {stated.name} {known.version}"
        ):
            faults.append(where)
    return suite, faults


def differing(
    path: str, stated: Any, right: Any, *, among: str = "the records", same_keys: bool = True
) -> Iterator[Fault]:
    """Where two trees of JSON differ: numbers by more than rounding, all else at all. Without `same_keys` only what both have is
    compared: another state of the program knows more figures or fewer."""
    if isinstance(stated, dict) and isinstance(right, dict):
        resampled = right.get("method") == "bootstrap"
        for name in {**right, **stated}:
            here = f"{path}.{name}"
            if name not in right or name not in stated:
                if same_keys:
                    yield Fault(here, "is missing" if name in right else f"does not follow from {among}")
            elif resampled and name in ("low", "high") and _close(stated[name], right[name], BOOTSTRAP_TOLERANCE):
                continue
            else:
                yield from differing(here, stated[name], right[name], among=among, same_keys=same_keys)
    elif isinstance(stated, list) and isinstance(right, list):
        if len(stated) != len(right):
            yield Fault(path, f"has {len(stated)} entries, not {len(right)} by {among}")
        for place, (left, other) in enumerate(zip(stated, right, strict=False)):
            yield from differing(f"{path}[{place}]", left, other, among=among, same_keys=same_keys)
    elif not _close(stated, right, NUMBER_TOLERANCE) and (type(stated), stated) != (type(right), right):
        yield Fault(path, f"is {_short(stated)}, not {_short(right)} by {among}")


def _close(stated: Any, right: Any, tolerance: float) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (stated, right))
    return numbers and math.isclose(stated, right, rel_tol=tolerance, abs_tol=1e-12)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
