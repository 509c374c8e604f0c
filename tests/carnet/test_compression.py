"""Bodies are stored or one plain zstd frame; "rule" numbers are those of carnet/compression.py."""

import random
import struct

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.compression import Codec, Compressor, decompress
from carnet.errors import CallerError, IntegrityError

TEXT = b"carnet " * 500
FRAME = zstandard.ZstdCompressor(level=1).compress(TEXT)


def refused(codec: int, body: bytes, raw_length: int) -> str:
    with pytest.raises(IntegrityError) as caught:
        decompress(codec, body, raw_length)
    assert caught.value.code == "E-FORMAT"
    return caught.value.problem


@given(raw=st.binary(min_size=1, max_size=5000), repeat=st.integers(1, 50), level=st.sampled_from([-5, 1, 3]))
@settings(max_examples=60, deadline=None)
def test_what_was_compressed_comes_back(raw: bytes, repeat: int, level: int) -> None:
    codec, body = Compressor(level).compress(memoryview(raw * repeat))

    assert raw * repeat == bytes(decompress(codec, body, len(raw) * repeat))


def test_what_zstd_does_not_shorten_is_stored() -> None:
    raw = random.Random(1).randbytes(10_000)

    assert Compressor(1).compress(raw) == (Codec.STORED, raw)


@given(start=st.integers(0, 848_000), seed=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_among_noise_a_fifth_that_compresses_is_not_missed(start: int, seed: int) -> None:
    raw = bytearray(random.Random(seed).randbytes(1_048_576))
    raw[start : start + 200_000] = (TEXT * 60)[:200_000]

    codec, body = Compressor(1).compress(raw)

    assert codec is Codec.ZSTD
    assert len(body) < len(raw) - 190_000


def test_a_compressor_is_used_again() -> None:
    compressor = Compressor(3)

    assert compressor.compress(TEXT) == compressor.compress(TEXT)


@pytest.mark.parametrize("level", [-6, 20, 100])
def test_a_level_that_does_not_exist_is_refused(level: int) -> None:
    with pytest.raises(CallerError):
        Compressor(level)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        FRAME[:3],
        FRAME[:-1],
        FRAME + b"\0",
        FRAME + FRAME,
        struct.pack("<II", 0x184D2A50, 1) + b"x" + FRAME,
        FRAME + struct.pack("<II", 0x184D2A50, 0),
        zstandard.ZstdCompressor(write_content_size=False).compress(TEXT),
        zstandard.ZstdCompressor(write_checksum=True).compress(TEXT),
        zstandard.ZstdCompressor().compress(TEXT + b"more"),
        zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(TEXT)).compress(TEXT),
    ],
    ids=[
        "empty",
        "magic cut",
        "cut",
        "byte after",
        "two frames",
        "skippable before",
        "skippable after",
        "no size",
        "checksum",
        "longer",
        "prefix",
    ],
)
def test_anything_but_one_plain_frame_of_the_right_length_is_refused(body: bytes) -> None:
    """Rules 1 and 2."""
    refused(Codec.ZSTD, body, len(TEXT))


def test_a_dictionary_id_is_refused_by_its_name() -> None:
    trained = zstandard.train_dictionary(
        1024, [bytes(f"sample {i} of the words that repeat {i * i}", "ascii") * 8 for i in range(400)]
    )
    body = zstandard.ZstdCompressor(dict_data=trained).compress(TEXT)

    assert "dictionary" in refused(Codec.ZSTD, body, len(TEXT))


def test_a_frame_with_a_huge_window_is_refused_before_it_is_decoded() -> None:
    # Frame header descriptor 0xC0: 8 bytes of content size, a window byte; window 2^27, content size 2^20.
    body = zstandard.FRAME_HEADER + bytes([0xC0, (27 - 10) << 3]) + struct.pack("<Q", 1 << 20) + b"\1\0\0"

    assert "window" in refused(Codec.ZSTD, body, 1 << 20)


def test_a_frame_that_says_little_and_holds_much_is_refused() -> None:
    bomb = bytearray(zstandard.ZstdCompressor().compress(bytes(10_000_000)))
    at = bomb.index(struct.pack("<I", 10_000_000))
    bomb[at : at + 4] = struct.pack("<I", 100_000)

    refused(Codec.ZSTD, bytes(bomb), 100_000)


def test_a_frame_no_shorter_than_its_content_is_refused() -> None:
    """Rule 3."""
    raw = b"abc"

    assert "stored" in refused(Codec.ZSTD, zstandard.ZstdCompressor().compress(raw), len(raw))


def test_a_stored_body_has_the_raw_length() -> None:
    refused(Codec.STORED, b"abc", 2)
    refused(Codec.STORED, b"abc", 4)


@pytest.mark.parametrize("codec", [2, 3, 255])
def test_an_unknown_codec_is_refused(codec: int) -> None:
    refused(codec, b"abc", 3)


@given(body=st.binary(max_size=300), raw_length=st.integers(1, 2000), prefix=st.booleans())
@settings(max_examples=200)
def test_any_bytes_are_decoded_to_their_length_or_refused(body: bytes, raw_length: int, prefix: bool) -> None:
    framed = zstandard.FRAME_HEADER + body if prefix else body
    try:
        raw = decompress(Codec.ZSTD, framed, raw_length)
    except IntegrityError as refusal:
        raw = refusal.code
    assert raw == "E-FORMAT" or len(raw) == raw_length
