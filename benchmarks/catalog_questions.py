"""What is asked of a large catalog: over the wire as an agent asks, and inside as a declaration, a segment and a commit do.

Rules:      1. each round asks about another artifact, chosen with a fixed seed  2. nothing is changed but where a name says so
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from benchmarks.catalog_fill import LARGE, Growth
from benchmarks.timing import Timed, timed
from carnet.flow.client import PeerClient
from carnet.identifiers import Repository, SegmentId, SpiffeId, Tag
from carnet.trust import HOME_LANE
from gateway.catalog.engine import SqliteCatalog
from gateway.ports import Transaction
from gateway.quotas import require_bytes, require_open
from gateway.records import TransferRecord
from gateway.sealed_artifacts import sealed_artifact
from gateway.services import Bounds

_BASES = 4
_ABSENT = SegmentId.from_binary(b"\x01" + bytes(32))


class Questions:
    """The questions about one growth, by an identity that sent all of it."""

    def __init__(self, growth: Growth, sender: SpiffeId, rounds: int, server: int) -> None:
        """Choose what each round asks about; `server` is the process of the site."""
        self._growth = growth
        self._sender = sender
        self._rounds = rounds
        self._server = server
        chosen = random.Random(2)
        self._numbers = [chosen.randrange(growth.artifacts) for _ in range(rounds + 1)]

    async def over_the_wire(self, client: PeerClient, narrow: PeerClient) -> list[Timed]:
        """Ask what `carnet artifact` and `carnet transfer` ask; `narrow` may pull from one repository only."""
        growth = self._growth

        def name(number: int) -> str:
            return f"{growth.repository(number)}:{growth.tag(number)}"

        pages = [(await client.list(states=["admitted"], limit=1)).next]
        for _ in range(3):
            pages.append((await client.list(limit=100, before=pages[-1])).next)
        asked: list[tuple[str, Callable[[int], Awaitable[object]]]] = [
            ("artifact list, first page", lambda _: client.artifacts()),
            ("artifact list, a later page", lambda one: client.artifacts(after=name(one))),
            ("artifact list, one repository", lambda one: client.artifacts(repository=growth.repository(one))),
            ("artifact list, who may pull one repository", lambda _: narrow.artifacts()),
            ("artifact show", lambda one: client.artifact(Repository(growth.repository(one)), Tag(growth.tag(one)))),
            ("transfer list, first page", lambda _: client.list()),
            ("transfer list, a later page", lambda one: client.list(before=pages[one % len(pages)])),
            ("transfer list, by state", lambda _: client.list(states=["held", "received", "admitted"])),
            ("transfer list, a state that nothing is in", lambda _: client.list(states=["held"])),
            ("transfer show", lambda one: client.show(growth.transfer(one))),
        ]
        return [await self._timed(what, ask) for what, ask in asked]

    async def inside(self, catalog: SqliteCatalog) -> list[Timed]:
        """Ask what the use cases ask of the catalog when something is declared, sent and committed."""
        asked: list[tuple[str, Callable[[Transaction, int], object]]] = [
            ("declare: the open transfer of a name", self._open),
            ("declare: bases and their documents", self._bases),
            ("declare: quota of open transfers", lambda tx, _: require_open(tx, Bounds(), self._sender)),
            ("segment: quota of bytes", self._bytes),
            ("commit: missing segments", self._missing),
            ("commit: missing segments over four bases", self._missing_over_bases),
            ("commit: bases of the packing list", self._named_bases),
            ("commit: turn", self._turn),
            ("pull: may it read a segment", self._may_read),
            ("offer: sizes of segments here", self._sizes),
        ]
        found = [
            await self._timed(what, lambda one, ask=ask: catalog.read(lambda tx: ask(tx, one)))  # type: ignore[misc]
            for what, ask in asked
        ]
        found.append(
            await self._timed("commit: pin and keep, durable", lambda one: catalog.write(partial(self._keep, number=one)))
        )
        return found

    async def beside(self, catalog: SqliteCatalog) -> list[Timed]:
        """Ask what a site asks itself at intervals and at each scrape: it has the same two readers as everybody."""
        asked: list[tuple[str, Callable[[Transaction], object]]] = [
            ("upkeep: overdue transfers", lambda tx: tx.overdue(limit=100)),
            ("scrape: transfers by state", lambda tx: tx.count_transfers()),
            ("scrape: deliveries by state", lambda tx: tx.count_deliveries()),
            ("doctor: deliveries that wait", lambda tx: tx.waiting_deliveries(100)),
            ("delete: what only one artifact needs", lambda tx: tx.sharers(self._growth.transfer(1))),
        ]
        return [
            await timed(what, lambda _, ask=ask: catalog.read(ask), min(20, self._rounds), self._server)  # type: ignore[misc]
            for what, ask in asked
        ]

    async def _timed(self, what: str, ask: Callable[[int], Awaitable[object]]) -> Timed:
        return await timed(what, lambda number: ask(self._numbers[number]), self._rounds, self._server)

    def _record(self, tx: Transaction, number: int) -> TransferRecord:
        record = tx.transfer(self._growth.transfer(number))
        assert record is not None
        return record

    def _segments(self, number: int) -> list[SegmentId]:
        return [SegmentId.from_binary(binary) for binary in self._growth.segments_of(number)]

    def _open(self, tx: Transaction, number: int) -> object:
        """Look in the repository that has most."""
        return tx.open_transfer(self._sender, HOME_LANE, Repository(LARGE), Tag(self._growth.tag(number)))

    def _bases(self, tx: Transaction, number: int) -> object:
        repository = Repository(self._growth.repository(number))
        return [sealed_artifact(tx, base, self._sender) for base in tx.bases(self._sender, HOME_LANE, repository, _BASES)]

    def _bytes(self, tx: Transaction, number: int) -> object:
        return require_bytes(tx, Bounds(), self._record(tx, number), 1)

    def _missing(self, tx: Transaction, number: int) -> object:
        return self._absent(tx, [number])

    def _missing_over_bases(self, tx: Transaction, number: int) -> object:
        count = self._growth.artifacts
        return self._absent(tx, [(number + step) % count for step in range(_BASES + 1)])

    def _absent(self, tx: Transaction, numbers: Sequence[int]) -> list[SegmentId]:
        """Ask as a commit does: what the transfer and its bases have, and which of the listed segments are here."""
        allowed: set[SegmentId] = set()
        for number in numbers:
            allowed |= tx.segments_of(self._growth.transfer(number))
        listed = [*allowed, _ABSENT]
        sizes = tx.segment_sizes(listed)
        return [segment for segment in listed if segment not in sizes or segment not in allowed]

    def _named_bases(self, tx: Transaction, number: int) -> object:
        packing = self._record(tx, number).packing_digest
        assert packing is not None
        base = tx.transfer_of_packing(packing)
        assert base is not None
        return tx.deliveries(base.id), tx.artifact_key(base.id)

    def _turn(self, tx: Transaction, number: int) -> object:
        return tx.turn(self._sender.site, Repository(self._growth.repository(number)), Tag(self._growth.tag(number)))

    def _may_read(self, tx: Transaction, number: int) -> object:
        return tx.may_read_segment(self._sender, self._segments(number)[0])

    def _sizes(self, tx: Transaction, number: int) -> object:
        return tx.segment_sizes(self._segments(number), sender=self._sender)

    def _keep(self, tx: Transaction, *, number: int) -> None:
        """Write what is there once more."""
        tx.pin_segments(self._growth.transfer(number), self._segments(number))
        tx.forget_rows(self._growth.transfer(number))
        tx.save_transfer(self._record(tx, number))
