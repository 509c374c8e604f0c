"""The sealed line of one segment of an unfinished transfer: what a restarted push needs to go on.

The gateway keeps it beside the segment and cannot read it; one length for all says nothing about the chunks inside.

Rules:      1. every row of a transfer has one length  2. a row opens only for its own transfer and segment  3. what follows the
            last chunk is zero, and lengths add up to the segment's
Layout:     "CROW" | version u8 | suite u8 | nonce 12 | ciphertext | tag 16
            payload: key 32 | raw length u32 | count u16 | capacity * (chunk id 16 | length u24)
            associated data: the first 18 bytes | transfer id 16 | segment id 33
Spec:       docs/formats.md section "Rows"
Example:    >>> row_capacity(ChunkSizes(16384)), row_capacity(ChunkSizes(32768))
            (128, 64)
"""

import struct
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from carnet.chunking import ChunkSizes
from carnet.errors import CallerError, IntegrityError
from carnet.identifiers import SegmentId, TransferId
from carnet.limits import SEGMENT_RAW_BYTES_MAX, SEGMENT_RAW_BYTES_TARGET
from carnet.suites import CHUNK_ID_BYTES, KEY_BYTES, NONCE_BYTES, TAG_BYTES, check_suite, derive_key

MAGIC: Final = b"CROW"
VERSION: Final = 1
_HEADER_BYTES: Final = 6 + NONCE_BYTES
_START: Final = struct.Struct(">32sIH")
_LENGTH_BYTES: Final = 3
_CHUNK_BYTES: Final = CHUNK_ID_BYTES + _LENGTH_BYTES


@dataclass(frozen=True, slots=True)
class Row:
    """One segment's key, raw length in bytes, and its chunks in order, each an id of 16 bytes and a length in bytes."""

    key: bytes
    raw_length: int
    chunks: tuple[tuple[bytes, int], ...]

    def __repr__(self) -> str:
        return f"Row(raw_length={self.raw_length}, chunks={len(self.chunks)})"


def row_capacity(sizes: ChunkSizes) -> int:
    """Return how many chunks a row holds; a segment closes when it has that many."""
    return SEGMENT_RAW_BYTES_TARGET // sizes.average


def row_bytes(capacity: int) -> int:
    """Return the length in bytes of every sealed row of that capacity."""
    return _HEADER_BYTES + _START.size + capacity * _CHUNK_BYTES + TAG_BYTES


def seal_row(
    row: Row, *, suite: int, resume_key: bytes, transfer: TransferId, segment: SegmentId, nonce: bytes, capacity: int
) -> bytes:
    """Return `row` sealed under `resume_key` (32 bytes) with a fresh random `nonce` (12 bytes).

    Raises `CallerError` E-USAGE for a row that no reader would accept.
    """
    problem = _problem(row, capacity)
    if problem or len(row.key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise CallerError("E-USAGE", f"row cannot be sealed: {problem or 'key or nonce of the wrong length'}")
    header = MAGIC + bytes((VERSION, check_suite(suite))) + nonce
    payload = _START.pack(row.key, row.raw_length, len(row.chunks))
    payload += b"".join(chunk_id + length.to_bytes(_LENGTH_BYTES, "big") for chunk_id, length in row.chunks)
    payload += bytes((capacity - len(row.chunks)) * _CHUNK_BYTES)
    aead = AESGCM(derive_key(suite, resume_key, "row"))
    return header + aead.encrypt(nonce, payload, header + transfer.raw + segment.binary)


def open_row(sealed: bytes, *, suite: int, resume_key: bytes, transfer: TransferId, segment: SegmentId, capacity: int) -> Row:
    """Return the row in `sealed`.

    Raises `IntegrityError`: E-SEGMENT-CORRUPT when it is not this segment's row of this transfer, E-FORMAT when it is, but its
    sealer broke the format.
    """
    if len(sealed) != row_bytes(capacity):
        raise IntegrityError("E-SEGMENT-CORRUPT", f"row of {len(sealed)} bytes, expected {row_bytes(capacity)}")
    header = sealed[:_HEADER_BYTES]
    if header[:6] != MAGIC + bytes((VERSION, check_suite(suite))):
        raise IntegrityError("E-SEGMENT-CORRUPT", f"row starts {header[:6].hex()}, expected a row of version 1 and suite {suite}")
    aead = AESGCM(derive_key(suite, resume_key, "row"))
    try:
        payload = aead.decrypt(header[6:], sealed[_HEADER_BYTES:], header + transfer.raw + segment.binary)
    except InvalidTag:
        raise IntegrityError("E-SEGMENT-CORRUPT", f"row does not open for segment {segment}") from None
    return _parse(payload, capacity)


def _parse(payload: bytes, capacity: int) -> Row:
    key, raw_length, count = _START.unpack_from(payload)
    end = _START.size + count * _CHUNK_BYTES
    if count > capacity or any(payload[end:]):
        raise IntegrityError("E-FORMAT", f"row of {count} chunks with a capacity of {capacity}, or bytes after the last chunk")
    starts = range(_START.size, end, _CHUNK_BYTES)
    chunks = tuple((payload[at : at + CHUNK_ID_BYTES], _length(payload, at + CHUNK_ID_BYTES)) for at in starts)
    row = Row(key, raw_length, chunks)
    problem = _problem(row, capacity)
    if problem:
        raise IntegrityError("E-FORMAT", f"row is impossible: {problem}")
    return row


def _length(payload: bytes, at: int) -> int:
    return int.from_bytes(payload[at : at + _LENGTH_BYTES], "big")


def _problem(row: Row, capacity: int) -> str | None:
    """Return which rule a row breaks, or None."""
    longest = ChunkSizes(SEGMENT_RAW_BYTES_TARGET // capacity).maximum
    if not 1 <= len(row.chunks) <= capacity:
        return f"{len(row.chunks)} chunks, expected 1 to {capacity}"
    if any(len(chunk_id) != CHUNK_ID_BYTES or not 1 <= length <= longest for chunk_id, length in row.chunks):
        return f"a chunk of an impossible length, expected 1 to {longest} bytes"
    total = sum(length for _, length in row.chunks)
    if total != row.raw_length or total > SEGMENT_RAW_BYTES_MAX:
        return f"chunks of {total} bytes in a segment of {row.raw_length}, at most {SEGMENT_RAW_BYTES_MAX}"
    return None
