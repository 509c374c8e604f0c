"""What doctor says of roles that policy asks and that too few people hold."""

from carnet.policy import combine, parse_policy
from carnet.trust import Person
from gateway.doctor.asked import examine_asked
from tests.carnet.samples import bundle, signing_key

TEXT = """
apiVersion: carnet/policy/v1
metadata: {id: test, version: 1, owner: tests}
rules:
  - id: two
    at: [release]
    effect: hold
    reason: somebody decides
    remedy: they approve
    approvals: [{role: ROLE, count: 2}]
    obligations:
      - {kind: notify, parameters: {role: everyone, within_h: 1}}
      - {kind: review, parameters: {role: AFTER, within_h: 1}}
"""


PEOPLE = tuple(
    Person(name=name, roles=roles, keys=(signing_key(number).public,))
    for number, name, roles in ((51, "ada", ("security", "legal")), (52, "bob", ("security",)))
)


def said(role: str, after: str) -> list[str]:
    policy = combine([parse_policy(TEXT.replace("ROLE", role).replace("AFTER", after), "x.yaml")])
    return [finding.said for finding in examine_asked(policy, bundle(people=PEOPLE))]


def test_roles_that_enough_people_hold_are_no_finding():
    assert said("security", "legal") == []


def test_a_role_that_nobody_holds_or_too_few_is_a_warning_with_its_rule():
    version = bundle().version

    assert said("secuirty", "legal") == [
        f"rule two asks for 2 of the role secuirty, which 0 people of trust bundle {version} hold"
    ]
    assert said("legal", "privacy") == [
        f"rule two asks for 2 of the role legal, which 1 people of trust bundle {version} hold",
        f"rule two asks for 1 of the role privacy, which 0 people of trust bundle {version} hold",
    ]
