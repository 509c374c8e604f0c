"""Cases say what a policy must decide, and are themselves tested: a rule that nobody would miss is a failure."""

import pytest

from carnet.decision import Outcome
from carnet.errors import CallerError
from carnet.policy.cases import explain_case, parse_cases, questions, run_cases
from carnet.policy.difference import changed_outcomes, changed_rules
from tests.carnet.policy.policies import ALLOW_ALL, policy, rule

DENY = rule("id: no-patches, effect: deny, when: {artifact.kind: patch}")
ALLOW = ALLOW_ALL.replace("[offer, release, receipt]", "[offer]")
CASES = """
apiVersion: carnet/cases/v1
facts: {artifact.kind: image}
cases:
  - {name: an image passes, at: offer, outcome: allow, by: [all]}
  - {name: a patch is refused, at: offer, facts: {artifact.kind: patch}, outcome: deny, by: [no-patches]}
  - {name: a bundle passes, at: offer, facts: {artifact.kind: bundle}, outcome: allow}
  - {name: an index passes, at: offer, facts: {artifact.kind: index}, outcome: allow}
"""


def report(text: str, *rules: str):
    return run_cases(policy(*rules or (DENY, ALLOW)), questions(parse_cases(text, "x.cases.yaml")))


def test_cases_that_pass_and_would_notice_are_good():
    found = report(CASES)

    assert (found.rules, found.cases, found.passed, found.is_good) == (2, 4, 4, True)


def test_a_case_that_comes_out_otherwise_is_named_with_what_decided():
    found = report(CASES.replace("outcome: deny", "outcome: hold"))

    assert found.passed == 3
    assert "case 'a patch is refused': deny by no-patches, not hold" in found.problems


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("by: [no-patches]", "by: [all]"), "deny, but not by all"),
        (("by: [all]", "by: [all], approvals: {legal: 1}"), "approvals asked for are none, not {'legal': 1}"),
        (("by: [all]", "by: [all], obligations: [retain]"), "no obligation retain"),
    ],
)
def test_rules_approvals_and_obligations_may_be_asked_for_too(change, problem):
    assert any(problem in one for one in report(CASES.replace(*change)).problems)


def test_a_rule_that_could_say_the_opposite_unnoticed_is_a_failure():
    spare = rule("id: spare, effect: deny, when: {artifact.kind: patch, purpose: test}")
    text = CASES.replace("facts: {artifact.kind: image}", "facts: {artifact.kind: image, purpose: deploy}") + (
        "  - {name: a document passes, at: offer, facts: {artifact.kind: file}, outcome: allow}\n"
        "  - {name: a test is refused, at: offer, facts: {artifact.kind: patch, purpose: test}, outcome: deny}\n"
    )

    assert report(text, DENY, ALLOW, spare).problems == ("rule spare: no case fails if it says allow instead of deny",)


def test_a_rule_is_asked_twice_applies_once_and_does_not_once():
    release = rule("id: later, at: [release], effect: deny, when: {artifact.kind: patch}")
    never = rule("id: never, effect: deny, when: {artifact.kind: directory}")
    always = rule("id: always, effect: hold, when: {artifact.kind: {present: true}}")

    problems = report(CASES, DENY, ALLOW, release, never, always).problems

    assert "rule later: 0 cases ask it, 2 are the least" in problems
    assert "rule never: it applies in no case" in problems
    assert "rule always: it applies in every case that asks it" in problems


def test_two_cases_a_rule_are_the_least():
    fewer = CASES[: CASES.index("  - {name: a bundle passes")]

    assert report(fewer).problems == ("2 cases for 2 rules: the least are 4, write 2 more",)


def test_a_fact_is_declared_unless_the_case_says_better():
    asks = rule("id: sure, when: {content.personal_data: {assurance: derived, value: none}}")
    text = """
apiVersion: carnet/cases/v1
facts: {content.personal_data: none}
cases:
  - {name: the sender says so, at: offer, outcome: deny}
  - {name: this site found it, at: offer, assurance: {content.personal_data: derived}, outcome: allow}
  - name: it found something
    at: offer
    facts: {content.personal_data: e-mail}
    assurance: {content.personal_data: verified}
    outcome: deny
"""

    assert report(text, asks).is_good


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("artifact.kind: image", "artifact.kinds: image"), "case 'an image passes': no fact is called 'artifact.kinds'"),
        (
            ("artifact.kind: image", "artifact.kind: 5"),
            "case 'an image passes': the fact artifact.kind is a text, and not an integer",
        ),
        (("by: [all]", "without: [purpose]"), "case 'an image passes' speaks of a fact that it does not have: purpose"),
        (("by: [all]", "assurance: {purpose: derived}"), "speaks of a fact that it does not have: purpose"),
        (("a patch is refused", "an image passes"), "two cases have one name"),
        (("outcome: allow", "outcome: maybe"), "x.cases.yaml: line 5: case an image passes: outcome must be one of"),
        (("cases:", "case:"), "x.cases.yaml: line"),
        (("at: offer", "at: border"), "case an image passes: at must be one of"),
    ],
)
def test_a_mistake_in_a_file_of_cases_is_named(change, problem):
    with pytest.raises(CallerError, match=problem):
        questions(parse_cases(CASES.replace(*change), "x.cases.yaml"))


def test_a_case_is_explained_by_every_rule():
    _, refused, *_ = questions(parse_cases(CASES, "x.cases.yaml"))

    said = "\n".join(explain_case(policy(DENY, ALLOW), refused))

    assert said.startswith("deny at offer by policy sha256:")
    assert "no-patches (deny): because" in said
    assert "all (allow): tests" in said


def test_two_policies_differ_by_rules_and_by_what_comes_of_cases():
    before, after = policy(DENY, ALLOW), policy(DENY.replace("because", "why not").replace("deny", "hold"), rule("id: new"))
    asked = questions(parse_cases(CASES, "x.cases.yaml"))

    assert list(changed_rules(before, after)) == [
        "- rule all: allow at offer is gone",
        "+ rule new: allow at offer is new",
        '~ rule no-patches: effect from "deny" to "hold"; reason from "because" to "why not"',
    ]
    assert list(changed_outcomes(before, after, asked)) == [
        "case 'an image passes' at offer: allow by all, then allow by new",
        "case 'a patch is refused' at offer: deny by no-patches, then hold by no-patches",
        "case 'a bundle passes' at offer: allow by all, then allow by new",
        "case 'an index passes' at offer: allow by all, then allow by new",
    ]
    assert list(changed_rules(before, before)) == list(changed_outcomes(before, before, asked)) == []
    assert asked[0].decide(before).outcome is Outcome.ALLOW
