"""Fills the catalog of a stopped site with copies of one delivered artifact: as many artifacts and segments as are asked for.

The rows are those that a real push left, documents and all, with other ids, names, digests and times; rows that need a seal get
the site's. Segments have ids that nobody can guess an order in, and no files. Who had the rows written one by one would wait for
days, so the file is filled in the order of its keys, and indexes are made at the end.

Rules:      1. everything depends on the numbers of artifact and segment alone  2. the log is left as it is: it has files too
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from carnet.identifiers import SegmentId, TransferId
from carnet.packing import SegmentList
from gateway import documents
from gateway.catalog.row_seal import COLUMN, RowSeal

_SEGMENT_BYTES = 700_000
_APART_MICROS = 30_000_000
"""Half a minute between two artifacts: a hundred thousand are a month."""
_LARGE_ONE_IN = 10
_REPOSITORIES = 1_000
_STRIDE = 7_368_787
"""A prime: where it does not divide the number of segments, its multiples meet each of them once."""
LARGE = "grown/large"
"""The repository that has every tenth artifact."""


@dataclass(frozen=True)
class Growth:
    """How much there is to be; artifact `n` is the same in every run."""

    artifacts: int
    segments: int

    @property
    def each(self) -> int:
        """Segments of one artifact."""
        return self.segments // self.artifacts

    def transfer(self, number: int) -> TransferId:
        """Return the id of the transfer of an artifact; ids ascend with the number, as rows do that are read in order."""
        return TransferId(f"{number * (2**63 // self.artifacts):016x}{blake2b(b'%d' % number, digest_size=8).hexdigest()}")

    def repository(self, number: int) -> str:
        """Return the repository of an artifact."""
        return LARGE if number % _LARGE_ONE_IN == 0 else f"grown/app-{number % _REPOSITORIES:04d}"

    def tag(self, number: int) -> str:
        """Return the tag of an artifact."""
        return f"v{number}"

    def segment(self, number: int) -> bytes:
        """Return the binary id of a segment; ids ascend with the number."""
        return b"\x01" + (number * (2**64 // self.segments)).to_bytes(8, "big") + blake2b(b"%d" % number, digest_size=24).digest()

    def segments_of(self, number: int) -> list[bytes]:
        """Return the binary ids of the segments of an artifact, ascending: from all over the range, each of one artifact."""
        first = number * self.each
        places = sorted(place * _STRIDE % self.segments for place in range(first, first + self.each))
        return [self.segment(place) for place in places]


def fill(path: Path, growth: Growth, transfer: TransferId, seal: RowSeal) -> None:
    """Fill the catalog at `path` from the artifact that `transfer` delivered. Blocks, for minutes."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "foreign_keys = OFF", "cache_size = -1048576"):
            connection.execute(f"PRAGMA {pragma}")
        indexes = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL").fetchall()
        connection.execute("BEGIN")
        for index in indexes:
            connection.execute(f"DROP INDEX {index['name']}")
        _Filling(connection, growth, transfer, seal).run()
        for index in indexes:
            connection.execute(index["sql"])
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


class _Filling:
    """One filling: what is copied, and the file it goes to."""

    def __init__(self, connection: sqlite3.Connection, growth: Growth, transfer: TransferId, seal: RowSeal) -> None:
        self._connection = connection
        self._growth = growth
        self._seal = seal
        self._transfer = self._copied("transfers", "id", transfer)[0]
        self._delivery = self._copied("deliveries", "transfer", transfer)[0]
        self._documents = self._copied("documents", "transfer", transfer)
        self._key = self._copied("artifact_keys", "transfer", transfer)[0]
        self._artifact = self._copied("artifacts", "transfer", transfer)[0]
        name = {"repository": self._artifact["repository"], "tag": self._artifact["tag"]}
        self._turn = next(row for row in self._copied("turns", "repository", name["repository"]) if row["tag"] == name["tag"])

    def run(self) -> None:
        """Write every row, table by table, each in the order of its key."""
        growth, numbers = self._growth, range(self._growth.artifacts)
        self._insert("segments", ({"id": growth.segment(one), "size": _SEGMENT_BYTES} for one in range(growth.segments)))
        self._insert("transfers", map(self._transfer_row, numbers))
        self._insert("deliveries", (self._delivery | {"transfer": growth.transfer(one)} for one in numbers))
        self._insert("artifact_keys", (self._key | {"transfer": growth.transfer(one)} for one in numbers))
        self._insert("documents", self._document_rows())
        self._insert(
            "transfer_segments",
            ({"transfer": growth.transfer(one), "segment": binary} for one in numbers for binary in growth.segments_of(one)),
        )
        by_name = sorted(numbers, key=lambda one: (growth.repository(one), growth.tag(one)))
        self._insert("artifacts", map(self._artifact_row, by_name))
        self._insert("turns", map(self._turn_row, by_name))

    def _copied(self, table: str, column: str, value: str) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(f"SELECT * FROM {table} WHERE {column} = ?", (value,))]

    def _insert(self, table: str, rows: Iterable[dict[str, Any]]) -> None:
        waiting = iter(rows)
        first = next(waiting)
        names = ", ".join(first)
        sql = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(first))})"
        self._connection.execute(sql, tuple(first.values()))
        self._connection.executemany(sql, (tuple(row.values()) for row in waiting))

    def _transfer_row(self, number: int) -> dict[str, Any]:
        growth, at = self._growth, self._at(number)
        return self._transfer | {
            "id": growth.transfer(number),
            "repository": growth.repository(number),
            "tag": growth.tag(number),
            "created_at": at,
            "state_at": at,
            "digest": _digest("artifact", number),
            "waybill_digest": _digest("waybill", number),
            "packing_digest": _digest("packing", number),
            "segments": growth.each,
            "segments_received": growth.each,
            "bytes_received": growth.each * _SEGMENT_BYTES,
        }

    def _document_rows(self) -> Iterator[dict[str, Any]]:
        growth = self._growth
        for number in range(growth.artifacts):
            listed = SegmentList.of((SegmentId.from_binary(one), _SEGMENT_BYTES) for one in growth.segments_of(number)).encode()
            for row in self._documents:
                body = listed if row["name"] == documents.SEGMENT_LIST else row["body"]
                yield row | {"transfer": growth.transfer(number), "body": body}

    def _artifact_row(self, number: int) -> dict[str, Any]:
        growth = self._growth
        return self._artifact | {
            "repository": growth.repository(number),
            "tag": growth.tag(number),
            "transfer": growth.transfer(number),
            "digest": _digest("artifact", number),
            "size": growth.each << 20,
            "delivered_at": self._at(number),
        }

    def _turn_row(self, number: int) -> dict[str, Any]:
        growth = self._growth
        row = self._turn | {
            "repository": growth.repository(number),
            "tag": growth.tag(number),
            "waybill": _digest("waybill", number),
        }
        return row | {COLUMN: self._seal.seal("turns", row)}

    def _at(self, number: int) -> int:
        """Return when an artifact came: the last one just before the one that is copied."""
        at: int = self._transfer["created_at"]
        return at - (self._growth.artifacts - number) * _APART_MICROS


def _digest(what: str, number: int) -> str:
    return f"sha256:{blake2b(f'{what} {number}'.encode(), digest_size=32).hexdigest()}"
