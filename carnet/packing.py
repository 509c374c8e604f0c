"""The packing list: how an artifact was sealed, signed by the sealer, and the segment list it commits to.

The waybill says what moves, this says in which sealed bytes. The segment list is binary, since it has a record for each MiB; the
statement carries its digest. Nothing here opens a segment.

Rules:      1. a segment list is strictly increasing by id, so a set of segments has one encoding
            2. the packing list binds waybill, suite, recipients' sites, index, segments and the artifact key
Layout:     segment list = records of 37 bytes: id[33] | sealed size u32, big-endian; no header, no trailer
Spec:       docs/statements.md sections "Packing list" and "Segment list"
Example:    >>> SegmentList.parse(b"").count
            0
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Final, NamedTuple

from pydantic import AfterValidator, Field

from carnet.errors import CallerError, IntegrityError, PeerError
from carnet.identifiers import BINARY_ID_BYTES, Digest, SegmentId, SiteName, SpiffeId, TransferId
from carnet.limits import BASES_MAX, DESTINATIONS_MAX, INDEX_PAGES_MAX, SEGMENT_BYTES_MAX, SEGMENTS_MAX
from carnet.statement import Count, Hex32, Positive, Statement, Unique, WireModel
from carnet.timestamps import Timestamp

SEGMENT_RECORD_BYTES: Final = BINARY_ID_BYTES + 4
_RECORD = struct.Struct(f">{BINARY_ID_BYTES}sI")
_ALGORITHMS = (1, 2)


class SegmentListEntry(NamedTuple):
    """One segment and its sealed size in bytes."""

    id: SegmentId
    size: int


class SegmentList:
    """A set of segments with their sizes, held as its encoding: 37 bytes a segment, no object for each.

    Iteration is in the order of binary ids. Two lists are equal if they encode alike.
    """

    __slots__ = ("_data", "bytes")

    def __init__(self, data: bytes, sealed_bytes: int) -> None:
        """Hold checked records; `parse` and `of` are the ways in."""
        self._data = data
        self.bytes = sealed_bytes

    @classmethod
    def of(cls, entries: Iterable[tuple[SegmentId, int]]) -> "SegmentList":
        """Return the list of `entries`, in any order; one that comes twice alike counts once.

        Raises:
            CallerError: E-REQUEST if an id comes with two sizes.
            PeerError: E-FORMAT as `parse`.
        """
        records = sorted({_RECORD.pack(id_.binary, size) for id_, size in entries})
        if len({record[:BINARY_ID_BYTES] for record in records}) != len(records):
            raise CallerError("E-REQUEST", "one segment is listed with two sizes")
        return cls.parse(b"".join(records))

    @classmethod
    def parse(cls, data: bytes) -> "SegmentList":
        """Return the list that `data` encodes.

        Raises:
            PeerError: E-FORMAT for a length, order, algorithm byte or size that the layout does not allow.
        """
        if len(data) % SEGMENT_RECORD_BYTES or len(data) > SEGMENTS_MAX * SEGMENT_RECORD_BYTES:
            raise PeerError("E-FORMAT", f"segment list of {len(data)} bytes: not at most {SEGMENTS_MAX} records of 37")
        total, before = 0, b""
        for id_, size in _RECORD.iter_unpack(data):
            if id_ <= before:
                raise PeerError("E-FORMAT", "segment list is not strictly increasing")
            if id_[0] not in _ALGORITHMS or not 1 <= size <= SEGMENT_BYTES_MAX:
                raise PeerError("E-FORMAT", f"segment list has algorithm {id_[0]} or size {size} out of bounds")
            total, before = total + size, id_
        return cls(data, total)

    def encode(self) -> bytes:
        """Return the bytes that `digest` is of."""
        return self._data

    @property
    def digest(self) -> Digest:
        """The SHA-256 of the encoding, as the packing list names it."""
        return Digest.of(self._data)

    @property
    def count(self) -> int:
        """How many segments."""
        return len(self._data) // SEGMENT_RECORD_BYTES

    def size_of(self, segment: SegmentId) -> int | None:
        """Return the sealed size of `segment`, or None if it is not listed."""
        wanted, low, high = segment.binary, 0, self.count
        while low < high:
            middle = (low + high) // 2
            id_, size = _RECORD.unpack_from(self._data, middle * SEGMENT_RECORD_BYTES)
            if id_ == wanted:
                return int(size)
            low, high = (middle + 1, high) if id_ < wanted else (low, middle)
        return None

    def __contains__(self, segment: object) -> bool:
        return isinstance(segment, SegmentId) and self.size_of(segment) is not None

    def __iter__(self) -> Iterator[SegmentListEntry]:
        for id_, size in _RECORD.iter_unpack(self._data):
            yield SegmentListEntry(SegmentId.from_binary(id_), size)

    def __len__(self) -> int:
        return self.count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SegmentList) and self._data == other._data

    def __hash__(self) -> int:
        return hash(self._data)

    def __repr__(self) -> str:
        return f"SegmentList(count={self.count}, bytes={self.bytes})"


class SegmentSummary(WireModel):
    """What the packing list says about its segment list, bases' segments included."""

    digest: Digest
    count: Annotated[Count, Field(le=SEGMENTS_MAX)]
    bytes: Count

    @classmethod
    def of(cls, segments: SegmentList) -> "SegmentSummary":
        """Return the summary of `segments`."""
        return cls(digest=segments.digest, count=segments.count, bytes=segments.bytes)


class IndexPage(WireModel):
    """One sealed page of the index: it travels as a segment does."""

    id: SegmentId
    size: Annotated[int, Field(ge=1, le=SEGMENT_BYTES_MAX)]


def _check_pages(pages: tuple[IndexPage, ...]) -> tuple[IndexPage, ...]:
    if len({page.id for page in pages}) != len(pages):
        raise ValueError("a page of the index is named twice")
    return pages


class PackingList(Statement):
    """How an artifact was sealed. `index` is in page order; `bases` are digests of packing lists; `sites` who it goes to."""

    payload_type: ClassVar[str] = "application/vnd.carnet.packing-list.v1+json"

    transfer: TransferId
    waybill: Digest
    suite: Positive
    sealer: SpiffeId
    bases: Annotated[tuple[Digest, ...], Field(max_length=BASES_MAX), Unique] = ()
    sites: Annotated[tuple[SiteName, ...], Field(min_length=1, max_length=DESTINATIONS_MAX + 1), Unique]
    index: Annotated[tuple[IndexPage, ...], Field(min_length=1, max_length=INDEX_PAGES_MAX), AfterValidator(_check_pages)]
    segments: SegmentSummary
    key_commitment: Hex32
    at: Timestamp

    def check_segments(self, segments: SegmentList) -> None:
        """Raise `IntegrityError` E-DIGEST unless `segments` is the list that was signed."""
        if SegmentSummary.of(segments) != self.segments:
            raise IntegrityError("E-DIGEST", f"segment list {segments.digest} is not the signed {self.segments.digest}")
