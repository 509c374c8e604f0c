import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.errors import CallerError
from carnet.policy import Groups, check_policy, parse_groups, parse_policy
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

    assert finding.startswith("line 4: error: rule ")


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

    assert finding == "line 5: error: rule r1: on_expiry is for a hold that ends: say after how many hours in hold_hours"


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


CODES = parse_groups(
    "apiVersion: carnet/groups/v1\nid: codes\nsource: a book\nreviewed_by: me\nreviewed_on: 2026-01-01\n"
    "effective_from: 2026-01-01\neffective_until: 2026-12-31\ncodes: [GB, DE, US]\n",
    "codes.yaml",
)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (
            "destination.jurisdiction: UK",
            "destination.jurisdiction is never 'UK': no file of groups knows it as an ISO 3166 code",
        ),
        ("destination.jurisdiction: [GB, Germany]", "destination.jurisdiction is never 'Germany'"),
        ("parties.countries: [QQ]", "parties.countries is never 'QQ'"),
        ("artifact.kind: imgae", "artifact.kind is never 'imgae': it is one of image, index"),
        ("lane.mode: {assurance: derived, value: seeled}", "lane.mode is never 'seeled': it is one of inspected, sealed"),
        ("recipient.kind: robot", "recipient.kind is never 'robot': it is one of gateway, agent, person"),
    ],
)
def test_a_rule_that_would_quietly_never_apply_is_an_error(condition, words):
    (finding,) = check_policy(source(ALLOW_ALL, rule(f"id: d, effect: deny, when: {{{condition}}}")), Groups([CODES]))

    assert finding.is_error
    assert words in finding.text


@pytest.mark.parametrize("value", ["GB", "US-CA", "[DE, GB]", "{glob: 'US-*'}", "{present: true}"])
def test_codes_that_a_file_knows_and_their_parts_may_be_asked_for(value):
    text = source(ALLOW_ALL, rule(f"id: d, effect: deny, when: {{destination.jurisdiction: {value}}}"))

    assert check_policy(text, Groups([CODES])) == []


@pytest.mark.parametrize(
    ("conditions", "is_doubted"),
    [
        ("when: {purpose: x}", True),
        ("when: {recipient.kind: [gateway, agent]}", True),
        ("unless: {recipient.kind: agent}", True),
        ("unless: {recipient.kind: [agent, person], purpose: x}", True),
        ("when: {recipient.kind: gateway}", False),
        ("unless: {recipient.kind: [agent, person]}", False),
        ("at: [offer], when: {purpose: x}", False),
    ],
)
def test_approvals_for_which_nobody_who_pulls_can_ask_are_a_doubt(conditions, is_doubted):
    at = "" if "at:" in conditions else "at: [release], "
    found = said(ALLOW_ALL, rule(f"id: two, {at}{conditions}, effect: hold, remedy: ask, approvals: [{{role: legal}}]"))

    assert ["holds pulls too, for which nobody is asked" in one for one in found] == [True] * is_doubted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wehn: {purpose: x}", "line 4: error: rule r1: wehn is not known here; is when meant?"),
        ("xyzzy: 1", "line 4: error: rule r1: xyzzy is not known here"),
        ("effect: dney", "line 4: error: rule r1: effect must be one of 'allow', 'hold', 'quarantine', 'deny'"),
        ("when: {lane: {globb: x}}", "line 4: error: rule r1: when.lane.globb is not known here; is glob meant?"),
        ("at: offer", "line 4: error: rule r1: at must be a list"),
        ("reason: [1]", "line 4: error: rule r1: reason must be text"),
        ("hold_hours: 0, effect: hold", "line 4: error: rule r1: hold_hours must be at least 1"),
        ("when: {artifact.size: {min: 2, max: 1}}", "line 4: error: rule r1: when.artifact.size: min is above max"),
        ("id: Upper", "line 4: error: rule Upper: id must be a word of lower-case letters"),
        ("id: 5", "line 4: error: rule number 1: id must be text"),
    ],
)
def test_a_mistake_of_form_is_told_in_the_authors_words_by_the_rules_id(text, words):
    (finding, *_) = said(rule(text))

    assert finding.startswith(words)


def test_a_misspelt_member_is_told_once_and_not_as_a_missing_one_too():
    text = HEAD + "rules:\n  - id: r1\n    att: [offer]\n    effect: allow\n    reason: x\n"

    assert [one.text for one in check_policy(text)] == ["rule r1: att is not known here; is at meant?"]
