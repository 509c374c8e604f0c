"""`python -m benchmarks.store_layout`: how fast segments become durable, in a file each, synced singly or together, or in packs.

The pack is what restic has, in its simplest form: segments are appended to one file, which is synced once a group. It has no
index and deletes nothing, so it is the limit of what packs could gain. Ids are checked by all three; one by one, one thread does
all that a put does.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from benchmarks.machine import describe_machine
from carnet.identifiers import SegmentId
from carnet.limits import MIB
from carnet.suites import SUITE_1, segment_id
from gateway.batching import BatchThread, Item
from gateway.storage.local import LocalBlobStore, check_segment

_MIB, _ROUNDS, _AT_ONCE = 256, 5, (1, 4, 24)


class Store(Protocol):
    """What is compared."""

    async def put_if_absent(self, segment: SegmentId, data: bytes) -> bool:
        """Keep a segment durably."""
        ...

    def close(self) -> None:
        """End its threads."""
        ...


class Pack:
    """Appends to one file."""

    def __init__(self, directory: Path) -> None:
        """Make the file."""
        directory.mkdir()
        self._file = os.open(directory / "pack", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._pool = ThreadPoolExecutor(4)
        self._group: BatchThread[bytes] = BatchThread("pack", self._append)

    async def put_if_absent(self, segment: SegmentId, data: bytes) -> bool:
        """Check, append, sync with the group."""
        await asyncio.get_running_loop().run_in_executor(self._pool, check_segment, segment, data)
        await self._group.submit(data)
        return True

    def _append(self, batch: Sequence[Item[bytes]]) -> None:
        for item in batch:
            os.write(self._file, item.work)
        os.fdatasync(self._file)

    def close(self) -> None:
        """End the threads."""
        self._group.close()
        self._pool.shutdown()
        os.close(self._file)


LAYOUTS = {
    "a file each, synced one by one": lambda directory: LocalBlobStore(directory, writers=1),
    "a file each, synced together": LocalBlobStore,
    "a pack": Pack,
}


async def _seconds(store: Store, segments: Sequence[tuple[SegmentId, bytes]], at_once: int) -> float:
    waiting = iter(segments)

    async def put_all() -> None:
        for segment, data in waiting:
            await store.put_if_absent(segment, data)

    started = time.perf_counter()
    await asyncio.gather(*(put_all() for _ in range(at_once)))
    return time.perf_counter() - started


def main() -> int:
    """Measure all of them in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--directory", type=Path, help="on the disk that is meant; $TMPDIR")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    given = parser.parse_args()
    pieces = [os.urandom(MIB) for _ in range(_MIB)]
    segments = [(segment_id(SUITE_1, piece), piece) for piece in pieces]
    print(f"{describe_machine()}, load {os.getloadavg()[0]:.1f}: {_MIB} segments of 1 MiB, {given.rounds} rounds\n")
    print(f"{'':<34}{'at once':>8}{'MiB/s':>8}{'range':>14}")
    rates: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="carnet-store-", dir=given.directory) as scratch:
        for _ in range(given.rounds):
            for at_once in _AT_ONCE:
                for name, layout in LAYOUTS.items():
                    directory = Path(scratch, "store")
                    store = layout(directory)
                    rates.setdefault((name, at_once), []).append(_MIB / asyncio.run(_seconds(store, segments, at_once)))
                    store.close()
                    shutil.rmtree(directory)
                    os.sync()
    for (name, at_once), found in rates.items():
        spread = f"{min(found):.0f}..{max(found):.0f}"
        print(f"{name:<34}{at_once:>8}{statistics.median(found):>8.0f}{spread:>14}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
