"""Collects an index while an artifact streams by, in whatever order its segments are finished.

Segments get provisional numbers as they are opened or referred to; `build` gives them their canonical ones. One thread uses a
builder at a time.

Rules:      1. what `build` returns has passed `check_index`  2. a base segment that no part uses in the end is left out
            3. adjacent runs merge as they come; memory is that of the index
Spec:       docs/formats.md section "Index"
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace

from carnet.chunking import ChunkSizes
from carnet.errors import CallerError
from carnet.identifiers import Digest, SegmentId
from carnet.index import ExtentList, Index, IndexHead, Part, PartEntry, SegmentEntry, check_index


class IndexBuilder:
    """An index in the making; segment numbers are its own until `build`."""

    def __init__(self, sizes: ChunkSizes, lineage_key: bytes, bases: Sequence[Digest], *, suite: int) -> None:
        """Begin; `bases` are the digests of the bases' packing lists, and base k is `bases[k - 1]`."""
        self._head = IndexHead(suite, sizes, lineage_key, tuple(bases))
        self._segments: list[SegmentEntry | None] = []
        self._base_numbers: dict[SegmentId, int] = {}
        self._parts: list[PartEntry] = []

    def reserve_segment(self) -> int:
        """Return the number of a segment that is being filled; `set_segment` follows once it is sealed."""
        self._segments.append(None)
        return len(self._segments) - 1

    def set_segment(
        self, number: int, segment: SegmentId, *, key: bytes, raw_length: int, chunk_ids: bytes, chunk_lengths: Iterable[int]
    ) -> None:
        """Say what segment `number` became: `chunk_ids` is 16 bytes a chunk, lengths are in bytes.

        Raises `CallerError` E-USAGE if it was said before.
        """
        if self._segments[number] is not None:
            raise CallerError("E-USAGE", f"segment number {number} is set twice")
        self._segments[number] = SegmentEntry(segment, key, raw_length, 0, bytes(chunk_ids), array("I", chunk_lengths))

    def add_segment(
        self, segment: SegmentId, *, key: bytes, raw_length: int, chunk_ids: bytes, chunk_lengths: Iterable[int]
    ) -> int:
        """Add a segment introduced here and return its number; as `reserve_segment` and `set_segment` in one."""
        number = self.reserve_segment()
        self.set_segment(number, segment, key=key, raw_length=raw_length, chunk_ids=chunk_ids, chunk_lengths=chunk_lengths)
        return number

    def use_base_segment(self, base: int, base_index: Index, segment: int) -> int:
        """Return the number of segment `segment` of base `base` (1-based), whose index is `base_index`.

        Asked again, also through another base, it is the same number.
        """
        entry = base_index.segments[segment]
        known = self._base_numbers.get(entry.id)
        if known is not None:
            return known
        number = self.reserve_segment()
        self._segments[number] = replace(entry, base=base)
        self._base_numbers[entry.id] = number
        return number

    def add_part(self, part: Part, refs: ExtentList | Iterable[tuple[int, int]]) -> None:
        """Add a part whose bytes are `refs`: (segment number, chunk number) pairs in order, or runs collected already."""
        if isinstance(refs, ExtentList):
            extents = refs
        else:
            extents = ExtentList()
            for segment, chunk in refs:
                extents.append(segment, chunk)
        self._parts.append(PartEntry(part, extents))

    def copy_part(self, base: int, base_index: Index, part: int) -> None:
        """Add part number `part` of a base as it stands there, without reading its bytes."""
        entry = base_index.parts[part]
        extents = ExtentList()
        for extent in entry.extents:
            extents.append(self.use_base_segment(base, base_index, extent.segment), extent.first, extent.chunks)
        self._parts.append(PartEntry(entry.part, extents))

    def build(self) -> Index:
        """Return the index: segments introduced here in the order they were opened, then the base segments that are used.

        Raises `CallerError` E-USAGE for a segment that was never set, `IntegrityError` E-INDEX for parts that do not add up.
        """
        order = self._canonical_order()
        new_number = {old: new for new, old in enumerate(order)}
        parts = tuple(PartEntry(entry.part, _renumbered(entry.extents, new_number)) for entry in self._parts)
        index = Index(self._head, parts, tuple(self._entry(number) for number in order))
        check_index(index)
        return index

    def _canonical_order(self) -> list[int]:
        """Return the provisional numbers in the order of the format."""
        used = {extent.segment for entry in self._parts for extent in entry.extents}
        introduced = [number for number in range(len(self._segments)) if self._entry(number).base == 0]
        referred = [number for number in self._base_numbers.values() if number in used]
        return introduced + sorted(referred, key=lambda number: (self._entry(number).base, self._entry(number).id.binary))

    def _entry(self, number: int) -> SegmentEntry:
        entry = self._segments[number]
        if entry is None:
            raise CallerError("E-USAGE", f"segment number {number} was opened and never set")
        return entry


def _renumbered(extents: ExtentList, new_number: dict[int, int]) -> ExtentList:
    renumbered = ExtentList()
    for extent in extents:
        renumbered.append(new_number.get(extent.segment, len(new_number)), extent.first, extent.chunks)
    return renumbered
