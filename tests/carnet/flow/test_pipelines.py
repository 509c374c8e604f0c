"""Sealing and opening are inverse; what is known is not read or sent; a stage that fails leaves nothing running."""

import asyncio
import gc
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.errors import IntegrityError, PeerError, Unavailable
from carnet.flow.sealing import PartlyUsed, SealedSegment, seal_artifact
from carnet.identifiers import Digest
from tests.carnet.flow.pipeline import MemoryPart, Progress, Reader, Store, base_of, open_all, parts_of, plan, seal


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def as_digests(*contents: bytes) -> dict[Digest, bytes]:
    return {Digest.of(content): content for content in contents}


@pytest.mark.parametrize("size", [0, 1, 4096, 65_537, 1_048_576, 5_000_000])
async def test_what_was_sealed_comes_out_again(size: int) -> None:
    store, content = Store(), noise(size)

    index, _ = await seal(store, parts_of(content))

    assert (await open_all(store, index)).items() >= as_digests(content).items()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.binary(max_size=200_000), max_size=6), st.integers(1, 300_000))
def test_any_parts_come_out_again_however_they_are_read(contents: list[bytes], step: int) -> None:
    async def there_and_back() -> None:
        store = Store()
        parts = parts_of(*contents, step=step)
        index, _ = await seal(store, parts)
        assert await open_all(store, index) == as_digests(*(part.data for part in parts))

    asyncio.run(there_and_back())


async def test_equal_content_within_a_transfer_is_sealed_once() -> None:
    store, content = Store(), noise(2_000_000)

    index, progress = await seal(store, parts_of(content, content + b"end"))

    assert sum(map(len, store.segments.values())) < 2_300_000
    assert progress.bytes_referenced > 1_900_000
    assert (await open_all(store, index))[Digest.of(content + b"end")] == content + b"end"


async def test_a_part_that_a_base_has_is_not_read() -> None:
    store, content = Store(), noise(3_000_000)
    base, _ = await seal(store, parts_of(content))
    before = len(store.sent)
    parts = parts_of(content, b"a new layer", is_known=True)

    index, progress = await seal(store, parts, bases=[base_of(base, store)])

    assert parts[0].opened == 0
    assert progress.bytes_reused == len(content)
    assert len(store.sent) - before == 1
    assert (await open_all(store, index))[Digest.of(content)] == content


async def test_chunks_of_a_base_of_our_lineage_are_references_and_of_another_are_not() -> None:
    store, content = Store(), noise(3_000_000)
    base, _ = await seal(store, parts_of(content))
    changed = content[:1_000_000] + b"inserted" + content[1_000_000:]

    _, related = await seal(store, parts_of(changed), bases=[base_of(base, store)])
    _, foreign = await seal(store, parts_of(changed), bases=[base_of(base, store, same_lineage=False)])

    assert related.bytes_referenced > 2_800_000
    assert foreign.bytes_referenced == 0


async def test_a_base_that_gave_nothing_is_not_named() -> None:
    store = Store()
    base, _ = await seal(store, parts_of(noise(1_000_000)))

    index, _ = await seal(store, parts_of(noise(1_000_000, 2)), bases=[base_of(base, store)])

    assert index.head.bases == ()


async def test_a_base_segment_of_which_little_is_used_is_not_dragged_along() -> None:
    store, content = Store(), noise(4_000_000)
    base, _ = await seal(store, parts_of(content))
    kept = content[:150_000]

    index, _ = await seal(store, parts_of(kept), bases=[base_of(base, store)])

    assert index.head.bases == ()
    assert [entry.base for entry in index.segments] == [0]
    assert (await open_all(store, index))[Digest.of(kept)] == kept


async def test_a_base_segment_that_is_mostly_used_stays_a_reference() -> None:
    store, content = Store(), noise(4_000_000)
    base, _ = await seal(store, parts_of(content))
    kept = content[:3_000_000]

    index, _ = await seal(store, parts_of(kept), bases=[base_of(base, store)])

    assert len([entry for entry in index.segments if entry.base]) >= 2
    assert (await open_all(store, index))[Digest.of(kept)] == kept


async def test_a_sparse_base_segment_that_is_gone_bars_the_base() -> None:
    store, content = Store(), noise(4_000_000)
    base, _ = await seal(store, parts_of(content))
    known = base_of(base, store)
    store.segments.clear()

    with pytest.raises(PeerError, match="E-BASE"):
        await seal(store, parts_of(content[:100_000]), bases=[known])


async def test_segments_of_an_earlier_run_are_used_and_none_is_sent_again() -> None:
    store, content = Store(), noise(5_000_000)
    await seal(store, parts_of(content[:3_000_000]))
    first = set(store.sent)

    with pytest.raises(PartlyUsed) as caught:
        await seal(store, parts_of(content), known=store.known())
    usable = [one for one in store.known() if one.id in first and one.id not in caught.value.segments]
    index, _ = await seal(store, parts_of(content), known=usable)

    assert (await open_all(store, index))[Digest.of(content)] == content


async def test_a_run_with_all_rows_sends_nothing() -> None:
    store, content = Store(), noise(4_000_000)
    await seal(store, parts_of(content))
    before = len(store.sent)

    index, _ = await seal(store, parts_of(content), known=store.known())

    assert len(store.sent) == before
    assert (await open_all(store, index))[Digest.of(content)] == content


async def test_an_unused_row_leaves_no_segment_in_the_index() -> None:
    store = Store()
    await seal(store, parts_of(noise(2_000_000, 9)))
    known = store.known()

    index, _ = await seal(store, parts_of(noise(100_000)), known=known)

    assert not {entry.id for entry in index.segments} & {one.id for one in known}


@pytest.mark.parametrize("wrong", ["digest", "size"])
async def test_content_that_is_not_what_was_announced_is_refused(wrong: str) -> None:
    class Lying(MemoryPart):
        @property
        def digest(self) -> Digest | None:
            return Digest.of(b"other") if wrong == "digest" else None

        @property
        def size(self) -> int | None:
            return 3 if wrong == "size" else None

    with pytest.raises(IntegrityError, match="E-DIGEST"):
        await seal(Store(), [Lying(noise(10_000))])


class Breaking(Exception):
    """A stage that raises."""


async def test_a_reader_that_fails_ends_the_push_and_its_threads() -> None:
    class Broken(MemoryPart):
        def open(self) -> Reader:
            reader = Reader(self.data, 100_000)
            inner = reader.readinto

            def readinto(buffer: memoryview, /) -> int:
                count = inner(buffer)
                if not count:
                    raise Breaking
                return count

            reader.readinto = readinto  # type: ignore[method-assign]
            return reader

    before = threading.active_count()
    with pytest.raises(Breaking):
        await seal(Store(), [Broken(noise(8_000_000))])

    assert push_threads() == 0
    assert threading.active_count() <= before + 8


async def test_a_reader_that_waits_is_interrupted_and_closed_by_the_thread_that_reads() -> None:
    """A descriptor closed under another thread's read may be another file's by then."""
    waiting, interrupted = threading.Event(), threading.Event()
    used: list[tuple[str, int]] = []

    class Pipe(Reader):
        def readinto(self, buffer: memoryview, /) -> int:  # noqa: ARG002
            used.append(("read", threading.get_ident()))
            waiting.set()
            assert interrupted.wait(20)
            raise Breaking

        def interrupt(self) -> None:
            interrupted.set()

        def close(self) -> None:
            used.append(("close", threading.get_ident()))

    class Waiting(MemoryPart):
        def open(self) -> Reader:
            return Pipe(b"", 1)

    async def push() -> None:
        await seal(Store(), [Waiting(b"")])

    task = asyncio.create_task(push())
    assert await asyncio.to_thread(waiting.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [what for what, _ in used] == ["read", "close"]
    assert len({thread for _, thread in used}) == 1
    assert push_threads() == 0


async def test_a_push_that_is_cancelled_again_while_it_ends_still_looks_at_what_failed_and_leaves_no_thread() -> None:
    """Ctrl-C twice: the second stops the loop, which cancels every task once more."""
    waiting, interrupted, released = threading.Event(), threading.Event(), threading.Event()

    class Pipe(Reader):
        def readinto(self, buffer: memoryview, /) -> int:  # noqa: ARG002
            waiting.set()
            assert released.wait(20)
            raise Breaking

        def interrupt(self) -> None:
            interrupted.set()

    class Waiting(MemoryPart):
        def open(self) -> Reader:
            return Pipe(b"", 1)

    async def push() -> None:
        await seal(Store(), [Waiting(b"")])

    unseen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    task = asyncio.create_task(push())
    assert await asyncio.to_thread(waiting.wait, 20)
    task.cancel()
    assert await asyncio.to_thread(interrupted.wait, 20)
    for _ in range(3):
        for other in asyncio.all_tasks() - {asyncio.current_task()}:
            other.cancel()
        await asyncio.sleep(0)
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert push_threads() == 0
    gc.collect()
    await asyncio.sleep(0)
    assert unseen == []


async def test_a_sender_that_fails_ends_the_push_and_its_threads() -> None:
    async def send(segment: SealedSegment) -> None:
        raise Unavailable("E-UNREACHABLE", "the link is cut")

    store = Store()
    with pytest.raises(Unavailable, match="cut"):
        await seal_artifact(parts_of(noise(8_000_000)), plan(store), send, slots=asyncio.Semaphore(2), progress=Progress())

    assert push_threads() == 0


async def test_a_push_that_is_cancelled_leaves_no_thread() -> None:
    started = asyncio.Event()

    async def send(segment: SealedSegment) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(
        seal_artifact(parts_of(noise(30_000_000)), plan(Store()), send, slots=asyncio.Semaphore(2), progress=Progress())
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert push_threads() == 0


def push_threads() -> int:
    return len([thread for thread in threading.enumerate() if thread.name.startswith("carnet-push")])


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "lose"])
async def test_damaged_segments_are_found_before_a_part_is_complete(damage: str) -> None:
    store, content = Store(), noise(3_000_000)
    index, _ = await seal(store, parts_of(content))
    first, second = (entry.id for entry in index.segments[:2])
    if damage == "flip":
        data = bytearray(store.segments[first])
        data[-20] ^= 1
        store.segments[first] = bytes(data)
    elif damage == "cut":
        store.segments[first] = store.segments[first][:-1]
    elif damage == "swap":
        store.segments[first] = store.segments[second]
    else:
        del store.segments[first]

    with pytest.raises((IntegrityError, LookupError, Exception), match="E-SEGMENT"):
        await open_all(store, index)
