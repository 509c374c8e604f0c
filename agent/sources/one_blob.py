"""Files and streams: an OCI artifact of one blob, whose manifest is made once the blob has been read."""

import os
import select
from collections.abc import Callable, Iterator, Mapping

from agent.names import base_name, display_title, shown
from agent.ports import BinaryReader, PartSpec
from agent.sources.files import BytesReader, Fingerprint, WatchedFiles, open_file, source_errors
from carnet.errors import CallerError, CapacityError, InternalError
from carnet.identifiers import Digest
from carnet.limits import PART_BYTES_MAX
from carnet.oci import (
    EMPTY_CONFIG,
    OCI_EMPTY,
    OCI_MANIFEST,
    OCTET_STREAM,
    TITLE,
    ArtifactKind,
    Descriptor,
    Role,
    artifact_manifest,
)

FILE_KINDS = frozenset({ArtifactKind.FILE, ArtifactKind.PATCH, ArtifactKind.BUNDLE})
"""What one file can be sent as."""
_STDIN = 0
_LOOK_S = 0.2
"""How often a reader that waits for a stream looks whether it was given up."""


def one_blob_parts(
    kind: ArtifactKind,
    *,
    media_type: str,
    annotations: Mapping[str, str],
    size: int | None,
    open_blob: Callable[[], BinaryReader],
) -> Iterator[PartSpec]:
    """Return the three parts: the empty config, the blob, and the manifest, which can be opened once the blob is completed."""
    read: list[Descriptor] = []

    def completed(digest: Digest, count: int, /) -> None:
        read.append(Descriptor(media_type, digest, count, annotations=annotations))

    def open_manifest() -> BinaryReader:
        if not read:
            raise InternalError("E-INTERNAL", "the manifest was opened before its blob was read")
        return BytesReader(artifact_manifest(kind, read[-1]))

    # The config comes first, so that a file of just `{}` is the same part with the role that a walk of the closure gives it.
    yield PartSpec(OCI_EMPTY, Digest.of(EMPTY_CONFIG), len(EMPTY_CONFIG), Role.CONFIG, lambda: BytesReader(EMPTY_CONFIG))
    yield PartSpec(media_type, None, size, Role.LAYER, open_blob, completed)
    yield PartSpec(OCI_MANIFEST, None, None, Role.ARTIFACT, open_manifest)


def one_blob_size(kind: ArtifactKind, *, media_type: str, annotations: Mapping[str, str], size: int) -> int:
    """Return how many bytes the three parts of a blob of `size` bytes have together: every digest is equally long."""
    blob = Descriptor(media_type, Digest.of(b""), size, annotations=annotations)
    return len(EMPTY_CONFIG) + size + len(artifact_manifest(kind, blob))


class FileSource:
    """One regular file, as a file, a patch or a bundle. A link is followed: the person named it."""

    media_type = OCI_MANIFEST
    digest = None
    is_rereadable = True

    def __init__(self, path: str, kind: ArtifactKind = ArtifactKind.FILE) -> None:
        """Look at the file; raise `CallerError` E-SOURCE or `CapacityError` E-LIMIT if it cannot be sent."""
        if kind not in FILE_KINDS:
            raise CallerError("E-SOURCE", f"a file cannot be sent as {kind}, only as {', '.join(sorted(FILE_KINDS))}")
        self.kind = kind
        self.title = display_title(base_name(path))
        self._path = path
        self._watched = WatchedFiles()
        self._before: Fingerprint = self._watched.watch(path, shown(path), follow=True)
        if self._before.size > PART_BYTES_MAX:
            problem = f"{shown(path)} has {self._before.size} bytes, at most {PART_BYTES_MAX} can be sent"
            raise CapacityError("E-LIMIT", problem, limit="PART_BYTES_MAX")

    @property
    def size_hint(self) -> int | None:
        """Bytes of all parts."""
        size = self._before.size
        return one_blob_size(self.kind, media_type=OCTET_STREAM, annotations={TITLE: self.title}, size=size)

    def parts(self) -> Iterator[PartSpec]:
        """Return config, blob, manifest."""
        return one_blob_parts(
            self.kind,
            media_type=OCTET_STREAM,
            annotations={TITLE: self.title},
            size=self._before.size,
            open_blob=lambda: open_file(self._path, self._before, follow=True),
        )

    def check_unchanged(self) -> None:
        """Raise `IntegrityError` E-SOURCE-CHANGED if the file is not what it was."""
        self._watched.check()


class StreamSource:
    """Standard input, read once: its digest and size are known only at its end."""

    title = "stdin"
    media_type = OCI_MANIFEST
    digest = None
    size_hint = None
    is_rereadable = False

    def __init__(self, kind: ArtifactKind = ArtifactKind.FILE, *, descriptor: int = _STDIN) -> None:
        """Read from `descriptor`, which stays open."""
        if kind not in FILE_KINDS:
            raise CallerError("E-SOURCE", f"a stream cannot be sent as {kind}, only as {', '.join(sorted(FILE_KINDS))}")
        if os.isatty(descriptor):
            raise CallerError("E-SOURCE", "standard input is a terminal; pipe the content into the command")
        self.kind = kind
        self._descriptor = descriptor
        self._is_read = False

    def parts(self) -> Iterator[PartSpec]:
        """Return config, blob, manifest."""
        return one_blob_parts(
            self.kind, media_type=OCTET_STREAM, annotations={TITLE: self.title}, size=None, open_blob=self._open
        )

    def check_unchanged(self) -> None:
        """A stream that was read to its end has nothing left to compare."""

    def _open(self) -> BinaryReader:
        if self._is_read:
            raise CallerError(
                "E-SOURCE", "standard input can be read only once", remedy="keep the content in a file and push that"
            )
        self._is_read = True
        return _StreamReader(self._descriptor)


class _StreamReader:
    """Reads a descriptor that it does not own, at most PART_BYTES_MAX bytes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._count = 0
        self._is_given_up = False

    def readinto(self, buffer: memoryview, /) -> int:
        """Wait for bytes, then fill the start of `buffer`."""
        if not buffer:
            return 0
        while not select.select([self._descriptor], [], [], _LOOK_S)[0]:
            if self._is_given_up:
                raise CallerError("E-SOURCE", "reading standard input was given up")
        with source_errors("standard input"):
            count = os.readv(self._descriptor, [buffer])
        self._count += count
        if self._count > PART_BYTES_MAX:
            raise CapacityError("E-LIMIT", f"standard input has more than {PART_BYTES_MAX} bytes", limit="PART_BYTES_MAX")
        return count

    def close(self) -> None:
        """Do nothing: the descriptor stays open, it is the process's."""

    def interrupt(self) -> None:
        """Give up a `readinto` that waits."""
        self._is_given_up = True
