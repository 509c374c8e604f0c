"""A disk in memory that keeps, when the power goes, only what was synced, and of the rest what the seed says.

A file has bytes that its process sees and bytes that are on the platter; a directory has names that its process sees and names
that are on the platter. Syncs copy the one to the other. A crash keeps of each unsynced file nothing, a part or all, and each
unsynced change of a name or not.
"""

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(eq=False)
class _File:
    data: bytes = b""
    durable: bytes | None = None
    """None: never synced."""


Names = dict[Path, dict[str, "_File | None"]]
"""By directory: names; None is a directory."""


@dataclass(eq=False)
class SimulatedDisk:
    """Implements `gateway.storage.disk.Disk`. `before` is told each operation, and may raise; it outlives its processes."""

    before: Callable[[str, Path], None] = lambda _operation, _path: None
    seen: Names = field(default_factory=lambda: {Path("/"): {}})
    kept: Names = field(default_factory=lambda: {Path("/"): {}})
    _open: dict[int, tuple[Path, _File]] = field(default_factory=dict)
    _next: int = 3

    def copy(self) -> "SimulatedDisk":
        """Return a disk that holds what this one holds durably."""
        made = SimulatedDisk()
        for names in (made.seen, made.kept):
            names.clear()
            names.update({directory: dict(entries) for directory, entries in self.kept.items()})
        return made  # files are shared: they never change once they are synced and closed

    def crash(self, choice: random.Random) -> None:
        """Lose what the power takes."""
        self._open.clear()
        after: Names = {Path("/"): {}}

        def settle(directory: Path) -> None:
            seen, kept = self.seen.get(directory, {}), self.kept.get(directory, {})
            for name in sorted(seen.keys() | kept.keys()):
                new, old = (seen.get(name, ...), kept.get(name, ...))
                entry = new if new is old or choice.random() < 0.5 else old
                if entry is ...:
                    continue
                if entry is None:
                    after[directory][name] = None
                    after[directory / name] = {}
                    settle(directory / name)
                else:
                    after[directory][name] = _settled(entry, choice)

        settle(Path("/"))
        self.seen = after
        self.kept = {directory: dict(entries) for directory, entries in after.items()}

    # what `Disk` asks

    def create(self, path: Path) -> int:
        self.before("create", path)
        names = self._names(path.parent)
        if path.name in names:
            raise FileExistsError(errno.EEXIST, "exists", str(path))
        names[path.name] = file = _File()
        self._next += 1
        self._open[self._next] = (path, file)
        return self._next

    def write(self, descriptor: int, data: memoryview) -> int:
        path, file = self._open[descriptor]
        self.before("write", path)
        file.data += bytes(data)
        return len(data)

    def sync(self, descriptor: int) -> None:
        path, file = self._open[descriptor]
        self.before("sync", path)
        file.durable = file.data

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)

    def sync_directory(self, directory: Path) -> None:
        self.before("sync-directory", directory)
        self.kept[directory] = dict(self._names(directory))
        for name, entry in self.kept[directory].items():
            if entry is None:
                self.kept.setdefault(directory / name, {})

    def make_directory(self, directory: Path) -> None:
        if directory not in self.seen:
            self._names(directory.parent)[directory.name] = None
            self.seen[directory] = {}

    def rename(self, path: Path, to: Path) -> None:
        self.before("rename", to)
        file = self._file(path)
        del self._names(path.parent)[path.name]
        self._names(to.parent)[to.name] = file

    def remove(self, path: Path) -> None:
        self.before("remove", path)
        self._file(path)
        del self._names(path.parent)[path.name]

    def remove_tree(self, directory: Path) -> None:
        if directory not in self.seen:
            return
        self.before("remove-tree", directory)
        for name, entry in list(self.seen[directory].items()):
            if entry is None:
                self.remove_tree(directory / name)
        del self.seen[directory]
        self._names(directory.parent).pop(directory.name, None)

    def read(self, path: Path) -> bytes:
        return self._file(path).data

    def size(self, path: Path) -> int | None:
        try:
            return len(self._file(path).data)
        except FileNotFoundError:
            return None

    def names(self, directory: Path) -> list[str]:
        return sorted(self._names(directory))

    def is_directory(self, path: Path) -> bool:
        return path in self.seen

    def durable(self, path: Path) -> bytes | None:
        """Return what a crash now would certainly leave of a file, or None."""
        file = self.kept.get(path.parent, {}).get(path.name)
        return None if file is None else file.durable

    def _names(self, directory: Path) -> "dict[str, _File | None]":
        if directory not in self.seen:
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(directory))
        return self.seen[directory]

    def _file(self, path: Path) -> _File:
        file = self.seen.get(path.parent, {}).get(path.name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return file


def _settled(file: _File, choice: random.Random) -> _File:
    """Return what is left of a file: all that was synced; of what was not, nothing, a part, or all."""
    if file.durable == file.data:
        return file
    base = file.durable or b""
    left = choice.choice((base, file.data[: len(base) + (len(file.data) - len(base)) // 2], file.data))
    return _File(left, left)
