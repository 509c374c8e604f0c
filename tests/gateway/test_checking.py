import pytest

from gateway.checking import Affected, Checked, Fault, Finding, Subset, affected_by, check_store, log_check
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


async def test_the_parts_of_a_store_are_all_of_it_and_none_twice(site):
    catalog, store = site
    parts = [Subset(number, 7) for number in range(1, 8)]
    seen = []
    for part in parts:
        checked = Checked()
        assert [one async for one in check_store(catalog, store, read_data=True, subset=part, checked=checked)] == []
        seen.append(checked.segments)

    assert sum(seen) == len(SEGMENTS)
    assert min(seen) > len(SEGMENTS) / 14
    assert all(sum(part.has(segment) for part in parts) == 1 for segment in SEGMENTS)


async def test_a_fault_is_found_by_its_own_part_alone(site):
    catalog, store = site
    del store.segments[SEGMENTS[0]]
    stray = segment_of(b"a stray")
    store.segments[stray] = b"a stray"
    for segment in (SEGMENTS[0], stray):
        for number in (1, 2, 3):
            part = Subset(number, 3)
            found = {one.segment async for one in check_store(catalog, store, read_data=False, subset=part)}
            assert (segment in found) == part.has(segment)


async def test_what_is_damaged_is_told_by_the_artifacts_that_need_it(site):
    catalog, _ = site

    def another(t):
        t.save_transfer(transfer(2, state="admitted", tag="v2"))
        t.pin_segments(transfer_id(2), [SEGMENTS[3]])

    await catalog.write(another)
    found = await affected_by(
        catalog, [Finding(SEGMENTS[3], Fault.CORRUPT), Finding(SEGMENTS[4], Fault.MISSING), Finding(SEGMENTS[5], Fault.UNKNOWN)]
    )
    only_stray = await affected_by(catalog, [Finding(SEGMENTS[3], Fault.UNKNOWN)])

    assert [(one.transfer, one.state, one.is_visible) for one in found] == [
        (transfer_id(1), "declared", False),
        (transfer_id(2), "admitted", False),
    ]
    assert isinstance(found[1], Affected)
    assert found[1].artifact.endswith(":v2")
    assert only_stray == []


async def test_a_check_is_an_entry_of_the_log(site):
    catalog, _ = site
    index = await log_check(catalog, Subset(2, 3), Checked(5, 50), [Finding(SEGMENTS[0], Fault.MISSING)], read_data=True)
    entry = await catalog.read(lambda t: t.log_entry(index))

    values = {name: opening.value for name, opening in entry.openings.items()}
    assert (values["subset"], values["segments"], values["missing"], values["corrupt"]) == ("2/3", 5, 1, 0)
    assert b"store-checked" in entry.entry
