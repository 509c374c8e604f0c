"""The log's files: immutable tiles, the checkpoint, and the batch that is staged before anything is signed.

A tile that is there is compared, never overwritten: a difference means that two histories were about to be published. The tree of
files is what peers and auditors read, served as it lies on the disk.

Rules:      1. every file is durable before a later step runs  2. a published tile never changes  3. a partial tile goes only when
            its full tile is there
Layout:     checkpoint | tile/<level>/<index>[.p/<width>] | tile/entries/... | staging/<size>-<root hex>
            staged: for each tile u16 length || path || u32 length || bytes
"""

from collections.abc import Mapping
from pathlib import Path

from carnet.errors import IntegrityError, PeerError
from carnet.limits import NOTE_BYTES_MAX
from carnet.tiles import Tile, decode_entries, decode_tile, encode_entries, encode_tile, parse_tile_path
from gateway.storage.disk import SYSTEM_DISK, Disk
from gateway.storage.durable import Step, discard, make_directory, no_step, write_durable

_STAGED_BYTES_MAX = 1 << 30


class LogFiles:
    """The files below one log directory. One process writes; all methods block."""

    def __init__(self, directory: Path, *, step: Step = no_step, disk: Disk = SYSTEM_DISK) -> None:
        """Take the directory and make it if it is missing."""
        self._disk = disk
        self.directory = directory
        self._staging = directory / "staging"
        self._step = step
        make_directory(self._staging, disk)

    def checkpoint(self) -> bytes | None:
        """Return the published note, or None."""
        return self.read("checkpoint")

    def publish_checkpoint(self, note: bytes) -> None:
        """Replace the published note."""
        if self.checkpoint() != note:
            write_durable(self.directory / "checkpoint", note, step=self._step, disk=self._disk)

    def read(self, path: str) -> bytes | None:
        """Return a file of the log by its path there, or None."""
        try:
            return self._disk.read(self.directory / path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def tile(self, tile: Tile) -> bytes:
        """Return a tile; the beginning of the full one stands for a partial one that is gone.

        Raises:
            IntegrityError: E-LOG if it is missing or cannot be read.
        """
        data = self.read(tile.path())
        if data is not None:
            return data
        whole = self.read(tile.full().path())
        if whole is None:
            raise IntegrityError("E-LOG", f"{tile.path()} is missing")
        if tile.is_entries:
            return encode_entries(decode_entries(whole, tile.full().width)[: tile.width])
        return encode_tile(decode_tile(whole, tile.full().width)[: tile.width])

    def publish(self, tiles: Mapping[Tile, bytes]) -> None:
        """Write the tiles in the order given; one that is there must be the same.

        Raises:
            IntegrityError: E-LOG if a published tile has other bytes.
        """
        for tile, data in tiles.items():
            self._publish_tile(tile, data)

    def _publish_tile(self, tile: Tile, data: bytes) -> None:
        present = self.read(tile.path())
        if present is None:
            path = self.directory / tile.path()
            make_directory(path.parent, self._disk)
            write_durable(path, data, step=self._step, disk=self._disk)
        elif present != data:
            raise IntegrityError("E-LOG", f"{tile.path()} is published with other bytes")
        if not tile.is_partial:
            self._disk.remove_tree(self.directory / f"{tile.path()}.p")

    def stage(self, size: int, root: bytes, tiles: Mapping[Tile, bytes]) -> None:
        """Keep the tiles of the tree of `size` and `root` durably, unpublished."""
        write_durable(self._staged(size, root), _encode(tiles), step=self._step, disk=self._disk)

    def staged(self, size: int, root: bytes) -> dict[Tile, bytes] | None:
        """Return the staged tiles of this tree in the order in which they were given, or None.

        Raises:
            IntegrityError: E-LOG if the staged file is damaged.
        """
        path = self._staged(size, root)
        size_bytes = self._disk.size(path)
        if size_bytes is None:
            return None
        if size_bytes > _STAGED_BYTES_MAX:
            raise IntegrityError("E-LOG", f"staged batch {path.name} is too large")
        try:
            return _decode(self._disk.read(path))
        except PeerError as error:
            raise IntegrityError("E-LOG", f"staged batch {path.name}: {error.problem}") from error

    def forget_staged(self) -> None:
        """Remove all staged batches: the last one is published, others were never signed."""
        for name in self._disk.names(self._staging):
            discard(self._staging / name, self._disk)

    def _staged(self, size: int, root: bytes) -> Path:
        return self._staging / f"{size}-{root.hex()}"


def read_log_file(directory: Path, path: str) -> bytes | None:
    """Return a log's file for `carnet.logcheck`, or None; a file larger than any of a log counts as missing."""
    file = directory / path
    try:
        if file.stat().st_size > max(NOTE_BYTES_MAX, _BUNDLE_BYTES_MAX):
            return None
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


_BUNDLE_BYTES_MAX = 256 * (2 + 65_535)


def _encode(tiles: Mapping[Tile, bytes]) -> bytes:
    parts: list[bytes] = []
    for tile, data in tiles.items():
        path = tile.path().encode("ascii")
        parts += [len(path).to_bytes(2, "big"), path, len(data).to_bytes(4, "big"), data]
    return b"".join(parts)


def _decode(staged: bytes) -> dict[Tile, bytes]:
    tiles: dict[Tile, bytes] = {}
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        piece = staged[position : position + count]
        if len(piece) != count:
            raise IntegrityError("E-LOG", "a staged batch is cut")
        position += count
        return piece

    while position < len(staged):
        path = take(int.from_bytes(take(2), "big"))
        tile = parse_tile_path(path.decode("ascii", errors="replace"))
        tiles[tile] = take(int.from_bytes(take(4), "big"))
    return tiles
