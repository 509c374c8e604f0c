"""The session: one connection inside one transaction, and what the nouns of the catalog share.

It also notes what the transaction touched, so that listeners hear of it after the commit and never before.

Rules:      1. a session is used by one thread and forgotten after its transaction  2. times are whole microseconds in UTC
            3. a row of a table with seals is written with its seal, and not used without it
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from carnet.encoding import JsonValue
from carnet.identifiers import TransferId
from gateway.catalog.row_seal import COLUMN, RowSeal
from gateway.catalog.statements import Statement

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
Value: TypeAlias = int | str | bytes | None


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970; `moment` is aware."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the aware UTC time of `micros`."""
    return _EPOCH + timedelta(microseconds=micros)


def optional_micros(moment: datetime | None) -> int | None:
    """Return microseconds, or None for None."""
    return None if moment is None else to_micros(moment)


def optional_time(micros: int | None) -> datetime | None:
    """Return the time, or None for None."""
    return None if micros is None else from_micros(micros)


def to_json(value: JsonValue) -> str:
    """Return JSON text; mappings keep their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class StateChange:
    """A transfer, or with `destination` one of its deliveries, went from state to state; `before` is None for a new one."""

    transfer: TransferId
    before: str | None
    after: str
    destination: str | None = None
    peer: str | None = None
    """The other site that the change is about."""
    cause: str | None = None
    """The request or the attempt on whose behalf it was made."""


@dataclass(frozen=True)
class Committed:
    """What a commit changed: transfers (with their deliveries), whether jobs became due, and the log's new size."""

    transfers: frozenset[TransferId] = frozenset()
    jobs: bool = False
    log_size: int | None = None
    changes: tuple[StateChange, ...] = ()
    """In the order they were made."""


class Session:
    """Runs statements in the current transaction of `connection`."""

    def __init__(self, connection: sqlite3.Connection, now: datetime, seal: RowSeal, cause: str | None = None) -> None:
        """Take a connection that is inside a transaction, the time of that transaction, what seals rows, and on whose behalf."""
        self._cause = cause
        self._changes: list[StateChange] = []
        self._connection = connection
        self._now = now
        self._seal = seal
        self._touched: set[TransferId] = set()
        self._jobs_changed = False
        self._log_size: int | None = None

    @property
    def now(self) -> datetime:
        """The time of this transaction."""
        return self._now

    @property
    def committed(self) -> Committed:
        """What listeners are told once this transaction is durable."""
        return Committed(frozenset(self._touched), self._jobs_changed, self._log_size, tuple(self._changes))

    def _note_change(
        self, transfer: TransferId, before: str | None, after: str, *, destination: str | None = None, peer: str | None = None
    ) -> None:
        """Take note that a state changed, for listeners; nothing if it did not."""
        if before != after:
            self._changes.append(StateChange(transfer, before, after, destination, peer, self._cause))

    def _run(self, statement: Statement, /, **values: Value) -> sqlite3.Cursor:
        return self._connection.execute(statement.sql, {**statement.constants, **values})

    def _run_many(self, statement: Statement, rows: Iterable[Mapping[str, Value]]) -> sqlite3.Cursor:
        return self._connection.executemany(statement.sql, rows)

    def _run_sealed(self, statement: Statement, table: str, /, **values: Value) -> sqlite3.Cursor:
        """Write a whole row of a table with seals."""
        return self._run(statement, **values, **{COLUMN: self._seal.seal(table, values)})

    def _checked(self, table: str, key: str, row: sqlite3.Row) -> sqlite3.Row:
        """Return a whole row that this site wrote; raise `IntegrityError` E-ROW for any other."""
        self._seal.require(table, key, dict(row))
        return row

    def _one(self, statement: Statement, /, **values: Value) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._run(statement, **values).fetchone()
        return row

    def _all(self, statement: Statement, /, **values: Value) -> Sequence[sqlite3.Row]:
        return self._run(statement, **values).fetchall()
