"""The engine: one writer thread that commits in groups, and a few readers that see one consistent state each.

SQLite allows one writer; a sync costs a millisecond. So all waiting changes run in one transaction, each in a savepoint of its
own, and one commit makes them durable together. Readers have connections that cannot write.

Rules:      1. WAL, synchronous FULL, foreign keys; a write returns after the commit is on the disk
            2. a change that raises undoes itself and nothing else  3. listeners hear after the commit, on the event loop
            4. a commit whose outcome is unknown ends the process  5. foreign errors are translated here and nowhere else
"""

import asyncio
import functools
import queue
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from carnet.errors import CarnetError, InternalError, StorageFull, Unavailable
from gateway.batching import BatchThread, Item
from gateway.catalog.row_seal import RowSeal
from gateway.catalog.session import Committed
from gateway.catalog.transaction import SqliteTransaction
from gateway.ports import Clock
from gateway.storage.durable import Step, SyncFailure, no_step
from gateway.telemetry.causes import current_cause

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Change:
    """What to run in a transaction, and on whose behalf."""

    run: Callable[[SqliteTransaction], object]
    cause: str | None


Listener = Callable[[Committed], None]

_BUSY_MS = 10_000
_CACHED_STATEMENTS = 256
_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {_BUSY_MS}",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",
)
_WRITER_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = FAST",
    "PRAGMA wal_autocheckpoint = 1000",
)


def connect(path: Path, *, writer: bool) -> sqlite3.Connection:
    """Return a connection to the catalog file; transactions are opened and closed by hand.

    Raises:
        InternalError: E-DATABASE or E-DISK if it cannot be opened.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=_CACHED_STATEMENTS)
        connection.row_factory = sqlite3.Row
        for pragma in (*_PRAGMAS, *(_WRITER_PRAGMAS if writer else ("PRAGMA query_only = ON",))):
            connection.execute(pragma)
    except sqlite3.Error as error:
        raise translate_database_error(error) from error
    return connection


def translate_database_error(error: sqlite3.Error) -> CarnetError:
    """Return our error for one of SQLite's."""
    name = str(getattr(error, "sqlite_errorname", "") or "SQLITE_ERROR")
    if name == "SQLITE_FULL":
        return StorageFull("E-DISK-FULL", "no space left for the catalog", retry_after_s=30)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unavailable("E-BUSY", "another process holds the catalog")
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return InternalError("E-DISK", f"the catalog cannot be read or written: {name}")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        remedy = "restore the site's backup into a new directory"
        return InternalError("E-DATABASE", f"the catalog's file is damaged, or is none: {name}", remedy=remedy)
    return InternalError("E-DATABASE", f"the catalog refused a statement: {name}: {error}")


class Connect(Protocol):
    """Opens the catalog, as `connect` does."""

    def __call__(self, path: Path, *, writer: bool) -> sqlite3.Connection:
        """Return a connection; transactions are opened and closed by hand."""
        ...


class SqliteCatalog:
    """Implements `Catalog` on one SQLite file whose schema is current (see `gateway.catalog.migrate`). Close it at the end."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        seal: RowSeal,
        readers: int = 2,
        step: Step = no_step,
        open_connection: Connect = connect,
        batches: type[BatchThread[Change]] = BatchThread,
    ) -> None:
        """Open the file: one writer, `readers` readers; `seal` is of the site that it belongs to. Blocks, a few milliseconds."""
        self._clock = clock
        self._seal = seal
        self._step = step
        self._listeners: list[Listener] = []
        self._writer = open_connection(path, writer=True)
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._connections = [open_connection(path, writer=False) for _ in range(readers)]
        for connection in self._connections:
            self._idle.put(connection)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="catalog-read")
        self._group = batches("catalog-write", self._commit, notify=self._tell)

    def close(self) -> None:
        """Finish what is queued, then close all connections. Blocks."""
        self._group.close()
        self._readers.shutdown()
        for connection in (*self._connections, self._writer):
            connection.close()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` on the event loop after each commit that changed something; return what ends that.

        A listener is quick and does not raise: it runs before the writers of that commit go on.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def write(self, change: Callable[[SqliteTransaction], Result]) -> Result:
        """Run `change` in one atomic transaction; see `Catalog.write`.

        A caller that is cancelled does not know whether the change was made; it is never half made.

        Raises:
            Unavailable: E-DISK-FULL or E-BUSY; nothing happened.
            InternalError: E-DISK or E-DATABASE; nothing happened.
            SyncFailure: the process must end.
        """
        return cast("Result", await self._group.submit(Change(change, current_cause())))

    async def read(self, question: Callable[[SqliteTransaction], Result]) -> Result:
        """Run `question` against one consistent state; see `Catalog.read`.

        Raises:
            InternalError: E-DISK or E-DATABASE.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, functools.partial(self._answer, question))

    def _answer(self, question: Callable[[SqliteTransaction], Result]) -> Result:
        connection = self._idle.get()
        try:
            connection.execute("BEGIN")
            try:
                return question(SqliteTransaction(connection, self._clock.now(), self._seal))
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise translate_database_error(error) from error
        finally:
            self._idle.put(connection)

    def _commit(self, batch: Sequence[Item[Change]]) -> Committed | None:
        """Run a batch in one transaction and commit it; what each change returned or raised is in its item."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            sessions = [session for item in batch if (session := self._change(item)) is not None]
            if not self._writer.in_transaction:
                # SQLite gave the whole transaction up, as it does when the disk is full: nothing of this batch happened.
                self._abandon(batch, _first_error(batch))
                return None
            self._step("commit")
            self._end_transaction()
            self._step("committed")
        except sqlite3.Error as error:
            self._abandon(batch, translate_database_error(error))
            return None
        except BaseException as error:  # noqa: BLE001 - handed to each caller of the batch
            self._abandon(batch, error)
            return None
        return _together([session.committed for session in sessions])

    def _change(self, item: Item[Change]) -> SqliteTransaction | None:
        """Run one change in a savepoint; return its session, or None if it was undone."""
        if not self._writer.in_transaction:
            return None
        session = SqliteTransaction(self._writer, self._clock.now(), self._seal, item.work.cause)
        self._writer.execute("SAVEPOINT change")
        try:
            item.result = item.work.run(session)
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller of this change alone
            item.error = translate_database_error(error) if isinstance(error, sqlite3.Error) else error
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK TO change")
                self._writer.execute("RELEASE change")
            return None
        self._writer.execute("RELEASE change")
        return session

    def _end_transaction(self) -> None:
        """Commit; a failure to reach the disk leaves the outcome unknown, and that ends the process."""
        try:
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            if str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_IOERR"):
                raise SyncFailure("the catalog's commit failed and its outcome is unknown") from error
            raise

    def _abandon(self, batch: Sequence[Item[Change]], error: BaseException) -> None:
        """Undo the transaction and give `error` to every item, also to those whose change had worked."""
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        for item in batch:
            item.error = item.error or error

    def _tell(self, outcome: Any) -> None:
        for listener in tuple(self._listeners):
            listener(outcome)


def _first_error(batch: Sequence[Item[Change]]) -> BaseException:
    unknown = InternalError("E-DATABASE", "the catalog gave a transaction up")
    return next((item.error for item in batch if item.error is not None), unknown)


def _together(parts: Sequence[Committed]) -> Committed | None:
    """Return what a commit of these changed, or None if nothing that anyone listens for."""
    whole = Committed(
        transfers=frozenset().union(*(part.transfers for part in parts)),
        jobs=any(part.jobs for part in parts),
        changes=tuple(change for part in parts for change in part.changes),
        log_size=max((part.log_size for part in parts if part.log_size is not None), default=None),
    )
    return None if whole == Committed() else whole
