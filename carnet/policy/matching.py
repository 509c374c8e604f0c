"""Matchers: the question a rule asks of one fact, and its answer.

An answer has four values, for a missing fact is neither yes nor no. Whoever turns answers into outcomes decides what missing
means; nothing here does.

Rules:      1. types never coerce: `true`, `1` and `"1"` are three values  2. a list fact matches if one of its members does
            3. only `present` can be answered without the fact
Layout:     scalar | [scalar, ...] (any of) | {min: n, max: n} | {glob: pattern or list} | {present: bool}
Spec:       docs/policy.md section "Matchers"
Example:    >>> answer(Range(min=1), Fact(3, Assurance.DERIVED, "content")).name
            'YES'
"""

from collections.abc import Iterable
from enum import Enum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Self, TypeAlias

from pydantic import Discriminator, Field, StrictBool, StrictInt, StrictStr, Tag, model_validator

from carnet.policy.facts import Assurance, Fact, FactType, FactValue
from carnet.statement import ShortText, WireModel

__all__ = [
    "Answer",
    "Assurance",
    "Fact",
    "Glob",
    "Matcher",
    "Present",
    "Range",
    "all_of",
    "answer",
    "describe",
    "negate",
    "suits",
]

_CHOICES_MAX = 512
_SHOWN_MAX = 6


class Answer(Enum):
    """What a matcher says about a fact."""

    YES = "yes"
    NO = "no"
    MISSING = "missing"
    ERROR = "error"


class Range(WireModel):
    """An integer from `min` to `max`, both included; one may be left out."""

    min: StrictInt | None = None
    max: StrictInt | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a range has min, max or both; other matchers are {glob: ...} and {present: ...}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max, so nothing can match")
        return self

    def holds(self, number: int) -> bool:
        """Tell whether `number` is in the range."""
        return (self.min is None or self.min <= number) and (self.max is None or number <= self.max)


class Glob(WireModel):
    """Text that fits a shell pattern (`*`, `?`, `[a-z]`; `*` crosses `/`), or one of several."""

    glob: ShortText | Annotated[tuple[ShortText, ...], Field(min_length=1, max_length=_CHOICES_MAX)]

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns, one or more."""
        return (self.glob,) if isinstance(self.glob, str) else self.glob


class Present(WireModel):
    """Whether the fact is there at all."""

    present: StrictBool


Scalar: TypeAlias = StrictBool | StrictInt | StrictStr


def _kind(value: Any) -> str:
    """Name the form of a matcher, so that a mistake is reported against that form only."""
    if isinstance(value, list | tuple):
        return "any-of"
    if isinstance(value, Glob | dict) and (isinstance(value, Glob) or "glob" in value):
        return "glob"
    if isinstance(value, Present | dict) and (isinstance(value, Present) or "present" in value):
        return "present"
    return "range" if isinstance(value, Range | dict) else "scalar"


Matcher: TypeAlias = Annotated[
    Annotated[Scalar, Tag("scalar")]
    | Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=_CHOICES_MAX), Tag("any-of")]
    | Annotated[Range, Tag("range")]
    | Annotated[Glob, Tag("glob")]
    | Annotated[Present, Tag("present")],
    Discriminator(_kind),
]
"""A field type for the value of a condition."""


ValueMatcher: TypeAlias = Scalar | tuple[Scalar, ...] | Range | Glob
"""The matchers that read the fact's value."""


def answer(matcher: Matcher, fact: Fact | None) -> Answer:
    """Return what `matcher` says about `fact`, which is None if it is not known. Never raises."""
    if isinstance(matcher, Present):
        return _yes(matcher.present == (fact is not None))
    if fact is None:
        return Answer.MISSING
    if not _comparable(matcher, fact.value):
        return Answer.ERROR
    members: Iterable[FactValue] = fact.value if isinstance(fact.value, tuple) else (fact.value,)
    return _yes(any(_member_matches(matcher, member) for member in members))


def all_of(answers: Iterable[Answer]) -> Answer:
    """Return the answer to "do all hold?": one no settles it, whatever is missing elsewhere."""
    found = set(answers)
    for settling in (Answer.NO, Answer.ERROR, Answer.MISSING):
        if settling in found:
            return settling
    return Answer.YES


def negate(given: Answer) -> Answer:
    """Return the answer to the opposite question; what is missing stays missing."""
    return {Answer.YES: Answer.NO, Answer.NO: Answer.YES}.get(given, given)


def suits(matcher: Matcher, kind: FactType) -> bool:
    """Tell whether the matcher can ever answer about a fact of this type."""
    if isinstance(matcher, Present):
        return True
    if isinstance(matcher, Range):
        return kind is FactType.NUMBER
    if isinstance(matcher, Glob):
        return kind in (FactType.TEXT, FactType.TEXTS)
    wanted = {FactType.FLAG: bool, FactType.NUMBER: int}.get(kind, str)
    return all(type(choice) is wanted for choice in _choices(matcher))


def describe(matcher: Matcher) -> str:
    """Return the matcher in words that follow a fact's name, as in `artifact.size` `is at most 10`."""
    if isinstance(matcher, Present):
        return "is given" if matcher.present else "is not given"
    if isinstance(matcher, Range):
        parts = [f"at least {matcher.min}"] if matcher.min is not None else []
        parts += [f"at most {matcher.max}"] if matcher.max is not None else []
        return "is " + " and ".join(parts)
    if isinstance(matcher, Glob):
        return "fits " + _listed(matcher.patterns)
    choices = _choices(matcher)
    return ("is " if len(choices) == 1 else "is one of ") + _listed(choices)


def shown(value: FactValue) -> str:
    """Return a fact's value as one safe, short piece of text."""
    if isinstance(value, tuple):
        return _listed(value) if value else "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else ascii(value)[:120]


def _listed(values: Iterable[bool | int | str]) -> str:
    pieces = [shown(value) for value in values]
    more = len(pieces) - _SHOWN_MAX
    return ", ".join(pieces[:_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _choices(matcher: Scalar | tuple[Scalar, ...]) -> tuple[bool | int | str, ...]:
    return matcher if isinstance(matcher, tuple) else (matcher,)


def _yes(holds: bool) -> Answer:  # noqa: FBT001 - a predicate's result, turned into its name
    return Answer.YES if holds else Answer.NO


def _comparable(matcher: Matcher, value: FactValue) -> bool:
    if isinstance(value, tuple):
        return suits(matcher, FactType.TEXTS)
    if isinstance(value, bool):
        return suits(matcher, FactType.FLAG)
    return suits(matcher, FactType.NUMBER if isinstance(value, int) else FactType.TEXT)


def _member_matches(matcher: ValueMatcher, member: FactValue) -> bool:
    if isinstance(matcher, Range):
        return isinstance(member, int) and matcher.holds(member)
    if isinstance(matcher, Glob):
        return any(fnmatchcase(str(member), pattern) for pattern in matcher.patterns)
    # Types are alike: `_comparable` has been asked, so `True == 1` cannot come up here.
    return member in _choices(matcher)
