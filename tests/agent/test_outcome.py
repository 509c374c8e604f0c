"""What a held transfer says: why, who may settle it, and exactly what to run."""

import pytest

from agent.commands.outcome import advice_lines, advised, describe, failure, summarise
from carnet.lack import MissingView
from carnet.messages import Advice, ApprovalsView, DeliveryView, GivenView, NeedView, ReasonView
from carnet.transfer import MACHINES
from tests.carnet.message_samples import advice, transfer_view
from tests.carnet.samples import AT, EU, LATER, TRANSFER, digest

HELD = ReasonView(rule="eu-only", outcome="hold", text="personal data leaves the EU", remedy="ask the officer")
RETRY = f"carnet transfer retry {TRANSFER}"
FINE = {"declared", "receiving", "received", "inspecting", "admitted", "waiting", "sending", "stored", "released", "delivered"}
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
    assert failure(view(state, delivery)).exit_status == 3


def test_what_the_destination_holds_is_looked_at_again_there():
    assert describe(view(delivery="held"))[-1] == f"  then, at eu: {RETRY}"


@pytest.mark.parametrize("delivery", ["delivered", "release-deny", "sending"])
def test_what_is_not_held_has_nothing_to_run(delivery):
    assert not [line for line in describe(view(delivery=delivery)) if RETRY in line]


def test_a_list_has_a_line_for_the_transfer_and_one_for_each_delivery():
    assert len(summarise(view(approvals=ASKED))) == 2


def test_a_hold_that_asks_for_approvals_is_an_error_with_the_command_to_run():
    error = failure(view(approvals=ASKED))

    assert (error.code, error.exit_status) == ("E-APPROVALS", 3)
    assert error.problem.endswith("is held before its key leaves at eu: it needs 1 of security")
    assert f"`carnet approve {TRANSFER} --to eu`" in error.remedy


@pytest.mark.parametrize("state", sorted({one for machine in MACHINES.values() for one in machine}))
def test_every_state_is_a_failure_with_a_known_code_or_on_its_way_or_there(state):
    error = failure(view(state, "delivered"))

    assert (error is None) == (state in FINE)
    assert error is None or error.remedy.endswith("shows more")


def test_of_several_deliveries_the_worst_is_the_failure():
    held, denied = (DeliveryView(destination=EU, state=state, since=AT, reasons=(HELD,)) for state in ("held", "release-deny"))

    assert failure(transfer_view(deliveries=(held, denied))).code == "E-DENIED"
    assert failure(transfer_view(deliveries=(held,))).code == "E-HELD"


@pytest.mark.parametrize(
    ("outcome", "status", "code"), [("hold", 3, "E-HELD"), ("quarantine", 4, "E-QUARANTINED"), ("deny", 4, "E-DENIED")]
)
def test_advice_is_the_failure_that_a_push_would_end_with(outcome, status, code):
    error = advised(Advice(outcome=outcome, reasons=(HELD,)), "app:v1", "eu")

    assert (error.exit_status, error.code, error.remedy) == (status, code, "ask the officer")
    assert error.problem.endswith("on its way to eu: personal data leaves the EU")


def test_advice_that_allows_is_no_failure():
    assert advised(Advice(outcome="allow", reasons=()), "app:v1", "eu") is None


def test_advice_says_what_is_missing_who_supplies_it_with_which_command_and_until_when_it_stands():
    assert advice_lines(advice()) == [
        "  why: personal data leaves the EU (rule eu-only: hold)",
        "  do:  ask the data protection officer",
        "  its key: hold",
        "  need: legal.basis (is one of 'scc', 'adequacy'), by the sender: carnet push ... -d legal-basis=...",
        "  need, for eu: approval by dpo (one person, before the key leaves), by carol: carnet approve TRANSFER --to eu",
        f"  valid until {LATER}",
    ]


def test_advice_that_allows_says_until_when():
    allowed = Advice(outcome="allow", gate="offer", release="allow", prospect="nothing-missing", until=LATER)

    assert advice_lines(allowed) == [f"  valid until {LATER}"]


def test_advice_about_the_key_gives_its_own_reasons():
    later = ReasonView(rule="two-persons", outcome="hold", text="two persons look", remedy="have them approve")
    allowed = Advice(outcome="allow", gate="offer", release="hold", release_reasons=(later,), prospect="listed")

    assert advice_lines(allowed) == [
        "  its key: hold",
        "  why: two persons look (rule two-persons: hold)",
        "  do:  have them approve",
    ]


@pytest.mark.parametrize(("prospect", "said"), [("closed", "nothing that is missing is enough"), ("unknown", "not found out")])
def test_advice_says_where_no_list_would_do(prospect, said):
    [*_, last] = advice_lines(Advice(outcome="hold", reasons=(HELD,), prospect=prospect))

    assert said in last


def test_what_a_site_says_is_missing_cannot_write_to_the_terminal():
    one = MissingView(what="label.\x1b[31m", wanted="is known", who="the sender", gate="offer")

    assert "\x1b" not in "".join(advice_lines(Advice(outcome="hold", prospect="listed", missing=(one,))))
