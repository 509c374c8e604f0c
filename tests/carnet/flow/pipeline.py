"""A store in memory and parts in memory, to run the pipelines without files, sockets or a gateway."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from carnet.chunking import ChunkSizes
from carnet.errors import NotFound
from carnet.flow.chunking_stage import Base, KnownSegment
from carnet.flow.opening import open_index, open_parts
from carnet.flow.progress import Progress
from carnet.flow.sealing import SealedSegment, SealingPlan, seal_artifact, seal_index
from carnet.identifiers import Digest, SegmentId, TransferId
from carnet.index import Index, Part
from carnet.oci import OCI_MANIFEST, Role
from carnet.packing import SegmentList
from carnet.rows import open_row, row_capacity

SIZES = ChunkSizes(16384)
TRANSFER = TransferId("0" * 31 + "1")
LINEAGE, RESUME, ARTIFACT_KEY = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32


class Reader:
    """Bytes in memory, given out at most `step` at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._rest = memoryview(data)
        self._step = step

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._rest), self._step)
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        pass

    def interrupt(self) -> None:
        pass


@dataclass
class MemoryPart:
    """A part to seal; counts how often it was opened."""

    data: bytes
    role: Role = Role.LAYER
    media_type: str = "application/octet-stream"
    is_known: bool = False
    step: int = 1 << 30
    opened: int = 0
    told: list[tuple[Digest, int]] = field(default_factory=list)

    @property
    def digest(self) -> Digest | None:
        return Digest.of(self.data) if self.is_known else None

    @property
    def size(self) -> int | None:
        return len(self.data) if self.is_known else None

    def open(self) -> Reader:
        self.opened += 1
        return Reader(self.data, self.step)

    def completed(self, digest: Digest, size: int) -> None:
        self.told.append((digest, size))


def parts_of(*contents: bytes, is_known: bool = False, step: int = 1 << 30) -> list[MemoryPart]:
    """Layers with these contents, and a root."""
    layers = [MemoryPart(content, is_known=is_known, step=step) for content in contents]
    root = b"root of " + b"".join(Digest.of(content).raw for content in contents)
    return [*layers, MemoryPart(root, Role.ARTIFACT, OCI_MANIFEST, is_known, step)]


@dataclass
class Store:
    """What a gateway would hold."""

    segments: dict[SegmentId, bytes] = field(default_factory=dict)
    rows: dict[SegmentId, bytes] = field(default_factory=dict)
    sent: list[SegmentId] = field(default_factory=list)

    async def send(self, segment: SealedSegment) -> None:
        await asyncio.sleep(0)
        self.sent.append(segment.id)
        self.segments[segment.id] = bytes(segment.sealed)
        if segment.row is not None:
            self.rows[segment.id] = segment.row

    async def fetch(self, segment: SegmentId) -> bytes:
        await asyncio.sleep(0)
        if segment not in self.segments:
            raise NotFound("E-SEGMENT-UNKNOWN", f"no segment {segment}")
        return self.segments[segment]

    def known(self) -> list[KnownSegment]:
        """What a restarted push learns from the rows."""
        return [
            KnownSegment(
                one,
                open_row(row, suite=1, resume_key=RESUME, transfer=TRANSFER, segment=one, capacity=row_capacity(SIZES)),
            )
            for one, row in sorted(self.rows.items())
        ]


def plan(store: Store, *, bases: Sequence[Base] = (), known: Sequence[KnownSegment] = ()) -> SealingPlan:
    return SealingPlan(
        transfer=TRANSFER,
        suite=1,
        sizes=SIZES,
        lineage_key=LINEAGE,
        resume_key=RESUME,
        level=1,
        bases=bases,
        known=known,
        fetch=store.fetch,
    )


async def seal(
    store: Store, parts: Sequence[MemoryPart], *, bases: Sequence[Base] = (), known: Sequence[KnownSegment] = ()
) -> tuple[Index, Progress]:
    """Seal the parts into the store."""
    progress = Progress()
    index = await seal_artifact(
        parts, plan(store, bases=bases, known=known), store.send, slots=asyncio.Semaphore(3), progress=progress
    )
    return index, progress


def base_of(index: Index, store: Store, number: int = 1, *, same_lineage: bool = True) -> Base:
    """An index as a base to build upon."""
    segments = SegmentList.of((entry.id, len(store.segments[entry.id])) for entry in index.segments)
    return Base(Digest.from_raw(bytes([number]) * 32), index, segments, same_lineage)


async def open_all(store: Store, index: Index) -> dict[Digest, bytes]:
    """Seal the index into pages, open them again, and return every part's content."""
    sealed = seal_index(index, suite=1, artifact_key=ARTIFACT_KEY, transfer=TRANSFER)
    for page in sealed.pages:
        store.segments[page.id] = page.sealed
    opened = await open_index(
        [page.id for page in sealed.pages],
        store.fetch,
        suite=1,
        artifact_key=ARTIFACT_KEY,
        transfer=TRANSFER,
        closure=sealed.closure,
        segments=len(index.segments),
        size=sum(entry.part.size for entry in index.parts),
    )
    found: dict[Digest, bytearray] = {}

    class Writer:
        def __init__(self, part: Part) -> None:
            self._data = found.setdefault(part.digest, bytearray())

        def write(self, data: memoryview, /) -> None:
            self._data += data

        def close(self) -> None:
            pass

    await open_parts(opened, store.fetch, suite=1, writer_of=Writer, progress=Progress())
    return {digest: bytes(data) for digest, data in found.items()}
