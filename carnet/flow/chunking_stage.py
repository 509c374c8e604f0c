"""The first stage of a push: read parts, cut and identify chunks, and gather the new ones into open segments.

It runs in one thread, and a second one computes the part's digest meanwhile: both are sequential, and release the GIL. A part
whose digest a base has is not read. A chunk that a base, an earlier run or this run already has becomes a reference.

Rules:      1. one pass over each byte read; the part's digest is computed in it  2. a new chunk is copied once, into its segment
            3. a segment closes at about 2 MiB or at the row's capacity, so its row has one fixed length
Layout:     place of a chunk: source (16 bits: 0 = this transfer, k = base k-1) | segment number (32) | chunk number (16)
Spec:       docs/formats.md sections "Chunking", "Chunk ids", "Segments"
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from carnet.chunking import ChunkSizes, cut
from carnet.errors import IntegrityError
from carnet.flow.buffers import Buffers
from carnet.flow.chunk_table import ChunkTable
from carnet.flow.parts import PartInput, PartReader
from carnet.flow.progress import Progress
from carnet.flow.sparse import sparse_segments
from carnet.flow.turns import turn, turn_given_back
from carnet.identifiers import Digest, SegmentId
from carnet.index import Index, Part
from carnet.limits import MIB, SEGMENT_RAW_BYTES_MAX, SEGMENT_RAW_BYTES_TARGET
from carnet.packing import SegmentList
from carnet.rows import Row, row_capacity
from carnet.suites import chunk_id

_READ_BYTES: Final = 4 * MIB
_OWN: Final = 0


@dataclass(frozen=True)
class Base:
    """An earlier artifact to build upon; `same_lineage` says whether its chunks can be compared, or only whole parts."""

    packing_digest: Digest
    index: Index
    segments: SegmentList
    same_lineage: bool


@dataclass(frozen=True)
class KnownSegment:
    """A segment that an earlier run of this transfer already sent, as its row tells."""

    id: SegmentId
    row: Row


@dataclass
class OpenSegment:
    """New chunks being gathered; owned by the chunking thread until it closes, then by one sealing thread."""

    number: int
    raw: bytearray
    view: memoryview
    """Of `raw`: bytes assigned to a bytearray itself are copied twice."""
    length: int = 0
    chunk_ids: bytearray = field(default_factory=bytearray)
    chunk_lengths: "array[int]" = field(default_factory=lambda: array("I"))
    solo: bool = False

    @property
    def chunks(self) -> int:
        """How many chunks are in it."""
        return len(self.chunk_lengths)

    def append(self, identifier: bytes, chunk: memoryview) -> int:
        """Copy a chunk in and return the length in bytes of all that is in."""
        end = self.length + len(chunk)
        self.view[self.length : end] = chunk
        self.length = end
        self.chunk_ids += identifier
        self.chunk_lengths.append(len(chunk))
        return end


@dataclass
class PartPlaces:
    """A part and the places of its chunks, in order."""

    part: Part
    places: Sequence[int]


def make_place(source: int, segment: int, chunk: int) -> int:
    """Pack source, segment number and chunk number into one integer."""
    return source << 48 | segment << 16 | chunk


def split_place(place: int) -> tuple[int, int, int]:
    """Return source, segment number and chunk number."""
    return place >> 48, place >> 16 & 0xFFFFFFFF, place & 0xFFFF


class ChunkingStage:
    """Turns parts into open segments and places; `emit` takes each closed segment and may block (back-pressure)."""

    def __init__(
        self,
        *,
        sizes: ChunkSizes,
        lineage_key: bytes,
        bases: Sequence[Base],
        known: Sequence[KnownSegment],
        emit: Callable[[OpenSegment], None],
        require_running: Callable[[], None],
        read_base: Callable[[int, int], bytes],
        progress: Progress,
    ) -> None:
        """Learn the chunks of `bases` and of `known` segments; numbers of new segments follow those of `known`.

        `require_running` raises when the push is being stopped; it is asked before each read.
        `read_base` returns the plaintext of a segment of a base, by base (1-based) and number; it may block.
        """
        self._sizes = sizes
        self._lineage_key = lineage_key
        self._bases = bases
        self._emit = emit
        self._require_running = require_running
        self._read_base = read_base
        self._progress = progress
        self._capacity = row_capacity(sizes)
        self._table = ChunkTable()
        self._known_count = len(known)
        self._number = len(known)
        self.buffers = Buffers(SEGMENT_RAW_BYTES_MAX)
        """Where the bytes of open segments are; whoever got a segment gives its buffer back."""
        self._open = self._new_segment()
        self._window = bytearray(_READ_BYTES)
        self._reader: PartReader | None = None
        """What is being read now; set by the chunking thread, read by `interrupt`."""
        self._seen: set[Digest] = set()
        self._base_parts = {
            entry.part.digest: (source, number)
            for source, base in reversed(list(enumerate(bases, start=1)))
            for number, entry in enumerate(base.index.parts)
        }
        """Where a whole part is already; the first base wins."""
        self.parts: list[PartPlaces] = []
        for number, segment in enumerate(known):
            for chunk, (identifier, _length) in enumerate(segment.row.chunks):
                self._table.find_or_add(identifier, make_place(_OWN, number, chunk))
        for source, base in enumerate(bases, start=1):
            if base.same_lineage:
                self._learn(source, base.index)

    def _learn(self, source: int, index: Index) -> None:
        for number, entry in enumerate(index.segments):
            for chunk in range(len(entry.chunk_lengths)):
                self._table.find_or_add(entry.chunk_id(chunk), make_place(source, number, chunk))

    def run(self, parts: Iterable[PartInput]) -> None:
        """Process every part, then close the last segment. Raises what reading and checking raise."""
        with ThreadPoolExecutor(1, thread_name_prefix="carnet-digest") as digesting:
            for part in parts:
                self._take(part, digesting)
        self._seal_sparse_anew()
        with turn():
            self._close_segment(last=True)

    def _seal_sparse_anew(self) -> None:
        """Put the chunks in use of sparse base segments into segments of this transfer, and refer to those instead."""
        sparse = sparse_segments((entry.places for entry in self.parts), [base.index for base in self._bases])
        moved: dict[int, int] = {}
        for (source, segment), chunks in sorted(sparse.items()):
            if self._bases[source - 1].index.head.sizes != self._sizes:
                continue  # its chunks may be longer than those of this transfer can be
            entry = self._bases[source - 1].index.segments[segment]
            raw = memoryview(self._read_base(source, segment))
            with turn():
                for chunk in chunks:
                    start = entry.chunk_offset(chunk)
                    identifier = entry.chunk_id(chunk) if self._bases[source - 1].same_lineage else None
                    data = raw[start : start + entry.chunk_lengths[chunk]]
                    moved[make_place(source, segment, chunk)] = self._append(identifier, data)
        if moved:
            self.parts = [
                PartPlaces(one.part, array("Q", (moved.get(place, place) for place in one.places))) for one in self.parts
            ]

    def interrupt(self) -> None:
        """Let the chunking thread not wait for bytes any longer; called from another thread, after `require_running` raises."""
        reader = self._reader
        if reader is not None:
            reader.interrupt()

    def _take(self, part: PartInput, digesting: ThreadPoolExecutor) -> None:
        if part.digest is not None and part.digest in self._seen:
            return
        if part.digest is not None and self._reuse(part, part.digest):
            return
        reader = self._reader = part.open()
        try:
            digest, size, places = self._read(reader, digesting)
        finally:
            self._reader = None
            reader.close()
        _check(part, digest, size)
        part.completed(digest, size)
        if digest not in self._seen:
            self._remember(Part(media_type=part.media_type, digest=digest, size=size, role=part.role), places)

    def _remember(self, part: Part, places: Sequence[int]) -> None:
        self._seen.add(part.digest)
        self.parts.append(PartPlaces(part, places))

    def _reuse(self, part: PartInput, digest: Digest) -> bool:
        """Copy the places of a part that a base has; nothing is read."""
        found = self._base_parts.get(digest)
        if found is None:
            return False
        source, number = found
        index = self._bases[source - 1].index
        places = array("Q")
        for extent in index.part_extents(number):
            places.extend(make_place(source, extent.segment, extent.first + step) for step in range(extent.chunks))
        size = index.parts[number].part.size
        self._remember(Part(media_type=part.media_type, digest=digest, size=size, role=part.role), places)
        part.completed(digest, size)
        self._progress.reuse(size)
        return True

    def _read(self, reader: PartReader, digesting: ThreadPoolExecutor) -> "tuple[Digest, int, array[int]]":
        """Read one part to its end; return its digest, size and the places of its chunks.

        What was read is digested while it is cut and identified, and stays where it is until both are done.
        """
        view = memoryview(self._window)
        hasher = hashlib.sha256()
        places = array("Q")
        held = size = 0
        while True:
            self._require_running()
            filled = _fill(reader, view[held:])
            digested = digesting.submit(hasher.update, view[held : held + filled])
            held += filled
            size += filled
            final = held < len(view)
            with turn():
                start = self._place(view, cut(view[:held], self._sizes, final=final), places)
            self._progress.read(filled)
            digested.result()
            if final:
                return Digest.from_raw(hasher.digest()), size, places
            view[: held - start] = view[start:held]
            held -= start

    def _place(self, data: memoryview, ends: Sequence[int], places: "array[int]") -> int:
        """Add to `places` where each chunk of `data` is, the new ones in segments of ours; return the last of `ends`, or 0.

        This runs once a chunk, so it asks for attributes once a call.
        """
        key, find_or_add, segment = self._lineage_key, self._table.find_or_add, self._open
        start = known = 0
        for end in ends:
            chunk = data[start:end]
            identifier = chunk_id(key, chunk)
            own = make_place(_OWN, segment.number, segment.chunks)
            place = find_or_add(identifier, own)
            places.append(place)
            if place != own:
                known += end - start
            elif segment.append(identifier, chunk) >= SEGMENT_RAW_BYTES_TARGET or segment.chunks == self._capacity:
                self._close_segment(last=False)
                segment = self._open
            start = end
        if known:
            self._progress.reference(known)
        return start

    def _append(self, identifier: bytes | None, chunk: memoryview) -> int:
        """Put a chunk into the open segment and return its place; one from another lineage gets its id of this one."""
        segment = self._open
        place = make_place(_OWN, segment.number, segment.chunks)
        length = segment.append(chunk_id(self._lineage_key, chunk) if identifier is None else identifier, chunk)
        if length >= SEGMENT_RAW_BYTES_TARGET or segment.chunks == self._capacity:
            self._close_segment(last=False)
        return place

    def _new_segment(self) -> OpenSegment:
        raw = self.buffers.take()
        return OpenSegment(self._number, raw, memoryview(raw))

    def _close_segment(self, *, last: bool) -> None:
        """Hand on the open segment if anything is in it; called with a turn."""
        segment = self._open
        if segment.length:
            segment.solo = last and segment.number == 0 and self._known_count == 0
            self._number += 1
            self._open = self._new_segment()
            with turn_given_back():
                self._emit(segment)


def _fill(reader: PartReader, view: memoryview) -> int:
    """Read until `view` is full or the part ends: pipes give little at a time, cutting wants much."""
    filled = 0
    while filled < len(view):
        count = reader.readinto(view[filled:])
        if count == 0:
            break
        filled += count
    return filled


def _check(part: PartInput, digest: Digest, size: int) -> None:
    if part.size is not None and size != part.size:
        raise IntegrityError("E-DIGEST", f"{part.role} {part.digest}: {size} bytes read, {part.size} declared")
    if part.digest is not None and digest != part.digest:
        raise IntegrityError("E-DIGEST", f"{part.role} of {size} bytes has digest {digest}, declared {part.digest}")
