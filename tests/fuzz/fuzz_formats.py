"""Fuzz targets of the byte formats: payloads behind a right tag, zstd bodies, rows, index records, chunk cuts.

Run for longer with `python -m tests.fuzz.fuzz_formats SECONDS [SEED]`.
"""

import struct
import sys
from array import array

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from carnet.chunking import GEAR, ChunkSizes, cut, cut_in_python, kernel_name
from carnet.compression import Codec, Compressor, decompress
from carnet.identifiers import SegmentId, TransferId
from carnet.index_records import decode_index, encode_index
from carnet.rows import open_row
from carnet.segment import SegmentSealer, open_segment
from carnet.suites import derive_key
from tests.fuzz.drive import Target, drive
from tests.vectors.blocks import expand, read_blocks

KEY, NONCE = bytes(32), bytes(12)
TRANSFER, SEGMENT = TransferId("0" * 32), SegmentId("b3-" + "0" * 64)
TEXT = b"repeated text, " * 20
ROW = struct.pack(">32sIH", KEY, 3, 1).ljust(54, b"\1") + b"\0\0\3" + bytes(127 * 19)


def open_sealed(data: bytes) -> None:
    """The container, from outside: without the key nobody gets past the tag."""
    open_segment(data, suite=1, key=KEY)


def open_payload(data: bytes) -> None:
    """The payload, from a hostile sealer."""
    header = b"CSEG\1\1" + NONCE
    raw = open_segment(header + AESGCM(KEY).encrypt(NONCE, data, header), suite=1, key=KEY)
    assert 1 <= len(raw) <= 1_179_648


def inflate(data: bytes) -> None:
    """A body, with the raw length in front."""
    raw_length = int.from_bytes(data[:3], "big") % 100_000 + 1
    assert len(decompress(Codec.ZSTD, data[3:], raw_length)) == raw_length


def open_row_payload(data: bytes) -> None:
    """A row's payload, from a hostile holder of the resume key."""
    header = b"CROW\1\1" + NONCE
    sealed = AESGCM(derive_key(1, KEY, "row")).encrypt(NONCE, data, header + TRANSFER.raw + SEGMENT.binary)
    row = open_row(header + sealed, suite=1, resume_key=KEY, transfer=TRANSFER, segment=SEGMENT, capacity=128)
    assert sum(length for _, length in row.chunks) == row.raw_length


def read_records(data: bytes) -> None:
    """Index records: what is accepted encodes back alike."""
    assert b"".join(encode_index(decode_index([data], suite=1))) == data


def cut_alike(data: bytes) -> None:
    """The kernel and the twin, on data long enough to be cut, wherever it begins in its buffer, and with no room for the ends."""
    long = data * (1 + 40_000 // (len(data) + 1))
    sizes = ChunkSizes(16384)
    for part, final in ((long, True), (long, False), (memoryview(long)[len(data) % 8 :], True)):
        assert cut(part, sizes, final=final) == cut_in_python(part, sizes, final=final)
    if kernel_name() == "c":
        assert _first_ends(long * 2, sizes, 1) == cut_in_python(long * 2, sizes, final=True)[:1]


def _first_ends(data: bytes, sizes: ChunkSizes, room: int) -> list[int]:
    """Return the first `room` ends that the kernel finds: it stops there, whatever follows."""
    from carnet import _kernel as kernel

    ends = bytearray(8 * room)  # without the room that an array keeps beyond its end
    bits = (sizes.bits_small, sizes.bits_large)
    count = kernel.cut(data, array("Q", GEAR), ends, sizes.minimum, sizes.average, sizes.maximum, *bits, True)
    return list(struct.unpack_from(f"={count}Q", ends))


def targets() -> list[Target]:
    """Return every target with its seeds."""
    zstd = bytes(Compressor(1).compress(TEXT)[1])
    payloads = [struct.pack(">BII", 0, 3, 3) + b"abc", struct.pack(">BII", 1, len(TEXT), len(zstd)) + zstd]
    sealed = SegmentSealer(1, 1).seal(TEXT, key=KEY, nonce=NONCE)
    return [
        Target("segment", open_sealed, [sealed]),
        Target("payload", open_payload, payloads),
        Target("zstd", inflate, [(len(TEXT) - 1).to_bytes(3, "big") + zstd]),
        Target("row", open_row_payload, [ROW]),
        Target("index", read_records, [expand(block["records"]) for block in read_blocks("index.txt")]),
        Target("chunking", cut_alike, [TEXT, bytes(500), bytes(range(256))]),
    ]


def main(seconds: float, seed: int) -> None:
    """Run every target for `seconds`."""
    for target in targets():
        print(f"{target.name}: {drive(target, seed=seed, seconds=seconds)} inputs, seed {seed}, no finding")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
