"""Rows keep docs/formats.md section "Rows"; "rule" numbers are those of carnet/rows.py."""

import random
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.chunking import AVERAGES, ChunkSizes
from carnet.errors import CallerError, IntegrityError
from carnet.identifiers import SegmentId, TransferId
from carnet.limits import ROW_HEADER_CHARS_MAX, SEGMENT_RAW_BYTES_MAX
from carnet.rows import Row, open_row, row_bytes, row_capacity, seal_row
from carnet.suites import derive_key

CAPACITIES = [row_capacity(ChunkSizes(average)) for average in AVERAGES]
RESUME_KEY = bytes(range(32))
TRANSFER = TransferId("0123456789abcdef0123456789abcdef")
OTHER_TRANSFER = TransferId("f" * 32)
SEGMENT = SegmentId("b3-" + "ab" * 32)
OTHER_SEGMENT = SegmentId("b3-" + "ac" * 32)
PLACE = {"suite": 1, "resume_key": RESUME_KEY, "transfer": TRANSFER, "segment": SEGMENT}


def row_of(lengths: list[int]) -> Row:
    source = random.Random(len(lengths))
    return Row(source.randbytes(32), sum(lengths), tuple((source.randbytes(16), length) for length in lengths))


def seal(row: Row, capacity: int = 128) -> bytes:
    return seal_row(row, nonce=bytes(12), capacity=capacity, **PLACE)


def seal_payload(payload: bytes) -> bytes:
    """Seal a payload of one's own making, as a hostile holder of the resume key would."""
    header = b"CROW\1\1" + bytes(12)
    key = derive_key(1, RESUME_KEY, "row")
    return header + AESGCM(key).encrypt(bytes(12), payload, header + TRANSFER.raw + SEGMENT.binary)


def refused(sealed: bytes, code: str, **place: object) -> None:
    with pytest.raises(IntegrityError) as caught:
        open_row(sealed, **({"capacity": 128} | PLACE | place))
    assert code == caught.value.code


@given(data=st.data(), capacity=st.sampled_from(CAPACITIES))
@settings(max_examples=40, deadline=None)
def test_what_was_sealed_opens(data: st.DataObject, capacity: int) -> None:
    row = row_of(data.draw(st.lists(st.integers(1, SEGMENT_RAW_BYTES_MAX // capacity), min_size=1, max_size=capacity)))

    assert row == open_row(seal(row, capacity), capacity=capacity, **PLACE)


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_every_row_has_one_length_that_fits_its_header(capacity: int) -> None:
    """Rule 1."""
    lengths = {len(seal(row_of([1000] * count), capacity)) for count in range(1, capacity + 1)}

    assert lengths == {row_bytes(capacity)}
    assert row_bytes(capacity) * 4 / 3 + 4 < ROW_HEADER_CHARS_MAX


@pytest.mark.parametrize(
    "place",
    [{"transfer": OTHER_TRANSFER}, {"segment": OTHER_SEGMENT}, {"resume_key": bytes(32)}, {"capacity": 64}],
    ids=lambda place: next(iter(place)),
)
def test_a_row_opens_only_for_its_own_transfer_and_segment(place: dict[str, object]) -> None:
    """Rule 2."""
    refused(seal(row_of([5, 6])), "E-SEGMENT-CORRUPT", **place)


def test_every_damaged_byte_and_every_other_length_is_refused() -> None:
    sealed = seal(row_of([5, 6]))

    for at in range(0, len(sealed), 7):
        refused(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], "E-SEGMENT-CORRUPT")
        refused(sealed[:at], "E-SEGMENT-CORRUPT")
    refused(sealed + b"\0", "E-SEGMENT-CORRUPT")


@pytest.mark.parametrize(
    "row",
    [
        Row(bytes(32), 0, ()),
        Row(bytes(32), 10, ((bytes(16), 9),)),
        Row(bytes(32), 0, ((bytes(16), 0),)),
        Row(bytes(32), 70_000, ((bytes(16), 70_000),)),
        Row(bytes(32), 10, ((bytes(15), 10),)),
        Row(bytes(31), 10, ((bytes(16), 10),)),
        Row(bytes(32), 129, ((bytes(16), 1),) * 129),
        Row(bytes(32), 40 * 65536, ((bytes(16), 65536),) * 40),
    ],
    ids=["no chunk", "sum", "empty chunk", "long chunk", "short id", "short key", "too many", "too much"],
)
def test_an_impossible_row_is_not_sealed(row: Row) -> None:
    with pytest.raises(CallerError):
        seal(row)


@pytest.mark.parametrize(
    "payload",
    [
        struct.pack(">32sIH", bytes(32), 0, 0).ljust(38 + 19 * 128, b"\0"),
        struct.pack(">32sIH", bytes(32), 3, 0xFFFF).ljust(38 + 19 * 128, b"\0"),
        (struct.pack(">32sIH", bytes(32), 4, 1) + bytes(18) + b"\3").ljust(38 + 19 * 128, b"\0"),
        (struct.pack(">32sIH", bytes(32), 3, 1) + bytes(18) + b"\3").ljust(38 + 19 * 128 - 1, b"\0") + b"\1",
    ],
    ids=["no chunk", "count", "sum", "not zero"],
)
def test_a_row_that_breaks_a_rule_is_refused_though_its_tag_is_right(payload: bytes) -> None:
    """Rule 3."""
    refused(seal_payload(payload), "E-FORMAT")


def test_a_row_does_not_show_its_key() -> None:
    row = row_of([5])

    assert repr(row) == "Row(raw_length=5, chunks=1)"
    assert row.key.hex() not in repr(row)
