"""Whom policy asks: roles of its rules that too few people of the trust bundle hold, so that what waits for them waits on."""

from collections.abc import Iterator
from typing import Final

from carnet.policy import Policy, Rule
from carnet.policy.obligations import EVERYONE
from carnet.trust import TrustBundle
from gateway.doctor.findings import Finding, warn

_SHOWN: Final = 20


def examine_asked(policy: Policy, bundle: TrustBundle) -> Iterator[Finding]:
    """Yield a warning for each role that rules ask for approvals or duties and that too few people hold."""
    lacking = dict[str, tuple[int, str]]()
    for rule in (rule for file in policy.files for rule in file.rules):
        for role, count in _asked(rule):
            if len(bundle.people_with(role)) < count and count > lacking.get(role, (0, ""))[0]:
                lacking[role] = (count, rule.id)
    for role, (count, rule_id) in sorted(lacking.items())[:_SHOWN]:
        held = len(bundle.people_with(role))
        said = f"rule {rule_id} asks for {count} of the role {role}, which {held} people of trust bundle {bundle.version} hold"
        yield warn("D-POLICY", said, "correct the role in the rule, or give it to people: carnet-gateway trust propose")


def _asked(rule: Rule) -> Iterator[tuple[str, int]]:
    """Yield each role that a rule asks something of, and of how many people."""
    yield from ((need.role, need.count) for need in (*rule.approvals, *(rule.escalate_to or ())))
    for one in rule.obligations:
        role = one.parameters.get("role")
        if isinstance(role, str) and role != EVERYONE:
            yield role, 1
