"""The table that says which chunks, in which segments, under which segment keys, make up a closure.

Values and the rules that make an index canonical; carnet/index_records.py writes and reads the bytes, carnet/index_pages.py seals
them, carnet/index_builder.py collects them while an artifact streams by. Memory is about 20 bytes a chunk.

Rules:      1. parts: each digest once, sizes are the sums of their extents, the closure digest is theirs
            2. segments: those introduced here first, then base segments by base and id, each id once, ids of the index's suite
            3. chunk lengths add up to their segment's raw length
            4. extents: within their segment, in part order, adjacent runs merged
            5. every chunk of a segment introduced here is in some extent, and every base segment is
            6. an index that breaks a rule is refused whole, by whoever opens it
Spec:       docs/formats.md sections "Index" and "Closure digest"
"""

import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from carnet.chunking import ChunkSizes
from carnet.encoding import canonical
from carnet.errors import IntegrityError
from carnet.identifiers import Digest, SegmentId
from carnet.limits import BASES_MAX, PART_BYTES_MAX, PARTS_MAX, SEGMENT_RAW_BYTES_MAX, SEGMENTS_MAX
from carnet.oci import Role
from carnet.rows import row_capacity
from carnet.suites import CHUNK_ID_BYTES, KEY_BYTES

SEGMENT_CHUNKS_MAX: Final = 128
"""Most chunks in any segment: the larger of the two row capacities."""
CHUNK_BYTES_MAX: Final = 131_072
"""Longest chunk of either average."""
_ID_ALGORITHM_OF_SUITE: Final = {1: 1}
_MEDIA_TYPE: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Part:
    """One manifest, config, layer, referrer or blob of a closure; `size` in bytes."""

    media_type: str
    digest: Digest
    size: int
    role: Role


class Extent(NamedTuple):
    """A run of `chunks` chunks of one segment, from chunk `first` (0-based) on."""

    segment: int
    first: int
    chunks: int


class ExtentList:
    """The runs that make up one part, in order; adjacent ones merge as they are appended. 12 bytes a run."""

    __slots__ = ("_triples",)

    def __init__(self) -> None:
        """Begin with no run: that is a part of no bytes."""
        self._triples = array("I")

    def append(self, segment: int, first: int, count: int = 1) -> None:
        """Add `count` chunks of `segment` from chunk `first` on."""
        triples = self._triples
        if triples and triples[-3] == segment and triples[-2] + triples[-1] == first:
            triples[-1] += count
        else:
            triples.extend((segment, first, count))

    def __len__(self) -> int:
        return len(self._triples) // 3

    def __getitem__(self, number: int) -> Extent:
        return Extent(*self._triples[3 * number : 3 * number + 3])

    def __iter__(self) -> Iterator[Extent]:
        taken = iter(self._triples)
        return map(Extent, taken, taken, taken)


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One segment: its id, key (32 bytes), raw length in bytes, where it comes from and its chunks in order.

    `base` is 0 for a segment introduced here and k for one of base k (1-based). `chunk_ids` is 16 bytes a chunk.
    """

    id: SegmentId
    key: bytes
    raw_length: int
    base: int
    chunk_ids: bytes
    chunk_lengths: "array[int]"

    def __repr__(self) -> str:
        return f"SegmentEntry({self.id}, raw_length={self.raw_length}, base={self.base}, chunks={len(self.chunk_lengths)})"

    def chunk_id(self, chunk: int) -> bytes:
        """Return the 16-byte id of chunk number `chunk`."""
        return self.chunk_ids[CHUNK_ID_BYTES * chunk : CHUNK_ID_BYTES * (chunk + 1)]

    def chunk_offset(self, chunk: int) -> int:
        """Return where in the segment's plaintext chunk number `chunk` starts, in bytes."""
        return sum(self.chunk_lengths[:chunk])

    def run_bytes(self, first: int, count: int) -> int:
        """Return the length in bytes of `count` chunks from chunk `first` on."""
        return sum(self.chunk_lengths[first : first + count])


@dataclass(frozen=True, slots=True)
class PartEntry:
    """A part and the extents that make it up."""

    part: Part
    extents: ExtentList


@dataclass(frozen=True, slots=True)
class IndexHead:
    """What holds for the whole index: suite, chunk sizes, lineage key, and the packing lists of the bases in their order."""

    suite: int
    sizes: ChunkSizes
    lineage_key: bytes = field(repr=False)
    bases: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """A whole index; `check_index` has accepted it if it came from `decode_index` or `IndexBuilder.build`."""

    head: IndexHead
    parts: tuple[PartEntry, ...]
    segments: tuple[SegmentEntry, ...]

    def part_extents(self, part: int) -> Iterator[Extent]:
        """Return the extents of part number `part`, in order."""
        return iter(self.parts[part].extents)

    def closure_digest(self) -> Digest:
        """Return the digest of this index's closure."""
        return closure_digest(entry.part for entry in self.parts)


def closure_digest(parts: Iterable[Part]) -> Digest:
    """Return SHA-256 over the canonical JSON of the sorted table of media type, digest, size and role."""
    rows = sorted((part.media_type, str(part.digest), part.size, part.role.value) for part in parts)
    return Digest.of(canonical(rows))


def refuse(problem: str) -> IntegrityError:
    """Return the error for an index that is not canonical."""
    return IntegrityError("E-INDEX", f"index refused: {problem}")


def check_index(index: Index) -> None:
    """Return if every rule above holds; raise `IntegrityError` E-INDEX naming what is broken otherwise."""
    _check_head(index.head)
    if not 1 <= len(index.parts) <= PARTS_MAX:
        raise refuse(f"{len(index.parts)} parts, expected 1 to {PARTS_MAX}")
    _check_segments(index)
    digests: set[Digest] = set()
    used = [bytearray(len(entry.chunk_lengths)) for entry in index.segments]
    for entry in index.parts:
        check_part(entry.part)
        if entry.part.digest in digests:
            raise refuse(f"two parts of digest {entry.part.digest}")
        digests.add(entry.part.digest)
        _check_extents(entry, index.segments, used)
    _check_use(index.segments, used)


def _check_head(head: IndexHead) -> None:
    if head.suite not in _ID_ALGORITHM_OF_SUITE:
        raise refuse(f"unknown suite {head.suite}")
    if len(head.lineage_key) != KEY_BYTES:
        raise refuse(f"lineage key of {len(head.lineage_key)} bytes, expected {KEY_BYTES}")
    if len(head.bases) > BASES_MAX or len(set(head.bases)) != len(head.bases):
        raise refuse(f"{len(head.bases)} bases, expected at most {BASES_MAX}, each once")


def check_part(part: Part) -> None:
    """Return if a part is possible by itself; raise `IntegrityError` E-INDEX otherwise."""
    if _MEDIA_TYPE.fullmatch(part.media_type) is None:
        raise refuse("media type is not 1 to 255 printable ASCII characters")
    if not 0 <= part.size <= PART_BYTES_MAX:
        raise refuse(f"part {part.digest} of {part.size} bytes, at most {PART_BYTES_MAX} are allowed")


def _check_segments(index: Index) -> None:
    if len(index.segments) > SEGMENTS_MAX:
        raise refuse(f"{len(index.segments)} segments, at most {SEGMENTS_MAX} are allowed")
    before: tuple[int, SegmentId] | None = None
    seen: set[SegmentId] = set()
    for entry in index.segments:
        check_segment(entry, index.head)
        place = (entry.base, entry.id)
        if before is not None and (place < before if entry.base else entry.base < before[0]):
            raise refuse(f"segment {entry.id} is out of order")
        before = place
        if entry.id in seen:
            raise refuse(f"segment {entry.id} is listed twice")
        seen.add(entry.id)


def check_segment(entry: SegmentEntry, head: IndexHead) -> None:
    """Return if a segment is possible by itself under `head`; raise `IntegrityError` E-INDEX otherwise."""
    lengths = entry.chunk_lengths
    chunks_max = SEGMENT_CHUNKS_MAX if entry.base else row_capacity(head.sizes)
    chunk_bytes_max = CHUNK_BYTES_MAX if entry.base else head.sizes.maximum
    if entry.id.binary[0] != _ID_ALGORITHM_OF_SUITE[head.suite] or len(entry.key) != KEY_BYTES:
        raise refuse(f"segment {entry.id} has an id or key of another suite")
    if not 0 <= entry.base <= len(head.bases):
        raise refuse(f"segment {entry.id} of base {entry.base}, there are {len(head.bases)}")
    if not 1 <= len(lengths) <= chunks_max or len(entry.chunk_ids) != CHUNK_ID_BYTES * len(lengths):
        raise refuse(f"segment {entry.id} of {len(lengths)} chunks, expected 1 to {chunks_max}")
    if min(lengths) < 1 or max(lengths) > chunk_bytes_max:
        raise refuse(f"segment {entry.id} has a chunk of an impossible length, expected 1 to {chunk_bytes_max} bytes")
    if sum(lengths) != entry.raw_length or entry.raw_length > SEGMENT_RAW_BYTES_MAX:
        raise refuse(f"segment {entry.id} of {entry.raw_length} raw bytes has chunks of {sum(lengths)} bytes")


def _check_extents(entry: PartEntry, segments: tuple[SegmentEntry, ...], used: list[bytearray]) -> None:
    """Check one part's runs (rules 1 and 4) and mark the chunks that they use."""
    size = 0
    before = Extent(-1, 0, 0)
    for extent in entry.extents:
        number, first, count = extent
        if number >= len(segments) or count < 1 or first + count > len(segments[number].chunk_lengths):
            raise refuse(f"part {entry.part.digest} has an extent beyond its segment: {extent}")
        if number == before.segment and first == before.first + before.chunks:
            raise refuse(f"part {entry.part.digest} has adjacent extents that are not merged: {extent}")
        size += segments[number].run_bytes(first, count)
        used[number][first : first + count] = b"\1" * count
        before = extent
    if size != entry.part.size:
        raise refuse(f"part {entry.part.digest} of {entry.part.size} bytes has extents of {size} bytes")


def _check_use(segments: tuple[SegmentEntry, ...], used: list[bytearray]) -> None:
    """Check rule 5: nothing crosses that is not in some part."""
    for entry, marks in zip(segments, used, strict=True):
        if entry.base == 0 and 0 in marks:
            raise refuse(f"segment {entry.id} has a chunk that no part uses")
        if entry.base and 1 not in marks:
            raise refuse(f"base segment {entry.id} is used by no part")
