"""Whatever is typed, it ends in an answer or in one sentence: never in a traceback, and never in success with nothing done.

Every command with any of its options, in this process, without an engine: a run is interrupted before its first case.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.main import get_command

from rigbench import ceilings
from rigbench.cli.main import app, main
from rigbench.models.synthetic.gguf import ensure_synthetic
from rigbench.records import Bandwidth
from rigbench.run import engines, runner
from rigbench_backends.base import Probe

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "results" / "amd-epyc-2c-24gb" / "20261121T134057Z-quickstart-417ae7fe.json"
ANY = ["", "-1", "1e400", "nan", "inf", "a b", "--", "1,1", "0x10", "null", "a=", "\0", *" 01xü-=."]
FILES = ["result.json", "results", "missing.json", "my.gguf", "text.txt", "broken.json", "empty"]
NUMBERS = ["1", "2", "3.5", "8", "0", "-3", "1e9", "1e400", "nan"]
MODELS = [
    "my.gguf",
    "missing.gguf",
    "synthetic:tiny:F16",
    "synthetic:tiny:Q9",
    "llama-3.1-8b",
    "lama",
    "remote:x",
    "hf:a/b",
    "ollama:x",
]
SUITES = ["smoke", "standard", "quickstrat", "suite.toml", *MODELS]
METRICS = ["user_tps", "ttft_s", "usr_tps", "mbu"]
GOOD = {
    "what": SUITES,
    "suite": SUITES,
    "model": MODELS,
    "spec": ["missing.gguf", "lama", "hf:a/b/c.gguf", "remote:x"],
    "shape": ["tiny", "llama-161m"],
    "quant": ["F16", "Q8_0", "Q9"],
    "backend": ["sim", "llama.cpp", "mlx", "olama", "ollama"],
    "engine": ["sim", "vllm", "olama"],
    "server": ["ollama", "olama", "127.0.0.1:1", "http://127.0.0.1:1/v1"],
    "python": ["missing/python"],
    "option": ["threads=2", "bandwidth_gb_per_s=5,6", "bandwith=3", "fault=x", "threads"],
    "prompts": ["64", "0,64", "64,64", "-1", "a"],
    "outputs": ["32", "0", "2,3"],
    "users": ["1", "1,4", "0", "2000"],
    "hardware": ["rtx-4090", "rtx-4900", "rtx-4090x2", "m4-max-40"],
    "vendor": ["apple", "aple"],
    "metric": METRICS,
    "fail_on": ["slower", "slowr"],
    "axis": ["driver", "date", "drivr"],
    "since": ["2026", "x"],
    "form": ["csv", "markdown", "llama-bench-json", "cvs"],
    "format": ["gguf", "mlx", "ggfu"],
    "device": ["cpu", "cuda:1", "cpu:1", "xpu 3"],
    "wall_url": ["http://127.0.0.1:1", "foo bar", "ftp://x"],
    "wall_meter": ["shelly", "shely"],
    "wall_unit": ["W", "kw", "J"],
    "wall_path": ["a.0.b"],
    "sql": ["select count(*) from cases", "select * from case", "drop table cases", "select"],
    "index": ["results/.index.parquet", "missing.parquet"],
    "plot": ["plot.svg", "plot.png"],
    "good": ["a==1", "a", "b==2"],
    "bad": ["c==3", "a=1"],
    "candidates": ["1,2"],
    "runs": ["1", "0"],
    "repo": ["no/such/repository"],
    "resume": ["missing.journal", "text.txt"],
    "replay": ["missing.json", "text.txt"],
    "seconds": ["0.01", "-1", "nan"],
    "processes": ["1", "0"],
    "currency": ["EUR"],
}
SLOW_OR_CHANGING = {"install_completion", "show_completion", "yes"}
MUST = {"watch": ["--seconds", "0.01"]}
"""Without it, a command goes on until somebody ends it."""


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    for name in command.list_commands(None):
        yield from _commands(command.get_command(None, name), (*path, name))


COMMANDS = {path: command for path, command in _commands(get_command(app)) if path != ("serve",)}  # it goes on for ever


def _stays_here(text: str) -> bool:
    """Not a folder outside the test's own: a command reads all results below it, and `/` may hold any number."""
    return not text.strip().startswith(("/", "..", "~"))


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command, some of its options with values that may do and values that cannot, and its arguments."""
    path = draw(st.sampled_from(sorted(COMMANDS)))
    words = [*path, *MUST.get(path[0], [])]
    for parameter in COMMANDS[path].params:
        name = str(parameter.name)
        if name in SLOW_OR_CHANGING or name == "help":
            continue
        is_argument = parameter.param_type_name == "argument"
        if draw(st.integers(0, 9)) >= (8 if is_argument or parameter.required else 1):
            continue
        if getattr(parameter, "is_flag", False):
            words.append(draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts])))
            continue
        likely = GOOD.get(name.removeprefix("engine_"), NUMBERS if parameter.metavar in ("N", "V,V") else FILES)
        value = draw(
            st.one_of(
                st.sampled_from(likely),
                st.sampled_from(likely),
                st.sampled_from(ANY),
                st.text(max_size=5).filter(_stays_here),
            )
        )
        words += [value] if is_argument else [draw(st.sampled_from(parameter.opts)), value]
    return words


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    here = tmp_path_factory.mktemp("typed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # before the variable: it is imported here
        patch.setenv("HF_HUB_OFFLINE", "1")
        (here / "results").mkdir()
        (here / "empty").mkdir()
        for name in ("result.json", "results/result.json"):
            (here / name).write_bytes(RESULT.read_bytes())
        (here / "my.gguf").write_bytes(ensure_synthetic("tiny", "Q8_0").read_bytes())
        (here / "text.txt").write_text("no result\n")
        (here / "broken.json").write_text('{"schema_version": 2}')
        (here / "suite.toml").write_text((ROOT / "configs" / "suites" / "smoke.toml").read_text())
        patch.setattr(engines, "probe", _probe)
        patch.setattr(ceilings, "measure", lambda device, python="": Bandwidth(device, 3e10, 2e10))
        patch.setattr("rigbench.ceilings.figure.busy_share", lambda: 0.0)
        patch.setattr(runner, "execute", _interrupted)
        yield here


def _probe(backend: str, python: str, options: dict[str, Any] | None = None) -> Probe:
    return Probe(backend == "sim", "1", "sim", ("a simulated machine",), reason="it is not here", fix="install it")


def _interrupted(work: Any) -> None:
    for source in work.sources:
        source.close()
    raise KeyboardInterrupt


def must_end_well(words: list[str]) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    message, answer = err.getvalue(), out.getvalue()
    assert code in (0, 2, 3, 4, 5, 130), (words, code)
    assert "Traceback" not in message + answer, words
    if code:
        assert "rigbench: " in message, (words, message)
    else:
        assert answer.strip() or message.strip(), words


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines())
def test_it_ends_in_an_answer_or_a_sentence(words: list[str]) -> None:
    must_end_well(words)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines())
def test_ten_thousand_times(words: list[str]) -> None:
    must_end_well(words)
