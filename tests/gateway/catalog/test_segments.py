import contextlib
import sqlite3
import time

import pytest

from carnet.errors import IntegrityError
from gateway.records import StoredSegment
from tests.gateway.samples import AGENT, CONSUMER, some_segment, transfer, transfer_id

A, B, C = (some_segment(number) for number in range(3))


@pytest.fixture
async def two(catalog):
    await catalog.write(lambda t: (t.save_transfer(transfer(1)), t.save_transfer(transfer(2, sender=CONSUMER))))
    return catalog


async def add(catalog, number, *segments, row=None):
    def change(t):
        return [t.add_segment(transfer_id(number), StoredSegment(id=segment, size=10, row=row)) for segment in segments]

    return await catalog.write(change)


async def test_a_segment_is_new_once_for_a_transfer(two):
    assert await add(two, 1, A) == [True]
    assert await add(two, 1, A) == [False]
    assert await add(two, 2, A) == [True]


async def test_missing_segments_are_named_in_the_order_asked(two):
    await add(two, 1, B)

    assert await two.read(lambda t: t.missing_segments([C, B, A])) == [C, A]


async def test_only_what_no_row_refers_to_is_named_in_the_order_asked(two):
    await add(two, 1, B)

    assert await two.read(lambda t: t.unreferred_segments([C, B, A])) == [C, A]


async def test_what_a_transfer_needs_is_referred_to_although_the_table_of_segments_lost_it(two, tmp_path):
    """A file is removed on this answer, so one damaged table must not be enough."""
    await add(two, 1, A)
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.sqlite")) as other, other:
        other.execute("DELETE FROM segments")

    assert await two.read(lambda t: t.missing_segments([A])) == [A]
    assert await two.read(lambda t: t.unreferred_segments([A])) == []


async def test_a_segment_that_is_not_here_cannot_be_pinned(two):
    await add(two, 1, A)

    with pytest.raises(IntegrityError) as refusal:
        await two.write(lambda t: t.pin_segments(transfer_id(2), [A, B]))

    assert refusal.value.code == "E-SEGMENT-MISSING"
    assert await two.read(lambda t: t.segments_of(transfer_id(2))) == set()


async def test_pinned_and_introduced_segments_are_a_transfers_own(two):
    await add(two, 1, A, B)
    await add(two, 2, C)

    await two.write(lambda t: t.pin_segments(transfer_id(2), [A]))

    assert await two.read(lambda t: t.segments_of(transfer_id(2))) == {A, C}


async def test_rows_come_in_pages_by_id_and_are_destroyed(two, tmp_path):
    row = b"a sealed row that must not stay in the file" * 8
    await add(two, 1, A, B, row=row)
    await add(two, 1, C)
    in_order = sorted([A, B], key=lambda segment: segment.binary)

    first = await two.read(lambda t: t.rows(transfer_id(1), after=None, limit=1))
    rest = await two.read(lambda t: t.rows(transfer_id(1), after=first[-1].id, limit=10))
    assert first + rest == [StoredSegment(id=segment, size=10, row=row) for segment in in_order]

    await two.write(lambda t: t.forget_rows(transfer_id(1)))
    assert await two.read(lambda t: t.rows(transfer_id(1), after=None, limit=10)) == []
    assert await two.read(lambda t: t.segments_of(transfer_id(1))) == {A, B, C}
    two.close()
    assert row[:40] not in (tmp_path / "catalog.sqlite").read_bytes()


async def test_unpinning_names_and_forgets_only_what_nobody_else_needs(two):
    await add(two, 1, A, B, row=b"row")
    await add(two, 2, B, C)

    assert await two.write(lambda t: t.unpin_transfer(transfer_id(1))) == [A]
    assert await two.read(lambda t: t.missing_segments([A, B, C])) == [A]
    assert await two.read(lambda t: t.segments_of(transfer_id(1))) == set()
    assert await two.read(lambda t: t.segments_of(transfer_id(2))) == {B, C}
    assert await two.read(lambda t: t.rows(transfer_id(1), after=None, limit=10)) == []


async def test_a_segment_is_read_by_its_sender_and_by_readers_named(two):
    await add(two, 1, A)

    async def may(identity, segment):
        return await two.read(lambda t: [(way.is_sent, way.is_released) for way in t.ways_to_segment(identity, segment, limit=9)])

    assert await may(AGENT, A) == [(True, False)]
    assert await may(CONSUMER, A) == []
    assert await may(AGENT, B) == []
    await two.write(lambda t: (t.add_reader(transfer_id(1), CONSUMER), t.add_reader(transfer_id(1), CONSUMER)))
    for state in ("declared", "inspecting", "held", "quarantined"):  # not there yet, or put away
        await two.write(lambda t, state=state: t.save_transfer(transfer(state=state)))
        assert await may(CONSUMER, A) == []
    for state in ("delivered", "admitted"):
        await two.write(lambda t, state=state: t.save_transfer(transfer(state=state)))
        assert await may(CONSUMER, A) == [(False, True)]
    assert await may(AGENT, A) == [(True, False)]


async def test_all_stored_segments_come_in_pages(two):
    wanted = [some_segment(number) for number in range(25)]
    await add(two, 1, *wanted)

    found, after = [], None
    while page := await two.read(lambda t, after=after: t.stored_segments(after=after, limit=10)):
        found += [segment.id for segment in page]
        after = page[-1].id

    assert found == sorted(wanted, key=lambda segment: segment.binary)


async def test_ten_thousand_segments_are_pinned_and_looked_up_quickly(two):
    """Bounds are ten times the goal, so that a busy machine does not fail what is fast enough."""
    many = [some_segment(number) for number in range(10_000)]
    await add(two, 1, *many[:9_000])

    started = time.perf_counter()
    assert await two.read(lambda t: t.missing_segments(many)) == many[9_000:]
    looked_up = time.perf_counter()
    await two.write(lambda t: t.pin_segments(transfer_id(2), many[:9_000]))
    pinned = time.perf_counter()

    assert looked_up - started < 1.0
    assert pinned - looked_up < 2.0
