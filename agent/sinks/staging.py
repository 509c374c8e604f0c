"""Files that become visible whole or not at all.

Rules:      1. a temporary lies beside its final name and is called `.carnet-<random>`  2. content is synced before the rename,
            the directory after it  3. only a regular file is ever replaced, never a device, a link or a directory
            4. blocks of zeros are not written: they are holes, and read as zeros
            5. what is large is synced while it is written, so that the end does not wait for all of it
"""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.names import shown
from agent.ports import PartHead
from agent.sinks.syncing import Syncing
from carnet.errors import CallerError, CapacityError, IntegrityError, Unavailable
from carnet.limits import KIB

TEMPORARY_PREFIX = ".carnet-"
_HOLE_BYTES = 16 * KIB
_ZEROS = bytes(_HOLE_BYTES)


@contextmanager
def sink_errors(what: str) -> Iterator[None]:
    """Turn an `OSError` into `Unavailable` E-DISK-FULL, or else `CallerError` E-SINK, that names `what`."""
    try:
        yield
    except OSError as error:
        problem = f"cannot write {shown(what)}: {(error.strerror or 'input/output error').lower()}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable("E-DISK-FULL", problem, remedy="free space there and run the same command again") from error
        raise CallerError("E-SINK", problem) from error


def temporary_beside(path: str) -> str:
    """Return an unused name in the directory of `path`."""
    return os.path.join(parent_of(path), TEMPORARY_PREFIX + secrets.token_hex(8))  # noqa: PTH118 - names may be any bytes


def parent_of(path: str) -> str:
    """Return the directory that holds `path`."""
    return os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120 - names may be any bytes


def check_replaceable(path: str) -> None:
    """Raise `CallerError` E-SINK if something other than a regular file is at `path`."""
    with sink_errors(path):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
    if not stat.S_ISREG(mode):
        raise CallerError("E-SINK", f"{shown(path)} is there and is not a regular file")


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: memoryview) -> None:
    """Write all of `data` at the position of `descriptor`."""
    while data:
        data = data[os.write(descriptor, data) :]


def write_sparse(descriptor: int, offset: int, data: memoryview) -> None:
    """Write `data` at `offset` of a file that has no content there, leaving out blocks of zeros.

    Blocks are aligned in the file, so that the holes are the same however the content is cut into pieces.
    """
    start = position = 0  # where the bytes begin that are to be written; where the next block begins
    while position < len(data):
        end = min(position + _HOLE_BYTES - (offset + position) % _HOLE_BYTES, len(data))
        if data[position] == 0 and data[position:end].tobytes() == _ZEROS[: end - position]:
            _write_at(descriptor, offset + start, data[start:position])
            start = end
        position = end
    _write_at(descriptor, offset + start, data[start:])


def _write_at(descriptor: int, offset: int, data: memoryview) -> None:
    while data:
        count = os.pwrite(descriptor, data, offset)
        offset += count
        data = data[count:]


def remove_tree(path: str) -> None:
    """Remove a temporary directory with everything in it, as far as the system lets us."""
    try:
        shutil.rmtree(path)
    except PermissionError:
        # An unpacked directory may forbid its own removal; `os.walk` follows no link, and lists before it descends.
        for directory, names, _files in os.walk(path):
            for name in names:
                inner = Path(directory, name)
                if not inner.is_symlink():
                    with suppress(OSError):
                        inner.chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)


class StagedFile:
    """A file under a temporary name, until it is published."""

    def __init__(self, path: str) -> None:
        """Create the temporary beside `path`; raise `CallerError` E-SINK if that cannot be."""
        check_replaceable(path)
        self._path = path
        self._temporary = temporary_beside(path)
        self._size = 0
        self._syncing = Syncing()
        with sink_errors(path):
            self._descriptor: int | None = os.open(
                self._temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666
            )

    def write(self, data: memoryview) -> None:
        """Append `data`."""
        assert self._descriptor is not None, "written after it was published"  # noqa: S101 - a defect of ours, not an input
        with sink_errors(self._path):
            write_sparse(self._descriptor, self._size, data)
            self._size += len(data)
            self._syncing.written(self._descriptor, len(data))

    def publish(self) -> None:
        """Give the file its final name, durably."""
        assert self._descriptor is not None, "published twice"  # noqa: S101 - a defect of ours, not an input
        with sink_errors(self._path):
            self._syncing.end()
            os.ftruncate(self._descriptor, self._size)
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
            check_replaceable(self._path)
            os.rename(self._temporary, self._path)  # noqa: PTH104 - names may be any bytes
            sync_directory(parent_of(self._path))

    def discard(self) -> None:
        """Remove the temporary; idempotent, without effect after `publish`."""
        with suppress(OSError):
            self._syncing.end()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        with suppress(FileNotFoundError):
            os.unlink(self._temporary)  # noqa: PTH108 - names may be any bytes


class CountedWriter:
    """Passes a part on, and refuses more or fewer bytes than were announced."""

    def __init__(self, head: PartHead, take: Callable[[memoryview], None], done: Callable[[], None] = lambda: None) -> None:
        """Give each piece to `take`, and call `done` once when all bytes were there."""
        self._head = head
        self._take = take
        self._done = done
        self._left = head.size

    def write(self, data: memoryview, /) -> None:
        """Pass `data` on; raise `IntegrityError` E-DIGEST if it is more than was announced."""
        if len(data) > self._left:
            raise IntegrityError("E-DIGEST", f"part {self._head.digest} has more than the {self._head.size} bytes announced")
        self._left -= len(data)
        self._take(data)

    def close(self) -> None:
        """End the part; raise `IntegrityError` E-DIGEST if bytes are missing."""
        if self._left:
            raise IntegrityError("E-DIGEST", f"part {self._head.digest} lacks {self._left} of {self._head.size} bytes")
        self._done()


class KeptPart:
    """A small part kept in memory: a manifest or a config."""

    def __init__(self, head: PartHead, *, bytes_max: int) -> None:
        """Refuse a part larger than `bytes_max` with `CapacityError` E-LIMIT."""
        if head.size > bytes_max:
            problem = f"part {head.digest} ({head.role}) has {head.size} bytes, at most {bytes_max} are kept"
            raise CapacityError("E-LIMIT", problem, limit="MANIFEST_BYTES_MAX" if head.role == "artifact" else "CONFIG_BYTES_MAX")
        self.head = head
        self._data = bytearray()

    def writer(self) -> CountedWriter:
        """Return the writer that fills this."""
        return CountedWriter(self.head, self._data.extend)

    @property
    def data(self) -> bytes:
        """What was written."""
        return bytes(self._data)
