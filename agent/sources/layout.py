"""An OCI image layout on disk: one image or image index of it, with everything that refers to it.

What refers to the artifact is found among the manifests that `index.json` lists, and those that a referrers tag
(`sha256-<hex>`) lists: each is read and its `subject` compared, again and again until nothing is new. Tags that a signer makes
without a `subject` (`sha256-<hex>.sig`) tie nothing to the artifact that a receiver could check, and do not move.

Rules:      1. a blob is a regular file of the size its descriptor says, never a link  2. every blob is looked at before the
            first is read, so that an incomplete layout is refused before a byte moves  3. bytes are kept as they are
Spec:       OCI image-spec 1.1 (image layout, descriptor), distribution-spec 1.1 (referrers tag schema)
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence

from agent.names import base_name, display_title, shown
from agent.ports import BinaryReader, PartSpec
from agent.sources.files import Fingerprint, WatchedFiles, open_file, read_small
from carnet.closure import Closure, ClosurePart, walk_closure
from carnet.encoding import parse_object
from carnet.errors import CallerError, CapacityError, IntegrityError, PeerError
from carnet.identifiers import Digest
from carnet.limits import KIB, LAYOUT_ENTRIES_MAX, MANIFEST_BYTES_MAX
from carnet.oci import OCI_INDEX, REF_NAME, ArtifactKind, Descriptor, Document, ImageIndex, kind_of, parse_manifest

_REFERRERS_TAG = re.compile(r"sha256-[0-9a-f]{64}", re.ASCII)
_NAMES_SHOWN = 10


class LayoutSource:
    """One artifact of an OCI layout directory."""

    is_rereadable = True

    def __init__(self, path: str, *, tag: str | None = None, digest: str | None = None) -> None:
        """Find the artifact and its closure.

        Without `tag` and `digest` the layout must hold one artifact (what has a `subject` does not count). Raises `CallerError`
        E-SOURCE for a layout that is malformed or lacks a blob, `IntegrityError` E-DIGEST for a blob that is not what its
        descriptor says, `CapacityError` E-LIMIT.
        """
        self._path = path
        self._watched = WatchedFiles()
        self._files: dict[Digest, Fingerprint] = {}
        entries = self._read_index()
        referrers = _Referrers(entries, self._read_document)
        root = _choose(entries, referrers.has_subject, shown(path), tag=tag, digest=digest)
        self.digest: Digest | None = root.digest
        self.media_type = root.media_type
        self.title = display_title(root.annotations.get(REF_NAME) or base_name(path))
        self._closure = self._walk(root, referrers)
        self.kind: ArtifactKind = kind_of(self._closure.root)
        for part in self._closure.parts:
            self._look_at(part.descriptor)

    @property
    def size_hint(self) -> int | None:
        """Bytes of all parts."""
        return self._closure.size

    def parts(self) -> Iterator[PartSpec]:
        """Return manifests, then configs, then layers, then the blobs of referrers."""
        for part in self._closure.parts:
            descriptor = part.descriptor
            yield PartSpec(descriptor.media_type, descriptor.digest, descriptor.size, part.role, self._opener(part))

    def check_unchanged(self) -> None:
        """Raise `IntegrityError` E-SOURCE-CHANGED if a blob's file is not what it was."""
        self._watched.check()

    def _opener(self, part: ClosurePart) -> Callable[[], BinaryReader]:
        digest = part.descriptor.digest
        return lambda: open_file(self._blob_path(digest), self._files[digest])

    def _blob_path(self, digest: Digest) -> str:
        return f"{self._path}/blobs/sha256/{digest.hex}"

    def _read_index(self) -> tuple[Descriptor, ...]:
        """Return the entries of `index.json`, after checking the layout's version."""
        where = shown(self._path)
        try:
            marker = parse_object(read_small(f"{self._path}/oci-layout", f"{where}/oci-layout", bytes_max=KIB), bytes_max=KIB)
            data = read_small(f"{self._path}/index.json", f"{where}/index.json", bytes_max=MANIFEST_BYTES_MAX)
            document = parse_manifest(data, OCI_INDEX)
        except PeerError as error:
            raise CallerError("E-SOURCE", f"{where} is not an OCI layout: {error.problem}") from None
        version = marker.get("imageLayoutVersion")
        if not isinstance(version, str) or not version.startswith("1."):
            raise CallerError("E-SOURCE", f"{where} has an OCI layout version that is not 1.x")
        return document.manifests if isinstance(document, ImageIndex) else ()

    def _walk(self, root: Descriptor, referrers: "_Referrers") -> Closure:
        try:
            return walk_closure(root, self._read_blob, referrers.of)
        except PeerError as error:
            raise CallerError("E-SOURCE", f"{shown(self._path)}: {error.problem}") from None

    def _read_document(self, descriptor: Descriptor) -> Document:
        try:
            return parse_manifest(self._read_blob(descriptor), descriptor.media_type)
        except PeerError as error:
            raise CallerError("E-SOURCE", f"{shown(self._path)}: manifest {descriptor.digest}: {error.problem}") from None

    def _read_blob(self, descriptor: Descriptor) -> bytes:
        """Return a manifest's bytes; their digest is checked by whoever walks."""
        if descriptor.size > MANIFEST_BYTES_MAX:
            problem = f"manifest {descriptor.digest} of {descriptor.size} bytes, at most {MANIFEST_BYTES_MAX} are read"
            raise CapacityError("E-LIMIT", problem, limit="MANIFEST_BYTES_MAX")
        self._look_at(descriptor)
        return read_small(self._blob_path(descriptor.digest), f"blob {descriptor.digest}", bytes_max=MANIFEST_BYTES_MAX)

    def _look_at(self, descriptor: Descriptor) -> None:
        """Remember the file of a blob; refuse one that is missing, a link, or of another size."""
        path = self._blob_path(descriptor.digest)
        if not os.path.lexists(path):
            raise self._missing(descriptor)
        found = self._watched.watch(path, f"{shown(self._path)}: blob {descriptor.digest}")
        if found.size != descriptor.size:
            problem = f"{shown(self._path)}: blob {descriptor.digest} has {found.size} bytes, expected {descriptor.size}"
            raise IntegrityError("E-DIGEST", problem)
        self._files[descriptor.digest] = found

    def _missing(self, descriptor: Descriptor) -> CallerError:
        problem = f"{shown(self._path)} lacks blob {descriptor.digest} ({descriptor.media_type})"
        if descriptor.is_foreign or descriptor.urls:
            problem += ", a layer that its publisher keeps elsewhere"
            return CallerError(
                "E-SOURCE", problem, remedy="fetch the layer from the address in its descriptor into the layout first"
            )
        return CallerError("E-SOURCE", problem, remedy="copy the artifact into the layout again, with all its platforms")


class _Referrers:
    """What, in one layout, has which `subject`."""

    def __init__(self, entries: Sequence[Descriptor], read: Callable[[Descriptor], Document]) -> None:
        self._by_subject: dict[Digest, list[Descriptor]] = {}
        self.has_subject: set[Digest] = set()
        self._read: set[Digest] = set()
        for entry in entries:
            if not entry.is_manifest:
                continue
            document = self._add(entry, read)
            if isinstance(document, ImageIndex) and _REFERRERS_TAG.fullmatch(entry.annotations.get(REF_NAME, "")):
                self.has_subject.add(entry.digest)
                for child in document.manifests:
                    if child.is_manifest:
                        self._add(child, read)

    def of(self, digest: Digest) -> Sequence[Descriptor]:
        """Return the manifests whose subject is `digest`."""
        return self._by_subject.get(digest, ())

    def _add(self, entry: Descriptor, read: Callable[[Descriptor], Document]) -> Document | None:
        if entry.digest in self._read:
            return None
        self._read.add(entry.digest)
        if len(self._read) > LAYOUT_ENTRIES_MAX:
            problem = f"the layout lists more than {LAYOUT_ENTRIES_MAX} manifests"
            raise CapacityError("E-LIMIT", problem, limit="LAYOUT_ENTRIES_MAX")
        document = read(entry)
        if document.subject is not None:
            self._by_subject.setdefault(document.subject.digest, []).append(entry)
            self.has_subject.add(entry.digest)
        return document


def _choose(
    entries: Sequence[Descriptor], referring: set[Digest], where: str, *, tag: str | None, digest: str | None
) -> Descriptor:
    """Return the entry that is meant; raise `CallerError` E-SOURCE with the choices if there is not exactly one."""
    if tag is not None:
        found = [entry for entry in entries if entry.annotations.get(REF_NAME) == tag]
        what = f"tagged {shown(tag)}"
    elif digest is not None:
        found = [entry for entry in entries if entry.digest == digest]
        what = f"with digest {shown(digest)}"
    else:
        found = [entry for entry in entries if entry.digest not in referring] or list(entries)
        what = "that is named"
    if len({entry.digest for entry in found}) == 1:
        return found[0]
    number = "no artifact" if not found else f"{len(found)} artifacts"
    names = [shown(entry.annotations.get(REF_NAME) or entry.digest) for entry in entries]
    listed = ", ".join(names[:_NAMES_SHOWN]) + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")
    raise CallerError(
        "E-SOURCE",
        f"{where} holds {number} {what}; it has: {listed or 'nothing'}",
        remedy="name one as oci:PATH:TAG or oci:PATH@DIGEST",
    )
