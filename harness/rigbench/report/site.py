"""The site of all results: plain files for any static host, that also work opened from a disk.

    index.html            the leaderboard; its rows come as rows-0.js, rows-1.js ..., so that the first page stays small
    result/ID.html        a page for each result, under the document's id: it stays where it is
    machine/, model/      a page for each kind of machine and each model
    drivers.html          what changed with a driver
    predict.html          what the predictor expects of catalogued machines, worked out here and shown there
    rows.parquet          the same rows for others to query (documents/dataset.py)

    rigbench site results/ -o site/

All pages are made of the index's rows: no result is read again, and the page of one, whose name is its content's hash, is not
written again. Results that do not hold are left out.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from rigbench import __version__, units
from rigbench.analysis import definitions, regress
from rigbench.analysis.table import Row
from rigbench.documents import dataset, index
from rigbench.documents.validate import REFUSED
from rigbench.errors import InputError, UnavailableError
from rigbench.paths import PACKAGE_ROOT, configs_dir, read_json, slug
from rigbench.report import result_view
from rigbench.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment

    from rigbench.predict.hardware import Hardware

PAGES = PACKAGE_ROOT / "pages"
ASSETS = ("style.css", "site.js", "live.js", "icon.svg")
MARK = ".rigbench-site"
"""The file that says that a folder is a site, and what its files were made of."""
NAVIGATION = (
    ("index.html", "Leaderboard"),
    ("machines.html", "Machines"),
    ("models.html", "Models"),
    ("drivers.html", "Drivers"),
    ("predict.html", "What would my machine do?"),
    ("submit.html", "Hand in a result"),
)
METRICS = ("user_tps", "output_tps", "ttft_s", "joules_per_token", "measured_over_predicted")
FILTERS = ("machine", "backend", "model", "quantisation", "workload", "users", "level")
CHUNK_ROWS, FIRST_ROWS, GROUP_ROWS = 3000, 50, 300
LETTERS = 120
QUANTS, USERS, CONTEXT = ("Q4_K_M", "Q8_0"), (1, 8), 4096
ID_LETTERS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a build did. `refused`: results that do not hold; `faults`: files that could not be read, with the reason."""

    results: int
    rows: int
    written: int
    unchanged: int
    removed: int
    refused: int
    faults: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Column:
    """Of the leaderboard. `link`: which of a row's pages its cells lead to."""

    name: str
    label: str
    unit: str = ""
    better: str | None = None
    link: str = ""
    number: bool = False

    def text(self, value: Any) -> str:
        """A cell."""
        if self.unit:
            return units.TEXTS.get(self.unit, units.number_text)(value)
        return units.MISSING if value is None else str(value)


@cache
def columns() -> tuple[Column, ...]:
    """What the leaderboard shows."""
    metrics = (definitions.metric(name) for name in METRICS)
    return (
        Column("machine", "machine", link="machine_path"),
        Column("model", "model", link="model_path"),
        Column("quantisation", "quantisation"),
        Column("backend", "backend"),
        Column("workload", "workload"),
        Column("users", "users", number=True, better="lower"),
        *(Column(each.name, each.label, each.unit, each.better, number=True) for each in metrics),
        Column("flags", "flags"),
        Column("level", "level"),
        Column("date", "date", link="result_path"),
    )


def build(folder: Path, out: Path, *, processes: int | None = None, repository: str = "") -> Outcome:
    """Bring the site in `out` up to date with the results in `folder`. `repository`: where results are handed in, for the page that
    says how. InputError where there is no folder, or where `out` holds something else; UnavailableError if it cannot be written."""
    done = index.update(folder, processes=processes)
    try:
        return _build(folder, out, done, processes or os.cpu_count() or 1, repository)
    except OSError as error:
        raise UnavailableError(f"cannot write the site {out}: {error.strerror}") from error


def _build(folder: Path, out: Path, done: index.Outcome, processes: int, repository: str) -> Outcome:
    same = _claim(out)
    rows = [row for row in index.read_rows(done.path, refused=False) if set(row.document_id) <= ID_LETTERS]
    rows.sort(key=lambda row: (row.created_utc, row.document_id), reverse=True)
    measured = [(row, line(row)) for row in rows if row.samples]
    results: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.model, row.workload, row.concurrency)):
        results.setdefault(row.document_id, []).append(row)
    names: set[str] = set()
    count: Counter[bool] = Counter()

    def put(name: str, data: str | bytes) -> None:
        names.add(name)
        count[write(out / name, data.encode() if isinstance(data, str) else data)] += 1

    names |= {f"predict/{device.id}.js" for device in devices()}
    whole = "predictions" in same and all((out / name).exists() for name in names)
    outdated = () if whole else devices()
    with ExitStack() as stack:
        spread: Callable[..., Iterable[str]] = map
        if processes > 1 and outdated:
            spread = partial(stack.enter_context(ProcessPoolExecutor(processes - 1)).map, chunksize=8)
        texts = spread(prediction_table, outdated)  # by other processes, while this one writes the pages
        for name, own in results.items():
            path = f"result/{name}.html"
            if "pages" in same and (out / path).exists():
                names.add(path)
                count[False] += 1
            else:
                put(path, result_page(own))
        for device, text in zip(outdated, texts, strict=True):
            put(f"predict/{device.id}.js", text)

    for name in ASSETS:
        put(name, (PAGES / name).read_bytes())
    chunks = _batched([each for _, each in measured], CHUNK_ROWS)
    for number, chunk in enumerate(chunks):
        put(f"rows-{number}.js", f"rigbenchRows({chunk_text(chunk)});\n")
    refused = _refused(done.path)
    put(
        "index.html",
        page(
            "leaderboard.html",
            "index.html",
            results=len(results),
            count=len(measured),
            refused=refused,
            chunks=len(chunks),
            rows=[each for _, each in measured[:FIRST_ROWS]],
            filters=[(name, name) for name in FILTERS],
        ),
    )
    _groups(rows, measured, put)
    put(
        "predict.html",
        page(
            "predict.html",
            "predict.html",
            devices=[(device.id, device.name) for device in devices()],
            quants=QUANTS,
            users=USERS,
            context=CONTEXT,
        ),
    )
    put("submit.html", page("submit.html", "submit.html", repository=repository, licence_url=dataset.LICENCE_URL))
    labels = ("case", "users", *(definitions.metric(name).label for name in METRICS[:4]), "watts")
    put("live.html", page("live.html", "live.html", labels=labels))
    with tempfile.TemporaryDirectory(prefix=".rigbench-", dir=out) as scratch:
        for file in dataset.write(done.path, Path(scratch)):
            put(file.name, file.read_bytes())
    obsolete = [file for file in _made_files(out) if file.relative_to(out).as_posix() not in names]
    for file in obsolete:
        file.unlink()
    write(out / MARK, json.dumps(versions()).encode())
    return Outcome(len(results), len(rows), count[True], count[False], len(obsolete), refused, done.faults)


def _batched(things: list[Any], size: int) -> list[list[Any]]:
    return [things[start : start + size] for start in range(0, len(things), size)]


def _refused(path: Path) -> int:
    with index.connect() as database:
        question = f"SELECT count(DISTINCT file) FROM read_parquet(?) WHERE level = '{REFUSED}'"
        [(count,)] = database.execute(question, [index.pattern(path)]).fetchall()
    return int(count)


def _claim(out: Path) -> set[str]:
    """Make the folder a site; the keys of `versions` that were the same when it was last made."""
    mark = out / MARK
    if out.exists() and not mark.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there and is not a site of rigbench: name an empty folder with -o")
    for part in ("result", "machine", "model", "predict"):
        (out / part).mkdir(parents=True, exist_ok=True)
    before = read_json(mark)
    if not mark.exists():
        write(mark, b"")
    return {key for key, value in versions().items() if before.get(key) == value}


def _made_files(out: Path) -> Iterable[Path]:
    yield from out.glob("rows-*.js")
    for part in ("result/*.html", "machine/*.html", "model/*.html", "predict/*.js"):
        yield from out.glob(part)


def versions() -> dict[str, str]:
    """Hashes of all that the pages, and that the predictions are made of, beside the results."""
    code = {part: PACKAGE_ROOT / part for part in ("pages", "report", "analysis", "predict", "models", "units.py")}
    configs = [configs_dir() / part for part in ("hardware", "models", "predictors")]
    made_of = {
        "pages": [code[part] for part in ("pages", "report", "analysis", "units.py")],
        "predictions": [code[part] for part in ("report", "predict", "models", "units.py")] + configs,
    }
    return {key: _hash(folders) for key, folders in made_of.items()}


def _hash(folders: Iterable[Path]) -> str:
    digest = sha256(__version__.encode())
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.suffix in (".html", ".css", ".js", ".svg", ".py", ".toml"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def write(path: Path, data: bytes) -> bool:
    """Whether the file was written: one that holds just this already is left alone."""
    if path.exists() and path.read_bytes() == data:
        return False
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(path)
    return True


@cache
def environment() -> Environment:
    """The templates: every text is escaped, on one line, and holds nothing that cannot be seen."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def text_of(value: Any) -> Any:
        return printable(value, "\ufffd") if isinstance(value, str) and not isinstance(value, Markup) else value

    return Environment(
        loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined, finalize=text_of, trim_blocks=True
    )


def page(template: str, name: str, /, **content: Any) -> str:
    """A page of the site. `name`: its path, from which it finds the others."""
    common: dict[str, Any] = {
        "root": "../" * name.count("/"),
        "page": name,
        "navigation": NAVIGATION,
        "version": __version__,
    }
    common |= {"licence": dataset.LICENCE, "columns": columns()}
    return environment().get_template(template).render(common | content)


def clipped(text: str) -> str:
    """A text of anybody's, as short as a table can take it."""
    text = printable(text, "\ufffd")
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def path_of(kind: str, name: str) -> str:
    """The page of a machine or model: names that differ have pages that differ."""
    plain = slug(name)
    return f"{kind}/{plain if plain == name else f'{plain}-{sha256(name.encode()).hexdigest()[:8]}'}.html"


def line(row: Row) -> dict[str, Any]:
    """A row as the leaderboard shows it."""
    return {
        "machine": clipped(result_view.hardware_name(row)),
        "model": clipped(row.model),
        "quantisation": clipped(row.quantization or "unknown"),
        "backend": clipped(row.backend),
        "workload": clipped(row.workload),
        "users": row.concurrency,
        "flags": clipped(", ".join((*row.flags, *(("synthetic",) if row.synthetic else ())))),
        "level": clipped(str(row.level)),
        "date": row.created_utc[:10],
        "about": clipped(f"{row.machine_id} {row.engine_version} {' '.join(row.drivers.values())}"),
        **{name: None if row[name] is None else float(f"{row[name]:.5g}") for name in METRICS},
        "paths": {
            "machine_path": path_of("machine", row.machine_id),
            "model_path": path_of("model", row.model),
            "result_path": f"result/{row.document_id}.html",
        },
    }


def chunk_text(lines: Sequence[dict[str, Any]]) -> str:
    """Rows as JSON: each text once, and its place in the rows."""
    flat = [{**{name: value for name, value in each.items() if name != "paths"}, **each["paths"]} for each in lines]
    names = list(flat[0])
    words: dict[str, dict[str, int]] = {name: {} for name in names if isinstance(flat[0][name], str)}
    rows = [
        [words[name].setdefault(value, len(words[name])) if name in words else value for name, value in each.items()]
        for each in flat
    ]
    columns_shown = [
        {key: getattr(each, key) for key in ("name", "unit", "better", "link", "number")} for each in columns()
    ]
    searched = [name for name in words if not name.endswith("_path")] + ["users"]
    content = {
        "columns": columns_shown,
        "names": names,
        "searched": searched,
        "words": {k: list(v) for k, v in words.items()},
    }
    return json.dumps({**content, "rows": rows}, separators=(",", ":"), allow_nan=False)


def result_page(rows: Sequence[Row]) -> str:
    """The page of one result."""
    links = {rows[0].machine_id: path_of("machine", rows[0].machine_id)}
    links |= {row.model: path_of("model", row.model) for row in rows}
    name = f"result/{rows[0].document_id}.html"
    return page("result.html", name, links=links, level=rows[0].level, **result_view.view(rows, result_view.Price()))


def _groups(
    rows: Sequence[Row], measured: Sequence[tuple[Row, dict[str, Any]]], put: Callable[[str, str], None]
) -> None:
    """The pages of machines, models and drivers."""
    histories = regress.history(rows, "driver")
    shifts = _shifts(histories)
    kinds: tuple[tuple[str, str, Callable[[Row], str]], ...] = (
        ("machine", "Machines", lambda row: row.machine_id),
        ("model", "Models", lambda row: row.model),
    )
    for kind, heading, key in kinds:
        groups: dict[str, list[tuple[Row, dict[str, Any]]]] = {}
        for row, texts in measured:
            groups.setdefault(key(row), []).append((row, texts))
        entries = []
        for name, own in sorted(groups.items()):
            newest, path = own[0][0], path_of(kind, name)
            facts = []
            if kind == "machine":
                memory = units.bytes_text(newest.memory_bytes)
                facts = [("Processor", clipped(newest.cpu)), ("GPUs", clipped(", ".join(newest.gpus)) or "none")]
                facts += [("Memory", memory), ("System", clipped(f"{newest.os}, kernel {newest.kernel}"))]
                drivers = ", ".join(f"{driver} {text}" for driver, text in newest.drivers.items())
                facts.append(("Drivers", clipped(drivers) or "none"))
            query = urlencode({"q": name} if kind == "machine" else {"model": clipped(name)}, quote_via=quote)
            changes = shifts.get(name, []) if kind == "machine" else []
            content = {"name": clipped(name), "count": len(own), "query": query, "facts": facts, "shifts": changes}
            put(path, page("group.html", path, rows=[each for _, each in own[:GROUP_ROWS]], **content))
            results = len({row.document_id for row, _ in own})
            entries.append((path, clipped(name), f"{len(own)} rows of {results} results"))
        file = f"{kind}s.html"
        nothing = "No result is here yet."
        intro = f"{len(entries)} {kind}s, each with its rows."
        put(file, page("list.html", file, heading=heading, intro=intro, entries=entries, nothing=nothing))
    listed = [(path_of("machine", name), clipped(name), text) for name, texts in shifts.items() for text in texts]
    put(
        "drivers.html",
        page(
            "list.html",
            "drivers.html",
            heading="What a driver changed",
            intro=f"{len(histories)} cases were measured on two drivers or more of one machine.",
            entries=listed,
            nothing="No driver changed the level of any case.",
        ),
    )


def _shifts(histories: Sequence[regress.History]) -> dict[str, list[str]]:
    """Sentences about levels that changed with the driver, by machine."""
    texts: dict[str, list[str]] = {}
    for each in histories:
        for shift in each.shifts:
            metric = "all" if shift.metric == "all" else definitions.metric(shift.metric).label
            amount = "" if not shift.before or not shift.after else f" ({shift.after / shift.before - 1:+.1%})"
            text = f"{each.group}: {metric} {shift.verdict}{amount} since {shift.at}"
            texts.setdefault(each.machine_id, []).append(clipped(text))
    return texts


@cache
def devices() -> tuple[Hardware, ...]:
    """Catalogued devices that somebody can own."""
    from rigbench.predict.hardware import hardware

    return tuple(sorted((each for each in hardware() if each.status == "shipping"), key=lambda each: each.name.lower()))


def prediction_table(device: Hardware) -> str:
    """What `rigbench predict` says of every catalogued model on the device, as a script."""
    from rigbench.report.prediction import grid

    rows = []
    for quant in QUANTS:
        for users in USERS:
            models, [(_, cells)] = grid(device.id, None, quant, users, CONTEXT)
            for facts, (fit, prediction) in zip(models, cells, strict=True):
                span = prediction.inputs.get("user_tps_80_percent") or (None, None)
                numbers = (prediction.user_tps, *span, prediction.output_tps, prediction.ceiling_user_tps)
                short = [None if each is None else float(f"{each:.3g}") for each in numbers]
                rows.append([facts.name.removesuffix(f"-{quant}"), quant, users, fit.answer, *short])
    about = f"{units.bytes_text(device.memory_bytes)}, {units.bandwidth_text(device.bandwidth_bytes_per_s)}"
    content = {"id": device.id, "name": device.name, "about": about, "rows": rows}
    return f"rigbenchPredict({json.dumps(content, separators=(',', ':'))});\n"
