"""Identities and invites, as rows."""

import json
import sqlite3

from sqlalchemy import bindparam, select

from carnet.identifiers import SpiffeId
from gateway.catalog import schema
from gateway.catalog.session import Session, from_micros, optional_micros, optional_time, to_json, to_micros
from gateway.catalog.statements import LIMIT, Statement, upsert
from gateway.records import IdentityRecord, InviteRecord

_IDENTITIES_MAX = 100_000
_INVITES_MAX = 100_000
_SAVE = upsert(schema.identities)
_GET = Statement(select(schema.identities).where(schema.identities.c.identity == bindparam("identity")))
_ALL = Statement(select(schema.identities).order_by(schema.identities.c.identity).limit(LIMIT))
_SAVE_INVITE = upsert(schema.invites)
_INVITE = Statement(select(schema.invites).where(schema.invites.c.id == bindparam("id")))
_OPEN_INVITES = Statement(
    select(schema.invites)
    .where(schema.invites.c.identity == bindparam("identity"), schema.invites.c.used_at.is_(None))
    .limit(LIMIT)
)


class Identities(Session):
    """The identities' part of `Transaction`."""

    def identity(self, identity: SpiffeId) -> IdentityRecord | None:
        """Return who this is, or None."""
        row = self._one(_GET, identity=identity)
        return None if row is None else self._identity_of(row)

    def identities(self) -> list[IdentityRecord]:
        """Return all identities by name."""
        return [self._identity_of(row) for row in self._all(_ALL, limit=_IDENTITIES_MAX)]

    def save_identity(self, record: IdentityRecord) -> None:
        """Insert or replace an identity."""
        self._run_sealed(
            _SAVE,
            "identities",
            identity=record.identity,
            kind=record.kind,
            grants=to_json(record.grants),
            enrolled_at=optional_micros(record.enrolled_at),
            statement=record.statement,
        )

    def invite(self, invite: str) -> InviteRecord | None:
        """Return the invite, used or not, or None."""
        row = self._one(_INVITE, id=invite)
        return None if row is None else self._invite_of(row)

    def open_invites(self, identity: SpiffeId) -> list[InviteRecord]:
        """Return the invites of an identity that were not used."""
        return [self._invite_of(row) for row in self._all(_OPEN_INVITES, identity=identity, limit=_INVITES_MAX)]

    def save_invite(self, record: InviteRecord) -> None:
        """Insert or replace an invite."""
        self._run_sealed(
            _SAVE_INVITE,
            "invites",
            id=record.id,
            identity=record.identity,
            grants=to_json(record.grants),
            secret_sha256=record.secret_sha256,
            expires_at=to_micros(record.expires_at),
            used_at=optional_micros(record.used_at),
        )

    def _identity_of(self, row: sqlite3.Row) -> IdentityRecord:
        self._checked("identities", row["identity"], row)
        return IdentityRecord(
            identity=SpiffeId(row["identity"]),
            kind=row["kind"],
            grants=tuple(json.loads(row["grants"])),
            enrolled_at=optional_time(row["enrolled_at"]),
            statement=row["statement"],
        )

    def _invite_of(self, row: sqlite3.Row) -> InviteRecord:
        self._checked("invites", row["id"], row)
        return InviteRecord(
            id=row["id"],
            identity=SpiffeId(row["identity"]),
            grants=tuple(json.loads(row["grants"])),
            secret_sha256=row["secret_sha256"],
            expires_at=from_micros(row["expires_at"]),
            used_at=optional_time(row["used_at"]),
        )
