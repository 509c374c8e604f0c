"""What is removed for one transfer is never what another one is about to rest on, whoever is cancelled in between."""

import asyncio

import pytest

from gateway.records import StoredSegment
from gateway.segment_guard import SegmentGuard
from gateway.storage.local import LocalBlobStore
from gateway.storage.memory import MemoryBlobStore
from tests.gateway.samples import Gate, open_catalog, segment_of, transfer, transfer_id

DATA = b"a sealed segment"
SEGMENT = segment_of(DATA)


def record(t):
    return t.add_segment(transfer_id(1), StoredSegment(id=SEGMENT, size=len(DATA)))


async def test_a_row_that_was_on_its_way_when_its_caller_was_cancelled_keeps_its_segment(tmp_path):
    """The change is made although nobody waits for it; its segment is asked for behind it, not past it."""
    gate, guard, store = Gate("commit"), SegmentGuard(), MemoryBlobStore()
    catalog = open_catalog(tmp_path, step=gate)
    await catalog.write(lambda t: t.save_transfer(transfer()))
    gate.shut()

    async def put():
        async with guard.holding(SEGMENT):
            await store.put_if_absent(SEGMENT, DATA)
            await catalog.write(record)

    putting = asyncio.create_task(put())
    await gate.reached()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    removing = asyncio.create_task(guard.remove_unneeded(catalog, store, [SEGMENT]))
    # Until it waits for the writer: nothing else can be told from outside.
    await asyncio.wait([removing], timeout=0.05)
    gate.open()
    await removing

    assert await catalog.read(lambda t: t.missing_segments([SEGMENT])) == []
    assert await store.get(SEGMENT) == DATA
    catalog.close()


async def test_a_removal_that_was_cancelled_removes_nothing_that_comes_after_it(tmp_path):
    """The lock is let go only once the thread is done with the file."""
    gate = Gate("remove")
    store = LocalBlobStore(tmp_path / "store", step=gate)
    await store.put_if_absent(SEGMENT, DATA)
    gate.shut()
    guard = SegmentGuard()

    async def remove():
        async with guard.holding(SEGMENT):
            await store.delete(SEGMENT)

    async def put():
        async with guard.holding(SEGMENT):
            return await store.put_if_absent(SEGMENT, DATA)

    removing = asyncio.create_task(remove())
    await gate.reached()
    removing.cancel()
    putting = asyncio.create_task(put())
    await asyncio.wait([putting], timeout=0.05)
    assert not putting.done()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await removing

    assert await putting is True
    assert await store.get(SEGMENT) == DATA
    store.close()
