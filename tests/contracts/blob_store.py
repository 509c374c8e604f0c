"""What every `BlobStore` promises; each adapter's test module subclasses this and gives the fixture `store`."""

import asyncio

import pytest

from carnet.errors import IntegrityError, NotFound
from tests.gateway.samples import segment_of, some_segment

DATA = b"a sealed segment" * 4_000
SEGMENT = segment_of(DATA)


class BlobStoreContract:
    async def test_a_segment_comes_back_bit_for_bit(self, store):
        assert await store.put_if_absent(SEGMENT, DATA) is True

        assert await store.get(SEGMENT) == DATA

    async def test_a_segment_of_no_bytes_is_a_segment(self, store):
        await store.put_if_absent(segment_of(b""), b"")

        assert await store.get(segment_of(b"")) == b""

    async def test_the_second_put_says_that_it_was_here(self, store):
        await store.put_if_absent(SEGMENT, DATA)

        assert await store.put_if_absent(SEGMENT, DATA) is False

    async def test_bytes_that_are_not_the_ids_are_refused_and_leave_nothing(self, store):
        with pytest.raises(IntegrityError) as refusal:
            await store.put_if_absent(SEGMENT, DATA[:-1])

        assert refusal.value.code == "E-SEGMENT-CORRUPT"
        assert await store.head(SEGMENT) is None

    async def test_the_buffer_may_be_reused_once_a_put_returned(self, store):
        buffer = bytearray(DATA)
        await store.put_if_absent(SEGMENT, memoryview(buffer))

        buffer[:] = bytes(len(buffer))

        assert await store.get(SEGMENT) == DATA

    async def test_puts_of_one_segment_at_once_make_one(self, store):
        answers = await asyncio.gather(*(store.put_if_absent(SEGMENT, DATA) for _ in range(8)))

        assert answers.count(True) == 1

    async def test_many_puts_at_once_are_all_kept(self, store):
        pieces = {segment_of(piece): piece for piece in (bytes([number]) * 500 for number in range(60))}

        await asyncio.gather(*(store.put_if_absent(segment, piece) for segment, piece in pieces.items()))

        assert {segment: await store.get(segment) for segment in pieces} == pieces

    async def test_what_is_not_here_is_not_found(self, store):
        with pytest.raises(NotFound) as refusal:
            await store.get(SEGMENT)

        assert refusal.value.code == "E-SEGMENT-UNKNOWN"

    async def test_head_tells_the_size_or_none(self, store):
        await store.put_if_absent(SEGMENT, DATA)

        assert await store.head(SEGMENT) == len(DATA)
        assert await store.head(some_segment(1)) is None

    async def test_a_deleted_segment_is_gone_and_can_come_back(self, store):
        await store.put_if_absent(SEGMENT, DATA)

        await store.delete(SEGMENT)

        assert await store.head(SEGMENT) is None
        assert await store.put_if_absent(SEGMENT, DATA) is True

    async def test_deleting_what_is_not_here_is_no_error(self, store):
        await store.delete(SEGMENT)

    async def test_list_yields_each_segment_once(self, store):
        pieces = [bytes([number]) for number in range(40)]
        for piece in pieces:
            await store.put_if_absent(segment_of(piece), piece)

        found = [segment async for segment in store.list()]

        assert sorted(found) == sorted(segment_of(piece) for piece in pieces)

    async def test_the_shards_tell_each_segment_once_with_its_size(self, store):
        pieces = [bytes([number]) * number for number in range(40)]
        for piece in pieces:
            await store.put_if_absent(segment_of(piece), piece)

        found = [one async for shard in store.shards() for one in shard.items()]

        assert sorted(found) == sorted((segment_of(piece), len(piece)) for piece in pieces)

    async def test_puts_that_ended_leave_no_temporary_files(self, store):
        await store.put_if_absent(SEGMENT, DATA)
        with pytest.raises(IntegrityError):
            await store.put_if_absent(some_segment(1), DATA)

        assert await store.leftovers() == {}
