"""Durable segments, who needs them and who may read them, as rows."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from sqlalchemy import and_, bindparam, delete, distinct, exists, func, literal, or_, select

from carnet.errors import IntegrityError
from carnet.identifiers import SegmentId, SpiffeId, TransferId
from gateway.catalog import schema
from gateway.catalog.session import Session
from gateway.catalog.statements import LIMIT, Statement, insert_or_ignore, placeholders, upsert
from gateway.records import SegmentWay, StoredSegment

_IDS_A_QUERY = 1_000
_OF_SENDER = (
    " AND EXISTS (SELECT 1 FROM transfer_segments AS u JOIN transfers AS t ON t.id = u.transfer"
    " WHERE u.segment = segments.id AND +t.sender = ?)"
)
"""By the few transfers of each segment: the plus keeps SQLite from going through all transfers of the sender instead."""
_s = schema.segments.c
_u = schema.transfer_segments.c
_r = schema.segment_rows.c
_ADD = insert_or_ignore(schema.segments)
_PIN = insert_or_ignore(schema.transfer_segments)
_PUT_ROW = upsert(schema.segment_rows)
_PAGE = Statement(select(schema.segments).where(_s.id > bindparam("after")).order_by(_s.id).limit(LIMIT))
_OF_TRANSFER = Statement(select(_u.segment).where(_u.transfer == bindparam("transfer")))
_NEEDED_BY = Statement(select(_u.transfer).where(_u.segment == bindparam("segment")).order_by(_u.transfer).limit(LIMIT))
_ROWS = Statement(
    select(_r.segment, _s.size, _r.row)
    .join(schema.segments, _s.id == _r.segment)
    .where(_r.transfer == bindparam("transfer"), _r.segment > bindparam("after"))
    .order_by(_r.segment)
    .limit(LIMIT)
)
_FORGET_ROWS = Statement(delete(schema.segment_rows).where(_r.transfer == bindparam("transfer")))
_carried = schema.carried_segments.c
_other = schema.transfer_segments.alias("other")
_ONLY_ITS_OWN = Statement(
    select(_u.segment).where(
        _u.transfer == bindparam("transfer"),
        ~exists().where(_other.c.segment == _u.segment, _other.c.transfer != _u.transfer),
        ~exists().where(_carried.segment == _u.segment, _carried.state == "here"),
    )
)
_SHARERS = Statement(
    select(func.count(distinct(_other.c.transfer)))
    .select_from(schema.transfer_segments.join(_other, _other.c.segment == _u.segment))
    .where(_u.transfer == bindparam("transfer"), _other.c.transfer != _u.transfer)
)
_UNPIN = Statement(delete(schema.transfer_segments).where(_u.transfer == bindparam("transfer")))
_FORGET = Statement(delete(schema.segments).where(_s.id == bindparam("id")))
_ADD_READER = insert_or_ignore(schema.readers)
_READERS = Statement(select(func.count()).select_from(schema.readers).where(schema.readers.c.transfer == bindparam("transfer")))
_RECALLED_TO = Statement(
    select(schema.readers.c.transfer)
    .join(schema.transfers, schema.transfers.c.id == schema.readers.c.transfer)
    .where(schema.readers.c.identity == bindparam("identity"), schema.transfers.c.state == "recalled")
    .limit(LIMIT)
)
_IS_SENT = schema.transfers.c.sender == bindparam("identity")
_IS_RELEASED = and_(
    # What was put away is read by nobody, whoever had it before, also while somebody asks for it back.
    or_(schema.transfers.c.state == literal("delivered"), schema.transfers.c.state == literal("admitted")),
    exists().where(and_(schema.readers.c.transfer == _u.transfer, schema.readers.c.identity == bindparam("identity"))),
)
_WAYS = Statement(
    select(
        schema.transfers.c.repository,
        schema.transfers.c.lane,
        _IS_SENT.label("is_sent"),
        _IS_RELEASED.label("is_released"),
    )
    .distinct()
    .join(schema.transfers, schema.transfers.c.id == _u.transfer)
    .where(_u.segment == bindparam("segment"), or_(_IS_SENT, _IS_RELEASED))
    .limit(LIMIT)
)


class Segments(Session):
    """The segments' part of `Transaction`."""

    def add_segment(self, transfer: TransferId, segment: StoredSegment) -> bool:
        """Record a durable segment for the transfer (with its row); False if the transfer had it."""
        binary = segment.id.binary
        self._run(_ADD, id=binary, size=segment.size)
        is_new = self._run(_PIN, transfer=transfer, segment=binary).rowcount == 1
        if segment.row is not None:
            self._run(_PUT_ROW, transfer=transfer, segment=binary, row=segment.row)
        return is_new

    def pin_segments(self, transfer: TransferId, segments: Iterable[SegmentId]) -> None:
        """Record that the transfer needs these segments, which are durable here.

        Raises:
            IntegrityError: E-SEGMENT-MISSING if one is not durable here.
        """
        wanted = [segment.binary for segment in segments]
        missing = self._absent(wanted)
        if missing:
            shown = SegmentId.from_binary(min(missing))
            raise IntegrityError("E-SEGMENT-MISSING", f"{len(missing)} segments to pin are not here, the first is {shown}")
        self._run_many(_PIN, ({"transfer": transfer, "segment": binary} for binary in wanted))

    def missing_segments(self, segments: Iterable[SegmentId]) -> list[SegmentId]:
        """Return those that are not durable here, in the order given."""
        asked = list(segments)
        missing = self._absent([segment.binary for segment in asked])
        return [segment for segment in asked if segment.binary in missing] if missing else []

    def unreferred_segments(self, segments: Iterable[SegmentId]) -> list[SegmentId]:
        """Return those that no row refers to, in the order given; see `Transaction.unreferred_segments`.

        Three tables are asked where one should do: who asks is about to remove a file, and a table may be damaged.
        """
        asked = list(segments)
        unreferred = {segment.binary for segment in asked}
        for some in pieces([segment.binary for segment in asked]):
            marks = placeholders(some)
            found = self._connection.execute(
                f"SELECT id FROM segments WHERE id IN ({marks})"  # noqa: S608 - question marks only
                f" UNION ALL SELECT segment FROM transfer_segments WHERE segment IN ({marks})"
                f" UNION ALL SELECT segment FROM carried_segments WHERE segment IN ({marks}) AND state = 'here'",
                [*some, *some, *some],
            )
            unreferred.difference_update(row[0] for row in found)
        return [segment for segment in asked if segment.binary in unreferred]

    def segment_sizes(self, segments: Iterable[SegmentId], *, sender: SpiffeId | None = None) -> dict[SegmentId, int]:
        """Return sealed sizes of those that are durable here; see `Transaction.segment_sizes`."""
        found: dict[SegmentId, int] = {}
        own = "" if sender is None else _OF_SENDER
        for some in pieces([segment.binary for segment in segments]):
            given = some if sender is None else [*some, sender]
            rows = self._connection.execute(
                f"SELECT id, size FROM segments WHERE id IN ({placeholders(some)}){own}",  # noqa: S608 - question marks only
                given,
            )
            found.update((SegmentId.from_binary(row[0]), row[1]) for row in rows)
        return found

    def segments_of(self, transfer: TransferId) -> set[SegmentId]:
        """Return the segments that the transfer introduced or pinned."""
        return {SegmentId.from_binary(row["segment"]) for row in self._run(_OF_TRANSFER, transfer=transfer)}

    def stored_segments(self, *, after: SegmentId | None, limit: int) -> list[StoredSegment]:
        """Return all durable segments by id, a page after `after`, without rows."""
        found = self._all(_PAGE, after=b"" if after is None else after.binary, limit=limit)
        return [StoredSegment(id=SegmentId.from_binary(row["id"]), size=row["size"]) for row in found]

    def transfers_with(self, segment: SegmentId, limit: int) -> list[TransferId]:
        """Return transfers that need the segment, at most `limit`."""
        return [TransferId(row["transfer"]) for row in self._all(_NEEDED_BY, segment=segment.binary, limit=limit)]

    def rows(self, transfer: TransferId, *, after: SegmentId | None, limit: int) -> list[StoredSegment]:
        """Return the transfer's segments that have rows, by id, after `after`."""
        found = self._all(_ROWS, transfer=transfer, after=b"" if after is None else after.binary, limit=limit)
        return [StoredSegment(id=SegmentId.from_binary(row["segment"]), size=row["size"], row=row["row"]) for row in found]

    def forget_rows(self, transfer: TransferId) -> None:
        """Destroy the transfer's rows; their bytes are overwritten in the database file."""
        self._run(_FORGET_ROWS, transfer=transfer)

    def ways_to_segment(self, identity: SpiffeId, segment: SegmentId, *, limit: int) -> list[SegmentWay]:
        """Return the repositories and lanes of transfers with the segment that `identity` sent, or that were released to it."""
        return [
            SegmentWay(
                repository=row["repository"],
                lane=row["lane"],
                is_sent=bool(row["is_sent"]),
                is_released=bool(row["is_released"]),
            )
            for row in self._all(_WAYS, identity=identity, segment=segment.binary, limit=limit)
        ]

    def add_reader(self, transfer: TransferId, identity: SpiffeId) -> None:
        """Let `identity` read the transfer's segments from now on."""
        self._run(_ADD_READER, transfer=transfer, identity=identity)

    def readers(self, transfer: TransferId) -> int:
        """Return how many identities the transfer was released to."""
        row = self._one(_READERS, transfer=transfer)
        return 0 if row is None else int(row[0])

    def recalled_to(self, identity: SpiffeId, *, limit: int) -> list[TransferId]:
        """Return transfers that were released to `identity` and are `recalled`."""
        return [TransferId(row["transfer"]) for row in self._all(_RECALLED_TO, identity=identity, limit=limit)]

    def sharers(self, transfer: TransferId) -> int:
        """Return how many other transfers need a segment of this one."""
        row = self._one(_SHARERS, transfer=transfer)
        return 0 if row is None else int(row[0])

    def unpin_transfer(self, transfer: TransferId) -> list[SegmentId]:
        """Drop the transfer's claims; return and forget the segments that no other transfer needs (to delete them)."""
        unneeded = [row["segment"] for row in self._all(_ONLY_ITS_OWN, transfer=transfer)]
        self._run(_FORGET_ROWS, transfer=transfer)
        self._run(_UNPIN, transfer=transfer)
        self._run_many(_FORGET, ({"id": binary} for binary in unneeded))
        return [SegmentId.from_binary(binary) for binary in unneeded]

    def _absent(self, binaries: Sequence[bytes]) -> set[bytes]:
        """Return those of `binaries` that are not durable here."""
        absent = set(binaries)
        for some in pieces(binaries):
            found = self._connection.execute(f"SELECT id FROM segments WHERE id IN ({placeholders(some)})", some)  # noqa: S608 - question marks only
            absent.difference_update(row[0] for row in found)
        return absent


def pieces(binaries: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield the ids in lists that are short enough for one statement's parameters."""
    rest = iter(binaries)
    while piece := list(islice(rest, _IDS_A_QUERY)):
        yield piece
