import pytest

from gateway.checking import Fault, check_store
from gateway.records import StoredSegment
from gateway.storage.memory import MemoryBlobStore
from tests.gateway.samples import open_catalog, segment_of, transfer, transfer_id

PIECES = {segment_of(piece): piece for piece in (f"segment {number}".encode() for number in range(2_500))}
SEGMENTS = sorted(PIECES)


@pytest.fixture
async def site(tmp_path):
    catalog = open_catalog(tmp_path)
    store = MemoryBlobStore()
    store.segments.update(PIECES)

    def change(t):
        t.save_transfer(transfer())
        for segment, piece in PIECES.items():
            t.add_segment(transfer_id(1), StoredSegment(id=segment, size=len(piece)))

    await catalog.write(change)
    yield catalog, store
    catalog.close()


async def findings(site, *, read_data=False):
    return {found.segment: found.fault async for found in check_store(*site, read_data=read_data)}


async def test_a_whole_store_has_no_findings(site):
    assert await findings(site, read_data=True) == {}


async def test_every_kind_of_fault_is_found(site):
    _, store = site
    del store.segments[SEGMENTS[0]]
    store.segments[SEGMENTS[1]] += b"more"
    changed = bytearray(store.segments[SEGMENTS[2_400]])
    changed[0] ^= 1
    store.segments[SEGMENTS[2_400]] = bytes(changed)
    stray = segment_of(b"a stray")
    store.segments[stray] = b"a stray"

    assert await findings(site) == {SEGMENTS[0]: Fault.MISSING, SEGMENTS[1]: Fault.SIZE, stray: Fault.UNKNOWN}
    assert (await findings(site, read_data=True))[SEGMENTS[2_400]] is Fault.CORRUPT


async def test_a_segment_that_the_catalog_forgot_meanwhile_is_no_finding(site):
    """The site goes on while it is checked: what was deleted after the list was read is not missing."""
    catalog, store = site

    class Deleting(MemoryBlobStore):
        async def head(self, segment):
            if segment == SEGMENTS[5]:
                for gone in await catalog.write(lambda t: t.unpin_transfer(transfer_id(1))):
                    self.segments.pop(gone, None)
            return await super().head(segment)

    deleting = Deleting()
    deleting.segments.update(store.segments)

    assert await findings((catalog, deleting)) == {}
