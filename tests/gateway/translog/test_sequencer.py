import random
import shutil
import sqlite3

import pytest

from carnet.checkpoint import open_checkpoint
from carnet.errors import IntegrityError, Unavailable
from carnet.keys import SigningKey
from gateway.storage.durable import SyncFailure
from gateway.translog.verify import verify_directory
from tests.gateway.samples import Failpoint, Killed

ORIGIN = "acme.example/site/us/log"
KEY = SigningKey(bytes(range(32)))


def published(site):
    note = (site.directory / "log" / "checkpoint").read_bytes()
    return open_checkpoint(note, origin=ORIGIN, key=KEY.public)


def snapshot(site):
    log = site.directory / "log"
    return {str(path.relative_to(log)): path.read_bytes() for path in log.rglob("*") if path.is_file()}


def run(site, text):
    connection = sqlite3.connect(site.directory / "catalog.sqlite")
    with connection:
        connection.execute(text)
    connection.close()


async def test_the_first_start_signs_the_empty_log(site):
    await site.log.start()

    assert published(site).size == 0
    assert verify_directory(site.directory / "log", origin=ORIGIN, key=KEY.public).size == 0


async def test_starting_again_changes_nothing(site):
    await site.fill(300)
    before = snapshot(site)

    await site.log.start()
    await site.log.start()

    assert snapshot(site) == before


async def test_a_restarted_log_goes_on_where_it_stopped(site):
    await site.fill(255, 2)
    site.close()
    site.open()

    await site.fill(300)

    assert verify_directory(site.directory / "log", origin=ORIGIN, key=KEY.public).size == 557


def copy_of(seed, site):
    shutil.copytree(seed.directory, site.directory)
    return site


class TestFaults:
    async def test_killed_at_any_step_the_next_start_ends_with_one_history(self, new_site):
        """Every step is met before and after it happened; I3, I4 and I8 of the write path must hold after recovery."""
        seed = new_site("seed").open()
        await seed.fill(250)
        await seed.append(10)
        entries = await seed.catalog.read(lambda t: t.log_range(0, 1_000))
        seed.close()

        number = 0
        while True:
            site = copy_of(seed, new_site(str(number)))
            failpoint = Failpoint()
            site.open(catalog_step=failpoint, log_step=failpoint)
            await site.log.start()
            failpoint.number = number
            failpoint.seen.clear()
            try:
                await site.sequence()
            except Killed:
                emitted = published(site)
            else:
                site.close()
                break
            site.close()

            site.open()
            await site.log.start()
            recovered = snapshot(site)
            await site.log.start()
            assert snapshot(site) == recovered
            await site.sequence()
            report = verify_directory(site.directory / "log", origin=ORIGIN, key=KEY.public, previous=emitted)
            assert report.size == 260
            assert await site.catalog.read(lambda t: t.log_range(0, 1_000)) == entries
            site.close()
            number += 1
        assert number > 20

    async def test_killed_while_it_recovers_the_next_start_finishes(self, new_site):
        seed = new_site("seed").open()
        await seed.fill(255)
        await seed.append(2)
        seed.log._sequencer._step = Failpoint(5)  # at "publish": the head is swapped, nothing is published
        with pytest.raises(Killed):
            await seed.sequence()
        seed.close()

        number = 0
        while True:
            site = copy_of(seed, new_site(str(number))).open(log_step=Failpoint(number))
            try:
                await site.log.start()
            except Killed:
                site.close()
            else:
                site.close()
                break
            site.open()
            await site.log.start()
            assert verify_directory(site.directory / "log", origin=ORIGIN, key=KEY.public).size == 257
            site.close()
            number += 1
        assert number > 20

    async def test_a_bit_that_flips_in_the_staged_batch_is_never_signed(self, site):
        await site.fill(10)
        head = site.log.checkpoint()
        await site.append(5)
        stage = site.directory / "log" / "staging"
        chance = random.Random(11)

        def flip(name):
            if name == "staged":
                (path,) = [path for path in stage.iterdir() if path.is_file()]
                data = bytearray(path.read_bytes())
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                path.write_bytes(data)

        site.log._sequencer._step = flip
        for _ in range(40):
            with pytest.raises(IntegrityError):
                await site.sequence()

        assert site.log.checkpoint() == head
        assert (await site.catalog.read(lambda t: t.log_head())).size == 10

    async def test_a_leaf_hash_that_flips_in_the_catalog_is_never_signed(self, site):
        await site.fill(10)
        await site.append(5)
        run(site, "UPDATE log_entries SET leaf_hash = zeroblob(32) WHERE number = 12")

        with pytest.raises(IntegrityError) as failure:
            await site.sequence()

        assert "12" in failure.value.problem

    async def test_a_head_that_somebody_else_moved_ends_the_process(self, site):
        await site.fill(10)
        await site.append(1)
        run(site, "UPDATE log_head SET size = 11")

        with pytest.raises(SyncFailure):
            await site.sequence()

    async def test_a_published_tile_that_differs_is_never_overwritten(self, site):
        await site.fill(10)
        await site.append(1)
        foreign = site.directory / "log" / "tile" / "0" / "000.p" / "11"
        foreign.write_bytes(bytes(11 * 32))

        with pytest.raises(SyncFailure):
            await site.sequence()

        assert foreign.read_bytes() == bytes(11 * 32)

    async def test_a_full_disk_before_the_swap_promises_nothing_and_is_temporary(self, site, monkeypatch):
        await site.fill(10)
        await site.append(1)

        def full(*arguments):
            raise Unavailable("E-DISK-FULL", "no space")

        monkeypatch.setattr(site.log._files, "stage", full)
        with pytest.raises(Unavailable):
            await site.sequence()
        monkeypatch.undo()

        await site.sequence()
        assert published(site).size == 11

    async def test_a_full_disk_after_the_swap_is_waited_out(self, site, monkeypatch):
        await site.fill(10)
        await site.append(1)

        def full(*arguments):
            raise Unavailable("E-DISK-FULL", "no space")

        monkeypatch.setattr(site.log._files, "publish", full)
        with pytest.raises(Unavailable):
            await site.sequence()
        assert published(site).size == site.log.checkpoint()[0].size == 10
        monkeypatch.undo()

        await site.append(1)
        await site.sequence()
        assert verify_directory(site.directory / "log", origin=ORIGIN, key=KEY.public).size == 12


class TestStartRefuses:
    async def test_a_catalog_older_than_its_own_checkpoint(self, site):
        await site.fill(10)
        head = await site.catalog.read(lambda t: t.log_head())
        await site.fill(5)
        site.close()
        run(site, f"UPDATE log_head SET size = {head.size}, root = x'{head.root.hex()}', note = '{head.note}'")  # noqa: S608
        site.open()

        with pytest.raises(IntegrityError) as refusal:
            await site.log.start()

        assert refusal.value.code == "E-LOG"

    async def test_a_catalog_without_a_log_beside_a_published_one(self, site):
        await site.fill(10)
        site.close()
        for path in site.directory.glob("catalog.sqlite*"):
            path.unlink()
        site.open()

        with pytest.raises(IntegrityError):
            await site.log.start()

    async def test_tiles_that_do_not_have_the_signed_root(self, site):
        await site.fill(10)
        site.close()
        tile = site.directory / "log" / "tile" / "0" / "000.p" / "10"
        tile.write_bytes(bytes(320))
        site.open()

        with pytest.raises(IntegrityError):
            await site.log.start()

    async def test_a_head_whose_note_says_something_else(self, site):
        await site.fill(10)
        site.close()
        run(site, "UPDATE log_head SET size = 9")
        site.open()

        with pytest.raises(IntegrityError):
            await site.log.start()

    async def test_a_signed_head_whose_staged_tiles_are_lost(self, site):
        await site.fill(10)
        await site.append(1)
        site.log._sequencer._step = Failpoint(5)
        with pytest.raises(Killed):
            await site.sequence()
        site.close()
        for path in (site.directory / "log" / "staging").iterdir():
            path.unlink()
        site.open()

        with pytest.raises(IntegrityError):
            await site.log.start()
