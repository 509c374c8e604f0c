"""What nothing refers to goes, and nothing else ever does: beside pushes, after crashes, and when the catalog cannot tell."""

import asyncio
import random
from dataclasses import fields
from types import SimpleNamespace

import pytest

from carnet.errors import InternalError
from gateway.ports import Catalog
from gateway.receive import Receive
from gateway.reclaiming import Reclaim, Reclaimed
from gateway.records import StoredSegment
from gateway.segment_guard import SegmentGuard
from gateway.services import Bounds, Services
from gateway.storage.local import LocalBlobStore
from gateway.storage.memory import MemoryBlobStore
from tests.gateway.samples import AGENT, Failpoint, Gate, Killed, open_catalog, segment_of, transfer, transfer_id

STRAY, KEPT = b"a stray, left by a crash", b"what a transfer needs"
ONE = transfer_id(1)


class Site:
    """Catalog, store and guard of a site in which one transfer has one segment and a crash left another, and half a third."""

    def __init__(self, directory, *, step=None, catalog_step=None):
        self.directory = directory
        hooks = {} if step is None else {"step": step}
        self.catalog = open_catalog(directory, **({} if catalog_step is None else {"step": catalog_step}))
        self.store = LocalBlobStore(directory / "store", **hooks)
        self.guard = SegmentGuard()
        self.reclaim = Reclaim(self.catalog, self.store, self.guard)

    async def fill(self):
        def change(t):
            t.save_transfer(transfer())
            t.add_segment(ONE, StoredSegment(id=segment_of(KEPT), size=len(KEPT)))

        for data in (KEPT, STRAY):
            await self.store.put_if_absent(segment_of(data), data)
        await self.catalog.write(change)
        return self

    def leave_half_a_segment(self):
        (self.directory / "store" / "incoming" / "77-left").write_bytes(b"half")

    def receive(self) -> Receive:
        given = {field.name: None for field in fields(Services) if field.name not in {"reserve", "opening"}}
        anybody = SimpleNamespace(require=lambda *_asked: None)
        mine = {"catalog": self.catalog, "store": self.store, "guard": self.guard, "bounds": Bounds(), "access": anybody}
        services = Services(**given | mine)
        return Receive(services, None)

    async def segments(self) -> set:
        return {segment async for segment in self.store.list()}

    async def require_whole(self):
        """Every segment that the catalog has is in the store, bit for bit."""
        known = await self.catalog.read(lambda t: t.stored_segments(after=None, limit=10_000))
        for segment in known:
            assert segment_of(await self.store.get(segment.id)) == segment.id
        return {segment.id for segment in known}

    def close(self):
        self.store.close()
        self.catalog.close()


@pytest.fixture
async def site(tmp_path):
    site = await Site(tmp_path).fill()
    yield site
    site.close()


async def test_what_no_row_refers_to_is_removed_and_counted_and_nothing_else(site):
    site.leave_half_a_segment()

    assert await site.reclaim.run(dry_run=False) == Reclaimed(1, len(STRAY), 1, 4)
    assert await site.segments() == {segment_of(KEPT)}
    assert list((site.directory / "store" / "incoming").iterdir()) == []
    assert await site.reclaim.run(dry_run=False) == Reclaimed()


async def test_a_dry_run_tells_the_same_and_removes_and_logs_nothing(site):
    site.leave_half_a_segment()
    before = await site.catalog.read(lambda t: t.log_size())

    assert await site.reclaim.run(dry_run=True) == Reclaimed(1, len(STRAY), 1, 4)
    assert await site.segments() == {segment_of(KEPT), segment_of(STRAY)}
    assert await site.store.leftovers() == {"77-left": 4}
    assert await site.catalog.read(lambda t: t.log_size()) == before


async def test_what_is_removed_is_an_entry_of_the_log(site):
    await site.reclaim.run(dry_run=False)

    entry = await site.catalog.read(lambda t: t.log_entry(t.log_size() - 1))
    assert b"segments-deleted" in entry.entry
    assert {name: opening.value for name, opening in entry.openings.items()} == {
        "count": 1,
        "bytes": len(STRAY),
        "why": "reclaimed",
    }


async def test_a_segment_whose_transfers_are_all_over_stays_as_long_as_a_row_refers_to_it(site):
    """Retention is decided elsewhere: a tag that moved on leaves its transfer, and that its segments."""
    await site.catalog.write(lambda t: t.save_transfer(transfer(state="delivered")))

    await site.reclaim.run(dry_run=False)

    assert segment_of(KEPT) in await site.segments()


@pytest.mark.parametrize("step", ["directory-sync", "directory-synced", "commit", "committed"])
async def test_a_push_that_found_a_stray_present_and_rests_on_it_keeps_it(tmp_path, step):
    """The race to close: found present, not yet recorded, and nobody's as far as rows tell."""
    gate = Gate(step)
    site = await Site(tmp_path, step=gate, catalog_step=gate).fill()
    receive = site.receive()
    gate.shut()
    pushing = asyncio.create_task(receive.put_segment(AGENT, ONE, segment_of(STRAY), STRAY, None))
    await gate.reached()
    reclaiming = asyncio.create_task(site.reclaim.run(dry_run=False))
    await asyncio.wait([reclaiming], timeout=0.1)  # it comes as far as it can
    gate.open()

    assert await pushing is True
    assert await reclaiming == Reclaimed()
    assert await site.require_whole() == {segment_of(KEPT), segment_of(STRAY)}
    site.close()


@pytest.mark.parametrize("step", ["remove", "removed", "directory-sync", "directory-synced"])
async def test_a_push_of_a_segment_that_is_just_being_removed_stores_it_anew(tmp_path, step):
    gate = Gate(step)
    site = await Site(tmp_path, step=gate).fill()
    gate.shut()
    reclaiming = asyncio.create_task(site.reclaim.run(dry_run=False))
    await gate.reached()
    pushing = asyncio.create_task(site.receive().put_segment(AGENT, ONE, segment_of(STRAY), STRAY, None))
    await asyncio.wait([pushing], timeout=0.1)
    gate.open()

    assert (await reclaiming).segments == 1
    assert await pushing is True
    assert await site.require_whole() == {segment_of(KEPT), segment_of(STRAY)}
    site.close()


async def test_a_push_that_was_broken_off_while_its_row_was_on_its_way_keeps_the_segment(tmp_path):
    """Its client comes back and is told by the row that the segment is here."""
    gate = Gate("commit")
    site = await Site(tmp_path, catalog_step=gate).fill()
    receive = site.receive()
    gate.shut()
    pushing = asyncio.create_task(receive.put_segment(AGENT, ONE, segment_of(STRAY), STRAY, None))
    await gate.reached()
    pushing.cancel()
    reclaiming = asyncio.create_task(site.reclaim.run(dry_run=False))
    await asyncio.wait([reclaiming], timeout=0.1)
    gate.open()

    assert await reclaiming == Reclaimed()
    assert await site.require_whole() == {segment_of(KEPT), segment_of(STRAY)}
    site.close()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_pushes_endings_and_reclaims_meet_every_row_has_its_segment(tmp_path, seed):
    """Pushes of few segments by several transfers, some broken off; transfers that end; reclaims; in any order, all at once."""
    choice = random.Random(seed)
    site = await Site(tmp_path).fill()
    pieces = [bytes([number]) * 3_000 for number in range(5)]
    await site.catalog.write(lambda t: [t.save_transfer(transfer(number)) for number in range(1, 5)])

    async def push(number, data):
        async with site.guard.holding(segment_of(data)):
            await site.store.put_if_absent(segment_of(data), data)
            row = StoredSegment(id=segment_of(data), size=len(data))
            await site.catalog.write(lambda t: t.add_segment(transfer_id(number), row))

    async def end(number):
        orphans = await site.catalog.write(lambda t: t.unpin_transfer(transfer_id(number)))
        if choice.random() < 0.5:  # otherwise it was killed before their files were gone
            await site.guard.remove_unneeded(site.catalog, site.store, orphans)

    def begin():
        kind, number = choice.random(), choice.randrange(1, 5)
        if kind < 0.6:
            return push(number, choice.choice(pieces))
        return end(number) if kind < 0.85 else site.reclaim.run(dry_run=False)

    tasks = []
    for _ in range(120):
        tasks.append(asyncio.create_task(begin()))
        for _ in range(choice.randrange(4)):
            await asyncio.sleep(0)
        if choice.random() < 0.25:
            choice.choice(tasks).cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [one for one in outcomes if isinstance(one, Exception)] == []

    known = await site.require_whole()
    await site.reclaim.run(dry_run=False)
    assert await site.segments() == known == await site.require_whole()
    site.close()


async def test_a_reclaim_killed_at_any_step_loses_nothing_and_the_next_one_ends_it(tmp_path):
    async def killed_at(number, directory):
        directory.mkdir()
        (await Site(directory).fill()).close()
        steps = Failpoint(number)
        site = Site(directory, step=steps, catalog_step=steps)
        steps.seen.clear()
        try:
            await site.reclaim.run(dry_run=False)
        except Killed:
            pass
        finally:
            steps.number = None
            site.close()
        return steps.seen

    steps = await killed_at(None, tmp_path / "dry")
    assert {"remove", "removed", "directory-sync", "directory-synced", "commit", "committed"} <= set(steps)
    for number in range(len(steps)):
        await killed_at(number, tmp_path / str(number))

        again = Site(tmp_path / str(number))
        await again.require_whole()
        await again.reclaim.run(dry_run=False)
        assert await again.segments() == await again.require_whole() == {segment_of(KEPT)}
        again.close()


class Failing(Catalog):
    """A catalog that cannot be read, or whose writer does not answer."""

    def __init__(self, catalog, *, on):
        self.catalog = catalog
        self.on = on

    async def read(self, question):
        return await self._ask("read", question)

    async def write(self, change):
        return await self._ask("write", change)

    async def _ask(self, how, question):
        if how == self.on:
            raise InternalError("E-DATABASE", "the catalog's file is damaged")
        return await getattr(self.catalog, how)(question)


@pytest.mark.parametrize("on", ["read", "write"])
async def test_nothing_is_removed_when_the_catalog_cannot_tell(site, on):
    site.leave_half_a_segment()
    with pytest.raises(InternalError):
        await Reclaim(Failing(site.catalog, on=on), site.store, site.guard).run(dry_run=False)

    assert await site.segments() == {segment_of(KEPT), segment_of(STRAY)}
    assert await site.store.leftovers() == {"77-left": 4}


async def test_what_was_removed_before_a_failure_is_logged(site):
    class Breaking(MemoryBlobStore):
        async def leftovers(self):
            raise InternalError("E-DISK", "disk error at the store's temporary files")

    store = Breaking()
    store.segments[segment_of(STRAY)] = STRAY
    before = await site.catalog.read(lambda t: t.log_size())
    with pytest.raises(InternalError):
        await Reclaim(site.catalog, store, site.guard).run(dry_run=False)

    assert store.segments == {}
    assert await site.catalog.read(lambda t: t.log_size()) == before + 1
