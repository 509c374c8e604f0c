"""Keys as values: Ed25519 to sign, X-Wing (ML-KEM-768 with X25519) to wrap, and their one-line file form.

A private key is its 32-byte seed and nothing else, so one line holds it. Nothing here knows whose key it is; the trust bundle and
the site's statements say that.

Rules:      1. no secret appears in a repr or an error  2. a key object exists only if its bytes are a key
            3. secrets are compared in constant time  4. everything a wrap must be bound to is in `info`
Layout:     KEM public key = ML-KEM-768 public key (1184) || X25519 public key (32); wrapped = HPKE enc (1120) || sealed secret
Spec:       docs/statements.md section "Keys"; RFC 8032; RFC 9180; draft-connolly-cfrg-xwing-kem (seed expansion by SHAKE-256)
Example:    >>> SigningKey(bytes(32)).public.keyid
            '139e3940e64b5491722088d9a0d74162'
"""

import hashlib
import hmac
from typing import Annotated, Final, Self, TypeAlias, TypeVar

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import PlainSerializer, PlainValidator

from carnet.encoding import decode_base64, encode_base64
from carnet.errors import IntegrityError, PeerError
from carnet.identifiers import TransferId
from carnet.suites import derive_key

SEED_BYTES: Final = 32
SIGNING_PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
KEM_PUBLIC_BYTES: Final = 1216
WRAP_OVERHEAD_BYTES: Final = 1136
"""What wrapping adds: 1120 bytes of HPKE encapsulation and the AEAD tag of 16."""

_MLKEM_PUBLIC_BYTES = 1184
_KEYID_BYTES = 16
# Points of order 1, 2, 4 and 8 in every encoding, sign bit cleared. Under such a key anyone can sign anything, so one person
# could make an approval that nobody can be held to; RFC 8032 leaves the check to the protocol.
_SMALL_ORDER = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
_Public = TypeVar("_Public", "VerifyingKey", "KemPublicKey")
_HPKE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def key_id(raw: bytes) -> str:
    """Return the id of a public key: the first 16 bytes of the SHA-256 of its raw form, in hex."""
    return hashlib.sha256(raw).digest()[:_KEYID_BYTES].hex()


class VerifyingKey:
    """An Ed25519 public key: `raw` is its 32 bytes, `keyid` its id. Equal by value; immutable by convention."""

    __slots__ = ("_key", "keyid", "raw")

    def __init__(self, raw: bytes) -> None:
        """Take the 32 raw bytes; raise `PeerError` E-FORMAT if they are not 32, or a point that signs for everyone."""
        if len(raw) != SIGNING_PUBLIC_BYTES:
            raise PeerError("E-FORMAT", f"Ed25519 public key of {len(raw)} bytes, expected {SIGNING_PUBLIC_BYTES}")
        if bytes((*raw[:-1], raw[-1] & 0x7F)) in _SMALL_ORDER:
            raise PeerError("E-FORMAT", "Ed25519 public key of small order")
        self.raw = bytes(raw)
        self.keyid = key_id(self.raw)
        self._key = Ed25519PublicKey.from_public_bytes(self.raw)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Return the key that 64 lower-case hex digits name; raise `PeerError` E-FORMAT otherwise."""
        return cls(_from_hex(text, SIGNING_PUBLIC_BYTES))

    @property
    def hex(self) -> str:
        """The raw key as documents carry it."""
        return self.raw.hex()

    def is_signature(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` (64 bytes) over `message` is by this key."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyingKey) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"VerifyingKey({self.keyid})"


class SigningKey:
    """An Ed25519 private key, held as its seed; `public` is its other half."""

    __slots__ = ("_key", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        """Take the 32-byte seed of RFC 8032; raise `PeerError` E-FORMAT if it is not 32 bytes."""
        _check_seed(seed)
        self.seed = bytes(seed)
        self._key = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = VerifyingKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""
        return self._key.sign(message)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SigningKey) and hmac.compare_digest(self.seed, other.seed)

    __hash__ = None  # type: ignore[assignment]  # a secret is no dictionary key

    def __repr__(self) -> str:
        return f"SigningKey({self.public.keyid})"


class KemPublicKey:
    """An X-Wing public key: `raw` is its 1216 bytes, `digest` the SHA-256 that binds it into a release."""

    __slots__ = ("_key", "digest", "keyid", "raw")

    def __init__(self, raw: bytes) -> None:
        """Take the raw form; raise `PeerError` E-FORMAT if it is no key (length, or ML-KEM's modulus check)."""
        if len(raw) != KEM_PUBLIC_BYTES:
            raise PeerError("E-FORMAT", f"X-Wing public key of {len(raw)} bytes, expected {KEM_PUBLIC_BYTES}")
        self.raw = bytes(raw)
        self.digest = hashlib.sha256(self.raw).hexdigest()
        self.keyid = key_id(self.raw)
        try:
            lattice = mlkem.MLKEM768PublicKey.from_public_bytes(self.raw[:_MLKEM_PUBLIC_BYTES])
        except ValueError:
            raise PeerError("E-FORMAT", "not an ML-KEM-768 public key") from None
        curve = x25519.X25519PublicKey.from_public_bytes(self.raw[_MLKEM_PUBLIC_BYTES:])
        self._key = hpke.MLKEM768X25519PublicKey(lattice, curve)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Return the key that 2432 lower-case hex digits name; raise `PeerError` E-FORMAT otherwise."""
        return cls(_from_hex(text, KEM_PUBLIC_BYTES))

    @property
    def hex(self) -> str:
        """The raw key as documents carry it."""
        return self.raw.hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KemPublicKey) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"KemPublicKey({self.keyid})"


class KemPrivateKey:
    """An X-Wing private key, held as its 32-byte seed only."""

    __slots__ = ("_key", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        """Expand the seed as the X-Wing draft does; raise `PeerError` E-FORMAT if it is not 32 bytes."""
        _check_seed(seed)
        self.seed = bytes(seed)
        expanded = hashlib.shake_256(self.seed).digest(96)
        lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        curve = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
        self._key = hpke.MLKEM768X25519PrivateKey(lattice, curve)
        self.public = KemPublicKey(lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KemPrivateKey) and hmac.compare_digest(self.seed, other.seed)

    __hash__ = None  # type: ignore[assignment]  # a secret is no dictionary key

    def __repr__(self) -> str:
        return f"KemPrivateKey({self.public.keyid})"


PrivateKey: TypeAlias = SigningKey | KemPrivateKey
PublicKey: TypeAlias = VerifyingKey | KemPublicKey


def wrap(public: KemPublicKey, secret: bytes, info: bytes) -> bytes:
    """Return `secret` sealed to `public` by HPKE base mode under `info`; draws its own randomness.

    Raises:
        PeerError: E-FORMAT if the recipient's X25519 half is a low-order point.
    """
    try:
        return _HPKE.encrypt(secret, public._key, info)  # noqa: SLF001 - same module, the key object stays inside it
    except ValueError:
        raise PeerError("E-FORMAT", f"nothing can be wrapped to key {public.keyid}") from None


def unwrap(private: KemPrivateKey, wrapped: bytes, info: bytes) -> bytes:
    """Return the secret that `wrap` sealed to this key under the same `info`.

    Raises:
        IntegrityError: E-KEY-RELEASE if key, info or any byte differs; the three look the same.
    """
    try:
        return _HPKE.decrypt(wrapped, private._key, info)  # noqa: SLF001 - same module
    except (InvalidTag, ValueError):
        raise IntegrityError("E-KEY-RELEASE", f"key {private.public.keyid} does not unwrap this secret") from None


def key_commitment(suite: int, artifact_key: bytes, transfer: TransferId) -> bytes:
    """Return the 32 public bytes that commit a packing list to `artifact_key` for `transfer`."""
    return derive_key(suite, artifact_key, "key-commitment", transfer.raw)


_PRIVATE_PREFIXES: Final[dict[str, type[PrivateKey]]] = {
    "carnet-signing-key-1:": SigningKey,
    "carnet-kem-key-1:": KemPrivateKey,
}
_PUBLIC_PREFIXES: Final[dict[str, type[PublicKey]]] = {
    "carnet-signing-public-1:": VerifyingKey,
    "carnet-kem-public-1:": KemPublicKey,
}
_KEY_LINE_CHARS_MAX = 2_000


def encode_private_key(key: PrivateKey) -> str:
    """Return the one line, newline included, that a key file holds. It is the secret itself."""
    prefix = next(prefix for prefix, kind in _PRIVATE_PREFIXES.items() if isinstance(key, kind))
    return f"{prefix}{encode_base64(key.seed)}\n"


def parse_private_key(text: str) -> PrivateKey:
    """Return the key of a key file's line; raise `PeerError` E-FORMAT, never showing the text, if it is none."""
    for prefix, kind in _PRIVATE_PREFIXES.items():
        if text.startswith(prefix):
            return kind(_decode_line(text, prefix))
    raise PeerError("E-FORMAT", f"not a private key file of ours ({len(text)} characters)")


def encode_public_key(key: PublicKey) -> str:
    """Return the one line, newline included, that a public key file holds."""
    prefix = next(prefix for prefix, kind in _PUBLIC_PREFIXES.items() if isinstance(key, kind))
    return f"{prefix}{encode_base64(key.raw)}\n"


def parse_public_key(text: str) -> PublicKey:
    """Return the key of a public key file's line; raise `PeerError` E-FORMAT if it is none."""
    for prefix, kind in _PUBLIC_PREFIXES.items():
        if text.startswith(prefix):
            return kind(_decode_line(text, prefix))
    raise PeerError("E-FORMAT", f"not a public key file of ours ({len(text)} characters)")


def _decode_line(text: str, prefix: str) -> bytes:
    if len(text) > _KEY_LINE_CHARS_MAX:
        raise PeerError("E-FORMAT", f"key line of {len(text)} characters, at most {_KEY_LINE_CHARS_MAX} are read")
    return decode_base64(text[len(prefix) :].removesuffix("\n"))


def _check_seed(seed: bytes) -> None:
    if len(seed) != SEED_BYTES:
        raise PeerError("E-FORMAT", f"key seed of {len(seed)} bytes, expected {SEED_BYTES}")


def _from_hex(text: str, size: int) -> bytes:
    """Return `size` bytes from lower-case hex; `bytes.fromhex` alone would take spaces and capitals."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != size or raw.hex() != text:
        raise PeerError("E-FORMAT", f"a key is {2 * size} lower-case hex digits, got {len(text)} characters")
    return raw


def _verifying_key(value: object) -> VerifyingKey:
    return value if isinstance(value, VerifyingKey) else _field(VerifyingKey, value)


def _kem_public_key(value: object) -> KemPublicKey:
    return value if isinstance(value, KemPublicKey) else _field(KemPublicKey, value)


def _field(kind: type[_Public], value: object) -> _Public:
    if not isinstance(value, str):
        raise ValueError("a key is hex text")  # noqa: TRY004 - pydantic reports ValueError as a bad field
    try:
        return kind.from_hex(value)
    except PeerError as error:
        raise ValueError(error.problem) from None


VerifyingKeyField = Annotated[VerifyingKey, PlainValidator(_verifying_key), PlainSerializer(lambda key: key.hex, return_type=str)]
"""A field of a statement: an Ed25519 public key, hex on the wire."""
KemPublicKeyField = Annotated[
    KemPublicKey, PlainValidator(_kem_public_key), PlainSerializer(lambda key: key.hex, return_type=str)
]
"""A field of a statement: an X-Wing public key, hex on the wire."""
