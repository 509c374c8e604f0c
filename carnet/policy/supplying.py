"""Supplying: what could make a fact known that is missing, with which values, and what is run for it.

A value is only ever an example here: of all values that a fact may have, those are looked at that some matcher tells apart.
Whoever supplies a fact says what is so, not what a rule would like to hear.

Rules:      1. a fact that is known keeps its value: people may vouch for it, nobody is told to say otherwise
            2. an offer is as sure as its supplier's word makes it  3. what nobody can supply has no offer
            4. at most `_ASKED_MAX` answers are looked at for one fact; values that only they would tell apart are left out
Spec:       docs/policy.md section "What is missing"
Example:    >>> flag("export.number"), act("parties.names") == act("parties.countries")
            ('export-number', True)
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import combinations, islice
from typing import Final

from carnet.policy.facts import (
    LABEL_PREFIX,
    Assurance,
    Fact,
    FactType,
    FactValue,
    Supplier,
    fact_type,
    is_attestable,
    supplier,
)
from carnet.policy.groups import Groups
from carnet.policy.matching import Answer, Assured, Glob, InGroup, Matcher, Outside, Present, Range, asker
from carnet.policy.rules import Policy

_ASKED_MAX = 50_000
_VALUES_MAX = 320
_VALUES_MIN = 8
_PAIRED_MAX = 24
_OTHER = "some-other"
"""A text that no rule names; if one does, it is one value less."""
_OTHER_CODE = "AQ"
_FLAGS: Final = {
    "artifact.classification": "classification",
    "data.categories": "data-category",
    "export.currency": "value",
    "export.licence": "licence",
    "export.number": "export-number",
    "export.value": "value",
    "legal.basis": "legal-basis",
    "parties.countries": "party",
    "parties.names": "party",
    "purpose": "purpose",
}
_FORMS: Final = {"party": "ROLE:NAME:COUNTRY", "value": "AMOUNT:CURRENCY"}
_INITIATOR: Final = "origin.initiator"
_INSPECTED: Final = "content.inspected"
_LICENCE: Final = "licence"


@dataclass(frozen=True)
class Offer:
    """One way to make a fact known: the fact as it would be, who would supply it, and what each matcher would say of it."""

    fact: Fact
    supplier: Supplier
    answers: tuple[Answer, ...]


def flag(name: str) -> str | None:
    """Return the key of `push --declare` that makes the fact known, or None if it is not declared so."""
    return name if name.startswith(LABEL_PREFIX) else _FLAGS.get(name)


def act(name: str) -> str:
    """Return what a person does to supply the fact: facts with one act are supplied at once, as a licence's are."""
    return _LICENCE if name.startswith(f"{_LICENCE}.") else flag(name) or name


def people(name: str, policy: Policy) -> tuple[str, ...]:
    """Return the roles whose word makes the fact known; of a licence, those that may vouch for its kind."""
    return policy.attesters("licence.kind" if supplier(name) is Supplier.LICENCE else name)


def how(name: str, by: Supplier, *, names_licence: bool) -> str:
    """Return the command line that supplies the fact, or nothing where none does.

    Args:
        name: the fact.
        by: who supplies it.
        names_licence: the sender has named a licence already.
    """
    if by is Supplier.SENDER:
        if name == _INITIATOR:
            return "carnet push ... --initiator WHO"
        key = flag(name) or name
        return f"carnet push ... -d {key}={_FORMS.get(key, '...')}"
    if by is Supplier.PEOPLE:
        return "carnet-gateway attest sign FILE --key KEY, then carnet-gateway attest add DIR FILE"
    if by is Supplier.LICENCE:
        keeping = "carnet-gateway licence add DIR FILE"
        return keeping if names_licence else f"carnet push ... -d licence=ID, of a licence that is kept: {keeping}"
    return ""


@dataclass(frozen=True)
class Offers:
    """All that could be supplied as one fact; `is_all` tells whether no value was left out (rule 4)."""

    found: tuple[Offer, ...] = ()
    is_all: bool = True


def offers(name: str, now: Fact | None, matchers: tuple[Matcher, ...], policy: Policy, on: date | None) -> Offers:
    """Return what could be supplied as the fact `name`, which is `now`: one offer for each set of answers of `matchers`."""
    sources, is_all = _sources(name, policy), True
    if now is not None:
        sources = [one for one in sources if one[0] is Supplier.PEOPLE and one[1] > now.assurance]
        values = [now.value]
    else:
        most = _bound(len(matchers))
        values = list(islice(_values(name, matchers, policy.groups), most + 1))
        is_all, values = len(values) <= most, values[:most]
    asked = [asker(matcher) for matcher in matchers]
    told: dict[tuple[Answer, ...], Offer] = {}
    for by, assurance in sources:
        for value in values:
            fact = Fact(value, assurance, by.value)
            answers = tuple([ask(fact, policy.groups, on) for ask in asked])
            told.setdefault(answers, Offer(fact, by, answers))
    return Offers(tuple(told.values()), is_all)


def _sources(name: str, policy: Policy) -> list[tuple[Supplier, Assurance]]:
    """Return who could supply the fact and how sure it would be; a sender first."""
    by = Supplier.SENDER if name == _INITIATOR else supplier(name)
    if by is Supplier.SITE:
        return [(by, Assurance.DERIVED)]
    if by in (Supplier.PEOPLE, Supplier.LICENCE):
        return [(by, Assurance.ATTESTED)]
    return [
        (by, Assurance.DECLARED),
        *([(Supplier.PEOPLE, Assurance.ATTESTED)] if is_attestable(name) and people(name, policy) else []),
    ]


def _bound(matchers: int) -> int:
    return max(_VALUES_MIN, min(_VALUES_MAX, _ASKED_MAX // max(1, matchers)))


def _values(name: str, matchers: Iterable[Matcher], groups: Groups) -> Iterator[FactValue]:
    """Yield values that the matchers may tell apart, each once."""
    kind = fact_type(name) or FactType.TEXT
    if name == _INSPECTED:
        yield True  # A site says so once it has found the content to be what was signed, and goes no further otherwise.
        return
    if kind is FactType.FLAG:
        yield from (True, False)
        return
    if kind is FactType.NUMBER:
        yield from dict.fromkeys(number for number in _numbers(matchers) if number >= 0)
        return
    texts = list(dict.fromkeys(_texts(matchers, groups, is_code=kind.is_code)))
    if kind in (FactType.TEXT, FactType.CODE):
        yield from texts
        return
    yield from ((text,) for text in texts)
    yield from combinations(texts[:_PAIRED_MAX], 2)


def _numbers(matchers: Iterable[Matcher]) -> Iterator[int]:
    yield 0
    for matcher in matchers:
        if isinstance(matcher, Range):
            ends = [end for end in (matcher.min, matcher.max) if end is not None]
        else:
            ends = [choice for choice in _choices(matcher) if type(choice) is int]
        for end in ends:
            yield from (end, end - 1, end + 1)


def _texts(matchers: Iterable[Matcher], groups: Groups, *, is_code: bool) -> Iterator[str]:
    asked = tuple(matchers)
    yield _OTHER_CODE if is_code else _OTHER
    for matcher in asked:
        if isinstance(matcher, Glob):
            yield from (_sample(pattern) for pattern in matcher.patterns)
        else:
            yield from (choice for choice in _choices(matcher) if isinstance(choice, str))
    if is_code and any(isinstance(matcher, InGroup | Outside) for matcher in asked):
        yield from _codes(groups)


def _choices(matcher: Matcher) -> tuple[bool | int | str, ...]:
    """Return the values that a matcher names."""
    named = matcher.value if isinstance(matcher, Assured) else matcher
    if named is None or isinstance(named, Range | Glob | Present | InGroup | Outside):
        return ()
    return named if isinstance(named, tuple) else (named,)


def _sample(pattern: str) -> str:
    """Return a text that a plain pattern fits; of one with a set of characters, perhaps not: then it is one value more."""
    return pattern.replace("*", "x").replace("?", "x")


@lru_cache(maxsize=4)
def _codes(groups: Groups) -> tuple[str, ...]:
    """Return all codes that files know, those first that groups list."""
    listed = {member.code for file in groups.files for group in file.groups.values() for member in group.members}
    known = {code for file in groups.files for code in file.codes}
    return (*sorted(listed), *sorted(known - listed))
