"""What the site trusts: imports, pins, and what it learns from peers."""

import secrets
from datetime import timedelta

import pytest

from carnet.checkpoint import Checkpoint, log_origin, sign_checkpoint
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import Held, IntegrityError, NotFound, PeerError
from carnet.identifiers import Digest, SiteName
from carnet.keys import KemPrivateKey, SigningKey
from carnet.messages import TrustResponse
from carnet.timestamps import format_time
from carnet.trust import KemStatement, SiteCard
from gateway.proposals import Change, read_card, unsigned
from gateway.trusting import Trust

EU = SiteName("eu")


def new_key():
    return SigningKey(secrets.token_bytes(32))


def card_of(world, key, name="eu"):
    us = read_card(world.paths.card)
    return SiteCard.model_validate(
        {**us.model_dump(), "name": SiteName(name), "signing_key": key.public, "urls": ("https://localhost:8444",)}
    )


async def import_peer(world):
    """Import a bundle that also names site `eu`, and return eu's signing key."""
    key = new_key()
    await world.trust.import_bundle(world.bundle(Change(cards=(card_of(world, key),)), current=world.trust.current()))
    return key


def kem_of(world, key, number=1, site=EU, **life):
    start = world.clock.now()
    statement = KemStatement(
        site=site,
        suite=1,
        number=number,
        key=KemPrivateKey(secrets.token_bytes(32)).public,
        not_before=format_time(start),
        not_after=format_time(start + timedelta(**(life or {"days": 30}))),
    )
    return statement.sign(key)


def head_of(world, key, size, site=EU):
    checkpoint = Checkpoint(log_origin(world.settings.trust_domain, site), size, secrets.token_bytes(32))
    return sign_checkpoint(checkpoint, key).encode().decode()


def answer(world, *, kem=(), checkpoints=None):
    return TrustResponse(
        site=EU,
        bundle=world.trust.bundle_envelope().to_json(),
        kem_statements=tuple(one.to_json() for one in kem),
        checkpoints=checkpoints or {},
    )


async def test_a_new_site_trusts_nothing_and_says_what_to_do(new_world):
    with pytest.raises(IntegrityError) as caught:
        new_world.trust.ground()

    assert caught.value.code == "E-TRUST"
    assert "trust import" in caught.value.remedy
    with pytest.raises(IntegrityError):
        await new_world.trust.response()


async def test_an_import_pins_the_roots_keeps_the_bundle_and_logs_it(new_world):
    bundle = await new_world.trust.import_bundle(new_world.bundle())

    def look(transaction):
        return transaction.site_document("trust/bundle/1"), transaction.log_entry(transaction.log_size() - 1).entry

    document, entry = await new_world.catalog.read(look)
    assert parse_envelope(document).payload == bundle.payload()
    assert EntryType.TRUST_IMPORTED.encode() in entry
    assert new_world.trust.state().pinned == bundle.roots.fingerprint


async def test_a_bundle_of_other_roots_than_given_is_refused_and_nothing_is_kept(new_world):
    with pytest.raises(IntegrityError) as caught:
        await new_world.trust.import_bundle(new_world.bundle(), root_fingerprint=Digest.of(b"other roots"))

    assert caught.value.code == "E-TRUST"
    assert await new_world.catalog.read(lambda transaction: transaction.site_document("trust/bundle")) is None


async def test_a_bundle_that_does_not_name_this_site_is_refused(new_world):
    stranger = new_key()
    change = Change(roots=(new_world.root.public,), threshold=1, cards=(card_of(new_world, stranger),))

    with pytest.raises(IntegrityError, match="does not name this site"):
        await new_world.trust.import_bundle(new_world.bundle(change))


async def test_an_unsigned_bundle_is_refused(new_world):
    envelope = parse_envelope(new_world.bundle())

    with pytest.raises(IntegrityError) as caught:
        await new_world.trust.import_bundle(unsigned_copy(envelope))

    assert caught.value.code == "E-SIGNATURE"


def unsigned_copy(envelope):
    from carnet.trust import TrustBundle

    return unsigned(TrustBundle.read_unverified(envelope)).encode()


async def test_a_bundle_signed_by_new_roots_only_is_refused(world):
    usurper = new_key()
    change = Change(roots=(usurper.public,), threshold=1)

    with pytest.raises(IntegrityError):
        await world.trust.import_bundle(world.bundle(change, current=world.trust.current(), root=usurper))


async def test_an_older_bundle_does_not_come_back(world):
    first = world.trust.bundle_envelope().encode()
    await import_peer(world)

    with pytest.raises(IntegrityError, match="not newer"):
        await world.trust.import_bundle(first)


async def test_importing_the_current_bundle_again_changes_nothing(world):
    size = await world.catalog.read(lambda transaction: transaction.log_size())

    await world.trust.import_bundle(world.trust.bundle_envelope().encode())

    assert await world.catalog.read(lambda transaction: transaction.log_size()) == size


async def test_what_is_no_bundle_is_refused(world):
    for data in (b"", b"{}", b"\xff", world.trust.bundle_envelope().encode() + b"x"):
        with pytest.raises(PeerError):
            await world.trust.import_bundle(data)


async def test_an_expired_bundle_is_held_where_freshness_is_asked_for(world):
    world.clock.advance(days=91)

    with pytest.raises(Held) as caught:
        world.trust.ground()

    assert caught.value.code == "E-TRUST-EXPIRED"
    assert world.trust.state().bundle is not None


async def test_a_restarted_site_trusts_what_it_trusted(world):
    again = Trust(world.catalog, None, world.clock, world.settings.site)
    await again.refresh()

    assert again.state() == world.trust.state()
    assert again.kem(world.settings.site, world.clock.now()).number == 1


async def test_a_peers_newest_kem_statement_wins(world):
    key = await import_peer(world)

    assert await world.trust.learn(answer(world, kem=[kem_of(world, key, 2), kem_of(world, key, 1)])) == 2

    assert world.trust.kem(EU, world.clock.now()).number == 2


async def test_an_expired_kem_statement_is_not_used(world):
    key = await import_peer(world)
    await world.trust.learn(answer(world, kem=[kem_of(world, key, 2, days=1), kem_of(world, key, 1, days=9)]))
    world.clock.advance(days=2)

    assert world.trust.kem(EU, world.clock.now()).number == 1


async def test_a_kem_statement_by_another_key_is_left_out_and_the_good_one_beside_it_taken(world):
    key = await import_peer(world)

    learned = await world.trust.learn(answer(world, kem=[kem_of(world, new_key(), 5), kem_of(world, key, 3)]))

    assert learned == 1
    assert world.trust.kem(EU, world.clock.now()).number == 3


async def test_a_stated_kem_key_cannot_be_replaced_under_its_number(world):
    key = await import_peer(world)
    first = kem_of(world, key, 1)
    await world.trust.learn(answer(world, kem=[first]))

    assert await world.trust.learn(answer(world, kem=[kem_of(world, key, 1)])) == 0

    assert world.trust.kem(EU, world.clock.now()) == KemStatement.read_unverified(first)


async def test_a_peer_cannot_state_keys_for_this_site_or_for_strangers(world):
    key = await import_peer(world)
    own = kem_of(world, world.keyring.signing, 9, site=world.settings.site)

    assert await world.trust.learn(answer(world, kem=[own, kem_of(world, key, 1, site=SiteName("mars"))])) == 0
    assert world.trust.kem(world.settings.site, world.clock.now()).number == 1


async def test_a_site_without_a_statement_has_no_key(world):
    with pytest.raises(NotFound) as caught:
        world.trust.kem(EU, world.clock.now())

    assert caught.value.code == "E-SITE-UNKNOWN"


async def test_a_grown_log_head_is_kept_and_a_shorter_or_forged_one_is_not(world):
    key = await import_peer(world)
    ten = head_of(world, key, 10)

    assert await world.trust.learn(answer(world, checkpoints={"eu": ten})) == 1
    for note in (head_of(world, key, 9), head_of(world, new_key(), 99), "nonsense"):
        assert await world.trust.learn(answer(world, checkpoints={"eu": note})) == 0

    assert (await world.trust.response()).checkpoints == {"eu": ten}


async def test_the_statements_of_a_site_that_left_the_bundle_fall_away(world):
    key = await import_peer(world)
    await world.trust.learn(answer(world, kem=[kem_of(world, key)]))

    await world.trust.import_bundle(world.bundle(Change(without=("eu",)), current=world.trust.current()))

    with pytest.raises(NotFound):
        world.trust.kem(EU, world.clock.now())


async def test_the_answer_has_the_bundle_and_every_known_statement(world):
    key = await import_peer(world)
    await world.trust.learn(answer(world, kem=[kem_of(world, key)]))

    found = await world.trust.response()

    assert parse_envelope(found.bundle) == world.trust.bundle_envelope()
    stated = {KemStatement.read_unverified(parse_envelope(one)).site for one in found.kem_statements}
    assert stated == {"us", "eu"}
