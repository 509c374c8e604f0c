r"""Reading and checking policy files: every mistake that can be known before the policy is used, with its line.

A gateway loads a file by `parse_policy`, an author asks `check_policy`; both see the same findings, so what checks clean
loads.

Rules:      1. a finding that is an error makes the file unusable  2. a warning never does
            3. text that is checked may be anything at all
Spec:       docs/policy.md section "Checking"
Example:    >>> [str(finding) for finding in check_policy("apiVersion: carnet/policy/v1\nrules: []")][0]
            'line 1: error: metadata is missing'
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from pydantic import ValidationError

from carnet.decision import Gate, Obligation, Outcome
from carnet.encoding import canonical
from carnet.errors import CallerError, PeerError
from carnet.policy.expressions import read_expression, try_out
from carnet.policy.facts import FACTS, VALUES, Assurance, Fact, FactType, Supplier, fact_type, is_attestable, supplier
from carnet.policy.groups import NO_GROUPS, Groups
from carnet.policy.matching import Answer, Matcher, answer, describe, groups_of, suits, texts_of
from carnet.policy.mistakes import Place, mistakes, nearest
from carnet.policy.obligations import REVIEW, problem_of
from carnet.policy.rules import Conditions, PolicyFile, Rule, means
from carnet.policy.source import SourceTree, parse_yaml

_FINDINGS_MAX = 200
_WHO: Final = "recipient.kind"
_NEARLY: Final = 0.8


@dataclass(frozen=True, order=True)
class Finding:
    """One thing wrong or doubtful; `line` is 1-based."""

    line: int
    is_error: bool
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {'error' if self.is_error else 'warning'}: {self.text}"


def check_policy(text: str, groups: Groups = NO_GROUPS, *, roles: Collection[str] = (), is_whole: bool = True) -> list[Finding]:
    """Return what is wrong or doubtful in the policy file `text`, by line; empty if nothing is. Never raises.

    `groups` are those that its rules may name, and `roles` those that are usual: a word that is nearly one is doubted. With
    `is_whole` the file is taken for the whole policy.
    """
    file, tree, findings = _examine(text, groups)
    if file is None or tree is None:
        return findings
    more = [*_role_findings(file, tree, roles), *(_permit_findings(file, tree) if is_whole else ())]
    return sorted([*findings, *more])[:_FINDINGS_MAX]


def gates_without_permit(*files: PolicyFile) -> list[Gate]:
    """Return the gates that rules of the files ask about and at which none of them allows or means to deny everything."""
    rules = [rule for file in files for rule in file.rules]
    # At a recheck nothing needs to be allowed again.
    return [
        gate
        for gate in sorted({gate for rule in rules for gate in rule.at} - {Gate.RECHECK})
        if not any(gate in rule.at and (rule.effect is Outcome.ALLOW or _denies_all(rule)) for rule in rules)
    ]


def parse_policy(text: str, name: str, groups: Groups = NO_GROUPS) -> PolicyFile:
    """Return the policy file in `text`; raise `CallerError` E-POLICY with `name` and line of the first error."""
    file, _, findings = _examine(text, groups)
    errors = [finding for finding in findings if finding.is_error]
    if file is None or errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise CallerError("E-POLICY", f"{name}: {errors[0]}{more}")
    return file


def _examine(text: str, groups: Groups) -> tuple[PolicyFile | None, SourceTree | None, list[Finding]]:
    try:
        tree = parse_yaml(text)
    except CallerError as error:
        line, _, problem = error.problem.partition(": ")
        known = line.removeprefix("line ")
        return None, None, [Finding(int(known), True, problem) if known.isdigit() else Finding(1, True, error.problem)]
    try:
        # Through JSON text: in strict mode pydantic then reads lists as tuples and texts as enums, and coerces nothing.
        file = PolicyFile.model_validate_json(canonical(tree.value), strict=True)
    except PeerError as error:
        return None, tree, [Finding(1, True, error.problem)]
    except ValidationError as error:
        return None, tree, sorted(_shape_findings(error, tree))[:_FINDINGS_MAX]
    found = (*_rule_findings(file, tree, groups), *_attester_findings(file, tree), *_file_findings(file, tree))
    return file, tree, sorted(found)[:_FINDINGS_MAX]


def _shape_findings(error: ValidationError, tree: SourceTree) -> Iterator[Finding]:
    for place, problem in mistakes(error, PolicyFile, tree.value):
        yield Finding(tree.line(place), True, problem)


def _rule_findings(file: PolicyFile, tree: SourceTree, groups: Groups) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for number, rule in enumerate(file.rules):
        line = tree.line(("rules", number, "id"))
        if rule.id in seen:
            yield Finding(line, True, f"rule id {rule.id} stands twice, first in line {seen[rule.id]}")
        seen.setdefault(rule.id, line)
        for path, conditions in _places(rule):
            for name, matcher in conditions.items():
                place = tree.line(("rules", number, *path, name))
                problem = _condition_problem(name, matcher, groups)
                if problem is not None:
                    yield Finding(place, True, f"rule {rule.id}: {problem}")
                elif (
                    rule.effect is Outcome.ALLOW
                    and path == ("when",)
                    and groups_of(matcher)
                    and fact_type(name) is FactType.CODES
                ):
                    text = f"rule {rule.id} allows when one of {name} {describe(matcher)}, whatever the others are"
                    yield Finding(place, False, f"{text}: to ask it of all, put the opposite under `unless`")
                elif supplier(name) in (Supplier.LICENCE, Supplier.PEOPLE) and not _has_attester(file, name):
                    text = f"rule {rule.id}: nobody's word counts for the fact {name}"
                    yield Finding(place, False, f"{text}: name a role for it under `attested_by`")
        yield from _obligation_findings(rule, number, tree, groups)
        yield from _expression_findings(rule, number, tree)
        if any(exempt.items() <= rule.when.items() for exempt in rule.exemptions):
            yield Finding(line, False, f"rule {rule.id} never applies: what `unless` exempts is part of `when`")


def _obligation_findings(rule: Rule, number: int, tree: SourceTree, groups: Groups) -> Iterator[Finding]:
    for position, obligation in enumerate(rule.obligations):
        problem = problem_of(obligation, rule.at, groups) or _unheard(rule, obligation)
        if problem is not None:
            yield Finding(tree.line(("rules", number, "obligations", position)), True, f"rule {rule.id}: {problem}")


def _unheard(rule: Rule, obligation: Obligation) -> str | None:
    """Return why an obligation of this rule would never bind anybody, or None."""
    if rule.effect is Outcome.ALLOW and set(rule.at) == {Gate.RECHECK}:
        return "what allows at recheck changes nothing, and obliges nobody"
    if obligation.kind == REVIEW and rule.effect is not Outcome.ALLOW and not rule.approvals:
        return "a review is of what was let go: ask for it where a rule allows, or holds for approvals"
    return None


def _expression_findings(rule: Rule, number: int, tree: SourceTree) -> Iterator[Finding]:
    if rule.where is None:
        return
    line = tree.line(("rules", number, "where"))
    try:
        expression = read_expression(rule.where)
        tried = try_out(expression)
    except CallerError as error:
        yield Finding(line, True, f"rule {rule.id}: {error.problem}")
        return
    if tried is not None:
        yield Finding(line, False, f"rule {rule.id}: {tried}")
    elif not expression.names:
        yield Finding(line, False, f"rule {rule.id}: its expression reads no fact, so it always says the same")


def _has_attester(file: PolicyFile, name: str) -> bool:
    return any(means(pattern, name) for some in (file.attested_by or {}).values() for pattern in some)


def _attester_findings(file: PolicyFile, tree: SourceTree) -> Iterator[Finding]:
    """Find what nobody can attest: a name that is none, and facts that a site finds out itself."""
    for role, patterns in (file.attested_by or {}).items():
        for number, pattern in enumerate(patterns):
            meant = [name for name in FACTS if means(pattern, name)]
            if not any(is_attestable(name) or supplier(name) is Supplier.LICENCE for name in meant):
                text = f"attested_by: {role} cannot attest {pattern}: it is no fact that people can vouch for"
                yield Finding(tree.line(("attested_by", role, number)), True, text)


def _places(rule: Rule) -> Iterator[tuple[tuple[str | int, ...], Conditions]]:
    """Yield each set of conditions of a rule, and where it stands in the rule."""
    yield ("when",), rule.when
    if isinstance(rule.unless, tuple):
        yield from ((("unless", number), conditions) for number, conditions in enumerate(rule.unless))
    else:
        yield ("unless",), rule.unless


def _condition_problem(name: str, matcher: Matcher, groups: Groups) -> str | None:
    kind = fact_type(name)
    if kind is None:
        return f"no fact is called {name!a}"
    if not suits(matcher, kind):
        return f"the fact {name} is {kind.phrase}, so {describe(matcher)!r} cannot be asked of it"
    unknown = next((group for group in groups_of(matcher) if group not in groups.names), None)
    if unknown is not None:
        return f"no group of jurisdictions is called {unknown}"
    return _value_problem(name, matcher, kind, groups)


def _value_problem(name: str, matcher: Matcher, kind: FactType, groups: Groups) -> str | None:
    """Return which value that is asked for the fact can never have, or None: such a rule would quietly never apply."""
    for value in texts_of(matcher):
        if kind.is_code and groups.have_codes and not groups.knows(value):
            return f"{name} is never {value!a}: no file of groups knows it as an ISO 3166 code"
        if name in VALUES and value not in VALUES[name]:
            return f"{name} is never {value!a}: it is one of {', '.join(VALUES[name])}"
    return None


def _permit_findings(file: PolicyFile, tree: SourceTree) -> Iterator[Finding]:
    for gate in gates_without_permit(file):
        yield Finding(tree.line(("rules",)), False, f"no rule of this file allows at {gate.value}")


def _role_findings(file: PolicyFile, tree: SourceTree, roles: Collection[str]) -> Iterator[Finding]:
    """Find words that are nearly a usual role: nobody holds a role that is misspelt, and what waits for it waits on."""
    named: list[tuple[str, Place]] = [(role, ("attested_by", role)) for role in file.attested_by or {}]
    for number, rule in enumerate(file.rules):
        named += [(need.role, ("rules", number, "approvals")) for need in rule.approvals]
        named += [(need.role, ("rules", number, "escalate_to")) for need in rule.escalate_to or ()]
        named += [
            (str(one.parameters["role"]), ("rules", number, "obligations"))
            for one in rule.obligations
            if "role" in one.parameters
        ]
    for role, place in named:
        meant = None if role in roles else nearest(role, roles, alike=_NEARLY)
        if meant is not None:
            yield Finding(tree.line(place), False, f"the role {role} is not a usual one; is {meant} meant?")


def _file_findings(file: PolicyFile, tree: SourceTree) -> Iterator[Finding]:
    lines = [tree.line(("rules", number, "id")) for number in range(len(file.rules))]
    for line, rule in zip(lines, file.rules, strict=True):
        yield from (Finding(line, False, f"rule {rule.id} {said}") for said in (*_doubts_of_asking(rule), *_doubts_of_end(rule)))
    for (first_line, first), (second_line, second) in combinations(zip(lines, file.rules, strict=True), 2):
        if _asks(first) == _asks(second) and first.id != second.id:
            shared = set(first.at) & set(second.at)
            if shared:
                yield Finding(second_line, False, f"rule {second.id} says again at {_gates(shared)} what {first.id} says")
        for (strict, _), (other, line) in (
            ((first, first_line), (second, second_line)),
            ((second, second_line), (first, first_line)),
        ):
            if _shadows(strict, other):
                yield Finding(line, False, f"rule {other.id} has no effect: {strict.id} denies whenever it applies")


def _doubts_of_asking(rule: Rule) -> Iterator[str]:
    """Yield where the rule names approvals for which nobody is ever asked."""
    unasked = [gate for gate in (Gate.RECEIPT, Gate.RECHECK) if gate in rule.at and rule.approvals]
    if unasked:
        yield f"names approvals at {_gates(unasked)}, where nobody is asked: the hold waits"
    if rule.approvals and Gate.RELEASE in rule.at and _asks_pulls(rule):
        said = "holds pulls too, for which nobody is asked"
        yield f"{said}: put `recipient.kind: gateway` under `when`, if it is about keys for sites"


def _asks_pulls(rule: Rule) -> bool:
    """Tell whether the rule may apply to an agent or a person who pulls, as far as its conditions on `recipient.kind` tell."""
    for kind in ("agent", "person"):
        fact = Fact(kind, Assurance.DERIVED, "")
        wanted = rule.when.get(_WHO)
        is_exempt = any(set(one) == {_WHO} and answer(one[_WHO], fact) is Answer.YES for one in rule.exemptions)
        if not is_exempt and (wanted is None or answer(wanted, fact) is Answer.YES):
            return True
    return False


def _doubts_of_end(rule: Rule) -> Iterator[str]:
    """Yield what is odd about the hours of a hold, and about whom it asks when they are over."""
    timeless = [gate for gate in (Gate.RECEIPT, Gate.RECHECK) if gate in rule.at]
    if rule.hold_hours is not None and timeless:
        yield f"gives hold_hours at {_gates(timeless)}, where they are not counted"
    first = {need.role: need.count for need in rule.approvals}
    if rule.escalate_to is not None and all(need.count <= first.get(need.role, 0) for need in rule.escalate_to):
        yield "escalates to nobody whom it does not ask before: name another role, or more people of one"


def _denies_all(rule: Rule) -> bool:
    return rule.effect is Outcome.DENY and not any(rule.conditions)


def _asks(rule: Rule) -> tuple[object, ...]:
    return rule.effect, rule.when, rule.unless, rule.where


def _shadows(strict: Rule, other: Rule) -> bool:
    """Tell the plain cases in which `strict` denies wherever `other`, which does not, would have a say."""
    return (
        strict.effect is Outcome.DENY
        and strict.id != other.id
        and other.effect is not Outcome.DENY
        and not strict.unless
        and strict.where in (None, other.where)
        and set(other.at) <= set(strict.at)
        and strict.when.items() <= other.when.items()
    )


def _gates(gates: Iterable[Gate]) -> str:
    return ", ".join(sorted(gate.value for gate in gates))
