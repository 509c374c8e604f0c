"""Obligations: what a rule may ask for beside its effect, typed, and which of it binds under an outcome.

The table `KINDS` is the whole vocabulary. Some obligations are conditions: a site that cannot meet them holds. Some are done by
the site itself, some by the destination under the terms of the release, and some by people, who have until a due time.

Rules:      1. a kind that is not in the table, or parameters that it has not, are a mistake of the policy
            2. what a rule that allows asks for binds once the outcome is allow; what another rule asks for binds as it applies
            3. terms of a release that a destination does not understand are held there, never ignored
            4. a review is of what was let go, so whoever lets it go cannot have reviewed it before
Spec:       docs/policy.md section "Obligations"; COMPLIANCE section 5
Example:    >>> read_obligation(Obligation(kind="retain", parameters={"years": 6})).years
            6
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from carnet.decision import Gate, Obligation, Outcome
from carnet.errors import CallerError
from carnet.identifiers import SiteName
from carnet.policy.evaluation import PolicyDecision
from carnet.policy.groups import Groups, Standing
from carnet.policy.mistakes import mistakes
from carnet.statement import Unique, WireModel, Word

EVERYONE: Final = "everyone"
"""In the place of a role: whoever of the trust bundle."""
_WITHIN_H_MAX: Final = 24 * 366

RegionName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,31}(-[A-Z0-9]{1,3})?$")]
"""The name of a group of jurisdictions, or else an ISO 3166 code."""


class Parameters(WireModel):
    """What an obligation of one kind says; this one says nothing more."""


class Suite(Parameters):
    """Every suite of the lane is of a validated module."""

    fips: Literal[True]


class Custody(Parameters):
    """Only these sites, and sites in these regions, hold or get a key."""

    sites: Annotated[tuple[SiteName, ...], Field(max_length=64), Unique] = ()
    regions: Annotated[tuple[RegionName, ...], Field(max_length=64), Unique] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.sites and not self.regions:
            raise ValueError("name sites, or regions, that may hold a key")
        return self


class LogCopy(Parameters):
    """The record of the decision is kept in a region: all of it, or hashes alone."""

    region: RegionName
    mode: Literal["full", "hash"]


class Retain(Parameters):
    """The record of the decision is kept for so long."""

    years: Annotated[int, Field(ge=1, le=100, strict=True)]
    of: Word = "decision"


class DeleteAfter(Parameters):
    """The destination deletes what it holds so many days after it was delivered."""

    days: Annotated[int, Field(ge=1, le=3_660, strict=True)]


class Duty(Parameters):
    """A person of the role does it within so many hours, and signs that it is done."""

    role: Word
    within_h: Annotated[int, Field(ge=1, le=_WITHIN_H_MAX, strict=True)]


class Report(Duty):
    """Somebody reports it to an authority."""

    channel: Word
    role: Word = EVERYONE


class Nature(Enum):
    """Who sees to it."""

    CONDITION = "a condition: the site holds while it is not met"
    SITE = "the site that decides"
    DESTINATION = "the destination, under the terms of the release"
    PEOPLE = "people, who sign that it is done"


@dataclass(frozen=True)
class Kind:
    """One kind of obligation: the gates at which a rule may ask for it, what it says, and who sees to it."""

    gates: frozenset[Gate]
    parameters: type[Parameters]
    nature: Nature
    meaning: str


_EVERY: Final = frozenset(Gate)
LEAVING: Final = frozenset({Gate.OFFER, Gate.RELEASE})
"""Where something leaves a site."""
NO_PREFETCH: Final = "no-prefetch"
"""The obligation of an offer that waits until the release would be allowed: no ciphertext goes ahead of its key."""
SUITE: Final = "suite"
CUSTODY: Final = "custody"
LOG_COPY: Final = "log-copy"
RETAIN: Final = "retain"
DELETE_AFTER: Final = "delete-after"
NO_ONWARD: Final = "no-onward"
REVIEW: Final = "review"

KINDS: Final[dict[str, Kind]] = {
    NO_PREFETCH: Kind(
        frozenset({Gate.OFFER}), Parameters, Nature.CONDITION, "nothing is sent before the release would be allowed"
    ),
    SUITE: Kind(
        LEAVING, Suite, Nature.CONDITION, "`fips: true`: every suite of the lane is of a module validated under FIPS 140-3"
    ),
    CUSTODY: Kind(
        LEAVING,
        Custody,
        Nature.CONDITION,
        "`sites`, `regions`: nobody else than these sites, or sites in these regions, has a key",
    ),
    LOG_COPY: Kind(
        _EVERY,
        LogCopy,
        Nature.SITE,
        "`region`, `mode: full` or `hash`: the record of the decision is kept in that region as well",
    ),
    RETAIN: Kind(_EVERY, Retain, Nature.SITE, "`years`: the record of the decision is kept for so long; `of` names the class"),
    DELETE_AFTER: Kind(
        frozenset({Gate.RELEASE, Gate.RECEIPT}),
        DeleteAfter,
        Nature.DESTINATION,
        "`days`: so long after it was delivered the destination deletes its copy, and signs that it did",
    ),
    NO_ONWARD: Kind(
        frozenset({Gate.RELEASE, Gate.RECEIPT}),
        Parameters,
        Nature.DESTINATION,
        "the destination sends the same artifact to no other site",
    ),
    "notify": Kind(_EVERY, Duty, Nature.PEOPLE, "`role`, `within_h`: a person of the role takes note; `everyone` is any person"),
    "report": Kind(
        _EVERY, Report, Nature.PEOPLE, "`channel`, `within_h`, and `role` if not anybody: it is reported to an authority"
    ),
    REVIEW: Kind(
        frozenset({Gate.RELEASE, Gate.RECEIPT}),
        Duty,
        Nature.PEOPLE,
        "`role`, `within_h`: a person of the role who had no part in it looks at it afterwards",
    ),
}
"""Every kind of obligation that a rule may ask for. Approvals are asked for by `approvals` of a hold."""
TERMS: Final = frozenset(name for name, kind in KINDS.items() if kind.nature is Nature.DESTINATION)
"""What a release binds its destination to."""
_KNOWN_OF_A_RELEASE: Final = frozenset(KINDS) | {"approvals"}


def read_obligation(obligation: Obligation) -> Any:
    """Return the parameters of an obligation, of the class that its kind has; raise `CallerError` E-POLICY (rule 1)."""
    kind = KINDS.get(obligation.kind)
    if kind is None:
        known = ", ".join(sorted(KINDS))
        raise CallerError("E-POLICY", f"no obligation is called {ascii(obligation.kind)[:80]}; there are {known}")
    try:
        return kind.parameters.model_validate(obligation.parameters)
    except ValidationError as error:
        _, problem = next(mistakes(error, kind.parameters, obligation.to_json()["parameters"]))
        raise CallerError("E-POLICY", f"obligation {obligation.kind}: {problem}") from None


def problem_of(obligation: Obligation, gates: Iterable[Gate], groups: Groups) -> str | None:
    """Return what is wrong with an obligation of a rule at `gates`, or None; `groups` are those that may be named."""
    try:
        read = read_obligation(obligation)
    except CallerError as error:
        return error.problem
    wrong = sorted(gate.value for gate in set(gates) - KINDS[obligation.kind].gates)
    if wrong and not set(gates) & KINDS[obligation.kind].gates:
        return f"the obligation {obligation.kind} cannot be asked for at {', '.join(wrong)}"
    unknown = next((name for name in regions_of(read) if not _is_known(name, groups)), None)
    return None if unknown is None else f"the obligation {obligation.kind} names {unknown}, which is no code and no group"


def regions_of(read: Any) -> tuple[str, ...]:
    """Return the regions that an obligation names."""
    if isinstance(read, LogCopy):
        return (read.region,)
    return read.regions if isinstance(read, Custody) else ()


def binding(decision: PolicyDecision, outcome: Outcome) -> tuple[Obligation, ...]:
    """Return the obligations that bind once what was decided came to `outcome`, each once, in their order (rules 2 and 4)."""
    is_let_go = outcome is Outcome.ALLOW and decision.gate is not Gate.RECHECK
    asked = {
        one.encode()
        for result in decision.results
        if result.obligations and (is_let_go or result.effect is not Outcome.ALLOW)
        for one in result.obligations
        if is_let_go or one.kind != REVIEW
    }
    return tuple(
        one
        for one in decision.obligations
        if one.encode() in asked and (one.kind not in KINDS or decision.gate in KINDS[one.kind].gates)
    )


def terms(obligations: Iterable[Obligation]) -> tuple[Obligation, ...]:
    """Return those of a release's obligations that its destination keeps to."""
    return tuple(one for one in obligations if one.kind in TERMS)


def strange(obligations: Iterable[Obligation]) -> str | None:
    """Return the first obligation of a release that this version does not understand, in words, or None (rule 3)."""
    for one in obligations:
        if one.kind not in _KNOWN_OF_A_RELEASE:
            return f"it was released under an obligation that is not known here: {ascii(one.kind)[:80]}"
        if one.kind in TERMS:
            try:
                read_obligation(one)
            except CallerError as error:
                return f"it was released under terms that cannot be read here: {error.problem}"
    return None


def lies_in(jurisdiction: str, region: str, groups: Groups, on: date | None) -> bool:
    """Tell whether a site's jurisdiction is in a region; of what is not known, no."""
    if region in groups.names:
        return groups.standing(jurisdiction, (region,), on) is Standing.IN
    return jurisdiction == region or jurisdiction.startswith(region + "-")


def _is_known(name: str, groups: Groups) -> bool:
    """Tell whether a region is one: a group, or a code that a file knows, if any says which there are."""
    is_code = len(name.partition("-")[0]) == len("DE")
    return name in groups.names or (is_code and (not groups.have_codes or groups.knows(name)))
