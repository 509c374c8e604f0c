"""Log entries: what happened and when in the clear, to what and by whom only as salted commitments.

A log is copied to peers and kept for good, so it must not say what a region may not tell or must forget. The site keeps salts
and values; it shows one to whom it likes, and erases it by forgetting the salt. The tree never changes.

Rules:      1. an entry is canonical JSON of at most LOG_ENTRY_BYTES_MAX  2. each field has a salt of its own, 32 random bytes
            3. commitment = HMAC-SHA-256(salt, canonical JSON of the value), compared in constant time
Layout:     {"at": time, "commit": {field: hex}, "type": entry type, "v": 1}
Spec:       docs/statements.md section "Log entries"; RFC 2104; RFC 8785
Example:    >>> commitment(bytes(32), "eu").hex()[:16]
            'b2e613faabe26ae6'
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from carnet.encoding import JsonValue, canonical
from carnet.errors import IntegrityError, PeerError
from carnet.limits import LOG_ENTRY_BYTES_MAX
from carnet.merkle import leaf_hash
from carnet.statement import Hex32, WireModel, Word, parse_model
from carnet.timestamps import Timestamp

SALT_BYTES: Final = 32
_FIELDS_MAX = 40


class EntryType(StrEnum):
    """What can happen at a site; the only words of an entry that everyone may read."""

    SITE_CREATED = "site-created"
    TRUST_IMPORTED = "trust-imported"
    POLICY_CHANGED = "policy-changed"
    LICENCE_RECORDED = "licence-recorded"
    LICENCE_WITHDRAWN = "licence-withdrawn"
    LICENCE_DEBITED = "licence-debited"
    LICENCE_CREDITED = "licence-credited"
    ATTESTATION_RECORDED = "attestation-recorded"
    ATTESTATION_WITHDRAWN = "attestation-withdrawn"
    DUTY_MADE = "duty-made"
    DUTY_DONE = "duty-done"
    KEM_KEY_ISSUED = "kem-key-issued"
    KEM_KEY_DESTROYED = "kem-key-destroyed"
    AGENT_INVITED = "agent-invited"
    AGENT_ENROLLED = "agent-enrolled"
    AGENT_RENEWED = "agent-renewed"
    AGENT_GRANTED = "agent-granted"
    AGENT_REVOKED = "agent-revoked"
    PERSON_REVOKED = "person-revoked"
    KEY_REVOKED = "key-revoked"
    TRANSFER_DECLARED = "transfer-declared"
    TRANSFER_RECEIVED = "transfer-received"
    TRANSFER_INSPECTED = "transfer-inspected"
    TRANSFER_ENDED = "transfer-ended"
    TRANSFER_RECALLED = "transfer-recalled"
    RECALL_RECEIVED = "recall-received"
    DECISION_OFFER = "decision-offer"
    DECISION_RELEASE = "decision-release"
    DECISION_RECEIPT = "decision-receipt"
    DECISION_RECHECK = "decision-recheck"
    APPROVAL_RECEIVED = "approval-received"
    SEGMENTS_SENT = "segments-sent"
    RECEIPT_STORED = "receipt-stored"
    RECEIPT_DELIVERED = "receipt-delivered"
    RECEIPT_DELETED = "receipt-deleted"
    RECEIPT_RECEIVED = "receipt-received"
    KEY_REWRAPPED = "key-rewrapped"
    KEY_RELEASED = "key-released"
    KEY_UNWRAPPED = "key-unwrapped"
    KEY_REFUSED = "key-refused"
    REWRAP_ASKED = "rewrap-asked"
    ARTIFACT_VISIBLE = "artifact-visible"
    ARTIFACT_DELETED = "artifact-deleted"
    STORE_CHECKED = "store-checked"
    SLIP_SIGNED = "slip-signed"
    SLIP_TAKEN = "slip-taken"
    SEGMENTS_RECEIVED = "segments-received"
    SEGMENTS_DELETED = "segments-deleted"
    PASSAGE_ENDED = "passage-ended"
    ALARM = "alarm"


class LogEntry(WireModel):
    """An entry as the log holds it."""

    v: Literal[1] = 1
    type: EntryType
    at: Timestamp
    commit: Annotated[dict[Word, Hex32], Field(max_length=_FIELDS_MAX)]


@dataclass(frozen=True, slots=True)
class LogEvent:
    """What happened, before it is committed to: type, time (text) and the values of its fields, which stay at the site."""

    type: EntryType
    at: str
    fields: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opening:
    """The salt and value behind one commitment: whoever has it can check it, whoever has not learns nothing."""

    salt: bytes
    value: JsonValue

    def __repr__(self) -> str:
        return "Opening()"


@dataclass(frozen=True, slots=True)
class CommittedEntry:
    """An entry ready for the log, and the openings that the site keeps."""

    entry: bytes
    leaf_hash: bytes
    openings: Mapping[str, Opening]


def commitment(salt: bytes, value: JsonValue) -> bytes:
    """Return the 32 bytes that commit to `value` under `salt` (32 bytes, else `ValueError`)."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt of {len(salt)} bytes, expected {SALT_BYTES}")
    return hmac.digest(salt, canonical(value), hashlib.sha256)


def commit_event(event: LogEvent, salts: Callable[[], bytes]) -> CommittedEntry:
    """Return the entry for `event`; `salts` gives 32 fresh random bytes at each call.

    Raises:
        PeerError: E-FORMAT if a field's name or value has no place in an entry, or the entry would be too long.
    """
    openings = {name: Opening(salts(), value) for name, value in event.fields.items()}
    commit = {name: commitment(opening.salt, opening.value).hex() for name, opening in openings.items()}
    entry = canonical({"v": 1, "type": event.type.value, "at": event.at, "commit": commit})
    parse_entry(entry)
    return CommittedEntry(entry, leaf_hash(entry), openings)


def parse_entry(data: bytes) -> LogEntry:
    """Return the entry in `data`; raise `PeerError` E-FORMAT if it is too long, of an unknown form, or not canonical."""
    entry = parse_model(LogEntry, data, bytes_max=LOG_ENTRY_BYTES_MAX)
    if entry.encode() != data:
        raise PeerError("E-FORMAT", "log entry is not in canonical form")
    return entry


def check_opening(entry: LogEntry, name: str, salt: bytes, value: JsonValue) -> None:
    """Return if `entry` commits, in the field `name`, to `value` under `salt`; raise `IntegrityError` E-PROOF otherwise."""
    committed = entry.commit.get(name)
    if committed is None:
        raise IntegrityError("E-PROOF", f"the {entry.type} entry has no field {ascii(name)[:60]}")
    if len(salt) != SALT_BYTES or not hmac.compare_digest(commitment(salt, value).hex(), committed):
        raise IntegrityError("E-PROOF", f"the {entry.type} entry does not commit to this value of {name}")
