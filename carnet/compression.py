"""zstd, one frame at a time, and nothing else that zstd allows.

A body is either stored or one zstd frame. The reader knows the raw length before it looks at the frame and allocates no more
than that, whatever the frame says.

Rules:      1. a frame states its content size, and that is the raw length  2. no dictionary, checksum, skippable frame or byte
            after the frame  3. a frame no shorter than its content is not written and not read
Spec:       docs/formats.md section "Segments"; RFC 8878 section 3
Example:    >>> codec, body = Compressor(1).compress(b"carnet" * 100)
            >>> codec.name, decompress(codec, body, 600) == b"carnet" * 100
            ('ZSTD', True)
"""

from enum import IntEnum
from typing import Final

import zstandard

from carnet.chunking import Buffer
from carnet.errors import CallerError, IntegrityError

LEVEL_MIN: Final = -5
LEVEL_MAX: Final = 19
WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
"""Largest window a frame may ask for: what RFC 8878 section 3.1.1.1.2 recommends every decoder to support."""


_PROBES: Final = 8
_PROBE_BYTES: Final = 4 * 1024
_PROBED_BYTES: Final = 256 * 1024
"""Shorter ones are compressed without asking first."""


class Codec(IntEnum):
    """How a body is coded; the number is in the payload."""

    STORED = 0
    ZSTD = 1


class Compressor:
    """One thread's compressor at one level (-5 to 19): it keeps its tables between calls, so it is not shared."""

    def __init__(self, level: int) -> None:
        """Raise `CallerError` E-USAGE for a level that does not exist."""
        if not LEVEL_MIN <= level <= LEVEL_MAX:
            raise CallerError("E-USAGE", f"zstd level {level}, expected {LEVEL_MIN} to {LEVEL_MAX}")
        self.level = level
        self._zstd = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True, write_dict_id=False)

    def compress(self, raw: Buffer) -> tuple[Codec, Buffer]:
        """Return the codec and body of `raw`: `raw` itself, not a copy, when zstd does not make it shorter."""
        if len(raw) >= _PROBED_BYTES and self._looks_incompressible(memoryview(raw)):
            return Codec.STORED, raw
        body = self._zstd.compress(raw)
        return (Codec.ZSTD, body) if len(body) < len(raw) else (Codec.STORED, raw)

    def _looks_incompressible(self, raw: memoryview) -> bool:
        """Tell whether no piece of `raw`, of several from all over it, becomes shorter: then zstd would only copy it."""
        step = (len(raw) - _PROBE_BYTES) // (_PROBES - 1)
        pieces = (raw[start : start + _PROBE_BYTES] for start in range(0, len(raw), step))
        return all(len(self._zstd.compress(piece)) >= _PROBE_BYTES for piece in pieces if len(piece) == _PROBE_BYTES)


def decompress(codec: int, body: Buffer, raw_length: int) -> Buffer:
    """Return the `raw_length` bytes that `body` stands for (`body` itself when stored); the caller has bounded `raw_length`.

    Raises `IntegrityError` E-FORMAT for everything the rules above refuse.
    """
    if codec == Codec.STORED:
        if len(body) != raw_length:
            raise IntegrityError("E-FORMAT", f"stored body of {len(body)} bytes, expected {raw_length}")
        return body
    if codec != Codec.ZSTD:
        raise IntegrityError("E-FORMAT", f"unknown codec {codec}")
    _check_frame(body, raw_length)
    try:
        raw = zstandard.ZstdDecompressor().decompress(body, max_output_size=raw_length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise IntegrityError("E-FORMAT", f"not one whole zstd frame: {error}") from None
    if len(raw) != raw_length:
        raise IntegrityError("E-FORMAT", f"zstd frame of {len(raw)} bytes, expected {raw_length}")
    return raw


def _check_frame(body: Buffer, raw_length: int) -> None:
    """Refuse, from the frame's header alone, what must not be given to the decoder."""
    if len(body) >= raw_length:
        raise IntegrityError("E-FORMAT", f"zstd body of {len(body)} bytes for {raw_length} bytes, it should be stored")
    if bytes(body[:4]) != zstandard.FRAME_HEADER:
        raise IntegrityError("E-FORMAT", "body does not start with a zstd frame")
    try:
        frame = zstandard.get_frame_parameters(body)
    except zstandard.ZstdError as error:
        raise IntegrityError("E-FORMAT", f"zstd frame header: {error}") from None
    if frame.content_size != raw_length:
        raise IntegrityError("E-FORMAT", f"zstd frame does not state its content size, or another than {raw_length}")
    if frame.dict_id or frame.has_checksum:
        raise IntegrityError("E-FORMAT", "zstd frame with a dictionary or a checksum")
    if frame.window_size > WINDOW_BYTES_MAX:
        raise IntegrityError("E-FORMAT", f"zstd window of {frame.window_size} bytes, at most {WINDOW_BYTES_MAX} are allowed")
