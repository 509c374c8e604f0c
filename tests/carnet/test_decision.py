import itertools

import pytest
from pydantic import ValidationError

from carnet.decision import Gate, Obligation, Outcome, Reason, strictest
from tests.carnet.samples import AGENT, EU, decision


def test_the_strictest_outcome_wins_in_any_order():
    order = [Outcome.ALLOW, Outcome.HOLD, Outcome.QUARANTINE, Outcome.DENY]

    for count in range(1, 5):
        for some in itertools.permutations(order, count):
            assert strictest(some) is order[max(order.index(one) for one in some)]


def test_nothing_said_is_no_outcome():
    with pytest.raises(ValueError):
        strictest([])


@pytest.mark.parametrize(
    "changes",
    [
        {"destination": None},
        {"consumer": AGENT},
        {"reasons": ()},
        {"not_after": "2026-11-24T11:59:59Z"},
        {"reasons": (Reason(rule="r", outcome=Outcome.DENY, text="t"),) * 65},
        {"trust_version": 0},
        {"recipient_key": "short"},
    ],
)
def test_a_decision_that_explains_or_addresses_nobody_cannot_be_made(changes):
    with pytest.raises(ValidationError):
        decision(**changes)


def test_an_allow_needs_no_reason_and_may_oblige():
    allowed = decision(
        gate=Gate.RELEASE,
        outcome=Outcome.ALLOW,
        reasons=(),
        obligations=(Obligation(kind="approvals", parameters={"role": "export-control", "count": 2}),),
    )

    assert allowed.destination == EU
    assert allowed.to_json()["obligations"] == [{"kind": "approvals", "parameters": {"count": 2, "role": "export-control"}}]


def test_a_consumer_is_decided_upon_without_a_destination():
    assert decision(destination=None, consumer=AGENT).consumer == AGENT
