"""Keys taken back: a person's, an agent's, a KEM key; and what dies with an identity."""

import secrets
from datetime import timedelta

import pytest

from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, NotAuthorised, NotFound
from carnet.identifiers import AgentName, SiteName, SpiffeId
from carnet.keys import SigningKey
from carnet.messages import RenewRequest
from carnet.trust import AgentStatement, Person
from gateway.keyring import rotate_kem
from gateway.pki import make_request, new_key
from gateway.proposals import Change
from gateway.revoking import issue_set, revoke_identity
from gateway.revoking_keys import Revoker
from tests.gateway.test_enrolment import CI, entries, invite_for, request_of

US = SiteName("us")
ADA = AgentName("ada")


async def with_person(world, *keys):
    people = (Person(name=ADA, roles=("security",), keys=tuple(key.public for key in keys)),)
    await world.trust.import_bundle(world.bundle(Change(people=people), current=world.trust.current()))


async def take_back(world, change):
    revoker = Revoker(US, world.keyring.signing, world.trust.state().current)
    issued = await world.catalog.write(lambda tx: change(revoker, tx))
    await world.trust.refresh_revocations()
    return issued


def revoked_keys(world):
    return world.trust.revocations.state.revoked_keys(world.trust.state().current)


def a_key():
    return SigningKey(secrets.token_bytes(32))


async def test_every_key_of_a_revoked_person_counts_no_more_from_then_and_a_new_one_does(world):
    first, second, third = a_key(), a_key(), a_key()
    await with_person(world, first, second)

    await take_back(world, lambda site, tx: site.person(tx, "ada", "left"))

    assert revoked_keys(world) == {first.public.keyid, second.public.keyid}
    world.clock.advance(minutes=1)
    await with_person(world, first, third)
    assert revoked_keys(world) == {first.public.keyid, second.public.keyid}
    assert EntryType.PERSON_REVOKED.encode() in await entries(world)


async def test_a_person_of_another_name_is_not_touched_and_nobody_is_revoked_by_a_typing_error(world):
    key = a_key()
    await with_person(world, key)

    with pytest.raises(CallerError) as caught:
        await take_back(world, lambda site, tx: site.person(tx, "adda", "left"))

    assert caught.value.code == "E-USAGE"
    assert revoked_keys(world) == set()


async def test_a_persons_key_is_void_here_when_another_site_took_it_back(world):
    from tests.gateway.test_revoking import EU, answer_of, with_peer

    person = a_key()
    peer = await with_peer(world)
    answer = answer_of(world, peer)
    from carnet.revocation import RevocationSet, RevokedKey

    content = RevocationSet.read_unverified(parse_envelope(answer.revocations)).model_copy(
        update={"signing_keys": (RevokedKey(keyid=person.public.keyid, since="2026-11-24T11:00:00Z", reason="stolen"),)}
    )
    await world.trust.learn_revocations(EU, answer.model_copy(update={"revocations": content.sign(peer).to_json()}))

    assert person.public.keyid in revoked_keys(world)


@pytest.mark.parametrize("by", ["name", "keyid", "signing key", "KEM key", "KEM digest"])
async def test_an_agent_whose_key_is_revoked_renews_nothing_and_enrols_again_with_other_keys_only(world, by):
    request = request_of(await invite_for(world))
    response = await world.enrolment.enroll(request)
    statement = AgentStatement.read_unverified(parse_envelope(response.agent_statement))
    text = {
        "name": str(CI.name),
        "keyid": statement.signing_key.keyid,
        "signing key": statement.signing_key.hex,
        "KEM key": statement.kem_key.hex,
        "KEM digest": statement.kem_key.digest,
    }[by]

    await take_back(world, lambda site, tx: site.named_key(tx, text, "stolen"))

    assert world.trust.revocations.state.reason_against(statement) == "stolen"
    with pytest.raises(NotAuthorised) as caught:
        await world.enrolment.renew(CI, RenewRequest(csr=make_request(new_key())))
    assert caught.value.code == "E-REVOKED"
    again = await invite_for(world)
    same = request.model_copy(update={"invite": again.id, "secret": request_of(again).secret})
    with pytest.raises(NotAuthorised) as caught:
        await world.enrolment.enroll(same)
    assert caught.value.code == "E-REVOKED"
    other = await world.enrolment.enroll(request_of(again))
    stated = AgentStatement.read_unverified(parse_envelope(other.agent_statement))
    assert world.trust.revocations.state.reason_against(stated) is None


async def test_a_sites_own_signing_key_is_not_taken_back_by_the_site(world):
    own = world.keyring.signing.public
    for text in (own.keyid, own.hex):
        with pytest.raises(CallerError) as caught:
            await take_back(world, lambda site, tx, text=text: site.named_key(tx, text, "stolen"))
        assert "roots" in caught.value.remedy


@pytest.mark.parametrize("text", ["nobody", "0" * 32, "f" * 64, "KEM-1", "kem-0"])
async def test_a_key_that_nobody_here_trusts_is_no_key(world, text):
    with pytest.raises(CallerError, match="no key"):
        await take_back(world, lambda site, tx: site.named_key(tx, text, "stolen"))


async def test_a_revoked_kem_key_is_used_by_no_sealer_and_the_next_one_is(world):
    now = world.clock.now()
    await rotate_kem(world.catalog, world.keyring, US, now)
    await world.trust.refresh()

    issued = await take_back(world, lambda site, tx: site.named_key(tx, "kem-2", "stolen"))

    assert [one.number for one in issued.kem_keys] == [2]
    assert world.trust.newest_kem(US, now).number == 1
    assert (world.trust.is_kem_usable(US, 1, now), world.trust.is_kem_usable(US, 2, now)) == (True, False)
    with pytest.raises(NotFound):
        await take_back(world, lambda site, tx: site.named_key(tx, "kem-9", "stolen"))


async def test_a_second_revocation_changes_nothing_and_the_first_time_stands(world):
    key = a_key()
    await with_person(world, key)
    first = await take_back(world, lambda site, tx: site.person(tx, "ada", "left"))
    world.clock.advance(hours=1)

    second = await take_back(world, lambda site, tx: site.named_key(tx, key.public.hex, "other"))

    assert second.signing_keys == first.signing_keys
    assert second.identities == first.identities


async def test_an_invite_that_a_revoked_agent_did_not_use_dies_with_it(world):
    await world.enrolment.enroll(request_of(await invite_for(world)))
    kept = await invite_for(world)

    await world.catalog.write(lambda tx: revoke_identity(tx, world.keyring.signing, US, CI, "stolen"))

    with pytest.raises(NotAuthorised) as caught:
        await world.enrolment.enroll(request_of(kept))
    assert caught.value.code == "E-INVITE"


async def test_who_was_invited_only_can_be_revoked_and_invited_again(world):
    first = await invite_for(world)
    await world.catalog.write(lambda tx: revoke_identity(tx, world.keyring.signing, US, CI, "mistake"))
    await world.trust.refresh_revocations()
    with pytest.raises(NotAuthorised):
        await world.enrolment.enroll(request_of(first))
    world.clock.advance(seconds=2)

    await world.enrolment.enroll(request_of(await invite_for(world)))

    world.trust.revocations.check_leaf(CI, world.clock.now() - timedelta(minutes=5))


async def test_a_used_invite_is_not_answered_again_to_who_is_revoked(world):
    request = request_of(await invite_for(world))
    await world.enrolment.enroll(request)
    await world.enrolment.enroll(request)

    await world.catalog.write(lambda tx: revoke_identity(tx, world.keyring.signing, US, CI, "stolen"))

    with pytest.raises(NotAuthorised) as caught:
        await world.enrolment.enroll(request)
    assert caught.value.code == "E-INVITE"


async def test_a_mark_taken_out_of_the_catalog_lets_nobody_in(world):
    await world.enrolment.enroll(request_of(await invite_for(world)))
    begin = world.clock.now() - timedelta(minutes=5)
    await world.catalog.write(lambda tx: revoke_identity(tx, world.keyring.signing, US, CI, "stolen"))

    await world.catalog.write(lambda tx: tx.delete_site_document(f"revoked/{CI}"))
    await world.trust.refresh_revocations()

    with pytest.raises(NotAuthorised) as caught:
        world.trust.revocations.check_leaf(CI, begin)
    assert caught.value.code == "E-REVOKED"


async def test_an_unknown_agent_is_named_as_such(world):
    nobody = SpiffeId.make("example.com", US, "agent", AgentName("nobody"))
    with pytest.raises(CallerError):
        await world.catalog.write(lambda tx: revoke_identity(tx, world.keyring.signing, US, nobody, "stolen"))
    await world.catalog.write(lambda tx: issue_set(tx, world.keyring.signing, US))
