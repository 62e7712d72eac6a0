"""The rooms of rigbench import upwards only, the backends import nothing of it, nothing but cli/ prints or exits, and names and
texts keep to the glossary.

Read from the sources, never by importing them: imports inside functions and for types count like all others.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HARNESS = "harness/rigbench"
BACKENDS = "backends/rigbench_backends"
GROUND = ("records", "workloads", "errors", "units", "clock", "paths", "text")
ROOMS = (
    "worker",
    "telemetry",
    "ceilings",
    "models",
    "analysis",
    "predict",
    "suites",
    "documents",
    "run",
    "report",
    "cli",
    "api",
    "__main__",
)
LEVEL = {**dict.fromkeys(GROUND, 0), **{room: level for level, room in enumerate(ROOMS, start=1)}}
WORKER_NEEDS = {"records", "workloads", "errors", "units", "clock", "worker"}
ENGINES = {
    "llama_cpp": {"llama_cpp", "numpy"},
    "mlx_lm": {"mlx", "mlx_lm", "numpy"},
    "vllm": {"vllm", "torch"},
    "openai": {"httptools"},
    "peft_lora": {"torch", "transformers", "peft"},
    "mlx_lora": {"mlx", "mlx_lm"},
}
STANDARD = sys.stdlib_module_names
# A name says what a thing is (`document`, `rows`), not what happened to it; a text uses the usual word.
PARTICIPLES = re.compile("asked|chosen|found|given|gone|got|held|kept|made|said|seen|shown|taken|told|wanted")
USUAL_WORDS = {"mend": "fix", "mends": "fixes", "mended": "fixed", "mending": "fixing"}


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def imports(tree: ast.Module, package: str) -> Iterator[tuple[str, int, bool]]:
    """(full dotted name, line, at the top of the module) of everything imported; `from a import b` counts as `a.b`."""
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            for name in node.names:
                yield f"{base}.{name.name}", node.lineno, id(node) in top


def room_of(path: Path, root: Path) -> str:
    """telemetry/host.py -> telemetry; records.py -> records; __init__.py -> ''."""
    parts = path.relative_to(root / HARNESS).with_suffix("").parts
    return "" if parts[0] == "__init__" else parts[0]


def ours(name: str) -> str | None:
    """The room that a dotted name leads to; '' for the package rigbench itself (its version), None outside it."""
    parts = name.split(".")
    if parts[0] != "rigbench":
        return None
    return parts[1] if len(parts) > 1 and not parts[1].startswith("__") else ""


def import_faults(root: Path) -> list[str]:
    """One line for each import in `root` that goes where it must not."""
    faults = []

    def fault(path: Path, line: int, text: str) -> None:
        faults.append(f"{path.relative_to(root)}:{line}: {text}")

    for path in sorted((root / HARNESS).rglob("*.py")):
        room = room_of(path, root)
        if room and room not in LEVEL:
            fault(path, 1, f"`{room}` is no room: add it to the table of rooms, in its place")
            continue
        package = ".".join(path.relative_to(root).parent.parts[1:])
        for name, line, _ in imports(parsed(path.read_text("utf-8")), package):
            target, first = ours(name), name.split(".")[0]
            if target and LEVEL.get(target, -1) > LEVEL.get(room, -1):
                fault(path, line, f"imports {name}, a room below its own")
            if room == "run" and target == "worker":
                fault(path, line, "imports worker, which run starts by command line")
            alone = room in ("records", "workloads", "worker")
            if alone and target and target not in WORKER_NEEDS:
                fault(path, line, f"imports {name}, which the worker's interpreter need not have")
            if (
                (alone or path.name == "__init__.py")
                and target is None
                and first not in {*STANDARD, "rigbench_backends"}
            ):
                fault(path, line, f"imports {name}, which is not the standard library")
    for path in sorted((root / BACKENDS).rglob("*.py")):
        engine = path.stem if path.parent.name == "rigbench_backends" else path.parent.name
        for name, line, at_top in imports(parsed(path.read_text("utf-8")), "rigbench_backends"):
            first = name.split(".")[0]
            if first == "rigbench":
                fault(path, line, f"imports {name}; a backend knows nothing of rigbench")
            elif first not in {*STANDARD, "rigbench_backends"} and (at_top or first not in ENGINES.get(engine, set())):
                fault(path, line, f"imports {name}; only its own engine, and only inside functions")
    return faults


def graph(root: Path) -> dict[str, set[str]]:
    """module -> the modules of ours that it imports, anywhere in it."""
    modules = {}
    for base in (HARNESS, BACKENDS):
        for path in sorted((root / base).rglob("*.py")):
            parts = path.relative_to((root / base).parent).with_suffix("").parts
            modules[".".join(parts).removesuffix(".__init__")] = path
    needs = {}
    for name, path in modules.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        needs[name] = set()
        for target, _, _ in imports(parsed(path.read_text("utf-8")), package):
            while target and target not in modules:
                target = target.rpartition(".")[0]
            if target and target != name:
                needs[name].add(target)
    return needs


def speech_faults(root: Path) -> list[str]:
    """One line for each place outside cli/ (and the worker, whose protocol is its stdout) that prints or exits.

    What a module does when a person runs it by itself (`if __name__ == "__main__"`) is no part of the product.
    """
    faults = []
    for path in sorted([*(root / HARNESS).rglob("*.py"), *(root / BACKENDS).rglob("*.py")]):
        folders = path.relative_to(root).parts
        if folders[2] in ("cli", "worker"):
            continue
        parts = [
            part
            for part in parsed(path.read_text("utf-8")).body
            if not (isinstance(part, ast.If) and ast.unparse(part.test).startswith("__name__ =="))
        ]
        for node in (node for part in parts for node in ast.walk(part)):
            word = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Raise) and node.exc is not None and ast.unparse(node.exc).startswith("SystemExit"):
                word = "SystemExit"
            if word in ("print", "exit", "quit", "sys.exit", "os._exit", "SystemExit", "typer.echo"):
                faults.append(f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}: {word}")
    return faults


def name_faults(tree: ast.Module) -> Iterator[str]:
    """`line: name` of each variable, argument, attribute, function or class that a participle alone names."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
                | ast.arg(arg=name)
            ):
                pass
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                pass
            case ast.ExceptHandler(name=str(name)):
                pass
            case _:
                continue
        if PARTICIPLES.fullmatch(name.strip("_").lower()):
            yield f"{getattr(node, 'lineno', 0)}: `{name}` is a participle: name the thing"


def word_faults(text: str) -> Iterator[str]:
    """`line: word` of each word of `text` for which the glossary has a more usual one."""
    for number, line in enumerate(text.splitlines(), 1):
        for word in re.findall(r"[a-z]+", line.lower()):
            if word in USUAL_WORDS:
                yield f"{number}: `{word}`: write `{USUAL_WORDS[word]}`"


def glossary_faults(root: Path) -> list[str]:
    """One line for each name and each word, in code and in the texts beside it, that the glossary does not allow."""
    faults = []
    for folder in ("harness", "backends", "configs", "scripts", "tests"):
        for path in sorted((root / folder).rglob("*.py")):
            source = path.read_text("utf-8")
            own = path.resolve() == Path(__file__).resolve()  # it has to write the words
            here = [*name_faults(parsed(source)), *(() if own else word_faults(source))]
            faults += [f"{path.relative_to(root)}:{fault}" for fault in here]
    for path in sorted(root.glob("*.md")):
        faults += [f"{path.relative_to(root)}:{fault}" for fault in word_faults(path.read_text("utf-8"))]
    return faults


def test_imports_go_upwards_only() -> None:
    assert import_faults(ROOT) == []


def test_no_circle_between_rooms_or_inside_one() -> None:
    """graphlib raises CycleError, which names the modules of a circle."""
    assert len(list(TopologicalSorter(graph(ROOT)).static_order())) > 100


def test_a_circle_is_seen(tmp_path: Path) -> None:
    for name, source in {"a": "from rigbench.x import b", "b": "def f():\n    import rigbench.x.a"}.items():
        path = tmp_path / HARNESS / "x" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    with pytest.raises(CycleError):
        TopologicalSorter(graph(tmp_path)).prepare()


def test_only_the_command_line_prints_or_exits() -> None:
    assert speech_faults(ROOT) == []


def test_names_and_texts_keep_to_the_glossary() -> None:
    assert glossary_faults(ROOT) == []


@pytest.mark.parametrize(
    "source",
    ["found = 1", "def made(): ...", "def f(told): ...", "class Held: ...", "self.seen = 1", "(a, (kept, b)) = x",
     "for shown in x: ...", "with x as wanted: ...", "try: ...\nexcept E as gone: ...", "_chosen: int = 1", "# mend this"],
)  # fmt: skip
def test_what_the_glossary_forbids_is_seen(tmp_path: Path, source: str) -> None:
    path = tmp_path / "scripts/a.py"
    path.parent.mkdir()
    path.write_text(source)
    assert glossary_faults(tmp_path) != []
    path.write_text("found_at = 1  # what was found\nf(found, told=1)")
    assert glossary_faults(tmp_path) == []


def test_the_rooms_are_all_there() -> None:
    """So that the tests above do not pass by reading nothing."""
    rooms = {room_of(path, ROOT) for path in (ROOT / HARNESS).rglob("*.py")} - {""}
    assert {*GROUND, "worker", "telemetry", "models", "analysis", "suites", "run", "documents", "cli"} <= rooms
    assert {"base.py", "sim.py", "mlx_lm.py"} <= {path.name for path in (ROOT / BACKENDS).glob("*.py")}


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("harness/rigbench/models/a.py", "from rigbench.run import runner", "a room below its own"),
        ("harness/rigbench/models/a.py", "def f():\n    import rigbench.cli.main", "a room below its own"),
        ("harness/rigbench/models/a.py", "from rigbench import report", "a room below its own"),
        ("harness/rigbench/models/a.py", "from .. import report", "a room below its own"),
        ("harness/rigbench/units.py", "from rigbench.telemetry import source", "a room below its own"),
        ("harness/rigbench/run/a.py", "from rigbench.worker import drive", "starts by command line"),
        ("harness/rigbench/worker/a.py", "def f():\n    import numpy", "not the standard library"),
        ("harness/rigbench/worker/a.py", "from rigbench.paths import cache_dir", "need not have"),
        ("harness/rigbench/records.py", "import pydantic", "not the standard library"),
        ("harness/rigbench/suites/__init__.py", "import pydantic", "not the standard library"),
        ("harness/rigbench/extra/a.py", "import os", "is no room"),
        ("backends/rigbench_backends/new.py", "from rigbench.records import Case", "knows nothing of rigbench"),
        ("backends/rigbench_backends/llama_cpp/ggml.py", "import llama_cpp", "only inside functions"),
        ("backends/rigbench_backends/sim.py", "def f():\n    import numpy", "only its own engine"),
    ],
)
def test_each_fault_is_found(tmp_path: Path, file: str, source: str, expected: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(source)
    faults = import_faults(tmp_path)
    assert any(expected in fault and fault.startswith(file) for fault in faults), faults


def test_what_is_allowed_is_no_fault(tmp_path: Path) -> None:
    sources = {
        "harness/rigbench/run/a.py": "import psutil\nimport rigbench_backends\nfrom rigbench import __version__, records, suites",
        "harness/rigbench/worker/a.py": "from rigbench_backends.base import Session\nfrom rigbench.records import Case",
        "backends/rigbench_backends/llama_cpp/ggml.py": "def f():\n    import numpy as np\n    from llama_cpp import llama_cpp",
    }
    for file, source in sources.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(source)
    assert import_faults(tmp_path) == []


@pytest.mark.parametrize("source", ["print(1)", "import sys\nsys.exit(2)", "raise SystemExit", "raise SystemExit(1)"])
def test_speech_is_found(tmp_path: Path, source: str) -> None:
    path = tmp_path / "harness/rigbench/run/a.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert speech_faults(tmp_path) != []
    (tmp_path / "harness/rigbench/cli").mkdir()
    path.rename(tmp_path / "harness/rigbench/cli/a.py")
    assert speech_faults(tmp_path) == []
