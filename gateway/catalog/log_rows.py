"""Log entries and the log's head, as rows: the outbox from which the sequencer makes tiles.

An entry gets its number in the transaction whose change it records, so no change is without its entry and no number is used
twice. Openings (salts and values) stay here and can be erased; entries cannot.

Rules:      1. numbers are consecutive from 0  2. a salt is 32 fresh random bytes  3. the head changes by compare-and-swap only
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select, update

from carnet.encoding import JsonValue, canonical
from carnet.entries import SALT_BYTES, CommittedEntry, EntryType, LogEvent, Opening, commit_event
from carnet.timestamps import format_time
from gateway.catalog import schema
from gateway.catalog.session import Session
from gateway.catalog.statements import LIMIT, Statement, insert_or_ignore

_FIELDS_MAX = 100
_HEAD_ID = 1
_e = schema.log_entries.c
_o = schema.log_openings.c
_h = schema.log_head.c
_SIZE = Statement(select(func.coalesce(func.max(_e.number) + 1, 0)))
_ADD = Statement(
    schema.log_entries.insert().values(number=bindparam("number"), entry=bindparam("entry"), leaf_hash=bindparam("leaf_hash"))
)
_ADD_OPENING = insert_or_ignore(schema.log_openings)
_RANGE = Statement(select(_e.entry, _e.leaf_hash).where(_e.number >= bindparam("first")).order_by(_e.number).limit(LIMIT))
_OPENINGS = Statement(select(schema.log_openings).where(_o.number == bindparam("number")).limit(LIMIT))
_HEAD = Statement(select(_h.size, _h.root, _h.note).where(_h.id == _HEAD_ID))
_CREATE_HEAD = insert_or_ignore(schema.log_head)
_SWAP_HEAD = Statement(
    update(schema.log_head)
    .where(_h.id == _HEAD_ID, _h.size == bindparam("old_size"), _h.root == bindparam("old_root"))
    .values(size=bindparam("size"), root=bindparam("root"), note=bindparam("note"))
)


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The log's head: `size` entries under `root`, and the signed note that says so."""

    size: int
    root: bytes
    note: str


class LogRows(Session):
    """The log's part of `Transaction`, and what the sequencer needs beside it."""

    def append(self, kind: EntryType, fields: Mapping[str, JsonValue]) -> int:
        """Append an entry to the site's log and return its index; it is under a checkpoint soon after the commit.

        Raises:
            PeerError: E-FORMAT if a field has no place in an entry.
        """
        number = self.log_size()
        event = LogEvent(kind, format_time(self.now), dict(fields))
        committed = commit_event(event, lambda: secrets.token_bytes(SALT_BYTES))
        self._run(_ADD, number=number, entry=committed.entry, leaf_hash=committed.leaf_hash)
        self._run_many(
            _ADD_OPENING,
            (
                {"number": number, "field": name, "salt": opening.salt, "value": canonical(opening.value).decode()}
                for name, opening in committed.openings.items()
            ),
        )
        self._log_size = number + 1
        return number

    def log_size(self) -> int:
        """Return how many entries there are, under a checkpoint or not: the next number."""
        row = self._one(_SIZE)
        return 0 if row is None else row[0]

    def log_range(self, first: int, limit: int) -> list[tuple[bytes, bytes]]:
        """Return entry and leaf hash of at most `limit` entries from number `first` on."""
        return [(row["entry"], row["leaf_hash"]) for row in self._all(_RANGE, first=first, limit=limit)]

    def last_entry(self) -> bytes | None:
        """Return the newest entry, or None."""
        found = self.log_range(self.log_size() - 1, 1)
        return found[0][0] if found else None

    def log_entry(self, number: int) -> CommittedEntry | None:
        """Return the entry with the openings that are not erased, or None."""
        found = self.log_range(number, 1)
        if not found:
            return None
        openings = {
            row["field"]: Opening(row["salt"], json.loads(row["value"]))
            for row in self._all(_OPENINGS, number=number, limit=_FIELDS_MAX)
        }
        return CommittedEntry(*found[0], openings)

    def log_head(self) -> SignedHead | None:
        """Return the last signed head, or None if this site has no log yet."""
        row = self._one(_HEAD)
        return None if row is None else SignedHead(row["size"], row["root"], row["note"])

    def create_log_head(self, head: SignedHead) -> bool:
        """Set the first head; False if there is one."""
        return self._run(_CREATE_HEAD, id=_HEAD_ID, size=head.size, root=head.root, note=head.note).rowcount == 1

    def swap_log_head(self, old: SignedHead, new: SignedHead) -> bool:
        """Replace the head `old` by `new`; False, and nothing changed, if the head is not `old`."""
        swapped = self._run(_SWAP_HEAD, old_size=old.size, old_root=old.root, size=new.size, root=new.root, note=new.note)
        return swapped.rowcount == 1
