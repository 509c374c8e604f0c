"""Sinks for artifacts of one blob: to a file, to standard output, or to whatever takes the blob's bytes.

What refers to the artifact (signatures, for instance) has been verified like everything else and is not kept; `oci:` keeps it.
"""

import os
import sys
import tempfile
from typing import BinaryIO, Protocol

from agent.ports import PartHead, PartWriter
from agent.sinks.staging import CountedWriter, KeptPart, StagedFile, check_replaceable, sink_errors, write_all
from carnet.errors import IntegrityError, InternalError
from carnet.limits import CONFIG_BYTES_MAX, MANIFEST_BYTES_MAX, MIB
from carnet.oci import MANIFEST_TYPES, Manifest, Role, parse_manifest

_COPY_BYTES = MIB


class Content(Protocol):
    """Where the one blob goes."""

    def begin(self) -> None:
        """Make what is temporary."""

    def write(self, data: memoryview, /) -> None:
        """Take the next bytes."""

    def publish(self) -> None:
        """Make it visible, durably."""

    def discard(self) -> None:
        """Remove what is temporary; idempotent."""


class OneBlobSink:
    """Finds the blob among the parts, in whatever order they come, and checks at the end that it is the manifest's only one."""

    def __init__(self, content: Content, *, media_type: str | None = None) -> None:
        """Give the blob to `content`; with `media_type`, only a blob of that type."""
        self._content = content
        self._media_type = media_type
        self._root: KeptPart | None = None
        self._config: KeptPart | None = None
        self._blob: PartHead | None = None
        self._is_committed = False

    def begin(self, root: PartHead) -> None:
        """Make what is temporary; raise `IntegrityError` E-FORMAT if the root is an image index."""
        if root.media_type not in MANIFEST_TYPES:
            raise IntegrityError("E-FORMAT", "the root is not the manifest of one blob")
        self._content.begin()

    def part(self, head: PartHead) -> PartWriter:
        """Keep manifest and config, pass the blob on, drop all else."""
        if head.role == Role.ARTIFACT:
            self._root = KeptPart(head, bytes_max=MANIFEST_BYTES_MAX)
            return self._root.writer()
        if head.role == Role.CONFIG:
            self._config = KeptPart(head, bytes_max=CONFIG_BYTES_MAX)
            return self._config.writer()
        if head.role == Role.LAYER:
            if self._blob is not None:
                raise IntegrityError("E-FORMAT", "an artifact of one blob came with two")
            self._blob = head
            return CountedWriter(head, self._content.write)
        return CountedWriter(head, lambda _data: None)

    def commit(self) -> None:
        """Check the manifest, then publish; raise `IntegrityError` E-FORMAT if the blob is not what the manifest lists."""
        self._check_manifest()
        self._content.publish()
        self._is_committed = True

    def abort(self) -> None:
        """Remove what is temporary."""
        if not self._is_committed:
            self._content.discard()

    def _check_manifest(self) -> None:
        if self._root is None:
            raise InternalError("E-INTERNAL", "committed without a manifest")
        document = parse_manifest(self._root.data, self._root.head.media_type)
        if not isinstance(document, Manifest) or len(document.layers) != 1:
            raise IntegrityError("E-FORMAT", "the manifest does not list exactly one blob")
        layer = document.layers[0]
        if self._media_type is not None and layer.media_type != self._media_type:
            raise IntegrityError("E-FORMAT", f"the blob is {layer.media_type}, expected {self._media_type}")
        if self._blob is None and self._config is not None and self._config.head.digest == layer.digest:
            # A file that holds just `{}` is the same part as the empty config, and came once.
            self._blob = self._config.head
            self._content.write(memoryview(self._config.data))
        if self._blob is None or self._blob.digest != layer.digest:
            raise IntegrityError("E-FORMAT", f"blob {layer.digest} of the manifest did not come")


class FileContent:
    """A file at a path."""

    def __init__(self, path: str) -> None:
        """Name the place; raise `CallerError` E-SINK if something other than a regular file is there."""
        check_replaceable(path)
        self._path = path
        self._file: StagedFile | None = None

    def begin(self) -> None:
        """Create the temporary beside the path; raise `CallerError` E-SINK if that cannot be."""
        self._file = StagedFile(self._path)

    def write(self, data: memoryview, /) -> None:
        """Append."""
        if self._file is not None:
            self._file.write(data)

    def publish(self) -> None:
        """Rename the file into place."""
        if self._file is not None:
            self._file.publish()

    def discard(self) -> None:
        """Remove the temporary."""
        if self._file is not None:
            self._file.discard()


class StreamContent:
    """Standard output: the bytes wait in an unnamed temporary file until they are known to be right."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Write to `descriptor`, standard output by default."""
        self._descriptor = descriptor
        self._spool: BinaryIO | None = None

    def begin(self) -> None:
        """Create the temporary file, which has no name."""
        with sink_errors("a temporary file"):
            self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed by publish or discard

    def write(self, data: memoryview, /) -> None:
        """Append to the temporary file."""
        with sink_errors("a temporary file"):
            write_all(self._spool_descriptor, data)

    def publish(self) -> None:
        """Copy the temporary file out."""
        with sink_errors("standard output"):
            descriptor = sys.stdout.fileno() if self._descriptor is None else self._descriptor
            offset = 0
            while data := os.pread(self._spool_descriptor, _COPY_BYTES, offset):
                write_all(descriptor, memoryview(data))
                offset += len(data)
        self.discard()

    def discard(self) -> None:
        """Close the temporary file, which removes it."""
        if self._spool is not None:
            self._spool.close()

    @property
    def _spool_descriptor(self) -> int:
        if self._spool is None:
            raise InternalError("E-INTERNAL", "a part came before the beginning")
        return self._spool.fileno()
