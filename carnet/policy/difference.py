"""What changes between two policies: rules that came, went or say something else, and the cases that come out otherwise.

Rules:      1. what a policy says is compared, not how it is written  2. a rule is the same one by its id
Spec:       docs/policy.md section "A first policy in a quarter of an hour"
"""

from collections.abc import Iterable, Iterator
from typing import Final

from carnet.encoding import JsonValue, canonical
from carnet.policy.cases import Question
from carnet.policy.rules import Policy

_SHORT: Final = 60


def changed_rules(before: Policy, after: Policy) -> Iterator[str]:
    """Yield a line for each rule that differs, by id, and for each file whose head does."""
    old, new = _rules(before), _rules(after)
    for id_ in sorted(old | new):
        if id_ not in new:
            yield f"- rule {id_}: {old[id_]['effect']} at {_gates(old[id_])} is gone"
        elif id_ not in old:
            yield f"+ rule {id_}: {new[id_]['effect']} at {_gates(new[id_])} is new"
        elif old[id_] != new[id_]:
            members = sorted(name for name in old[id_].keys() | new[id_].keys() if old[id_].get(name) != new[id_].get(name))
            yield f"~ rule {id_}: {'; '.join(_change(name, old[id_].get(name), new[id_].get(name)) for name in members)}"
    heads, later = _heads(before), _heads(after)
    for id_ in sorted(heads | later):
        if heads.get(id_) != later.get(id_):
            yield f"~ policy {id_}: {'its head changed' if id_ in heads and id_ in later else 'the file came or went'}"
    if before.groups.digest != after.groups.digest:
        yield "~ the files of groups changed"


def changed_outcomes(before: Policy, after: Policy, asked: Iterable[Question]) -> Iterator[str]:
    """Yield a line for each case whose outcome, or whose deciding rules, differ."""
    for question in asked:
        old, new = question.decide(before), question.decide(after)
        said = [f"{one.outcome.value} by {', '.join(result.rule for result in one.deciding)}" for one in (old, new)]
        if said[0] != said[1]:
            yield f"case {question.case.name!r} at {question.case.at.value}: {said[0]}, then {said[1]}"


def _change(name: str, before: JsonValue, after: JsonValue) -> str:
    """Return what became of a member, with both values where they are short."""
    said = ["nothing" if value is None else canonical(value).decode("ascii", "backslashreplace") for value in (before, after)]
    return f"{name} changed" if max(map(len, said)) > _SHORT else f"{name} from {said[0]} to {said[1]}"


def _rules(policy: Policy) -> dict[str, dict[str, JsonValue]]:
    return {rule.id: dict(rule.to_json()) for file in policy.files for rule in file.rules}


def _heads(policy: Policy) -> dict[str, JsonValue]:
    return {file.metadata.id: [file.metadata.to_json(), file.defaults.to_json()] for file in policy.files}


def _gates(rule: dict[str, JsonValue]) -> str:
    gates = rule["at"]
    return ", ".join(str(gate) for gate in gates) if isinstance(gates, list | tuple) else str(gates)
