"""Cases: what a policy must say about some facts, written beside it, and whether the cases would notice if it said otherwise.

A case names a gate, facts and the outcome. Whoever changes a rule sees by the cases what else changes; a rule that could allow
where it denies without any case failing is not tested, whatever the cases say.

Rules:      1. there are two cases a rule; each is asked in two, applies in one, and if it has conditions does not in another
            2. of each rule the effect is turned round; a case must fail  3. a fact is declared unless the case says better
Spec:       docs/policy.md section "Cases"
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, cast

from pydantic import Field, model_validator

from carnet.decision import Gate, Outcome
from carnet.errors import CallerError
from carnet.policy.evaluation import PolicyDecision, RuleResult, Verdict, evaluate
from carnet.policy.explanation import lines
from carnet.policy.facts import Assurance, Fact, make_fact
from carnet.policy.rules import Policy, PolicyFile, Rule
from carnet.policy.source import parse_as
from carnet.statement import FactMap, ShortText, Unique, WireModel, Word
from carnet.timestamps import Day

if TYPE_CHECKING:
    from carnet.encoding import JsonValue

_CASES_MAX: Final = 2_000
_ASKED_MIN: Final = 2


class Case(WireModel):
    """What must come out at a gate of some facts; `by` are rules that must be among those that decided."""

    name: ShortText
    at: Gate
    on: Day | None = None
    facts: FactMap = Field(default_factory=dict)
    without: Annotated[tuple[ShortText, ...], Unique] = ()
    assurance: dict[ShortText, Literal["declared", "derived", "attested", "verified"]] = Field(default_factory=dict)
    outcome: Outcome
    by: Annotated[tuple[Word, ...], Unique] = ()
    approvals: dict[Word, int] | None = None
    obligations: Annotated[tuple[Word, ...], Unique] = ()


class CaseFile(WireModel):
    """The cases of one policy; `facts`, `on` and `assurance` hold in all of them unless a case says otherwise."""

    apiVersion: Literal["carnet/cases/v1"]  # noqa: N815 - as in policies
    kind: Literal["Cases"] = "Cases"
    on: Day | None = None
    facts: FactMap = Field(default_factory=dict)
    assurance: dict[ShortText, Literal["declared", "derived", "attested", "verified"]] = Field(default_factory=dict)
    cases: Annotated[tuple[Case, ...], Field(min_length=1, max_length=_CASES_MAX)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [case.name for case in self.cases]
        if len(set(names)) != len(names):
            raise ValueError("two cases have one name")
        return self


@dataclass(frozen=True)
class Question:
    """A case made ready: what is asked, and what must come out."""

    case: Case
    facts: Mapping[str, Fact]
    on: date | None

    def decide(self, policy: Policy) -> PolicyDecision:
        """Return what `policy` says."""
        return evaluate(policy, self.case.at, self.facts, self.on)

    def problem(self, decision: PolicyDecision) -> str | None:
        """Return what is not as the case says, or None."""
        case = self.case
        if decision.outcome is not case.outcome:
            rules = ", ".join(result.rule for result in decision.deciding)
            return f"{decision.outcome.value} by {rules}, not {case.outcome.value}"
        missing = set(case.by) - {result.rule for result in decision.deciding}
        if missing:
            return f"{case.outcome.value}, but not by {', '.join(sorted(missing))}"
        asked = {need.role: need.count for need in decision.approvals}
        if case.approvals is not None and asked != case.approvals:
            return f"approvals asked for are {asked or 'none'}, not {case.approvals or 'none'}"
        kinds = {obligation.kind for obligation in decision.obligations}
        if not set(case.obligations) <= kinds:
            return f"no obligation {', '.join(sorted(set(case.obligations) - kinds))}"
        return None


@dataclass(frozen=True)
class Report:
    """What came of the cases; `problems` are lines, one for each thing that is wrong."""

    rules: int
    cases: int
    passed: int
    problems: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether every case passed and every rule is tested."""
        return not self.problems


def parse_cases(text: str, name: str) -> CaseFile:
    """Return the cases in `text`; raise `CallerError` E-POLICY with `name` and line of the first mistake."""
    return parse_as(CaseFile, text, name)


def questions(file: CaseFile) -> tuple[Question, ...]:
    """Return the cases made ready; raise `CallerError` E-POLICY for a fact that does not exist or has another type."""
    return tuple(_question(file, case) for case in file.cases)


def run_cases(policy: Policy, asked: Iterable[Question]) -> Report:
    """Return what came of the cases, and of turning each rule's effect round."""
    asked = tuple(asked)
    decisions = [(question, question.decide(policy)) for question in asked]
    failed = [(question.case.name, problem) for question, decision in decisions if (problem := question.problem(decision))]
    problems = [f"case {name!r}: {problem}" for name, problem in failed]
    rules = [rule for file in policy.files for rule in file.rules]
    if len(asked) < _ASKED_MIN * len(rules):
        least = _ASKED_MIN * len(rules)
        problems.append(f"{len(asked)} cases for {len(rules)} rules: the least are {least}, write {least - len(asked)} more")
    for rule in rules:
        problems.extend(f"rule {rule.id}: {problem}" for problem in _untested(rule, decisions))
        if not failed and not _is_noticed(policy, rule, asked):
            turned = _turned(rule.effect).value
            problems.append(f"rule {rule.id}: no case fails if it says {turned} instead of {rule.effect.value}")
    return Report(len(rules), len(asked), len(asked) - len(failed), tuple(problems))


def explain_case(policy: Policy, question: Question) -> list[str]:
    """Return the whole explanation of what the policy says of a case."""
    return lines(question.decide(policy))


def _question(file: CaseFile, case: Case) -> Question:
    given: FactMap = {**file.facts, **case.facts}
    sure = {**file.assurance, **case.assurance}
    unknown = sorted(set(case.without) - set(file.facts)) + sorted(set(sure) - set(file.facts) - set(case.facts))
    if unknown:
        raise CallerError("E-POLICY", f"case {case.name!r} speaks of a fact that it does not have: {unknown[0]}")
    day = case.on or file.on
    try:
        facts = {
            name: make_fact(name, cast("JsonValue", value), Assurance[sure.get(name, "declared").upper()], "the case")
            for name, value in given.items()
            if name not in case.without
        }
    except CallerError as error:
        raise CallerError("E-POLICY", f"case {case.name!r}: {error.problem}") from None
    return Question(case, facts, None if day is None else date.fromisoformat(day))


def _untested(rule: Rule, decisions: Iterable[tuple[Question, PolicyDecision]]) -> Iterator[str]:
    results: list[RuleResult] = [
        result for _, decision in decisions for result in decision.results if result.rule == rule.id and decision.gate in rule.at
    ]
    if len(results) < _ASKED_MIN:
        yield f"{len(results)} cases ask it, {_ASKED_MIN} are the least"
    if not any(result.verdict is Verdict.APPLIED for result in results):
        yield "it applies in no case"
    elif any(rule.conditions) and all(result.verdict is Verdict.APPLIED for result in results):
        yield "it applies in every case that asks it"


def _is_noticed(policy: Policy, rule: Rule, asked: Iterable[Question]) -> bool:
    """Tell whether a case fails once the rule says something else."""
    turned = rule.model_copy(update={"effect": _turned(rule.effect), "approvals": ()})
    other = replace(policy, files=tuple(_with_rule(file, turned) for file in policy.files))
    return any(question.problem(question.decide(other)) for question in asked if question.case.at in rule.at)


def _turned(effect: Outcome) -> Outcome:
    return Outcome.DENY if effect is Outcome.ALLOW else Outcome.ALLOW


def _with_rule(file: PolicyFile, turned: Rule) -> PolicyFile:
    rules = tuple(turned if rule.id == turned.id else rule for rule in file.rules)
    return file.model_copy(update={"rules": rules})
