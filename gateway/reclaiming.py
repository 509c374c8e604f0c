"""Reclaiming: removes what lies in the store and nothing refers to, beside pushes, pulls and deletions that go on.

A crash leaves such files: a segment that was durable before its row was, one whose row went before its file did, a temporary one.
Nothing is removed for its age, and no row is changed: how long things are kept is decided elsewhere.

A push may find such a file present and rest on it. It holds the segment's lock from then until its row is settled, and so does
the removal from its last question to the catalog until the file is gone: whichever comes second sees what the first did.

Rules:      1. a file goes only under its segment's lock, after the catalog's writer said that no row refers to it: it speaks
               after every row that is on its way there, also one whose sender was cancelled
            2. whatever catalog or store cannot tell ends the run: nothing is removed on half an answer
            3. one process may do this, the one that owns the store  4. memory does not grow with the store
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.identifiers import SegmentId
from gateway.ports import Catalog, StoreFiles, Transaction
from gateway.segment_guard import SegmentGuard


@dataclass(slots=True)
class Reclaimed:
    """What was removed, or would be."""

    segments: int = 0
    segment_bytes: int = 0
    temporaries: int = 0
    temporary_bytes: int = 0


class Reclaim:
    """One run is `run`; only for the process that owns the store, with the guard under which it takes segments."""

    def __init__(self, catalog: Catalog, store: StoreFiles, guard: SegmentGuard) -> None:
        """Use the site's catalog and guard, and the store itself: the object through which segments are put."""
        self._catalog = catalog
        self._store = store
        self._guard = guard

    async def run(self, *, dry_run: bool) -> Reclaimed:
        """Remove what nothing refers to, unless `dry_run`, and return how much that is. Safe to cancel and to repeat.

        Steps: (1) segments, shard by shard: all ids are asked about at once, and what seems to be nobody's once more, alone and
        under its lock; (2) temporary files; (3) what was removed is logged, also by a run that failed half-way.

        Raises:
            InternalError: E-DISK, E-DATABASE. Unavailable: E-BUSY, E-DISK-FULL.
        """
        found = Reclaimed()
        try:
            async for shard in self._store.shards():  # (1)
                for segment in await self._catalog.read(partial(_unreferred, tuple(shard))):
                    await self._take(segment, found, dry_run=dry_run)
            for name, size in (await self._store.leftovers()).items():  # (2)
                if not dry_run:
                    await self._store.remove_leftover(name)
                found.temporaries += 1
                found.temporary_bytes += size
        finally:
            if found.segments and not dry_run:
                await self._log(found)  # (3)
        return found

    async def _take(self, segment: SegmentId, found: Reclaimed, *, dry_run: bool) -> None:
        """Remove one segment if it is still nobody's, and count it."""
        async with self._guard.holding(segment):
            if not await self._catalog.write(partial(_unreferred, [segment])):
                return  # a push recorded it since the page was read
            size = await self._store.head(segment)
            if size is None:
                return
            if not dry_run:
                await self._store.delete(segment)
            found.segments += 1
            found.segment_bytes += size

    async def _log(self, found: Reclaimed) -> None:
        """Log that bytes are no longer here. After a crash there is no entry: they were no transfer's, so no custody ends."""
        fields: dict[str, JsonValue] = {"count": found.segments, "bytes": found.segment_bytes, "why": "reclaimed"}
        await self._catalog.write(lambda tx: tx.append(EntryType.SEGMENTS_DELETED, fields))


def _unreferred(segments: Sequence[SegmentId], tx: Transaction) -> list[SegmentId]:
    return tx.unreferred_segments(segments)
