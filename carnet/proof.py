"""The entry proof: one log entry, shown to be under a signed checkpoint, with the values behind its commitments.

A peer acts on a step only with this in hand, and an auditor checks it years later with nothing but the log's key.

Rules:      1. the log's key signed the checkpoint  2. the entry's hash is in the tree of that checkpoint at that index
            3. each opening shown is right  4. only then is the entry read
Layout:     JSON {checkpoint: note, entry: base64, hashes: [base64], index, openings: {field: {salt: hex, value}}};
            or the C2SP tlog-proof text, whose extra data is canonical JSON {entry, openings}
Spec:       docs/statements.md section "Entry proof"; c2sp.org/tlog-proof@v1
Example:    >>> parse_tlog_proof(b"c2sp.org/tlog-proof@v2")
            Traceback (most recent call last):
            carnet.errors.PeerError: not a c2sp.org/tlog-proof@v1 with our extra data [E-FORMAT]
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, cast

from pydantic import AfterValidator, Field, JsonValue

from carnet import encoding
from carnet.checkpoint import Checkpoint, open_checkpoint
from carnet.encoding import canonical, decode_base64, encode_base64, parse_object
from carnet.entries import CommittedEntry, EntryType, LogEntry, Opening, check_opening, parse_entry
from carnet.errors import IntegrityError, PeerError
from carnet.keys import VerifyingKey
from carnet.limits import LOG_ENTRY_BYTES_MAX, NOTE_BYTES_MAX, STATEMENT_BYTES_MAX
from carnet.merkle import leaf_hash, verify_inclusion
from carnet.statement import Base64Text, Count, Hex32, WireModel, Word, parse_model

PROOF_HASHES_MAX: Final = 63
_FIELDS_MAX = 40
_HASH_CHARS = 44
_ENTRY_CHARS_MAX = (LOG_ENTRY_BYTES_MAX + 2) // 3 * 4
_HEAD = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})", re.ASCII)
_HEAD_LINES = 3


def _check_value(value: JsonValue) -> JsonValue:
    try:
        canonical(cast("encoding.JsonValue", value))
    except PeerError as error:
        raise ValueError(error.problem) from None
    return value


class OpeningModel(WireModel):
    """An opening on the wire."""

    salt: Hex32
    value: Annotated[JsonValue, AfterValidator(_check_value)] = None

    def __repr__(self) -> str:
        return "OpeningModel()"


class EntryProof(WireModel):
    """The wire form. `openings` shows what the maker chose to show, perhaps nothing."""

    entry: Annotated[Base64Text, Field(max_length=_ENTRY_CHARS_MAX)]
    index: Count
    hashes: Annotated[tuple[Annotated[Base64Text, Field(max_length=_HASH_CHARS)], ...], Field(max_length=PROOF_HASHES_MAX)]
    checkpoint: Annotated[str, Field(max_length=NOTE_BYTES_MAX)]
    openings: Annotated[dict[Word, OpeningModel], Field(max_length=_FIELDS_MAX)] = Field(default_factory=dict)

    @classmethod
    def make(
        cls,
        committed: CommittedEntry,
        index: int,
        hashes: Sequence[bytes],
        checkpoint: bytes,
        *,
        show: Sequence[str] | None = None,
    ) -> "EntryProof":
        """Return the proof for `committed` at `index`, with its inclusion `hashes` and the signed `checkpoint` note.

        `show` names the fields whose values are opened; all of them if it is None.
        """
        names = committed.openings.keys() if show is None else show
        return cls(
            entry=encode_base64(committed.entry),
            index=index,
            hashes=tuple(encode_base64(one) for one in hashes),
            checkpoint=checkpoint.decode("utf-8"),
            openings={name: _to_model(committed.openings[name]) for name in names},
        )


@dataclass(frozen=True, slots=True)
class VerifiedEntry:
    """An entry that `verify_entry_proof` found to be in the log; `values` are those whose openings were shown and right."""

    entry: LogEntry
    index: int
    checkpoint: Checkpoint
    values: Mapping[str, encoding.JsonValue]

    def require(self, kind: EntryType, values: Mapping[str, encoding.JsonValue]) -> None:
        """Return if the entry is of `kind` and commits to each of `values`.

        Raises:
            IntegrityError: E-PROOF if it is another kind, or a value was not shown or is another.
        """
        if self.entry.type is not kind:
            raise IntegrityError("E-PROOF", f"log entry {self.index} is {self.entry.type}, expected {kind}")
        for name, value in values.items():
            # Compared as canonical bytes: in Python, True equals 1 and a list differs from a tuple.
            if name not in self.values or canonical(self.values[name]) != canonical(value):
                raise IntegrityError("E-PROOF", f"log entry {self.index} does not show the expected {name}")


def verify_entry_proof(proof: EntryProof, *, log_origin: str, key: VerifyingKey) -> VerifiedEntry:
    """Return the entry of `proof` after the steps of rules 1 to 4, for the log `log_origin` that signs with `key`.

    Raises:
        IntegrityError: E-SIGNATURE for the checkpoint's signature, E-PROOF for the rest.
        PeerError: E-FORMAT if a part has no valid form.
    """
    checkpoint = open_checkpoint(proof.checkpoint.encode("utf-8"), origin=log_origin, key=key)  # (1)
    data = decode_base64(proof.entry)
    hashes = [decode_base64(one) for one in proof.hashes]
    verify_inclusion(leaf_hash(data), proof.index, checkpoint.size, hashes, checkpoint.root)  # (2)
    entry = parse_entry(data)
    values: dict[str, encoding.JsonValue] = {}
    for name, shown in proof.openings.items():  # (3)
        value = cast("encoding.JsonValue", shown.value)
        check_opening(entry, name, bytes.fromhex(shown.salt), value)
        values[name] = value
    return VerifiedEntry(entry, proof.index, checkpoint, values)  # (4)


def encode_tlog_proof(proof: EntryProof) -> bytes:
    """Return `proof` as a `.tlog-proof` file, which other tools read too."""
    whole = proof.to_json()
    extra = encode_base64(canonical({"entry": whole["entry"], "openings": whole["openings"]}))
    head = [_HEAD, f"extra {extra}", f"index {proof.index}", *proof.hashes]
    return ("\n".join(head) + "\n\n" + proof.checkpoint).encode("utf-8")


def parse_tlog_proof(data: bytes) -> EntryProof:
    """Return the proof in a `.tlog-proof` file of ours; raise `PeerError` E-FORMAT for any other."""
    refusal = PeerError("E-FORMAT", f"not a {_HEAD} with our extra data")
    try:
        content = data.decode("utf-8") if len(data) <= STATEMENT_BYTES_MAX else ""
    except UnicodeDecodeError:
        raise refusal from None
    head, _, checkpoint = content.partition("\n\n")
    lines = head.split("\n")
    index = _INDEX.fullmatch(lines[2]) if len(lines) >= _HEAD_LINES else None
    if index is None or lines[0] != _HEAD or not lines[1].startswith("extra "):
        raise refusal
    extra = parse_object(decode_base64(lines[1].removeprefix("extra ")), bytes_max=STATEMENT_BYTES_MAX)
    fields: dict[str, encoding.JsonValue] = {"index": int(index[1]), "hashes": lines[_HEAD_LINES:], "checkpoint": checkpoint}
    if extra.keys() & fields.keys():
        raise refusal
    return parse_model(EntryProof, {**extra, **fields})


def _to_model(opening: Opening) -> OpeningModel:
    return OpeningModel(salt=opening.salt.hex(), value=cast("JsonValue", opening.value))
