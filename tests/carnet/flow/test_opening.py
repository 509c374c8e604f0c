"""Opening: segments are fetched ahead of need, also those of later parts, and parts come out in order, each verified."""

import asyncio
import random

import pytest

from carnet.errors import IntegrityError, NotFound
from carnet.flow.opening import open_parts
from carnet.flow.progress import Progress
from carnet.identifiers import SegmentId
from carnet.index import Part
from tests.carnet.flow.pipeline import Store, parts_of, seal

CONTENTS = [random.Random(number).randbytes(1_400_000) for number in range(6)]


class Writer:
    """Notes what was done to it, in order, for all parts."""

    def __init__(self, part: Part, done: list[str]) -> None:
        self._name, self._done = f"{part.size}", done
        done.append(f"begin {self._name}")

    def write(self, data: memoryview, /) -> None:
        self._done.append(f"write {len(data)}")

    def close(self) -> None:
        self._done.append(f"end {self._name}")


async def test_the_segments_of_later_parts_are_fetched_while_the_first_is_on_its_way():
    store = Store()
    index, _ = await seal(store, parts_of(*CONTENTS))
    first = index.segments[0].id
    asked: set[SegmentId] = set()
    others_too = asyncio.Event()

    async def fetch(segment: SegmentId) -> bytes:
        asked.add(segment)
        if len(asked) > 3:
            others_too.set()
        if segment == first:
            await others_too.wait()
        return store.segments[segment]

    async with asyncio.timeout(60):
        await open_parts(index, fetch, suite=1, writer_of=lambda part: Writer(part, []), progress=Progress())

    assert len(asked) == len(index.segments)


async def test_small_parts_that_share_a_segment_begin_and_end_in_order():
    store = Store()
    index, _ = await seal(store, parts_of(b"a" * 1, b"", b"c" * 3, b"d" * 4))
    done: list[str] = []
    progress = Progress()

    await open_parts(index, store.fetch, suite=1, writer_of=lambda part: Writer(part, done), progress=progress)

    sizes = [entry.part.size for entry in index.parts]
    assert [line for line in done if not line.startswith("write")] == [
        f"{what} {size}" for size in sizes for what in ("begin", "end")
    ]
    assert [int(line.split()[1]) for line in done if line.startswith("write")] == [size for size in sizes if size]
    assert progress.bytes_read == sum(sizes)


async def test_parts_before_a_segment_that_is_missing_are_whole_and_the_others_are_not_ended():
    store = Store()
    index, _ = await seal(store, parts_of(*CONTENTS))
    del store.segments[index.segments[-1].id]
    done: list[str] = []

    with pytest.raises(NotFound):
        await open_parts(index, store.fetch, suite=1, writer_of=lambda part: Writer(part, done), progress=Progress())

    begun, ended = (sum(line.startswith(what) for line in done) for what in ("begin", "end"))
    assert 0 < ended < len(index.parts)
    assert begun - ended in {0, 1}


async def test_a_writer_that_fails_ends_it_and_no_segment_is_left_on_its_way():
    store = Store()
    index, _ = await seal(store, parts_of(*CONTENTS))

    def writer_of(part: Part) -> Writer:
        raise IntegrityError("E-SINK", f"no room for {part.size} bytes")

    with pytest.raises(IntegrityError, match="no room"):
        await open_parts(index, store.fetch, suite=1, writer_of=writer_of, progress=Progress())

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_used_again_at_the_end_is_kept_however_much_lies_between():
    first, between = CONTENTS[0], [random.Random(number).randbytes(2_500_000) for number in range(10, 24)]
    store, fetched = Store(), list[SegmentId]()
    index, _ = await seal(store, parts_of(first, *between, first + b"again"))

    async def fetch(segment: SegmentId) -> bytes:
        fetched.append(segment)
        return store.segments[segment]

    await open_parts(index, fetch, suite=1, writer_of=lambda part: Writer(part, []), progress=Progress())

    assert len(fetched) == len(set(fetched)) == len(index.segments)


async def test_what_more_segments_are_used_again_than_can_be_kept_is_fetched_again():
    """All of it is used twice, in the same order: whoever kept the latest would fetch every segment a second time."""
    content = random.Random(1).randbytes(40_000_000)
    store, fetched, written = Store(), list[SegmentId](), list[str]()
    index, _ = await seal(store, parts_of(content, content + b"again"))

    async def fetch(segment: SegmentId) -> bytes:
        fetched.append(segment)
        return store.segments[segment]

    await open_parts(index, fetch, suite=1, writer_of=lambda part: Writer(part, written), progress=Progress())

    assert {f"end {len(content)}", f"end {len(content) + 5}"} <= set(written)
    assert set(fetched) == {entry.id for entry in index.segments}
    assert len(index.segments) < len(fetched) < 1.8 * len(index.segments)
