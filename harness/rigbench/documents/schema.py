"""The types of records.py, held strictly against JSON that a stranger wrote: no text for a number, no 5.0 for a 5, no unknown key.

pydantic reads documents (store.py), kindly and all faults at once; of a column of a million wrong values that would be a million
faults. This walk stops when its caller has seen enough, and looks at a column of plain numbers as a whole.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rigbench.documents.bounds import Fault, member

WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}
NONE = type(None)
Test = Callable[[Any], bool]


@cache
def fits(hint: Any) -> Test:
    """Whether a value is what the type `hint` says: schema_faults finds nothing in it. Several times as fast, without a path."""
    kinds = choices(hint)
    if Any in kinds:
        return lambda value: True
    scalars = plain(kinds)
    tests: dict[type, Test] = {}
    if len(variants := _variants(kinds)) > 1:
        each_fits = {word: _object_fits(kind) for word, kind in variants.items()}
        return lambda value: type(value) is dict and (test := each_fits.get(_word(value))) is not None and test(value)
    for kind in reversed(kinds):
        origin = get_origin(kind) or kind
        if origin is Literal:
            words = get_args(kind)
            return lambda value: value in words
        if isinstance(kind, type) and is_dataclass(kind):
            tests[dict] = _object_fits(kind)
        elif origin is dict:
            tests[dict] = _values_fit(fits((get_args(kind) or (Any, Any))[1]))
        elif origin is tuple:
            tests[list] = _items_fit(plain(choices(get_args(kind)[0])), fits(get_args(kind)[0]))

    def test(value: Any) -> bool:
        deeper = tests.get(type(value))
        return type(value) in scalars or (deeper is not None and deeper(value))

    return test


def _variants(kinds: tuple[Any, ...]) -> dict[str, type]:
    """Of several dataclasses each word of `kind` with the one that has it: what else an object holds follows from that word."""
    classes = [kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)]
    if len(classes) < 2:
        return {}
    return {word: each for each in classes for word in get_args(field_types(each)["kind"][0])}


def _word(value: dict[str, Any]) -> str:
    return str(value.get("kind"))


def _object_fits(kind: type) -> Test:
    hints = field_types(kind)
    tests = {name: fits(hint) for name, (hint, _) in hints.items()}
    needed = {name for name, (_, must) in hints.items() if must}
    return lambda value: (
        value.keys() >= needed and all(name in tests and tests[name](each) for name, each in value.items())
    )


def _values_fit(test: Test) -> Test:
    return lambda value: all(map(test, value.values()))


def _items_fit(scalars: frozenset[type], test: Test) -> Test:
    return lambda value: set(map(type, value)) <= scalars or all(map(test, value))


def schema_faults(path: str, value: Any, hint: Any) -> Iterator[Fault]:
    """Where `value` (JSON types) is not what the type `hint` says."""
    kinds = choices(hint)
    if Any in kinds or type(value) in plain(kinds):
        return
    if value is None:
        yield Fault(path, f"is null; {_kinds_text(kinds)} belongs here")
        return
    if len(variants := _variants(kinds)) > 1 and isinstance(value, dict):
        if (variant := variants.get(_word(value))) is None:
            missing = "kind" not in value
            what = "is missing" if missing else f"is {value['kind']!r:.40}; one of {', '.join(variants)} belongs here"
            yield Fault(f"{path}.kind", what)
        else:
            yield from _object_faults(path, value, variant)
        return
    for kind in kinds:
        origin = get_origin(kind) or kind
        if origin is Literal:
            if value not in get_args(kind):
                yield Fault(path, f"is {value!r:.40}; one of {', '.join(map(str, get_args(kind)))} belongs here")
            return
        if isinstance(value, dict) and is_dataclass(kind) and isinstance(kind, type):
            yield from _object_faults(path, value, kind)
            return
        if isinstance(value, dict) and origin is dict:
            inner = (get_args(kind) or (Any, Any))[1]
            for name, each in value.items():
                yield from schema_faults(member(path, name), each, inner)
            return
        if isinstance(value, list) and origin is tuple:
            inner = get_args(kind)[0]
            allowed = plain(choices(inner))
            if not set(map(type, value)) <= allowed:
                for place, each in enumerate(value):
                    if type(each) not in allowed:
                        yield from schema_faults(f"{path}[{place}]", each, inner)
            return
    yield Fault(path, f"is {WORDS.get(type(value), 'null')}; {_kinds_text(kinds)} belongs here")


def _object_faults(path: str, value: dict[str, Any], kind: type) -> Iterator[Fault]:
    hints = field_types(kind)
    for name in value.keys() - hints.keys():
        yield Fault(member(path, name), "unknown key")
    for name, (hint, needed) in hints.items():
        if name in value:
            yield from schema_faults(f"{path}.{name}", value[name], hint)
        elif needed:
            yield Fault(f"{path}.{name}", "is missing")


@cache
def field_types(kind: type) -> dict[str, tuple[Any, bool]]:
    """Field -> (its type, whether it must be there)."""
    hints = get_type_hints(kind)
    return {
        each.name: (hints[each.name], each.default is MISSING and each.default_factory is MISSING)
        for each in fields(kind)
    }


def choices(hint: Any) -> tuple[Any, ...]:
    """`int | None` -> (int, None's type)."""
    return get_args(hint) if get_origin(hint) is types.UnionType else (hint,)


@cache
def plain(kinds: tuple[Any, ...]) -> frozenset[type]:
    """The Python types that JSON's values of these types have; a whole number may stand for any number."""
    plain_kinds = {kind for kind in kinds if kind in (str, int, float, bool, NONE)}
    return frozenset(plain_kinds | {int}) if float in plain_kinds else frozenset(plain_kinds)


def _kinds_text(kinds: tuple[Any, ...]) -> str:
    names = []
    for kind in kinds:
        origin = get_origin(kind) or kind
        basic = list if origin is tuple else dict if is_dataclass(kind) else origin
        if basic is not NONE:
            names.append(WORDS.get(basic, "something else"))
    return " or ".join(names)
