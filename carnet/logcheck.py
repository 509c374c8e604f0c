"""The log check: whether a published log is whole, from its static files and its key alone.

Gateways, agents and auditors run the same check: every entry is hashed, every tile is compared with what the entries give, and
the root with what the key signed. It reads through a function and keeps one tile a level, however long the log is.

Rules:      1. each entry is canonical and in the tree that was signed  2. each tile of each level is what the entries give
            3. an earlier checkpoint's tree is a prefix of this one  4. a missing file is a failed check
Spec:       docs/statements.md section "Log"; c2sp.org/tlog-tiles
Example:    >>> from carnet.keys import SigningKey
            >>> verify_log(lambda path: None, origin="acme.example/site/eu/log", key=SigningKey(bytes(32)).public)
            Traceback (most recent call last):
            carnet.errors.IntegrityError: log acme.example/site/eu/log: checkpoint is missing [E-LOG]
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from carnet.checkpoint import Checkpoint, open_checkpoint
from carnet.entries import parse_entry
from carnet.errors import CarnetError, IntegrityError
from carnet.keys import VerifyingKey
from carnet.merkle import FrontierTree, leaf_hash
from carnet.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, decode_entries, decode_tile, tile_at

ReadFile = Callable[[str], bytes | None]
"""Returns the bytes of a file below the log's prefix, or None; the caller bounds their size."""


@dataclass(frozen=True, slots=True)
class LogReport:
    """What was found to be true of a log: its size and root, and how many entries of each type it has."""

    size: int
    root: bytes
    entries_by_type: Mapping[str, int]


def verify_log(read: ReadFile, *, origin: str, key: VerifyingKey, previous: Checkpoint | None = None) -> LogReport:
    """Return the report on the log that `read` reads, if everything in it agrees.

    Steps: (1) the checkpoint is signed by `key`; (2) each bundle of entries is canonical and hashes to the level 0 tile; (3) each
    tile above is what is below; (4) the root is the one signed; (5) at `previous.size` the root was `previous.root`.

    Raises:
        IntegrityError: E-LOG naming the checkpoint, the entry or the tile that is wrong or missing.
    """
    try:
        return _Check(read, origin, previous).run(key)
    except CarnetError as error:
        raise IntegrityError("E-LOG", f"log {origin}: {error.problem}") from error


class _Check:
    """One run over one log; `_above` holds, for each level over 0, the hashes of the tile being built there."""

    def __init__(self, read: ReadFile, origin: str, previous: Checkpoint | None) -> None:
        self._read = read
        self._origin = origin
        self._previous = previous
        self._tree = FrontierTree()
        self._size = 0
        self._above: dict[int, list[bytes]] = {}
        self._by_type: Counter[str] = Counter()

    def run(self, key: VerifyingKey) -> LogReport:
        checkpoint = open_checkpoint(self._file("checkpoint"), origin=self._origin, key=key)  # (1)
        self._size = checkpoint.size
        if self._previous is not None and self._previous.size > checkpoint.size:
            raise IntegrityError("E-LOG", f"it has {checkpoint.size} entries, but signed {self._previous.size} before")
        self._check_previous()
        for index in range((checkpoint.size + TILE_WIDTH - 1) // TILE_WIDTH):
            self._check_bundle(index)
        for level in sorted(self._above):
            self._compare_tile(level, checkpoint.size >> (TILE_HEIGHT * (level + 1)))
        if self._tree.root() != checkpoint.root:  # (4)
            raise IntegrityError("E-LOG", f"the root of its {checkpoint.size} entries is not the one signed")
        return LogReport(checkpoint.size, checkpoint.root, dict(self._by_type))

    def _check_bundle(self, index: int) -> None:
        """Check one bundle of entries against its tile of leaf hashes, and add it to the tree."""
        leaves = self._hashes(tile_at(0, index, self._size))
        for position, (entry, leaf) in enumerate(zip(self._entries(index), leaves, strict=True)):
            number = index * TILE_WIDTH + position
            if leaf_hash(entry) != leaf:  # (2)
                raise IntegrityError("E-LOG", f"entry {number} does not hash to its place in tile/0")
            try:
                self._by_type[parse_entry(entry).type] += 1
            except CarnetError as error:
                raise IntegrityError("E-LOG", f"entry {number}: {error.problem}") from error
            self._add(leaf)

    def _add(self, leaf: bytes) -> None:
        for node in self._tree.append(leaf)[1:]:
            level, rest = divmod(node.level, TILE_HEIGHT)
            if rest == 0:
                hashes = self._above.setdefault(level, [])
                hashes.append(node.hash)
                if len(hashes) == TILE_WIDTH:
                    self._compare_tile(level, node.index // TILE_WIDTH)
        self._check_previous()

    def _check_previous(self) -> None:
        """(5) Compare with the earlier checkpoint when the tree is as large as it was then."""
        previous = self._previous
        if previous is not None and self._tree.size == previous.size and self._tree.root() != previous.root:
            raise IntegrityError("E-LOG", f"its first {previous.size} entries are not those it signed before")

    def _compare_tile(self, level: int, index: int) -> None:
        """(3) Compare a finished tile above level 0 with its file, and forget it."""
        hashes = self._above[level]
        if hashes:
            tile = tile_at(level, index, self._size)
            if self._hashes(tile) != tuple(hashes):
                raise IntegrityError("E-LOG", f"{tile.path()} is not what is below it")
            hashes.clear()

    def _entries(self, index: int) -> tuple[bytes, ...]:
        tile = tile_at(-1, index, self._size)
        return self._wide(tile, decode_entries)

    def _hashes(self, tile: Tile) -> tuple[bytes, ...]:
        return self._wide(tile, decode_tile)

    def _wide(self, tile: Tile, decode: Callable[[bytes, int], tuple[bytes, ...]]) -> tuple[bytes, ...]:
        """Return a tile's elements; a partial tile may have been replaced by the full one, whose beginning it is."""
        found = tile
        data = self._read(tile.path())
        if data is None and tile.is_partial:
            found = tile.full()
            data = self._read(found.path())
        if data is None:
            raise IntegrityError("E-LOG", f"{tile.path()} is missing")
        try:
            return decode(data, found.width)[: tile.width]
        except CarnetError as error:
            raise IntegrityError("E-LOG", f"{found.path()}: {error.problem}") from error

    def _file(self, path: str) -> bytes:
        data = self._read(path)
        if data is None:
            raise IntegrityError("E-LOG", f"{path} is missing")
        return data
