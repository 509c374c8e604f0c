"""The push pipeline: one chunking thread, a few sealing threads, several sending tasks, bounded queues between them.

The chunking thread emits closed segments; sealing threads compress, pad, encrypt and name them and seal their rows; the event
loop sends them over several connections. When the link is slow the queues fill and reading stops.

Rules:      1. memory is bounded by the queues: at most `_OPEN_MAX` open and `_SEALED_MAX` sealed segments wait
            2. the first failure stops every stage and is what the caller sees  3. no thread outlives the call
            4. each segment has its own fresh random key and nonce
Spec:       docs/life-of-a-chunk.md; docs/formats.md sections "Segments", "Rows", "Index"
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from carnet.chunking import Buffer, ChunkSizes
from carnet.errors import CallerError, IntegrityError, NotFound, PeerError
from carnet.flow.buffers import Buffers
from carnet.flow.chunking_stage import Base, ChunkingStage, KnownSegment, OpenSegment, PartPlaces, split_place
from carnet.flow.ending import ended, in_thread
from carnet.flow.handover import LoopQueue, Stop, Stopped, ThreadQueue
from carnet.flow.level import LevelControl
from carnet.flow.opening import Fetch, check_id
from carnet.flow.parts import PartInput
from carnet.flow.progress import Progress
from carnet.flow.slots import Slots
from carnet.flow.turns import turn
from carnet.identifiers import Digest, SegmentId, TransferId
from carnet.index import Index
from carnet.index_builder import IndexBuilder
from carnet.index_pages import seal_page
from carnet.index_records import encode_index
from carnet.limits import SEGMENT_BYTES_MAX
from carnet.rows import Row, row_capacity, seal_row
from carnet.segment import SegmentSealer, open_segment
from carnet.suites import CHUNK_ID_BYTES, KEY_BYTES, NONCE_BYTES, segment_id

_OPEN_MAX: Final = 2
_SEALED_MAX: Final = 3
_SEALERS: Final = 2
Result = TypeVar("Result")


@dataclass(frozen=True)
class SealingPlan:
    """What a push needs to know before it reads the first byte."""

    transfer: TransferId
    suite: int
    sizes: ChunkSizes
    lineage_key: bytes
    resume_key: bytes
    level: int | None = None
    """Of compression; None lets the link and what is new decide."""
    bases: Sequence[Base] = ()
    known: Sequence[KnownSegment] = ()
    fetch: Fetch | None = None
    """How a segment of a base is fetched; needed when there are bases."""

    def __repr__(self) -> str:
        return f"SealingPlan(transfer={self.transfer}, bases={len(self.bases)}, known={len(self.known)})"


@dataclass(frozen=True)
class SealedSegment:
    """A segment ready to send: its id, its bytes, its sealed row; a memoryview is of a buffer that is used again once sent."""

    id: SegmentId
    sealed: bytes | memoryview
    row: bytes | None


@dataclass
class _Introduced:
    """What the index must say of a segment of this transfer."""

    id: SegmentId
    key: bytes
    raw_length: int
    chunk_ids: bytes
    chunk_lengths: Sequence[int]


class PartlyUsed(IntegrityError):
    """Segments that an earlier run sent are only partly used by what was read now: the source changed in between."""

    def __init__(self, segments: frozenset[SegmentId]) -> None:
        """Keep which segments must not be known in the next attempt."""
        super().__init__("E-SOURCE-CHANGED", f"the source differs from the interrupted push in {len(segments)} segments")
        self.segments = segments


async def seal_artifact(
    parts: Iterable[PartInput],
    plan: SealingPlan,
    send: Callable[[SealedSegment], Awaitable[None]],
    *,
    slots: Slots,
    progress: Progress,
) -> Index:
    """Read, seal and send everything new in `parts`; return the index that describes the whole.

    `send` runs once for each of the `slots` at a time, each with another segment, and returns when the segment is durable at
    the other end; the segment's bytes are others afterwards. Raises what reading, checking or sending raises; `PartlyUsed` when
    the caller must try again without some of the known segments.
    """
    pipeline = _Pipeline(plan, progress)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(pipeline.produce(parts))
            await _send_all(group, pipeline, send, slots, progress)
    except BaseExceptionGroup as failures:
        raise _first(failures) from None
    return await in_thread(pipeline.index)


async def _send_all(
    group: asyncio.TaskGroup,
    pipeline: "_Pipeline",
    send: Callable[[SealedSegment], Awaitable[None]],
    slots: Slots,
    progress: Progress,
) -> None:
    async def send_one(segment: SealedSegment) -> None:
        await send(segment)
        progress.segments_sent += 1
        progress.wire_bytes += len(segment.sealed) + len(segment.row or b"")
        pipeline.sent(segment)

    while True:
        await slots.acquire()
        segment = None
        try:
            segment = await pipeline.next()
        finally:
            if segment is None:
                slots.release()
        if segment is None:
            return
        # Not within the task: one that is cancelled before it began runs nothing.
        group.create_task(send_one(segment)).add_done_callback(lambda _: slots.release())


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the failure that matters: the first that is not merely a stage being stopped."""
    flat = list(_flatten(failures))
    return next((failure for failure in flat if not isinstance(failure, Stopped)), flat[0])


def _flatten(failures: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from _flatten(failure)
        else:
            yield failure


class _Pipeline:
    """The threads of one push and what they share; the lock-free parts are owned as noted."""

    def __init__(self, plan: SealingPlan, progress: Progress) -> None:
        self._plan = plan
        self._progress = progress
        self._stop = Stop()
        self._opened: ThreadQueue[OpenSegment | None] = ThreadQueue(_OPEN_MAX, self._stop)
        self._outgoing: LoopQueue[SealedSegment] = LoopQueue(_SEALED_MAX, self._stop)
        self._introduced: dict[int, _Introduced] = {
            number: _Introduced(
                known.id,
                known.row.key,
                known.row.raw_length,
                b"".join(identifier for identifier, _ in known.row.chunks),
                [length for _, length in known.row.chunks],
            )
            for number, known in enumerate(plan.known)
        }
        """By segment number; each sealing thread writes its own numbers."""
        self._level = LevelControl(plan.level, has_bases=bool(plan.bases), progress=progress, clock=time.monotonic)
        self._buffers = Buffers(SEGMENT_BYTES_MAX)
        """Where sealed segments are until they are sent."""
        self._stage = ChunkingStage(
            sizes=plan.sizes,
            lineage_key=plan.lineage_key,
            bases=plan.bases,
            known=plan.known,
            emit=self._opened.put,
            require_running=self._require_running,
            read_base=self._read_base,
            progress=progress,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fetching: asyncio.Task[Buffer] | None = None
        """The segment of a base that is on its way to the chunking thread; owned by the event loop."""

    async def produce(self, parts: Iterable[PartInput]) -> None:
        """Run the threads to their end, then say that nothing follows."""
        self._loop = loop = asyncio.get_running_loop()
        threads = ThreadPoolExecutor(1 + _SEALERS, thread_name_prefix="carnet-push")
        work = [loop.run_in_executor(threads, self._chunk, parts)]
        work += [loop.run_in_executor(threads, self._seal_all) for _ in range(_SEALERS)]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._stop.set()  # all are done, or one failed, or we are cancelled: whatever still runs must end
            self._stage.interrupt()
            try:
                await ended(work)
            finally:
                threads.shutdown()  # at once: nothing runs in them any more
                if self._fetching is not None:
                    await ended([self._fetching])  # the thread that waited for it has cancelled it
        failures = [error for one in work if (error := one.exception()) is not None]
        if failures:
            raise BaseExceptionGroup("push", failures)
        self._outgoing.end()

    async def next(self) -> SealedSegment | None:
        """Return a segment to send, or None at the end."""
        return await self._outgoing.take()

    def sent(self, segment: SealedSegment) -> None:
        """Use the buffer of a segment again, which nobody reads any more."""
        if isinstance(segment.sealed, memoryview):
            buffer = segment.sealed.obj
            if isinstance(buffer, bytearray):
                self._buffers.give(buffer)

    def _chunk(self, parts: Iterable[PartInput]) -> None:
        try:
            self._stage.run(parts)
        except BaseException:
            self._stop.set()
            raise
        for _ in range(_SEALERS):
            self._opened.put(None)

    def _read_base(self, source: int, segment: int) -> bytes:
        """Fetch and open a segment of a base, from the chunking thread."""
        plan, entry = self._plan, self._plan.bases[source - 1].index.segments[segment]
        if self._loop is None or plan.fetch is None:
            raise CallerError("E-USAGE", "a plan with bases needs a way to fetch their segments")
        sealed = _wait_for(asyncio.run_coroutine_threadsafe(self._fetched(plan.fetch, entry.id), self._loop), self._stop)
        check_id(plan.suite, entry.id, sealed)
        return open_segment(sealed, suite=plan.suite, key=entry.key)

    async def _fetched(self, fetch: Fetch, segment: SegmentId) -> Buffer:
        self._fetching = asyncio.current_task()
        try:
            return await fetch(segment)
        except NotFound:
            raise PeerError("E-BASE", f"segment {segment} of a base is gone") from None
        finally:
            self._fetching = None

    def _require_running(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _seal_all(self) -> None:
        sealer = SegmentSealer(self._plan.suite, self._level.level)
        try:
            while (segment := self._opened.take()) is not None:
                sealer.compress_at(self._level.level)
                with turn():
                    sealed = self._seal(sealer, segment)
                self._level.sealed(waited=self._outgoing.put(sealed))
        except BaseException:
            self._stop.set()
            raise

    def _seal(self, sealer: SegmentSealer, segment: OpenSegment) -> SealedSegment:
        plan = self._plan
        key, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
        raw = segment.view[: segment.length]
        out = self._buffers.take()
        sealed = memoryview(out)[: sealer.seal_into(raw, out, key=key, nonce=nonce, solo=segment.solo)]
        self._stage.buffers.give(segment.raw)
        identifier = segment_id(plan.suite, sealed)
        chunk_ids = bytes(segment.chunk_ids)
        chunks = tuple(
            (chunk_ids[start * CHUNK_ID_BYTES : (start + 1) * CHUNK_ID_BYTES], length)
            for start, length in enumerate(segment.chunk_lengths)
        )
        row = seal_row(
            Row(key=key, raw_length=segment.length, chunks=chunks),
            suite=plan.suite,
            resume_key=plan.resume_key,
            transfer=plan.transfer,
            segment=identifier,
            nonce=os.urandom(NONCE_BYTES),
            capacity=row_capacity(plan.sizes),
        )
        self._introduced[segment.number] = _Introduced(identifier, key, segment.length, chunk_ids, segment.chunk_lengths)
        self._progress.segments_sealed += 1
        return SealedSegment(identifier, sealed, row)

    def index(self) -> Index:
        """Return the index of what was read; raise `PartlyUsed` if segments of an earlier run have chunks nobody refers to."""
        plan = self._plan
        used = _used_chunks(self._stage.parts, len(plan.known))
        partly = frozenset(known.id for number, known in enumerate(plan.known) if 0 < len(used[number]) < len(known.row.chunks))
        if partly:
            raise PartlyUsed(partly)
        bases = _used_bases(self._stage.parts, plan.bases)
        builder = IndexBuilder(
            plan.sizes, plan.lineage_key, [plan.bases[source - 1].packing_digest for source in bases], suite=plan.suite
        )
        numbers: dict[int, int] = {}
        for number in sorted(self._introduced):
            if number < len(plan.known) and not used[number]:
                continue
            one = self._introduced[number]
            numbers[number] = builder.add_segment(
                one.id,
                key=one.key,
                raw_length=one.raw_length,
                chunk_ids=one.chunk_ids,
                chunk_lengths=one.chunk_lengths,
            )
        for entry in self._stage.parts:
            builder.add_part(entry.part, self._references(builder, numbers, bases, entry.places))
        return builder.build()

    def _references(
        self, builder: IndexBuilder, numbers: dict[int, int], bases: list[int], places: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        for place in places:
            source, segment, chunk = split_place(place)
            if source == 0:
                yield numbers[segment], chunk
            else:
                base = self._plan.bases[source - 1].index
                yield builder.use_base_segment(bases.index(source) + 1, base, segment), chunk


def _used_bases(parts: Sequence[PartPlaces], bases: Sequence[Base]) -> list[int]:
    """Return which bases (1-based) something refers to, in order: a base that gave nothing is not named."""
    if not bases:
        return []
    used = {place >> 48 for entry in parts for place in entry.places}
    return [source for source in range(1, len(bases) + 1) if source in used]


def _used_chunks(parts: Sequence[PartPlaces], known: int) -> list[set[int]]:
    """Return, for each segment known from an earlier run, the chunks that some part refers to."""
    used: list[set[int]] = [set() for _ in range(known)]
    if known:
        for entry in parts:
            for place in entry.places:
                source, segment, chunk = split_place(place)
                if source == 0 and segment < known:
                    used[segment].add(chunk)
    return used


def _wait_for(waiting: "Future[Result]", stop: Stop) -> Result:
    """Return what the loop's work gives, to a thread; raise `Stopped` if the push ends before."""
    while True:
        try:
            return waiting.result(timeout=0.2)
        except TimeoutError:
            if waiting.done():
                raise
            if stop.is_set():
                waiting.cancel()
                raise Stopped from None


@dataclass(frozen=True)
class SealedIndex:
    """The index as it travels: its pages in order, and the closure digest they are bound to."""

    closure: Digest
    pages: tuple[SealedSegment, ...]


def seal_index(index: Index, *, suite: int, artifact_key: bytes, transfer: TransferId) -> SealedIndex:
    """Return the sealed pages of `index` under `artifact_key`, bound to the transfer and the closure."""
    closure = index.closure_digest()
    raw_pages = list(encode_index(index))
    pages = []
    for number, raw in enumerate(raw_pages):
        sealed = seal_page(
            raw,
            suite=suite,
            artifact_key=artifact_key,
            transfer=transfer,
            closure=closure,
            number=number,
            last=number == len(raw_pages) - 1,
            nonce=os.urandom(NONCE_BYTES),
        )
        pages.append(SealedSegment(segment_id(suite, sealed), sealed, None))
    return SealedIndex(closure, tuple(pages))
