"""A page of rows on the wire: which segments of an unfinished transfer are there, each with its size and its sealed row.

The answer to `GET /v1/transfers/{id}/rows`. Rows are sealed; this file knows their frame, not their content.

Rules:      1. ids strictly increase  2. a page is read whole or refused  3. bounds are checked before a slice is made
Layout:     repeated: segment id (33 bytes) | sealed size of the segment (u32, big endian, 1 to SEGMENT_BYTES_MAX)
            | row length (u32, 1 to ROW_BYTES_MAX) | row
Spec:       docs/protocol.md section "Rows"

Example:
            >>> first = SegmentId("b3-" + "00" * 32)
            >>> page = encode_row_page([SentRow(first, 70_000, b"sealed")])
            >>> parse_row_page(page) == [SentRow(first, 70_000, b"sealed")]
            True
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from carnet.errors import PeerError
from carnet.identifiers import BINARY_ID_BYTES, SegmentId
from carnet.limits import ROW_HEADER_CHARS_MAX, SEGMENT_BYTES_MAX

ROWS_MAX: Final = 512
"""Rows of one page."""
ROW_BYTES_MAX: Final = ROW_HEADER_CHARS_MAX // 4 * 3
"""Longest sealed row: what fits into its header in base64."""
_HEAD: Final = struct.Struct(f">{BINARY_ID_BYTES}sII")
ROW_PAGE_BYTES_MAX: Final = ROWS_MAX * (_HEAD.size + ROW_BYTES_MAX)
"""Longest page."""


class SentRow(NamedTuple):
    """One segment that is durable at the site: its id, its sealed size in bytes, its sealed row."""

    segment: SegmentId
    size: int
    row: bytes


def encode_row_page(rows: Iterable[SentRow]) -> bytes:
    """Return the page that holds `rows`, which come by increasing id."""
    pieces: list[bytes] = []
    for sent in rows:
        pieces.append(_HEAD.pack(sent.segment.binary, sent.size, len(sent.row)))
        pieces.append(sent.row)
    return b"".join(pieces)


def parse_row_page(page: bytes) -> list[SentRow]:
    """Return the rows of a page in order; raise `PeerError` E-FORMAT for any other bytes."""
    if len(page) > ROW_PAGE_BYTES_MAX:
        raise PeerError("E-FORMAT", f"page of rows: got {len(page)} bytes, at most {ROW_PAGE_BYTES_MAX} are read")
    rows: list[SentRow] = []
    position, before = 0, b""
    while position < len(page):
        if len(page) - position < _HEAD.size:
            raise PeerError("E-FORMAT", f"page of rows: {len(page) - position} bytes left over")
        binary, size, length = _HEAD.unpack_from(page, position)
        position += _HEAD.size
        if not 1 <= length <= ROW_BYTES_MAX or length > len(page) - position:
            raise PeerError("E-FORMAT", f"page of rows: a row of {length} bytes where {len(page) - position} follow")
        if not 1 <= size <= SEGMENT_BYTES_MAX:
            raise PeerError("E-FORMAT", f"page of rows: a segment of {size} bytes, at most {SEGMENT_BYTES_MAX} are possible")
        if binary <= before:
            raise PeerError("E-FORMAT", "page of rows: segment ids do not increase")
        rows.append(SentRow(_segment(binary), size, page[position : position + length]))
        position, before = position + length, binary
    if len(rows) > ROWS_MAX:
        raise PeerError("E-FORMAT", f"page of rows: got {len(rows)} rows, expected at most {ROWS_MAX}")
    return rows


def _segment(binary: bytes) -> SegmentId:
    if binary[0] not in (1, 2):
        raise PeerError("E-FORMAT", f"page of rows: unknown hash algorithm {binary[0]}")
    return SegmentId.from_binary(binary)
