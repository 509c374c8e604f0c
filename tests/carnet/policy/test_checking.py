import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.errors import CallerError
from carnet.policy import check_policy, parse_policy
from tests.carnet.policy.policies import ALLOW_ALL, HEAD, rule, source


def said(*rules: str) -> list[str]:
    return [str(finding) for finding in check_policy(source(*rules))]


def test_a_sound_policy_has_no_findings():
    assert (
        said(
            rule("when: {artifact.kind: [image, index], label.team: {glob: 'core-*'}}"),
            rule("id: d, effect: deny, when: {purpose: test}"),
        )
        == []
    )


def test_an_unknown_fact_is_an_error_with_its_line():
    text = HEAD + "rules:\n  - id: r1\n    at: [offer]\n    effect: allow\n    reason: x\n"
    text += "    when:\n      artifact.kind: image\n      artifact.sise: 5\n"

    assert [str(finding) for finding in check_policy(text)] == ["line 10: error: rule r1: no fact is called 'artifact.sise'"]


@pytest.mark.parametrize(
    "condition",
    [
        "artifact.size: big",
        "artifact.kind: {min: 3}",
        "lane.crosses_border: 'yes'",
        "artifact.kind: [image, 5]",
        "artifact.size: true",
    ],
)
def test_a_question_that_the_facts_type_cannot_answer_is_an_error(condition):
    (finding,) = said(rule(f"when: {{{condition}}}"))

    assert "cannot be asked of it" in finding


@pytest.mark.parametrize(
    "text",
    [
        "effect: permit",
        "at: [offer, departure]",
        "unless: [{}]",
        "unless: []",
        "unless: [{artifact.kind: image}, {}]",
        "when: {destination.jurisdiction: {group: ours}}",
        "when: {purpose: {assurance: sure}}",
        "at: []",
        "when: {a: {mini: 3}}",
        "when: {artifact.size: {min: 2, max: 1}}",
        "id: UPPER",
        "id: no-permit",
        "effect: deny, remedy: ''",
        "approvals: [{role: legal}]",
        "effect: quarantine, at: [release]",
        "surprise: 1",
        "when: {artifact.kind: []}",
        "effect: hold, approvals: [{role: legal, count: 0}]",
        "obligations: [{kind: approvals, parameters: {legal: 1}}]",
        "hold_hours: 24",
        "effect: deny, on_expiry: deny",
        "effect: hold, hold_hours: 0",
        "effect: hold, hold_hours: 8761",
        "effect: hold, hold_hours: '24'",
        "effect: hold, on_expiry: deny",
        "effect: hold, hold_hours: 24, on_expiry: allow",
        "effect: hold, hold_hours: 24, approvals: [{role: legal}], on_expiry: escalate",
        "effect: hold, hold_hours: 24, approvals: [{role: legal}], escalate_to: [{role: director}]",
        "effect: hold, hold_hours: 24, approvals: [{role: legal}], on_expiry: deny, escalate_to: [{role: director}]",
        "effect: hold, hold_hours: 24, on_expiry: escalate, escalate_to: [{role: director}]",
        "effect: hold, hold_hours: 24, approvals: [{role: legal}], on_expiry: escalate, escalate_to: []",
        "effect: hold, approvals: [{role: legal}], on_expiry: escalate, escalate_to: [{role: director}]",
    ],
)
def test_a_rule_of_another_shape_is_an_error(text):
    (finding, *_) = said(rule(text))

    assert finding.startswith("line 4: error: rules.0")


def test_a_policy_without_rules_is_an_error():
    assert "allows nothing" in str(check_policy(HEAD + "rules: []")[0])


def test_a_rule_that_does_not_allow_needs_a_remedy():
    (finding,) = said("{id: d, at: [offer], effect: deny, reason: x}")

    assert "has a remedy" in finding


def test_a_repeated_id_names_both_lines():
    assert said(rule(""), rule("effect: deny"))[0].startswith("line 5: error: rule id r1 stands twice, first in line 4")


def test_a_gate_at_which_nothing_allows_is_a_warning():
    assert said(rule(""), rule("id: d, at: [receipt], effect: deny, when: {purpose: x}")) == [
        "line 3: warning: no rule of this file allows at receipt"
    ]


def test_approvals_at_receipt_are_a_warning():
    text = "at: [offer, receipt], effect: hold, approvals: [{role: legal}]"

    assert "line 5: warning: rule r1 names approvals at receipt, where nobody is asked: the hold waits" in said(
        ALLOW_ALL, rule(text)
    )


TURNS = "effect: hold, approvals: [{role: legal, count: 2}, {role: cfo}], hold_hours: 24, on_expiry: escalate"


def test_what_is_wrong_with_the_hours_of_a_hold_is_said():
    (finding,) = said(ALLOW_ALL, rule("effect: hold, on_expiry: deny"))

    assert finding == "line 5: error: rules.1: on_expiry is for a hold that ends: say after how many hours in hold_hours"


@pytest.mark.parametrize("text", ["effect: hold, hold_hours: 72", f"{TURNS}, escalate_to: [{{role: director}}]"])
def test_hours_of_a_hold_are_sound(text):
    assert said(ALLOW_ALL, rule(text)) == []


def test_hours_where_they_are_not_counted_are_a_warning():
    assert said(ALLOW_ALL, rule("at: [offer, receipt], effect: hold, hold_hours: 72")) == [
        "line 5: warning: rule r1 gives hold_hours at receipt, where they are not counted"
    ]


@pytest.mark.parametrize("others", ["{role: legal, count: 2}", "{role: legal}, {role: cfo}"])
def test_to_escalate_to_nobody_who_is_not_asked_before_is_a_warning(others):
    assert said(ALLOW_ALL, rule(f"{TURNS}, escalate_to: [{others}]")) == [
        "line 5: warning: rule r1 escalates to nobody whom it does not ask before: name another role, or more people of one"
    ]


def test_to_escalate_to_more_people_of_a_role_is_sound():
    assert said(ALLOW_ALL, rule(f"{TURNS}, escalate_to: [{{role: legal, count: 3}}]")) == []


def test_a_rule_below_a_denial_that_always_applies_is_a_warning():
    assert said(rule("when: {artifact.kind: patch, purpose: x}"), rule("id: d, effect: deny, when: {purpose: x}")) == [
        "line 4: warning: rule r1 has no effect: d denies whenever it applies"
    ]


def test_an_exempted_denial_shadows_nothing():
    assert said(rule(""), rule("id: d, effect: deny, unless: {purpose: x}")) == []


def test_saying_it_twice_is_a_warning():
    assert said(ALLOW_ALL, rule("id: again")) == ["line 5: warning: rule again says again at offer what all says"]


def test_a_rule_that_exempts_all_it_asks_for_is_a_warning():
    assert said(rule("when: {purpose: x}, unless: {purpose: x}")) == [
        "line 4: warning: rule r1 never applies: what `unless` exempts is part of `when`"
    ]


def test_parsing_raises_the_first_error_with_file_and_line():
    with pytest.raises(CallerError) as caught:
        parse_policy(source(rule("when: {a: 1, b: 2}")), "border.yaml")

    assert caught.value.problem == "border.yaml: line 4: error: rule r1: no fact is called 'a' (and 1 more)"
    assert caught.value.exit_status == 2


def test_warnings_do_not_stop_a_policy():
    assert parse_policy(source(rule("id: d, effect: deny")), "x.yaml").metadata.id == "test"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["{", "}", "[", "]", ":", ",", "\n", " ", "- ", "rules", "when", "id", "at", "offer", "1", "'"]),
        max_size=40,
    )
)
def test_any_text_whatever_can_be_checked(pieces):
    findings = check_policy(HEAD + "".join(pieces))

    assert all(finding.line >= 1 and finding.text for finding in findings)
    assert findings
