"""Explanations: the same words about a decision for the command line, the protocol and the signed document.

Rules:      1. every rule considered is named, with the facts it read and where they come from  2. values are shown escaped and
            short: they come from senders  3. what does not allow says what would change it
Spec:       docs/policy.md section "Explanations"; DESIGN promise P8
"""

from collections.abc import Iterator

from carnet.approval import APPROVALS, Needs, described, united
from carnet.decision import Obligation, Outcome, Reason
from carnet.encoding import JsonValue
from carnet.limits import REASONS_MAX, TEXT_CHARS_MAX
from carnet.messages import ReasonView
from carnet.policy.evaluation import Input, PolicyDecision, RuleResult, Verdict
from carnet.policy.facts import Supplier, supplier
from carnet.policy.matching import Answer, describe, groups_of, shown
from carnet.policy.rules import HoldEnd

FACT_MISSING = "FACT-MISSING"
FACT_TYPE = "FACT-TYPE"
PART_MISSING = "PART-MISSING"
GROUPS_OUT_OF_DATE = "GROUPS-OUT-OF-DATE"
UNKNOWN_CODE = "UNKNOWN-CODE"

_CITE_CHARS_MAX = 255


def lines(decision: PolicyDecision) -> list[str]:
    """Return the whole explanation: the outcome, each rule's part (deciding ones first), approvals and obligations."""
    said = [f"{decision.outcome.value} at {decision.gate.value} by policy {decision.policy}"]
    deciding = decision.deciding
    for result in (*deciding, *(other for other in decision.results if other not in deciding)):
        said.extend(_about(result))
    said += [f"  approvals: {need.count} of role {need.role}" for need in decision.approvals]
    said += [f"  {ending(end)}" for end in decision.ends]
    said += [f"  obligation: {_obligation(obligation)}" for obligation in decision.obligations]
    return said


def reason_views(decision: PolicyDecision) -> tuple[ReasonView, ...]:
    """Return the rules that decided, as the protocol shows them."""
    return tuple(
        ReasonView(
            rule=result.rule,
            outcome=decision.outcome.value,
            text=_text(result),
            remedy=_remedy(result) or "",
            cite=result.cite,
        )
        for result in decision.deciding[:REASONS_MAX]
    )


def reasons(decision: PolicyDecision) -> tuple[Reason, ...]:
    """Return the rules that have a say, deciding ones first, with the facts they read, for the signed decision."""
    deciding = decision.deciding
    others = (result for result in decision.results if result.contribution is not None and result not in deciding)
    return tuple(_reason(result) for result in (*deciding, *others))[:REASONS_MAX]


def obligations(decision: PolicyDecision, floor: Needs | None = None) -> tuple[Obligation, ...]:
    """Return what the signed decision asks for: the approvals by role as one obligation, then the rules' own.

    `floor` is what the lane asks for beside the rules: the larger count of each role stands.
    """
    needed = united({need.role: need.count for need in decision.asked}, floor or {})
    if not needed:
        return decision.obligations[:REASONS_MAX]
    asked = Obligation(kind=APPROVALS, parameters=dict(needed))
    return (asked, *decision.obligations)[:REASONS_MAX]


def ending(end: HoldEnd) -> str:
    """Return what follows when nobody satisfies a hold, in words that do not depend on the time."""
    if not end.to:
        return f"after {end.hours} hours of waiting rule {end.rule} denies it"
    others = described({need.role: need.count for need in end.to})
    return f"after {end.hours} hours of waiting rule {end.rule} asks {others} instead, and after {2 * end.hours} it denies it"


def _about(result: RuleResult) -> Iterator[str]:
    if result.verdict is Verdict.NOT_APPLIED:
        yield f"  {result.rule} ({result.effect.value}) did not apply: {_why_not(result)}"
        return
    outcome = result.contribution or result.effect
    yield f"  {result.rule} ({outcome.value}): {_text(result)}"
    for given in result.inputs:
        yield f"    read {_read(given)}"
    remedy = _remedy(result)
    if remedy is not None and outcome is not Outcome.ALLOW:
        yield f"    remedy: {remedy}"
    if result.cite:
        yield f"    cites: {'; '.join(result.cite)}"


def _text(result: RuleResult) -> str:
    """Return why the rule contributes what it does."""
    if result.verdict is Verdict.FACT_MISSING:
        text = f"{FACT_MISSING}: {_names(result, Answer.MISSING)} is not known, and the rule needs it ({result.reason})"
    elif result.verdict is Verdict.ERROR and result.inputs:
        text = f"{FACT_TYPE}: {_names(result, Answer.ERROR)} cannot be compared with what the rule asks ({result.reason})"
    elif result.verdict is Verdict.PART_MISSING:
        names = _values(result, Answer.UNSTATED)
        text = f"{PART_MISSING}: {names}; of such a country parts are listed, so its part must be stated ({result.reason})"
    elif result.verdict is Verdict.OUT_OF_DATE:
        text = f"{GROUPS_OUT_OF_DATE}: {_groups(result)} cannot be relied upon today ({result.reason})"
    elif result.verdict is Verdict.UNKNOWN_CODE:
        text = f"{UNKNOWN_CODE}: {_values(result, Answer.UNKNOWN_CODE)}; no list knows all of these codes ({result.reason})"
    else:
        text = result.reason
    return text[:TEXT_CHARS_MAX]


def _remedy(result: RuleResult) -> str | None:
    if result.verdict is Verdict.FACT_MISSING:
        missing = sorted({given.name for given in result.inputs if given.answer is Answer.MISSING})[:8]
        by = {one: ", ".join(name for name in missing if supplier(name) is one) for one in Supplier}
        return "; ".join(f"{names} comes from {one.value}" for one, names in by.items() if names)[:TEXT_CHARS_MAX]
    if result.verdict is Verdict.ERROR and result.inputs:
        return "ask the owner of the policy to correct the rule: `carnet-gateway policy check` names the line"
    return _REMEDIES.get(result.verdict, result.remedy)


_REMEDIES = {
    Verdict.PART_MISSING: "state the part of the country, as in UA-30: in the waybill's parties, or as the site's jurisdiction",
    Verdict.OUT_OF_DATE: "ask whoever keeps the groups of jurisdictions to review them and put later files in their place",
    Verdict.UNKNOWN_CODE: "state a country by its code in ISO 3166-1, such as DE, or a part of it by that in ISO 3166-2",
}


def _why_not(result: RuleResult) -> str:
    failed = [given for given in result.inputs if not given.exempting and given.answer is Answer.NO]
    if failed:
        return "; ".join(f"{_value(given)}, the rule asks that it {describe(given.matcher)}" for given in failed[:8])
    exempt = {given.exempting for given in result.inputs} - {0}
    held = next(
        number for number in sorted(exempt) if all(one.answer is Answer.YES for one in result.inputs if one.exempting == number)
    )
    return "exempt, for " + " and ".join(_value(given) for given in result.inputs if given.exempting == held)


def _read(given: Input) -> str:
    holds = {Answer.YES: "so it", Answer.NO: "not so: it"}.get(given.answer, "needed: it")
    listed = "unless " if given.exempting else ""
    return f"{_value(given)} ({listed}{holds} {describe(given.matcher)})"


def _value(given: Input) -> str:
    if given.fact is None:
        return f"{given.name} is not known"
    return f"{given.name} is {shown(given.fact.value)}, {given.fact.assurance.word} by {given.fact.source}"


def _values(result: RuleResult, wanted: Answer) -> str:
    return ", ".join(sorted({_value(given) for given in result.inputs if given.answer is wanted})[:4])


def _groups(result: RuleResult) -> str:
    return ", ".join(sorted({name for one in result.inputs if one.answer is Answer.STALE for name in groups_of(one.matcher)})[:8])


def _names(result: RuleResult, wanted: Answer) -> str:
    return ", ".join(sorted({given.name for given in result.inputs if given.answer is wanted})[:8])


def _reason(result: RuleResult) -> Reason:
    inputs: dict[str, JsonValue] = {}
    for given in result.inputs:
        if given.fact is not None:
            value = given.fact.value
            inputs[given.name] = list(value) if isinstance(value, tuple) else value
    return Reason(
        rule=result.rule,
        outcome=result.contribution or result.effect,
        text=_text(result),
        remedy=_remedy(result),
        cite="; ".join(result.cite)[:_CITE_CHARS_MAX] or None,
        inputs=inputs,
    )


def _obligation(obligation: Obligation) -> str:
    parameters = ", ".join(f"{name}={value}" for name, value in sorted(obligation.parameters.items()))
    return f"{obligation.kind} {parameters}".rstrip()
