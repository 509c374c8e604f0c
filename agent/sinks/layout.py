"""An OCI image layout on disk: created, or added to.

Rules:      1. blobs are written aside and renamed into place; `index.json` is replaced last, so that a crash leaves at most blobs
            that nothing lists  2. a tag names one artifact: an entry of the same name is replaced, all others are kept
            3. referrers are listed too, so that other tools find them  4. writers exclude each other while they change
            `index.json`
Spec:       OCI image-spec 1.1 (image layout)
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.names import shown
from agent.ports import PartHead, PartWriter
from agent.sinks.staging import (
    CountedWriter,
    KeptPart,
    StagedFile,
    parent_of,
    remove_tree,
    sink_errors,
    sync_directory,
    temporary_beside,
    write_all,
)
from agent.sinks.syncing import Syncing
from carnet.encoding import JsonValue, canonical, parse_object
from carnet.errors import CallerError, InternalError, PeerError
from carnet.limits import MANIFEST_BYTES_MAX
from carnet.oci import OCI_INDEX, REF_NAME, Descriptor, Manifest, Role, encode_descriptor, parse_manifest

LAYOUT_MARKER = b'{"imageLayoutVersion":"1.0.0"}'
EMPTY_INDEX: dict[str, JsonValue] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
_BLOBS = "blobs/sha256"
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


class LayoutSink:
    """One artifact into a layout directory, under a tag."""

    def __init__(self, path: str, tag: str) -> None:
        """Name the place; raise `CallerError` E-SINK if something else than a layout, or nothing, is there."""
        self._path = path
        self._tag = tag
        self._stage: str | None = None
        self._root: PartHead | None = None
        self._blobs: list[str] = []
        self._listed: list[KeptPart] = []  # root and referrers: their entries need what they say
        self._writer: _BlobWriter | None = None  # the last one given out; its file must not stay open
        self._syncing = Syncing()
        with sink_errors(path):
            if not self._is_absent():
                self._read_index()

    def begin(self, root: PartHead) -> None:
        """Make the staging directory; raise `CallerError` E-SINK if there is something else than a layout at the path."""
        self._root = root
        with sink_errors(self._path):
            is_new = self._is_absent()
            if not is_new:
                self._read_index()
            inside = f"{self._path}/index.json"
            self._stage = temporary_beside(self._path if is_new else inside)
            # The outer directory is private; the inner one has the permissions that the layout will have.
            Path(self._stage).mkdir(0o700)
            Path(self._tree, _BLOBS).mkdir(parents=True)

    def part(self, head: PartHead) -> PartWriter:
        """Write a blob aside."""
        name = head.digest.hex
        self._blobs.append(name)
        kept = KeptPart(head, bytes_max=MANIFEST_BYTES_MAX) if head.role in (Role.ARTIFACT, Role.REFERRER) else None
        with sink_errors(self._path):
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            descriptor = os.open(f"{self._tree}/{_BLOBS}/{name}", flags, 0o666)
        if kept is not None:
            self._listed.append(kept)
        self._writer = _BlobWriter(head, descriptor, self._path, kept, self._syncing)
        return self._writer

    def commit(self) -> None:
        """Put blobs and entries in place, durably."""
        entries = self._entries()
        with sink_errors(self._path):
            self._syncing.end()
            sync_directory(f"{self._tree}/{_BLOBS}")
            if self._is_absent() and self._create(entries):
                self._remove_stage()
                return
            with self._locked():
                Path(self._path, _BLOBS).mkdir(parents=True, exist_ok=True)
                for name in self._blobs:
                    os.rename(f"{self._tree}/{_BLOBS}/{name}", f"{self._path}/{_BLOBS}/{name}")  # noqa: PTH104
                sync_directory(f"{self._path}/{_BLOBS}")
                sync_directory(f"{self._path}/blobs")
                self._write_index(self._path, _merge(self._read_index(), entries))
        self._remove_stage()

    def abort(self) -> None:
        """Remove the staging directory."""
        with suppress(OSError):
            self._syncing.end()
        if self._writer is not None:
            self._writer.release()
        self._remove_stage()

    @property
    def _tree(self) -> str:
        if self._stage is None:
            raise InternalError("E-INTERNAL", "a part came before the beginning")
        return f"{self._stage}/layout"

    def _is_absent(self) -> bool:
        """Whether there is nothing at the path, or an empty directory."""
        if not os.path.lexists(self._path):
            return True
        with os.scandir(self._path) as found:
            return next(found, None) is None

    def _read_index(self) -> dict[str, JsonValue]:
        """Return the `index.json` of the layout that is there; raise `CallerError` E-SINK if it is none."""
        marker, index = Path(self._path, "oci-layout"), Path(self._path, "index.json")
        if not marker.is_file() or not index.is_file():
            raise CallerError("E-SINK", f"{shown(self._path)} is there and is not an OCI layout")
        try:
            with index.open("rb") as file:
                data = file.read(MANIFEST_BYTES_MAX + 1)
            parse_manifest(data, OCI_INDEX)
            return parse_object(data, bytes_max=MANIFEST_BYTES_MAX)
        except PeerError as error:
            raise CallerError("E-SINK", f"{shown(self._path)}/index.json is not sound: {error.problem}") from None

    def _create(self, entries: list[JsonValue]) -> bool:
        """Make a new layout appear at once; say whether nobody else made one meanwhile."""
        marker = Path(self._tree, "oci-layout")
        marker.write_bytes(LAYOUT_MARKER)
        sync_file(str(marker))
        self._write_index(self._tree, _merge(EMPTY_INDEX, entries))
        sync_directory(f"{self._tree}/blobs")
        try:
            os.rename(self._tree, self._path)  # noqa: PTH104 - names may be any bytes
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        sync_directory(parent_of(self._path))
        return True

    def _entries(self) -> list[JsonValue]:
        """Return the `index.json` entries of root and referrers, the root first."""
        entries: list[JsonValue] = []
        for kept in self._listed:
            document = parse_manifest(kept.data, kept.head.media_type)
            is_root = kept.head.role == Role.ARTIFACT
            artifact_type = document.artifact_type
            if is_root and isinstance(document, Manifest) and artifact_type == document.config.media_type:
                artifact_type = None  # said by the config only: the entry of an image says nothing
            annotations = {REF_NAME: self._tag} if is_root else {}
            descriptor = Descriptor(
                kept.head.media_type, kept.head.digest, kept.head.size, artifact_type=artifact_type, annotations=annotations
            )
            entries.insert(0 if is_root else len(entries), encode_descriptor(descriptor))
        if self._root is None or not any(kept.head.digest == self._root.digest for kept in self._listed):
            raise InternalError("E-INTERNAL", "committed without a root")
        return entries

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other writers of this layout out; the lock ends with the process at the latest."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write_index(self, directory: str, index: dict[str, JsonValue]) -> None:
        file = StagedFile(f"{directory}/index.json")
        try:
            file.write(memoryview(canonical(index)))
            file.publish()
        finally:
            file.discard()

    def _remove_stage(self) -> None:
        if self._stage is not None:
            remove_tree(self._stage)
            self._stage = None


class _BlobWriter(CountedWriter):
    """Writes one blob to its own file, and keeps a copy where one is wanted."""

    def __init__(self, head: PartHead, descriptor: int, what: str, kept: KeptPart | None, syncing: Syncing) -> None:
        super().__init__(head, self._take_piece)
        self._syncing = syncing
        self._descriptor: int | None = descriptor
        self._what = what
        self._copy = None if kept is None else kept.writer()

    def _take_piece(self, data: memoryview) -> None:
        assert self._descriptor is not None, "written after its end"  # noqa: S101 - a defect of ours, not an input
        if self._copy is not None:
            self._copy.write(data)
        with sink_errors(self._what):
            write_all(self._descriptor, data)
            self._syncing.written(self._descriptor, len(data))

    def close(self) -> None:
        """Have the file synced and closed."""
        if self._descriptor is None:
            return
        super().close()
        descriptor, self._descriptor = self._descriptor, None
        self._syncing.close(descriptor)

    def release(self) -> None:
        """Close the file as it is; idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def sync_file(path: str) -> None:
    """Make the content of a small file durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _merge(index: dict[str, JsonValue], entries: list[JsonValue]) -> dict[str, JsonValue]:
    """Return `index` with `entries`: a tag moves, a digest without a tag is listed once, all else stays."""
    present = index.get("manifests")
    merged: list[JsonValue] = [] if not isinstance(present, list) else list(present)
    for entry in entries:
        name, digest = _name_and_digest(entry)
        if name is not None:
            merged = [old for old in merged if _name_and_digest(old)[0] != name]
        elif any(_name_and_digest(old)[1] == digest for old in merged):
            continue
        merged.append(entry)
    return {**index, "manifests": merged}


def _name_and_digest(entry: JsonValue) -> tuple[JsonValue, JsonValue]:
    if not isinstance(entry, dict):
        return None, None
    annotations = entry.get("annotations")
    return annotations.get(REF_NAME) if isinstance(annotations, dict) else None, entry.get("digest")
