"""The disk: the few operations of the file system that durable files rest on, as a port, and the system's own as its adapter.

The order of these operations is the product's promise (see `gateway.storage.durable`); what a disk keeps of them when the power
goes is the disk's. Behind a port, the same order runs over a disk that forgets whatever was not synced.

Rules:      1. errors are `OSError`, as the system raises them  2. what was not synced may be lost, in part or whole
            3. a name is durable only after its directory was synced
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from gateway.descriptors import OUT_OF_FILES

Result = TypeVar("Result")

_PATIENCE_S: Final = 30.0
_REST_S: Final = 0.05
_FILE_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700


class Disk(Protocol):
    """Files by path. All methods block."""

    def create(self, path: Path) -> int:
        """Make a new file, for its owner only, and return its open descriptor."""
        ...

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write the beginning of `data`; return how many bytes of it."""
        ...

    def sync(self, descriptor: int) -> None:
        """Return when the file's bytes are on the disk."""
        ...

    def close(self, descriptor: int) -> None:
        """Close a descriptor; says nothing about durability."""
        ...

    def sync_directory(self, directory: Path) -> None:
        """Return when the names in `directory` are on the disk."""
        ...

    def make_directory(self, directory: Path) -> None:
        """Make a directory, for its owner only; one that is there is no error."""
        ...

    def rename(self, path: Path, to: Path) -> None:
        """Give a file another name, replacing what has it."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file."""
        ...

    def remove_tree(self, directory: Path) -> None:
        """Remove a directory with all below it, as far as that is possible; one that is not there is no error."""
        ...

    def read(self, path: Path) -> bytes:
        """Return the bytes of a file."""
        ...

    def size(self, path: Path) -> int | None:
        """Return the size of a file, or None if there is none."""
        ...

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory, in no order."""
        ...

    def is_directory(self, path: Path) -> bool:
        """Tell whether there is a directory."""
        ...


def _patiently(call: Callable[[], Result]) -> Result:
    """Return what `call` returns; while this process has no open file left, wait for one, since others are closed all the time.

    Raises what `call` raises, that too once `_PATIENCE_S` is over.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return call()
        except OSError as error:
            if error.errno not in OUT_OF_FILES or time.monotonic() >= deadline:
                raise
        time.sleep(_REST_S)


class SystemDisk:
    """Implements `Disk` on this machine's file systems."""

    def create(self, path: Path) -> int:
        """Make a new file; see `Disk.create`."""
        return _patiently(lambda: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE))

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write the beginning of `data`; see `Disk.write`."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Call fdatasync."""
        os.fdatasync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)

    def sync_directory(self, directory: Path) -> None:
        """Call fsync on the directory."""
        descriptor = _patiently(lambda: os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_directory(self, directory: Path) -> None:
        """Make a directory; see `Disk.make_directory`."""
        directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)

    def rename(self, path: Path, to: Path) -> None:
        """Rename a file."""
        path.rename(to)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def remove_tree(self, directory: Path) -> None:
        """Remove a directory with all below it; see `Disk.remove_tree`."""
        shutil.rmtree(directory, ignore_errors=True)

    def read(self, path: Path) -> bytes:
        """Read a file."""
        return _patiently(path.read_bytes)

    def size(self, path: Path) -> int | None:
        """Return the size of a file, or None."""
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory."""
        return _patiently(lambda: os.listdir(directory))  # noqa: PTH208 - names are all that is wanted, of perhaps a million files

    def is_directory(self, path: Path) -> bool:
        """Tell whether there is a directory."""
        return path.is_dir()


SYSTEM_DISK: Final = SystemDisk()
