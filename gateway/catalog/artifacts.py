"""What tags point to, and the turns that keep them from going back, as rows."""

import sqlite3
from functools import cache

from sqlalchemy import bindparam, delete, func, select, tuple_

from carnet.errors import CallerError, IntegrityError
from carnet.identifiers import Digest, Repository, SiteName, Tag, TransferId
from gateway.catalog import schema
from gateway.catalog.session import Session, from_micros, to_micros
from gateway.catalog.statements import LIMIT, Statement, upsert
from gateway.records import ArtifactRecord

_LAST_CHARACTER = "\U0010ffff"
_a = schema.artifacts.c
_SAVE = upsert(schema.artifacts)
_GET = Statement(select(schema.artifacts).where(_a.repository == bindparam("repository"), _a.tag == bindparam("tag")))
_REMOVE = Statement(delete(schema.artifacts).where(_a.repository == bindparam("repository"), _a.tag == bindparam("tag")))
_USERS = Statement(select(func.count()).select_from(schema.artifacts).where(_a.transfer == bindparam("transfer")))
_t = schema.turns.c
_SAVE_TURN = upsert(schema.turns)
_TURN = Statement(
    select(schema.turns).where(
        _t.origin == bindparam("origin"), _t.repository == bindparam("repository"), _t.tag == bindparam("tag")
    )
)


class Artifacts(Session):
    """The artifacts' part of `Transaction`."""

    def artifact(self, repository: Repository, tag: Tag) -> ArtifactRecord | None:
        """Return what the tag points to, or None."""
        row = self._one(_GET, repository=repository, tag=tag)
        return None if row is None else _artifact_of(row)

    def artifacts(
        self, *, limit: int = 100, after: str | None = None, repository: str | None = None, beginning: str = ""
    ) -> list[ArtifactRecord]:
        """Return artifacts by repository, then tag; `after` is the `repository:tag` last seen, `repository` an exact name.

        `beginning` is what the repository begins with.

        Raises:
            CallerError: E-REQUEST if `after` has no colon.
        """
        values: dict[str, str | int] = {"limit": limit}
        place = _place(after)
        if beginning:
            place = max(place, (beginning, ""))
            values["end"] = beginning + _LAST_CHARACTER
        if place[0]:
            values["after_repository"], values["after_tag"] = place
        if repository is not None:
            values["repository"] = repository
        listing = _listing(with_after=bool(place[0]), with_repository=repository is not None, with_end=bool(beginning))
        return [_artifact_of(row) for row in self._all(listing, **values)]

    def save_artifact(self, record: ArtifactRecord) -> None:
        """Point the tag to the artifact."""
        self._touched.add(record.transfer)
        self._run(
            _SAVE,
            repository=record.repository,
            tag=record.tag,
            transfer=record.transfer,
            digest=record.digest,
            kind=record.kind,
            media_type=record.media_type,
            size=record.size,
            origin=record.origin,
            delivered_at=to_micros(record.delivered_at),
        )

    def remove_artifact(self, repository: Repository, tag: Tag) -> None:
        """Remove the tag, if there is one."""
        self._run(_REMOVE, repository=repository, tag=tag)

    def artifact_users(self, transfer: TransferId) -> int:
        """Return how many tags point to the transfer."""
        row = self._one(_USERS, transfer=transfer)
        return 0 if row is None else row[0]

    def turn(self, origin: SiteName, repository: Repository, tag: Tag) -> tuple[int, Digest] | None:
        """Return turn and waybill digest of the last waybill accepted for this tag from this origin, or None."""
        row = self._one(_TURN, origin=origin, repository=repository, tag=tag)
        if row is None:
            return None
        self._checked("turns", f"{origin} {repository}:{tag}", row)
        return row["turn"], Digest(row["waybill"])

    def save_turn(self, origin: SiteName, repository: Repository, tag: Tag, turn: int, waybill: Digest) -> None:
        """Remember the last waybill accepted for a tag.

        Raises:
            IntegrityError: E-ROLLBACK for a lower turn than the one kept, or the same turn with another waybill.
        """
        kept = self.turn(origin, repository, tag)
        if kept is not None and (turn < kept[0] or (turn == kept[0] and waybill != kept[1])):
            raise IntegrityError("E-ROLLBACK", f"{repository}:{tag} of {origin}: got turn {turn}, turn {kept[0]} is known")
        self._run_sealed(_SAVE_TURN, "turns", origin=origin, repository=repository, tag=tag, turn=turn, waybill=waybill)


def _place(after: str | None) -> tuple[str, str]:
    """Return the place in the order that a cursor names, or that before all."""
    if after is None:
        return "", ""
    repository, separator, tag = after.rpartition(":")
    if not separator:
        raise CallerError("E-REQUEST", f"not an artifact list's cursor: {ascii(after)[:80]}")
    return repository, tag


@cache
def _listing(*, with_after: bool, with_repository: bool, with_end: bool) -> Statement:
    clause = select(schema.artifacts)
    if with_after:
        place = tuple_(bindparam("after_repository"), bindparam("after_tag"))
        clause = clause.where(tuple_(_a.repository, _a.tag) > place)
    if with_repository:
        clause = clause.where(_a.repository == bindparam("repository"))
    if with_end:
        clause = clause.where(_a.repository < bindparam("end"))
    return Statement(clause.order_by(_a.repository, _a.tag).limit(LIMIT))


def _artifact_of(row: sqlite3.Row) -> ArtifactRecord:
    return ArtifactRecord(
        repository=Repository(row["repository"]),
        tag=Tag(row["tag"]),
        transfer=TransferId(row["transfer"]),
        digest=Digest(row["digest"]),
        kind=row["kind"],
        media_type=row["media_type"],
        size=row["size"],
        origin=SiteName(row["origin"]),
        delivered_at=from_micros(row["delivered_at"]),
    )
