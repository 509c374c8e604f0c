"""Index pages, sealed: the container of a segment with a magic of its own, bound to one place in one transfer.

A sealed page has a segment id and travels as a segment; nobody without the artifact key can tell it from one by its content.

Rules:      1. each page has its own key, derived from the artifact key  2. a page opens only under its suite, transfer, closure,
            number, and as the last page or not  3. an index of one page is padded like a transfer's only segment
Layout:     as a segment, magic "CIDX"; associated data: header 18 | transfer id 16 | closure digest 32 | page number u32
            | last u8 (1 for the last page, else 0)
Spec:       docs/formats.md section "Index"
"""

import struct
from typing import Final

from carnet.chunking import Buffer
from carnet.identifiers import Digest, TransferId
from carnet.limits import INDEX_PAGE_RAW_BYTES_MAX
from carnet.segment import SegmentOpener, SegmentSealer
from carnet.suites import derive_key

PAGE_MAGIC: Final = b"CIDX"
PAGE_LEVEL: Final = 3
"""zstd level of index pages: they are small, and chunk ids do not compress at any level."""
_NUMBER: Final = struct.Struct(">I")


def seal_page(
    raw: Buffer,
    *,
    suite: int,
    artifact_key: bytes,
    transfer: TransferId,
    closure: Digest,
    number: int,
    last: bool,
    nonce: bytes,
) -> bytes:
    """Return raw page `number` (0-based) sealed under `artifact_key` (32 bytes) with a fresh random `nonce` (12 bytes)."""
    sealer = SegmentSealer(suite, PAGE_LEVEL, magic=PAGE_MAGIC)
    key = _page_key(suite, artifact_key, transfer, number)
    context = _context(transfer, closure, number, last=last)
    return sealer.seal(raw, key=key, nonce=nonce, solo=last and number == 0, context=context)


def open_page(
    sealed: Buffer, *, suite: int, artifact_key: bytes, transfer: TransferId, closure: Digest, number: int, last: bool
) -> bytes:
    """Return the raw bytes of page `number`; `last` says whether the packing list names no page after it.

    Raises `IntegrityError` E-SEGMENT-CORRUPT when it is not that page of that index, E-FORMAT when its sealer broke the format.
    """
    opener = SegmentOpener(suite, magic=PAGE_MAGIC, raw_bytes_max=INDEX_PAGE_RAW_BYTES_MAX)
    key = _page_key(suite, artifact_key, transfer, number)
    return opener.open(sealed, key=key, context=_context(transfer, closure, number, last=last))


def _page_key(suite: int, artifact_key: bytes, transfer: TransferId, number: int) -> bytes:
    return derive_key(suite, artifact_key, "index-page", transfer.raw + _NUMBER.pack(number))


def _context(transfer: TransferId, closure: Digest, number: int, *, last: bool) -> bytes:
    return transfer.raw + closure.raw + _NUMBER.pack(number) + bytes((last,))
