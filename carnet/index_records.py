"""An index as bytes: one run of records, cut into full pages.

Rules:      1. every page but the last is full  2. a count is checked against its limit before anything it counts is read
            3. nothing follows the last record  4. an index that is read has passed `check_index`
Layout:     head: version u8 | suite u8 | chunk average u32 | lineage key 32 | closure digest 32 | base count u8 | bases 32 each
                  | parts u32 | segments u32 | chunks u32 | extents u32
            part: media type length u8 | media type | digest 32 | size u64 | role u8 | encoding u8 | extent count u32
            segment: id 33 | key 32 | raw length u32 | base u8 | chunk count u16 | chunk ids 16 each | chunk lengths u24 each
            extent: segment u32 | first chunk u16 | chunk count u16
Spec:       docs/formats.md section "Index"
"""

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from carnet.chunking import ChunkSizes
from carnet.errors import CallerError
from carnet.identifiers import Digest, SegmentId
from carnet.index import (
    SEGMENT_CHUNKS_MAX,
    ExtentList,
    Index,
    IndexHead,
    Part,
    PartEntry,
    SegmentEntry,
    check_index,
    check_segment,
    refuse,
)
from carnet.limits import (
    BASES_MAX,
    INDEX_CHUNKS_MAX,
    INDEX_PAGE_RAW_BYTES_MAX,
    INDEX_PAGES_MAX,
    PARTS_MAX,
    SEGMENTS_MAX,
)
from carnet.oci import Role
from carnet.suites import CHUNK_ID_BYTES

VERSION: Final = 1
ENCODING_CHUNKS: Final = 0
"""The part's extents are its bytes. 1 is reserved for recipes and refused."""
ROLE_NUMBERS: Final = {
    Role.ARTIFACT: 1,
    Role.MANIFEST: 2,
    Role.REFERRER: 3,
    Role.CONFIG: 4,
    Role.LAYER: 5,
    Role.BLOB: 6,
}
_ROLES: Final = {number: role for role, number in ROLE_NUMBERS.items()}
_HEAD: Final = struct.Struct(">BBI32s32sB")
_COUNTS: Final = struct.Struct(">IIII")
_PART: Final = struct.Struct(">32sQBBI")
_SEGMENT: Final = struct.Struct(">33s32sIBH")
_EXTENT: Final = struct.Struct(">IHH")
_DIGEST_BYTES: Final = 32
_LENGTH_BYTES: Final = 3


def encode_index(index: Index) -> Iterator[bytes]:
    """Return the raw pages of `index`, which `check_index` accepts, one at a time."""
    page = bytearray()
    for record in _records(index):
        page += record
        while len(page) > INDEX_PAGE_RAW_BYTES_MAX:
            yield bytes(page[:INDEX_PAGE_RAW_BYTES_MAX])
            del page[:INDEX_PAGE_RAW_BYTES_MAX]
    yield bytes(page)


def decode_index(
    pages: Iterable[bytes], *, suite: int, chunks_max: int = INDEX_CHUNKS_MAX, extents_max: int = INDEX_CHUNKS_MAX
) -> Index:
    """Return the index whose raw pages are `pages`, checked; pages are taken one at a time.

    `suite` is that of the containers the pages came in. `chunks_max` and `extents_max` bound memory (20 bytes a
    chunk, 12 an extent). Raises `IntegrityError` E-INDEX for whatever is not canonical.
    """
    reader = _Reader(pages)
    head, closure = _read_head(reader, suite)
    counts = _read_counts(reader, chunks_max, extents_max)
    parts = [_read_part(reader) for _ in range(counts.parts)]
    segments = _read_segments(reader, head, counts)
    if sum(extent_count for _, extent_count in parts) != counts.extents:
        raise refuse("the extents of the parts are not as many as the head says")
    entries = tuple(PartEntry(part, _read_extents(reader, extent_count)) for part, extent_count in parts)
    reader.finish()
    index = Index(head, entries, segments)
    check_index(index)
    if index.closure_digest() != closure:
        raise refuse(f"its parts are not the closure {closure}")
    return index


def _records(index: Index) -> Iterator[bytes]:
    head = index.head
    bases = b"".join(base.raw for base in head.bases)
    closure = index.closure_digest().raw
    yield _HEAD.pack(VERSION, head.suite, head.sizes.average, head.lineage_key, closure, len(head.bases)) + bases
    chunks = sum(len(entry.chunk_lengths) for entry in index.segments)
    extents = sum(len(entry.extents) for entry in index.parts)
    yield _COUNTS.pack(len(index.parts), len(index.segments), chunks, extents)
    for entry in index.parts:
        part = entry.part
        media_type = part.media_type.encode("ascii")
        fixed = _PART.pack(part.digest.raw, part.size, ROLE_NUMBERS[part.role], ENCODING_CHUNKS, len(entry.extents))
        yield bytes((len(media_type),)) + media_type + fixed
    for segment in index.segments:
        fixed = _SEGMENT.pack(segment.id.binary, segment.key, segment.raw_length, segment.base, len(segment.chunk_lengths))
        yield fixed + segment.chunk_ids + _pack_lengths(segment.chunk_lengths)
    for entry in index.parts:
        for extent in entry.extents:
            yield _EXTENT.pack(*extent)


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many of each record follow the head."""

    parts: int
    segments: int
    chunks: int
    extents: int


class _Reader:
    """Takes bytes from a sequence of pages and refuses pages of the wrong length."""

    def __init__(self, pages: Iterable[bytes]) -> None:
        self._pages = iter(pages)
        self._page = b""
        self._at = 0
        self._count = 0

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes, across pages where need be."""
        taken = self._page[self._at : self._at + length]
        self._at += len(taken)
        while len(taken) < length:
            if not self._next_page():
                raise refuse("it ends within a record")
            more = self._page[: length - len(taken)]
            self._at = len(more)
            taken += more
        return taken

    def finish(self) -> None:
        """Refuse bytes after the last record."""
        if self._at < len(self._page) or self._next_page():
            raise refuse("bytes follow the last record")

    def _next_page(self) -> bool:
        page = next(self._pages, None)
        if page is None:
            return False
        if self._count and len(self._page) != INDEX_PAGE_RAW_BYTES_MAX:
            raise refuse("a page that is not the last is not full")
        self._count += 1
        if not 1 <= len(page) <= INDEX_PAGE_RAW_BYTES_MAX or self._count > INDEX_PAGES_MAX:
            raise refuse(f"page {self._count - 1} of {len(page)} bytes, expected 1 to {INDEX_PAGE_RAW_BYTES_MAX}")
        self._page, self._at = page, 0
        return True


def _read_head(reader: _Reader, suite: int) -> tuple[IndexHead, Digest]:
    """Return the head and the closure digest it claims."""
    version, stated, average, lineage_key, closure, base_count = _HEAD.unpack(reader.take(_HEAD.size))
    if version != VERSION or stated != suite:
        raise refuse(f"version {version} and suite {stated}, expected {VERSION} and {suite}")
    if base_count > BASES_MAX:
        raise refuse(f"{base_count} bases, at most {BASES_MAX} are allowed")
    try:
        sizes = ChunkSizes(average)
    except CallerError as error:
        raise refuse(error.problem) from None
    bases = tuple(Digest.from_raw(reader.take(_DIGEST_BYTES)) for _ in range(base_count))
    return IndexHead(suite, sizes, lineage_key, bases), Digest.from_raw(closure)


def _read_counts(reader: _Reader, chunks_max: int, extents_max: int) -> _Counts:
    counts = _Counts(*_COUNTS.unpack(reader.take(_COUNTS.size)))
    if counts.parts > PARTS_MAX or counts.segments > SEGMENTS_MAX:
        raise refuse(f"{counts.parts} parts and {counts.segments} segments, at most {PARTS_MAX} and {SEGMENTS_MAX} are allowed")
    if counts.chunks > chunks_max or counts.extents > extents_max:
        allowed = f"{chunks_max} and {extents_max}"
        raise refuse(f"{counts.chunks} chunks and {counts.extents} extents, at most {allowed} are possible here")
    return counts


def _read_part(reader: _Reader) -> tuple[Part, int]:
    """Return a part and how many extents it has."""
    media_type = reader.take(reader.take(1)[0])
    digest, size, role, encoding, extent_count = _PART.unpack(reader.take(_PART.size))
    if encoding != ENCODING_CHUNKS or role not in _ROLES:
        raise refuse(f"a part of encoding {encoding} and role {role}, which this version does not know")
    if not media_type.isascii():
        raise refuse("media type is not ASCII")
    return Part(media_type.decode("ascii"), Digest.from_raw(digest), size, _ROLES[role]), extent_count


def _read_segments(reader: _Reader, head: IndexHead, counts: _Counts) -> tuple[SegmentEntry, ...]:
    segments: list[SegmentEntry] = []
    chunks = 0
    for _ in range(counts.segments):
        entry = _read_segment(reader)
        check_segment(entry, head)
        chunks += len(entry.chunk_lengths)
        if chunks > counts.chunks:
            break
        segments.append(entry)
    if chunks != counts.chunks:
        raise refuse(f"the chunks of the segments are not the {counts.chunks} that the head says")
    return tuple(segments)


def _read_segment(reader: _Reader) -> SegmentEntry:
    identifier, key, raw_length, base, count = _SEGMENT.unpack(reader.take(_SEGMENT.size))
    if count > SEGMENT_CHUNKS_MAX:
        raise refuse(f"a segment of {count} chunks, at most {SEGMENT_CHUNKS_MAX} are allowed")
    try:
        segment = SegmentId.from_binary(identifier)
    except CallerError as error:
        raise refuse(error.problem) from None
    chunk_ids = reader.take(CHUNK_ID_BYTES * count)
    lengths = _unpack_lengths(reader.take(_LENGTH_BYTES * count))
    return SegmentEntry(segment, key, raw_length, base, chunk_ids, lengths)


def _read_extents(reader: _Reader, count: int) -> ExtentList:
    """Read one part's extents; `check_index` would not see two that the list itself merged, so adjacency is refused here."""
    extents = ExtentList()
    for number in range(count):
        extents.append(*_EXTENT.unpack(reader.take(_EXTENT.size)))
        if len(extents) != number + 1:
            raise refuse("adjacent extents that are not merged")
    return extents


def _pack_lengths(lengths: "array[int]") -> bytes:
    """Return u24 big-endian lengths, without a Python step for each."""
    wide = _big_endian(lengths).tobytes()
    packed = bytearray(_LENGTH_BYTES * len(lengths))
    for column in range(_LENGTH_BYTES):
        packed[column::_LENGTH_BYTES] = wide[column + 1 :: 4]
    return bytes(packed)


def _unpack_lengths(packed: bytes) -> "array[int]":
    """Return the lengths in u24 big-endian bytes, without a Python step for each."""
    wide = bytearray(4 * (len(packed) // _LENGTH_BYTES))
    for column in range(_LENGTH_BYTES):
        wide[column + 1 :: 4] = packed[column::_LENGTH_BYTES]
    return _big_endian(array("I", bytes(wide)))


def _big_endian(numbers: "array[int]") -> "array[int]":
    """Return 4-byte numbers with the bytes of big-endian order swapped in or out."""
    swapped = array("I", numbers)
    if sys.byteorder == "little":
        swapped.byteswap()
    return swapped
