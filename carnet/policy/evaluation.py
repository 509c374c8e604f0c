"""Evaluation: facts and rules in, one decision out, with the part of every rule in it.

The strictest contribution wins, so neither the order of rules nor that of files can matter, and a rule that is added can
only make the outcome stricter unless it allows.

Rules:      1. total: every policy, gate and set of facts has a decision  2. no applying allow rule means deny
            3. a rule that needs a missing fact, or cannot compare, contributes `on_error` (hold by default)
            4. a rule that one condition already rules out needs nothing else
            5. obligations and approvals of all applying rules are united
Spec:       docs/policy.md section "How a decision is made"; DESIGN promise P9
Example:    >>> from carnet.policy.rules import Metadata, PolicyFile, Rule, combine
            >>> rule = Rule(id="all", at=("offer",), effect="allow", reason="try it out")
            >>> file = PolicyFile(apiVersion="carnet/policy/v1", metadata=Metadata(id="p", version=1, owner="me"), rules=(rule,))
            >>> evaluate(combine([file]), Gate.OFFER, {}).outcome.value, evaluate(combine([file]), Gate.RELEASE, {}).outcome.value
            ('allow', 'deny')
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from carnet.decision import Gate, Obligation, Outcome, strictest
from carnet.identifiers import Digest
from carnet.policy.facts import Fact, Facts
from carnet.policy.matching import Answer, Matcher, all_of, answer, negate
from carnet.policy.rules import ENGINE, NO_PERMIT, ApprovalNeed, Conditions, Defaults, Policy, Rule


class Verdict(Enum):
    """What became of one rule."""

    APPLIED = "applied"
    NOT_APPLIED = "did not apply"
    FACT_MISSING = "needs a fact that is missing"
    ERROR = "could not compare a fact"


@dataclass(frozen=True)
class Input:
    """One condition as it was read: `matcher` of the fact `name`; `exempting` if it stands under `unless`."""

    name: str
    matcher: Matcher
    fact: Fact | None
    answer: Answer
    exempting: bool


@dataclass(frozen=True)
class RuleResult:
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


def evaluate(policy: Policy, gate: Gate, facts: Facts) -> PolicyDecision:
    """Return what `policy` decides at `gate` about `facts`. Never raises (rule 1)."""
    considered = policy.rules_at(gate)
    results = tuple(_judge(rule, defaults, facts) for rule, defaults in considered)
    if not any(result.effect is Outcome.ALLOW and result.verdict is not Verdict.NOT_APPLIED for result in results):
        results = (*results, _no_permit(gate, results))
    applied = {result.rule for result in results if result.verdict is Verdict.APPLIED}
    applying = [rule for rule, _ in considered if rule.id in applied]
    return PolicyDecision(
        gate=gate,
        outcome=strictest(result.contribution for result in results if result.contribution is not None),
        policy=policy.digest,
        valid_for_h=policy.decision_ttl_h,
        results=results,
        obligations=_united(rule.obligations for rule in applying),
        approvals=_needed(rule.approvals for rule in applying),
    )


def undecided(policy: Policy, gate: Gate, problem: str) -> PolicyDecision:
    """Return the decision to hold what could not be decided, because deciding itself failed with `problem` (promise P9)."""
    result = RuleResult(
        ENGINE, Outcome.HOLD, Verdict.ERROR, Outcome.HOLD, f"the policy could not be evaluated at {gate.value}: {problem}",
        "report it to whoever runs this site, then try the transfer again", (), (),
    )  # fmt: skip
    return PolicyDecision(gate, Outcome.HOLD, policy.digest, policy.decision_ttl_h, (result,), (), ())


def _judge(rule: Rule, defaults: Defaults, facts: Facts) -> RuleResult:
    inputs = (*_read(rule.when, facts, exempting=False), *_read(rule.unless, facts, exempting=True))
    required = all_of(given.answer for given in inputs if not given.exempting)
    exempting = [given.answer for given in inputs if given.exempting]
    applies = all_of([required, negate(all_of(exempting))]) if exempting else required
    verdict = {
        Answer.YES: Verdict.APPLIED,
        Answer.NO: Verdict.NOT_APPLIED,
        Answer.MISSING: Verdict.FACT_MISSING,
        Answer.ERROR: Verdict.ERROR,
    }[applies]
    contribution = {Verdict.APPLIED: rule.effect, Verdict.NOT_APPLIED: None}.get(verdict, defaults.on_error)
    return RuleResult(rule.id, rule.effect, verdict, contribution, rule.reason, rule.remedy, rule.cite, inputs, rule.approvals)


def _read(conditions: Conditions, facts: Facts, *, exempting: bool) -> list[Input]:
    return [
        Input(name, matcher, facts.get(name), answer(matcher, facts.get(name)), exempting)
        for name, matcher in sorted(conditions.items())
    ]


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


def _united(groups: Iterable[tuple[Obligation, ...]]) -> tuple[Obligation, ...]:
    """Return each obligation once, in an order that depends on what they say alone."""
    by_bytes = {obligation.encode(): obligation for group in groups for obligation in group}
    return tuple(by_bytes[key] for key in sorted(by_bytes))


def _needed(groups: Iterable[tuple[ApprovalNeed, ...]]) -> tuple[ApprovalNeed, ...]:
    """Return for each role the largest count that a rule asks for."""
    counts: dict[str, int] = {}
    for group in groups:
        for need in group:
            counts[need.role] = max(need.count, counts.get(need.role, 0))
    return tuple(ApprovalNeed(role=role, count=counts[role]) for role in sorted(counts))
