"""A directory as one canonical tar, streamed: never in memory, never on disk a second time.

The tree is walked three times: when the source is opened (so that its size is known, and what cannot be sent is refused before
a byte moves), while it is read, and at the end. Each walk yields one digest over every header and inode; all three must agree.

Rules:      1. every step is relative to an open directory, so a directory replaced by a link meanwhile leads nowhere  2. no link
            is followed but the one that the person may have named  3. devices, pipes and sockets are refused by name
            4. memory grows with the depth of the tree, the longest directory and the number of hard-linked files, no more
"""

import hashlib
import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from agent.names import base_name, display_title, shown
from agent.ports import BinaryReader, PartSpec
from agent.sources.files import Fingerprint, changed, open_regular, source_errors
from agent.sources.one_blob import one_blob_parts, one_blob_size
from carnet.archive import MODE_MASK, SYMBOLIC_LINK_MODE, TRAILER, Member, MemberType, encode_member, padding
from carnet.errors import CallerError, CapacityError
from carnet.limits import ARCHIVE_DEPTH_MAX, ARCHIVE_MEMBERS_MAX, PART_BYTES_MAX
from carnet.oci import OCI_MANIFEST, TAR, ArtifactKind

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_REFUSED = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a tree being walked; `directory` is open until the next step of the walk."""

    member: Member
    fingerprint: Fingerprint
    directory: int
    name: bytes


@dataclass(frozen=True, slots=True)
class Survey:
    """What one walk found: bytes of the whole archive, and a digest over all headers and inodes."""

    size: int
    state: str


class DirectorySource:
    """One directory. Its own mode and time are part of it; its name is not, so that equal trees are equal artifacts."""

    kind = ArtifactKind.DIRECTORY
    media_type = OCI_MANIFEST
    digest = None
    is_rereadable = True

    def __init__(self, path: str) -> None:
        """Walk the tree; raise `CallerError` E-SOURCE or `CapacityError` E-LIMIT for what cannot be sent, by name."""
        self.title = display_title(base_name(path))
        self._path = path
        self._survey = survey(path)
        if self._survey.size > PART_BYTES_MAX:
            problem = f"{shown(path)} has {self._survey.size} bytes, at most {PART_BYTES_MAX} can be sent"
            raise CapacityError("E-LIMIT", problem, limit="PART_BYTES_MAX")

    @property
    def size_hint(self) -> int | None:
        """Bytes of all parts."""
        return one_blob_size(self.kind, media_type=TAR, annotations={}, size=self._survey.size)

    def parts(self) -> Iterator[PartSpec]:
        """Return config, archive, manifest."""
        return one_blob_parts(self.kind, media_type=TAR, annotations={}, size=self._survey.size, open_blob=self._open_archive)

    def check_unchanged(self) -> None:
        """Walk the tree again; raise `IntegrityError` E-SOURCE-CHANGED if anything in it is not what it was."""
        if survey(self._path) != self._survey:
            raise changed(self._path)

    def _open_archive(self) -> BinaryReader:
        return _ArchiveReader(self._path, self._survey)


def survey(path: str) -> Survey:
    """Walk the tree at `path` without reading files; raise `CallerError` E-SOURCE for what cannot be sent."""
    surveyor = _Surveyor()
    for entry in walk_tree(path):
        surveyor.add(entry, encode_member(entry.member))
    return surveyor.result()


class _Surveyor:
    """Adds up one walk."""

    def __init__(self) -> None:
        self._size = len(TRAILER)
        self._state = hashlib.sha256()

    def add(self, entry: Entry, header: bytes) -> None:
        self._size += len(header) + entry.member.size + padding(entry.member.size)
        self._state.update(header)
        self._state.update(b"%d %d\n" % (entry.fingerprint.device, entry.fingerprint.inode))

    def result(self) -> Survey:
        return Survey(self._size, self._state.hexdigest())


def walk_tree(path: str) -> Generator[Entry, None, None]:
    """Yield the entries of the tree at `path` in the order of `carnet.archive`.

    Raises `CallerError` E-SOURCE for what cannot be read or sent, `CapacityError` E-LIMIT for a tree that is too large or deep.
    """
    with source_errors(shown(path)):
        root = os.open(path, _DIRECTORY_FLAGS)
    walk = _TreeWalk(path)
    try:
        yield walk.entry(root, b".", b"", os.fstat(root))
        yield from walk.inside(root, b"", 1)
    finally:
        os.close(root)


class _TreeWalk:
    """The state of one walk: how many entries there were, and where each hard-linked file was met first."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._count = 0
        self._first: dict[tuple[int, int], bytes] = {}

    def inside(self, directory: int, path: bytes, depth: int) -> Generator[Entry, None, None]:
        if depth > ARCHIVE_DEPTH_MAX:
            problem = f"directories deeper than {ARCHIVE_DEPTH_MAX}: {self._shown(path)}"
            raise CapacityError("E-LIMIT", problem, limit="ARCHIVE_DEPTH_MAX")
        for name in self._names(directory, path):
            its_path = path + b"/" + name if path else name
            with source_errors(self._shown(its_path)):
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            yield self.entry(directory, name, its_path, status)
            if stat.S_ISDIR(status.st_mode):
                with source_errors(self._shown(its_path)):
                    child = os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=directory)
                try:
                    yield from self.inside(child, its_path, depth + 1)
                finally:
                    os.close(child)

    def entry(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> Entry:
        return Entry(self._member(directory, name, path, status), Fingerprint.of(status), directory, name)

    def _names(self, directory: int, path: bytes) -> list[bytes]:
        names: list[bytes] = []
        with source_errors(self._shown(path)), os.scandir(directory) as entries:
            for entry in entries:
                names.append(os.fsencode(entry.name))
                self._count += 1
                if self._count > ARCHIVE_MEMBERS_MAX:
                    problem = f"{shown(self._root)} has more than {ARCHIVE_MEMBERS_MAX} entries"
                    raise CapacityError("E-LIMIT", problem, limit="ARCHIVE_MEMBERS_MAX")
        return sorted(names)

    def _member(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> Member:
        mode = status.st_mode & MODE_MASK
        if stat.S_ISDIR(status.st_mode):
            return Member(path, MemberType.DIRECTORY, mode, status.st_mtime_ns)
        if stat.S_ISLNK(status.st_mode):
            with source_errors(self._shown(path)):
                target = os.readlink(name, dir_fd=directory)
            return Member(path, MemberType.SYMBOLIC_LINK, SYMBOLIC_LINK_MODE, status.st_mtime_ns, target=target)
        if not stat.S_ISREG(status.st_mode):
            what = _REFUSED.get(stat.S_IFMT(status.st_mode), "of an unknown type")
            raise CallerError("E-SOURCE", f"{self._shown(path)} is {what}; only files, directories and links can be sent")
        if status.st_nlink > 1:
            first = self._first.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                return Member(path, MemberType.HARD_LINK, mode, status.st_mtime_ns, target=first)
        return Member(path, MemberType.FILE, mode, status.st_mtime_ns, size=status.st_size)

    def _shown(self, path: bytes) -> str:
        return shown(os.path.join(os.fsencode(self._root), path))  # noqa: PTH118 - names may be any bytes


class _ArchiveReader:
    """Reads the archive: headers from memory, contents from the files, into the caller's buffer."""

    def __init__(self, path: str, expected: Survey) -> None:
        self._path = path
        self._expected = expected
        self._surveyor = _Surveyor()
        self._entries = walk_tree(path)
        self._ready = memoryview(b"")  # bytes to hand out before anything else
        self._file: int | None = None
        self._left = 0  # bytes of the open file still to come
        self._padding = 0  # zero bytes after it
        self._ended = False

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the whole of `buffer` but at the end; raise `IntegrityError` E-SOURCE-CHANGED if the tree changed."""
        filled = 0
        while filled < len(buffer):
            rest = buffer[filled:]
            if self._ready:
                count = min(len(self._ready), len(rest))
                rest[:count] = self._ready[:count]
                self._ready = self._ready[count:]
            elif self._file is not None:
                count = self._read_file(self._file, rest)
            elif self._ended:
                break
            else:
                self._advance()
                continue
            filled += count
        return filled

    def close(self) -> None:
        """Close the open file and directories; idempotent."""
        self._ended = True
        self._ready = memoryview(b"")
        self._close_file()
        self._entries.close()

    def interrupt(self) -> None:
        """Do nothing: regular files do not keep anyone waiting."""

    def _read_file(self, descriptor: int, buffer: memoryview) -> int:
        wanted = buffer[: self._left]
        with source_errors(shown(self._path)):
            count = os.readv(descriptor, [wanted])
        if count == 0:
            raise changed(self._path)
        self._left -= count
        if self._left == 0:
            self._close_file()
            self._ready = memoryview(bytes(self._padding))
        return count

    def _advance(self) -> None:
        """Go to the next entry, or to the end."""
        entry = next(self._entries, None)
        if entry is None:
            if self._surveyor.result() != self._expected:
                raise changed(self._path)
            self._ready = memoryview(TRAILER)
            self._ended = True
            return
        header = encode_member(entry.member)
        self._surveyor.add(entry, header)
        self._ready = memoryview(header)
        if entry.member.size:
            what = shown(os.path.join(os.fsencode(self._path), entry.member.path))  # noqa: PTH118 - names may be any bytes
            self._file = open_regular(entry.name, what, directory=entry.directory)
            self._left = entry.member.size
            self._padding = padding(entry.member.size)
            if Fingerprint.of(os.fstat(self._file)) != entry.fingerprint:
                raise changed(what)

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
