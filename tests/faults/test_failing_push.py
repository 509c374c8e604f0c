"""A stage of a push that raises ends the whole with that error; no thread, task, buffer or reader of it is left."""

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest

from carnet.errors import CarnetError, IntegrityError, PeerError, Unavailable
from carnet.flow.sealing import SealedSegment, SealingPlan, seal_artifact
from carnet.identifiers import Digest
from tests.carnet.flow.pipeline import MemoryPart, Progress, Reader, Store, base_of, parts_of, plan, seal
from tests.faults.leftovers import Held, TrackedBuffers, held

SIZE = 28_000_000
"""More segments than the queues have places, so that every stage waits for the next when one of them fails."""
SENDERS = 2


class Breaking(Exception):
    """What a stage raises."""


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@dataclass
class CountedPart(MemoryPart):
    """A part that fails `at` a call, and counts how many of its readers are open."""

    at: str = ""
    after: int = SIZE // 2
    is_open: int = 0

    def open(self) -> Reader:
        if self.at == "open":
            raise Breaking
        self.is_open += 1
        return CountedReader(self)

    def completed(self, _digest: Digest, _size: int) -> None:
        if self.at == "completed":
            raise Breaking


class CountedReader(Reader):
    def __init__(self, part: CountedPart) -> None:
        super().__init__(part.data, 1 << 20)
        self._part, self._read = part, 0

    def readinto(self, buffer: memoryview, /) -> int:
        if self._part.at == "read" and self._read >= self._part.after:
            raise Breaking
        count = super().readinto(buffer)
        self._read += count
        return count

    def close(self) -> None:
        self._part.is_open -= 1
        if self._part.at == "close":
            raise Breaking


@dataclass
class Sender:
    """Sends to a store, and fails at its `at`-th segment."""

    store: Store = field(default_factory=Store)
    at: int | None = None
    taken: int = 0

    async def send(self, segment: SealedSegment) -> None:
        self.taken += 1
        if self.taken == self.at:
            raise Breaking
        await self.store.send(segment)


async def failure_of(parts: Iterable[MemoryPart], made: SealingPlan, sender: Sender) -> tuple[type[BaseException], str]:
    """Return what the push raises, in a form that keeps no frame alive; a push that works is none."""
    try:
        await seal_artifact(parts, made, sender.send, slots=asyncio.Semaphore(SENDERS), progress=Progress())
    except (Breaking, CarnetError, ValueError, AttributeError) as error:
        return type(error), getattr(error, "code", "")
    raise AssertionError("nothing failed")


@pytest.fixture
def buffers(monkeypatch: pytest.MonkeyPatch) -> TrackedBuffers:
    return TrackedBuffers(monkeypatch)


async def check_nothing_left(before: Held, buffers: TrackedBuffers) -> None:
    """At once, not after a while: who got the error may end the process, or begin again."""
    assert held().beyond(before) == {}
    await asyncio.sleep(0)  # the loop itself still holds the last thing it did
    assert buffers.alive == 0


@pytest.mark.parametrize("at", ["open", "read", "close", "completed"])
async def test_a_reader_that_raises_ends_the_push_and_is_closed(buffers: TrackedBuffers, at: str) -> None:
    before, part = held(), CountedPart(noise(SIZE), at=at)

    assert await failure_of([part], plan(Store()), Sender()) == (Breaking, "")

    assert part.is_open == 0
    await check_nothing_left(before, buffers)


async def test_a_source_that_raises_between_two_parts_ends_the_push(buffers: TrackedBuffers) -> None:
    before, first = held(), CountedPart(noise(SIZE))

    def parts():
        yield first
        raise Breaking

    assert await failure_of(parts(), plan(Store()), Sender()) == (Breaking, "")

    assert first.is_open == 0
    await check_nothing_left(before, buffers)


async def test_a_chunker_that_raises_ends_the_push(buffers: TrackedBuffers) -> None:
    """No id can be computed under a key of three bytes."""
    before, part = held(), CountedPart(noise(SIZE))
    made = replace(plan(Store()), lineage_key=b"bad")

    kind, _ = await failure_of([part], made, Sender())

    assert issubclass(kind, ValueError)
    assert part.is_open == 0
    await check_nothing_left(before, buffers)


@pytest.mark.parametrize("wrong", ["suite", "transfer"])
async def test_a_sealer_that_raises_ends_the_push(buffers: TrackedBuffers, wrong: str) -> None:
    """At its start, for a suite that is none; or at the row, for want of a transfer: then both buffers are taken."""
    before, part = held(), CountedPart(noise(SIZE))
    made = replace(plan(Store()), suite=99) if wrong == "suite" else replace(plan(Store()), transfer=None)

    kind, _ = await failure_of([part], made, Sender())

    assert issubclass(kind, AttributeError | CarnetError)
    assert part.is_open == 0
    await check_nothing_left(before, buffers)


@pytest.mark.parametrize("at", [1, 5, 12])
async def test_a_sender_that_raises_ends_the_push_whatever_is_read_and_sealed_by_then(buffers: TrackedBuffers, at: int) -> None:
    before, part = held(), CountedPart(noise(SIZE))

    assert await failure_of([part], plan(Store()), Sender(at=at)) == (Breaking, "")

    assert part.is_open == 0
    await check_nothing_left(before, buffers)


async def test_an_index_that_cannot_be_built_ends_the_push(buffers: TrackedBuffers) -> None:
    """The source has changed: of a segment that an earlier run sent only a part is used."""
    store, content = Store(), noise(3_000_000)
    await seal(store, parts_of(content))
    before = held()

    failed = await failure_of(parts_of(content[:1_500_000]), plan(store, known=store.known()), Sender())

    assert issubclass(failed[0], IntegrityError)
    assert failed[1] == "E-SOURCE-CHANGED"
    await check_nothing_left(before, buffers)


@pytest.mark.parametrize(("harm", "code"), [("gone", "E-BASE"), ("flipped", "E-SEGMENT-CORRUPT"), ("away", "E-UNREACHABLE")])
async def test_a_base_that_cannot_be_read_ends_the_push(buffers: TrackedBuffers, harm: str, code: str) -> None:
    store, content = Store(), noise(4_000_000)
    base, _ = await seal(store, parts_of(content))
    known = base_of(base, store)
    before = held()

    async def fetch(segment):
        if harm == "away":
            raise Unavailable("E-UNREACHABLE", "the link is cut")
        return bytes(len(store.segments[segment]))

    if harm == "gone":
        store.segments.clear()
    made = plan(store, bases=[known]) if harm == "gone" else replace(plan(store, bases=[known]), fetch=fetch)
    kind, got = await failure_of(parts_of(content[:100_000]), made, Sender())

    assert issubclass(kind, PeerError | IntegrityError | Unavailable)
    assert got == code
    await check_nothing_left(before, buffers)


async def test_a_base_that_is_being_fetched_when_a_sender_raises_is_not_fetched_any_longer(buffers: TrackedBuffers) -> None:
    """A connection takes some turns of the loop to give up; nobody is told of the failure before it has."""
    store, content = Store(), noise(4_000_000)
    base, _ = await seal(store, parts_of(content))
    known = base_of(base, store)
    asked, given_up = asyncio.Event(), asyncio.Event()
    before = held()

    async def fetch(segment):
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(50):
                await asyncio.sleep(0)
            given_up.set()
        return b""

    async def send(segment: SealedSegment) -> None:
        await asked.wait()
        raise Breaking

    made = replace(plan(store, bases=[known]), fetch=fetch)
    parts = parts_of(content[:100_000], noise(5_000_000, 2))
    with pytest.raises(Breaking):
        await seal_artifact(parts, made, send, slots=asyncio.Semaphore(SENDERS), progress=Progress())

    assert given_up.is_set()
    await check_nothing_left(before, buffers)


async def test_however_slow_the_link_no_more_buffers_are_made_than_the_stages_and_their_queues_have_places(
    buffers: TrackedBuffers,
) -> None:
    """The senders wait until both queues are full, which is as far ahead as reading and sealing can get."""
    before, progress = held(), Progress()
    places = {"filled": 1, "closed": 1, "opened": 2, "being sealed": 2, "sealed": 2, "outgoing": 3, "being sent": SENDERS}
    sealed_by_then = places["sealed"] + places["outgoing"] + places["being sent"]

    async def send(segment: SealedSegment) -> None:
        while progress.segments_sealed < sealed_by_then:
            await asyncio.sleep(0.001)

    await seal_artifact([*parts_of(noise(3 * SIZE))], plan(Store()), send, slots=asyncio.Semaphore(SENDERS), progress=progress)

    assert sealed_by_then <= buffers.made <= sum(places.values())
    await check_nothing_left(before, buffers)
