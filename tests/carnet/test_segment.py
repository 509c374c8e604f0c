"""The container keeps docs/formats.md section "Segments"; "rule" numbers are those of carnet/segment.py."""

import random
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.errors import CallerError, CarnetError, IntegrityError
from carnet.limits import KIB, SEGMENT_BYTES_MAX, SEGMENT_RAW_BYTES_MAX
from carnet.segment import HEADER_BYTES, OVERHEAD_BYTES, SegmentOpener, SegmentSealer, check_container, open_segment
from tests.vectors.blocks import expand, read_blocks, segment_of

KEY = bytes(range(32))
NONCE = bytes(range(12))
RAW = b"plaintext of a few chunks, " * 20


def seal(raw: bytes = RAW, *, solo: bool = False, context: bytes = b"") -> bytes:
    return SegmentSealer(1, 1).seal(raw, key=KEY, nonce=NONCE, solo=solo, context=context)


def seal_payload(payload: bytes) -> bytes:
    """Seal a payload of one's own making, as a hostile sealer would."""
    header = b"CSEG\1\1" + NONCE
    return header + AESGCM(KEY).encrypt(NONCE, payload, header)


def refused(sealed: bytes, code: str, key: bytes = KEY) -> str:
    with pytest.raises(IntegrityError) as caught:
        open_segment(sealed, suite=1, key=key)
    assert code == caught.value.code
    return caught.value.problem


@given(raw=st.binary(min_size=1, max_size=3000), repeat=st.integers(1, 300), solo=st.booleans())
@settings(max_examples=50, deadline=None)
def test_what_was_sealed_opens(raw: bytes, repeat: int, solo: bool) -> None:
    assert raw * repeat == open_segment(seal(raw * repeat, solo=solo), suite=1, key=KEY)


@pytest.mark.parametrize("length", [1, SEGMENT_RAW_BYTES_MAX])
@pytest.mark.parametrize("solo", [False, True])
def test_the_smallest_and_the_largest_plaintext_open(length: int, solo: bool) -> None:
    raw = random.Random(length).randbytes(length)

    sealed = seal(raw, solo=solo)

    assert raw == open_segment(sealed, suite=1, key=KEY)
    assert len(sealed) <= SEGMENT_BYTES_MAX


def test_a_sealer_and_an_opener_are_used_again_and_leave_nothing_behind() -> None:
    sealer, opener = SegmentSealer(1, 1), SegmentOpener(1)
    plaintexts = [random.Random(i).randbytes(size) for i, size in enumerate([900_000, 5, 300_000, 1])]

    sealed = [sealer.seal(raw, key=KEY, nonce=NONCE) for raw in plaintexts]

    assert plaintexts == [opener.open(each, key=KEY) for each in sealed]
    assert sealed == [seal(raw) for raw in plaintexts]


def test_a_transfers_only_segment_has_one_of_few_lengths() -> None:
    lengths = {len(seal(bytes(size), solo=True)) for size in (1, 1000, 1_000_000)}

    assert lengths == {64 * KIB + OVERHEAD_BYTES}


def test_seal_into_fills_the_callers_buffer_and_returns_the_length() -> None:
    out = bytearray(SEGMENT_BYTES_MAX)

    length = SegmentSealer(1, 1).seal_into(memoryview(RAW), out, key=KEY, nonce=NONCE)

    assert seal() == bytes(out[:length])
    assert not any(out[length:])


@pytest.mark.parametrize(
    "arguments",
    [
        {"raw": b""},
        {"raw": bytes(SEGMENT_RAW_BYTES_MAX + 1)},
        {"key": bytes(31)},
        {"key": bytes(16)},
        {"nonce": bytes(11)},
        {"out": bytearray(SEGMENT_BYTES_MAX - 1)},
    ],
    ids=str,
)
def test_a_sealer_refuses_arguments_of_the_wrong_length(arguments: dict[str, bytes]) -> None:
    given_ = {"raw": RAW, "out": bytearray(SEGMENT_BYTES_MAX), "key": KEY, "nonce": NONCE} | arguments

    with pytest.raises(CallerError):
        SegmentSealer(1, 1).seal_into(given_.pop("raw"), given_.pop("out"), **given_)


def test_every_truncation_is_refused() -> None:
    sealed = seal()

    for length in range(len(sealed)):
        refused(sealed[:length], "E-SEGMENT-CORRUPT")


@pytest.mark.parametrize("extra", [b"\0", b"\xff", bytes(16), bytes(SEGMENT_BYTES_MAX)], ids=len)
def test_every_extension_is_refused(extra: bytes) -> None:
    refused(seal() + extra, "E-SEGMENT-CORRUPT")
    refused(extra + seal(), "E-SEGMENT-CORRUPT")


def test_every_flipped_bit_is_refused() -> None:
    sealed = seal(b"abc")

    for bit in range(8 * len(sealed)):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        refused(bytes(damaged), "E-SEGMENT-CORRUPT")


def test_a_segment_does_not_open_under_another_key() -> None:
    refused(seal(), "E-SEGMENT-CORRUPT", key=bytes(32))


def test_a_container_does_not_open_as_another_or_in_another_context() -> None:
    page = SegmentSealer(1, 1, magic=b"CIDX").seal(RAW, key=KEY, nonce=NONCE, context=b"here")

    refused(page, "E-SEGMENT-CORRUPT")
    with pytest.raises(IntegrityError):
        SegmentOpener(1, magic=b"CIDX").open(page, key=KEY, context=b"there")
    assert SegmentOpener(1, magic=b"CIDX").open(page, key=KEY, context=b"here") == RAW


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(CarnetError):
        SegmentSealer(2, 1)
    with pytest.raises(CarnetError):
        open_segment(seal(), suite=0, key=KEY)


def test_a_payload_of_exactly_the_rules_length_opens() -> None:
    assert open_segment(seal_payload(struct.pack(">BII", 0, 3, 3) + b"abc"), suite=1, key=KEY) == b"abc"


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        (struct.pack(">BII", 0, 3, 3) + b"abc\0", "padding rule"),
        (struct.pack(">BII", 0, 2, 2) + b"ab\1", "not zero"),
        (struct.pack(">BII", 0, 4, 4) + b"abcd\1", "not zero"),
        (struct.pack(">BII", 0, 0, 0) + b"\0", "raw bytes"),
        (struct.pack(">BII", 0, SEGMENT_RAW_BYTES_MAX + 1, 3) + b"abc", "raw bytes"),
        (struct.pack(">BII", 0, 3, 0xFFFFFFFF) + b"abc", "padding rule"),
        (struct.pack(">BII", 0, 2, 3) + b"abc", "stored body"),
        (struct.pack(">BII", 2, 3, 3) + b"abc", "unknown codec"),
        (struct.pack(">BII", 1, 1000, 3) + b"abc", "zstd"),
    ],
)
def test_a_payload_that_breaks_a_rule_is_refused_though_its_tag_is_right(payload: bytes, word: str) -> None:
    """Rule 2, and the bounded inflate."""
    assert word in refused(seal_payload(payload), "E-FORMAT")


def test_a_payload_without_a_body_is_too_short_to_open() -> None:
    refused(seal_payload(struct.pack(">BII", 0, 0, 0)), "E-SEGMENT-CORRUPT")


@given(payload=st.binary(min_size=10, max_size=200))
@settings(max_examples=200)
def test_any_payload_opens_or_is_refused_in_our_words(payload: bytes) -> None:
    try:
        raw = open_segment(seal_payload(payload), suite=1, key=KEY)
    except IntegrityError as refusal:
        raw = refusal.code.encode()
    assert raw == b"E-FORMAT" or raw in payload


def test_no_error_shows_key_or_plaintext() -> None:
    problem = refused(seal_payload(struct.pack(">BII", 0, 4, 4) + b"secr" + b"\1"), "E-FORMAT")

    assert "secr" not in problem
    assert KEY.hex() not in problem


@pytest.mark.parametrize("block", read_blocks("segment.txt"), ids=lambda block: block["name"])
def test_the_vectors_open_or_fail_as_written(block: dict[str, str]) -> None:
    sealed, key = segment_of(block), bytes.fromhex(block["key"])

    if block["expect"] == "ok":
        assert expand(block["raw"]) == open_segment(sealed, suite=1, key=key)
    else:
        refused(sealed, block["expect"], key=key)


def test_the_header_is_all_that_is_public() -> None:
    sealed = seal()

    assert sealed[:HEADER_BYTES] == b"CSEG\1\1" + NONCE
    assert RAW[:16] not in sealed


@given(raw=st.binary(min_size=1, max_size=3000), repeat=st.integers(1, 300), solo=st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_container_is_known_as_one_without_its_key(raw: bytes, repeat: int, solo: bool) -> None:
    check_container(seal((raw * repeat)[:SEGMENT_RAW_BYTES_MAX], solo=solo), suite=1)


@pytest.mark.parametrize(
    "sealed",
    [
        b"",
        b"CSEG",
        seal()[:OVERHEAD_BYTES],
        b"CIDX" + seal()[4:],
        b"CSEG\2" + seal()[5:],
        b"CSEG\1\2" + seal()[6:],
        seal() + b"x",
    ],
)
def test_what_is_no_container_is_known_as_none_without_a_key(sealed: bytes) -> None:
    with pytest.raises(IntegrityError, match="E-FORMAT"):
        check_container(sealed, suite=1)
