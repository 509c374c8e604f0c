"""What a held transfer says: why, who may settle it, and exactly what to run."""

import pytest

from agent.commands.outcome import describe, exit_status, summarise
from carnet.messages import ApprovalsView, DeliveryView, GivenView, NeedView, ReasonView
from tests.carnet.message_samples import transfer_view
from tests.carnet.samples import AT, EU, LATER, TRANSFER, digest

HELD = ReasonView(rule="eu-only", outcome="hold", text="personal data leaves the EU", remedy="ask the officer")
RETRY = f"carnet transfer retry {TRANSFER}"
ASKED = ApprovalsView(
    request=digest("request"),
    gate="release",
    until=LATER,
    needed=(NeedView(role="legal", count=1, given=1), NeedView(role="security", count=2, given=1, people=("bob", "dora"))),
    given=(GivenView(person="carol", role="legal", verdict="approve", at=AT),),
)


def view(state="admitted", delivery="release-hold", approvals=None):
    one = DeliveryView(destination=EU, state=delivery, since=AT, reasons=(HELD,), approvals=approvals)
    return transfer_view(state=state, deliveries=(one,), reasons=(HELD,))


def test_a_hold_that_asks_for_approvals_names_who_and_the_command():
    said = describe(view(approvals=ASKED))

    assert f"     until {LATER}: carnet approve {TRANSFER} --to eu  (or reject)" in said
    assert f"     approve by carol (legal) at {AT}" in said
    assert "     needs 1 of security: bob, dora" in said
    assert not [line for line in said if "legal:" in line or RETRY in line]


@pytest.mark.parametrize(
    ("state", "delivery"), [("admitted", "release-hold"), ("admitted", "offer-hold"), ("held", "offer-hold")]
)
def test_any_other_hold_says_why_what_to_do_and_how_to_look_again(state, delivery):
    said = describe(view(state, delivery))

    assert said[-3:] == [
        "  why: personal data leaves the EU (rule eu-only: hold)",
        "  do:  ask the officer",
        f"  then: {RETRY}",
    ]
    assert exit_status(view(state, delivery)) == 3


def test_what_the_destination_holds_is_looked_at_again_there():
    assert describe(view(delivery="held"))[-1] == f"  then, at eu: {RETRY}"


@pytest.mark.parametrize("delivery", ["delivered", "release-deny", "sending"])
def test_what_is_not_held_has_nothing_to_run(delivery):
    assert not [line for line in describe(view(delivery=delivery)) if RETRY in line]


def test_a_list_has_a_line_for_the_transfer_and_one_for_each_delivery():
    assert len(summarise(view(approvals=ASKED))) == 2
