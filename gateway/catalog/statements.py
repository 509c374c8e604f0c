"""Statements: SQLAlchemy Core clauses, compiled once to text and run on the plain connection.

Core checks every column name against the tables and knows the dialects; running its clauses each time would cost a tenth of a
millisecond apiece. So each clause is compiled on its first use, and what runs is text with named parameters.

Rules:      1. values are always parameters  2. a statement that lists is bounded by a parameter named `limit`
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import BindParameter, Column, ColumnElement, Integer, Table, bindparam, literal_column
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Compiled
from sqlalchemy.sql.expression import ClauseElement

_DIALECT = sqlite.dialect(paramstyle="named")
LIMIT: BindParameter[int] = bindparam("limit", type_=Integer)
"""The parameter that bounds a listing."""


class Statement:
    """One clause; `sql` is its text, compiled on first use."""

    def __init__(self, clause: ClauseElement) -> None:
        """Keep the clause; compiling waits until `sql` is asked for."""
        self._clause = clause

    @cached_property
    def sql(self) -> str:
        """The text, with `:name` for each parameter."""
        return str(self._compiled)

    @cached_property
    def constants(self) -> dict[str, object]:
        """Values that the clause itself holds, by parameter name."""
        return {name: value for name, value in self._compiled.params.items() if value is not None}

    @cached_property
    def _compiled(self) -> Compiled:
        return self._clause.compile(dialect=_DIALECT)


def upsert(table: Table) -> Statement:
    """Return the statement that inserts a whole row of `table`, or replaces all but its key."""
    insert = sqlite.insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys}
    clause = insert.values({column.name: bindparam(column.name) for column in table.columns})
    return Statement(clause.on_conflict_do_update(index_elements=keys, set_=changed))


def insert_or_ignore(table: Table) -> Statement:
    """Return the statement that inserts a whole row of `table` unless its key is there."""
    clause = sqlite.insert(table).values({column.name: bindparam(column.name) for column in table.columns})
    return Statement(clause.on_conflict_do_nothing())


def unindexed(column: Column[Any]) -> ColumnElement[Any]:
    """Return the column as something that SQLite does not look for by an index, where another index finds fewer rows.

    Without statistics SQLite takes every value for equally rare, though nearly all transfers are `admitted`.
    """
    return literal_column(f"+{column.table.name}.{column.name}", column.type)


def placeholders(values: Sequence[object]) -> str:
    """Return `?, ?, ...` for a list of values, for the few statements whose length varies."""
    return ", ".join("?" * len(values))
