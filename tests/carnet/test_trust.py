from datetime import timedelta

import pytest
from pydantic import ValidationError

from carnet.encoding import parse_json
from carnet.errors import CarnetError, Held, IntegrityError, NotFound, PeerError
from carnet.identifiers import LaneName, SiteName, SpiffeId
from carnet.statement import parse_model
from carnet.timestamps import parse_time
from carnet.trust import (
    ApprovalFloor,
    LaneMode,
    Person,
    ReleaseFloor,
    Roots,
    Route,
    SiteCard,
    TrustedState,
    Witness,
    home_lane,
    newest_kem,
    open_agent_statement,
    open_kem_statement,
    root_fingerprint,
)
from tests.carnet.samples import (
    DOMAIN,
    EU,
    LATER,
    NOW,
    ROOT_KEYS,
    SITE_KEYS,
    US,
    agent_statement,
    bundle,
    kem_statement,
    lane,
    signing_key,
    site,
)


def signed(statement, keys=ROOT_KEYS[:2]):
    envelope = statement.sign(keys[0])
    for key in keys[1:]:
        envelope = envelope.with_signature(key)
    return envelope


def fresh_state(**changes):
    first = bundle(**changes)
    return TrustedState(pinned=root_fingerprint(first.roots)).accept(signed(first), NOW)


def refusal(state, envelope, now=NOW):
    with pytest.raises(CarnetError) as caught:
        state.accept(envelope, now)
    return type(caught.value), caught.value.code


# The first bundle


def test_the_first_bundle_is_accepted_under_the_pinned_roots():
    assert fresh_state().current == bundle()


def test_a_first_bundle_of_other_roots_is_refused_although_they_signed_it():
    others = (signing_key(211), signing_key(212))
    forged = bundle(roots=Roots(keys=tuple(key.public for key in others), threshold=2))
    state = TrustedState(pinned=root_fingerprint(bundle().roots))

    assert refusal(state, signed(forged, others)) == (IntegrityError, "E-TRUST")


def test_a_first_bundle_with_a_lowered_threshold_is_not_the_pinned_one():
    state = TrustedState(pinned=root_fingerprint(bundle().roots))
    lowered = bundle(roots=Roots(keys=bundle().roots.keys, threshold=1))

    assert refusal(state, signed(lowered, ROOT_KEYS[:1])) == (IntegrityError, "E-TRUST")


def test_a_first_bundle_below_its_own_threshold_is_refused():
    state = TrustedState(pinned=root_fingerprint(bundle().roots))

    assert refusal(state, signed(bundle(), ROOT_KEYS[:1])) == (IntegrityError, "E-SIGNATURE")
    assert refusal(state, signed(bundle(), (ROOT_KEYS[0], signing_key(9)))) == (IntegrityError, "E-SIGNATURE")


# Later bundles


def test_a_newer_bundle_replaces_the_current_one_and_gaps_are_allowed():
    newer = bundle(version=9, lanes=())

    assert fresh_state().accept(signed(newer), NOW).current == newer


def test_a_newer_bundle_not_signed_by_the_current_roots_is_refused():
    others = (signing_key(211), signing_key(212))
    takeover = bundle(version=4, roots=Roots(keys=tuple(key.public for key in others), threshold=2))

    assert refusal(fresh_state(), signed(takeover, others)) == (IntegrityError, "E-SIGNATURE")


def test_roots_are_replaced_only_with_the_signatures_of_both():
    new_keys = (signing_key(211), signing_key(212))
    rotated = bundle(version=4, roots=Roots(keys=tuple(key.public for key in new_keys), threshold=2))

    assert refusal(fresh_state(), signed(rotated, ROOT_KEYS[:2])) == (IntegrityError, "E-SIGNATURE")
    state = fresh_state().accept(signed(rotated, (*ROOT_KEYS[:2], *new_keys)), NOW)
    assert refusal(state, signed(bundle(version=5), ROOT_KEYS[:2])) == (IntegrityError, "E-SIGNATURE")
    assert state.accept(signed(rotated.model_copy(update={"version": 5}), new_keys), NOW).current.version == 5


def test_an_older_bundle_is_a_rollback():
    state = fresh_state(version=7)

    assert refusal(state, signed(bundle(version=6))) == (IntegrityError, "E-TRUST")
    assert state.current.version == 7


def test_one_version_has_one_content():
    state = fresh_state()

    assert state.accept(signed(bundle(), ROOT_KEYS[1:]), NOW) is state
    assert refusal(state, signed(bundle(lanes=()))) == (IntegrityError, "E-TRUST")


def test_the_trust_domain_never_changes():
    assert refusal(fresh_state(), signed(bundle(version=4, trust_domain="other.example"))) == (IntegrityError, "E-TRUST")


def test_an_expired_bundle_is_not_accepted():
    state = TrustedState(pinned=root_fingerprint(bundle().roots))

    assert refusal(state, signed(bundle()), parse_time(LATER)) == (Held, "E-TRUST-EXPIRED")
    assert state.accept(signed(bundle()), parse_time(LATER) - timedelta(seconds=1)).bundle is not None


def test_an_expired_current_bundle_still_accepts_its_successor():
    late = parse_time(LATER) + timedelta(days=1)
    successor = bundle(version=4, expires="2027-12-24T12:00:00Z")

    state = fresh_state()
    with pytest.raises(Held) as caught:
        state.check_fresh(late)
    assert caught.value.code == "E-TRUST-EXPIRED"
    assert state.accept(signed(successor), late).fresh(late) == successor


def test_what_is_no_bundle_is_refused():
    assert refusal(fresh_state(), kem_statement().sign(ROOT_KEYS[0])) == (PeerError, "E-FORMAT")


def test_before_a_bundle_there_is_nothing_to_trust():
    with pytest.raises(IntegrityError) as caught:
        TrustedState(pinned=root_fingerprint(bundle().roots)).check_fresh(NOW)

    assert caught.value.code == "E-TRUST"


def test_the_fingerprint_does_not_depend_on_the_order_of_keys_but_on_the_threshold():
    keys = bundle().roots.keys

    assert root_fingerprint(Roots(keys=keys, threshold=2)) == root_fingerprint(Roots(keys=keys[::-1], threshold=2))
    assert root_fingerprint(Roots(keys=keys, threshold=2)) != root_fingerprint(Roots(keys=keys, threshold=1))


# Content


@pytest.mark.parametrize(
    "changes",
    [
        {"sites": (site(US), site(US))},
        {"sites": (site(US), site(EU, signing_key=SITE_KEYS[US].public))},
        {"sites": ()},
        {"lanes": (lane(), lane())},
        {"lanes": (lane(name="home"),)},
        {"lanes": (lane(origin=SiteName("jp")),)},
        {"lanes": (lane(destinations=(SiteName("jp"),)),)},
        {"lanes": (lane(routes=(Route(relays=(SiteName("jp"),)),)),)},
        {"lanes": (lane(routes=(Route(relays=(US,)),)),)},
        {"lanes": (lane(destinations=(US,)),)},
        {"policy_owners": ("carol",)},
        {"people": (Person(name="ada", keys=(signing_key(1).public,)), Person(name="bob", keys=(signing_key(1).public,)))},
        {"people": (Person(name="ada", keys=(SITE_KEYS[US].public,)),), "policy_owners": ()},
        {"witnesses": (Witness(name="w", key=signing_key(1).public),) * 2},
        {"expires": "2026-11-24T12:00:00Z"},
        {"trust_domain": "Not A Domain"},
    ],
)
def test_a_bundle_that_contradicts_itself_is_refused(changes):
    with pytest.raises(ValidationError):
        bundle(**changes)


@pytest.mark.parametrize(("count", "threshold"), [(1, 2), (1, 0), (0, 1), (33, 1)])
def test_a_threshold_that_cannot_be_met_is_refused(count, threshold):
    with pytest.raises(ValidationError):
        Roots(keys=tuple(signing_key(number).public for number in range(1, count + 1)), threshold=threshold)


@pytest.mark.parametrize(
    "url", ["http://a.example", "https://a.example/path", "https://user@a.example", "https://A.example", "https://"]
)
def test_a_site_is_reached_by_https_and_nothing_else(url):
    with pytest.raises(ValidationError):
        site(US, urls=(url,))


def test_lanes_and_sites_are_found_by_name():
    trusted = bundle(lanes=(lane(release_floor=ReleaseFloor(approvals=(ApprovalFloor(role="export-control", count=1),))),))

    assert trusted.site(EU).jurisdiction == "DE"
    assert trusted.lane(LaneName("us-eu")).sites == (US, EU)
    assert trusted.lane(LaneName("home"), at=EU) == home_lane(EU)
    assert [one.name for one in trusted.lanes_from(US)] == ["home", "us-eu"]
    assert [one.name for one in trusted.lanes_from(EU)] == ["home"]
    assert [person.name for person in trusted.people_with("export-control")] == ["ada"]
    assert home_lane(EU).mode is LaneMode.INSPECTED


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda trusted: trusted.site(SiteName("jp")), "E-SITE-UNKNOWN"),
        (lambda trusted: trusted.lane(LaneName("jp-eu")), "E-LANE-UNKNOWN"),
        (lambda trusted: trusted.lane(LaneName("home")), "E-LANE-UNKNOWN"),
        (lambda trusted: trusted.lane(LaneName("home"), at=SiteName("jp")), "E-SITE-UNKNOWN"),
    ],
)
def test_what_is_not_in_the_bundle_is_not_found(call, code):
    with pytest.raises(NotFound) as caught:
        call(bundle())

    assert caught.value.code == code


def test_a_site_card_becomes_the_sites_entry():
    card = SiteCard(trust_domain=DOMAIN, **{name: getattr(site(EU), name) for name in type(site(EU)).model_fields})

    assert parse_model(SiteCard, card.encode(), bytes_max=99_999) == card
    assert card.site() == site(EU)
    assert isinstance(parse_json(card.encode(), bytes_max=99_999), dict)


# What sites state about keys


def test_a_kem_statement_is_believed_from_its_own_site_only():
    assert open_kem_statement(kem_statement().sign(SITE_KEYS[EU]), bundle()) == kem_statement()

    with pytest.raises(IntegrityError):
        open_kem_statement(kem_statement().sign(SITE_KEYS[US]), bundle())
    with pytest.raises(NotFound):
        open_kem_statement(kem_statement(site=SiteName("jp")).sign(SITE_KEYS[US]), bundle())


def test_an_agent_statement_is_believed_from_its_own_site_and_domain_only():
    assert open_agent_statement(agent_statement().sign(SITE_KEYS[US]), bundle()) == agent_statement()

    with pytest.raises(IntegrityError):
        open_agent_statement(agent_statement().sign(SITE_KEYS[EU]), bundle())
    stranger = agent_statement(identity=SpiffeId.make("other.example", US, "agent", "build-1"))
    with pytest.raises(IntegrityError) as caught:
        open_agent_statement(stranger.sign(SITE_KEYS[US]), bundle())
    assert caught.value.code == "E-TRUST"


@pytest.mark.parametrize("identity", [SpiffeId.make(DOMAIN, EU, "agent", "build-1"), SpiffeId.make(DOMAIN, US, "gateway", "us")])
def test_a_site_states_agents_of_its_own_only(identity):
    with pytest.raises(ValidationError):
        agent_statement(identity=identity)


def test_the_newest_valid_kem_key_is_taken():
    early = kem_statement(number=1)
    late = kem_statement(number=2)
    ended = kem_statement(number=3, not_before="2026-10-24T12:00:00Z", not_after="2026-11-24T12:00:00Z")
    future = kem_statement(number=4, not_before="2026-11-24T12:00:01Z")
    elsewhere = kem_statement(number=5, site=US)

    statements = [late, ended, future, early, elsewhere]

    assert newest_kem(statements, EU, 1, NOW) == late
    assert newest_kem(statements, EU, 2, NOW) is None
    assert newest_kem(statements, EU, 1, NOW + timedelta(days=40)) is None
    with pytest.raises(ValidationError):
        kem_statement(not_after="2026-11-24T12:00:00Z")


@pytest.mark.parametrize("key", [5, None, "00", "zz" * 32])
def test_a_key_in_a_statement_is_hex_of_a_key(key):
    with pytest.raises(PeerError, match="signing_key"):
        parse_model(SiteCard, {"v": 1, "trust_domain": DOMAIN, **site(EU).to_json(), "signing_key": key})


def test_a_certificate_is_pem():
    with pytest.raises(ValidationError, match="PEM"):
        site(EU, tls_ca="MIIB")
