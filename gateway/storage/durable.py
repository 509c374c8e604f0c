"""The sync: the few lines in which bytes become durable, and what happens when they do not.

Every durable file of the gateway is written here. After a failed sync the page cache may show bytes that the disk does not have,
so no later answer of this process can be believed: the failure ends it, and the next start reads what is really there.

Rules:      1. temp, write, fdatasync, rename, fsync of the directory, in this order  2. a failed sync ends the process
            3. no file is truncated or rewritten in place  4. a full disk is not a failed sync: it is reported and leaves no trace
"""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from carnet.errors import CarnetError, InternalError, StorageFull, Unavailable
from gateway.descriptors import OUT_OF_FILES
from gateway.storage.disk import SYSTEM_DISK, Disk

Step = Callable[[str], None]
"""Called with a name before and after each durable step; tests pass one that fails there."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def no_step(name: str) -> None:
    """Do nothing: the step hook outside of fault tests."""


class SyncFailure(SystemExit):
    """A sync failed, or its outcome is unknown: this process must end and acknowledge nothing more.

    It is a `SystemExit` so that no `except Exception` keeps the process alive and asyncio carries it out of the event loop.
    """

    def __init__(self, problem: str) -> None:
        """Keep one sentence for the supervisor's log; it becomes the process's last words."""
        super().__init__(f"carnet-gateway: {problem} [E-DISK]")
        self.problem = problem


def translate_disk_error(error: OSError, what: str) -> CarnetError:
    """Return our error for an operating system's error while `what` was written or read."""
    if error.errno in OUT_OF_FILES:
        return Unavailable("E-BUSY", f"no open file left for {what}", limit="open_files")
    if error.errno in _FULL:
        return StorageFull("E-DISK-FULL", f"no space left for {what}", retry_after_s=30)
    return InternalError("E-DISK", f"disk error at {what}: {os.strerror(error.errno or 0)}")


def sync_file(descriptor: int, what: str, disk: Disk = SYSTEM_DISK) -> None:
    """Return when the file's bytes are on the disk; raise `SyncFailure` if that cannot be known."""
    try:
        disk.sync(descriptor)
    except OSError as error:
        raise SyncFailure(f"sync of {what} failed: {error.strerror}") from error


def sync_directory(directory: Path, disk: Disk = SYSTEM_DISK) -> None:
    """Return when the names in `directory` are on the disk; raise `SyncFailure` if that cannot be known."""
    try:
        disk.sync_directory(directory)
    except OSError as error:
        raise SyncFailure(f"sync of directory {directory.name} failed: {error.strerror}") from error


def write_temporary(path: Path, data: bytes | bytearray | memoryview, disk: Disk = SYSTEM_DISK) -> int:
    """Write `data` to the new file `path` and return its open descriptor; nothing is synced yet.

    Raises:
        Unavailable: E-DISK-FULL; the file is removed.
        InternalError: E-DISK for any other error; the file is removed.
    """
    try:
        descriptor = disk.create(path)
    except OSError as error:
        raise translate_disk_error(error, path.name) from error
    try:
        view = memoryview(data)
        while view:
            view = view[disk.write(descriptor, view) :]
    except OSError as error:
        disk.close(descriptor)
        discard(path, disk)
        raise translate_disk_error(error, path.name) from error
    return descriptor


def discard(path: Path, disk: Disk = SYSTEM_DISK) -> None:
    """Remove a temporary file if it can be removed; the next start removes what is left."""
    with contextlib.suppress(OSError):
        disk.remove(path)


def make_directory(directory: Path, disk: Disk = SYSTEM_DISK) -> None:
    """Make `directory` and those above it that are missing, each durable in its parent.

    Raises:
        Unavailable: E-DISK-FULL. InternalError: E-DISK. SyncFailure: the process must end.
    """
    if disk.is_directory(directory):
        return
    make_directory(directory.parent, disk)
    try:
        disk.make_directory(directory)
    except OSError as error:
        raise translate_disk_error(error, f"directory {directory.name}") from error
    sync_directory(directory.parent, disk)


def write_durable(path: Path, data: bytes, *, step: Step = no_step, disk: Disk = SYSTEM_DISK) -> None:
    """Put `data` under `path` whole or not at all, replacing what is there; durable when this returns. Blocks.

    Steps: (1) a temporary file beside it is written; (2) synced; (3) renamed; (4) the directory is synced.

    Raises:
        Unavailable: E-DISK-FULL; what was there stays.
        InternalError: E-DISK; what was there stays.
        SyncFailure: the process must end.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    discard(temporary, disk)
    descriptor = write_temporary(temporary, data, disk)
    try:
        step("written")  # (1)
        sync_file(descriptor, path.name, disk)
    finally:
        disk.close(descriptor)
    step("synced")  # (2)
    try:
        disk.rename(temporary, path)
    except OSError as error:
        discard(temporary, disk)
        raise translate_disk_error(error, path.name) from error
    step("renamed")  # (3)
    sync_directory(path.parent, disk)
    step("directory-synced")  # (4)
