"""The envelope: DSSE v1, the one way anything is signed here.

It authenticates payload type and payload bytes, nothing else. It refuses to know what a payload means; `statement` does.

Rules:      1. what is verified is the bytes that are then parsed  2. distinct keys are counted, not signatures
            3. an unknown signer is ignored; a known key with a bad signature spoils the envelope
            4. a key id is a hint to find a key, never proof of one
Layout:     signed bytes = "DSSEv1" SP len(type) SP type SP len(payload) SP payload (lengths decimal ASCII)
            JSON = {"payload": base64, "payloadType": text, "signatures": [{"keyid": text, "sig": base64}]}
Spec:       docs/statements.md section "Envelopes"; DSSE protocol.md 1.0 (we accept standard base64 only)
Example:    >>> pae("http://example.com/HelloWorld", b"hello world")
            b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from carnet.encoding import JsonValue, canonical, decode_base64, encode_base64, parse_json
from carnet.errors import IntegrityError, PeerError
from carnet.keys import SigningKey, VerifyingKey
from carnet.limits import SIGNATURES_MAX, STATEMENT_BYTES_MAX

_TYPE_CHARS_MAX = 255
_KEYID_CHARS_MAX = 255
_SIG_CHARS_MAX = 10_000

Keys: TypeAlias = Mapping[str, VerifyingKey] | Iterable[VerifyingKey]
"""The keys a verifier trusts for one purpose; a mapping's own key names are not used."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature and the hint whose it is; an empty `keyid` means no hint was given."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload, its type and the signatures over both. Nothing in it is true until `verify` returned."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """Return the JSON form, to be put inside a larger document."""
        return {
            "payload": encode_base64(self.payload),
            "payloadType": self.payload_type,
            "signatures": [
                {"sig": encode_base64(one.sig)} | ({"keyid": one.keyid} if one.keyid else {}) for one in self.signatures
            ],
        }

    def encode(self) -> bytes:
        """Return the canonical JSON bytes."""
        return canonical(self.to_json())

    def with_signature(self, key: SigningKey) -> "Envelope":
        """Return this envelope with the signature of `key` added, or as it is if `key` has signed already."""
        if any(one.keyid == key.public.keyid for one in self.signatures):
            return self
        added = Signature(key.public.keyid, key.sign(pae(self.payload_type, self.payload)))
        return Envelope(self.payload_type, self.payload, (*self.signatures, added))


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, key: SigningKey) -> Envelope:
    """Return a new envelope with one signature."""
    return Envelope(payload_type, payload, ()).with_signature(key)


def parse_envelope(source: bytes | JsonValue, *, bytes_max: int = STATEMENT_BYTES_MAX) -> Envelope:
    """Return the envelope in `source` (JSON bytes, or the value of a field), unverified.

    Raises:
        PeerError: E-FORMAT if it is larger than `bytes_max`, or not exactly the JSON form of this file's head.
    """
    value = parse_json(source, bytes_max=bytes_max) if isinstance(source, bytes) else source
    if not isinstance(value, Mapping) or set(value) != {"payload", "payloadType", "signatures"}:
        raise PeerError("E-FORMAT", "an envelope has payload, payloadType and signatures, and nothing else")
    signatures = value["signatures"]
    if not isinstance(signatures, list | tuple) or len(signatures) > SIGNATURES_MAX:
        raise PeerError("E-FORMAT", f"an envelope has a list of at most {SIGNATURES_MAX} signatures")
    # The base64 of a payload is a third longer than the payload: bounded here too, for a value that was parsed elsewhere.
    payload = _text(value["payload"], "payload", bytes_max)
    return Envelope(
        _text(value["payloadType"], "payloadType", _TYPE_CHARS_MAX),
        decode_base64(payload),
        tuple(_parse_signature(one) for one in signatures),
    )


def verify(envelope: Envelope, *, payload_type: str, keys: Keys, threshold: int = 1) -> tuple[str, ...]:
    """Return the ids, sorted, of the distinct `keys` that signed; at least `threshold` of them.

    Steps: (1) the payload type is the expected one; (2) each signature whose key id names one of `keys` verifies; one without a
    key id is tried against every key; (3) distinct keys reach the threshold.

    Raises:
        PeerError: E-FORMAT if the payload type is another.
        IntegrityError: E-SIGNATURE if a known key's signature is bad, or too few known keys signed.
    """
    if threshold < 1:
        raise ValueError("a threshold below one would accept what nobody signed")
    known = {key.keyid: key for key in (keys.values() if isinstance(keys, Mapping) else keys)}
    if envelope.payload_type != payload_type:  # (1)
        raise PeerError("E-FORMAT", f"payload type {ascii(envelope.payload_type)[:80]}, expected {payload_type}")
    message = pae(envelope.payload_type, envelope.payload)
    signed: set[str] = set()
    for one in envelope.signatures:  # (2)
        if not one.keyid:
            signed.update(key.keyid for key in known.values() if key.is_signature(one.sig, message))
        elif one.keyid in known:
            if not known[one.keyid].is_signature(one.sig, message):
                raise IntegrityError("E-SIGNATURE", f"signature of key {one.keyid} on {payload_type} does not verify")
            signed.add(one.keyid)
    if len(signed) < threshold:  # (3)
        raise IntegrityError("E-SIGNATURE", f"{payload_type} is signed by {len(signed)} known keys, expected {threshold}")
    return tuple(sorted(signed))


def _parse_signature(value: JsonValue) -> Signature:
    if not isinstance(value, Mapping) or not {"sig"} <= set(value) <= {"sig", "keyid"}:
        raise PeerError("E-FORMAT", "a signature has sig and perhaps keyid, and nothing else")
    keyid = _text(value.get("keyid", ""), "keyid", _KEYID_CHARS_MAX)
    return Signature(keyid, decode_base64(_text(value["sig"], "sig", _SIG_CHARS_MAX)))


def _text(value: JsonValue, name: str, chars_max: int) -> str:
    if not isinstance(value, str) or len(value) > chars_max:
        raise PeerError("E-FORMAT", f"{name} of an envelope is text of at most {chars_max} characters")
    return value
