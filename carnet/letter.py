"""The letter: a message between the two ends of a passage, signed inside, sealed for the far site, padded; relays carry it.

HPKE gives secrecy and ties the letter to its place: moved to another passage, direction or number it does not open. Who wrote it
is proved by the signature inside, never by the seal.

Rules:      1. `info` names suite, transfer, passage, both ends, direction, number and key  2. the plaintext is the
            signed envelope, its length before it, zeros up to the padded length  3. the signed letter
            names the place again  4. the writer's site key signed it
Layout:     magic "CLTR" | version 1 | suite u8 | key number u32 | HPKE enc || ciphertext
            plaintext = length u32 | envelope (JSON) | zeros; padded to 4 KiB at least, then Padme
Spec:       docs/statements.md section "Letter"; RFC 9180
Example:    >>> padded_length(10), padded_length(5_000)
            (4096, 5120)
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from carnet.envelope import parse_envelope
from carnet.errors import CapacityError, IntegrityError, PeerError
from carnet.identifiers import PassageId, SiteName, TransferId
from carnet.keys import WRAP_OVERHEAD_BYTES, KemPrivateKey, KemPublicKey, SigningKey, VerifyingKey, unwrap, wrap
from carnet.limits import KIB, LETTER_BYTES_MAX
from carnet.padding import padme
from carnet.release import join_info
from carnet.statement import Count, Statement
from carnet.suites import SUITE_1, check_suite

LETTER_LABEL: Final = b"carnet/letter/v1"
_MAGIC: Final = b"CLTR"
_VERSION: Final = 1
_HEADER: Final = struct.Struct(">4sBBI")
_LENGTH: Final = struct.Struct(">I")
_PADDED_BYTES_MIN: Final = 4 * KIB


class Direction(StrEnum):
    """Which way a letter goes: from the origin of the passage, or back to it."""

    ONWARD = "onward"
    BACK = "back"


class LetterKind(StrEnum):
    """What the body is: `docs/protocol.md`, section "Over relays", says which message."""

    DECLARE = "declare"
    COMMIT = "commit"
    MESSAGE = "message"
    ANSWER = "answer"
    TAKEN = "taken"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a letter belongs: it opens there and nowhere else."""

    transfer: TransferId
    passage: PassageId
    sender: SiteName
    recipient: SiteName
    direction: Direction
    number: int

    def info(self, suite: int, key_digest: str) -> bytes:
        """Return what the seal is bound to (rule 1)."""
        return join_info(
            LETTER_LABEL,
            bytes((check_suite(suite),)),
            self.transfer.raw,
            self.passage.raw,
            self.sender.encode("ascii"),
            self.recipient.encode("ascii"),
            self.direction.encode("ascii"),
            self.number.to_bytes(8, "big"),
            bytes.fromhex(key_digest),
        )


class Letter(Statement):
    """The signed inside: `body` is the JSON of the message that `kind` names, `answers` the letter that it replies to."""

    payload_type: ClassVar[str] = "application/vnd.carnet.letter.v1+json"

    transfer: TransferId
    passage: PassageId
    sender: SiteName
    recipient: SiteName
    direction: Direction
    number: Count
    kind: LetterKind
    answers: Count | None = None
    body: Annotated[str, Field(max_length=LETTER_BYTES_MAX)]

    @classmethod
    def at(cls, place: Place, kind: LetterKind, body: bytes = b"", *, answers: int | None = None) -> "Letter":
        """Return the letter for `place`."""
        return cls(
            transfer=place.transfer,
            passage=place.passage,
            sender=place.sender,
            recipient=place.recipient,
            direction=place.direction,
            number=place.number,
            kind=kind,
            answers=answers,
            body=body.decode("utf-8"),
        )

    @property
    def place(self) -> Place:
        """Where it says that it belongs."""
        return Place(
            transfer=self.transfer,
            passage=self.passage,
            sender=self.sender,
            recipient=self.recipient,
            direction=self.direction,
            number=self.number,
        )


def padded_length(length: int) -> int:
    """Return the plaintext length, in bytes, of a letter whose length field and envelope are `length` bytes."""
    return max(_PADDED_BYTES_MIN, padme(length))


def seal_letter(letter: Letter, key: SigningKey, *, number: int, public: KemPublicKey) -> bytes:
    """Return `letter`, signed by `key`, sealed to the recipient's KEM key `number`; draws its own randomness.

    Raises:
        CapacityError: E-LIMIT letter_bytes_max if it is too large to be carried.
    """
    envelope = letter.sign(key).encode()
    if len(envelope) + _LENGTH.size > LETTER_BYTES_MAX:
        raise CapacityError("E-LIMIT", f"a letter of {len(envelope)} bytes is too large for a relay", limit="letter_bytes_max")
    plain = _LENGTH.pack(len(envelope)) + envelope
    plain += bytes(padded_length(len(plain)) - len(plain))
    sealed = wrap(public, plain, letter.place.info(SUITE_1, public.digest))
    return _HEADER.pack(_MAGIC, _VERSION, SUITE_1, number) + sealed


def open_letter(sealed: bytes, place: Place, *, key: Callable[[int], KemPrivateKey], writer: VerifyingKey) -> Letter:
    """Return the letter in `sealed`, for `place`; `key` gives our KEM key of a number, `writer` is the sender's site key.

    Steps: (1) header and bounds; (2) unseal for this place; (3) length and padding are exact; (4) the writer signed; (5) the
    letter says the same of its place.

    Raises:
        IntegrityError: E-LETTER if it was made for another place or key, or was changed; E-SIGNATURE if another site wrote it.
        PeerError: E-FORMAT. NotFound: the KEM key is destroyed.
    """
    if not _HEADER.size + WRAP_OVERHEAD_BYTES <= len(sealed) <= _HEADER.size + WRAP_OVERHEAD_BYTES + 2 * LETTER_BYTES_MAX:
        raise PeerError("E-FORMAT", f"a letter of {len(sealed)} bytes")
    magic, version, suite, number = _HEADER.unpack_from(sealed)  # (1)
    if (magic, version, suite) != (_MAGIC, _VERSION, SUITE_1):
        raise PeerError("E-FORMAT", "not a letter of version 1, suite 1")
    private = key(number)
    try:
        plain = unwrap(private, sealed[_HEADER.size :], place.info(suite, private.public.digest))  # (2)
    except IntegrityError:
        raise IntegrityError("E-LETTER", _what(place, "was changed, or made for another place")) from None
    envelope = parse_envelope(_unpadded(plain, place), bytes_max=LETTER_BYTES_MAX)
    letter = Letter.open(envelope, [writer])  # (4)
    if letter.place != place:  # (5)
        raise IntegrityError("E-LETTER", _what(place, "was written for another place"))
    return letter


def _unpadded(plain: bytes, place: Place) -> bytes:
    """Return the envelope in the padded plaintext (step 3)."""
    length = _LENGTH.unpack_from(plain)[0] + _LENGTH.size if len(plain) >= _LENGTH.size else len(plain) + 1
    if length > len(plain) or len(plain) != padded_length(length) or any(plain[length:]):
        raise IntegrityError("E-LETTER", _what(place, "is not padded as it should be"))
    return plain[_LENGTH.size : length]


def _what(place: Place, problem: str) -> str:
    return f"letter {place.number} {place.direction} of passage {place.passage} {problem}"
