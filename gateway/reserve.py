"""The disk reserve: below it nothing new is taken in, so that what was taken in can still be finished.

A commit, a log entry, a checkpoint and a deletion all need a little room. A disk that is full to the last byte can take none of
them, and then nothing gets better by itself; so new declarations and segments are refused while there is still room for those.

Rules:      1. the file system is asked at most once a second  2. what cannot be asked is no refusal: the write itself will fail
Spec:       docs/operations.md section "Disk"
"""

import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from carnet.errors import StorageFull
from carnet.identifiers import SegmentId
from gateway.ports import BlobStore

LIMIT: Final = "limits.disk_reserve_bytes"
"""The setting's name, as every refusal gives it."""
_FRESH_S: Final = 1.0
_RETRY_AFTER_S: Final = 30


def free_bytes(directory: Path) -> int:
    """Return the bytes that this user may still write on the file system of `directory`; raises `OSError`."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


class DiskReserve:
    """Knows whether there is room for something new on the file system of one directory."""

    def __init__(
        self,
        directory: Path,
        reserve_bytes: int,
        *,
        free: Callable[[Path], int] = free_bytes,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep `reserve_bytes` free below `directory`; 0 keeps nothing."""
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self._free = free
        self._monotonic = monotonic
        self._asked_at: float | None = None
        self._free_bytes: int | None = None

    def require_room(self, what: str) -> None:
        """Return if `what` may be taken in.

        Raises:
            StorageFull: E-DISK-FULL naming the limit, while less than the reserve is free.
        """
        if not self._reserve_bytes:
            return
        now = self._monotonic()
        if self._asked_at is None or now - self._asked_at >= _FRESH_S:
            self._asked_at, self._free_bytes = now, self._ask()
        if self._free_bytes is not None and self._free_bytes < self._reserve_bytes:
            raise StorageFull(
                "E-DISK-FULL",
                f"no room for {what}: {self._free_bytes} bytes are free on the gateway's disk, "
                f"{self._reserve_bytes} are kept free ({LIMIT})",
                retry_after_s=_RETRY_AFTER_S,
                limit=LIMIT.rpartition(".")[2],
            )

    def _ask(self) -> int | None:
        try:
            return self._free(self._directory)
        except OSError:
            return None


class ReservingBlobStore:
    """A `BlobStore` that takes nothing new while the disk is near its end; reads and deletions go on."""

    def __init__(self, store: BlobStore, reserve: DiskReserve) -> None:
        """Stand before `store`."""
        self._store = store
        self._reserve = reserve

    async def put_if_absent(self, segment: SegmentId, data: bytes | bytearray | memoryview) -> bool:
        """Keep `data` as the store does; raise `StorageFull` E-DISK-FULL below the reserve."""
        self._reserve.require_room(f"segment {segment}")
        return await self._store.put_if_absent(segment, data)

    async def get(self, segment: SegmentId) -> bytes:
        """Return the segment's bytes."""
        return await self._store.get(segment)

    async def head(self, segment: SegmentId) -> int | None:
        """Return the segment's size, or None."""
        return await self._store.head(segment)

    async def delete(self, segment: SegmentId) -> None:
        """Remove the segment."""
        await self._store.delete(segment)

    def list(self) -> AsyncIterator[SegmentId]:
        """Yield the ids of all segments."""
        return self._store.list()
