"""The page of results: its charts have the points of the records, its numbers are `show --json`'s, nobody's text becomes markup."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from backends.paced_server import paced_server
from command_line import rigbench
from device_documents import device_document, rederived
from rigbench import units
from rigbench.cli.main import app, main
from rigbench.report import charts

SAMPLE = next((Path(__file__).parents[2] / "results").glob("*/*quickstart*.json"))
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e" + "W" * 10_000
ALLOWED = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "main",
    "footer",
    "h1",
    "h2",
    "p",
    "dl",
    "dt",
    "dd",
    "ul",
    "li",
    "div",
}
ALLOWED |= {
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "bdi",
    "code",
    "pre",
    "details",
    "summary",
    "figure",
    "figcaption",
}
ALLOWED |= {"svg", "desc", "g", "rect", "path", "line", "polyline", "text", "circle"}


class Page(HTMLParser):
    """What a page holds: its tags, the text of its title, figures (title, description, tags in it) and JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: list[dict[str, Any]] = []
        self.stack: list[str] = []
        self.json = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.stack.append(tag)
        if tag == "figure":
            self.figures.append({"tags": [], "figcaption": "", "desc": ""})
        elif self.figures and "figure" in self.stack:
            self.figures[-1]["tags"].append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self.stack and self.stack.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] == "pre":
            self.json += data
        if self.figures and self.stack and self.stack[-1] in ("figcaption", "desc"):
            self.figures[-1][self.stack[-1]] += data

    def figure(self, start: str) -> dict[str, Any]:
        return next(each for each in self.figures if each["figcaption"].startswith(start))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., str]:
    def run(*words: str | Path) -> str:
        out = tmp_path / "report.html"
        done = CliRunner().invoke(app, ["report", *map(str, words), "-o", str(out)])
        assert done.exit_code == 0, done.output
        return out.read_text(encoding="utf-8")

    return run


def saved(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_result_is_one_small_page_without_a_script_or_an_address(make: Callable[..., str]) -> None:
    text = make(SAMPLE)
    assert len(text.encode()) < 300_000
    assert {tag for tag, _ in Page(text).tags} <= ALLOWED
    assert not re.search(r"(src|href|url)\s*[=(]", text)
    assert not re.search(r"undefined|None|nan", re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL))


def test_its_numbers_are_those_of_show(make: Callable[..., str]) -> None:
    page = Page(make(SAMPLE))
    rows = json.loads(CliRunner().invoke(app, ["show", str(SAMPLE), "--json"]).stdout)
    assert json.loads(page.json) == rows
    bars = page.figure("user t/s: measured")
    assert len([tag for tag, _ in bars["tags"] if tag == "rect"]) == len(rows)
    for row in rows:
        speed = units.rate_text(row["user_tps"])
        assert f"{row['workload']} x{row['concurrency']}: {speed} measured" in bars["desc"]
    widths = [float(attrs["width"] or 0) for tag, attrs in bars["tags"] if tag == "rect"]
    assert widths[0] / widths[-1] == pytest.approx(rows[0]["user_tps"] / rows[-1]["user_tps"], rel=0.01)


def test_each_chart_has_the_points_of_its_records(make: Callable[..., str]) -> None:
    page, document = Page(make(SAMPLE)), json.loads(SAMPLE.read_text())
    users = {case["case"]["concurrency"] for case in document["cases"]}
    dots = [attrs for tag, attrs in page.figure("user t/s over users")["tags"] if "dot" in (attrs.get("class") or "")]
    assert len(dots) == len(users)
    assert len([1 for tag, _ in page.figure("Gaps between")["tags"] if tag == "polyline"]) == 2 * len(
        users
    )  # and its legend
    spans = [1 for tag, attrs in page.figure("Memory over the run")["tags"] if attrs.get("class") == "phase"]
    assert len(spans) == len(document["cases"])  # each was measured; the model was loaded before the first reading
    assert all(each["desc"] for each in page.figures)


def test_two_results_have_their_verdicts_and_a_folder_its_history(make: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    base = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M", seed=1)
    new = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M", seed=1, noise=0.02)
    base["machine"]["drivers"], new["machine"]["drivers"] = {"nvidia": "580.1"}, {"nvidia": "999.1"}
    new["created_utc"] = "2026-11-01T12:00:00Z"
    files = [saved(folder / "base.json", rederived(base)), saved(folder / "new.json", rederived(new))]
    two = make(*files)
    assert "Compared: <bdi>base</bdi> and <bdi>new</bdi>" in two and "Verdicts" in two and "nvidia 999.1" in two
    assert len(json.loads("[" + Page(two).json.replace("][", "],[") + "]")) == 2
    history = make(folder)
    assert "History along the driver" in history and "2 results in results" in history


def test_anybodys_text_is_shown_as_text(make: Callable[..., str], tmp_path: Path) -> None:
    content = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M")
    for where, name in ((content["machine"], "cpu"), (content["machine"], "os"), (content["suite"], "name")):
        where[name] = HOSTILE
    content["machine"]["gpus"][0]["name"] = HOSTILE
    content["engines"][0]["device_names"] = [HOSTILE]
    content["machine"]["drivers"] = {HOSTILE: HOSTILE}
    text = make(saved(tmp_path / "hostile.json", content))
    assert {tag for tag, _ in Page(text).tags} <= ALLOWED
    assert "\u202e" not in text and "<script" not in text and "onerror=alert(1)>" not in text


def test_a_result_of_failures_alone_says_so_and_has_no_empty_chart(make: Callable[..., str], tmp_path: Path) -> None:
    content = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M")
    for case in content["cases"]:
        case.update(requests=[], readings=[], phases=[], error={"kind": "load", "message": "it does not load"})
    text = make(saved(tmp_path / "failed.json", rederived(content)))
    page = Page(text)
    assert page.figures == [] and "Nothing was measured." in text and "it does not load" in text


WORKS = """
name = "works"
version = "1"
[load]
concurrency = [1]
repetitions = 1
requests_per_user = 2
[warmup]
output_tokens = 2
[[workload]]
name = "picture"
kind = "image"
width = 512
height = 256
steps = 5
[[workload]]
name = "adapters"
kind = "train"
sequence_tokens = 32
batch = 4
steps = 6
"""
LLAMA_BENCH = Path(__file__).parents[1] / "documents" / "llama_bench.json"


def _ran(folder: Path, *words: str) -> Path:
    done = rigbench("run", *words, "-o", folder / "results", cwd=folder)
    return folder / done.result


def _works(folder: Path) -> Path:
    (folder / "works.toml").write_text(WORKS)
    return _ran(folder, "./works.toml", "-b", "sim", "-m", "synthetic:tiny:F16", "-O", "tflops=0.001")


def _server(folder: Path) -> Path:
    with paced_server(200) as address:
        return _ran(folder, "-s", address, "-m", "remote:any", "-p", "7", "-n", "24", "-u", "2", "-r", "1")


def _imported(folder: Path) -> Path:
    done = rigbench("import", LLAMA_BENCH, "-o", folder / "results", cwd=folder)
    return folder / done.result


def _gpu(folder: Path) -> Path:
    return saved(folder / "gpu.json", device_document("m4-max-40", "qwen3-30b-a3b", "Q4_K_M"))


def _one_repetition(folder: Path) -> Path:
    return saved(folder / "one.json", device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M", repetitions=1))


@pytest.mark.parametrize(
    ("document", "headline"),
    [
        (_works, "it/s (picture x1), "),
        (_server, "tokens/s for each user (p7-n24 x2)"),
        (_imported, "tokens/s for each user"),
        (_gpu, "tokens/s in all"),
        (_one_repetition, "of what was predicted"),
    ],
)
def test_each_kind_of_document_reads_right(
    document: Callable[[Path], Path], headline: str, make: Callable[..., str], tmp_path: Path
) -> None:
    text = make(document(tmp_path))
    page = Page(text)
    assert headline in text
    assert not re.search(r"undefined|None|nan\b|NaN", re.sub(r"<(pre|style).*?</\1>", "", text, flags=re.DOTALL))
    assert page.figures
    for figure in page.figures:
        drawn = [attrs for tag, attrs in figure["tags"] if tag in ("rect", "polyline", "path")]
        assert any(attrs.get("width") != "0.0" for attrs in drawn) and figure["desc"], figure["figcaption"]
    if document is _works:
        assert "picture x1: 0.393 measured, ceiling 0.393 steps/s" in page.figure("it/s")["desc"]
        assert "adapters x1" in page.figure("trained t/s")["desc"] and text.count("<caption>Each case") == 2


def test_the_picture_has_the_size_that_links_show(tmp_path: Path) -> None:
    out, png = tmp_path / "r.html", tmp_path / "r.png"
    done = CliRunner().invoke(app, ["report", str(SAMPLE), "-o", str(out), "--png", str(png)])
    assert done.exit_code == 0, done.output
    with Image.open(png) as image:
        assert (image.format, image.size) == ("PNG", (1200, 630))
        bar = image.crop((60, 192, 1140, 214)).convert("RGB")
        blue = sum(pixel == (0x1D, 0x56, 0xB8) for pixel in bar.get_flattened_data()) / (bar.width * bar.height)
    assert 0.3 < blue < 0.6  # 31.3 tokens/s below a ceiling of 70.4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing.json"], "no result at nothing.json"),
        ([str(SAMPLE), "-o", "page.txt"], "give a file that ends in .html"),
        ([str(SAMPLE), "--png", "x.jpg"], "give a file that ends in .png"),
        ([str(SAMPLE), "-o", "no/such/folder/x.html"], "cannot write"),
        ([str(SAMPLE)] * 9, "too many for one page"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *words]) == 2
    assert not list(tmp_path.iterdir())
    assert sentence in capsys.readouterr().err


def test_a_long_curve_loses_no_peak() -> None:
    points = [(float(x), 1.0 if x == 7777 else 0.0) for x in range(10_000)]
    thin = charts.thinned(points, len(points))
    assert len(thin) <= charts.MAX_POINTS + 2 and (7777.0, 1.0) in thin and thin == sorted(thin)


def test_a_curve_is_broken_where_nobody_looked() -> None:
    points = [(float(x), 1.0) for x in (0, 1, 2, 10, 11)]
    text = charts.curves("t", [charts.Curve("c", points, most_apart=5)], x_text=str, y_text=str, x_label="", y_label="")
    assert [len(line.split()) for line in re.findall(r'polyline class="line s0" points="([^"]*)"', text)] == [3, 2]


@pytest.mark.parametrize(
    ("low", "high", "log"), [(0, 1, False), (0, 70.4, False), (-3, 1e9, False), (1, 16, True), (1e-6, 5, True)]
)
def test_ticks_are_few_round_and_inside(low: float, high: float, log: bool) -> None:
    scale = charts.Scale(low, high, 0, 100, log)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 9
    assert all(low - 1e-9 <= tick <= high * 1.001 for tick in ticks)
    assert [scale(tick) for tick in ticks] == sorted(scale(tick) for tick in ticks)
