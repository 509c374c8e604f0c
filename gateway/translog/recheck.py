"""The second computation: is what lies staged on the disk exactly the tree that is about to be signed?

One flipped bit under a signature ends a log for good. So the staged bytes are read back, and everything that the first
computation gave is computed again from them, by recursion instead of by appending.

Rules:      1. nothing of the first computation but its result is used  2. it reads from the disk, not from memory
            3. it costs the size of the batch, not of the log
"""

import hashlib
from collections.abc import Mapping, Sequence

from carnet.errors import IntegrityError
from carnet.merkle import root_of, tree_root
from carnet.tiles import TILE_WIDTH, Tile, decode_entries, decode_tile, read_nodes
from gateway.catalog.log_rows import SignedHead
from gateway.translog.files import LogFiles


def check_staged(files: LogFiles, *, old: SignedHead, size: int, root: bytes, rows: Sequence[tuple[bytes, bytes]]) -> None:
    """Return if the staged batch is the tree of `size` and `root` that extends `old` by exactly `rows`.

    Steps: (1) each staged entry hashes to its leaf; (2) each hash above is the recursive root of the tile below it; (3) the root
    over all is `root`; (4) the old size has the old root; (5) the new entries are those of `rows`, in order.

    Raises:
        IntegrityError: E-LOG naming the first tile or entry that is wrong.
    """
    staged = files.staged(size, root)
    if staged is None:
        raise IntegrityError("E-LOG", f"the staged tiles of size {size} cannot be read back")

    def read(tile: Tile) -> bytes:
        return staged[tile] if tile in staged else files.tile(tile)

    entries: dict[int, bytes] = {}
    for tile, data in staged.items():
        if tile.is_entries:
            entries.update(_check_bundle(tile, data, read(Tile(0, tile.index, tile.width))))  # (1)
        elif tile.level > 0:
            _check_tile(tile, data, staged)  # (2)
    nodes = read_nodes(size, read)
    if tree_root(size, nodes) != root:  # (3)
        raise IntegrityError("E-LOG", f"the staged tiles do not have the root computed for size {size}")
    if tree_root(old.size, nodes) != old.root:  # (4)
        raise IntegrityError("E-LOG", f"the staged tiles do not extend the log of size {old.size}")
    if [entries.get(number) for number in range(old.size, size)] != [entry for entry, _ in rows]:  # (5)
        raise IntegrityError("E-LOG", f"the staged entries from {old.size} on are not those of the catalog")


def _check_bundle(tile: Tile, data: bytes, leaves: bytes) -> dict[int, bytes]:
    """Return the bundle's entries by number after each was found to hash to its leaf."""
    first = tile.index * TILE_WIDTH
    entries = decode_entries(data, tile.width)
    for position, (entry, leaf) in enumerate(zip(entries, decode_tile(leaves, tile.width), strict=True)):
        if hashlib.sha256(b"\x00" + entry).digest() != leaf:
            raise IntegrityError("E-LOG", f"staged entry {first + position} does not hash to its leaf")
    return dict(enumerate(entries, start=first))


def _check_tile(tile: Tile, data: bytes, staged: Mapping[Tile, bytes]) -> None:
    """Check those hashes of a tile whose tile below is in this batch; the others were checked in their own."""
    for position, found in enumerate(decode_tile(data, tile.width)):
        below = Tile(tile.level - 1, tile.index * TILE_WIDTH + position)
        if below in staged and root_of(decode_tile(staged[below], TILE_WIDTH)) != found:
            raise IntegrityError("E-LOG", f"staged {tile.path()} is not what is below it")
