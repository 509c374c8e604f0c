"""The numbered sets of primitives; a suite's number is inside every derivation and signature, so nothing is negotiated.

Suite 1: BLAKE3, AES-256-GCM, HKDF-SHA-256, Ed25519, X-Wing HPKE. An unknown number is refused.

Rules:      1. only `hashlib`, `blake3` and `cryptography` compute primitives  2. a lane's suites are in the trust bundle
Spec:       docs/formats.md section "Suites"
Example:    >>> str(segment_id(SUITE_1, b"abc"))[:11]
            'b3-6437b3ac'
"""

from typing import Final

from blake3 import blake3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from carnet.errors import PeerError
from carnet.identifiers import SegmentId

SUITE_1: Final = 1
FIPS_SUITES: Final = frozenset[int]()
"""Suites whose primitives are of a module validated under FIPS 140-3: none is built yet."""
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
CHUNK_ID_BYTES: Final = 16
"""Chunk ids are keyed, so nobody without the key can search for collisions; 128 bits leave accident at 2^-64 for 2^32 chunks."""


def check_suite(number: int) -> int:
    """Return `number` if it is a suite this version knows; raise `PeerError` E-FORMAT otherwise."""
    if number != SUITE_1:
        raise PeerError("E-FORMAT", f"unknown suite {number}")
    return number


def segment_id(suite: int, sealed: bytes | bytearray | memoryview) -> SegmentId:
    """Return the id of a whole sealed segment; anyone can compute it, no key is needed."""
    check_suite(suite)
    return SegmentId("b3-" + blake3(sealed).hexdigest())


def chunk_id(lineage_key: bytes, plaintext: bytes | bytearray | memoryview) -> bytes:
    """Return the 16-byte keyed id of a chunk under its lineage key (suite 1: keyed BLAKE3, truncated)."""
    return blake3(plaintext, key=lineage_key).digest(CHUNK_ID_BYTES)


def derive_key(suite: int, secret: bytes, label: str, context: bytes = b"") -> bytes:
    """Return 32 bytes derived from `secret` (uniform, 32 bytes) for one purpose.

    HKDF-Expand-SHA-256 with info = `carnet/v1` NUL label NUL suite (one byte) context. Extract is skipped since every secret
    here is already uniform (RFC 5869 section 3.3).
    """
    check_suite(suite)
    info = b"carnet/v1\0" + label.encode("ascii") + b"\0" + bytes((suite,)) + context
    return HKDFExpand(hashes.SHA256(), KEY_BYTES, info).derive(secret)
