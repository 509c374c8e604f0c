"""Whether the catalog's file is whole, as SQLite itself finds it."""

import sqlite3
from pathlib import Path
from typing import Final

from gateway.catalog.engine import connect

_FINDINGS_MAX: Final = 3
_SAID_CHARS_MAX: Final = 300


def damage_of(path: Path) -> str | None:
    """Return what SQLite finds wrong with the catalog at `path`, or None. It reads the whole file. Blocks.

    Raises:
        InternalError: E-DATABASE or E-DISK if it cannot be opened.
    """
    connection = connect(path, writer=False)
    try:
        said = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({_FINDINGS_MAX})")]
    except sqlite3.Error as error:
        said = [str(error)]
    finally:
        connection.close()
    return None if said == ["ok"] else "; ".join(said)[:_SAID_CHARS_MAX]
