"""What `docker load` reads: a tar that is an OCI layout with Docker's `manifest.json`, as Docker itself writes since version 25.

The manifest, the config and the layers are kept bit for bit, compressed or not, so that the image has the same digest again when
the archive is read by Docker, skopeo or Carnet. Parts are written as they come; nothing is kept but the manifest.

Spec:       Docker image specification v1.3 (`manifest.json`); OCI image-spec 1.1 (image layout)
"""

from agent.ports import PartHead, PartWriter
from agent.sinks.layout import EMPTY_INDEX, LAYOUT_MARKER
from agent.sinks.staging import CountedWriter, KeptPart, StagedFile, check_replaceable
from carnet.archive import TRAILER, Member, MemberType, encode_member, padding
from carnet.encoding import JsonValue, canonical
from carnet.errors import CallerError, IntegrityError, InternalError
from carnet.identifiers import Digest
from carnet.limits import MANIFEST_BYTES_MAX
from carnet.oci import INDEX_TYPES, REF_NAME, Descriptor, Manifest, Role, encode_descriptor, parse_manifest

_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644


class DockerArchiveSink:
    """One image into an archive file, under the names given."""

    def __init__(self, path: str, *, name: str | None = None) -> None:
        """Prepare to write `path`, as the image `name` (`repository:tag`) if given; nothing is written before `begin`."""
        check_replaceable(path)
        self._path = path
        self._name = None if name is None else _with_tag(name)
        self._file: StagedFile | None = None
        self._root: KeptPart | None = None

    def begin(self, root: PartHead) -> None:
        """Create the temporary file; raise `CallerError` E-SINK for an image index, or if the file cannot be written."""
        if root.media_type in INDEX_TYPES:
            raise CallerError(
                "E-SINK",
                "a Docker archive holds the image of one platform, this is an image index",
                remedy="write it with oci:PATH:TAG",
            )
        self._file = StagedFile(self._path)
        for directory in (b"blobs", b"blobs/sha256"):
            self._append(encode_member(Member(directory, MemberType.DIRECTORY, _DIRECTORY_MODE, 0)))

    def part(self, head: PartHead) -> PartWriter:
        """Append a blob."""
        member = Member(_blob_name(head.digest).encode("ascii"), MemberType.FILE, _FILE_MODE, 0, size=head.size)
        self._append(encode_member(member))
        take = self._append_view
        if head.role == Role.ARTIFACT:
            self._root = KeptPart(head, bytes_max=MANIFEST_BYTES_MAX)
            copy = self._root.writer()

            def take_both(data: memoryview) -> None:
                copy.write(data)
                self._append_view(data)

            take = take_both
        return CountedWriter(head, take, lambda: self._append(bytes(padding(head.size))))

    def commit(self) -> None:
        """Append the documents that make sense of the blobs, and publish; `IntegrityError` E-FORMAT if it is no image."""
        if self._root is None or self._file is None:
            raise InternalError("E-INTERNAL", "committed without a manifest")
        document = parse_manifest(self._root.data, self._root.head.media_type)
        if not isinstance(document, Manifest):
            raise IntegrityError("E-FORMAT", "the root is not the manifest of one image")
        annotations = {} if self._name is None else {"io.containerd.image.name": _qualified(self._name), REF_NAME: self._tag}
        head = self._root.head
        entry = encode_descriptor(Descriptor(head.media_type, head.digest, head.size, annotations=annotations))
        images: JsonValue = [
            {
                "Config": _blob_name(document.config.digest),
                "RepoTags": None if self._name is None else [self._name],
                "Layers": [_blob_name(layer.digest) for layer in document.layers],
            }
        ]
        self._append_file(b"index.json", canonical({**EMPTY_INDEX, "manifests": [entry]}))
        self._append_file(b"manifest.json", canonical(images))
        self._append_file(b"oci-layout", LAYOUT_MARKER)
        self._append(TRAILER)
        self._file.publish()

    def abort(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            self._file.discard()

    @property
    def _tag(self) -> str:
        return (self._name or "").rpartition(":")[2]

    def _append_file(self, name: bytes, data: bytes) -> None:
        self._append(encode_member(Member(name, MemberType.FILE, _FILE_MODE, 0, size=len(data))))
        self._append(data + bytes(padding(len(data))))

    def _append(self, data: bytes) -> None:
        self._append_view(memoryview(data))

    def _append_view(self, data: memoryview) -> None:
        if self._file is None:
            raise InternalError("E-INTERNAL", "a part came before the beginning")
        self._file.write(data)


def _blob_name(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"


def _with_tag(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else name + ":latest"


def _qualified(name: str) -> str:
    """Return a name with its registry, as containerd stores it; without one Docker Hub is meant."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"
