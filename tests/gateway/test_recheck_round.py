"""Rounds of rechecking: when one is due, what a crash leaves of it, and that its pages miss nothing."""

from datetime import timedelta

import pytest

from carnet.identifiers import Digest
from gateway import rechecking
from gateway.catalog.engine import SqliteCatalog
from gateway.recheck_round import KIND, ask_for_round, begin_page, end_page, is_due, last_round, queue_round
from gateway.rechecking import PAGE, page_of
from tests.gateway.samples import START, ManualClock, open_catalog, transfer

GROUND, OTHER = Digest.of(b"ground"), Digest.of(b"other")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def catalog(tmp_path, clock):
    opened = open_catalog(tmp_path, clock=clock)
    yield opened
    opened.close()


async def begun(catalog, ground=GROUND, now=START):
    return await catalog.write(lambda tx: begin_page(tx, ground, 24, now))


async def ended(catalog, current, cursor=None):
    await catalog.write(lambda tx: end_page(tx, current, cursor))


async def due(catalog, ground=GROUND, now=START):
    return await catalog.read(lambda tx: is_due(tx, ground, 24, now))


async def is_queued(catalog: SqliteCatalog) -> bool:
    return await catalog.read(lambda tx: tx.next_job_due([KIND])) is not None


async def test_a_site_that_never_rechecked_does_and_then_waits_its_hours(catalog):
    assert await due(catalog)
    await ended(catalog, await begun(catalog))

    assert not await due(catalog, now=START + timedelta(hours=23, minutes=59))
    assert await due(catalog, now=START + timedelta(hours=24))
    assert await begun(catalog) is None


async def test_another_policy_or_bundle_is_a_reason_and_so_is_a_clock_that_went_back(catalog):
    await ended(catalog, await begun(catalog))

    assert await due(catalog, ground=OTHER)
    assert await due(catalog, now=START - timedelta(days=1))
    assert (await begun(catalog, ground=OTHER)).ground == OTHER


async def test_what_is_asked_for_begins_a_round_and_is_then_answered(catalog):
    await ended(catalog, await begun(catalog))
    await catalog.write(ask_for_round)

    assert await is_queued(catalog)
    assert await due(catalog)
    await ended(catalog, await begun(catalog))
    assert not await due(catalog)


async def test_what_is_asked_for_while_a_round_runs_waits_for_its_end_and_is_not_forgotten(catalog):
    first = await begun(catalog)
    await ended(catalog, first, "cursor-1")
    await catalog.write(ask_for_round)

    goes_on = await begun(catalog, ground=OTHER)
    assert (goes_on.cursor, goes_on.ground) == ("cursor-1", GROUND)
    assert not await due(catalog, ground=OTHER)
    await ended(catalog, goes_on)
    assert await due(catalog)
    assert (await begun(catalog)).cursor is None


async def test_a_page_queues_the_next_and_the_last_queues_none(catalog):
    current = await begun(catalog)
    assert not await is_queued(catalog)

    await ended(catalog, current)
    assert not await is_queued(catalog)
    await ended(catalog, current, "cursor-1")
    assert await is_queued(catalog)


async def test_a_round_that_is_due_is_queued_once(catalog):
    await catalog.write(queue_round)
    await catalog.write(queue_round)

    assert [(one.kind, one.count) for one in await catalog.read(lambda tx: tx.tally_jobs())] == [(KIND, 1)]


async def test_a_round_is_read_back_as_it_was_kept_after_a_restart(tmp_path, clock):
    first = open_catalog(tmp_path, clock=clock)
    await ended(first, await begun(first), "cursor-1")
    first.close()
    second = open_catalog(tmp_path, clock=clock)
    kept = await second.read(last_round)
    second.close()

    assert kept is not None
    assert (kept.ground, kept.cursor, kept.is_over) == (GROUND, "cursor-1", False)


@pytest.mark.parametrize("count", [0, PAGE - 1, PAGE, 2 * PAGE + 7])
async def test_pages_come_to_everything_that_was_delivered_once_also_what_was_made_in_one_second(catalog, count):
    def fill(tx):
        for number in range(count):
            role, state = (("origin", "admitted"), ("destination", "delivered"))[number % 2]
            tx.save_transfer(transfer(number, role=role, state=state))
        tx.save_transfer(transfer(10_000, state="recalled"))

    await catalog.write(fill)
    seen, current = [], await begun(catalog)
    while True:
        page, cursor = await catalog.read(lambda tx, at=current: page_of(tx, at))
        seen += [record.id for record in page]
        await ended(catalog, current, cursor)
        if cursor is None:
            break
        current = await begun(catalog)

    assert sorted(seen) == [transfer(number).id for number in range(count)]
    assert (await catalog.read(last_round)).is_over


async def test_no_page_is_larger_than_it_may_be(catalog, monkeypatch):
    monkeypatch.setattr(rechecking, "PAGE", 2)
    await catalog.write(lambda tx: [tx.save_transfer(transfer(n, state="admitted")) for n in range(5)])

    page, cursor = await catalog.read(lambda tx: page_of(tx, rechecking.Round(GROUND, START)))

    assert (len(page), cursor is None) == (2, False)
