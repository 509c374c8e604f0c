"""Upkeep: each step when it is due, and not before."""

from cryptography import x509

from gateway.maintenance import Maintenance


def upkeep(world):
    return Maintenance(
        world.settings, world.paths, world.authority, world.keyring, world.catalog, world.log, world.trust, world.clock
    )


def leaf_of(world):
    return x509.load_pem_x509_certificates(world.paths.tls_certificate.read_bytes())[0]


async def test_a_young_site_needs_no_upkeep(world):
    before = leaf_of(world), world.keyring.kem_numbers()

    await upkeep(world).run()

    assert (leaf_of(world), world.keyring.kem_numbers()) == before


async def test_certificate_and_kem_key_are_renewed_when_due_and_only_once(world):
    world.clock.advance(days=21)
    before = leaf_of(world)

    await upkeep(world).run()
    renewed = leaf_of(world)
    await upkeep(world).run()

    assert before != renewed == leaf_of(world)
    assert world.keyring.kem_numbers() == (1, 2)
    assert world.trust.kem(world.settings.site, world.clock.now()).number == 2


async def test_a_new_kem_key_is_under_a_checkpoint_before_anyone_is_told(world):
    world.clock.advance(days=21)

    await upkeep(world).run()

    assert world.log.asked == [await world.catalog.read(lambda transaction: transaction.log_size()) - 1]


async def test_what_a_command_beside_the_server_imported_is_followed(world):
    from gateway.proposals import Change
    from gateway.trusting import Trust

    beside = Trust(world.catalog, None, world.clock, world.settings.site)
    await beside.import_bundle(world.bundle(Change(), current=world.trust.current()))
    assert world.trust.current().version == 1

    await upkeep(world).run()

    assert world.trust.current().version == 2
