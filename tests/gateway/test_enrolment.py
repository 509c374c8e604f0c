"""Invites: once, for an hour, and every reason to refuse looks the same."""

import asyncio
import secrets
from datetime import timedelta

import pytest
from cryptography import x509

from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, Held, IntegrityError, NotAuthorised, PeerError
from carnet.identifiers import AgentName, SpiffeId
from carnet.identity import AgentIdentity, AgentKeys
from carnet.invite import Invite, encode_secret
from carnet.keys import KemPrivateKey, SigningKey
from carnet.messages import RenewRequest
from carnet.trust import AgentStatement, open_agent_statement
from gateway.enrolment import InviteOrder, make_invite
from gateway.pki import encode_key, make_request, new_key

CI = SpiffeId("spiffe://example.com/site/us/agent/ci")


def new_keys():
    tls = new_key()
    keys = AgentKeys(SigningKey(secrets.token_bytes(32)), KemPrivateKey(secrets.token_bytes(32)), encode_key(tls))
    return keys, make_request(tls)


async def invite_for(world, name="ci", grants=("push:app/*@us-eu",), **more):
    order = InviteOrder(name=AgentName(name), grants=grants, url=world.settings.url, **more)
    return await make_invite(world.catalog, world.facts, world.authority.fingerprint, world.trust, order)


def request_of(invite, keys=None, *, secret=None, number=None):
    made, csr = keys or new_keys()
    return made.request(invite=number or invite.id, secret=encode_secret(secret or invite.secret), csr=csr)


async def entries(world):
    def look(transaction):
        return b"\n".join(transaction.log_entry(number).entry for number in range(transaction.log_size()))

    return await world.catalog.read(look)


async def test_an_invite_gives_certificate_statement_and_bundle_that_fit_together(world):
    invite = await invite_for(world)
    keys = new_keys()

    response = await world.enrolment.enroll(request_of(invite, keys))

    identity = AgentIdentity.create(keys=keys[0], ca=invite.ca, roots=invite.root, response=response, now=world.clock.now())
    assert identity.id == CI
    statement = open_agent_statement(identity.statement, world.trust.current())
    assert (statement.signing_key, statement.kem_key) == (keys[0].signing.public, keys[0].kem.public)
    record = await world.catalog.read(lambda transaction: transaction.identity(CI))
    assert record.grants == ("push:app/*@us-eu",)


async def test_the_certificate_is_issued_after_its_entry_is_under_a_checkpoint(world):
    await world.enrolment.enroll(request_of(await invite_for(world)))

    assert world.log.asked == [await world.catalog.read(lambda transaction: transaction.log_size()) - 1]
    assert EntryType.AGENT_INVITED.encode() in await entries(world)
    assert EntryType.AGENT_ENROLLED.encode() in await entries(world)


async def test_an_invite_works_once(world):
    invite = await invite_for(world)
    await world.enrolment.enroll(request_of(invite))

    with pytest.raises(NotAuthorised) as caught:
        await world.enrolment.enroll(request_of(invite))

    assert caught.value.code == "E-INVITE"


async def test_the_very_same_request_is_answered_again(world):
    """The answer may have been lost on the way; nobody else has these keys and this secret."""
    request = request_of(await invite_for(world))
    first = await world.enrolment.enroll(request)

    again = await world.enrolment.enroll(request)

    assert again.agent_statement == first.agent_statement


async def test_of_two_at_once_one_wins(world):
    invite = await invite_for(world)

    found = await asyncio.gather(*(world.enrolment.enroll(request_of(invite)) for _ in range(4)), return_exceptions=True)

    assert sum(not isinstance(one, Exception) for one in found) == 1


async def test_unknown_used_expired_and_wrong_look_the_same(world):
    used, expired, other = await invite_for(world, "a"), await invite_for(world, "b"), await invite_for(world, "c")
    await world.enrolment.enroll(request_of(used))
    long_lived = await invite_for(world, "d", life=timedelta(days=1))
    world.clock.advance(hours=1)
    refused = [
        request_of(used),
        request_of(expired),
        request_of(long_lived, secret=other.secret),
        request_of(long_lived, number="0" * 32),
    ]

    texts = set()
    for request in refused:
        with pytest.raises(NotAuthorised) as caught:
            await world.enrolment.enroll(request)
        texts.add((caught.value.code, caught.value.problem, caught.value.remedy))

    assert len(texts) == 1


async def test_a_wrong_secret_does_not_use_the_invite_up(world):
    invite = await invite_for(world)
    with pytest.raises(NotAuthorised):
        await world.enrolment.enroll(request_of(invite, secret=secrets.token_bytes(32)))

    assert (await world.enrolment.enroll(request_of(invite))).name == "ci"


async def test_only_the_hash_of_the_secret_is_kept(world):
    invite = await invite_for(world)

    record = await world.catalog.read(lambda transaction: transaction.invite(invite.id))

    assert record.secret_sha256 != invite.secret
    assert invite.secret not in world.paths.catalog.read_bytes()
    assert invite.secret.hex() not in repr(invite)


async def test_the_line_of_an_invite_reads_back(world):
    invite = await invite_for(world)

    assert Invite.parse(f"  {invite.encode()}\n") == invite


async def test_an_invite_with_a_bad_grant_is_not_made(world):
    with pytest.raises(CallerError):
        await invite_for(world, grants=("fly:*@*",))

    assert EntryType.AGENT_INVITED.encode() not in await entries(world)


async def test_a_site_without_a_bundle_invites_nobody(new_world):
    with pytest.raises(IntegrityError) as caught:
        await invite_for(new_world)

    assert caught.value.code == "E-TRUST"


async def test_nobody_enrols_or_renews_under_an_expired_bundle(world):
    invite = await invite_for(world, life=timedelta(days=365))
    await world.enrolment.enroll(request_of(await invite_for(world, "other")))
    world.clock.advance(days=91)

    with pytest.raises(Held):
        await world.enrolment.enroll(request_of(invite))
    with pytest.raises(Held):
        await world.enrolment.renew(SpiffeId(CI.replace("/ci", "/other")), RenewRequest(csr=new_keys()[1].decode()))


@pytest.mark.parametrize(("field", "value"), [("signing_key", "00"), ("kem_key", "zz"), ("csr", "nothing"), ("secret", "short")])
async def test_a_malformed_request_is_told_so_and_costs_no_invite(world, field, value):
    invite = await invite_for(world)
    broken = request_of(invite).model_copy(update={field: value})

    with pytest.raises(PeerError) as caught:
        await world.enrolment.enroll(broken)

    assert caught.value.code == "E-REQUEST"
    assert (await world.enrolment.enroll(request_of(invite))).name == "ci"


async def test_the_name_comes_from_the_invite_whatever_the_request_says(world):
    response = await world.enrolment.enroll(request_of(await invite_for(world)))

    leaf = x509.load_pem_x509_certificates(response.certificate.encode())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [CI]


async def test_a_renewal_brings_a_certificate_for_the_new_key_and_the_same_statement(world):
    first = await world.enrolment.enroll(request_of(await invite_for(world)))
    world.clock.advance(hours=16)
    tls = new_key()

    renewed = await world.enrolment.renew(CI, RenewRequest(csr=make_request(tls).decode()))

    leaf = x509.load_pem_x509_certificates(renewed.certificate.encode())[0]
    assert leaf.public_key() == tls.public_key()
    assert leaf.not_valid_after_utc == world.clock.now() + timedelta(hours=24)
    assert renewed.agent_statement == first.agent_statement
    assert EntryType.AGENT_RENEWED.encode() in await entries(world)


async def test_a_statement_near_its_end_is_renewed_for_the_same_keys(world):
    first = await world.enrolment.enroll(request_of(await invite_for(world)))
    world.clock.advance(days=21)

    renewed = await world.enrolment.renew(CI, RenewRequest(csr=new_keys()[1].decode()))

    old, new = (AgentStatement.read_unverified(parse_envelope(one.agent_statement)) for one in (first, renewed))
    assert (old.signing_key, old.kem_key) == (new.signing_key, new.kem_key)
    assert new.not_after > old.not_after
    record = await world.catalog.read(lambda transaction: transaction.identity(CI))
    assert AgentStatement.read_unverified(parse_envelope(record.statement)) == new


async def test_an_identity_that_is_not_enrolled_is_not_renewed(world):
    with pytest.raises(NotAuthorised) as caught:
        await world.enrolment.renew(CI, RenewRequest(csr=new_keys()[1].decode()))

    assert caught.value.code == "E-CERTIFICATE"


async def test_enrolling_again_under_a_name_replaces_its_keys_and_grants(world):
    await world.enrolment.enroll(request_of(await invite_for(world)))
    keys = new_keys()

    await world.enrolment.enroll(request_of(await invite_for(world, grants=("pull:*@home",)), keys))

    record = await world.catalog.read(lambda transaction: transaction.identity(CI))
    assert record.grants == ("pull:*@home",)
    assert AgentStatement.read_unverified(parse_envelope(record.statement)).signing_key == keys[0].signing.public


async def test_the_statement_names_the_owners_of_the_last_invite_also_after_a_renewal(world):
    async def stated(owners):
        keys = new_keys()
        response = await world.enrolment.enroll(request_of(await invite_for(world, owners=owners), keys))
        return AgentStatement.read_unverified(parse_envelope(response.agent_statement)).owners

    assert await stated(("ada", "Example Inc.", "bob")) == (
        world.facts.operator,
        *(name for name in ("ada", "Example Inc.", "bob") if name != world.facts.operator),
    )
    assert await stated(()) == (world.facts.operator,)
    assert await stated(("carol",)) == (world.facts.operator, "carol")
    world.clock.advance(days=25)
    renewed = await world.enrolment.renew(CI, RenewRequest(csr=new_keys()[1].decode("ascii")))
    assert AgentStatement.read_unverified(parse_envelope(renewed.agent_statement)).owners == (world.facts.operator, "carol")


@pytest.mark.parametrize("owners", [("",), ("a\nb",), ("x" * 256,), tuple(map(str, range(32)))])
async def test_an_invite_with_owners_that_no_statement_can_name_is_not_made(world, owners):
    with pytest.raises(CallerError):
        await invite_for(world, owners=owners)
