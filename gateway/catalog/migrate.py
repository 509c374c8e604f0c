"""The schema's revision: make a new catalog, bring an old one up to date, refuse one that does not match.

Alembic is imported only by `upgrade` of an existing file; the check at every start reads the file's own description of itself.

Rules:      1. the server never changes a schema by itself  2. revision, tables, columns, keys and indexes all must match
            3. a fresh file is made from the tables directly; a test shows that the migrations lead to the same
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from carnet.errors import CallerError, IntegrityError
from gateway.catalog import schema
from gateway.catalog.engine import connect, translate_database_error
from gateway.catalog.row_seal import RowSeal, foreign_rows
from gateway.storage.durable import make_directory, sync_directory

if TYPE_CHECKING:
    from sqlalchemy import Engine, Table

HEAD = "0005"
"""The revision that this version needs."""
_VERSION_TABLE = "alembic_version"
_ROWS_NAMED_MAX = 5


def upgrade(path: Path, seal: RowSeal) -> None:
    """Make the catalog at `path`, or bring it to the current revision; does nothing if it is current. Blocks.

    Rows that get their seal by this are taken as they are.

    Raises:
        InternalError: E-DATABASE or E-DISK.
    """
    make_directory(path.parent)
    path.touch(mode=0o600)
    connection = connect(path, writer=True)
    try:
        if _revision(connection) == HEAD:
            return
        is_new = not _tables(connection)
        if is_new:
            _create(connection)
    except sqlite3.Error as error:
        raise translate_database_error(error) from error
    finally:
        connection.close()
    sync_directory(path.parent)
    if not is_new:
        _run_migrations(path, seal)


def require_catalog(path: Path) -> None:
    """Raise `CallerError` E-DATABASE if there is no catalog at `path`: an empty one would hide that what was there is lost."""
    if not path.is_file():
        raise CallerError("E-DATABASE", f"no catalog at {path}", remedy="restore the site's backup; `init` makes a new site")


def check(path: Path) -> None:
    """Return if the catalog at `path` is exactly what this version needs. Blocks.

    Raises:
        CallerError: E-DATABASE naming the first difference.
        InternalError: E-DATABASE or E-DISK if it cannot be read.
    """
    require_catalog(path)
    connection = connect(path, writer=False)
    try:
        revision = _revision(connection)
        if revision != HEAD:
            raise CallerError("E-DATABASE", f"the catalog has revision {revision or 'none'}, this version needs {HEAD}")
        for table in schema.metadata.sorted_tables:
            difference = _difference(connection, table)
            if difference:
                raise CallerError("E-DATABASE", f"the catalog's table {table.name} differs: {difference}")
    except sqlite3.Error as error:
        raise translate_database_error(error) from error
    finally:
        connection.close()


def require_own_rows(path: Path, seal: RowSeal) -> None:
    """Return if this site wrote each row that gives rights; raise `IntegrityError` E-ROW naming those it did not. Blocks."""
    connection = connect(path, writer=False)
    try:
        found = [f"{table} {ascii(key)[:200]}" for table, key in foreign_rows(connection, seal)]
    except sqlite3.Error as error:
        raise translate_database_error(error) from error
    finally:
        connection.close()
    if found:
        said = "; ".join(found[:_ROWS_NAMED_MAX]) + ("; ..." if len(found) > _ROWS_NAMED_MAX else "")
        raise IntegrityError("E-ROW", f"{len(found)} rows of the catalog were not written by this site: {said}")


def run_all_migrations(path: Path, seal: RowSeal) -> None:
    """Bring a catalog from any revision, or from an empty file, to the current one by migrations alone. Blocks."""
    _run_migrations(path, seal)


def _create(connection: sqlite3.Connection) -> None:
    """Make all tables and note the revision, in one transaction."""
    from sqlalchemy.dialects import sqlite
    from sqlalchemy.schema import CreateIndex, CreateTable

    dialect = sqlite.dialect()
    connection.execute("BEGIN IMMEDIATE")
    for table in schema.metadata.sorted_tables:
        connection.execute(str(CreateTable(table).compile(dialect=dialect)))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            connection.execute(str(CreateIndex(index).compile(dialect=dialect)))
    connection.execute(f"CREATE TABLE {_VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.execute(f"INSERT INTO {_VERSION_TABLE} VALUES (?)", (HEAD,))  # noqa: S608 - a constant
    connection.execute("COMMIT")


def _run_migrations(path: Path, seal: RowSeal) -> None:
    from alembic import command
    from alembic.config import Config

    engine = _engine(path)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # or each ALTER would be a transaction of its own
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            config.attributes["seal"] = seal
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def _engine(path: Path) -> "Engine":
    from sqlalchemy import create_engine, pool

    return create_engine(f"sqlite:///{path}", poolclass=pool.NullPool)


def _revision(connection: sqlite3.Connection) -> str | None:
    if _VERSION_TABLE not in _tables(connection):
        return None
    row = connection.execute(f"SELECT version_num FROM {_VERSION_TABLE}").fetchone()  # noqa: S608 - a constant
    return None if row is None else str(row[0])


def _tables(connection: sqlite3.Connection) -> set[str]:
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {row[0] for row in found}


def _difference(connection: sqlite3.Connection, table: "Table") -> str | None:
    """Return the first difference between the table in the file and ours, or None."""
    keys = [column.name for column in table.primary_key]
    columns = {
        column.name: (str(column.type), not column.nullable, keys.index(column.name) + 1 if column.name in keys else 0)
        for column in table.columns
    }
    found = {
        row["name"]: (row["type"], bool(row["notnull"]), row["pk"])
        for row in connection.execute("SELECT * FROM pragma_table_info(?)", (table.name,))
    }
    if found != columns:
        return "columns " + ", ".join(sorted(columns.keys() ^ found.keys()) or sorted(_unequal(columns, found)))
    indexes = {str(index.name): ([column.name for column in index.columns], bool(index.unique)) for index in table.indexes}
    present = {
        row["name"]: (_index_columns(connection, row["name"]), bool(row["unique"]))
        for row in connection.execute("SELECT * FROM pragma_index_list(?) WHERE origin = 'c'", (table.name,))
    }
    return None if present == indexes else "indexes " + ", ".join(sorted(_unequal(indexes, present)))


def _index_columns(connection: sqlite3.Connection, index: str) -> list[str]:
    found = connection.execute("SELECT name FROM pragma_index_info(?) ORDER BY seqno", (index,))
    return [row[0] for row in found]


def _unequal(ours: Mapping[str, object], theirs: Mapping[str, object]) -> set[str]:
    return {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
