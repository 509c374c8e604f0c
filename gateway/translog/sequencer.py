"""The sequencer: makes what the catalog queued into signed tiles, in the one order that never forks a log.

A batch is staged before it is signed, read again and computed a second way, signed, swapped in as the head, and only then
published. The swap in the catalog is the moment of truth: before it nothing was promised, after it everything staged will be
published, by this process or by the next.

Rules:      1. the order is: build, stage, check again, sign, swap, publish tiles, publish checkpoint
            2. nothing is signed that the second computation does not give  3. any doubt after the swap ends the process
            4. a start publishes what was swapped, and refuses a catalog that is behind its own published checkpoint
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from carnet.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from carnet.errors import CarnetError, IntegrityError, Unavailable
from carnet.keys import SigningKey
from carnet.merkle import EMPTY_ROOT, FrontierTree, tree_root
from carnet.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    decode_entries,
    decode_tile,
    encode_entries,
    encode_tile,
    read_nodes,
    tile_at,
    tiles_changed,
)
from gateway.catalog.engine import SqliteCatalog
from gateway.catalog.log_rows import SignedHead
from gateway.catalog.transaction import SqliteTransaction
from gateway.storage.durable import Step, SyncFailure, no_step
from gateway.translog.files import LogFiles
from gateway.translog.recheck import check_staged

BATCH_ENTRIES_MAX = 1_024
Row = tuple[bytes, bytes]
"""An entry and its leaf hash, as the catalog has them."""


class Sequencer:
    """Owns the log's head. One task calls `start` once, then `sequence` again and again; nothing else writes the log."""

    def __init__(self, catalog: SqliteCatalog, files: LogFiles, *, origin: str, key: SigningKey, step: Step = no_step) -> None:
        """Take the catalog that has the entries, the files to write, the log's name and its key."""
        self._catalog = catalog
        self._files = files
        self._origin = origin
        self._key = key
        self._step = step
        self._tree = FrontierTree()
        self._swapped: tuple[FrontierTree, SignedHead] | None = None
        self.head = SignedHead(0, EMPTY_ROOT, "")
        """The published head; only `start` and `sequence` change it."""

    async def start(self) -> None:
        """Create the log if this site has none, or finish what a crash interrupted. Doing it twice changes nothing.

        Raises:
            IntegrityError: E-LOG if catalog, files and signatures do not agree; E-SIGNATURE if another key signed.
        """
        head = await self._catalog.read(lambda catalog: catalog.log_head())
        if head is None:
            head = await self._create()
        await asyncio.to_thread(self._recover, head)

    async def sequence(self) -> bool:
        """Put the next entries under a published checkpoint; False if there are none.

        Raises:
            Unavailable: E-DISK-FULL or E-BUSY; nobody was promised anything yet, the same call may succeed later.
            IntegrityError: E-LOG if what was staged is not what was built; nothing was signed.
            SyncFailure: the process must end; the next start finishes the batch.
        """
        if self._swapped is None:
            rows = await self._catalog.read(partial(_rows_after, self.head.size))
            if not rows:
                return False
            self._swapped = await self._swap(rows)
        tree, head = self._swapped
        try:
            await asyncio.to_thread(self._apply, head)
        except Unavailable:
            raise  # a full disk is no doubt: the same files are published when there is room
        except (CarnetError, OSError) as error:
            raise SyncFailure(f"log head of size {head.size} is signed but could not be published: {error}") from error
        self._tree, self.head, self._swapped = tree, head, None
        return True

    async def _swap(self, rows: Sequence[Row]) -> tuple[FrontierTree, SignedHead]:
        """Prepare a batch and make it the head in the catalog, unpublished."""
        old = self.head
        tree, new = await asyncio.to_thread(self._prepare, rows)
        self._step("swap")
        if not await self._catalog.write(lambda catalog: catalog.swap_log_head(old, new)):
            raise SyncFailure(f"log head of size {old.size} was changed by somebody else")
        self._step("swapped")
        return tree, new

    async def _create(self) -> SignedHead:
        """Sign the empty log; refuse if files of a log are there that the catalog does not know."""
        if self._files.checkpoint() is not None:
            raise IntegrityError("E-LOG", "a checkpoint is published, but the catalog has no log: was the catalog replaced?")
        head = self._sign(0, EMPTY_ROOT)
        await self._catalog.write(lambda catalog: catalog.create_log_head(head))
        return head

    def _prepare(self, rows: Sequence[Row]) -> tuple[FrontierTree, SignedHead]:
        """Build, stage, check and sign a batch; return the tree and the head after it."""
        tree = self._tree.copy()
        tiles = self._build(tree, rows)
        root = tree.root()
        self._step("stage")
        self._files.stage(tree.size, root, tiles)
        self._step("staged")
        check_staged(self._files, old=self.head, size=tree.size, root=root, rows=rows)
        self._step("checked")
        return tree, self._sign(tree.size, root)

    def _build(self, tree: FrontierTree, rows: Sequence[Row]) -> dict[Tile, bytes]:
        """Append the rows to `tree`; return every tile that is new or wider."""
        old_size = tree.size
        fresh: dict[tuple[int, int], bytes] = {}
        for _, leaf in rows:
            for node in tree.append(leaf):
                if node.level % TILE_HEIGHT == 0:
                    fresh[node.level // TILE_HEIGHT, node.index] = node.hash
        entries = [entry for entry, _ in rows]
        tiles: dict[Tile, bytes] = {}
        for tile in tiles_changed(old_size, tree.size):
            start, end = tile.index * TILE_WIDTH, tile.index * TILE_WIDTH + tile.width
            known = max(0, (old_size >> (TILE_HEIGHT * max(tile.level, 0))) - start)
            before = self._files.tile(tile_at(tile.level, tile.index, old_size)) if known else b""
            if tile.is_entries:
                kept = decode_entries(before, known)
                tiles[tile] = encode_entries([*kept, *entries[start + known - old_size : end - old_size]])
            else:
                added = [fresh[tile.level, index] for index in range(start + known, end)]
                tiles[tile] = encode_tile([*decode_tile(before, known), *added])
        return tiles

    def _sign(self, size: int, root: bytes) -> SignedHead:
        checkpoint = Checkpoint(self._origin, size, root)
        note = sign_checkpoint(checkpoint, self._key).encode()
        if open_checkpoint(note, origin=self._origin, key=self._key.public) != checkpoint:
            raise IntegrityError("E-LOG", f"the signed checkpoint of size {size} does not read back")
        return SignedHead(size, root, note.decode())

    def _apply(self, head: SignedHead) -> None:
        """Publish a swapped head: tiles, then the checkpoint. The same again changes nothing."""
        if head.size:
            staged = self._files.staged(head.size, head.root)
            if staged is None:
                raise IntegrityError("E-LOG", f"the staged tiles of the signed head of size {head.size} are missing")
            self._step("publish")
            self._files.publish(staged)
        self._step("published")
        self._files.publish_checkpoint(head.note.encode())
        self._step("checkpoint-published")
        self._files.forget_staged()

    def _recover(self, head: SignedHead) -> None:
        """Bring the files to the catalog's head, and the tree in memory to the files."""
        signed = open_checkpoint(head.note.encode(), origin=self._origin, key=self._key.public)
        if (signed.size, signed.root) != (head.size, head.root):
            raise IntegrityError("E-LOG", f"the catalog's head of size {head.size} is not the one that was signed")
        note = self._files.checkpoint()
        published = None if note is None else open_checkpoint(note, origin=self._origin, key=self._key.public)
        if published is not None and (
            published.size > head.size or (published.size == head.size and published.root != head.root)
        ):
            raise IntegrityError(
                "E-LOG",
                f"the catalog has a head of size {head.size}, but {published.size} is published: was an old copy restored?",
            )
        if note == head.note.encode():
            self._files.forget_staged()
        else:
            self._apply(head)
        self._tree = self._load_tree(head, published)
        self.head = head

    def _load_tree(self, head: SignedHead, earlier: Checkpoint | None) -> FrontierTree:
        """Return the tree that the tiles hold; it must have the head's root, and `earlier` as a prefix."""
        nodes = read_nodes(head.size, self._files.tile)
        levels = [level for level in range(head.size.bit_length() - 1, -1, -1) if head.size >> level & 1]
        tree = FrontierTree(head.size, [nodes(level, (head.size >> level) - 1) for level in levels])
        if tree.root() != head.root or (earlier is not None and tree_root(earlier.size, nodes) != earlier.root):
            raise IntegrityError("E-LOG", f"the tiles of the log do not have the root signed at size {head.size}")
        return tree


def _rows_after(size: int, catalog: SqliteTransaction) -> list[Row]:
    return catalog.log_range(size, BATCH_ENTRIES_MAX)
