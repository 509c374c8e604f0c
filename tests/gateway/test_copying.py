"""Turns of copying: each place for itself, and at a place each copy."""

import asyncio
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from carnet.decision import Obligation
from carnet.errors import CallerError, InternalError
from carnet.identifiers import SiteName
from carnet.policy.groups import Groups
from gateway.clock import SystemClock
from gateway.copying import KIND, LogCopies, copies_due, queue_copies
from gateway.jobs import CatalogJobQueue, Worker
from gateway.obliging import Means
from gateway.records import JobRecord
from gateway.services import Services
from gateway.settings import CopyPlace
from tests.gateway.samples import ManualClock, open_catalog

DEADLINE_S = 60
SITE = SiteName("us")
BUNDLE = SimpleNamespace(site=lambda _name: SimpleNamespace(jurisdiction="US"))
AU, FR = (CopyPlace(region=region, directory=Path("/") / region) for region in ("AU", "FR"))
BROKEN = InternalError("E-DISK", "no answer")


class Proofs:
    """A log that proves every entry but those that it lost."""

    def __init__(self) -> None:
        self.lost: set[int] = set()

    async def prove(self, index: int, _fields) -> SimpleNamespace:
        if index in self.lost:
            raise InternalError("E-INTERNAL", f"log entry {index} is not in the catalog")
        return SimpleNamespace(to_json=lambda: {"index": index})


@dataclass
class Shelf:
    """Takes copies; what is to hang waits until `answers`, what is to fail is refused."""

    hangs: set[str] = field(default_factory=set)
    fails: set[str] = field(default_factory=set)
    """Regions, or numbers of copies in them."""
    tried: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def put(self, place: CopyPlace, _site: str, name: str, _data: bytes) -> None:
        copy = f"{place.region}-{int(name.partition('-')[0])}"
        await self._tell(self.tried, copy)
        if place.region in self.hangs:
            await self.answers.wait()
        if {place.region, copy} & self.fails:
            raise BROKEN
        await self._tell(self.taken, copy)

    async def _tell(self, said: list[str], copy: str) -> None:
        async with self.changed:
            said.append(copy)
            self.changed.notify_all()

    async def until(self, *copies: str, tried: bool = False) -> None:
        """Return once all of these were taken, or tried."""
        async with asyncio.timeout(DEADLINE_S), self.changed:
            await self.changed.wait_for(lambda: set(copies) <= set(self.tried if tried else self.taken))


class Site:
    """A site with places for copies in AU and FR."""

    def __init__(self, directory: Path, clock, places=(AU, FR)) -> None:
        self.clock, self.places, self.log, self.shelf = clock, places, Proofs(), Shelf()
        self.catalog = open_catalog(directory, clock=clock)

    def copies(self, **settings) -> LogCopies:
        given = {one.name: None for one in fields(Services)}
        trust = SimpleNamespace(floor=SimpleNamespace(judged=lambda now: now), state=lambda: SimpleNamespace(current=BUNDLE))
        policies = SimpleNamespace(policy=SimpleNamespace(groups=Groups(())))
        mine = {"site": SITE, "catalog": self.catalog, "log": self.log, "clock": self.clock, "trust": trust}
        services = Services(**given | mine | {"policies": policies, "copies": self.places})
        return LogCopies(services, self.shelf.put, **settings)

    async def decide(self, index: int, *kinds: str) -> None:
        """Put down the copies of a decision, each kind as `FR-full`."""

        def change(tx):
            means = Means(SITE, BUNDLE, self.places, Groups(()), tx.now)
            asked = [
                Obligation(kind="log-copy", parameters=dict(zip(("region", "mode"), kind.split("-"), strict=True)))
                for kind in kinds
            ]
            queue_copies(tx, means, asked, {}, index=index, decision=b"{}", inputs=b"{}")

        await self.catalog.write(change)

    async def due(self) -> int:
        return (await self.catalog.read(copies_due))[0]

    async def is_queued(self) -> bool:
        """Tell whether a job is queued beside those that the tests run by hand."""
        return await self.catalog.read(lambda tx: tx.next_job_due([KIND])) is not None


def job(key: str) -> JobRecord:
    return JobRecord(id=1, kind=KIND, key=key, attempts=1, fence=1)


async def forget_jobs(site: Site) -> None:
    """The tests run the handler by hand: take what was queued for the worker."""
    queue = CatalogJobQueue(site.catalog)
    while (leased := await queue.lease([KIND])) is not None:
        await queue.finish(leased)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path, ManualClock())
    yield site
    site.catalog.close()


@pytest.mark.parametrize("trouble", ["hangs", "fails"])
async def test_a_region_in_trouble_keeps_no_other_region_waiting_then_or_later(tmp_path, trouble):
    site = Site(tmp_path, SystemClock())
    getattr(site.shelf, trouble).add("AU")
    worker = Worker(CatalogJobQueue(site.catalog), {KIND: site.copies().run}, clock=site.clock)
    unsubscribe, running = site.catalog.subscribe(worker.hear), asyncio.create_task(worker.run())
    try:
        await site.decide(1, "AU-full", "FR-full")
        await site.shelf.until("AU-1", tried=True)
        await site.shelf.until("FR-1")
        await site.decide(2, "AU-full", "FR-full")
        await site.shelf.until("FR-2")
        assert not any(copy.startswith("AU") for copy in site.shelf.taken)

        getattr(site.shelf, trouble).clear()
        site.shelf.answers.set()
        await site.decide(3, "AU-full", "FR-full")
        await site.shelf.until("AU-1", "AU-2", "AU-3", "FR-3")
    finally:
        worker.stop()
        await asyncio.wait_for(running, DEADLINE_S)
        unsubscribe()
        site.catalog.close()


async def test_a_turn_ends_at_the_first_copy_that_the_storage_does_not_take(site):
    for index in (1, 2, 3):
        await site.decide(index, "FR-full")
    site.shelf.fails = {"FR"}

    with pytest.raises(InternalError, match="no answer"):
        await site.copies().run(job("FR-full"))

    assert site.shelf.tried == ["FR-1"]
    assert await site.due() == 3


async def test_a_copy_that_the_storage_never_takes_does_not_keep_those_behind_it_waiting(site):
    for index in (1, 2, 3, 4):
        await site.decide(index, "FR-full")
    site.shelf.fails = {"FR-1", "FR-2"}
    copies = site.copies()

    for _ in range(3):
        with pytest.raises(InternalError, match="no answer"):
            await copies.run(job("FR-full"))
    site.shelf.fails = set()
    await copies.run(job("FR-full"))

    assert site.shelf.taken == ["FR-3", "FR-4", "FR-1", "FR-2"]
    assert await site.due() == 0


async def test_a_copy_that_cannot_be_made_keeps_no_other_waiting(site):
    for index in (1, 2):
        await site.decide(index, "FR-full")
    site.log.lost = {1}

    with pytest.raises(InternalError, match="log entry 1"):
        await site.copies().run(job("FR-full"))

    assert site.shelf.taken == ["FR-2"]


async def test_a_turn_has_an_end_and_another_follows(site):
    for index in (1, 2):
        await site.decide(index, "FR-full")
    await forget_jobs(site)

    await site.copies(turn_s=0).run(job("FR-full"))

    assert (site.shelf.taken, await site.is_queued()) == (["FR-1"], True)


async def test_kinds_that_go_to_one_place_share_a_turn_and_never_write_there_at_once(site):
    await site.decide(1, "FR-full")
    await site.decide(2, "FR-hash")
    await forget_jobs(site)
    site.shelf.hangs = {"FR"}
    copies = site.copies()
    first = asyncio.create_task(copies.run(job("FR-full")))
    await site.shelf.until("FR-1", tried=True)

    await asyncio.wait_for(copies.run(job("FR-hash")), DEADLINE_S)

    assert (site.shelf.tried, await site.is_queued()) == (["FR-1"], True)
    site.shelf.answers.set()
    await asyncio.wait_for(first, DEADLINE_S)
    assert site.shelf.taken == ["FR-1", "FR-2"]


async def test_what_has_no_place_any_more_is_told_and_stays_due(site):
    await site.decide(1, "FR-full")
    site.places = (AU,)

    with pytest.raises(CallerError, match="no place for copies in FR"):
        await site.copies().run(job("FR-full"))

    assert await site.due() == 1


async def test_where_nothing_is_due_nothing_is_done(site):
    await site.copies().run(job("FR-full"))

    assert site.shelf.tried == []
