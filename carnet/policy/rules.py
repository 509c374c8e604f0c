"""Rules and policies: what a policy file says, typed, and its digest.

A policy is all policy files of a site together. It is named by the digest of what it says, so two sites, an auditor and a
replay years later mean the same thing by it; comments and layout do not count.

Rules:      1. unknown members are refused  2. rule ids are unique over all files
            3. only a hold asks for approvals, has hours, and says what follows when they are over
            4. the key is either released or not: nothing is quarantined at `release`
            5. what groups of jurisdictions say is part of what the policy says, if a rule names one
Spec:       docs/policy.md
Example:    >>> Rule(id="all", at=("offer",), effect="allow", reason="try it out").effect.value
            'allow'
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from carnet.approval import APPROVALS
from carnet.decision import Gate, Obligation, Outcome
from carnet.encoding import JsonValue, canonical
from carnet.errors import CallerError
from carnet.identifiers import Digest
from carnet.limits import POLICY_RULES_MAX, REASONS_MAX
from carnet.policy.expressions import EXPRESSION_CHARS_MAX, Expression, read_expression
from carnet.policy.groups import NO_GROUPS, Groups
from carnet.policy.matching import Asker, Matcher, Where, asker, groups_of
from carnet.statement import Positive, ShortText, Text, Unique, WireModel, Word
from carnet.timestamps import Day

API_VERSION = "carnet/policy/v1"
ENGINE = "engine"
"""The rule that a decision names when deciding itself failed."""
NO_PERMIT = "no-permit"
"""What stands for a rule's id in a decision that is a denial because no rule allows."""
UNCHANGED = "unchanged"
"""What stands for a rule's id in a decision at `recheck` that changes nothing."""

_LAST_DAY = "9999-12-31"
HOLD_HOURS_MAX = 8_760
"""The longest that a rule may let a hold wait: a year."""

Conditions = Annotated[dict[ShortText, Matcher], Field(max_length=32)]
"""Fact names and the matchers that must all say yes."""
_EXEMPTION_FORMS = ("conditions", "alternatives")
"""How `unless` may be written."""


def _exemption_form(value: Any) -> str:
    return _EXEMPTION_FORMS[isinstance(value, list | tuple)]


Exemptions = Annotated[
    Annotated[Conditions, Tag(_EXEMPTION_FORMS[0])]
    | Annotated[tuple[Conditions, ...], Field(min_length=1, max_length=16), Tag(_EXEMPTION_FORMS[1])],
    Discriminator(_exemption_form),
]
"""Conditions that exempt together, or a list of such."""


FactPattern = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\.([a-z0-9_]+|\*)$")]
"""A fact's name, or all that begin so: `recipient.*`."""


def means(pattern: str, name: str) -> bool:
    """Tell whether a pattern of `attested_by` means the fact `name`."""
    return name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1]))


class ApprovalNeed(WireModel):
    """So many different people of one role."""

    role: Word
    count: Annotated[int, Field(ge=1, le=9, strict=True)] = 1


class HoldEnd(NamedTuple):
    """When the hold of a rule ends, if nobody satisfied it, and what follows: those in `to` are asked, or it is denied."""

    rule: str
    hours: int
    to: tuple[ApprovalNeed, ...] = ()
    """Who is asked instead, for as many hours again; if nobody is, the hold is denied at once."""


def _unless_deny(said: str | None) -> str | None:
    """Leave out what is so anyway: a policy is named by what it says, not by how much of it."""
    return None if said == "deny" else said


class Rule(WireModel):
    """One rule: at these gates, when all of `when` hold and not all of `unless` do, this effect.

    `unless` may be a list: the rule is exempt when all conditions of one of its members hold.
    """

    id: Word
    at: Annotated[tuple[Gate, ...], Field(min_length=1), Unique]
    when: Conditions = Field(default_factory=dict)
    unless: Exemptions = Field(default_factory=dict)
    where: Annotated[str, Field(min_length=1, max_length=EXPRESSION_CHARS_MAX)] | None = None
    """A condition on several facts together, in CEL, beside those of `when`."""
    effect: Outcome
    reason: Text
    remedy: Text | None = None
    cite: Annotated[tuple[ShortText, ...], Field(max_length=32)] = ()
    obligations: Annotated[tuple[Obligation, ...], Field(max_length=REASONS_MAX)] = ()
    approvals: Annotated[tuple[ApprovalNeed, ...], Field(max_length=16)] = ()
    hold_hours: Annotated[int, Field(ge=1, le=HOLD_HOURS_MAX, strict=True)] | None = None
    """How long a delivery may wait in this hold; without it, as long as the site lets any wait."""
    on_expiry: Annotated[Literal["deny", "escalate"] | None, AfterValidator(_unless_deny)] = None
    """What follows: a denial unless it says `escalate`."""
    escalate_to: Annotated[tuple[ApprovalNeed, ...], Field(min_length=1, max_length=16)] | None = None
    """Whose approvals are asked for then, instead of `approvals`."""

    @property
    def end(self) -> HoldEnd | None:
        """When its hold ends, if it says so."""
        return None if self.hold_hours is None else HoldEnd(self.id, self.hold_hours, self.escalate_to or ())

    @property
    def exemptions(self) -> tuple[Conditions, ...]:
        """The alternatives of `unless`; none if there is no condition."""
        if isinstance(self.unless, tuple):
            return self.unless
        return (self.unless,) if self.unless else ()

    @property
    def conditions(self) -> Iterator[tuple[str, Matcher | Where]]:
        """Every condition, of `when`, of `unless` and of `where`."""
        for conditions in (self.when, *self.exemptions):
            yield from conditions.items()
        if self.where is not None:
            expression = read_expression(self.where)
            yield from ((name, expression.asked) for name in expression.names)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.unless, tuple) and not all(self.unless):
            raise ValueError("an alternative of `unless` without a condition would always exempt")
        if self.id in (NO_PERMIT, UNCHANGED):
            raise ValueError(f"the id {self.id} is kept for decisions that no rule made")
        if self.id == ENGINE:
            raise ValueError(f"the id {ENGINE} is kept for decisions that could not be made")
        if self.approvals and self.effect is not Outcome.HOLD:
            raise ValueError("only a rule with effect hold asks for approvals")
        if any(one.kind == APPROVALS for one in self.obligations):
            raise ValueError("approvals are asked for by `approvals` of a hold, not by an obligation")
        if self.effect is Outcome.QUARANTINE and Gate.RELEASE in self.at:
            raise ValueError("nothing is quarantined at release: use hold or deny")
        if self.effect is not Outcome.ALLOW and self.remedy is None:
            raise ValueError("a rule that does not allow has a remedy: what would change the outcome")
        return self

    @model_validator(mode="after")
    def _check_end(self) -> Self:
        said = [name for name in ("hold_hours", "on_expiry", "escalate_to") if name in self.model_fields_set]
        if said and self.effect is not Outcome.HOLD:
            raise ValueError(f"only a rule with effect hold has {said[0]}")
        if said and self.hold_hours is None:
            raise ValueError(f"{said[0]} is for a hold that ends: say after how many hours in hold_hours")
        if (self.on_expiry == "escalate") != (self.escalate_to is not None):
            raise ValueError("on_expiry: escalate and escalate_to go together: who is asked after the first hours")
        if self.escalate_to is not None and not self.approvals:
            raise ValueError("escalate_to is for a hold that asks somebody first: name them in approvals")
        return self


class Metadata(WireModel):
    """Whose policy it is, which edition, when it is in force, and who found it to be right."""

    id: Word
    version: Positive
    owner: ShortText
    description: Text | None = None
    effective_from: Day | None = None
    """Before this day its rules are not asked."""
    effective_until: Day | None = None
    """After this day nothing is allowed by its rules: what they would allow is held."""
    reviewed_by: ShortText | None = None
    reviewed_on: Day | None = None
    review: ShortText | None = None
    """Where the review is, such as the number of a memo."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.effective_from is not None and self.effective_until is not None and self.effective_until < self.effective_from:
            raise ValueError("effective_until is before effective_from")
        return self


class Defaults(WireModel):
    """What the rules leave open."""

    on_error: Literal[Outcome.HOLD, Outcome.DENY] = Outcome.HOLD
    """What a missing fact or an error in a rule makes of the decision."""
    decision_ttl_h: Annotated[int, Field(ge=1, le=720, strict=True)] = 24
    """Hours for which a decision stands."""


class PolicyFile(WireModel):
    """One policy file."""

    apiVersion: Literal["carnet/policy/v1"]  # noqa: N815 - the name operators know from other systems
    kind: Literal["Policy"] = "Policy"
    metadata: Metadata
    defaults: Defaults = Defaults()
    attested_by: Annotated[dict[Word, tuple[FactPattern, ...]], Field(min_length=1, max_length=32)] | None = None
    """Whose word counts for what: roles of the trust bundle, and the facts that people in them may attest."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=POLICY_RULES_MAX)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.rules:
            raise ValueError("a policy without rules allows nothing: write one")
        return self


PlannedCondition: TypeAlias = tuple[str, Matcher, Asker]
"""A fact's name, what is asked of it, and the same made ready."""


@dataclass(frozen=True)
class PlannedRule:
    """A rule with what each decision needs of it, worked out once: conditions by name, obligations with their bytes."""

    rule: Rule
    file: PolicyFile
    when: tuple[PlannedCondition, ...]
    where: Expression | None
    exemptions: tuple[tuple[PlannedCondition, ...], ...]
    obligations: tuple[tuple[bytes, Obligation], ...]
    end: HoldEnd | None


@dataclass(frozen=True)
class Policy:
    """All policy files of a site, in the order of their ids; make it with `combine`."""

    files: tuple[PolicyFile, ...]
    groups: Groups = NO_GROUPS

    @cached_property
    def digest(self) -> Digest:
        """The SHA-256 of the canonical JSON of the files: how decisions refer to this policy."""
        said: list[JsonValue] = [file.to_json() for file in self.files]
        if any(groups_of(matcher) for file in self.files for rule in file.rules for _, matcher in rule.conditions):
            said.append({"groups": str(self.groups.digest)})
        return Digest.of(canonical(said))

    @cached_property
    def decision_ttl_h(self) -> int:
        """Hours for which a decision stands: the shortest that a file asks for."""
        return min(file.defaults.decision_ttl_h for file in self.files)

    def may_attest(self, role: str, name: str) -> bool:
        """Tell whether the word of people in `role` counts for the fact `name`; if no file says so, nobody's does."""
        return any(means(pattern, name) for file in self.files for pattern in (file.attested_by or {}).get(role, ()))

    def attesters(self, name: str) -> tuple[str, ...]:
        """Return the roles whose word counts for the fact `name`."""
        roles = {role for file in self.files for role in file.attested_by or {}}
        return tuple(sorted(role for role in roles if self.may_attest(role, name)))

    def changes_after(self, day: date) -> date | None:
        """Return the first day after `day` on which a file, or a file of groups, begins or ends to count; None if none does."""
        begins = [file.metadata.effective_from for file in self.files] + [file.effective_from for file in self.groups.files]
        lasts = [file.metadata.effective_until for file in self.files] + [file.effective_until for file in self.groups.files]
        found = [date.fromisoformat(one) for one in begins if one is not None]
        found += [date.fromisoformat(one) + timedelta(days=1) for one in lasts if one is not None and one < _LAST_DAY]
        return min((one for one in found if one > day), default=None)

    @cached_property
    def facts_asked(self) -> frozenset[str]:
        """The names of all facts that a rule asks about."""
        return frozenset(name for file in self.files for rule in file.rules for name, _ in rule.conditions)

    @cached_property
    def groups_named(self) -> tuple[str, ...]:
        """The groups of jurisdictions that a rule names."""
        found = {
            name for file in self.files for rule in file.rules for _, matcher in rule.conditions for name in groups_of(matcher)
        }
        return tuple(sorted(found))

    def rules_at(self, gate: Gate) -> tuple[PlannedRule, ...]:
        """Return the rules for `gate`, by id, ready to be asked."""
        return self._by_gate[gate]

    @cached_property
    def _by_gate(self) -> dict[Gate, tuple[PlannedRule, ...]]:
        planned = sorted((_plan(rule, file) for file in self.files for rule in file.rules), key=lambda one: one.rule.id)
        return {gate: tuple(one for one in planned if gate in one.rule.at) for gate in Gate}


def _plan(rule: Rule, file: PolicyFile) -> PlannedRule:
    return PlannedRule(
        rule,
        file,
        _planned(rule.when),
        None if rule.where is None else read_expression(rule.where),
        tuple(_planned(conditions) for conditions in rule.exemptions),
        tuple((obligation.encode(), obligation) for obligation in rule.obligations),
        rule.end,
    )


def _planned(conditions: Conditions) -> tuple[PlannedCondition, ...]:
    return tuple((name, conditions[name], asker(conditions[name])) for name in sorted(conditions))


def combine(files: Iterable[PolicyFile], groups: Groups = NO_GROUPS) -> Policy:
    """Return the policy that `files` are together; raise `CallerError` E-POLICY for none, too many rules or a repeated id.

    `groups` are those that the files were parsed with.
    """
    ordered = tuple(sorted(files, key=lambda file: file.metadata.id))
    if not ordered:
        raise CallerError("E-POLICY", "there is no policy file: nothing would be allowed")
    for what, ids in (
        ("policy id", [file.metadata.id for file in ordered]),
        ("rule id", [rule.id for file in ordered for rule in file.rules]),
    ):
        repeated = [name for name, count in Counter(ids).items() if count > 1]
        if repeated:
            raise CallerError("E-POLICY", f"the {what} {repeated[0]} stands twice")
    total = sum(len(file.rules) for file in ordered)
    if total > POLICY_RULES_MAX:
        raise CallerError("E-POLICY", f"{total} rules, at most {POLICY_RULES_MAX} are read (POLICY_RULES_MAX)")
    return Policy(ordered, groups)
