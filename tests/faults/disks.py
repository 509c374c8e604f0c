"""Disks of a site in this process: one on which an operation waits until it is let go, one with room for so many bytes."""

import errno
import functools
import threading
from pathlib import Path

import pytest

from gateway import assembly
from gateway.storage.disk import SystemDisk
from gateway.storage.local import LocalBlobStore


class GatedDisk(SystemDisk):
    """The system's disk, but that `operation` waits in its thread while the gate is shut; `reached` says that one does."""

    def __init__(self, operation: str) -> None:
        """Begin with an open gate."""
        self._operation = operation
        self._gate = threading.Event()
        self._gate.set()
        self.reached = threading.Event()

    def shut(self) -> None:
        """Let every later call of the operation wait."""
        self._gate.clear()

    def release(self) -> None:
        """Let go what waits, and let nothing wait any more."""
        self._gate.set()

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write, perhaps later."""
        self._pass("write")
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Sync, perhaps later."""
        self._pass("sync")
        super().sync(descriptor)

    def sync_directory(self, directory: Path) -> None:
        """Sync a directory, perhaps later."""
        self._pass("sync_directory")
        super().sync_directory(directory)

    def _pass(self, operation: str) -> None:
        if operation == self._operation and not self._gate.is_set():
            self.reached.set()
            assert self._gate.wait(120)


class FillingDisk(SystemDisk):
    """The system's disk with `room` for so many more bytes of files; None is as much as the system has."""

    def __init__(self) -> None:
        """Begin with all the room there is."""
        self.room: int | None = None
        self._lock = threading.Lock()

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write as much as there is room for; raise ENOSPC where that is nothing."""
        with self._lock:
            if self.room is not None:
                data = data[: self.room]
                if not data:
                    raise OSError(errno.ENOSPC, "No space left on device")
                self.room -= len(data)
        return super().write(descriptor, data)


def store_on(disk: SystemDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have sites that start from now on keep their segments on `disk`."""
    monkeypatch.setattr(assembly, "LocalBlobStore", functools.partial(LocalBlobStore, disk=disk))
