"""Evaluation: facts and rules in, one decision out, with the part of every rule in it.

The strictest contribution wins, so neither the order of rules nor that of files can matter, and a rule that is added can
only make the outcome stricter unless it allows.

Rules:      1. total: every policy, gate and set of facts has a decision  2. no applying allow rule means deny
            3. a rule that needs a missing fact, or cannot compare, contributes `on_error` (hold by default)
            4. a rule that one condition already rules out needs nothing else
            5. obligations and approvals of all applying rules are united
            6. a jurisdiction that no file of groups knows is a denial, wherever groups are asked about it
            7. what a policy allows that is over, or not known to be in force, is held
            8. at `recheck` no rule means that what was decided stands: rules there only tighten
            9. the hours of a hold never change the outcome: what follows when they are over is stricter, or asks others
Spec:       docs/policy.md section "How a decision is made"; DESIGN promise P9
Example:    >>> from carnet.policy.rules import Metadata, PolicyFile, Rule, combine
            >>> rule = Rule(id="all", at=("offer",), effect="allow", reason="try it out")
            >>> file = PolicyFile(apiVersion="carnet/policy/v1", metadata=Metadata(id="p", version=1, owner="me"), rules=(rule,))
            >>> evaluate(combine([file]), Gate.OFFER, {}).outcome.value, evaluate(combine([file]), Gate.RELEASE, {}).outcome.value
            ('allow', 'deny')
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from typing import Final, NamedTuple

from carnet.decision import Gate, Obligation, Outcome, strictest
from carnet.identifiers import Digest
from carnet.policy.expressions import Expression
from carnet.policy.facts import Fact, Facts
from carnet.policy.groups import Groups
from carnet.policy.matching import Answer, Matcher, Where, negate
from carnet.policy.rules import (
    ENGINE,
    NO_PERMIT,
    UNCHANGED,
    ApprovalNeed,
    HoldEnd,
    PlannedCondition,
    PlannedRule,
    Policy,
    PolicyFile,
)


class Verdict(Enum):
    """What became of one rule."""

    APPLIED = "applied"
    NOT_APPLIED = "did not apply"
    FACT_MISSING = "needs a fact that is missing"
    PART_MISSING = "needs to know which part of a country"
    OUT_OF_DATE = "needs a file of groups that is out of date"
    UNKNOWN_CODE = "was told of a jurisdiction that does not exist"
    ERROR = "could not compare a fact"
    NOT_IN_FORCE = "stands in a policy that is over"


class Input(NamedTuple):
    """One condition as it was read: `matcher` of the fact `name`; a tuple, for many are made for each decision.

    `exempting` is 0 for one of `when`, or which alternative of `unless` it stands in, from 1.
    """

    name: str
    matcher: Matcher | Where
    fact: Fact | None
    answer: Answer
    exempting: int


class RuleResult(NamedTuple):
    """One rule's part: `contribution` is what it makes of the decision, or None if it has no say in it."""

    rule: str
    effect: Outcome
    verdict: Verdict
    contribution: Outcome | None
    reason: str
    remedy: str | None
    cite: tuple[str, ...]
    inputs: tuple[Input, ...]
    approvals: tuple[ApprovalNeed, ...] = ()
    """Whose approvals would satisfy the hold that this rule is."""
    obligations: tuple[Obligation, ...] = ()
    """What it asks for beside its effect, if it applies."""
    end: HoldEnd | None = None
    """When the hold that it is ends, if it is one and says so."""


@dataclass(frozen=True)
class PolicyDecision:
    """The outcome, and the part of every rule of the gate, by rule id."""

    gate: Gate
    outcome: Outcome
    policy: Digest
    valid_for_h: int
    results: tuple[RuleResult, ...]
    obligations: tuple[Obligation, ...]
    approvals: tuple[ApprovalNeed, ...]
    instead: tuple[ApprovalNeed, ...] | None = None
    """Whose approvals are asked for in the place of `approvals`, because the hold was escalated."""

    @property
    def asked(self) -> tuple[ApprovalNeed, ...]:
        """Whose approvals are asked for now."""
        return self.approvals if self.instead is None else self.instead

    @property
    def ends(self) -> tuple[HoldEnd, ...]:
        """Of the rules that hold, when their holds end, the shortest first; none if it is no hold."""
        if self.outcome is not Outcome.HOLD:
            return ()
        found = [result.end for result in self.deciding if result.end is not None]
        return tuple(sorted(found, key=lambda end: (end.hours, end.rule)))

    @property
    def hold_hours(self) -> int | None:
        """The shortest hours that a rule gives this hold before it is denied or others are asked; None if no rule does."""
        return next((end.hours for end in self.ends), None)

    def escalated(self, rules: Collection[str]) -> "PolicyDecision":
        """Return the same decision, which asks those to whom `rules` escalate instead of those whom these rules asked first."""
        applied = [result for result in self.results if result.verdict is Verdict.APPLIED]
        return replace(
            self,
            instead=_needed(
                result.end.to if result.end is not None and result.rule in rules else result.approvals for result in applied
            ),
        )

    @property
    def deciding(self) -> tuple[RuleResult, ...]:
        """The results whose contribution is the outcome; never empty."""
        return tuple(result for result in self.results if result.contribution is self.outcome)

    @property
    def is_satisfiable(self) -> bool:
        """Whether approvals alone turn this into an allow: it holds, and each rule that holds applied and names approvals."""
        return self.outcome is Outcome.HOLD and all(
            result.approvals and result.verdict is Verdict.APPLIED for result in self.deciding
        )


def evaluate(policy: Policy, gate: Gate, facts: Facts, on: date | None = None) -> PolicyDecision:
    """Return what `policy` decides at `gate` about `facts` on the day `on`. Never raises (rule 1).

    Without a day, what depends on one is held: files of groups, and policies that say when they are in force.
    """
    considered = [planned for planned in policy.rules_at(gate) if _has_begun(planned.file, on)]
    results = tuple([_judge(planned, facts, policy.groups, on) for planned in considered])
    if gate is Gate.RECHECK:
        if all(result.contribution is None for result in results):
            results = (*results, _unchanged())
    elif not any(result.effect is Outcome.ALLOW and result.verdict is not Verdict.NOT_APPLIED for result in results):
        results = (*results, _no_permit(gate, results))
    applied = {result.rule for result in results if result.verdict in (Verdict.APPLIED, Verdict.NOT_IN_FORCE)}
    applying = [planned for planned in considered if planned.rule.id in applied]
    return PolicyDecision(
        gate=gate,
        outcome=strictest(result.contribution for result in results if result.contribution is not None),
        policy=policy.digest,
        valid_for_h=policy.decision_ttl_h,
        results=results,
        obligations=_united(planned.obligations for planned in applying if planned.obligations),
        approvals=_needed(planned.rule.approvals for planned in applying if planned.rule.approvals),
    )


def undecided(policy: Policy, gate: Gate, problem: str) -> PolicyDecision:
    """Return the decision to hold what could not be decided, because deciding itself failed with `problem` (promise P9)."""
    result = RuleResult(
        ENGINE, Outcome.HOLD, Verdict.ERROR, Outcome.HOLD, f"the policy could not be evaluated at {gate.value}: {problem}",
        "report it to whoever runs this site, then try the transfer again", (), (),
    )  # fmt: skip
    return PolicyDecision(gate, Outcome.HOLD, policy.digest, policy.decision_ttl_h, (result,), (), ())


_VERDICTS: Final = {
    Answer.YES: Verdict.APPLIED,
    Answer.NO: Verdict.NOT_APPLIED,
    Answer.MISSING: Verdict.FACT_MISSING,
    Answer.UNSTATED: Verdict.PART_MISSING,
    Answer.STALE: Verdict.OUT_OF_DATE,
    Answer.ERROR: Verdict.ERROR,
    Answer.UNKNOWN_CODE: Verdict.UNKNOWN_CODE,
}


def _judge(planned: PlannedRule, facts: Facts, groups: Groups, on: date | None) -> RuleResult:
    rule = planned.rule
    inputs: list[Input] = []
    answers = [_ask(planned.when, 0, inputs, facts, groups, on)]
    for number, conditions in enumerate(planned.exemptions, start=1):
        answers.append(negate(_ask(conditions, number, inputs, facts, groups, on)))
    if planned.where is not None and Answer.NO not in answers:
        answers.append(_ask_together(planned.where, inputs, facts))
    verdict = _VERDICTS[max(answers)]
    if verdict is Verdict.APPLIED and _has_ended(planned.file, on):
        return _ended(planned, tuple(inputs))
    if verdict is Verdict.APPLIED:
        contribution: Outcome | None = rule.effect
    elif verdict is Verdict.NOT_APPLIED:
        contribution = None
    else:
        contribution = Outcome.DENY if verdict is Verdict.UNKNOWN_CODE else planned.file.defaults.on_error
    return RuleResult(
        rule.id, rule.effect, verdict, contribution, rule.reason, rule.remedy, rule.cite, tuple(inputs), rule.approvals,
        rule.obligations if verdict is Verdict.APPLIED else (),
        planned.end if verdict is Verdict.APPLIED else None,
    )  # fmt: skip


def _ask(
    conditions: tuple[PlannedCondition, ...], exempting: int, inputs: list[Input], facts: Facts, groups: Groups, on: date | None
) -> Answer:
    """Ask all of `conditions`, put what was read into `inputs`, and return whether all hold."""
    together = Answer.YES
    for name, matcher, ask in conditions:
        fact = facts.get(name)
        said = ask(fact, groups, on)
        inputs.append(Input(name, matcher, fact, said, exempting))
        together = max(together, said)
    return together


def _ask_together(expression: Expression, inputs: list[Input], facts: Facts) -> Answer:
    """Ask the expression, put the facts that it reads into `inputs`, and return what it says."""
    said, asked = expression.answer(facts), expression.asked
    for name in expression.names:
        fact = facts.get(name)
        # Of several facts, it is those that are not there which are missing.
        inputs.append(Input(name, asked, fact, Answer.YES if said is Answer.MISSING and fact is not None else said, 0))
    return said


def _has_begun(file: PolicyFile, on: date | None) -> bool:
    start = file.metadata.effective_from
    return start is None or on is None or start <= on.isoformat()


def _has_ended(file: PolicyFile, on: date | None) -> bool:
    """Tell whether the file is over, or cannot be known to be in force."""
    told = file.metadata
    if on is None:
        return told.effective_from is not None or told.effective_until is not None
    return told.effective_until is not None and told.effective_until < on.isoformat()


def _ended(planned: PlannedRule, inputs: tuple[Input, ...]) -> RuleResult:
    """Return the part of a rule that applies, of a file that has ended: it holds, or what is stricter of its own."""
    rule, told = planned.rule, planned.file.metadata
    days = f"from {told.effective_from or 'the beginning'} until {told.effective_until or 'further notice'}"
    return RuleResult(
        rule.id,
        rule.effect,
        Verdict.NOT_IN_FORCE,
        strictest((rule.effect, planned.file.defaults.on_error)),
        f"the policy {told.id} is in force {days} only, and today is not known to be within that ({rule.reason})",
        f"ask {told.owner} to review it and put a later edition in its place",
        rule.cite,
        inputs,
        obligations=rule.obligations,
    )


def _unchanged() -> RuleResult:
    return RuleResult(
        UNCHANGED, Outcome.ALLOW, Verdict.APPLIED, Outcome.ALLOW, "no rule asks for anything stricter than before", None, (), ()
    )


def _no_permit(gate: Gate, results: tuple[RuleResult, ...]) -> RuleResult:
    permits = [result.rule for result in results if result.effect is Outcome.ALLOW]
    remedy = (
        "meet the conditions of a rule that allows: " + ", ".join(permits[:8])
        if permits
        else f"ask the owner of the policy for a rule that allows at {gate.value}"
    )
    return RuleResult(
        NO_PERMIT, Outcome.DENY, Verdict.APPLIED, Outcome.DENY, f"no rule permits this at {gate.value}", remedy, (), ()
    )


def _united(groups: Iterable[tuple[tuple[bytes, Obligation], ...]]) -> tuple[Obligation, ...]:
    """Return each obligation once, in an order that depends on what they say alone."""
    by_bytes = {said: obligation for group in groups for said, obligation in group}
    return tuple(by_bytes[key] for key in sorted(by_bytes))


def _needed(groups: Iterable[tuple[ApprovalNeed, ...]]) -> tuple[ApprovalNeed, ...]:
    """Return for each role the largest count that a rule asks for."""
    counts: dict[str, int] = {}
    for group in groups:
        for need in group:
            counts[need.role] = max(need.count, counts.get(need.role, 0))
    return tuple(ApprovalNeed(role=role, count=counts[role]) for role in sorted(counts))
