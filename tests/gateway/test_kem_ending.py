"""KEM keys rotate by themselves and end; a crash between any two steps is made good by the next round."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from carnet.entries import EntryType
from carnet.errors import NotFound
from carnet.identifiers import SiteName
from gateway.kem_ending import destroy_ended
from gateway.keyring import FileKeyring, rotate_kem
from gateway.maintenance import Maintenance
from tests.gateway.test_enrolment import entries

US = SiteName("us")
HOLD = timedelta(days=30)


def upkeep_of(world):
    return Maintenance(
        world.settings, world.paths, world.authority, world.keyring, world.catalog, world.log, world.trust, world.clock
    )


def files_of(world):
    return sorted(path.name for path in world.paths.keys.glob("*kem*"))


async def end(world):
    return await destroy_ended(world.catalog, world.keyring, US, world.clock.now(), HOLD)


async def destroyed(world):
    return sum(EntryType.KEM_KEY_DESTROYED.encode() in entry for entry in await log_of(world))


async def log_of(world):
    size = await world.catalog.read(lambda tx: tx.log_size())
    return [entry for entry, _ in await world.catalog.read(lambda tx: tx.log_range(0, size))]


async def test_over_half_a_year_a_site_rotates_and_keeps_only_keys_that_something_can_be_wrapped_to(world):
    """Every 20 days a new key; each lives 30 days and is kept 30 more."""
    upkeep, kept = upkeep_of(world), list[int]()
    lasting = world.trust.current().model_copy(update={"version": 2, "expires": "2030-01-01T00:00:00Z"})
    await world.trust.import_bundle(lasting.sign(world.root).encode())
    for _ in range(200):
        world.clock.advance(days=1)
        await upkeep.run()
        assert world.trust.newest_kem(US, world.clock.now()) is not None
        kept.append(len(world.keyring.kem_numbers()))

    assert max(kept) == 3
    assert max(world.keyring.kem_numbers()) >= 10
    assert await destroyed(world) == max(world.keyring.kem_numbers()) - len(world.keyring.kem_numbers())


async def test_a_key_is_kept_until_its_end_and_the_longest_hold_are_over_then_gone_for_good(world):
    await rotate_kem(world.catalog, world.keyring, US, world.clock.now() + timedelta(days=25))
    inode = os.stat(world.paths.keys / "kem-1.key")
    copy = world.paths.keys / "watch"
    os.link(world.paths.keys / "kem-1.key", copy)
    world.clock.advance(days=59, hours=23)
    assert await end(world) == []

    world.clock.advance(hours=2)
    assert await end(world) == [1]

    assert files_of(world) == ["kem-2.key"]
    assert copy.read_bytes() == bytes(inode.st_size)
    with pytest.raises(NotFound):
        world.keyring.kem(1)
    assert await end(world) == []
    assert await destroyed(world) == 1


async def test_a_crash_between_file_and_entry_is_made_good_once(world):
    await rotate_kem(world.catalog, world.keyring, US, world.clock.now() + timedelta(days=50))
    world.clock.advance(days=61)
    world.keyring.destroy_kem(1)

    assert await end(world) == [1]
    assert await end(world) == []
    assert await destroyed(world) == 1


async def test_a_crash_between_key_and_statement_leaves_a_key_that_goes_after_a_day_and_a_number_that_is_not_used_again(world):
    stray = world.keyring.add_kem()
    issued = await rotate_kem(world.catalog, world.keyring, US, world.clock.now())
    assert issued.statement.number == stray + 1
    os.utime(world.paths.keys / f"kem-{stray}.key", (world.clock.now().timestamp(),) * 2)
    assert await end(world) == []

    world.clock.advance(days=1)

    assert await end(world) == [stray]
    assert files_of(world) == ["kem-1.key", f"kem-{stray + 1}.key"]


async def test_the_newest_key_that_was_made_is_no_stray_while_its_statement_is_on_its_way(world):
    made = world.keyring.add_kem()
    os.utime(world.paths.keys / f"kem-{made}.key", (datetime(2020, 1, 1, tzinfo=UTC).timestamp(),) * 2)

    assert await end(world) == []
    assert world.keyring.kem(made)


async def test_a_site_that_was_off_for_a_year_does_not_begin_again_with_number_one(world):
    world.clock.advance(days=365)
    await end(world)

    issued = await rotate_kem(world.catalog, world.keyring, US, world.clock.now())

    assert issued.statement.number == 2
    assert await end(world) == []


async def test_a_key_made_beside_the_server_is_found_by_it_and_two_makers_never_share_a_number(world):
    beside = FileKeyring.load(world.paths.keys)

    made = [beside.add_kem(), world.keyring.add_kem(), beside.add_kem()]

    assert made == sorted(set(made))
    assert world.keyring.kem(made[2]).public == beside.kem(made[2]).public
    assert world.keyring.kem_numbers() == beside.kem_numbers()


def test_a_number_that_was_taken_a_moment_ago_is_not_overwritten(world, monkeypatch):
    before = (world.paths.keys / "kem-1.key").read_bytes()
    monkeypatch.setattr(FileKeyring, "kem_numbers", lambda _keyring: ())

    assert world.keyring.add_kem() == 2
    assert (world.paths.keys / "kem-1.key").read_bytes() == before


async def test_entries_and_files_agree(world):
    await rotate_kem(world.catalog, world.keyring, US, world.clock.now() + timedelta(days=50))
    world.clock.advance(days=61)
    await end(world)
    assert EntryType.KEM_KEY_DESTROYED.encode() in await entries(world)
