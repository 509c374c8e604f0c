"""Transfers, deliveries and the documents beside them, as rows."""

import json
import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    and_,
    bindparam,
    delete,
    exists,
    literal,
    select,
    text,
    tuple_,
    union_all,
    update,
)

from carnet.errors import CallerError
from carnet.identifiers import Digest, LaneName, Repository, SiteName, SpiffeId, Tag, TransferId
from carnet.timestamps import parse_time
from carnet.transfer import DELIVERY, ORIGIN, is_ended
from gateway.catalog import schema
from gateway.catalog.session import Session, from_micros, to_json, to_micros
from gateway.catalog.statements import LIMIT, Statement, unindexed, upsert
from gateway.records import DeliveryRecord, TransferRecord

_t = schema.transfers.c
_d = schema.deliveries.c
_SAVE = upsert(schema.transfers)
_SAVE_DELIVERY = upsert(schema.deliveries)
_GET = Statement(select(schema.transfers).where(_t.id == bindparam("id")))
_STATE = Statement(select(_t.state).where(_t.id == bindparam("id")))
_DELIVERY_STATE = Statement(
    select(_d.state).where(_d.transfer == bindparam("transfer"), _d.destination == bindparam("destination"))
)
_CREATED_AT = Statement(select(_t.created_at).where(_t.id == bindparam("id")))
_OF_PACKING = Statement(
    select(schema.transfers).where(_t.packing_digest == bindparam("packing")).order_by(_t.created_at.desc()).limit(1)
)
_OF_ARTIFACT = Statement(
    select(schema.transfers).where(_t.digest == bindparam("digest")).order_by(_t.created_at.desc(), _t.id.desc()).limit(LIMIT)
)
_NAMED = Statement(
    select(schema.transfers)
    .where(_t.repository == bindparam("repository"), _t.tag == bindparam("tag"))
    .order_by(_t.created_at.desc(), _t.id.desc())
    .limit(LIMIT)
)
_COUNT = Statement(
    update(schema.transfers)
    .where(_t.id == bindparam("transfer"))
    .values(segments_received=_t.segments_received + 1, bytes_received=_t.bytes_received + bindparam("bytes"))
)
_DELIVERIES = Statement(
    select(schema.deliveries).where(_d.transfer == bindparam("transfer")).order_by(_d.destination).limit(LIMIT)
)
_OF_SENDER_AND_LANE = and_(
    _t.role == "origin", _t.sender == bindparam("sender"), _t.lane == bindparam("lane"), _t.repository == bindparam("repository")
)
_UNDELIVERED = exists().where(_d.transfer == _t.id, _d.state != "delivered")
_DELIVERED = exists().where(_d.transfer == _t.id, _d.state == "delivered")
_OPEN_STATES = [literal(state) for state in ORIGIN if state != "admitted" and not is_ended(ORIGIN, state)]
_UNENDED = [literal(state) for state in DELIVERY if not is_ended(DELIVERY, state)]
_EXPIRING = [literal(state) for state, events in DELIVERY.items() if "expire" in events]


def _has_delivery(states: Sequence[BindParameter[str]]) -> ColumnElement[bool]:
    """Tell whether a delivery of the transfer is in one of these states, which few are: they are where the search begins.

    With `exists` SQLite would look at each transfer that was ever admitted, and then at its deliveries.
    """
    return _t.id.in_(select(_d.transfer).where(_d.state.in_(states)))


_OF_NAME = and_(
    _t.role == "origin",
    unindexed(_t.lane) == bindparam("lane"),
    unindexed(_t.repository) == bindparam("repository"),
    unindexed(_t.tag) == bindparam("tag"),
)
_NEWEST = unindexed(_t.created_at).desc(), unindexed(_t.id).desc()
_IS_ADMITTED = unindexed(_t.state) == literal("admitted")
_UNDECIDED = Statement(
    select(schema.transfers)
    .where(_OF_NAME, _t.sender == bindparam("sender"), _t.state.in_(_OPEN_STATES))
    .order_by(*_NEWEST)
    .limit(1)
)
_UNDELIVERED_YET = Statement(
    select(schema.transfers)
    .where(_OF_NAME, unindexed(_t.sender) == bindparam("sender"), _IS_ADMITTED, _has_delivery(_UNENDED))
    .order_by(*_NEWEST)
    .limit(1)
)
_OVERDUE_STATES = [literal("declared"), literal("receiving"), literal("stored")]
_IS_OVERDUE = _t.expires_at <= bindparam("now")
_OVERDUE = Statement(
    union_all(
        select(schema.transfers).where(_IS_OVERDUE, _t.state.in_(_OVERDUE_STATES)),
        select(schema.transfers).where(_IS_OVERDUE, _t.role == "origin", _t.state == "held"),
        select(schema.transfers).where(_IS_OVERDUE, _t.role == "origin", _IS_ADMITTED, _has_delivery(_EXPIRING)),
    )
    .order_by(text("expires_at"))
    .limit(LIMIT)
)
_BASES = Statement(
    select(schema.transfers)
    .where(_OF_SENDER_AND_LANE, _IS_ADMITTED, _DELIVERED, ~_UNDELIVERED)
    .order_by(_t.created_at.desc())
    .limit(LIMIT)
)

_DELIVERIES_MAX = 1_000
_MICROS_A_SECOND = 1_000_000
_DOCUMENTS_MAX = 10_000
_o = schema.documents.c
_PUT_DOCUMENT = upsert(schema.documents)
_DOCUMENT = Statement(select(_o.body).where(_o.transfer == bindparam("transfer"), _o.name == bindparam("name")))
_DOCUMENTS = Statement(
    select(_o.name, _o.body)
    .where(_o.transfer == bindparam("transfer"), _o.name >= bindparam("first"), _o.name < bindparam("last"))
    .order_by(_o.name)
    .limit(LIMIT)
)
_DELETE_DOCUMENT = Statement(delete(schema.documents).where(_o.transfer == bindparam("transfer"), _o.name == bindparam("name")))
_s = schema.site_documents.c
_SITE_TABLE = "site_documents"
_PUT_SITE_DOCUMENT = upsert(schema.site_documents)
_DELETE_SITE_DOCUMENT = Statement(delete(schema.site_documents).where(_s.name == bindparam("name")))
_SITE_DOCUMENT = Statement(select(schema.site_documents).where(_s.name == bindparam("name")))
_SITE_DOCUMENTS = Statement(
    select(schema.site_documents).where(_s.name >= bindparam("first"), _s.name < bindparam("last")).order_by(_s.name).limit(LIMIT)
)
_k = schema.artifact_keys.c
_PUT_KEY = upsert(schema.artifact_keys)
_KEY = Statement(select(_k.sealed).where(_k.transfer == bindparam("transfer")))
_DELETE_KEY = Statement(delete(schema.artifact_keys).where(_k.transfer == bindparam("transfer")))
_LAST_CHARACTER = "\U0010ffff"


class Transfers(Session):
    """The transfers' part of `Transaction`."""

    def transfer(self, transfer: TransferId) -> TransferRecord | None:
        """Return the transfer, or None."""
        row = self._one(_GET, id=transfer)
        return None if row is None else _transfer_of(row)

    def open_transfer(self, sender: SpiffeId, lane: LaneName, repository: Repository, tag: Tag) -> TransferRecord | None:
        """Return the newest origin transfer of these four that has not ended and is not yet delivered everywhere."""
        of_these: dict[str, str] = {"sender": sender, "lane": lane, "repository": repository, "tag": tag}
        found = [row for one in (_UNDECIDED, _UNDELIVERED_YET) if (row := self._one(one, **of_these)) is not None]
        return _transfer_of(max(found, key=lambda row: (row["created_at"], row["id"]))) if found else None

    def transfers(
        self, *, sender: SpiffeId | None = None, states: Sequence[str] = (), limit: int = 100, before: str | None = None
    ) -> list[TransferRecord]:
        """Return transfers, newest first; `before` is the cursor `created_at|id` of the last one seen.

        Raises:
            CallerError: E-REQUEST if `before` is no cursor.
        """
        values: dict[str, str | int] = {"limit": limit}
        if sender is not None:
            values["sender"] = sender
        if before is not None:
            values["created_at"], values["id"] = self._position(before)
        listing = _listing(with_sender=sender is not None, with_state=bool(states), with_before=before is not None)
        if not states:
            return [_transfer_of(row) for row in self._all(listing, **values)]
        # One page a state, each read in order from its index, then merged: a list of states in one query would sort them all.
        pages = [self._all(listing, state=state, **values) for state in dict.fromkeys(states)]
        newest = sorted(chain.from_iterable(pages), key=lambda row: (row["created_at"], row["id"]), reverse=True)
        return [_transfer_of(row) for row in newest[:limit]]

    def transfers_of_artifact(self, digest: Digest, *, limit: int) -> list[TransferRecord]:
        """Return the transfers of this artifact, newest first."""
        return [_transfer_of(row) for row in self._all(_OF_ARTIFACT, digest=digest, limit=limit)]

    def transfers_named(self, repository: Repository, tag: Tag, *, limit: int) -> list[TransferRecord]:
        """Return the transfers of this name, newest first."""
        return [_transfer_of(row) for row in self._all(_NAMED, repository=repository, tag=tag, limit=limit)]

    def overdue(self, *, limit: int) -> list[TransferRecord]:
        """Return overdue unfinished transfers; see `Transaction.overdue`."""
        return [_transfer_of(row) for row in self._all(_OVERDUE, now=to_micros(self.now), limit=limit)]

    def _position(self, cursor: str) -> tuple[int, str]:
        """Return the place in the order of the transfer that a cursor names; its text has whole seconds, the row knows better."""
        time, separator, transfer = cursor.partition("|")
        if not separator:
            raise CallerError("E-REQUEST", f"not a transfer list's cursor: {ascii(cursor)[:80]}")
        row = self._one(_CREATED_AT, id=transfer)
        asked = to_micros(parse_time(time))
        # Only the second that the cursor itself names: otherwise the answer would tell whether a transfer of that id exists.
        is_its_own = row is not None and 0 <= row["created_at"] - asked < _MICROS_A_SECOND
        return (row["created_at"] if row is not None and is_its_own else asked), transfer

    def save_transfer(self, record: TransferRecord) -> None:
        """Insert or replace the transfer's row."""
        self._touched.add(record.id)
        known = self._one(_STATE, id=record.id)
        peer = record.sender.site if record.sender.kind == "gateway" else None
        self._note_change(record.id, None if known is None else known["state"], record.state, peer=peer)
        self._run(
            _SAVE,
            id=record.id,
            role=record.role,
            state=record.state,
            state_at=to_micros(record.state_at),
            created_at=to_micros(record.created_at),
            expires_at=to_micros(record.expires_at),
            origin=record.origin,
            sender=record.sender,
            agent=record.agent,
            lane=record.lane,
            repository=record.repository,
            tag=record.tag,
            kind=record.kind,
            media_type=record.media_type,
            digest=record.digest,
            size=record.size,
            destinations=to_json(record.destinations),
            initiator=record.initiator,
            declarations=to_json(record.declarations),
            previous=record.previous,
            turn=record.turn,
            waybill_digest=record.waybill_digest,
            packing_digest=record.packing_digest,
            outcome=record.outcome,
            reasons=to_json(record.reasons),
            segments=record.segments,
            segments_received=record.segments_received,
            bytes_received=record.bytes_received,
        )

    def count_segment(self, transfer: TransferId, size: int) -> None:
        """Add one segment of `size` bytes to the received counters; listeners are not woken for each segment."""
        self._run(_COUNT, transfer=transfer, bytes=size)

    def deliveries(self, transfer: TransferId) -> list[DeliveryRecord]:
        """Return the deliveries of a transfer, by destination name."""
        return [_delivery_of(row) for row in self._all(_DELIVERIES, transfer=transfer, limit=_DELIVERIES_MAX)]

    def save_delivery(self, record: DeliveryRecord) -> None:
        """Insert or replace the delivery's row."""
        self._touched.add(record.transfer)
        known = self._one(_DELIVERY_STATE, transfer=record.transfer, destination=record.destination)
        self._note_change(
            record.transfer,
            None if known is None else known["state"],
            record.state,
            destination=record.destination,
            peer=record.destination,
        )
        self._run(
            _SAVE_DELIVERY,
            transfer=record.transfer,
            destination=record.destination,
            state=record.state,
            state_at=to_micros(record.state_at),
            outcome=record.outcome,
            reasons=to_json(record.reasons),
            segments=record.segments,
            segments_sent=record.segments_sent,
            bytes_sent=record.bytes_sent,
            attempts=record.attempts,
            error=record.error,
        )

    def bases(self, sender: SpiffeId, lane: LaneName, repository: Repository, limit: int) -> list[TransferRecord]:
        """Return the newest origin transfers of these three that are admitted with every delivery (at least one) `delivered`."""
        return [_transfer_of(row) for row in self._all(_BASES, sender=sender, lane=lane, repository=repository, limit=limit)]

    def transfer_of_packing(self, packing: Digest) -> TransferRecord | None:
        """Return the transfer whose packing list has this digest, or None."""
        row = self._one(_OF_PACKING, packing=packing)
        return None if row is None else _transfer_of(row)


class Documents(Session):
    """The documents' part of `Transaction`."""

    def put_document(self, transfer: TransferId, name: str, body: bytes) -> None:
        """Keep `body` under the transfer and `name`, replacing what was there."""
        self._run(_PUT_DOCUMENT, transfer=transfer, name=name, body=body)

    def document(self, transfer: TransferId, name: str) -> bytes | None:
        """Return the document, or None."""
        row = self._one(_DOCUMENT, transfer=transfer, name=name)
        return None if row is None else row["body"]

    def documents(self, transfer: TransferId, prefix: str) -> dict[str, bytes]:
        """Return the transfer's documents whose names start with `prefix`, by name."""
        found = self._all(_DOCUMENTS, transfer=transfer, first=prefix, last=prefix + _LAST_CHARACTER, limit=_DOCUMENTS_MAX)
        return {row["name"]: row["body"] for row in found}

    def delete_document(self, transfer: TransferId, name: str) -> None:
        """Forget the document, if there is one."""
        self._run(_DELETE_DOCUMENT, transfer=transfer, name=name)

    def put_site_document(self, name: str, body: bytes) -> None:
        """Keep `body` under `name` for the site, replacing what was there."""
        self._run_sealed(_PUT_SITE_DOCUMENT, _SITE_TABLE, name=name, body=body)

    def site_document(self, name: str) -> bytes | None:
        """Return the site's document, or None."""
        row = self._one(_SITE_DOCUMENT, name=name)
        return None if row is None else self._checked(_SITE_TABLE, name, row)["body"]

    def site_documents(self, prefix: str, *, limit: int | None = None) -> dict[str, bytes]:
        """Return the site's documents whose names start with `prefix`, in the order of their names: `limit` of them at most."""
        most = _DOCUMENTS_MAX if limit is None else limit
        found = self._all(_SITE_DOCUMENTS, first=prefix, last=prefix + _LAST_CHARACTER, limit=most)
        return {row["name"]: self._checked(_SITE_TABLE, row["name"], row)["body"] for row in found}

    def delete_site_document(self, name: str) -> None:
        """Forget the site's document, if there is one."""
        self._run(_DELETE_SITE_DOCUMENT, name=name)

    def put_artifact_key(self, transfer: TransferId, sealed: bytes) -> None:
        """Keep the artifact key of a transfer, sealed under the at-rest key."""
        self._run(_PUT_KEY, transfer=transfer, sealed=sealed)

    def artifact_key(self, transfer: TransferId) -> bytes | None:
        """Return the sealed artifact key, or None."""
        row = self._one(_KEY, transfer=transfer)
        return None if row is None else row["sealed"]

    def delete_artifact_key(self, transfer: TransferId) -> None:
        """Destroy the sealed artifact key; its bytes are overwritten in the database file."""
        self._run(_DELETE_KEY, transfer=transfer)


@cache
def _listing(*, with_sender: bool, with_state: bool, with_before: bool) -> Statement:
    """Return the listing with exactly these filters, so that each has an index of its own."""
    clause = select(schema.transfers)
    if with_sender:
        clause = clause.where(_t.sender == bindparam("sender"))
    if with_state:
        clause = clause.where(_t.state == bindparam("state"))
    if with_before:
        clause = clause.where(tuple_(_t.created_at, _t.id) < tuple_(bindparam("created_at"), bindparam("id")))
    return Statement(clause.order_by(_t.created_at.desc(), _t.id.desc()).limit(LIMIT))


def _transfer_of(row: sqlite3.Row) -> TransferRecord:
    return TransferRecord(
        id=TransferId(row["id"]),
        role=row["role"],
        state=row["state"],
        state_at=from_micros(row["state_at"]),
        created_at=from_micros(row["created_at"]),
        expires_at=from_micros(row["expires_at"]),
        origin=SiteName(row["origin"]),
        sender=SpiffeId(row["sender"]),
        agent=SpiffeId(row["agent"]),
        lane=LaneName(row["lane"]),
        repository=Repository(row["repository"]),
        tag=Tag(row["tag"]),
        kind=row["kind"],
        media_type=row["media_type"],
        digest=_digest(row["digest"]),
        size=row["size"],
        destinations=tuple(SiteName(name) for name in json.loads(row["destinations"])),
        initiator=row["initiator"],
        declarations=json.loads(row["declarations"]),
        previous=_digest(row["previous"]),
        turn=row["turn"],
        waybill_digest=_digest(row["waybill_digest"]),
        packing_digest=_digest(row["packing_digest"]),
        outcome=row["outcome"],
        reasons=tuple(json.loads(row["reasons"])),
        segments=row["segments"],
        segments_received=row["segments_received"],
        bytes_received=row["bytes_received"],
    )


def _delivery_of(row: sqlite3.Row) -> DeliveryRecord:
    return DeliveryRecord(
        transfer=TransferId(row["transfer"]),
        destination=SiteName(row["destination"]),
        state=row["state"],
        state_at=from_micros(row["state_at"]),
        outcome=row["outcome"],
        reasons=tuple(json.loads(row["reasons"])),
        segments=row["segments"],
        segments_sent=row["segments_sent"],
        bytes_sent=row["bytes_sent"],
        attempts=row["attempts"],
        error=row["error"],
    )


def _digest(text: str | None) -> Digest | None:
    return None if text is None else Digest(text)
