"""The sealed container of about 2 MiB: the unit of transport and storage.

Chunks are compressed together, padded, and encrypted as one message under a key used once. The header is public; everything
else is behind the tag. Index pages use the same container with a magic of their own and more associated data.

Rules:      1. one key seals one message  2. padding has a length that a rule of carnet/padding.py gives, and is zero
            3. nothing of the payload is looked at before the tag is verified  4. no allocation is larger than the limits allow
Layout:     magic 4 | version u8 | suite u8 | nonce 12 | ciphertext | tag 16; associated data: those 18 bytes, then the context
            payload: codec u8 | raw length u32 | body length u32 | body | zeros; integers are big-endian
Spec:       docs/formats.md section "Segments"; NIST SP 800-38D (AES-GCM)
Example:    >>> sealed = SegmentSealer(1, level=1).seal(b"chunks", key=bytes(32), nonce=bytes(12), solo=True)
            >>> len(sealed), open_segment(sealed, suite=1, key=bytes(32))
            (65570, b'chunks')
"""

import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from carnet.chunking import Buffer
from carnet.compression import Compressor, decompress
from carnet.errors import CallerError, IntegrityError
from carnet.limits import SEGMENT_BYTES_MAX, SEGMENT_RAW_BYTES_MAX
from carnet.padding import is_padded_length, padme, solo_length
from carnet.suites import KEY_BYTES, NONCE_BYTES, TAG_BYTES, check_suite

SEGMENT_MAGIC: Final = b"CSEG"
VERSION: Final = 1
HEADER_BYTES: Final = 4 + 2 + NONCE_BYTES
OVERHEAD_BYTES: Final = HEADER_BYTES + TAG_BYTES
"""What sealing adds to a payload."""
_PAYLOAD_HEADER: Final = struct.Struct(">BII")
_SMALLEST_BYTES: Final = OVERHEAD_BYTES + _PAYLOAD_HEADER.size + 1
_ZEROS: Final = bytes(SEGMENT_BYTES_MAX)


class SegmentSealer:
    """One thread's sealer: it owns a compressor and a payload buffer and reuses both, so it is not shared."""

    def __init__(self, suite: int, level: int, *, magic: bytes = SEGMENT_MAGIC) -> None:
        """Seal under `suite` with zstd `level`; `magic` is another for other users of the container."""
        self._start = magic + bytes((VERSION, check_suite(suite)))
        self._compressor = Compressor(level)
        self._payload = bytearray(SEGMENT_BYTES_MAX)

    def compress_at(self, level: int) -> None:
        """Use zstd `level` from now on."""
        if level != self._compressor.level:
            self._compressor = Compressor(level)

    def seal(self, raw: Buffer, *, key: bytes, nonce: bytes, solo: bool = False, context: bytes = b"") -> bytes:
        """Return `raw` sealed, as new bytes; otherwise like `seal_into`."""
        out = bytearray(SEGMENT_BYTES_MAX)
        length = self.seal_into(raw, out, key=key, nonce=nonce, solo=solo, context=context)
        return bytes(memoryview(out)[:length])

    def seal_into(
        self, raw: Buffer, out: bytearray | memoryview, *, key: bytes, nonce: bytes, solo: bool = False, context: bytes = b""
    ) -> int:
        """Seal `raw` (1 to `SEGMENT_RAW_BYTES_MAX` bytes) at the start of `out` and return the sealed length in bytes.

        `key` (32 bytes) and `nonce` (12) are fresh and random: the pair is never given twice. `out` has room for
        `SEGMENT_BYTES_MAX`. `solo` says that this is a transfer's only segment. `context` follows the header in the associated
        data. Raises `CallerError` E-USAGE when an argument breaks this.
        """
        _check_arguments(raw, key, nonce)
        if len(out) < SEGMENT_BYTES_MAX:
            raise CallerError("E-USAGE", f"room of {len(out)} bytes for a segment, expected {SEGMENT_BYTES_MAX}")
        payload = self._fill_payload(raw, solo=solo)
        length = OVERHEAD_BYTES + len(payload)
        header = self._start + nonce
        with memoryview(out)[:length] as sealed:
            sealed[:HEADER_BYTES] = header
            AESGCM(key).encrypt_into(nonce, payload, header + context, sealed[HEADER_BYTES:])
        return length

    def _fill_payload(self, raw: Buffer, *, solo: bool) -> memoryview:
        """Compress, prefix and pad `raw` in the buffer of this sealer and return the part that is in use."""
        codec, body = self._compressor.compress(raw)
        end = _PAYLOAD_HEADER.size + len(body)
        length = solo_length(end) if solo else padme(end)
        payload = memoryview(self._payload)[:length]
        _PAYLOAD_HEADER.pack_into(payload, 0, codec, len(raw), len(body))
        payload[_PAYLOAD_HEADER.size : end] = body
        payload[end:] = _ZEROS[: length - end]
        return payload


class SegmentOpener:
    """One thread's opener: it reuses the buffer it decrypts into, so it is not shared."""

    def __init__(self, suite: int, *, magic: bytes = SEGMENT_MAGIC, raw_bytes_max: int = SEGMENT_RAW_BYTES_MAX) -> None:
        """Open containers of `suite` with that `magic`, refusing more than `raw_bytes_max` bytes of plaintext."""
        self._start = magic + bytes((VERSION, check_suite(suite)))
        self._raw_bytes_max = raw_bytes_max
        self._payload = bytearray(SEGMENT_BYTES_MAX)

    def open(self, sealed: Buffer, *, key: bytes, context: bytes = b"") -> bytes:
        """Return the plaintext of `sealed`, as new bytes.

        Raises `IntegrityError`: E-SEGMENT-CORRUPT when the bytes are not what was sealed under this key, suite and context,
        E-FORMAT when they are, but the sealer broke the format.
        """
        payload = self._decrypt(memoryview(sealed), key, context)
        codec, raw_length, body_length = _PAYLOAD_HEADER.unpack_from(payload)
        if not 1 <= raw_length <= self._raw_bytes_max:
            raise IntegrityError("E-FORMAT", f"segment of {raw_length} raw bytes, expected 1 to {self._raw_bytes_max}")
        end = _PAYLOAD_HEADER.size + body_length
        if not is_padded_length(len(payload), end):
            raise IntegrityError(
                "E-FORMAT", f"payload of {len(payload)} bytes for a body of {body_length}, no padding rule gives that"
            )
        if not _ZEROS.startswith(payload[end:]):  # two memoryviews are compared item by item
            raise IntegrityError("E-FORMAT", "segment padding is not zero")
        return bytes(decompress(codec, payload[_PAYLOAD_HEADER.size : end], raw_length))

    def _decrypt(self, sealed: memoryview, key: bytes, context: bytes) -> memoryview:
        """Check sizes, header and tag; return the payload, in the buffer of this opener."""
        if not _SMALLEST_BYTES <= len(sealed) <= SEGMENT_BYTES_MAX:
            raise IntegrityError(
                "E-SEGMENT-CORRUPT", f"segment of {len(sealed)} bytes, expected {_SMALLEST_BYTES} to {SEGMENT_BYTES_MAX}"
            )
        header = bytes(sealed[:HEADER_BYTES])
        start, nonce = header[: len(self._start)], header[len(self._start) :]
        if start != self._start:
            raise IntegrityError("E-SEGMENT-CORRUPT", f"segment starts {start.hex()}, expected {self._start.hex()}")
        payload = memoryview(self._payload)[: len(sealed) - OVERHEAD_BYTES]
        try:
            AESGCM(key).decrypt_into(nonce, sealed[HEADER_BYTES:], header + context, payload)
        except InvalidTag:
            raise IntegrityError("E-SEGMENT-CORRUPT", "segment does not open under its key") from None
        return payload


def check_container(sealed: Buffer, *, suite: int, magic: bytes = SEGMENT_MAGIC) -> None:
    """Return if `sealed` is, as far as can be seen without its key, a container of `suite` with that `magic`.

    Raises:
        IntegrityError: E-FORMAT for a start that is another, or a length that no padding rule gives.
    """
    start = magic + bytes((VERSION, check_suite(suite)))
    found, payload = bytes(memoryview(sealed)[: len(start)]), len(sealed) - OVERHEAD_BYTES
    if found != start:
        raise IntegrityError("E-FORMAT", f"container starts {found.hex()}, expected {start.hex()}")
    if payload <= _PAYLOAD_HEADER.size or not is_padded_length(payload, payload):
        raise IntegrityError("E-FORMAT", f"container of {len(sealed)} bytes, no padding rule gives that")


def open_segment(sealed: Buffer, *, suite: int, key: bytes, raw_bytes_max: int = SEGMENT_RAW_BYTES_MAX) -> bytes:
    """Open one segment; a pipeline keeps a `SegmentOpener` a thread instead. Raises as `SegmentOpener.open`."""
    return SegmentOpener(suite, raw_bytes_max=raw_bytes_max).open(sealed, key=key)


def _check_arguments(raw: Buffer, key: bytes, nonce: bytes) -> None:
    if not 1 <= len(raw) <= SEGMENT_RAW_BYTES_MAX:
        raise CallerError("E-USAGE", f"plaintext of {len(raw)} bytes, expected 1 to {SEGMENT_RAW_BYTES_MAX}")
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise CallerError("E-USAGE", f"key of {len(key)} and nonce of {len(nonce)} bytes, expected {KEY_BYTES} and {NONCE_BYTES}")
