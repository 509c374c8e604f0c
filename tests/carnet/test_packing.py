import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from carnet.errors import CallerError, IntegrityError, PeerError
from carnet.identifiers import Digest
from carnet.limits import SEGMENT_BYTES_MAX
from carnet.packing import SEGMENT_RECORD_BYTES, SegmentList, SegmentListEntry
from tests.carnet.samples import digest, outcome, packing_list, segment, segment_list

ids = st.integers(0, 2**256 - 1).map(segment)
lists = st.dictionaries(ids, st.integers(1, SEGMENT_BYTES_MAX), max_size=30)


@given(lists)
@settings(max_examples=60)
def test_a_segment_list_gives_back_what_was_put_in(entries):
    made = SegmentList.of(entries.items())
    read = SegmentList.parse(made.encode())

    assert read == made
    assert {entry.id: entry.size for entry in read} == entries
    assert (len(read), read.count, read.bytes) == (len(entries), len(entries), sum(entries.values()))
    assert len(made.encode()) == SEGMENT_RECORD_BYTES * len(entries)
    assert all(read.size_of(id_) == size and id_ in read for id_, size in entries.items())
    assert read.digest == Digest.of(made.encode())


@given(lists, ids)
@settings(max_examples=60)
def test_membership_is_exact(entries, other):
    assert (other in SegmentList.of(entries.items())) == (other in entries)


def test_order_and_repetition_do_not_change_a_segment_list():
    entries = [(segment(3), 7), (segment(1), 5), (segment(3), 7)]

    assert SegmentList.of(entries) == SegmentList.of(reversed(entries))
    assert list(SegmentList.of(entries)) == [SegmentListEntry(segment(1), 5), SegmentListEntry(segment(3), 7)]


def test_one_segment_cannot_have_two_sizes():
    with pytest.raises(CallerError, match="two sizes"):
        SegmentList.of([(segment(1), 5), (segment(1), 6)])


def record(number, size, algorithm=1):
    return bytes([algorithm]) + number.to_bytes(32, "big") + size.to_bytes(4, "big")


@pytest.mark.parametrize(
    "data",
    [
        b"\1",
        record(1, 5)[:-1],
        record(1, 5) + b"\0",
        record(2, 5) + record(1, 5),
        record(1, 5) + record(1, 5),
        record(1, 0),
        record(1, SEGMENT_BYTES_MAX + 1),
        record(1, 5, algorithm=0),
        record(1, 5, algorithm=3),
    ],
    ids=["stump", "cut", "extended", "order", "twice", "empty", "large", "algorithm 0", "algorithm 3"],
)
def test_another_encoding_of_a_segment_list_is_refused(data):
    with pytest.raises(PeerError) as caught:
        SegmentList.parse(data)

    assert caught.value.code == "E-FORMAT"


def test_a_segment_list_longer_than_the_limit_is_refused_before_it_is_read():
    with pytest.raises(PeerError, match="not at most"):
        SegmentList.parse(bytes(SEGMENT_RECORD_BYTES * 1_200_001))


@given(st.binary(max_size=200))
@settings(max_examples=60)
def test_any_bytes_are_a_segment_list_or_refused(data):
    parsed, code = outcome(lambda: SegmentList.parse(data))

    assert code == "E-FORMAT" if parsed is None else parsed.encode() == data


def test_a_packing_list_accepts_its_segment_list_only():
    packing_list().check_segments(segment_list())

    with pytest.raises(IntegrityError) as caught:
        packing_list().check_segments(SegmentList.of([*segment_list(), (segment(77), 1)]))
    assert caught.value.code == "E-DIGEST"


@pytest.mark.parametrize(
    "changes",
    [
        {"index": ()},
        {"sites": ()},
        {"bases": (digest("a"), digest("a"))},
        {"bases": tuple(digest(str(number)) for number in range(9))},
        {"key_commitment": "00"},
        {"key_commitment": "A" * 64},
        {"suite": 0},
    ],
)
def test_a_packing_list_that_cannot_be_is_refused(changes):
    with pytest.raises(ValidationError):
        packing_list(**changes)


def test_a_segment_list_is_a_value():
    assert hash(segment_list()) == hash(SegmentList.parse(segment_list().encode()))
    assert repr(segment_list()) == "SegmentList(count=5, bytes=5010)"
    assert segment_list() != segment_list().encode()
    assert "text" not in segment_list()
