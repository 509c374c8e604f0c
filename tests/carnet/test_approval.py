"""Approvals: whose word counts for what, whoever asks; and that one request is only ever itself."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.approval import (
    Approval,
    DecisionRequest,
    Verdict,
    check_approval,
    floor_needs,
    missing,
    needs_of,
    signing_time,
    tally,
)
from carnet.decision import Gate, Obligation, Outcome, Reason
from carnet.envelope import sign
from carnet.errors import CarnetError, IntegrityError
from carnet.timestamps import format_time
from carnet.trust import ApprovalFloor, Person, ReleaseFloor
from carnet.waybill import Origin
from tests.carnet.samples import (
    AGENT,
    AT,
    EU,
    NOW,
    US,
    agent_statement,
    bundle,
    decision,
    digest,
    outcome,
    packing_list,
    signing_key,
    waybill,
)

NEEDED = {"security": 1, "export-control": 1}
DURING = NOW + timedelta(minutes=10)
PEOPLE = (
    Person(name="ada", roles=("security", "export-control"), keys=(signing_key(61).public, signing_key(62).public)),
    Person(name="bob", roles=("security",), keys=(signing_key(63).public,)),
    Person(name="carol", roles=("export-control",), keys=(signing_key(64).public,)),
    Person(name="dan", roles=("auditor",), keys=(signing_key(65).public,)),
    Person(name="olga", roles=("security",), keys=(signing_key(66).public,)),
)
KEYS = {"ada": 61, "bob": 63, "carol": 64, "dan": 65, "olga": 66}
TRUSTED = bundle(people=PEOPLE, policy_owners=())


def hold(**changes):
    fields = {
        "gate": Gate.RELEASE,
        "outcome": Outcome.HOLD,
        "packing": packing_list().digest,
        "recipient_key": "ab" * 32,
        "reasons": (Reason(rule="release-floor", outcome=Outcome.HOLD, text="the lane asks for approvals"),),
        "obligations": (Obligation(kind="approvals", parameters=NEEDED),),
        "not_after": "2026-11-25T12:00:00Z",
    }
    return decision(**(fields | changes))


def shipped(**changes):
    return waybill(**({"origin": Origin(site=US, agent=AGENT, initiator="Ines <ines@acme.example>")} | changes))


def request(hold_changes=None, *, owners=("olga@acme.example",), **waybill_changes) -> DecisionRequest:
    bill = shipped(**waybill_changes)
    return DecisionRequest.of(hold(waybill=bill.digest, **(hold_changes or {})), bill, agent_statement(owners=owners))


def approval(person="bob", role="security", *, about=None, key=None, **changes):
    fields = {
        "request": (about or request()).digest,
        "person": person,
        "role": role,
        "verdict": Verdict.APPROVE,
        "at": format_time(DURING),
    }
    return Approval(**(fields | changes)).sign(signing_key(key or KEYS.get(person, 69)))


def check(envelope, *, about=None, now=DURING, revoked=frozenset(), trusted=TRUSTED):
    return outcome(lambda: check_approval(envelope, about or request(), trusted, now=now, revoked=revoked))[1]


def test_two_people_of_two_roles_are_enough():
    found = tally([approval(), approval("carol", "export-control")], request(), TRUSTED, now=DURING)

    assert found.missing(NEEDED) == {}
    assert {one.person for one in found.counted} == {"bob", "carol"}
    assert found.rejection is None


def test_one_person_in_two_roles_counts_once_and_so_does_one_with_two_keys():
    twice = [approval("ada"), approval("ada", "export-control", key=62)]

    assert tally(twice, request(), TRUSTED, now=DURING).missing(NEEDED) in ({"security": 1}, {"export-control": 1})
    assert tally([approval("ada"), approval("ada", key=62)], request(), TRUSTED, now=DURING).missing({"security": 2}) == {
        "security": 1
    }


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (approval(key=64), "E-SIGNATURE"),
        (approval("carol", "export-control", key=63), "E-SIGNATURE"),
        (approval("eve"), "E-NOT-ALLOWED"),
        (approval("bob", "export-control"), "E-NOT-ALLOWED"),
        (approval("dan", "auditor"), "E-NOT-ALLOWED"),
        (approval("olga"), "E-NOT-ALLOWED"),
        (approval(request=digest("another")), "E-APPROVALS"),
        (approval(at="2026-11-24T11:54:59Z"), "E-APPROVALS"),
        (approval(at=format_time(DURING + timedelta(minutes=6))), "E-APPROVALS"),
        (approval(at="2026-11-25T12:00:00Z"), "E-APPROVALS"),
    ],
    ids=[
        "foreign-key", "other-persons-key", "unknown", "role-not-held", "role-not-asked", "owner", "other-request", "before",
        "future", "after",
    ],
)  # fmt: skip
def test_what_is_not_right_does_not_count(envelope, code):
    assert check(envelope) == code
    assert tally([envelope], request(), TRUSTED, now=DURING).counted == ()


def test_the_initiator_approves_nothing_of_it_however_the_waybill_spells_the_name():
    for said in ("bob", "Bob", "bob@acme.example", "Bob B. <BOB@acme.example>", "spiffe://acme.example/site/us/person/bob"):
        asked = request(origin=Origin(site=US, agent=AGENT, initiator=said))

        assert check(approval(about=asked), about=asked) == "E-NOT-ALLOWED"
        assert asked.eligible(TRUSTED)["security"] == ("ada",)


def test_the_author_is_known_by_key_and_by_the_name_of_the_agent():
    asked = DecisionRequest.of(
        hold(waybill=shipped().digest), shipped(), agent_statement(signing_key=signing_key(63).public, owners=())
    )
    assert check(approval(about=asked), about=asked) == "E-NOT-ALLOWED"

    named = bundle(people=(Person(name="build-1", roles=("security",), keys=(signing_key(63).public,)),), policy_owners=())
    assert check(approval("build-1", about=request(), key=63), trusted=named) == "E-NOT-ALLOWED"


def test_who_may_not_approve_may_still_reject():
    said = approval("olga", verdict=Verdict.REJECT, reason="not mine")
    found = tally([said, approval(), approval("carol", "export-control")], request(), TRUSTED, now=DURING)

    assert found.rejection is not None
    assert (found.rejection.person, found.rejection.reason) == ("olga", "not mine")


def test_an_approval_expires_with_its_request():
    last = NOW + timedelta(days=1)

    assert check(approval(), now=last - timedelta(seconds=1)) is None
    assert check(approval(), now=last) == "E-APPROVALS"


def test_a_key_that_was_revoked_or_a_role_that_was_taken_away_counts_no_more():
    assert check(approval(), revoked={signing_key(63).public.keyid}) == "E-SIGNATURE"
    assert check(approval(), trusted=bundle(people=(Person(name="bob", keys=(signing_key(63).public,)),), policy_owners=())) == (
        "E-NOT-ALLOWED"
    )


def test_an_approval_of_another_type_or_with_more_in_it_is_refused():
    whole = approval()
    assert check(sign("application/vnd.carnet.receipt.v1+json", whole.payload, signing_key(63))) == "E-FORMAT"
    assert check(sign(Approval.payload_type, whole.payload[:-1] + b',"x":1}', signing_key(63))) == "E-FORMAT"


CHANGES = {
    "policy": {"policy": digest("p2")},
    "facts": {"facts": digest("f2")},
    "trust version": {"trust_version": 4},
    "recipient key": {"recipient_key": "cd" * 32},
    "packing list": {"packing": digest("other")},
    "gate": {"gate": Gate.OFFER},
    "time": {"at": "2026-11-24T12:00:01Z"},
    "needs": {"obligations": (Obligation(kind="approvals", parameters={"security": 1}),)},
    "reasons": {"reasons": (Reason(rule="other", outcome=Outcome.HOLD, text="why"),)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_makes_another_request(change):
    assert request(change).digest != request().digest
    assert check(approval(), about=request(change)) == "E-APPROVALS"


def test_another_waybill_or_agent_makes_another_request():
    assert request(size=2).digest != request().digest
    assert request(owners=("olga", "x")).digest != request().digest


def test_everybody_builds_the_same_request():
    again = DecisionRequest.model_validate_json(request().encode())

    assert again == request()
    assert again.digest == request().digest


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": Outcome.ALLOW},
        {"outcome": Outcome.DENY},
        {"obligations": ()},
        {"gate": Gate.RECEIPT},
        {"packing": None},
        {"waybill": digest("another")},
        {"not_after": "2026-12-24T12:00:01Z"},
        {"destination": US},
        {"obligations": (Obligation(kind="approvals", parameters={"security": "two"}),)},
        {"obligations": (Obligation(kind="approvals", parameters={"security": 0}),)},
        {"obligations": (Obligation(kind="approvals", parameters={"Security": 1}),)},
    ],
)
def test_a_decision_that_asks_nobody_or_is_of_something_else_makes_no_request(change):
    bill = shipped()
    with pytest.raises(IntegrityError):
        DecisionRequest.of(hold(**({"waybill": bill.digest} | change)), bill, agent_statement())


def test_a_statement_about_another_agent_makes_no_request():
    other = AGENT.replace("build-1", "build-2")
    with pytest.raises(IntegrityError):
        DecisionRequest.of(hold(waybill=shipped().digest), shipped(), agent_statement(identity=type(AGENT)(other)))


def test_a_role_that_stands_twice_in_a_floor_asks_for_the_larger_count():
    floor = ReleaseFloor(approvals=tuple(ApprovalFloor(role="security", count=count) for count in (1, 3, 2)))

    assert floor_needs(floor) == {"security": 3}
    assert needs_of(hold(obligations=(Obligation(kind="retain"),))) == {}


def test_a_clock_that_is_behind_signs_at_the_time_of_the_request():
    assert signing_time(request(), NOW - timedelta(minutes=2)) == AT
    assert signing_time(request(), DURING) == format_time(DURING)


ENVELOPES = {
    (person, role, verdict, key): approval(person, role, verdict=verdict, key=key)
    for person in KEYS
    for role in ("security", "export-control", "auditor")
    for verdict in Verdict
    for key in (*KEYS.values(), 62, 70)
}
given_some = st.lists(st.sampled_from(sorted(ENVELOPES)), max_size=12)
some_needs = st.dictionaries(st.sampled_from(["security", "export-control"]), st.integers(1, 3), min_size=1)


def counts(person, role, key):
    """Tell, by the words of the specification, whether such an approval counts."""
    entry = next(one for one in PEOPLE if one.name == person)
    return signing_key(key).public in entry.keys and role in entry.roles and role in NEEDED and person != "olga"


@given(given_some, some_needs)
def test_needs_are_met_only_by_that_many_different_people_with_valid_words(chosen, needed):
    found = tally([ENVELOPES[one] for one in chosen if one[2] is Verdict.APPROVE], request(), TRUSTED, now=DURING)
    valid = [(person, role) for person, role, verdict, key in chosen if verdict is Verdict.APPROVE and counts(person, role, key)]

    people = [one.person for one in found.counted]
    assert len(people) == len(set(people))
    assert set(people) == {person for person, _ in valid}
    assert {(one.person, one.role) for one in found.counted} <= set(valid)
    for role, count in needed.items():
        distinct = {person for person, given_role in valid if given_role == role}
        assert count - found.missing(needed).get(role, 0) <= len(distinct)
    if not found.missing(needed):
        assert len(set(people)) >= sum(needed.values())


@given(given_some, st.randoms())
def test_neither_order_nor_repetition_matters(chosen, random):
    envelopes = [ENVELOPES[one] for one in chosen]
    shuffled = [*envelopes, *envelopes]
    random.shuffle(shuffled)

    assert set(tally(shuffled, request(), TRUSTED, now=DURING).counted) == set(
        tally(envelopes, request(), TRUSTED, now=DURING).counted
    )


@given(given_some, given_some)
def test_a_valid_rejection_is_never_outvoted(before, after):
    said = [*(ENVELOPES[one] for one in before), approval("bob", verdict=Verdict.REJECT), *(ENVELOPES[one] for one in after)]

    assert tally(said, request(), TRUSTED, now=DURING).rejection is not None


@given(st.binary(max_size=200), st.sampled_from(sorted(KEYS)))
def test_no_bytes_but_an_approval_of_theirs_count(payload, person):
    forged = sign(Approval.payload_type, payload, signing_key(KEYS[person]))

    found = tally([forged], request(), TRUSTED, now=DURING)
    assert found.counted == ()
    assert found.refused


@given(given_some, some_needs)
def test_more_approvals_never_make_more_missing(chosen, needed):
    words = tally([ENVELOPES[one] for one in chosen], request(), TRUSTED, now=DURING).counted
    lacking = [sum(missing(needed, words[:length]).values()) for length in range(len(words) + 1)]

    assert lacking == sorted(lacking, reverse=True)


def test_the_errors_are_of_our_own():
    with pytest.raises(CarnetError):
        check_approval(approval(key=70), request(), TRUSTED, now=DURING)
    assert EU in request().to_json().values()
