"""The local store: one file a segment, durable before it is acknowledged.

A put hashes, writes and syncs on a pool of threads, then joins a group: one thread gives the files of the group their names and
has each directory synced once. Files are synced side by side, for a file system makes one commit of what comes together. Reads
have threads of their own and do not wait for the disk to write. The store knows ids and bytes; it knows no transfer and no key.

Rules:      1. nothing is acknowledged before file and directory are synced  2. a name appears only after its bytes are synced
            3. bytes are checked against the id on the way in and on the way out  4. one process owns the directory
            5. a corrupt file never counts as already here: a put replaces it
Layout:     store/<first 2 hex digits>/<segment id> | store/incoming/<temporary>
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from carnet.errors import CallerError, CarnetError, IntegrityError, NotFound, Unavailable
from carnet.identifiers import SegmentId
from carnet.suites import SUITE_1, segment_id
from gateway.batching import BatchThread, Item
from gateway.descriptors import OUT_OF_FILES
from gateway.storage.disk import SYSTEM_DISK, Disk
from gateway.storage.durable import (
    Step,
    SyncFailure,
    discard,
    make_directory,
    no_step,
    sync_directory,
    sync_file,
    translate_disk_error,
    write_temporary,
)

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

_SHARDS = 256
_SHARD_DIGITS = slice(3, 5)
"""Where the two hex digits of the shard stand in a segment id's text, after `b3-`."""


def check_segment(segment: SegmentId, data: bytes | bytearray | memoryview) -> None:
    """Return if `data` has the id `segment`; raise `IntegrityError` E-SEGMENT-CORRUPT otherwise."""
    computed = segment_id(SUITE_1, data)
    if computed != segment:
        raise IntegrityError("E-SEGMENT-CORRUPT", f"segment {segment}: {len(data)} bytes of it hash to {computed}")


@dataclass(frozen=True, slots=True)
class _Placement:
    """What the group does: name a staged file that is synced, or only make sure that a directory is synced."""

    final: Path
    staged: Path | None = None


class LocalBlobStore:
    """Implements `BlobStore` on a directory of this machine. Close it to end its threads."""

    def __init__(
        self,
        directory: Path,
        *,
        threads: int = 4,
        writers: int = 8,
        sweep: bool = True,
        step: Step = no_step,
        disk: Disk = SYSTEM_DISK,
        batches: type[BatchThread[_Placement]] = BatchThread,
    ) -> None:
        """Take the directory, make its shards and remove what an earlier crash left in `incoming`. Blocks, some milliseconds.

        Only the server may `sweep`: to anyone beside it, what is in `incoming` may be segments on their way. `threads`
        read, `writers` write and sync.
        """
        self._disk = disk
        self._directory = directory
        self._incoming = directory / "incoming"
        self._step = step
        self._names = itertools.count()
        self._writing: set[str] = set()
        """Temporary files from before they are made until they are named or gone; owned by whatever thread works on the file."""
        make_directory(self._incoming, disk)
        if sweep:
            for leftover in disk.names(self._incoming):
                disk.remove(self._incoming / leftover)
        self._make_shards()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="store-write")
        self._syncers = ThreadPoolExecutor(writers, thread_name_prefix="store-name") if writers > 1 else None
        """Sync directories for the group, which must not wait behind puts; a single writer leaves them to the group's thread."""
        self._group = batches("store-sync", self._place)

    def close(self) -> None:
        """Finish what was begun and end the threads. Blocks."""
        self._pool.shutdown()
        self._writers.shutdown()
        self._group.close()
        if self._syncers is not None:
            self._syncers.shutdown()

    async def put_if_absent(self, segment: SegmentId, data: bytes | bytearray | memoryview) -> bool:
        """Keep `data` durably; see `BlobStore.put_if_absent`.

        Safe to cancel: the segment is then kept or not, never in part; the buffer may be reused once this returned or raised.
        """
        staging = asyncio.get_running_loop().run_in_executor(self._writers, self._stage, segment, data)
        try:
            placement = await asyncio.shield(staging)
        except asyncio.CancelledError:
            await _wait_for(staging)  # the thread still reads the caller's buffer
            failure = staging.exception()
            if isinstance(failure, SyncFailure):
                raise failure from None
            if failure is None:
                self._abandon(staging.result())
            raise
        try:
            placed = self._group.enqueue(placement)
        except Unavailable:
            self._abandon(placement)
            raise
        return await placed is True

    async def get(self, segment: SegmentId) -> bytes:
        """Return the segment's bytes, hashed again; see `BlobReader.get`."""
        return await self._in_thread(self._read, segment)

    async def head(self, segment: SegmentId) -> int | None:
        """Return the size of the segment's file, or None; the bytes are not read."""
        return await self._in_thread(self._size, segment)

    async def delete(self, segment: SegmentId) -> None:
        """Remove the segment's file durably; see `BlobStore.delete`.

        Safe to cancel: once this returned or raised, the thread is done with the file, and what is put later stays.
        """
        path = self._path(segment)
        removing = asyncio.get_running_loop().run_in_executor(self._pool, self._remove, path)
        try:
            await asyncio.shield(removing)
        except asyncio.CancelledError:
            await _wait_for(removing)
            removing.exception()  # asked for here, since nobody else will
            raise
        await self._group.submit(_Placement(path))

    async def list(self) -> AsyncIterator[SegmentId]:
        """Yield the ids of all files, one shard at a time; files that are not segments are passed over."""
        for number in range(_SHARDS):
            for segment in await self._in_thread(self._ids_in, self._directory / f"{number:02x}"):
                yield segment

    async def shards(self) -> AsyncIterator[Mapping[SegmentId, int]]:
        """Yield the sizes of all segments, one directory at a time; see `StoreFiles.shards`."""
        for number in range(_SHARDS):
            yield await self._in_thread(self._sizes_in, f"{number:02x}")

    async def leftovers(self) -> Mapping[str, int]:
        """Return the temporary files that no put of this object writes, with their sizes; see `StoreFiles.leftovers`."""
        return await self._in_thread(self._left)

    async def remove_leftover(self, name: str) -> None:
        """Remove such a file; see `StoreFiles.remove_leftover`."""
        if name not in self._writing:
            await self._in_thread(self._remove, self._incoming / name)

    async def _in_thread(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def _make_shards(self) -> None:
        """Make the directories of all shards; a name in an unsynced directory would not be durable."""
        for number in range(_SHARDS):
            self._disk.make_directory(self._directory / f"{number:02x}")
        sync_directory(self._directory, self._disk)

    def _path(self, segment: SegmentId) -> Path:
        return self._directory / segment[_SHARD_DIGITS] / segment

    def _stage(self, segment: SegmentId, data: bytes | bytearray | memoryview) -> _Placement:
        """Check the bytes, write and sync them to a temporary file, unless they are here and right."""
        check_segment(segment, data)
        final = self._path(segment)
        if self._is_whole(segment):
            return _Placement(final)
        staged = self._incoming / f"{next(self._names)}-{segment}"
        self._writing.add(staged.name)
        self._step("stage")
        try:
            descriptor = write_temporary(staged, data, self._disk)
        except CarnetError:
            self._writing.discard(staged.name)
            raise
        self._step("staged")
        self._step("sync")
        try:
            sync_file(descriptor, segment, self._disk)
        finally:
            self._disk.close(descriptor)
        self._step("synced")
        return _Placement(final, staged)

    def _abandon(self, placement: _Placement) -> None:
        """Remove a staged file that no group will place."""
        if placement.staged is not None:
            self._discard(placement.staged)

    def _discard(self, staged: Path) -> None:
        discard(staged, self._disk)
        self._writing.discard(staged.name)

    def _is_whole(self, segment: SegmentId) -> bool:
        try:
            self._read(segment)
        except (NotFound, IntegrityError):
            return False
        return True

    def _read(self, segment: SegmentId) -> bytes:
        try:
            data = self._disk.read(self._path(segment))
        except FileNotFoundError:
            raise NotFound("E-SEGMENT-UNKNOWN", f"no segment {segment}") from None
        except OSError as error:
            raise translate_disk_error(error, f"segment {segment}") from error
        check_segment(segment, data)
        return data

    def _size(self, segment: SegmentId) -> int | None:
        return self._disk.size(self._path(segment))

    def _place(self, batch: Sequence[Item[_Placement]]) -> None:
        """Make the names of a group durable, whose files are: (1) rename each; (2) sync each directory once."""
        for item in batch:  # (1)
            try:
                item.result = self._name(item.work)
            except OSError as error:
                if item.work.staged is not None:
                    self._discard(item.work.staged)
                item.error = translate_disk_error(error, f"segment {item.work.final.name}")
        directories = list(dict.fromkeys(item.work.final.parent for item in batch))  # (2)
        if self._syncers is None or len(directories) == 1:
            problems = [self._sync_directory(directory) for directory in directories]
        else:
            working = [self._syncers.submit(self._sync_directory, directory) for directory in directories]
            wait(working)
            problems = [one.result() for one in working]
        problem_of = dict(zip(directories, problems, strict=True))
        for item in batch:
            item.error = item.error or problem_of[item.work.final.parent]

    def _sync_directory(self, directory: Path) -> Unavailable | None:
        """Sync a directory; return the error if it could not even be opened: then no sync failed, and who comes again has one."""
        self._step("directory-sync")
        try:
            sync_directory(directory, self._disk)
        except SyncFailure as failure:
            cause = failure.__cause__
            if isinstance(cause, OSError) and cause.errno in OUT_OF_FILES:
                return Unavailable("E-BUSY", f"no open file left for directory {directory.name} of the store", limit="open_files")
            raise
        self._step("directory-synced")
        return None

    def _name(self, placement: _Placement) -> bool:
        """Give a staged file its name. Only this thread gives names, so looking first and renaming then is no race."""
        if placement.staged is None:
            return False
        is_new = self._disk.size(placement.final) is None
        self._step("rename")
        self._disk.rename(placement.staged, placement.final)
        self._writing.discard(placement.staged.name)
        self._step("renamed")
        return is_new

    def _remove(self, path: Path) -> None:
        self._step("remove")
        try:
            self._disk.remove(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise translate_disk_error(error, f"removal of {path.name}") from error
        self._step("removed")

    def _sizes_in(self, shard: str) -> dict[SegmentId, int]:
        """Return the segments in a shard; one that lies in another's place would not be found by its id, so it is none."""
        sizes = {}
        try:
            for segment in self._ids_in(self._directory / shard):
                size = self._size(segment) if segment[_SHARD_DIGITS] == shard else None
                if size is not None:
                    sizes[segment] = size
        except OSError as error:
            raise translate_disk_error(error, f"shard {shard} of the store") from error
        return sizes

    def _left(self) -> dict[str, int]:
        """Return what lies in `incoming` and is nobody's. A put that ends meanwhile has no file any more, so it has no size."""
        left = {}
        try:
            for name in self._disk.names(self._incoming):
                size = None if name in self._writing else self._disk.size(self._incoming / name)
                if size is not None:
                    left[name] = size
        except OSError as error:
            raise translate_disk_error(error, "the store's temporary files") from error
        return left

    def _ids_in(self, shard: Path) -> Sequence[SegmentId]:
        return [segment for name in self._disk.names(shard) if (segment := _parse_quietly(name)) is not None]


async def _wait_for(work: "asyncio.Future[Result]") -> None:
    """Return when the thread is done with it, however often the caller is cancelled meanwhile; a millisecond or two."""
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([work])


def _parse_quietly(name: str) -> SegmentId | None:
    try:
        return SegmentId(name)
    except CallerError:
        return None
