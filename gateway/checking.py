"""The store check: does the disk hold what the catalog says, and nothing else?

It only looks, and logs that it looked. What is missing or corrupt is sent or fetched again by the transfers that need it; what
nobody knows is removed by `gateway.reclaiming`.

Rules:      1. no segment is changed, and no row of one
            2. memory does not grow with the store: both sides are read a page or a shard at a time
            3. a segment is reported only if it is still wrong when looked at again, since a site goes on while it is checked
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.errors import IntegrityError, NotFound
from carnet.identifiers import SegmentId, TransferId
from gateway.ports import BlobStore, Catalog, Transaction
from gateway.records import StoredSegment

_PAGE_SEGMENTS = 1_000
_TRANSFERS_A_SEGMENT = 1_000


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


@dataclass(frozen=True, slots=True)
class Subset:
    """The part `number` of `count` of all segments, counted from 1: the same segments each time, about as many in each part."""

    number: int = 1
    count: int = 1

    def has(self, segment: SegmentId) -> bool:
        """Tell whether the segment is in this part."""
        return int.from_bytes(segment.binary[-8:], "big") % self.count == self.number - 1


@dataclass(slots=True)
class Checked:
    """How far a check has come."""

    segments: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Affected:
    """A transfer that needs a segment which is missing or damaged."""

    transfer: TransferId
    state: str
    artifact: str
    """`repository:tag`."""
    is_visible: bool
    """Whether a tag points to it, so that pulls of it fail."""


async def check_store(
    catalog: Catalog, store: BlobStore, *, read_data: bool, subset: Subset = Subset(), checked: Checked | None = None
) -> AsyncIterator[Finding]:
    """Yield what is wrong: first by the catalog's list, then by the store's. `read_data` also hashes every segment.

    Only segments of `subset` are looked at; `checked` counts them.
    """
    counted = checked or Checked()
    async for segment in _known_segments(catalog):
        if not subset.has(segment.id):
            continue
        counted.segments += 1
        counted.size += segment.size
        fault = await _fault_of(store, segment, read_data=read_data)
        if fault is not None and not await _is_unknown(catalog, segment.id):
            yield Finding(segment.id, fault)
    async for found in store.list():
        # A put is durable a moment before the catalog knows it, so what is unknown is asked about once more.
        is_stray = subset.has(found) and await _is_unknown(catalog, found)
        if is_stray and await store.head(found) is not None and await _is_unknown(catalog, found):
            yield Finding(found, Fault.UNKNOWN)


async def affected_by(catalog: Catalog, findings: Iterable[Finding]) -> list[Affected]:
    """Return the transfers that need what is missing or damaged, by their artifacts' names."""
    bad = [finding.segment for finding in findings if finding.fault is not Fault.UNKNOWN]

    def ask(tx: Transaction) -> list[Affected]:
        found: dict[TransferId, Affected] = {}
        for segment in bad:
            for transfer in tx.transfers_with(segment, _TRANSFERS_A_SEGMENT):
                record = tx.transfer(transfer)
                if record is not None and transfer not in found:
                    name = f"{record.repository}:{record.tag}"
                    found[transfer] = Affected(transfer, record.state, name, tx.artifact_users(transfer) > 0)
        return sorted(found.values(), key=lambda one: (one.artifact, one.transfer))

    return await catalog.read(ask)


async def log_check(catalog: Catalog, subset: Subset, checked: Checked, findings: Sequence[Finding], *, read_data: bool) -> int:
    """Log that the store was checked, and what came out; return the entry's index."""
    counts = {fault.value: sum(finding.fault is fault for finding in findings) for fault in Fault}
    fields: dict[str, JsonValue] = {
        "read-data": read_data,
        "subset": f"{subset.number}/{subset.count}",
        "segments": checked.segments,
        "bytes": checked.size,
        **counts,
    }
    return await catalog.write(lambda tx: tx.append(EntryType.STORE_CHECKED, fields))


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
