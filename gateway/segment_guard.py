"""One at a time for each segment: keeping it and recording it, or finding that nobody needs it and removing it.

Without this a segment could be found present by one transfer, removed for another that gave it up, and then be recorded as here
(P4). The store has one writing process, so locks in memory are enough.

Rules:      1. a lock is held from before the put, or the question who needs the segment, until the row or the file is settled
            2. whether a segment is needed is asked on the catalog's writer, behind every row on its way there: whoever was
               cancelled while it waited for its row has let go of the lock, and the row may come yet
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from carnet.identifiers import SegmentId
from gateway.ports import BlobStore, Catalog


class SegmentGuard:
    """Locks by segment id; a lock exists only while somebody holds or awaits it. Owned by the event loop."""

    def __init__(self) -> None:
        """Start with nothing locked."""
        self._locks: dict[SegmentId, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def holding(self, segment: SegmentId) -> AsyncIterator[None]:
        """Hold the segment's lock for the body."""
        lock, users = self._locks.get(segment, (asyncio.Lock(), 0))
        self._locks[segment] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[segment][1] - 1
            if users:
                self._locks[segment] = (lock, users)
            else:
                del self._locks[segment]

    async def remove_unneeded(self, catalog: Catalog, store: BlobStore, segments: Iterable[SegmentId]) -> None:
        """Delete each segment that the catalog still does not know; whoever recorded one meanwhile keeps it."""
        for segment in segments:
            async with self.holding(segment):
                if await _is_unknown(catalog, segment):
                    await store.delete(segment)


async def _is_unknown(catalog: Catalog, segment: SegmentId) -> bool:
    return bool(await catalog.write(lambda tx: tx.missing_segments([segment])))  # (rule 2)
