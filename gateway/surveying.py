"""The survey of the store: how much lies in it, what it is there for, and what sharing saves.

One pass over the files, a shard at a time; the catalog is asked about each page of them. A site goes on meanwhile, so a figure is
that of the moment at which it was read, and a segment that came in just then may be counted as nobody's.

Rules:      1. nothing is changed  2. memory grows neither with the store nor with the number of repositories
            3. each segment is counted once among delivered, in transfer and nobody's
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from carnet.identifiers import Repository, SegmentId
from gateway.ports import Catalog, StoreFiles, Transaction
from gateway.records import SegmentUse

_PAGE_SEGMENTS: Final = 1_000
_REPOSITORIES_KEPT: Final = 10_000


@dataclass(slots=True)
class Amount:
    """How many, and how many bytes together."""

    count: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """Count one more of `size` bytes."""
        self.count += 1
        self.size += size


@dataclass(slots=True)
class Survey:
    """What was found. Amounts are of files, by their size on the disk."""

    stored: Amount = field(default_factory=Amount)
    """All segments."""
    known: Amount = field(default_factory=Amount)
    """Those that the catalog has."""
    listed: Amount = field(default_factory=Amount)
    """What the catalog has, be it in the store or not."""
    delivered: Amount = field(default_factory=Amount)
    """What some transfer needs that is over: delivered here, or from here."""
    in_transfer: Amount = field(default_factory=Amount)
    """What is not, but some transfer or passage needs that goes on."""
    nobodys: Amount = field(default_factory=Amount)
    """The rest."""
    shared: Amount = field(default_factory=Amount)
    """What more than one transfer needs."""
    saved_bytes: int = 0
    """What these would take if each transfer had its own, less what they take."""
    unfinished_bytes: int = 0
    """What transfers that are not committed have brought in."""
    temporary: Amount = field(default_factory=Amount)
    """Temporary files: puts under way, and what a crash left."""
    repositories: Counter[Repository] = field(default_factory=Counter)
    """Bytes by repository; a segment that two of them need counts for both. Of many, the largest."""

    def count(self, size: int, uses: Sequence[SegmentUse], *, is_known: bool) -> None:
        """Count one segment of `size` bytes and whoever needs it."""
        self.stored.add(size)
        if is_known:
            self.known.add(size)
        if any(use.is_delivered for use in uses):
            self.delivered.add(size)
        else:
            (self.in_transfer if uses else self.nobodys).add(size)
        users = sum(use.users for use in uses)
        if users > 1:
            self.shared.add(size)
            self.saved_bytes += (users - 1) * size
        for use in uses:
            if use.repository is not None:
                self.repositories[use.repository] += size
        if len(self.repositories) > 2 * _REPOSITORIES_KEPT:
            self.repositories = Counter(dict(self.repositories.most_common(_REPOSITORIES_KEPT)))


async def survey_store(catalog: Catalog, store: StoreFiles) -> Survey:
    """Return what lies in the store."""
    survey = Survey()
    async for shard in store.shards():
        segments = list(shard)
        for first in range(0, len(segments), _PAGE_SEGMENTS):
            page = segments[first : first + _PAGE_SEGMENTS]
            known, uses = await catalog.read(partial(_ask, page))
            for segment in page:
                survey.count(shard[segment], uses.get(segment, ()), is_known=segment in known)
    for size in (await store.leftovers()).values():
        survey.temporary.add(size)
    count, total, survey.unfinished_bytes = await catalog.read(lambda tx: (*tx.tally_segments(), tx.unfinished_bytes()))
    survey.listed = Amount(count, total)
    return survey


def _ask(segments: list[SegmentId], tx: Transaction) -> tuple[set[SegmentId], dict[SegmentId, list[SegmentUse]]]:
    """Return which of the segments the catalog has, and who needs them."""
    uses: dict[SegmentId, list[SegmentUse]] = {}
    for use in tx.segment_uses(segments):
        uses.setdefault(use.segment, []).append(use)
    return set(tx.segment_sizes(segments)), uses
