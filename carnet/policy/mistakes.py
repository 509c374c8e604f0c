"""Mistakes of form in a document that a person wrote, in that person's words: what is wrong, where, and what was meant instead.

The schema library names its own types and the numbers of list members; an author knows rules by their ids, and has mistyped a
word.

Rules:      1. a misspelt member is told once, with the member that was meant, and not as a missing one beside
            2. of the text of the document only what is safe to show is shown
Spec:       docs/policy.md section "Checking"
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, TypeAlias, get_args

from pydantic import BaseModel, ValidationError

from carnet.encoding import JsonValue

Place: TypeAlias = tuple[str | int, ...]

_SHOWN_MAX: Final = 200
_ALIKE: Final = 0.7
_ENUM_MEMBER: Final = re.compile(r"<\w+\.\w+: ('[^']*')>")
_NAMED: Final = {"rules": "rule", "cases": "case"}
"""Lists whose members people know by a name: what one of them is called."""
_SHAPES: Final = {
    "bool_type": "must be true or false",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_long": "must have at most {max_length}",
    "too_short": "must have at least {min_length}, and has {actual_length}",
    "dict_type": "must be a mapping, of names to values",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "missing": "is missing",
    "model_attributes_type": "must be a mapping, of names to values",
    "model_type": "must be a mapping, of names to values",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}
_PATTERNS: Final = {
    r"^[a-z0-9][a-z0-9._-]{0,62}$": "must be a word of lower-case letters, digits, dots and hyphens, at most 63",
    r"^[a-z][a-z0-9_]*\.([a-z0-9_]+|\*)$": "must be the name of a fact, such as export.number, or all that begin alike: export.*",
    r"^[A-Z][A-Z0-9_]{0,62}$": "must be the name of a group, in capitals, such as EEA",
    r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$": "must be an ISO 3166 code, such as DE or US-CA",
    r"^[A-Z][A-Z0-9_]{1,31}(-[A-Z0-9]{1,3})?$": "must be a group of jurisdictions or an ISO 3166 code, such as EEA or DE",
}


def mistakes(error: ValidationError, model: type[BaseModel], document: JsonValue) -> Iterator[tuple[Place, str]]:
    """Yield for each mistake its place in `document`, and a sentence that begins with that place in words."""
    details = [
        (_place(one["loc"], document, is_absent=one["type"] == "missing"), one)
        for one in error.errors(include_url=False, include_input=False)
    ]
    meant = {
        (*place[:-1], word)
        for place, one in details
        if one["type"] == "extra_forbidden" and (word := _meant(model, str(place[-1]))) is not None
    }
    for place, one in details:
        if not (one["type"] == "missing" and place in meant):
            yield place, _sentence(_where(place, document), _words(model, place, one), one)


def _sentence(where: str, words: str | None, detail: Mapping[str, Any]) -> str:
    if words is not None:
        return f"{where or 'the document'} {words}"
    said = str(detail["msg"]).removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def _words(model: type[BaseModel], place: Place, detail: Mapping[str, Any]) -> str | None:
    """Return what is wrong, to follow the place, or None where what the schema library says is a sentence of ours."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        word = _meant(model, str(place[-1]))
        return "is not known here" + (f"; is {word} meant?" if word is not None else "")
    if kind in ("literal_error", "enum"):
        choices = _ENUM_MEMBER.sub(r"\1", str(context["expected"]))
        return f"must be one of {choices.replace(' or ', ', ')}"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"does not fit the form {context['pattern']}")
    shape = _SHAPES.get(kind)
    return None if shape is None else shape.format_map(context)


def _place(location: Iterable[str | int], document: JsonValue, *, is_absent: bool) -> Place:
    """Return the place without what the schema library puts in it for the forms that a value may have."""
    steps, value, found = list(location), document, list[str | int]()
    for position, step in enumerate(steps):
        if isinstance(value, Mapping) and (step in value or (is_absent and position == len(steps) - 1)):
            value = value.get(str(step))
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            continue
        found.append(step)
    return tuple(found)


def _where(place: Place, document: JsonValue) -> str:
    """Return the place in words, as what a sentence begins with: `rule all: when.lane`; nothing for the whole document."""
    name, rest = "", place
    kind, number = (place[0], place[1]) if len(place) > 1 else ("", "")
    if kind in _NAMED and isinstance(number, int) and isinstance(document, Mapping):
        listed = document[str(kind)]
        member = listed[number] if isinstance(listed, list) else None
        called = (member.get("id") or member.get("name")) if isinstance(member, dict) else None
        name = f"{_NAMED[str(kind)]} {_safe(called) if isinstance(called, str) else f'number {number + 1}'}"
        rest = place[2:]
    return ": ".join(piece for piece in (name, _safe(".".join(str(step) for step in rest))) if piece)


def _safe(text: object) -> str:
    return ascii(str(text))[1:-1][:_SHOWN_MAX]


def nearest(word: str, known: Collection[str], *, alike: float = _ALIKE) -> str | None:
    """Return the one of `known` that `word` was perhaps meant to be, or None; `alike` of 1 is the same word."""
    close = get_close_matches(word, known, n=1, cutoff=alike)
    return close[0] if close else None


def _meant(model: type[BaseModel], word: str) -> str | None:
    return nearest(word, _members(model))


@cache
def _members(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of all members of a model and of the models in it."""
    seen: set[type[BaseModel]] = set()
    names: set[str] = set()
    waiting: list[Any] = [model]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            if one not in seen:
                seen.add(one)
                names.update(one.model_fields)
                waiting.extend(field.annotation for field in one.model_fields.values())
        else:
            waiting.extend(get_args(one))
    return tuple(sorted(names))
