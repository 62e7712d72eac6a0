"""Which engines a run has, from what a suite or a command line names: backends by any of their names, options under the engine's
own words, several values of one as a sweep. Nothing is started here.

    engines_of(suite, backends=["llama.cpp"], models=["a.gguf", "b.gguf"], options=["ngl=0,99"])     # four engines
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from itertools import product
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

import rigbench_backends
from rigbench.errors import InputError, UnavailableError
from rigbench.suites.suite import EnginePart, Suite
from rigbench.text import hint, nearest
from rigbench_backends.base import Backend, EngineError
from rigbench_backends.openai import model_label
from rigbench_backends.openai.servers import ANY, SERVERS, HttpOptions

DEFAULT_BACKEND = "llama_cpp"
SERVER_BACKEND = "openai_http"
MOST_ENGINES = 100
SWITCH = {"0": "off", "1": "on", "true": "on", "false": "off"}
"""How an option that takes `on` and `off` is set in other tools."""


def backend_named(name: str) -> tuple[str, dict[str, Any]]:
    """(the backend of that name or alias, the options that the name stands for): `ollama` is openai_http with that server."""
    known, word = rigbench_backends.registry(), name.strip().lower()
    if name in known or word in rigbench_backends.ALIASES:
        return (name if name in known else rigbench_backends.ALIASES[word]), {}
    if word in SERVERS:
        return SERVER_BACKEND, {"server": word}
    near = nearest(word, [*known, *rigbench_backends.ALIASES, *SERVERS])
    raise InputError(f"no backend {name!r}; {f'did you mean {near}?' if near else hint(word, [*known, *SERVERS])}")


def engines_of(
    suite: Suite,
    backends: Sequence[str] = (),
    models: Sequence[str] = (),
    python: str | None = None,
    options: Sequence[str] = (),
    server: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[EnginePart]:
    """The suite's engines with what is asked for in their place: each backend with each model and each combination of `options`
    (NAME=VALUE or NAME=VALUE,VALUE). Another backend drops the options that a suite made for the first one.

    InputError for an unknown name, and for an option that no engine here has.
    """
    choices = _choices(options)
    bases = _bases(suite, backends, server)
    known = {part.backend: _words(rigbench_backends.load(part.backend)) for part in bases}
    for name in choices:
        _must_be_known(name, known)
    parts: list[EnginePart] = []
    for part in bases:
        words = known[part.backend]
        own = {words[name].name: (words[name], texts) for name, texts in choices.items() if name in words}
        for name in choices.keys() - words.keys():
            say(f"{part.backend} has no option {name}: it runs without")
        hints = get_type_hints(rigbench_backends.load(part.backend).Options)
        sweeps = [[(name, value) for value in _values(one, hints[name], texts)] for name, (one, texts) in own.items()]
        for model in models or [part.model or default_model(part.backend)]:
            for combination in product(*sweeps):
                values = {**part.options, **dict(combination)}
                check_options(rigbench_backends.load(part.backend), values)
                name = served_model(model, values, say) if part.backend == SERVER_BACKEND else model
                engine = part.model_copy(update={"model": name, "python": python or part.python, "options": values})
                if engine not in parts:
                    parts.append(engine)
    if len(parts) > MOST_ENGINES:
        raise InputError(
            f"these are {len(parts)} engines, and a run has at most {MOST_ENGINES}: sweep over fewer values"
        )
    return parts


def _bases(suite: Suite, backends: Sequence[str], server: str | None) -> list[EnginePart]:
    """Backends before models and options; an empty model is still to be chosen."""
    if server is not None:
        if any(backend_named(name)[0] != SERVER_BACKEND for name in backends):
            raise InputError(f"--server is measured by the backend {SERVER_BACKEND}: leave --backend out")
        own = [part for part in suite.engine if part.backend == SERVER_BACKEND]
        base = own[0] if own else EnginePart(backend=SERVER_BACKEND, model="")
        return [base.model_copy(update={"options": {**base.options, **_server_options(server)}})]
    of_suite = [part.model_copy(update={"backend": backend_named(part.backend)[0]}) for part in suite.engine]
    if not backends:
        return of_suite or [EnginePart(backend=DEFAULT_BACKEND, model="")]
    bases = []
    for name in dict.fromkeys(backends):
        backend, implied = backend_named(name)
        same = [part for part in of_suite if part.backend == backend] or [EnginePart(backend=backend, model="")]
        bases += [part.model_copy(update={"options": {**part.options, **implied}}) for part in same]
    return bases


def _server_options(server: str) -> dict[str, Any]:
    """What `--server` stands for: a kind of server, or an address with or without http://."""
    if server.lower() in SERVERS:
        return {"server": server.lower()}
    if "://" in server:
        return {"base_url": server}
    host, sign, port = server.rpartition(":")
    if sign and host and port.split("/")[0].isdigit():
        return {"base_url": f"http://{server}"}
    raise InputError(f"no server {server!r}; write HOST:PORT, or its name: {hint(server, SERVERS)}")


def default_model(backend: str) -> str:
    """What a backend runs without `--model`. InputError where only the user can know."""
    engine = rigbench_backends.load(backend)
    if engine.default_model is not None:
        return engine.default_model
    if backend == SERVER_BACKEND:
        return f"remote:{ANY}"
    raise InputError(f"{backend} has no model that it runs by itself: name one with --model")


def served_model(model: str, options: Mapping[str, Any], say: Callable[[str], None]) -> str:
    """`remote:NAME` as the server that runs there calls that model; as it is where the server is yet to be started.
    InputError for a model that it does not have: many answer with what they have, whatever they are asked for."""
    label, any_model = model.removeprefix("remote:"), model == f"remote:{ANY}"
    if not model.startswith("remote:"):
        return model
    if options.get("start"):
        if any_model:
            raise InputError("the server is yet to be started: name its model with --model remote:NAME")
        return model
    try:
        name = model_label(HttpOptions(**options), label)
    except EngineError as error:
        if error.kind == "options":
            raise InputError(str(error)) from None
        if any_model:
            raise UnavailableError(str(error)) from None
        return model  # what is wrong with it is said when it is probed
    if any_model:
        say(f"the server has {name}")
    return f"remote:{name}"


def _choices(options: Sequence[str]) -> dict[str, list[str]]:
    """`threads=2,4` -> {"threads": ["2,4"]}; the same name again is another value."""
    values: dict[str, list[str]] = {}
    for text in options:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise InputError(f"--option {text!r}: write NAME=VALUE")
        values.setdefault(name.strip().lstrip("-").replace("-", "_"), []).append(value)
    return values


def _words(backend: Backend) -> dict[str, Field[Any]]:
    """Every word for an option of this backend, its own name first: ngl, n_gpu_layers."""
    words = {each.name: each for each in fields(backend.Options)}
    for each in fields(backend.Options):
        for flag in each.metadata.get("flags", ()):
            words.setdefault(flag.lstrip("-").replace("-", "_"), each)
    return words


def _must_be_known(name: str, known: Mapping[str, Mapping[str, Any]]) -> None:
    if any(name in words for words in known.values()):
        return
    near = nearest(name, dict.fromkeys(word for words in known.values() for word in words))
    advice = f"did you mean `{near}`?" if near else f"`rigbench engines {next(iter(known))}` lists them"
    raise InputError(f"unknown option {name} of {' and '.join(known)}; {advice}")


def _values(option: Field[Any], kind: Any, texts: Sequence[str]) -> list[Any]:
    """The values of one option: of several texts, or of one with commas where the option is a number or one of a few words."""
    kinds = {getattr(one, "__origin__", one) for one in (kind, *get_args(kind))}
    lists = bool(kinds & {tuple, dict, list})
    choices = option.metadata.get("choices", ())
    if not lists and (str not in kinds or choices):
        texts = [word for text in texts for word in text.split(",")]
    return [_value(text.strip(), kinds, choices) for text in texts]


def _value(text: str, kinds: set[Any], choices: Sequence[str]) -> Any:
    """A text as the option's type has it; what does not fit stays a text, which `check_options` refuses."""
    if type(None) in kinds and text in ("null", "none", ""):
        return None
    if str in kinds and not kinds & {tuple, dict}:
        return SWITCH.get(text, text) if "on" in choices else text.strip('"')
    if bool in kinds and text in ("on", "off", "0", "1"):
        return text in ("on", "1")
    try:
        return json.loads(text)
    except ValueError:
        if tuple not in kinds:
            return text
    parts = text.replace("/", ",").split(",")
    return [_value(part, kinds - {tuple}, ()) for part in parts]


def check_options(backend: Backend, options: Mapping[str, Any], where: str = "") -> None:
    """InputError naming the option that is unknown, of the wrong type, out of range or not one of its words."""
    known = {field.name: field for field in fields(backend.Options)}
    prefix = f"{where}.options." if where else f"{backend.name}: "
    for name in options:
        if name not in known:
            raise InputError(f"{prefix}{name}: unknown option; {hint(name, known)}")
    try:
        TypeAdapter(backend.Options).validate_json(json.dumps(dict(options)), strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"]))
        raise InputError(f"{prefix}{name}: {fault['msg'].lower()} (given: {json.dumps(fault['input'])})") from error
    for name, value in options.items():
        least, choices = (known[name].metadata.get(key) for key in ("least", "choices"))
        for one in value if isinstance(value, list | tuple) else [value]:
            number = isinstance(one, int | float) and not isinstance(one, bool)
            if number and (not math.isfinite(one) or (least is not None and one < least)):
                raise InputError(
                    f"{prefix}{name}: {one:g} is impossible; give {'a number' if least is None else least} or more"
                )
        if choices and isinstance(value, str) and value not in choices:
            raise InputError(f"{prefix}{name}: {value!r} is unknown; {hint(value, choices)}")
