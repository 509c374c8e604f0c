"""The time of a hold: denied or escalated by the hours alone, and never looser for them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.approval import APPROVALS
from carnet.decision import Gate, Outcome
from carnet.policy import combine, evaluate, parse_policy
from carnet.policy.explanation import lines, obligations
from carnet.policy.holding import HoldTime, hold_time
from carnet.policy.rules import ApprovalNeed, HoldEnd
from tests.carnet.policy.policies import ALLOW_ALL, facts, policy, rule, source

BEGUN = datetime(2026, 12, 1, 8, 0, 0, 654321, tzinfo=UTC)
WHOLE = BEGUN.replace(microsecond=0)
OTHERS = (ApprovalNeed(role="director"),)
DENIES = HoldEnd("denies", 72)
ESCALATES = HoldEnd("escalates", 24, OTHERS)


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


def test_a_hold_without_hours_never_ends_by_them():
    assert hold_time([], BEGUN, BEGUN + hours(10_000)) == HoldTime()


def test_a_hold_waits_until_its_hours_are_over_to_the_second_and_is_denied_then():
    almost = hold_time([DENIES], BEGUN, WHOLE + hours(72) - timedelta(microseconds=1))
    over = hold_time([DENIES], BEGUN, WHOLE + hours(72))

    assert (almost.over, almost.is_due, almost.next) == (None, False, WHOLE + hours(72))
    assert (over.over, over.is_due, over.next) == (DENIES, True, None)


def test_a_hold_that_escalates_asks_others_for_as_many_hours_again_and_is_denied_then():
    waits, escalated = (hold_time([ESCALATES], BEGUN, WHOLE + hours(count)) for count in (23, 24))
    over = hold_time([ESCALATES], BEGUN, WHOLE + hours(48))

    assert (waits.escalated, waits.next) == ((), WHOLE + hours(24))
    assert (escalated.escalated, escalated.over, escalated.next) == (((WHOLE + hours(24), ESCALATES),), None, WHOLE + hours(48))
    assert over.over == ESCALATES


def test_of_several_rules_the_first_denial_ends_the_hold_though_another_has_just_escalated():
    short = HoldEnd("short", 30)
    times = [hold_time([ESCALATES, short, DENIES], BEGUN, WHOLE + hours(count)) for count in (24, 30)]

    assert (times[0].over, times[0].next) == (None, WHOLE + hours(30))
    assert times[1].over == short


_ENDS = st.lists(
    st.builds(
        HoldEnd, st.sampled_from(["a", "b", "c"]), st.integers(min_value=1, max_value=50), st.sampled_from([(), OTHERS])
    ),
    max_size=4,
)  # fmt: skip


@settings(max_examples=300)
@given(_ENDS, _ENDS, st.integers(min_value=0, max_value=400_000), st.integers(min_value=0, max_value=400_000))
def test_time_and_rules_that_are_added_only_make_a_hold_stricter(ends, more, first, later):
    now = BEGUN + timedelta(seconds=first)
    before, after = hold_time(ends, BEGUN, now), hold_time(ends, BEGUN, now + timedelta(seconds=later))

    assert before.over is None or after.over is not None
    assert after.over is not None or set(before.escalated) <= set(after.escalated)
    if before.next is not None:
        assert before.next > now
        assert hold_time(ends, BEGUN, before.next) != before
    if before.over is not None:
        assert hold_time([*ends, *more], BEGUN, now).over is not None


_PARTS = st.lists(
    st.tuples(
        st.sampled_from(["", "when: {purpose: x}", "when: {artifact.kind: image}"]),
        st.integers(min_value=1, max_value=9),
        st.integers(min_value=1, max_value=50),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150)
@given(_PARTS, st.sampled_from([{}, {"purpose": "x"}, {"purpose": "y", "artifact__kind": "image"}]), st.integers(0, 200))
def test_hours_never_make_a_decision_less_strict(parts, known, waited):
    def written(*, ends: bool) -> list[str]:
        texts = []
        for number, (when, count, limit, escalates) in enumerate(parts):
            more = f"hold_hours: {limit}" if ends else ""
            more += ", on_expiry: escalate, escalate_to: [{role: director}]" if ends and escalates else ""
            fields = [f"id: h{number}", "effect: hold", when, f"approvals: [{{role: security, count: {count}}}]", more]
            texts.append(rule(", ".join(one for one in fields if one)))
        return texts

    bare = evaluate(policy(ALLOW_ALL, *written(ends=False)), Gate.OFFER, facts(**known))
    timed = evaluate(policy(ALLOW_ALL, *written(ends=True)), Gate.OFFER, facts(**known))
    time = hold_time(timed.ends, BEGUN, BEGUN + hours(waited))
    asked = timed.escalated({end.rule for _, end in time.escalated}).asked

    assert (timed.outcome, timed.approvals, timed.is_satisfiable) == (bare.outcome, bare.approvals, bare.is_satisfiable)
    assert bare.ends == ()
    assert bool(timed.ends) <= (timed.outcome is Outcome.HOLD)
    assert bool(asked) == bool(bare.approvals)
    if not time.escalated:
        assert asked == bare.approvals


HOLD = "id: h, effect: hold, approvals: [{role: security, count: 2}], hold_hours: 24"
TURNS = f"{HOLD}, on_expiry: escalate, escalate_to: [{{role: director}}]"


def test_a_decision_tells_the_shortest_hours_of_the_rules_that_hold():
    other = rule("id: i, effect: hold, approvals: [{role: legal}], hold_hours: 9")
    absent = rule("id: j, effect: hold, when: {purpose: x}, hold_hours: 1")
    unsettled = rule("id: k, effect: hold, when: {artifact.kind: image}, hold_hours: 1")
    decision = evaluate(policy(ALLOW_ALL, rule(HOLD), other, absent, unsettled), Gate.OFFER, facts(purpose="y"))

    assert (decision.hold_hours, [end.rule for end in decision.ends]) == (9, ["i", "h"])
    assert evaluate(policy(ALLOW_ALL, rule("effect: deny"), rule(HOLD)), Gate.OFFER, {}).hold_hours is None


def test_an_escalated_decision_asks_others_instead_and_rules_that_did_not_escalate_ask_on():
    legal = rule("id: i, effect: hold, approvals: [{role: legal}]")
    decision = evaluate(policy(ALLOW_ALL, rule(TURNS), legal), Gate.OFFER, {})
    escalated = decision.escalated({"h"})

    assert [(one.role, one.count) for one in decision.asked] == [("legal", 1), ("security", 2)]
    assert [(one.role, one.count) for one in escalated.asked] == [("director", 1), ("legal", 1)]
    (said,) = obligations(escalated, {"security": 1})
    assert (said.kind, said.parameters) == (APPROVALS, {"director": 1, "legal": 1, "security": 1})
    assert lines(escalated) == lines(decision)


def test_an_explanation_says_what_follows_when_nobody_satisfies_a_hold():
    said = "\n".join(lines(evaluate(policy(ALLOW_ALL, rule(TURNS)), Gate.OFFER, {})))

    assert "after 24 hours of waiting rule h asks 1 of director instead, and after 48 it denies it" in said
    assert "after 24 hours of waiting rule h denies it" in "\n".join(
        lines(evaluate(policy(ALLOW_ALL, rule(HOLD)), Gate.OFFER, {}))
    )


def test_a_policy_that_gives_no_hours_is_named_as_it_was_before_there_were_any():
    text = source(rule("effect: hold, approvals: [{role: security}]"), ALLOW_ALL)

    assert str(combine([parse_policy(text, "x.yaml")]).digest) == DIGEST


DIGEST = "sha256:61cc3e313b04b1ba3d6f907ff0a590e81099fa96bc354ec2c04a1bfc4286b752"


@pytest.mark.parametrize("said", ["", ", on_expiry: deny"])
def test_a_denial_is_what_follows_whether_it_is_said_or_not(said):
    plain, spoken = (policy(rule(text), ALLOW_ALL) for text in (HOLD, HOLD + said))

    assert spoken.digest == plain.digest
    assert spoken.digest != policy(rule(TURNS), ALLOW_ALL).digest
