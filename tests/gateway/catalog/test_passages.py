"""Passages as rows: what may be forgotten when, and how much a relay holds for whom."""

from dataclasses import replace
from datetime import timedelta

import pytest

from carnet.identifiers import LaneName, PassageId, SiteName
from carnet.letter import Direction
from carnet.trust import Carriage
from gateway.passage_records import LetterRecord, PassageRecord, SlipRecord
from gateway.records import SegmentUse, StoredSegment
from tests.gateway.samples import START, some_segment, transfer, transfer_id

A, B, C = (some_segment(number) for number in range(3))
US, SG, EU = SiteName("us"), SiteName("sg"), SiteName("eu")
HOUR = timedelta(hours=1)
ONE, TWO = PassageId("1" * 32), PassageId("2" * 32)


def passage(name=ONE, **changes):
    record = PassageRecord(
        id=name,
        transfer=transfer_id(1),
        role="relay",
        lane=LaneName("us-eu"),
        way=(US, SG, EU),
        before=US,
        after=EU,
        carriage=Carriage.TRANSIT,
        state="open",
        created_at=START,
        moved_at=START,
        deadline=START + timedelta(hours=1),
        delete_by=START + timedelta(days=1),
    )
    return replace(record, **changes)


@pytest.fixture
async def relay(catalog):
    """Two passages; the first is to carry A and B, the second B."""

    def make(t):
        for name, segments in ((ONE, [(A, 10), (B, 20)]), (TWO, [(B, 20)])):
            t.save_passage(passage(name))
            t.carry(name, 1, segments, here=False)

    await catalog.write(make)
    return catalog


async def test_what_a_passage_holds_is_referred_to_and_what_it_expects_is_not(relay):
    await relay.write(lambda t: t.keep_carried(ONE, A, 10))

    assert await relay.read(lambda t: t.unreferred_segments([A, B])) == [B]


async def test_passages_use_the_segments_they_hold_under_no_name(relay):
    await relay.write(lambda t: [t.keep_carried(name, B, 20) for name in (ONE, TWO)])

    uses = await relay.read(lambda t: t.segment_uses([A, B, C]))

    assert uses == [SegmentUse(segment=B, repository=None, users=2, is_delivered=False)]


async def test_a_passage_comes_back_as_it_was_saved(relay):
    changed = passage(slips=3, state="failed", alarm="it lied", before=None, role="start")

    await relay.write(lambda t: t.save_passage(changed))

    assert await relay.read(lambda t: t.passage(ONE)) == changed
    assert await relay.read(lambda t: t.passage(PassageId("3" * 32))) is None


async def test_a_segment_goes_through_due_here_passed(relay):
    seen = []

    def through(t):
        seen.append(t.carried(ONE, A))
        t.keep_carried(ONE, A, 10)
        seen.append(t.carried(ONE, A))
        seen.append(t.pass_carried(ONE, A))
        seen.append(t.pass_carried(ONE, A))
        seen.append(t.carried(ONE, A))

    await relay.write(through)

    assert seen == [(10, "due", 1), (10, "here", 1), True, False, (10, "passed", 1)]


async def test_what_is_left_of_slips_is_counted(relay):
    await relay.write(lambda t: (t.keep_carried(ONE, B, 20), t.carry(ONE, 2, [(C, 30)], here=True)))

    def count(t, first, before):
        found = t.carried_count(ONE, first=first, before=before)
        return found.due, found.here, found.bytes_here

    assert await relay.read(lambda t: count(t, 0, 3)) == (1, 2, 50)
    assert await relay.read(lambda t: count(t, 2, 3)) == (0, 1, 30)
    assert await relay.read(lambda t: t.first_slip_here(ONE, before=3)) == 1
    assert await relay.read(lambda t: t.carried_here(ONE, 2, limit=9)) == {C: 30}
    assert [one.id for one in await relay.read(lambda t: t.slip_segments(ONE, 1))] == sorted([A, B], key=lambda s: s.binary)


async def test_a_segment_is_forgotten_when_no_passage_and_no_transfer_needs_it(relay):
    await relay.write(lambda t: [t.keep_carried(name, B, 20) for name in (ONE, TWO)])

    first = await relay.write(lambda t: (t.pass_carried(ONE, B), t.forget_unneeded([B]))[1])
    second = await relay.write(lambda t: (t.pass_carried(TWO, B), t.forget_unneeded([B]))[1])

    assert (first, second) == ([], [B])
    assert await relay.read(lambda t: t.missing_segments([B])) == [B]


async def test_a_segment_of_a_transfer_outlives_a_passage_and_the_other_way_round(relay):
    def both(t):
        t.save_transfer(transfer(1))
        t.add_segment(transfer_id(1), StoredSegment(id=A, size=10))
        t.add_segment(transfer_id(1), StoredSegment(id=B, size=20))
        t.keep_carried(ONE, A, 10)
        t.keep_carried(ONE, B, 20)
        t.pass_carried(ONE, A)
        return t.forget_unneeded([A])

    assert await relay.write(both) == []
    assert await relay.write(lambda t: t.unpin_transfer(transfer_id(1))) == [A]
    assert await relay.write(lambda t: t.drop_carried(ONE)) == [B]


async def test_what_a_relay_holds_for_one_peer_is_counted_until_it_is_passed_on(relay):
    letter = LetterRecord(passage=ONE, direction=Direction.ONWARD, number=0, body=bytes(100))
    await relay.write(lambda t: t.save_letter(letter))
    before = await relay.read(lambda t: t.relay_load(US, START - HOUR))

    def pass_on(t):
        t.keep_carried(ONE, A, 10)
        t.pass_carried(ONE, A)
        t.save_letter(replace(letter, due=False, body=b""))
        t.save_passage(passage(TWO, state="ended"))

    await relay.write(pass_on)

    assert before == (2, 150)
    assert await relay.read(lambda t: t.relay_load(US, START - HOUR)) == (1, 20)
    assert await relay.read(lambda t: t.relay_load(US, START)) == (0, 20)
    assert await relay.read(lambda t: t.relay_load(EU, START - HOUR)) == (0, 0)


async def test_slips_and_letters_are_handed_on_in_their_order(relay):
    slips = [SlipRecord(passage=ONE, number=number, taken=b"t", signed=b"s", entry=number) for number in range(2)]
    letters = [LetterRecord(passage=ONE, direction=Direction.ONWARD, number=number, body=b"x") for number in range(2)]
    await relay.write(lambda t: ([t.save_slip(one) for one in slips], [t.save_letter(one) for one in letters]))

    assert await relay.read(lambda t: (t.slip_due(ONE), t.letter_due(ONE, Direction.ONWARD))) == (slips[0], letters[0])
    await relay.write(lambda t: (t.save_slip(replace(slips[0], passed=True)), t.save_letter(replace(letters[0], due=False))))
    assert await relay.read(lambda t: (t.slip_due(ONE), t.letter_due(ONE, Direction.ONWARD))) == (slips[1], letters[1])
    assert await relay.read(lambda t: (t.next_letter(ONE, Direction.ONWARD), t.next_letter(ONE, Direction.BACK))) == (2, 0)


async def test_a_question_is_found_by_its_name(relay):
    asked = LetterRecord(passage=ONE, direction=Direction.ONWARD, number=0, body=b"x", name="declare", job="forward k")
    await relay.write(lambda t: t.save_letter(asked))

    assert await relay.read(lambda t: t.letter_named(ONE, "declare")) == asked
    assert await relay.read(lambda t: t.letter_named(TWO, "declare")) is None
    await relay.write(lambda t: t.drop_letters(ONE))
    assert await relay.read(lambda t: t.letter_named(ONE, "declare")) is None


async def test_overdue_and_failed_passages_are_found(relay):
    def change(t):
        t.save_passage(passage(ONE, delete_by=START - timedelta(seconds=1)))
        t.save_passage(passage(TWO, state="failed", role="start", moved_at=START))

    await relay.write(change)

    assert [one.id for one in await relay.read(lambda t: t.overdue_passages(limit=9))] == [ONE]
    assert [one.id for one in await relay.read(lambda t: t.failed_passages(LaneName("us-eu"), START - timedelta(1)))] == [TWO]
    assert await relay.read(lambda t: t.failed_passages(LaneName("us-eu"), START)) == []
    assert {one.id for one in await relay.read(lambda t: t.passages_of(transfer_id(1)))} == {ONE, TWO}
