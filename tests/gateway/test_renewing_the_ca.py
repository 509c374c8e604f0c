"""The issuing CA's next certificate: proposed, named by a bundle, followed; both vouch for the same leaves."""

from datetime import timedelta

import pytest
from cryptography import x509

from carnet.errors import CallerError
from carnet.identifiers import SiteName
from gateway.http.identity import Authenticator
from gateway.maintenance import ending_soon
from gateway.pki import Authority, new_key
from gateway.proposals import Change, read_card
from gateway.sitedir import follow_authority, propose_authority
from tests.gateway.test_enrolment import CI, invite_for, request_of
from tests.gateway.test_kem_ending import upkeep_of

US = SiteName("us")


async def import_card(world):
    change = Change(cards=(read_card(world.paths.card),), life=timedelta(days=3_000))
    await world.trust.import_bundle(world.bundle(change, current=world.trust.current()))


async def test_the_next_certificate_is_used_when_a_bundle_names_it_and_not_before(world):
    before = world.authority.certificate
    world.clock.advance(days=30)
    propose_authority(world.paths, world.authority, world.clock.now())

    await upkeep_of(world).run()
    assert world.authority.certificate == before
    await import_card(world)
    await upkeep_of(world).run()

    after = world.authority.certificate
    assert after.not_valid_after_utc == before.not_valid_after_utc + timedelta(days=30)
    assert (after.subject, after.public_key()) == (before.subject, before.public_key())
    assert x509.load_pem_x509_certificate(world.paths.authority_certificate.read_bytes()) == after
    leaf, issuer = x509.load_pem_x509_certificates(world.paths.tls_certificate.read_bytes())
    assert issuer == after
    leaf.verify_directly_issued_by(before)
    assert not world.paths.next_authority.exists()


async def test_agents_enrol_before_and_after_and_an_old_certificate_goes_on(world):
    authenticator = Authenticator(
        site=US, trust_domain="example.com", own_ca=world.authority.pem.decode(), peer_ca=lambda _site: None
    )
    first = await world.enrolment.enroll(request_of(await invite_for(world)))
    propose_authority(world.paths, world.authority, world.clock.now())
    await import_card(world)
    await upkeep_of(world).run()
    authenticator.follow(world.authority.pem.decode())
    second = await world.enrolment.enroll(request_of(await invite_for(world)))

    for response in (first, second):
        leaf = x509.load_pem_x509_certificates(response.certificate.encode())[0]
        der = leaf.public_bytes(x509_encoding())
        assert authenticator.identify(der, world.clock.now()) == CI
    assert x509.load_pem_x509_certificates(second.certificate.encode())[1] == world.authority.certificate


def x509_encoding():
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER


async def test_a_site_outlives_the_first_certificate_of_its_ca(world):
    """Renewed each half year, a site serves under valid certificates for three years."""
    upkeep = upkeep_of(world)
    await import_card(world)
    for _ in range(6):
        propose_authority(world.paths, world.authority, world.clock.now())
        await import_card(world)
        for _ in range(13):
            world.clock.advance(days=14)
            await upkeep.run()
            leaf, issuer = x509.load_pem_x509_certificates(world.paths.tls_certificate.read_bytes())
            assert leaf.not_valid_after_utc > world.clock.now() + timedelta(days=9)
            assert issuer.not_valid_after_utc > world.clock.now()


def test_a_crash_between_the_two_files_is_made_good(world):
    card = propose_authority(world.paths, world.authority, world.clock.now())
    world.paths.authority_certificate.write_bytes(card.tls_ca.encode())

    assert follow_authority(world.paths, world.authority, card.tls_ca)
    assert not world.paths.next_authority.exists()
    assert not follow_authority(world.paths, world.authority, card.tls_ca)


def test_a_certificate_of_another_key_is_not_followed(world):
    other = Authority.create(US, world.clock.now())

    with pytest.raises(CallerError):
        world.authority.follow(other.certificate)
    with pytest.raises(CallerError):
        propose_authority(type(world.paths)(world.paths.root / "elsewhere"), world.authority, world.clock.now())


async def test_what_only_a_person_can_renew_is_said_in_time_and_once_a_day(world):
    assert ending_soon(world.trust.current(), world.authority, world.clock.now()) == []
    world.clock.advance(days=80)
    assert [what for what, _, _ in ending_soon(world.trust.current(), world.authority, world.clock.now())] == ["trust bundle 1"]
    upkeep = upkeep_of(world)
    await upkeep.run()
    said = dict(upkeep.warned)
    world.clock.advance(hours=1)
    await upkeep.run()
    assert upkeep.warned == said
    world.clock.advance(days=230)
    ending = ending_soon(None, world.authority, world.clock.now())
    assert [what for what, _, _ in ending] == ["issuing CA"]
    assert "renew-ca" in ending[0][2]


def test_a_leaf_of_the_old_certificate_is_vouched_for_by_the_new_one(world):
    key = new_key()
    leaf = world.authority.issue_client(CI, key.public_key(), world.clock.now())

    leaf.verify_directly_issued_by(world.authority.renewed(world.clock.now()))
