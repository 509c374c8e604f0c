"""A stage of a pull that raises ends the whole with that error; no task, thread or fetch of it is left."""

import asyncio
import random
import threading
from dataclasses import dataclass, field

import pytest

from carnet.errors import IntegrityError, Unavailable
from carnet.flow.opening import open_index, open_parts
from carnet.flow.sealing import SealedIndex, seal_index
from carnet.identifiers import SegmentId
from carnet.index import Index, Part
from tests.carnet.flow.pipeline import ARTIFACT_KEY, TRANSFER, Progress, Store, parts_of, seal
from tests.faults.leftovers import held

CONTENTS = [random.Random(number).randbytes(3_000_000) for number in range(4)]


class Breaking(Exception):
    """What a stage raises."""


@dataclass
class Fetching:
    """Fetches from a store, some turns of the loop later, and counts what is on its way."""

    store: Store
    on_their_way: int = 0
    asked: int = 0
    breaks_at: int | None = None

    async def fetch(self, segment: SegmentId) -> bytes:
        self.asked += 1
        number = self.asked
        self.on_their_way += 1
        try:
            for _ in range(number):
                await asyncio.sleep(0)
            if number == self.breaks_at:
                raise Unavailable("E-UNREACHABLE", "the link is cut")
            return self.store.segments[segment]
        finally:
            self.on_their_way -= 1


@dataclass
class Writers:
    """Writers of all parts; one call of them raises, or waits in its thread until it is let go."""

    breaks_at: str = ""
    waits_at: str = ""
    calls: list[str] = field(default_factory=list)
    inside: int = 0
    waiting: threading.Event = field(default_factory=threading.Event)
    may_go: threading.Event = field(default_factory=threading.Event)

    def of(self, _part: Part) -> "Writers":
        self._call("begin")
        return self

    def write(self, _data: memoryview, /) -> None:
        self._call("write")

    def close(self) -> None:
        self._call("close")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.breaks_at and self.calls.count(name) == 2:
            raise Breaking
        if name == self.waits_at:
            self.inside += 1
            self.waiting.set()
            assert self.may_go.wait(20)
            self.inside -= 1


@pytest.fixture
async def sealed() -> tuple[Store, Index, SealedIndex]:
    """A store with an artifact, its index, and the pages of that."""
    store = Store()
    index, _ = await seal(store, parts_of(*CONTENTS))
    pages = seal_index(index, suite=1, artifact_key=ARTIFACT_KEY, transfer=TRANSFER)
    for page in pages.pages:
        store.segments[page.id] = bytes(page.sealed)
    return store, index, pages


async def read_index(pages: SealedIndex, fetching: Fetching) -> Index:
    return await open_index(
        [page.id for page in pages.pages], fetching.fetch, suite=1, artifact_key=ARTIFACT_KEY, transfer=TRANSFER,
        closure=pages.closure, segments=100, size=1 << 30,
    )  # fmt: skip


async def read_parts(index: Index, fetching: Fetching, writers: Writers) -> None:
    await open_parts(index, fetching.fetch, suite=1, writer_of=writers.of, progress=Progress())


@pytest.mark.parametrize("at", [1, 3, 5])
async def test_a_fetch_that_raises_ends_the_pull_and_every_other_fetch(sealed, at: int) -> None:
    store, index, _ = sealed
    before, fetching = held(), Fetching(store, breaks_at=at)

    with pytest.raises(Unavailable, match="E-UNREACHABLE"):
        await read_parts(index, fetching, Writers())

    assert fetching.on_their_way == 0
    assert held().beyond(before) == {}


async def test_a_segment_that_does_not_open_ends_the_pull_and_every_fetch(sealed) -> None:
    store, index, _ = sealed
    broken = index.segments[2].id
    store.segments[broken] = bytes(len(store.segments[broken]))
    before, fetching = held(), Fetching(store)

    with pytest.raises(IntegrityError, match="E-SEGMENT-CORRUPT"):
        await read_parts(index, fetching, Writers())

    assert fetching.on_their_way == 0
    assert held().beyond(before) == {}


@pytest.mark.parametrize("at", ["begin", "write", "close"])
async def test_a_writer_that_raises_ends_the_pull_and_every_fetch(sealed, at: str) -> None:
    store, index, _ = sealed
    before, fetching, writers = held(), Fetching(store), Writers(breaks_at=at)

    with pytest.raises(Breaking):
        await read_parts(index, fetching, writers)

    assert writers.calls[-1] == at, "nothing is written after the failure"
    assert fetching.on_their_way == 0
    assert held().beyond(before) == {}


@pytest.mark.parametrize("harm", ["away", "flipped"])
async def test_a_page_of_the_index_that_cannot_be_read_ends_the_pull(sealed, harm: str) -> None:
    store, _, pages = sealed
    if harm == "flipped":
        store.segments[pages.pages[0].id] = bytes(len(pages.pages[0].sealed))
    before, fetching = held(), Fetching(store, breaks_at=1 if harm == "away" else None)

    with pytest.raises((IntegrityError, Unavailable), match=r"E-SEGMENT-CORRUPT|E-UNREACHABLE"):
        await read_index(pages, fetching)

    assert fetching.on_their_way == 0
    assert held().beyond(before) == {}


async def test_a_pull_that_is_cancelled_while_its_index_is_fetched_leaves_no_fetch(sealed) -> None:
    store, _, pages = sealed
    before, asked = held(), asyncio.Event()

    class Stuck(Fetching):
        async def fetch(self, _segment: SegmentId) -> bytes:
            asked.set()
            self.on_their_way += 1
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                self.on_their_way -= 1
            return b""

    fetching = Stuck(store)
    task = asyncio.create_task(read_index(pages, fetching))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert fetching.on_their_way == 0
    assert held().beyond(before) == {}


@pytest.mark.parametrize("at", ["begin", "write", "close"])
async def test_a_pull_that_is_cancelled_while_a_thread_writes_ends_when_the_thread_has_left_the_writer(sealed, at: str) -> None:
    """Who is told of the end closes the file: under another thread's write its number may be another file's."""
    store, index, _ = sealed
    before, fetching, writers = held(), Fetching(store), Writers(waits_at=at)

    task = asyncio.create_task(read_parts(index, fetching, writers))
    assert await asyncio.to_thread(writers.waiting.wait, 20)
    for _ in range(3):
        task.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
    assert not task.done(), "the thread is still in the writer"
    writers.may_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert writers.inside == 0
    assert fetching.on_their_way == 0
    assert held().beyond(before) == {}
