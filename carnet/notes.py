"""Signed notes: text and signature lines that a person can read and any C2SP tool can check.

Only Ed25519 signatures (type 0x01) are made and checked here; all others are unknown signers and ignored, as the specification
asks. A note says nothing until a trusted key signed it.

Rules:      1. UTF-8, no control character but newline, text ends in newline  2. a known key's bad signature spoils the note
            3. at least one known key signed  4. name and key id together name a key; the id alone is four bytes
Layout:     text LF | for each: U+2014 SP name SP base64(key id[4] || signature) LF
            key id = SHA-256(name LF 01 public key)[:4]; vkey = name "+" hex(key id) "+" base64(01 || public key)
Spec:       docs/statements.md section "Log"; c2sp.org/signed-note@v1.0.0
Example:    >>> NoteKey("example.com/log", SigningKey(bytes(32)).public).format()[:25]
            'example.com/log+1dde4531+'
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from carnet.encoding import decode_base64, encode_base64
from carnet.errors import CallerError, IntegrityError, PeerError
from carnet.keys import SigningKey, VerifyingKey
from carnet.limits import NOTE_BYTES_MAX, SIGNATURES_MAX

ED25519: Final = b"\x01"
KEY_ID_BYTES: Final = 4
_DASH = "\N{EM DASH} "
_NAME_CHARS_MAX = 255
_VKEY_FIELDS = 3


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A key under its note name: what a verifier knows of a signer."""

    name: str
    key: VerifyingKey

    def __post_init__(self) -> None:
        """Refuse a name that the format does not allow (`CallerError` E-NAME)."""
        if not _is_name(self.name):
            raise CallerError("E-NAME", f"not a note key name: {ascii(self.name)[:80]}")

    @property
    def key_id(self) -> bytes:
        """The four bytes before each signature."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.key.raw).digest()[:KEY_ID_BYTES]

    def format(self) -> str:
        """Return the vkey text that configurations carry."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(ED25519 + self.key.raw)}"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, taken apart."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """Text, its final newline included, and signatures. Not to be believed before `verify_note`."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """Return the bytes of the note."""
        lines = (f"{_DASH}{one.name} {encode_base64(one.key_id + one.signature)}\n" for one in self.signatures)
        return f"{self.text}\n{''.join(lines)}".encode()

    def with_signature(self, name: str, key: SigningKey) -> "Note":
        """Return the note with the signature of `key` under `name` added."""
        signer = NoteKey(name, key.public)
        added = NoteSignature(name, signer.key_id, key.sign(self.text.encode()))
        return Note(self.text, (*self.signatures, added))


def parse_vkey(text: str) -> NoteKey:
    """Return the key that a vkey text names; raise `PeerError` E-FORMAT if it is none, not Ed25519, or its key id is wrong."""
    # Base64 may hold "+", a name and a hex id may not: split from the left.
    fields = text.split("+", _VKEY_FIELDS - 1)
    if len(text) > 2 * _NAME_CHARS_MAX or len(fields) != _VKEY_FIELDS or not _is_name(fields[0]):
        raise PeerError("E-FORMAT", "a vkey is name+id+key")
    raw = decode_base64(fields[2])
    if raw[:1] != ED25519:
        raise PeerError("E-FORMAT", f"vkey of {fields[0]} is not for Ed25519 signatures")
    key = NoteKey(fields[0], VerifyingKey(raw[1:]))
    if key.key_id.hex() != fields[1]:
        raise PeerError("E-FORMAT", f"vkey of {fields[0]} has key id {fields[1][:8]}, expected {key.key_id.hex()}")
    return key


def sign_note(text: str, name: str, key: SigningKey) -> Note:
    """Return a note over `text` with one signature; raise `CallerError` E-NAME or `ValueError` for what cannot be a note."""
    if not _is_text(text):
        raise ValueError("a note's text ends in newline and has no other control character")
    return Note(text, ()).with_signature(name, key)


def parse_note(data: bytes) -> Note:
    """Return the note in `data`, unverified; raise `PeerError` E-FORMAT if it is none or larger than NOTE_BYTES_MAX."""
    if len(data) > NOTE_BYTES_MAX:
        raise PeerError("E-FORMAT", f"note of {len(data)} bytes, at most {NOTE_BYTES_MAX} are read")
    try:
        content = data.decode("utf-8")
    except UnicodeDecodeError:
        raise PeerError("E-FORMAT", "a note is UTF-8") from None
    head, blank, tail = content.rpartition("\n\n")
    text = head + "\n"
    if not blank or not tail.endswith("\n") or not _is_text(text):
        raise PeerError("E-FORMAT", "a note is text, an empty line and signature lines, without control characters")
    lines = tail[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise PeerError("E-FORMAT", f"note with {len(lines)} signatures, at most {SIGNATURES_MAX} are read")
    return Note(text, tuple(_parse_line(line) for line in lines))


def verify_note(note: Note, keys: Iterable[NoteKey]) -> tuple[NoteKey, ...]:
    """Return those of `keys` that signed, each once, in the order given; at least one.

    Raises:
        IntegrityError: E-SIGNATURE if a known key's signature is bad, or no known key signed.
    """
    known = tuple(keys)
    message = note.text.encode()
    signed: set[NoteKey] = set()
    for key in known:
        for one in note.signatures:
            if (one.name, one.key_id) != (key.name, key.key_id):
                continue
            if not key.key.is_signature(one.signature, message):
                raise IntegrityError("E-SIGNATURE", f"signature of {key.name} on the note does not verify")
            signed.add(key)
    if not signed:
        raise IntegrityError("E-SIGNATURE", f"none of {len(known)} known keys signed the note")
    return tuple(key for key in known if key in signed)


def _parse_line(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not _is_name(name):
        raise PeerError("E-FORMAT", f"not a signature line: {ascii(line)[:80]}")
    raw = decode_base64(encoded)
    if len(raw) <= KEY_ID_BYTES:
        raise PeerError("E-FORMAT", f"signature line of {name} holds {len(raw)} bytes")
    return NoteSignature(name, raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:])


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _NAME_CHARS_MAX and "+" not in name and not any(c.isspace() or c < " " for c in name)


def _is_text(text: str) -> bool:
    return text.endswith("\n") and all(c >= " " or c == "\n" for c in text)
