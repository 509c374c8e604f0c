"""Matchers: the question a rule asks of one fact, and its answer.

An answer has four values, for a missing fact is neither yes nor no. Whoever turns answers into outcomes decides what missing
means; nothing here does.

Rules:      1. types never coerce: `true`, `1` and `"1"` are three values  2. a list fact matches if one of its members does
            3. only `present` can be answered without the fact  4. about a code that no file knows, groups say neither
Layout:     scalar | [scalar, ...] (any of) | {min: n, max: n} | {glob: pattern or list} | {present: bool} |
            {group: name or list} | {outside: name or list} | {assurance: word, value: scalar or list}
Spec:       docs/policy.md section "Matchers"
Example:    >>> answer(Range(min=1), Fact(3, Assurance.DERIVED, "content")).name
            'YES'
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from fnmatch import translate
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, StrictBool, StrictInt, StrictStr, Tag, model_validator

from carnet.policy.facts import Assurance, Fact, FactType, FactValue
from carnet.policy.groups import NO_GROUPS, GroupName, Groups, Standing
from carnet.statement import ShortText, WireModel

__all__ = [
    "Answer",
    "Assurance",
    "Assured",
    "Fact",
    "Glob",
    "InGroup",
    "Matcher",
    "Outside",
    "Present",
    "Range",
    "Where",
    "answer",
    "describe",
    "groups_of",
    "negate",
    "suits",
    "texts_of",
]

_CHOICES_MAX = 512
_SHOWN_MAX = 6


class Answer(IntEnum):
    """What a matcher says about a fact; of several that must all be yes, the greatest is what they say together."""

    YES = 0
    MISSING = 1
    UNSTATED = 2
    """Which part of a country is meant is not stated."""
    STALE = 3
    """A file of groups is out of date."""
    ERROR = 4
    UNKNOWN_CODE = 5
    """A jurisdiction that no file of groups knows."""
    NO = 6


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


_GroupNames = GroupName | Annotated[tuple[GroupName, ...], Field(min_length=1, max_length=_CHOICES_MAX)]


class InGroup(WireModel):
    """A jurisdiction that is in one of these groups."""

    group: _GroupNames

    @property
    def names(self) -> tuple[str, ...]:
        """The groups, one or more."""
        return (self.group,) if isinstance(self.group, str) else self.group


class Outside(WireModel):
    """A jurisdiction that is in none of these groups."""

    outside: _GroupNames

    @property
    def names(self) -> tuple[str, ...]:
        """The groups, one or more."""
        return (self.outside,) if isinstance(self.outside, str) else self.outside


Scalar: TypeAlias = StrictBool | StrictInt | StrictStr


class Assured(WireModel):
    """A fact that is at least so sure, and has one of the values if any are named."""

    assurance: Literal["declared", "derived", "attested", "verified"]
    value: Scalar | Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=_CHOICES_MAX)] | None = None

    @property
    def least(self) -> Assurance:
        """The least assurance that will do."""
        return Assurance[self.assurance.upper()]


def _kind(value: Any) -> str:
    """Name the form of a matcher, so that a mistake is reported against that form only."""
    if isinstance(value, list | tuple):
        return "any-of"
    if isinstance(value, dict):
        return next((form for form in _FORMS.values() if form in value), "range")
    return _FORMS.get(type(value), "range" if isinstance(value, Range) else "scalar")


_FORMS: Final[dict[type, str]] = {
    Glob: "glob",
    Present: "present",
    InGroup: "group",
    Outside: "outside",
    Assured: "assurance",
}
"""The member that tells each form from the others."""


Matcher: TypeAlias = Annotated[
    Annotated[Scalar, Tag("scalar")]
    | Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=_CHOICES_MAX), Tag("any-of")]
    | Annotated[Range, Tag("range")]
    | Annotated[Glob, Tag("glob")]
    | Annotated[Present, Tag("present")]
    | Annotated[InGroup, Tag("group")]
    | Annotated[Outside, Tag("outside")]
    | Annotated[Assured, Tag("assurance")],
    Discriminator(_kind),
]
"""A field type for the value of a condition."""


@dataclass(frozen=True)
class Where:
    """What an expression asks of a fact, together with others; it is answered by the expression, not here."""

    text: str


ValueMatcher: TypeAlias = Scalar | tuple[Scalar, ...] | Range | Glob
"""The matchers that read the fact's value."""


Asker: TypeAlias = Callable[[Fact | None, Groups, date | None], Answer]
"""A matcher made ready: asked of a fact (None if it is not known), with the groups and the day for jurisdictions."""


def answer(matcher: Matcher, fact: Fact | None, groups: Groups = NO_GROUPS, on: date | None = None) -> Answer:
    """Return what `matcher` says about `fact`, which is None if it is not known. Never raises.

    `groups` and the day `on` are what is asked about jurisdictions; on a day that is not known no file may be relied upon.
    """
    return asker(matcher)(fact, groups, on)


def asker(matcher: Matcher) -> Asker:
    """Return `matcher` made ready to be asked thousands of times; see `answer`."""
    if isinstance(matcher, Present):
        wanted = matcher.present
        return lambda fact, _groups, _on: _yes(wanted == (fact is not None))
    if isinstance(matcher, InGroup | Outside):
        names, standing = matcher.names, Standing.IN if isinstance(matcher, InGroup) else Standing.OUT
        return lambda fact, groups, on: Answer.MISSING if fact is None else _about_groups(fact.value, standing, names, groups, on)
    if isinstance(matcher, Assured):
        least, value = matcher.least, None if matcher.value is None else _about_value(matcher.value)
        return lambda fact, _groups, _on: Answer.MISSING if fact is None else _about_assured(fact, least, value)
    about = _about_value(matcher)
    return lambda fact, _groups, _on: Answer.MISSING if fact is None else about(fact.value)


def _about_assured(fact: Fact, least: Assurance, value: Callable[[FactValue], Answer] | None) -> Answer:
    if fact.assurance < least:
        return Answer.NO
    return Answer.YES if value is None else value(fact.value)


def _about_value(matcher: ValueMatcher) -> Callable[[FactValue], Answer]:
    """Return what answers from a value; of another type than the matcher asks for it is an error."""
    if isinstance(matcher, Range):
        holds = matcher.holds
        return lambda value: _yes(holds(value)) if type(value) is int else Answer.ERROR
    if isinstance(matcher, Glob):
        fits = re.compile("|".join(translate(pattern) for pattern in matcher.patterns)).match

        def about_text(value: FactValue) -> Answer:
            if isinstance(value, str):
                return _yes(fits(value) is not None)
            return _yes(any(fits(member) for member in value)) if isinstance(value, tuple) else Answer.ERROR

        return about_text
    choices = frozenset(_choices(matcher))
    kinds = {type(choice) for choice in _choices(matcher)}
    kind = kinds.pop() if len(kinds) == 1 else None  # of several types at once nothing can be asked

    def about_choice(value: FactValue) -> Answer:
        # Types first: `True == 1` in Python, and not here.
        if type(value) is kind or (kind is str and isinstance(value, str)):
            return _yes(value in choices)
        return _yes(not choices.isdisjoint(value)) if isinstance(value, tuple) and kind is str else Answer.ERROR

    return about_choice


def negate(given: Answer) -> Answer:
    """Return the answer to the opposite question; what is missing stays missing."""
    if given is Answer.YES:
        return Answer.NO
    return Answer.YES if given is Answer.NO else given


def suits(matcher: Matcher, kind: FactType) -> bool:
    """Tell whether the matcher can ever answer about a fact of this type."""
    if isinstance(matcher, Present) or (isinstance(matcher, Assured) and matcher.value is None):
        return True
    if isinstance(matcher, InGroup | Outside):
        return kind.is_code
    if isinstance(matcher, Range):
        return kind is FactType.NUMBER
    if isinstance(matcher, Glob):
        return kind.is_text
    wanted = {FactType.FLAG: bool, FactType.NUMBER: int}.get(kind, str)
    choices = matcher.value if isinstance(matcher, Assured) else matcher
    return choices is not None and all(type(choice) is wanted for choice in _choices(choices))


def describe(matcher: Matcher | Where) -> str:
    """Return the matcher in words that follow a fact's name, as in `artifact.size` `is at most 10`."""
    if isinstance(matcher, Present):
        return "is given" if matcher.present else "is not given"
    if isinstance(matcher, InGroup | Outside):
        return ("is in " if isinstance(matcher, InGroup) else "is outside ") + " or ".join(matcher.names[:_SHOWN_MAX])
    if isinstance(matcher, Assured):
        sure = f"is known as {matcher.assurance} or better"
        return sure if matcher.value is None else f"{describe(matcher.value)} and {sure}"
    if isinstance(matcher, Range):
        parts = [f"at least {matcher.min}"] if matcher.min is not None else []
        parts += [f"at most {matcher.max}"] if matcher.max is not None else []
        return "is " + " and ".join(parts)
    if isinstance(matcher, Glob | Where):
        return "fits " + (_listed(matcher.patterns) if isinstance(matcher, Glob) else f"the expression {matcher.text}")
    choices = _choices(matcher)
    return ("is " if len(choices) == 1 else "is one of ") + _listed(choices)


def groups_of(matcher: Matcher | Where) -> tuple[str, ...]:
    """Return the groups that the matcher names."""
    return matcher.names if isinstance(matcher, InGroup | Outside) else ()


def texts_of(matcher: Matcher) -> tuple[str, ...]:
    """Return the texts of which the matcher asks the fact to be one; of other forms, none."""
    if isinstance(matcher, Assured):
        return () if matcher.value is None else texts_of(matcher.value)
    if isinstance(matcher, str | tuple):
        return tuple(one for one in _choices(matcher) if isinstance(one, str))
    return ()


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


def _about_groups(value: FactValue, wanted: Standing, names: tuple[str, ...], groups: Groups, on: date | None) -> Answer:
    """Answer from every member: what cannot be said of one is said of none."""
    members = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(member, str) for member in members):
        return Answer.ERROR
    found = {groups.standing(str(member), names, on) for member in members}
    if Standing.OUT_OF_DATE in found:
        return Answer.STALE
    if Standing.UNKNOWN in found:
        return Answer.UNKNOWN_CODE
    if wanted in found:
        return Answer.YES
    return Answer.UNSTATED if Standing.PART_MISSING in found else Answer.NO


def _choices(matcher: Scalar | tuple[Scalar, ...]) -> tuple[bool | int | str, ...]:
    return matcher if isinstance(matcher, tuple) else (matcher,)


def _yes(holds: bool) -> Answer:  # noqa: FBT001 - a predicate's result, turned into its name
    return Answer.YES if holds else Answer.NO
