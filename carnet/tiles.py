"""Tiles: the log's tree and entries as static files, laid out as C2SP tlog-tiles says.

A tile holds up to 256 hashes of one level; level 0 hashes are leaves, each hash of level L is the root of a full tile of L - 1.
From tiles alone anyone computes every proof, so a log needs no service to be checked.

Rules:      1. a full tile never changes; a partial one is replaced by a wider one, never edited
            2. an entry is at most 65535 bytes (ours at most LOG_ENTRY_BYTES_MAX)  3. a path has one spelling
Layout:     tile/<level>/<index>[.p/<width>]: hashes[32] one after another; index in groups of three digits, all but the last
            after an x; tile/entries/<index>[.p/<width>]: for each entry u16 big-endian length || bytes
Spec:       docs/statements.md section "Log"; c2sp.org/tlog-tiles
Example:    >>> Tile(0, 1234067, 112).path()
            'tile/0/x001/x234/067.p/112'
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from carnet.errors import IntegrityError, PeerError
from carnet.limits import LOG_ENTRY_BYTES_MAX
from carnet.merkle import HASH_BYTES, SIZE_MAX, ReadNode, node_hash

TILE_WIDTH: Final = 256
TILE_HEIGHT: Final = 8
"""Levels of the tree in one tile: 256 is 2 to the 8th."""
LEVEL_MAX: Final = 63
_ENTRIES = "entries"
_PATH = re.compile(
    r"tile/(?P<level>entries|[0-9]|[1-5][0-9]|6[0-3])/(?P<index>(?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """The coordinates of a tile; `level` -1 stands for the bundle of entries beside the level 0 tile of the same index."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        """Refuse what no log can have (`ValueError`)."""
        if not (-1 <= self.level <= LEVEL_MAX and 0 <= self.index <= SIZE_MAX and 1 <= self.width <= TILE_WIDTH):
            raise ValueError(f"no such tile: level {self.level}, index {self.index}, width {self.width}")

    @property
    def is_entries(self) -> bool:
        """Whether this is a bundle of entries rather than hashes."""
        return self.level < 0

    @property
    def is_partial(self) -> bool:
        """Whether it has fewer than 256 elements."""
        return self.width < TILE_WIDTH

    def full(self) -> "Tile":
        """Return the full tile at the same place."""
        return Tile(self.level, self.index)

    def path(self) -> str:
        """Return the path below the log's prefix, without a leading slash."""
        digits = f"{self.index:03d}"
        digits = digits.zfill((len(digits) + 2) // 3 * 3)
        groups = [digits[start : start + 3] for start in range(0, len(digits), 3)]
        index = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        level = _ENTRIES if self.is_entries else str(self.level)
        return f"tile/{level}/{index}" + (f".p/{self.width}" if self.is_partial else "")


def entries_tile(index: int, width: int = TILE_WIDTH) -> Tile:
    """Return the coordinates of a bundle of entries."""
    return Tile(-1, index, width)


def parse_tile_path(path: str) -> Tile:
    """Return the tile that `path` names; raise `PeerError` E-FORMAT unless it is spelt as `Tile.path` spells it."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise PeerError("E-FORMAT", f"not a tile path: {ascii(path)[:80]}")
    level = -1 if match["level"] == _ENTRIES else int(match["level"])
    index = int(match["index"].replace("/", "").replace("x", ""))
    width = int(match["width"] or TILE_WIDTH)
    try:
        tile = Tile(level, index, width)
    except ValueError as error:
        raise PeerError("E-FORMAT", str(error)) from None
    if tile.path() != path:
        raise PeerError("E-FORMAT", f"tile path is spelt {tile.path()}")
    return tile


def tiles_changed(old_size: int, new_size: int) -> tuple[Tile, ...]:
    """Return the tiles, hashes and entries, that exist for `new_size` and did not, or were narrower, for `old_size`.

    In this order, so that whoever publishes them never shows a hash whose data is not there: entries first, then levels upwards.
    """
    if not 0 <= old_size <= new_size <= SIZE_MAX:
        raise ValueError(f"a log does not go from {old_size} entries to {new_size}")
    changed = list(_level_changed(-1, old_size, new_size))
    level = 0
    while new_size >> (TILE_HEIGHT * level):
        changed += _level_changed(level, old_size >> (TILE_HEIGHT * level), new_size >> (TILE_HEIGHT * level))
        level += 1
    return tuple(changed)


def tile_at(level: int, index: int, size: int) -> Tile:
    """Return the widest tile at this place in a log of `size`; raise `ValueError` if there is none."""
    count = (size >> (TILE_HEIGHT * max(level, 0))) - index * TILE_WIDTH
    return Tile(level, index, min(TILE_WIDTH, count))


def encode_tile(hashes: Iterable[bytes]) -> bytes:
    """Return the bytes of a tile."""
    return b"".join(hashes)


def decode_tile(data: bytes, width: int) -> tuple[bytes, ...]:
    """Return the `width` hashes of a tile; raise `IntegrityError` E-LOG if it is not that long."""
    if len(data) != width * HASH_BYTES:
        raise IntegrityError("E-LOG", f"tile of {len(data)} bytes, expected {width * HASH_BYTES}")
    return tuple(data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES))


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """Return the bytes of a bundle of 1 to 256 entries; raise `ValueError` if one is longer than LOG_ENTRY_BYTES_MAX."""
    if any(len(entry) > LOG_ENTRY_BYTES_MAX for entry in entries):
        raise ValueError(f"a log entry is at most {LOG_ENTRY_BYTES_MAX} bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_entries(data: bytes, width: int) -> tuple[bytes, ...]:
    """Return the `width` entries of a bundle; raise `IntegrityError` E-LOG if it holds more, fewer, or too long ones."""
    entries: list[bytes] = []
    position = 0
    for _ in range(width):
        length = int.from_bytes(data[position : position + 2], "big")
        end = position + 2 + length
        if position + 2 > len(data) or end > len(data) or length > LOG_ENTRY_BYTES_MAX:
            raise IntegrityError("E-LOG", f"entry {len(entries)} of a bundle of {width} is cut or too long")
        entries.append(data[position + 2 : end])
        position = end
    if position != len(data):
        raise IntegrityError("E-LOG", f"bundle of {width} entries has {len(data) - position} bytes after the last")
    return tuple(entries)


def read_nodes(size: int, read_tile: Callable[[Tile], bytes]) -> ReadNode:
    """Return a reader of tree nodes, for `merkle`'s proofs, over the tiles of a log of `size` entries.

    Nodes between the levels that tiles hold are computed. Tiles read are kept for the life of the reader: a proof touches one
    tile a level, so make one reader for one request. `read_tile` raises what it likes when a tile is missing.
    """
    kept: dict[Tile, tuple[bytes, ...]] = {}

    def read(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        first = index << height
        tile = tile_at(tile_level, first // TILE_WIDTH, size)
        if tile not in kept:
            kept[tile] = decode_tile(read_tile(tile), tile.width)
        start = first % TILE_WIDTH
        hashes = list(kept[tile][start : start + (1 << height)])
        if len(hashes) != 1 << height:
            raise ValueError(f"node {level}, {index} is not full in a log of {size}")
        while len(hashes) > 1:
            hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
        return hashes[0]

    return read


def _level_changed(level: int, old: int, new: int) -> Iterable[Tile]:
    if new == old:
        return
    for index in range(old // TILE_WIDTH, new // TILE_WIDTH):
        yield Tile(level, index)
    if new % TILE_WIDTH:
        yield Tile(level, new // TILE_WIDTH, new % TILE_WIDTH)
