"""The revocation set: only its own site's, only newer, only for an hour, and only to take away."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from carnet.encoding import canonical
from carnet.envelope import Envelope
from carnet.errors import CarnetError, Held, IntegrityError, NotAuthorised, PeerError
from carnet.identifiers import SpiffeId
from carnet.revocation import RevocationSet, RevocationState, RevokedIdentity, read_sets
from carnet.timestamps import format_time
from tests.carnet.samples import (
    AGENT,
    AT,
    DOMAIN,
    EU,
    NOW,
    SITE_KEYS,
    US,
    agent_statement,
    bundle,
    kem_statement,
    revocation_set,
    signing_key,
)

US_KEY, EU_KEY = SITE_KEYS[US], SITE_KEYS[EU]


def accept(state, content, key=US_KEY, now=NOW):
    return state.accept(content.sign(key), bundle(), now)


def test_a_newer_set_replaces_an_older_one_and_the_same_one_changes_nothing():
    first = accept(RevocationState(), revocation_set(identities=()))
    second = accept(first, revocation_set(number=2))

    assert second.newest(US) == revocation_set(number=2)
    assert accept(second, revocation_set(number=2)) is second


@pytest.mark.parametrize("number", [1, 2])
def test_a_lower_number_or_the_same_with_other_content_is_refused(number):
    state = accept(RevocationState(), revocation_set(number=2))

    with pytest.raises(IntegrityError) as caught:
        accept(state, revocation_set(number=number, identities=()))
    assert caught.value.code == "E-TRUST"


def test_a_set_counts_only_under_the_key_of_the_site_it_names():
    with pytest.raises(IntegrityError) as caught:
        accept(RevocationState(), revocation_set(), key=EU_KEY)

    assert caught.value.code == "E-SIGNATURE"


def test_an_expired_set_and_one_from_the_future_are_held():
    for moment, code in ((NOW + timedelta(hours=1), "E-REVOCATION-EXPIRED"), (NOW - timedelta(minutes=6), "E-CLOCK")):
        with pytest.raises(Held) as caught:
            accept(RevocationState(), revocation_set(), now=moment)
        assert caught.value.code == code


def test_a_missing_or_expired_set_holds_and_a_fresh_one_does_not():
    state = accept(RevocationState(), revocation_set())

    state.require_fresh([US], NOW)
    for sites, moment in (([US, EU], NOW), ([US], NOW + timedelta(hours=1))):
        with pytest.raises(Held) as caught:
            state.require_fresh(sites, moment)
        assert caught.value.code == "E-REVOCATION-EXPIRED"


def test_a_statement_from_before_the_revocation_is_void_and_one_from_after_is_not():
    state = accept(RevocationState(), revocation_set())

    with pytest.raises(NotAuthorised) as caught:
        state.require_agent(agent_statement())
    assert caught.value.code == "E-REVOKED"
    state.require_agent(agent_statement(not_before="2026-11-24T12:00:01Z"))
    state.require_agent(agent_statement(identity=SpiffeId.make(DOMAIN, US, "agent", "build-2")))


def test_a_revoked_key_is_void_under_any_name():
    state = accept(RevocationState(), revocation_set(identities=()))

    other = agent_statement(identity=SpiffeId.make(DOMAIN, US, "agent", "other"), signing_key=signing_key(9).public)
    assert state.reason_against(other) == "retired"


def test_a_revoked_kem_key_is_known_by_its_number_at_its_site():
    state = accept(RevocationState(), revocation_set(site=EU, identities=()), key=EU_KEY)

    assert state.is_kem_revoked(kem_statement())
    assert not state.is_kem_revoked(kem_statement(number=2))


def test_what_an_expired_set_revoked_stays_revoked():
    state = read_sets([revocation_set().sign(US_KEY), revocation_set(number=2).sign(EU_KEY)], bundle())

    assert state.newest(US) == revocation_set()
    assert state.reason_against(agent_statement()) == "key-stolen"


@pytest.mark.parametrize(
    "changes",
    [
        {"expires": "2026-11-24T13:00:01Z"},
        {"expires": AT},
        {"site": EU},
        {
            "identities": (
                RevokedIdentity(identity=AGENT, since=AT, reason="a"),
                RevokedIdentity(identity=AGENT, since=AT, reason="b"),
            )
        },
        {"identities": (RevokedIdentity(identity=SpiffeId.make(DOMAIN, US, "gateway", "us"), since=AT, reason="a"),)},
        {"number": 0},
    ],
)
def test_a_set_that_lives_too_long_or_reaches_too_far_is_no_set(changes):
    with pytest.raises(ValidationError):
        revocation_set(**changes)


@given(st.integers(-7200, 7200), st.integers(1, 9), st.integers(1, 9))
def test_the_number_never_falls_whatever_comes(seconds, first, second):
    now = NOW + timedelta(seconds=seconds)
    times = {"issued": format_time(now), "expires": format_time(now + timedelta(minutes=1))}
    state = accept(RevocationState(), revocation_set(number=first, **times), now=now)
    try:
        after = accept(state, revocation_set(number=second, identities=(), **times), now=now)
    except CarnetError:
        after = state

    assert after.newest(US).number == max(first, second)


@given(st.binary(max_size=200) | st.dictionaries(st.sampled_from(["v", "site", "x"]), st.integers(0, 9)).map(canonical))
def test_any_other_bytes_are_refused(payload):
    with pytest.raises(PeerError):
        RevocationSet.read_unverified(Envelope(RevocationSet.payload_type, payload, ()))


def test_nobody_signs_under_a_key_that_was_taken_back_or_under_any_key_of_a_revoked_person():
    person = RevokedIdentity(identity=SpiffeId.make(DOMAIN, US, "person", "bob"), since=AT, reason="left")
    state = accept(RevocationState(), revocation_set(identities=(person,)))

    assert state.revoked_keys(bundle()) == {signing_key(9).public.keyid, signing_key(52).public.keyid}
    assert RevocationState().revoked_keys(bundle()) == frozenset()
