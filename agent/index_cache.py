"""Keeps sealed pages of indexes on this machine, so that a push need not fetch the indexes of what it builds upon.

A page is a segment: encrypted under its artifact's key, which is never kept here, and named by its hash. Whoever reads this
directory learns sizes; whoever changes it is found out. Without it a push costs more bytes, and is the same push.

Rules:      1. a page that does not hash to its name is not used, and is fetched  2. no failure of this disk fails a push
            3. what was used longest ago goes when there is more than may be kept
Layout:     <directory>/<segment id>
"""

import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from carnet.chunking import Buffer
from carnet.flow.ending import in_thread
from carnet.identifiers import SegmentId
from carnet.limits import MIB, SEGMENT_BYTES_MAX
from carnet.suites import SUITE_1, segment_id

_OWNER_ONLY = 0o700


class IndexCache:
    """Pages in one directory, made when the first is kept. Any number of processes may share it."""

    def __init__(self, directory: Path, mib: int) -> None:
        """Keep at most `mib` MiB in `directory`; 0 keeps and finds nothing."""
        self._directory = directory
        self._bytes_max = mib * MIB

    async def page(self, page: SegmentId, fetch: Callable[[SegmentId], Awaitable[Buffer]]) -> Buffer:
        """Return the sealed page, from here or by `fetch`, whose errors are raised; what is fetched is kept if it is right."""
        found = await in_thread(self._find, page)
        if found is not None:
            return found
        sealed = await fetch(page)
        await in_thread(self.keep, page, sealed)
        return sealed

    def keep(self, page: SegmentId, sealed: Buffer) -> None:
        """Keep the page, if it is what its id says and the disk lets us. Blocks."""
        if self._bytes_max and segment_id(SUITE_1, sealed) == page:
            with contextlib.suppress(OSError):
                self._directory.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
                self._write(self._directory / page, sealed)
                self._make_room()

    def _find(self, page: SegmentId) -> bytes | None:
        path = self._directory / page
        if not self._bytes_max:
            return None
        try:
            with path.open("rb") as file:
                sealed = file.read(SEGMENT_BYTES_MAX + 1)
            if segment_id(SUITE_1, sealed) != page:
                return None
            os.utime(path)
        except OSError:
            return None
        return sealed

    def _write(self, path: Path, sealed: Buffer) -> None:
        """Write beside and rename. It is not synced: a page that a power cut left in part is no page."""
        temporary = path.with_name(f".{secrets.token_hex(8)}")
        try:
            temporary.write_bytes(sealed)
            temporary.rename(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _make_room(self) -> None:
        """Remove what was used longest ago, and what a killed process left behind, until the rest is within the bound."""
        files = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                state = entry.stat(follow_symlinks=False)
                files.append((state.st_mtime_ns, state.st_size, entry.path))
        surplus = sum(size for _, size, _ in files) - self._bytes_max
        for _, size, path in sorted(files):
            if surplus <= 0:
                break
            Path(path).unlink(missing_ok=True)
            surplus -= size
