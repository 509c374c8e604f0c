"""A root file system like a container's, as one tar in two versions, of real files of this machine.

The seed fixes which files are chosen and what the second version changes; the contents are this machine's, so that another
machine has similar data, not equal.
"""

import io
import json
import random
import shutil
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import machine_files

_SMALL_BYTES_MAX = 4 << 20
"""Files up to this size are taken by package until there are enough; larger ones fill up to the size."""
EDITED_SHARE = 0.03
REMOVED_SHARE = 0.025
ADDED_SHARE = 0.07
_PACKAGE_FILES_MAX = 100
_LINE = b"a line that the next version has\n"
_EPOCH = 1_700_000_000


@dataclass(frozen=True)
class Found:
    """One file of the machine: its path and size in bytes."""

    path: str
    size: int

    @property
    def directory(self) -> str:
        """What it is in."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class Plan:
    """Which files the two versions have, by path."""

    first: frozenset[str]
    second: frozenset[str]
    edited: frozenset[str]


@dataclass(frozen=True)
class Versions:
    """What is moved: both versions, a file or an OCI layout each, and what was made."""

    first: Path
    second: Path
    facts: dict[str, int]


def plan(found: Iterable[Found], size: int, files: int, seed: int = 3) -> Plan:
    """Choose about `files` files of `size` bytes together, whole packages where they are small, and the changes to them."""
    chosen = random.Random(seed)
    everything = list(found)
    large = [one for one in everything if one.size > _SMALL_BYTES_MAX]
    packages = _packages(one for one in everything if one.size <= _SMALL_BYTES_MAX)
    names = sorted(packages)
    chosen.shuffle(names)
    taken: list[Found] = []
    took: list[tuple[str, int]] = []
    while names and len(taken) < files and sum_of(taken) < size:
        took.append(names.pop())
        taken += packages[took[-1]]
    chosen.shuffle(large)
    room = size - sum_of(taken)
    for one in large:
        if one.size <= room:
            taken.append(one)
            room -= one.size
    removed = {one.path for name in took if chosen.random() < REMOVED_SHARE for one in packages[name]}
    kept = sorted({one.path for one in taken} - removed)
    edited = frozenset(path for path in kept if chosen.random() < EDITED_SHARE)
    added: list[Found] = []
    while names and sum_of(added) < ADDED_SHARE * size:
        added += packages[names.pop()]
    return Plan(frozenset(one.path for one in taken), frozenset(kept) | {one.path for one in added}, edited)


def _packages(files: Iterable[Found]) -> dict[tuple[str, int], list[Found]]:
    """Return what is added and removed as one: the files of a directory, or so many of them if it has more."""
    packages: dict[tuple[str, int], list[Found]] = {}
    counts: dict[str, int] = {}
    for one in files:
        number = counts.get(one.directory, 0)
        counts[one.directory] = number + 1
        packages.setdefault((one.directory, number // _PACKAGE_FILES_MAX), []).append(one)
    return packages


def sum_of(files: Iterable[Found]) -> int:
    """Return the bytes of all."""
    return sum(one.size for one in files)


def edit(data: bytes) -> bytes:
    """Return the next version of a file: one line more, in its middle."""
    middle = len(data) // 2
    return data[:middle] + _LINE + data[middle:]


def add_file(out: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    """Add a file whose entry depends on nothing but these arguments."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), mode, _EPOCH
    out.addfile(entry, io.BytesIO(data))


def make_tree(directory: Path, size: int, files: int) -> Versions:
    """Write v1.tar and v2.tar into `directory`, which is kept if it is complete."""
    record = directory / "facts.json"
    first, second = directory / "v1.tar", directory / "v2.tar"
    if not record.exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        planned = plan([Found(str(path), path.stat().st_size) for path in machine_files()], size, files)
        facts = _write(planned, first, second)
        record.write_text(json.dumps(facts), encoding="ascii")
    return Versions(first, second, json.loads(record.read_text(encoding="ascii")))


def _write(planned: Plan, first: Path, second: Path) -> dict[str, int]:
    """Write both tars in the order of names, reading each file once; return what they have."""
    facts = {"files": 0, "files_edited": 0, "files_removed": 0, "files_added": 0, "bytes_edited": 0}
    with tarfile.open(first, "w") as old, tarfile.open(second, "w") as new:
        for path in sorted(planned.first | planned.second):
            try:
                data, mode = Path(path).read_bytes(), Path(path).stat().st_mode & 0o777
            except OSError:
                continue  # it went away, or is not ours to read: both versions are without it
            name = path.lstrip("/")
            if path in planned.first:
                add_file(old, name, data, mode)
                facts["files"] += 1
            if path in planned.second:
                add_file(new, name, edit(data) if path in planned.edited else data, mode)
            facts["files_edited"] += path in planned.edited
            facts["bytes_edited"] += len(data) * (path in planned.edited)
            facts["files_removed"] += path not in planned.second
            facts["files_added"] += path not in planned.first
    return facts | {"v1_bytes": first.stat().st_size, "v2_bytes": second.stat().st_size}
