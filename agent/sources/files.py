"""Regular files as parts: opened without following links or waiting, read at an offset, watched for change.

Rules:      1. what is read is a regular file  2. a file that has become shorter, longer, newer or another is an error, not a
            different artifact
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.names import shown
from carnet.errors import CallerError, IntegrityError

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""Non-blocking, so that opening a pipe that somebody left there does not wait for ever; regular files ignore it."""


@contextmanager
def source_errors(what: str) -> Iterator[None]:
    """Turn an `OSError` into a `CallerError` E-SOURCE that names `what`."""
    try:
        yield
    except OSError as error:
        raise CallerError("E-SOURCE", f"cannot read {what}: {(error.strerror or 'input/output error').lower()}") from error


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells whether a file is still the same: size, time of change, inode."""

    size: int
    mtime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Fingerprint":
        """Return the fingerprint of a file's status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


def open_regular(name: str | bytes, what: str, *, follow: bool = False, directory: int | None = None) -> int:
    """Return a descriptor of the regular file `name`; raise `CallerError` E-SOURCE, naming `what`, if it is none."""
    with source_errors(what):
        descriptor = os.open(name, _OPEN_FLAGS | (0 if follow else os.O_NOFOLLOW), dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CallerError("E-SOURCE", f"{what} is not a regular file")
    return descriptor


def read_small(path: str, what: str, *, bytes_max: int) -> bytes:
    """Return the whole of a small file, not followed if it is a link; `CallerError` E-SOURCE over `bytes_max`."""
    descriptor = open_regular(path, what)
    try:
        size = os.fstat(descriptor).st_size
        if size > bytes_max:
            raise CallerError("E-SOURCE", f"{what} has {size} bytes, at most {bytes_max} are read")
        with source_errors(what):
            return os.pread(descriptor, bytes_max, 0)
    finally:
        os.close(descriptor)


class WatchedFiles:
    """Files that have been looked at, and what they were then. Owned by one source."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._seen: dict[str, Fingerprint] = {}

    def watch(self, path: str, what: str, *, follow: bool = False) -> Fingerprint:
        """Remember the regular file at `path` as it is now; raise `CallerError` E-SOURCE if it is none."""
        descriptor = open_regular(path, what, follow=follow)
        try:
            found = Fingerprint.of(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        self._seen[path] = found
        return found

    def check(self) -> None:
        """Raise `IntegrityError` E-SOURCE-CHANGED for the first file that is not what it was."""
        for path, before in self._seen.items():
            try:
                now = Fingerprint.of(Path(path).stat())
            except OSError:
                raise changed(path) from None
            if now != before:
                raise changed(path)


def changed(path: str) -> IntegrityError:
    """Return the error for a file that changed while it was read."""
    return IntegrityError("E-SOURCE-CHANGED", f"{shown(path)} changed while it was read")


class FileReader:
    """Reads `size` bytes of an open file from `offset`; owns the descriptor."""

    def __init__(self, descriptor: int, path: str, *, offset: int, size: int) -> None:
        """Take over `descriptor`; `path` is for errors only."""
        self._descriptor: int | None = descriptor
        self._path = path
        self._offset = offset
        self._left = size

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer`; raise `IntegrityError` E-SOURCE-CHANGED if the file ends early."""
        wanted = min(self._left, len(buffer))
        if wanted == 0 or self._descriptor is None:
            return 0
        with source_errors(shown(self._path)):
            count = os.preadv(self._descriptor, [buffer[:wanted]], self._offset)
        if count == 0:
            raise changed(self._path)
        self._offset += count
        self._left -= count
        return count

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def interrupt(self) -> None:
        """Do nothing: a regular file does not keep anyone waiting."""


def open_file(path: str, before: Fingerprint, *, offset: int = 0, size: int | None = None, follow: bool = False) -> FileReader:
    """Return a reader of a file that was watched, of `size` bytes from `offset` (all of it by default).

    Raises `IntegrityError` E-SOURCE-CHANGED if it is no longer what it was.
    """
    descriptor = open_regular(path, shown(path), follow=follow)
    if Fingerprint.of(os.fstat(descriptor)) != before:
        os.close(descriptor)
        raise changed(path)
    return FileReader(descriptor, path, offset=offset, size=before.size if size is None else size)


class BytesReader:
    """Reads bytes that are in memory: a config or manifest that was made."""

    def __init__(self, data: bytes) -> None:
        """Read `data` from its start."""
        self._rest = memoryview(data)

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer`."""
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Forget the bytes."""
        self._rest = memoryview(b"")

    def interrupt(self) -> None:
        """Do nothing: bytes in memory do not keep anyone waiting."""
