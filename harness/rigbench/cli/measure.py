"""What `run` and `plan` share: a suite or a model, the flags that make a suite, and engines under any of their names.

@measuring
def command(ask: Ask, as_json: bool = JSON) -> None: ...     # has all options of Ask, and every flag of every engine
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

import rigbench_backends
from rigbench.cli.options import number, say, whole_numbers
from rigbench.errors import InputError
from rigbench.text import printable

if TYPE_CHECKING:
    from rigbench.run.runner import Prepared
    from rigbench.suites.plan import Engine
    from rigbench.suites.suite import EnginePart, Suite

MODELS = (
    "a file, synthetic:SHAPE:QUANT, hf:OWNER/REPO/FILE.gguf, a catalogued name, or what `rigbench models list` shows"
)


TRUST_SUITE = typer.Option(
    False, "--trust-suite", help="Run what a suite from another folder names: commands, interpreters, addresses."
)
REACHING = ("start", "base_url", "api_key_env", "extra")
"""Options of an engine that start a command, or say to whom is spoken and with which key."""


@dataclass(frozen=True)
class Ask:
    """What is to be measured, as it was written."""

    what: str | None = typer.Argument(
        None, help=f"A suite (`rigbench suites`) or a model: {MODELS}.", metavar="SUITE|MODEL"
    )
    model: list[str] = typer.Option([], "--model", "-m", help=f"A model: {MODELS}. Several: again.")
    backend: list[str] = typer.Option(
        [], "--backend", "-b", help="llama.cpp, mlx, vllm, a server (ollama ...) or sim. Several: again."
    )
    server: str | None = typer.Option(
        None, "--server", "-s", help="A running server: ollama, lmstudio, llama-server, vllm, mlx ... or HOST:PORT."
    )
    python: str | None = typer.Option(None, "--python", help="The Python interpreter that has the engine.")
    prompts: str | None = typer.Option(None, "-p", "--prompt", help="Prompt tokens: 512 or 512,2048.", metavar="N,N")
    outputs: str | None = typer.Option(None, "-n", "--gen", help="Tokens to generate: 128.", metavar="N,N")
    users: str | None = typer.Option(None, "-u", "--users", help="Users at once: 1,4,8.", metavar="N,N")
    repetitions: int | None = number(None, "-r --repetitions", "How often.", 1, 100, whole=True)
    minutes: float | None = number(
        None,
        "--minutes",
        "Take about so long at most: what was not asked for is left out, and said.  [default: 5 without a suite]",
        0,
        10_000,
        above=True,
    )
    option: list[str] = typer.Option(
        [],
        "--option",
        "-O",
        help="An option of the engine (`rigbench engines`): -O threads=4; a sweep: -O threads=2,4,8.",
    )

    trust_suite: bool = TRUST_SUITE

    @property
    def options_given(self) -> list[str]:
        """The options that say what is measured on what, as they are written: not that it is trusted."""
        named = {each.name: cast(Any, each.default).param_decls for each in fields(self)[1:]}
        return [words[0] for name, words in named.items() if getattr(self, name) and name != "trust_suite"]

    def suite(self) -> tuple[Suite, list[str]]:
        """(the suite that is named or made from the flags, the models that are named). InputError for contradictions."""
        from rigbench.suites import custom
        from rigbench.suites.suite import load_suite, names_a_suite

        models = list(self.model)
        if self.what is None:
            if not models and not self.server and not self.backend:
                raise InputError("name a suite (`rigbench suites`) or a model: rigbench run my-model.gguf")
            suite = custom.default_suite()
        elif names_a_suite(self.what) or (models and not _is_model(self.what)):
            suite = load_suite(self.what)
        elif _is_model(self.what):
            models = [self.what, *models]
            suite = custom.default_suite()
        else:
            suite = load_suite(self.what)  # which says what is nearest
        for model in models:
            if models.count(model) > 1:
                raise InputError(f"the model {model} is there twice")
        repetitions = None if self.repetitions is None else int(self.repetitions)
        suite = custom.changed(
            suite,
            whole_numbers("-p", self.prompts, 0, 1_000_000),
            whole_numbers("-n", self.outputs, 0, 1_000_000),
            whole_numbers("-u", self.users, 1, 1024),
            repetitions,
        )
        return suite, models

    def prepare(self, flags: EngineFlags, *, fetch: bool) -> Prepared:
        """The suite on its engines here, within --minutes. What gave way, and what will be fetched, is said."""
        from rigbench.cli.progress import Progress
        from rigbench.run import selection, start

        suite, models = self.suite()
        if not self.trust_suite and self.what is not None:
            must_be_trusted(self.what, suite.engine)
        parts = selection.engines_of(
            suite, self.backend, models, self.python, [*self.option, *settings(flags)], self.server, say
        )
        for sentence in downloads(parts):
            say(sentence)
        bound = self.minutes is not None or suite.name == "custom"
        within = self._within if bound else None
        return start.prepare(suite, parts, fetch=fetch, say=say, progress=Progress(), within=within)

    def _within(self, suite: Suite, engines: Sequence[Engine]) -> Suite:
        from rigbench import units
        from rigbench.suites import custom
        from rigbench.suites.plan import make_plan

        def estimate(candidate: Suite) -> float | None:
            return make_plan(candidate, engines).seconds

        fixed = [name for name in ("prompts", "outputs", "users", "repetitions") if getattr(self, name) is not None]
        seconds = 60 * (self.minutes or custom.DEFAULT_MINUTES)
        if self.minutes is None and fixed:  # what was asked for in figures takes as long as it takes
            return suite
        small = custom.shortened(suite, seconds, estimate, fixed)
        if self.minutes is not None and small.seconds is None:
            raise InputError(
                "the time of this run cannot be estimated, so --minutes cannot bound it: give -p, -n, -u and -r"
            )
        if self.minutes is not None and small.seconds is not None and small.seconds > seconds:
            raise InputError(
                f"this takes about {units.seconds_text(small.seconds)} at least, and --minutes allows "
                f"{units.seconds_text(seconds)}: give more, a smaller model, or fewer of -p, -n, -u and -r"
            )
        if small.sentence:
            say(small.sentence)
        return small.suite


def must_be_trusted(name: str, engines: Sequence[EnginePart]) -> None:
    """Asks before a suite or a journal from another folder starts or speaks to anything that it names. InputError without a yes."""
    from rigbench.suites.suite import suite_files

    if name in suite_files() or Path(name).resolve().is_relative_to(Path.cwd()):
        return
    named = [f"python = {part.python}" for part in engines if part.python]
    named += [f"{key} = {part.options[key]}" for part in engines for key in REACHING if part.options.get(key)]
    if not named:
        return
    say(printable(f"{name} is from another folder, and would start or speak to what it names: {'; '.join(named)}"))
    if not (sys.stdin.isatty() and typer.confirm("Do you trust it?")):
        raise InputError("nothing was started: read the suite; if you trust it, add --trust-suite")


def downloads(parts: Sequence[EnginePart]) -> list[str]:
    """What has to be loaded down for these engines, a sentence each."""
    from rigbench.models.resolve import download_of

    models = dict.fromkeys((part.model, rigbench_backends.load(part.backend).model_formats) for part in parts)
    return [sentence for each in models if (sentence := download_of(*each)) is not None]


def _is_model(text: str) -> bool:
    """Whether it names a model by its form, or one of the catalogue or of this machine."""
    from rigbench.models.names import model_name
    from rigbench.models.shapes import shapes

    name = model_name(text)
    return name.kind != "catalogue" or name.name.lower() in shapes()


def _options_of_engines() -> list[tuple[str, type, Any]]:
    """(name, type, option) for each flag of the engines that rigbench ships."""
    options: dict[str, Any] = {}
    for backend in rigbench_backends.BUILT_IN:
        for each in fields(rigbench_backends.load(backend).Options):
            if words := each.metadata.get("flags"):
                options[each.name] = typer.Option(
                    [], *words, help=f"{backend}: {each.metadata['about']}.", metavar="V,V"
                )
    return [(f"engine_{name}", list[str], option) for name, option in options.items()]


class EngineFlags(make_dataclass("_EngineFlags", _options_of_engines())):  # type: ignore[misc]  # made of what backends declare
    """The engines' own flags, each with the texts that it was given."""


def settings(flags: EngineFlags) -> list[str]:
    """The flags of engines that were given, as NAME=VALUE."""
    return [f"{name.removeprefix('engine_')}={text}" for name, texts in asdict(flags).items() for text in texts]
