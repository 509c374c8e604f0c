"""The row seal: an HMAC over each row that gives rights, so that a row which somebody else wrote is refused and named.

Whoever can write to the database file but has no at-rest key can still delete rows, or put an older one back; what is left then
is seen by the log, by peers, and in the revocation set that the site signed.

Rules:      1. the seal is over the table's name and every column but itself  2. no seal is a wrong seal
            3. compared in constant time  4. the key is asked for when the first row is read or written
Source:     SECURITY 4.1, T21
"""

import hashlib
import hmac
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

from carnet.encoding import JsonValue, canonical
from carnet.errors import IntegrityError, InternalError
from gateway.catalog import schema

COLUMN = "mac"
"""The column that holds the seal."""


class RowSeal:
    """Seals and checks rows under one key."""

    def __init__(self, key: Callable[[], bytes]) -> None:
        """`key` returns 32 bytes that only this site has; it may read a file, and raise what reading raises."""
        self._ask = key

    @cached_property
    def _key(self) -> bytes:
        return self._ask()

    def seal(self, table: str, row: Mapping[str, int | str | bytes | None]) -> bytes:
        """Return the seal of a row, given with all its columns; the seal's own, if it is among them, is left aside."""
        said: dict[str, JsonValue] = {
            name: {"hex": value.hex()} if isinstance(value, bytes) else value for name, value in row.items() if name != COLUMN
        }
        return hmac.digest(self._key, canonical({"table": table, "row": said}), hashlib.sha256)

    def require(self, table: str, key: str, row: Mapping[str, int | str | bytes | None]) -> None:
        """Return if this site wrote the row, called `key` in errors; raise `IntegrityError` E-ROW naming it otherwise."""
        if not self.is_sealed(table, row):
            raise IntegrityError("E-ROW", f"row {ascii(key)[:200]} of {table} in the catalog was not written by this site")

    def is_sealed(self, table: str, row: Mapping[str, int | str | bytes | None]) -> bool:
        """Tell whether this site wrote the row."""
        kept = row[COLUMN]
        return isinstance(kept, bytes) and hmac.compare_digest(kept, self.seal(table, row))

    def __repr__(self) -> str:
        return "RowSeal()"


def keyless() -> RowSeal:
    """Return a seal for whoever reads and writes no row that has one."""

    def refuse() -> bytes:
        raise InternalError("E-INTERNAL", "a row with a seal was read where no key is")

    return RowSeal(refuse)


def foreign_rows(connection: sqlite3.Connection, seal: RowSeal) -> Iterator[tuple[str, str]]:
    """Yield table and key of each row with a seal that this site did not write."""
    for table in schema.metadata.sorted_tables:
        if COLUMN not in table.columns:
            continue
        names = [column.name for column in table.primary_key]
        for row in connection.execute(f"SELECT * FROM {table.name} ORDER BY {', '.join(names)}"):  # noqa: S608 - our own names
            found = dict(row)
            if not seal.is_sealed(table.name, found):
                yield table.name, " ".join(str(found[name]) for name in names)
