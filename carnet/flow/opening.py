"""The pull pipeline: fetch, check, decrypt and inflate segments ahead of need, and hand out parts in order, verified.

The destination gateway runs it to verify before it decides, the consumer's agent to write what it pulls. Segments are fetched
by several tasks ahead of the part being written; each is opened in a thread; each part's digest is computed as it is written.

The index tells which segment is used when: so of those that are open, the one whose next use is farthest makes room (Belady, "A
study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966), and is fetched again then.

Rules:      1. memory is bounded: at most `_AHEAD` segments in flight and `_KEPT` opened ones kept for chunks that repeat
            2. a part is complete only when its digest is right; a wrong one is E-DIGEST and nothing follows
            3. the receiver's writer sees bytes before they are verified and must not publish them before `commit`
Spec:       docs/life-of-a-chunk.md; docs/formats.md sections "Index", "Segments"
"""

import asyncio
import hashlib
import threading
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Protocol

from carnet.chunking import AVERAGES, Buffer, ChunkSizes
from carnet.errors import IntegrityError, Unavailable
from carnet.flow.ending import begin_in_thread, ended, in_thread
from carnet.flow.progress import Progress
from carnet.identifiers import Digest, SegmentId, TransferId
from carnet.index import SEGMENT_CHUNKS_MAX, Index, Part
from carnet.index_pages import open_page
from carnet.index_records import decode_index
from carnet.limits import INDEX_CHUNKS_MAX, KIB, MIB, PARTS_MAX
from carnet.segment import SegmentOpener
from carnet.suites import segment_id

_AHEAD: Final = 6
_KEPT: Final = 8
_NEVER: Final = 0xFFFFFFFF
"""No slice: there are fewer than `INDEX_CHUNKS_MAX`."""
_WRITTEN_AT_ONCE: Final = MIB
"""Bytes of small slices that go to the writer in one call; more would let no segment go while the next could be fetched."""
_DIGESTED_BESIDE: Final = 256 * KIB
"""From so many bytes on a digest is computed while they are written."""

Fetch = Callable[[SegmentId], Awaitable[Buffer]]
"""Returns the sealed bytes of a segment; whoever opens checks them against the id."""


class PartWriter(Protocol):
    """Where the bytes of one part go; called in a thread, in order."""

    def write(self, data: memoryview, /) -> None:
        """Take the next bytes of the part."""
        ...

    def close(self) -> None:
        """Be told that the part is complete and its digest right."""
        ...


class NullWriter:
    """Verifies only."""

    def write(self, data: memoryview, /) -> None:
        """Drop the bytes."""

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """Consecutive raw bytes of one segment that belong to one part, by their numbers."""

    part: int
    segment: int | None
    start: int
    length: int
    is_last: bool = False
    """Whether the part ends with it."""


async def open_index(
    pages: Sequence[SegmentId],
    fetch: Fetch,
    *,
    suite: int,
    artifact_key: bytes,
    transfer: TransferId,
    closure: Digest,
    segments: int,
    size: int,
) -> Index:
    """Fetch and open the pages of an index one after the other and return it, fully checked (canonical or refused).

    `segments` is how many the signed segment list has, `size` the bytes of all parts that the waybill names: they bound the
    chunks and extents, and so the memory, that an index may claim.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    fetching: asyncio.Task[Buffer] | None = None

    async def fetched(page: SegmentId) -> Buffer:
        nonlocal fetching
        _require_running(stop)
        fetching = asyncio.current_task()
        return await fetch(page)

    def raw_pages() -> Iterator[bytes]:
        for number, page in enumerate(pages):
            _require_running(stop)
            sealed = asyncio.run_coroutine_threadsafe(fetched(page), loop).result()
            check_id(suite, page, sealed)
            yield open_page(
                sealed,
                suite=suite,
                artifact_key=artifact_key,
                transfer=transfer,
                closure=closure,
                number=number,
                last=number == len(pages) - 1,
            )

    def decode() -> Index:
        chunks_max = min(INDEX_CHUNKS_MAX, max(1, segments) * SEGMENT_CHUNKS_MAX)
        extents_max = min(INDEX_CHUNKS_MAX, size // ChunkSizes(min(AVERAGES)).minimum + PARTS_MAX)
        index = decode_index(raw_pages(), suite=suite, chunks_max=chunks_max, extents_max=extents_max)
        if index.closure_digest() != closure:
            raise IntegrityError("E-INDEX", f"the index is of closure {index.closure_digest()}, expected {closure}")
        return index

    decoding = begin_in_thread(decode)
    try:
        return await asyncio.shield(decoding)
    finally:
        stop.set()  # it has ended, or we are cancelled: then neither the thread nor what it waits for may stay
        if fetching is not None:
            fetching.cancel()
        await ended([decoding])


async def open_parts(
    index: Index,
    fetch: Fetch,
    *,
    suite: int,
    writer_of: Callable[[Part], PartWriter],
    progress: Progress,
    is_checked: bool = False,
) -> None:
    """Write every part of `index`, in order, through the writers that `writer_of` returns; verify each part's digest.

    Segments are fetched ahead across the ends of parts, and small slices that are open already are written in one go, so that a
    directory of small files costs neither a round trip nor a change of thread for each. `is_checked` says that `fetch` has
    compared with the id what it returns, as a store does; else that is done here.
    """
    opened = _OpenedSegments(index, fetch, suite, progress, await in_thread(_next_uses, index), is_checked=is_checked)
    writing = _Writing(index, writer_of)
    following = _slices(index)
    ahead: deque[_Slice] = deque()
    try:
        while True:
            while opened.has_room(ahead) and (found := next(following, None)) is not None:
                opened.want(found)
                ahead.append(found)
            if not ahead:
                break
            ready = [(ahead[0], await opened.raw(ahead.popleft()))]
            length = ready[0][0].length
            while ahead and (length := length + ahead[0].length) <= _WRITTEN_AT_ONCE and opened.is_open(ahead[0]):
                ready.append((ahead[0], await opened.raw(ahead.popleft())))
            await in_thread(writing.take, ready)
            for piece, _ in ready:
                opened.release(piece)
                progress.read(piece.length)
    finally:
        try:
            await opened.close()
        finally:
            writing.close()


def check_id(suite: int, identifier: SegmentId, sealed: Buffer) -> None:
    """Raise `IntegrityError` E-SEGMENT-CORRUPT unless `sealed` hashes to `identifier`."""
    if segment_id(suite, sealed) != identifier:
        raise IntegrityError("E-SEGMENT-CORRUPT", f"segment {identifier}: {len(sealed)} bytes do not hash to its id")


def _require_running(stop: threading.Event) -> None:
    if stop.is_set():
        raise Unavailable("E-INTERRUPTED", "opening the index was stopped")


def _slices(index: Index) -> Iterator[_Slice]:
    """Yield where the bytes of all parts are, in order, one slice an extent; a part without bytes has one slice of none."""
    for number in range(len(index.parts)):
        found = _Slice(number, None, 0, 0)
        for extent in index.part_extents(number):
            if found.segment is not None:
                yield found
            entry = index.segments[extent.segment]
            start, length = entry.chunk_offset(extent.first), entry.run_bytes(extent.first, extent.chunks)
            found = _Slice(number, extent.segment, start, length)
        yield replace(found, is_last=True)


def _next_uses(index: Index) -> "array[int]":
    """Return, for each slice that has a segment, in order, which one is the next of the same segment; `_NEVER` if none is."""
    used = array("I", (extent.segment for number in range(len(index.parts)) for extent in index.part_extents(number)))
    following, latest = array("I", [_NEVER]) * len(used), dict[int, int]()
    for number in range(len(used) - 1, -1, -1):
        following[number] = latest.get(used[number], _NEVER)
        latest[used[number]] = number
    return following


class _Writing:
    """The part that is being written; its calls come from one thread at a time, in order."""

    def __init__(self, index: Index, writer_of: Callable[[Part], PartWriter]) -> None:
        self._index = index
        self._writer_of = writer_of
        self._writer: PartWriter | None = None
        self._hasher = hashlib.sha256()
        self._written = 0
        self._digesting = ThreadPoolExecutor(1, thread_name_prefix="carnet-digest")

    def close(self) -> None:
        """End the thread that computes digests; nothing runs in it any more."""
        self._digesting.shutdown()

    def take(self, pieces: Sequence[tuple[_Slice, bytes]]) -> None:
        """Write slices of these segments; raise `IntegrityError` E-DIGEST for a part that is not what it says."""
        for piece, raw in pieces:
            part = self._index.parts[piece.part].part
            if self._writer is None:
                self._writer, self._hasher, self._written = self._writer_of(part), hashlib.sha256(), 0
            if piece.length:
                self._write(self._writer, memoryview(raw)[piece.start : piece.start + piece.length])
            if piece.is_last:
                self._check(part)
                self._writer.close()
                self._writer = None

    def _write(self, writer: PartWriter, data: memoryview) -> None:
        """Write and digest, side by side unless it is so little that a change of thread costs more."""
        if len(data) < _DIGESTED_BESIDE:
            self._hasher.update(data)
            writer.write(data)
        else:
            digested = self._digesting.submit(self._hasher.update, data)
            try:
                writer.write(data)
            finally:
                digested.result()
        self._written += len(data)

    def _check(self, part: Part) -> None:
        digest = Digest.from_raw(self._hasher.digest())
        if digest != part.digest or self._written != part.size:
            raise IntegrityError(
                "E-DIGEST", f"{part.role} {part.digest} of {part.size} bytes came out as {digest} of {self._written} bytes"
            )


class _OpenedSegments:
    """Fetches and opens segments ahead, counts who still needs them, and keeps a few of those nobody does."""

    def __init__(
        self, index: Index, fetch: Fetch, suite: int, progress: Progress, next_uses: Sequence[int], *, is_checked: bool
    ) -> None:
        self._index = index
        self._is_checked = is_checked
        self._next_uses = next_uses
        self._wanted = 0  # slices with a segment so far
        self._fetch = fetch
        self._suite = suite
        self._progress = progress
        self._tasks: dict[int, asyncio.Task[bytes]] = {}
        """By segment number."""
        self._needed: dict[int, int] = {}
        """By segment number, how many slices that were wanted are not written yet."""
        self._next_use: dict[int, int] = {}
        """By segment number, which slice beyond those that were wanted is the next to use it."""
        self._own = threading.local()
        """One opener a thread: it reuses its buffer."""

    def has_room(self, ahead: "deque[_Slice]") -> bool:
        """Tell whether another slice may be looked at: few distinct segments and not too many slices wait."""
        return len(self._needed) < _AHEAD and len(ahead) < _AHEAD * 256

    def want(self, piece: _Slice) -> None:
        """Start fetching the slice's segment unless it is here or on its way."""
        number = piece.segment
        if number is None:
            return
        self._needed[number] = self._needed.get(number, 0) + 1
        self._next_use[number] = self._next_uses[self._wanted]
        self._wanted += 1
        if number not in self._tasks:
            self._tasks[number] = asyncio.create_task(self._open(number))

    def is_open(self, piece: _Slice) -> bool:
        """Tell whether the slice's segment is here and right, so that `raw` has it at once."""
        task = None if piece.segment is None else self._tasks[piece.segment]
        return task is None or (task.done() and not task.cancelled() and task.exception() is None)

    async def raw(self, piece: _Slice) -> bytes:
        """Return the plaintext of the slice's segment."""
        return b"" if piece.segment is None else await self._tasks[piece.segment]

    def release(self, piece: _Slice) -> None:
        """Say that a slice is written; forget segments that nobody needs again, and beyond `_KEPT` those needed last."""
        number = piece.segment
        if number is None:
            return
        self._needed[number] -= 1
        if self._needed[number]:
            return
        del self._needed[number]
        if self._next_use[number] == _NEVER:
            self._forget(number)
        while len(self._tasks) > _KEPT and (idle := [old for old in self._tasks if old not in self._needed]):
            self._forget(max(idle, key=self._next_use.__getitem__))

    def _forget(self, number: int) -> None:
        del self._tasks[number], self._next_use[number]

    async def _open(self, number: int) -> bytes:
        entry = self._index.segments[number]
        sealed = await self._fetch(entry.id)
        self._progress.wire_bytes += len(sealed)
        return await asyncio.to_thread(self._unseal, entry.id, entry.key, entry.raw_length, sealed)

    def _unseal(self, identifier: SegmentId, key: bytes, raw_length: int, sealed: Buffer) -> bytes:
        if not self._is_checked:
            check_id(self._suite, identifier, sealed)
        opener = getattr(self._own, "opener", None)
        if opener is None:
            opener = self._own.opener = SegmentOpener(self._suite)
        raw: bytes = opener.open(sealed, key=key)
        if len(raw) != raw_length:
            raise IntegrityError("E-INDEX", f"segment {identifier}: {len(raw)} bytes inside, {raw_length} in the index")
        return raw

    async def close(self) -> None:
        """Stop what is still on its way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
