"""Revocation at a site: what a command beside the server does, and what the server then refuses."""

import secrets
from datetime import timedelta

import pytest

from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, Held, NotAuthenticated, NotAuthorised
from carnet.identifiers import SiteName
from carnet.keys import SigningKey
from carnet.messages import RenewRequest, RevocationResponse
from carnet.revocation import RevocationSet
from carnet.timestamps import format_time
from carnet.trust import AgentStatement
from gateway.maintenance import Maintenance
from gateway.pki import BACKDATE, make_request, new_key
from gateway.proposals import Change
from gateway.revoking import issue_set, revoke_identity
from tests.gateway.test_enrolment import CI, entries, invite_for, request_of
from tests.gateway.test_trusting import card_of

US, EU = SiteName("us"), SiteName("eu")


async def revoke(world, reason="key-stolen"):
    key = world.keyring.signing
    issued = await world.catalog.write(lambda tx: revoke_identity(tx, key, US, CI, reason))
    await world.trust.refresh_revocations()
    return issued


async def enrolled(world):
    """Enrol the agent; return its statement and the begin of its certificate."""
    response = await world.enrolment.enroll(request_of(await invite_for(world)))
    return AgentStatement.read_unverified(parse_envelope(response.agent_statement)), world.clock.now() - BACKDATE


async def test_a_revoked_agent_is_refused_renews_nothing_and_is_in_the_log(world):
    statement, begin = await enrolled(world)
    world.trust.revocations.check_leaf(CI, begin)

    issued = await revoke(world)

    with pytest.raises(NotAuthenticated) as caught:
        world.trust.revocations.check_leaf(CI, begin)
    assert (caught.value.code, caught.value.http_status) == ("E-REVOKED", 401)
    with pytest.raises(NotAuthorised) as caught:
        await world.enrolment.renew(CI, RenewRequest(csr=make_request(new_key())))
    assert caught.value.code == "E-REVOKED"
    assert issued.reason_against(statement) == "key-stolen"
    assert EntryType.AGENT_REVOKED.encode() in await entries(world)


async def test_a_new_invite_gives_new_keys_and_the_old_certificate_and_statement_stay_void(world):
    old, old_begin = await enrolled(world)
    await revoke(world)
    world.clock.advance(seconds=2)

    new, begin = await enrolled(world)

    world.trust.revocations.check_leaf(CI, begin)
    with pytest.raises(NotAuthenticated, match="enrolled again"):
        world.trust.revocations.check_leaf(CI, old_begin)
    state = world.trust.revocations.state
    assert (state.reason_against(old), state.reason_against(new)) == ("key-stolen", None)


async def test_an_agent_revoked_twice_within_a_second_is_revoked_both_times(world):
    await enrolled(world)
    await revoke(world)
    world.clock.advance(microseconds=10)
    second, begin = await enrolled(world)
    world.clock.advance(microseconds=10)

    await revoke(world, "stolen-again")

    assert world.trust.revocations.state.reason_against(second) == "stolen-again"
    with pytest.raises(NotAuthenticated):
        world.trust.revocations.check_leaf(CI, begin)


async def test_a_certificate_from_before_a_new_enrolment_is_refused_though_nobody_was_revoked(world):
    statement, begin = await enrolled(world)
    world.clock.advance(minutes=1)
    await enrolled(world)

    with pytest.raises(NotAuthenticated) as caught:
        world.trust.revocations.check_leaf(CI, begin)
    assert caught.value.code == "E-REVOKED"
    assert world.trust.revocations.state.reason_against(statement) is None


async def test_somebody_unknown_cannot_be_revoked_and_again_is_no_error(world):
    with pytest.raises(CallerError):
        await revoke(world)
    await enrolled(world)

    first, again = await revoke(world), await revoke(world, "other-word")

    assert first.identities == again.identities
    assert again.number == first.number + 1


async def test_the_running_site_renews_its_set_at_half_its_life_and_its_number_only_grows(world):
    upkeep = Maintenance(
        world.settings, world.paths, world.authority, world.keyring, world.catalog, world.log, world.trust, world.clock
    )
    numbers = []
    for minutes in (0, 29, 1, 30):
        world.clock.advance(minutes=minutes)
        await upkeep.run()
        numbers.append(world.trust.revocations.own().content.number)

    assert numbers == [1, 1, 2, 3]


async def test_the_time_of_the_sites_own_set_never_falls(world):
    key = world.keyring.signing
    first = await world.catalog.write(lambda tx: issue_set(tx, key, US))
    world.clock.advance(hours=-2)

    second = await world.catalog.write(lambda tx: issue_set(tx, key, US))

    assert second.issued == first.issued


async def with_peer(world):
    key = SigningKey(secrets.token_bytes(32))
    await world.trust.import_bundle(world.bundle(Change(cards=(card_of(world, key),)), current=world.trust.current()))
    return key


def answer_of(world, key, number=1, **ahead):
    now = world.clock.now() + timedelta(**ahead)
    content = RevocationSet(site=EU, number=number, issued=format_time(now), expires=format_time(now + timedelta(hours=1)))
    return RevocationResponse(site=EU, now=format_time(now), revocations=content.sign(key).to_json())


async def test_nothing_new_is_done_with_a_peer_before_its_set_is_known_nor_after_it_expired(world):
    key = await with_peer(world)
    for prepare in (None, answer_of(world, key)):
        if prepare is not None:
            await world.trust.learn_revocations(EU, prepare)
            world.trust.ground(EU)
            world.clock.advance(hours=1)
        with pytest.raises(Held) as caught:
            world.trust.ground(EU)
        assert caught.value.code == "E-REVOCATION-EXPIRED"
        world.trust.ground()


async def test_a_peer_whose_clock_is_ahead_stops_nothing_here(world):
    key = await with_peer(world)
    assert await world.trust.learn_revocations(EU, answer_of(world, key, minutes=4))
    await world.trust.refresh_revocations()

    world.trust.ground()


async def test_a_rolled_back_set_is_refused_also_after_a_restart(world):
    key = await with_peer(world)
    old = answer_of(world, key, 1)
    assert await world.trust.learn_revocations(EU, answer_of(world, key, 2))
    await world.trust.refresh()

    assert not await world.trust.take_revocations(old.revocations)
    assert world.trust.revocations.state.newest(EU).number == 2


async def test_a_peer_cannot_speak_for_this_site(world):
    await enrolled(world)
    issued = await revoke(world)
    now = world.clock.now()
    forged = issued.model_copy(update={"number": 99, "identities": (), "issued": format_time(now)}).sign(world.keyring.signing)

    assert not await world.trust.take_revocations(forged.to_json())
    assert world.trust.revocations.own().content == issued


async def test_a_clock_set_back_stops_enrolment_until_it_is_right_again(world):
    await enrolled(world)
    world.clock.advance(minutes=-2)

    with pytest.raises(Held) as caught:
        await enrolled(world)
    assert caught.value.code == "E-CLOCK"
    world.clock.advance(minutes=2)
    await enrolled(world)


async def test_a_bundle_that_had_expired_does_not_come_back_by_setting_the_clock_back_a_little(world):
    """Expiry is judged at the later of clock and floor."""
    world.trust.floor.raise_to(world.clock.now() + timedelta(seconds=20))
    expires = world.clock.now() + timedelta(seconds=10)
    short = world.trust.current().model_copy(update={"version": 2, "expires": format_time(expires)})
    await world.trust.import_bundle(short.sign(world.root).encode())

    with pytest.raises(Held) as caught:
        world.trust.ground()
    assert caught.value.code == "E-TRUST-EXPIRED"
