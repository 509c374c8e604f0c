"""A directory out of its canonical tar: unpacked aside, while it arrives, and renamed when every digest has been verified.

The archive comes from outside, so the unpacker trusts nothing but `carnet.archive`, which lets only the canonical form through:
parents first, no absolute path, no `..`, no name twice. On top of that, here:

Rules:      1. every step is relative to an open directory that this process made; no link is ever followed, be it in the archive
            or put there meanwhile  2. a file is created, never opened  3. a hard link is to a regular file made before
            4. until the end the tree is readable by its owner only; modes that would lock the owner out are set last
            5. the target is absent or an empty directory
Kept:       modes with setuid, setgid and sticky, times to the nanosecond, symbolic links whatever they point to, hard links
Not kept:   owners (the caller's own), extended attributes; long runs of zeros become holes
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.names import shown
from agent.sinks.staging import parent_of, remove_tree, sink_errors, sync_directory, temporary_beside, write_sparse
from carnet.archive import ArchiveReader, Member, MemberType, sort_key
from carnet.errors import CallerError, IntegrityError, InternalError

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE_FLAGS = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_PRIVATE = 0o700


class DirectoryContent:
    """The one blob of a directory artifact, unpacked as it comes (see `agent.sinks.one_blob.Content`)."""

    def __init__(self, path: str) -> None:
        """Name the place; raise `CallerError` E-SINK if something is there already."""
        self._path = path.rstrip("/") or "/"
        self._temporary: str | None = None
        self._made: Unpacker | None = None
        self._reader = ArchiveReader()
        with sink_errors(path):
            self._check_free()

    def begin(self) -> None:
        """Make the temporary directory beside the path; raise `CallerError` E-SINK if that cannot be."""
        with sink_errors(self._path):
            temporary = temporary_beside(self._path)
            Path(temporary).mkdir(_PRIVATE)
            self._temporary = temporary
            self._made = Unpacker(os.open(self._temporary, _DIRECTORY_FLAGS))

    def write(self, data: memoryview, /) -> None:
        """Unpack the next piece; raise `IntegrityError` E-FORMAT where the archive is not canonical."""
        with sink_errors(self._path):
            for event in self._reader.feed(data):
                if isinstance(event, Member):
                    self._unpacker.add(event)
                else:
                    self._unpacker.write(event)

    def publish(self) -> None:
        """Set what is left to set, sync, rename."""
        self._reader.close()
        with sink_errors(self._path):
            self._unpacker.finish()
            # One sync of the system instead of one for each of perhaps a hundred thousand files.
            os.sync()
            self._check_free()
            if self._temporary is not None:
                os.rename(self._temporary, self._path)  # noqa: PTH104 - names may be any bytes
                self._temporary = None
            sync_directory(parent_of(self._path))

    def discard(self) -> None:
        """Remove what was unpacked."""
        if self._made is not None:
            self._made.close()
        if self._temporary is not None:
            remove_tree(self._temporary)
            self._temporary = None

    @property
    def _unpacker(self) -> "Unpacker":
        if self._made is None:
            raise InternalError("E-INTERNAL", "a part came before the beginning")
        return self._made

    def _check_free(self) -> None:
        if not os.path.lexists(self._path):
            return
        if os.path.islink(self._path) or not os.path.isdir(self._path):  # noqa: PTH112, PTH114 - names may be any bytes
            raise CallerError("E-SINK", f"{shown(self._path)} is there and is not a directory")
        with os.scandir(self._path) as found:
            if next(found, None) is not None:
                raise CallerError("E-SINK", f"{shown(self._path)} is there and is not empty")


@dataclass(slots=True)
class _OpenDirectory:
    """A directory being filled: its own components, its descriptor, and the member that says how it ends up."""

    components: list[bytes]
    descriptor: int
    member: Member


class Unpacker:
    """Makes the members of a canonical archive under one directory. Owns the descriptor it is given."""

    def __init__(self, root: int) -> None:
        """Unpack into the directory open as `root`."""
        self._root: int | None = root
        self._open: list[_OpenDirectory] = []  # from the root to where the last member is
        self._file: int | None = None
        self._member: Member | None = None  # of the file being written
        self._written = 0
        self._locked: list[tuple[list[bytes], int]] = []  # directories whose mode is set last, children before parents

    def add(self, member: Member) -> None:
        """Make `member`; raises `OSError`, or `IntegrityError` E-FORMAT for a link to something that is no file."""
        components = sort_key(member.path) if member.path else []
        if not components:
            self._open.append(_OpenDirectory([], os.dup(self._root_descriptor), member))
            return
        while len(self._open) > len(components):
            self._leave()
        if self._open[-1].components != components[:-1]:
            raise IntegrityError("E-FORMAT", "directory archive refused: a member outside its directory")
        parent, name = self._open[-1].descriptor, components[-1]
        if member.type is MemberType.DIRECTORY:
            os.mkdir(name, _PRIVATE, dir_fd=parent)
            self._open.append(_OpenDirectory(components, os.open(name, _DIRECTORY_FLAGS, dir_fd=parent), member))
        elif member.type is MemberType.SYMBOLIC_LINK:
            os.symlink(member.target, name, dir_fd=parent)
            os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)
        elif member.type is MemberType.HARD_LINK:
            self._link(member, parent, name)
        else:
            self._file = os.open(name, _FILE_FLAGS, 0o600, dir_fd=parent)
            self._member, self._written = member, 0
            self._end_file_if_complete()

    def write(self, data: memoryview) -> None:
        """Append to the file made last."""
        if self._file is None:
            raise IntegrityError("E-FORMAT", "content without a file")
        write_sparse(self._file, self._written, data)
        self._written += len(data)
        self._end_file_if_complete()

    def finish(self) -> None:
        """Leave all directories, and set the modes that had to wait."""
        while self._open:
            self._leave()
        for components, mode in self._locked:
            descriptor = self._directory(components)
            try:
                os.fchmod(descriptor, mode)
            finally:
                os.close(descriptor)
        self._locked.clear()
        self.close()

    def close(self) -> None:
        """Close every descriptor; idempotent."""
        for directory in self._open:
            os.close(directory.descriptor)
        self._open.clear()
        for descriptor in (self._file, self._root):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._root = None

    @property
    def _root_descriptor(self) -> int:
        if self._root is None:
            raise IntegrityError("E-FORMAT", "a member after the end")
        return self._root

    def _leave(self) -> None:
        """Close the innermost directory: nothing more comes into it, so its time can be set."""
        directory = self._open.pop()
        member = directory.member
        try:
            if member.mode & _PRIVATE == _PRIVATE and directory.components:
                os.fchmod(directory.descriptor, member.mode)
            else:
                # The root stays private until the end, and a hard link may still have to pass through the others.
                self._locked.append((directory.components, member.mode))
            os.utime(directory.descriptor, ns=(member.mtime_ns, member.mtime_ns))
        finally:
            os.close(directory.descriptor)

    def _end_file_if_complete(self) -> None:
        if self._file is None or self._member is None or self._written < self._member.size:
            return
        os.ftruncate(self._file, self._member.size)
        os.fchmod(self._file, self._member.mode)
        os.utime(self._file, ns=(self._member.mtime_ns, self._member.mtime_ns))
        os.close(self._file)
        self._file = self._member = None

    def _link(self, member: Member, parent: int, name: bytes) -> None:
        *directory, target = sort_key(member.target)
        try:
            source = self._directory(directory)
        except OSError:
            raise IntegrityError("E-FORMAT", "directory archive refused: a hard link to nothing") from None
        try:
            if not stat.S_ISREG(os.stat(target, dir_fd=source, follow_symlinks=False).st_mode):
                raise IntegrityError("E-FORMAT", "directory archive refused: a hard link to something that is no file")
            os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise IntegrityError("E-FORMAT", "directory archive refused: a hard link to nothing") from None
        finally:
            os.close(source)

    def _directory(self, components: list[bytes]) -> int:
        """Return a descriptor of a directory made before, reached without following a link."""
        descriptor = os.dup(self._root_descriptor)
        for component in components:
            outer = descriptor
            try:
                descriptor = os.open(component, _DIRECTORY_FLAGS, dir_fd=outer)
            finally:
                os.close(outer)
        return descriptor
