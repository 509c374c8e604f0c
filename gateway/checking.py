"""The store check: does the disk hold what the catalog says, and nothing else?

It only looks. What is missing or corrupt is sent or fetched again by the transfers that need it; what nobody knows may be deleted
once no transfer is under way.

Rules:      1. nothing is changed  2. memory does not grow with the store: both sides are read a page or a shard at a time
            3. a segment is reported only if it is still wrong when looked at again, since a site goes on while it is checked
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from carnet.errors import IntegrityError, NotFound
from carnet.identifiers import SegmentId
from gateway.ports import BlobStore, Catalog, Transaction
from gateway.records import StoredSegment

_PAGE_SEGMENTS = 1_000


class Fault(StrEnum):
    """What can be wrong with a segment."""

    MISSING = "missing"
    """The catalog has it, the store has not."""
    SIZE = "size"
    """The store's file has another size than the catalog says."""
    CORRUPT = "corrupt"
    """The store's bytes do not have the segment's hash."""
    UNKNOWN = "unknown"
    """The store has it, the catalog does not know it: left by a crash or a deletion that was cut short."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One segment and what is wrong with it."""

    segment: SegmentId
    fault: Fault


async def check_store(catalog: Catalog, store: BlobStore, *, read_data: bool) -> AsyncIterator[Finding]:
    """Yield what is wrong: first by the catalog's list, then by the store's. `read_data` also hashes every segment."""
    async for segment in _known_segments(catalog):
        fault = await _fault_of(store, segment, read_data=read_data)
        if fault is not None and not await _is_unknown(catalog, segment.id):
            yield Finding(segment.id, fault)
    async for found in store.list():
        # A put is durable a moment before the catalog knows it, so what is unknown is asked about once more.
        if await _is_unknown(catalog, found) and await store.head(found) is not None and await _is_unknown(catalog, found):
            yield Finding(found, Fault.UNKNOWN)


async def _known_segments(catalog: Catalog) -> AsyncIterator[StoredSegment]:
    after: SegmentId | None = None
    while True:
        page = await catalog.read(partial(_page_after, after))
        for segment in page:
            yield segment
        if len(page) < _PAGE_SEGMENTS:
            return
        after = page[-1].id


def _page_after(after: SegmentId | None, transaction: Transaction) -> list[StoredSegment]:
    return transaction.stored_segments(after=after, limit=_PAGE_SEGMENTS)


async def _fault_of(store: BlobStore, segment: StoredSegment, *, read_data: bool) -> Fault | None:
    size = await store.head(segment.id)
    if size is None:
        return Fault.MISSING
    if size != segment.size:
        return Fault.SIZE
    if not read_data:
        return None
    try:
        await store.get(segment.id)
    except IntegrityError:
        return Fault.CORRUPT
    except NotFound:
        return Fault.MISSING
    return None


async def _is_unknown(catalog: Catalog, segment: SegmentId) -> bool:
    return bool(await catalog.read(lambda transaction: transaction.missing_segments([segment])))
