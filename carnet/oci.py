"""OCI manifests and image indexes: the words, a strict parser, and the few documents we make ourselves.

Everything that Carnet moves is an OCI artifact, so both ends read these documents and must read them alike. Bytes are kept as
they are: nothing here writes a manifest again that somebody else made. Docker's schema 2 documents are read by the same rules.

Rules:      1. size, depth and JSON strictness are checked before meaning  2. a document is a manifest or an image index, never
            both  3. `mediaType`, where present, equals what the descriptor said  4. digests are SHA-256  5. what we make is
            canonical JSON (RFC 8785), so that equal input gives an equal digest
Spec:       docs/artifacts.md; OCI image-spec 1.1 (descriptor, manifest, image index); Docker image manifest v2 schema 2
Example:    >>> parse_manifest(b'{"schemaVersion":1}', OCI_MANIFEST)
            Traceback (most recent call last):
            carnet.errors.PeerError: manifest has schemaVersion 1, expected 2 [E-FORMAT]
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from carnet.encoding import JsonValue, canonical, parse_object
from carnet.errors import CarnetError, PeerError
from carnet.identifiers import Digest
from carnet.limits import MANIFEST_BYTES_MAX, PART_BYTES_MAX, PARTS_MAX

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
OCI_LAYER_TAR: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
OCTET_STREAM: Final = "application/octet-stream"
TAR: Final = "application/x-tar"

MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
"""Media types of documents with a config and layers."""
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_INDEX})
"""Media types of documents that list manifests."""
FOREIGN_LAYER_MARKS: Final = ("nondistributable", ".foreign.")
"""What the media types of layers that registries do not hold have in common."""

EMPTY_CONFIG: Final = b"{}"
"""The content of OCI's empty descriptor."""
TITLE: Final = "org.opencontainers.image.title"
REF_NAME: Final = "org.opencontainers.image.ref.name"

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}", re.ASCII)
_SHOWN_CHARS_MAX = 60


class Role(StrEnum):
    """What a part is in its closure. A part met twice has the role that comes first in this order."""

    ARTIFACT = "artifact"
    """The root: the manifest or image index whose digest names the artifact."""
    MANIFEST = "manifest"
    """A manifest or image index that the root, or a referrer, lists."""
    REFERRER = "referrer"
    """A manifest or image index whose `subject` is in the closure."""
    CONFIG = "config"
    """The config of a manifest under the root."""
    LAYER = "layer"
    """A layer of a manifest under the root."""
    BLOB = "blob"
    """A config or layer of a referrer."""


class ArtifactKind(StrEnum):
    """What moves (DESIGN section 2)."""

    IMAGE = "image"
    INDEX = "index"
    FILE = "file"
    DIRECTORY = "directory"
    PATCH = "patch"
    BUNDLE = "bundle"


ARTIFACT_TYPES: Final[Mapping[ArtifactKind, str]] = MappingProxyType(
    {
        ArtifactKind.FILE: "application/vnd.carnet.file.v1",
        ArtifactKind.DIRECTORY: "application/vnd.carnet.directory.v1",
        ArtifactKind.PATCH: "application/vnd.carnet.patch.v1",
        ArtifactKind.BUNDLE: "application/vnd.carnet.bundle.v1",
    }
)
"""`artifactType` of the artifacts of one blob that Carnet makes itself."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content: its media type, digest and size in bytes, and what is said about it."""

    media_type: str
    digest: Digest
    size: int
    artifact_type: str | None = None
    platform: str | None = None
    """`os/architecture[/variant]`, where an image index says so."""
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_manifest(self) -> bool:
        """Whether this points to a manifest or an image index."""
        return self.media_type in MANIFEST_TYPES or self.media_type in INDEX_TYPES

    @property
    def is_foreign(self) -> bool:
        """Whether this is a layer that its publisher keeps out of registries."""
        return any(mark in self.media_type for mark in FOREIGN_LAYER_MARKS)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A document with a config and layers. Its bytes are what counts; this is only what we read in them."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str | None
    subject: Descriptor | None
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """A document that lists manifests."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    artifact_type: str | None
    subject: Descriptor | None
    annotations: Mapping[str, str]


Document: TypeAlias = Manifest | ImageIndex


def parse_manifest(data: bytes, media_type: str) -> Document:
    """Return what `data` says, read as `media_type`; raise `PeerError` E-FORMAT where a rule of this file is broken."""
    if media_type not in MANIFEST_TYPES and media_type not in INDEX_TYPES:
        raise PeerError("E-FORMAT", f"manifest of media type {_shown(media_type)}, expected an OCI or Docker schema 2 type")
    fields = parse_object(data, bytes_max=MANIFEST_BYTES_MAX)
    _check_head(fields, media_type)
    artifact_type = _optional_text(fields, "artifactType")
    subject = fields.get("subject")
    subject_descriptor = None if subject is None else parse_descriptor(subject, "subject")
    annotations = _annotations(fields, "manifest")
    if media_type in INDEX_TYPES:
        manifests = _descriptors(fields, "manifests")
        return ImageIndex(media_type, manifests, artifact_type, subject_descriptor, annotations)
    config = parse_descriptor(fields.get("config"), "config")
    layers = _descriptors(fields, "layers")
    return Manifest(media_type, config, layers, artifact_type or config.media_type, subject_descriptor, annotations)


def parse_descriptor(value: JsonValue, what: str) -> Descriptor:
    """Return the descriptor in `value`; raise `PeerError` E-FORMAT, naming it as `what`, if it is not a sound one."""
    if not isinstance(value, Mapping):
        raise PeerError("E-FORMAT", f"{what}: a descriptor was expected")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= PART_BYTES_MAX:
        raise PeerError("E-FORMAT", f"{what}: size {_shown(size)}, expected 0 to {PART_BYTES_MAX} bytes")
    urls = value.get("urls")
    return Descriptor(
        media_type=parse_media_type(value.get("mediaType"), what),
        digest=_digest(value.get("digest"), what),
        size=size,
        artifact_type=_optional_text(value, "artifactType"),
        platform=_platform(value.get("platform"), what),
        urls=() if urls is None else tuple(_texts(urls, f"{what}: urls")),
        annotations=_annotations(value, what),
    )


def parse_media_type(value: JsonValue, what: str) -> str:
    """Return `value` if it is a media type without parameters (RFC 6838); raise `PeerError` E-FORMAT otherwise."""
    if not isinstance(value, str) or _MEDIA_TYPE.fullmatch(value) is None:
        raise PeerError("E-FORMAT", f"{what}: {_shown(value)} is not a media type")
    return value


def artifact_manifest(kind: ArtifactKind, layer: Descriptor) -> bytes:
    """Return the one manifest of an artifact of one blob: equal arguments, equal bytes.

    Raises `KeyError` for a kind that is not made of one blob.
    """
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": ARTIFACT_TYPES[kind],
            "config": encode_descriptor(Descriptor(OCI_EMPTY, Digest.of(EMPTY_CONFIG), len(EMPTY_CONFIG))),
            "layers": [encode_descriptor(layer)],
        }
    )


def image_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """Return the manifest of an image that came without one: equal arguments, equal bytes."""
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": encode_descriptor(config),
            "layers": [encode_descriptor(layer) for layer in layers],
        }
    )


def encode_descriptor(descriptor: Descriptor) -> dict[str, JsonValue]:
    """Return the JSON object of a descriptor, without members that say nothing; `platform` and `urls` are not written."""
    value: dict[str, JsonValue] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.artifact_type is not None:
        value["artifactType"] = descriptor.artifact_type
    if descriptor.annotations:
        value["annotations"] = dict(descriptor.annotations)
    return value


def kind_of(document: Document) -> ArtifactKind:
    """Return the kind of the artifact whose root is `document`; whatever is not one of Carnet's own types is an image."""
    if isinstance(document, ImageIndex):
        return ArtifactKind.INDEX
    for kind, artifact_type in ARTIFACT_TYPES.items():
        if document.artifact_type == artifact_type:
            return kind
    return ArtifactKind.IMAGE


def _check_head(fields: Mapping[str, JsonValue], media_type: str) -> None:
    version = fields.get("schemaVersion")
    if version != 2 or isinstance(version, bool):  # noqa: PLR2004 - the number is the specification's
        raise PeerError("E-FORMAT", f"manifest has schemaVersion {_shown(version)}, expected 2")
    said = fields.get("mediaType")
    if said is not None and said != media_type:
        raise PeerError("E-FORMAT", f"manifest says mediaType {_shown(said)}, its descriptor says {media_type}")
    if "manifests" in fields and ("layers" in fields or "config" in fields):
        raise PeerError("E-FORMAT", "manifest has both `manifests` and `layers` or `config`: two readers may see two artifacts")


def _digest(value: JsonValue, what: str) -> Digest:
    if not isinstance(value, str):
        raise PeerError("E-FORMAT", f"{what}: digest is missing")
    try:
        return Digest(value)
    except CarnetError:
        raise PeerError("E-FORMAT", f"{what}: digest {_shown(value)}, expected sha256:<64 hex digits>") from None


def _platform(value: JsonValue, what: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise PeerError("E-FORMAT", f"{what}: platform is not an object")
    words = (_optional_text(value, "os") or "unknown", _optional_text(value, "architecture") or "unknown")
    variant = _optional_text(value, "variant")
    return "/".join((*words, variant) if variant else words)


def _descriptors(fields: Mapping[str, JsonValue], name: str) -> tuple[Descriptor, ...]:
    items = fields.get(name)
    if not isinstance(items, list):
        raise PeerError("E-FORMAT", f"manifest has no list of `{name}`")
    if len(items) > PARTS_MAX:
        raise PeerError("E-FORMAT", f"manifest lists {len(items)} `{name}`, at most {PARTS_MAX} are read (PARTS_MAX)")
    return tuple(parse_descriptor(item, f"{name}[{number}]") for number, item in enumerate(items))


def _annotations(fields: Mapping[str, JsonValue], what: str) -> Mapping[str, str]:
    value = fields.get("annotations")
    if value is None:
        return MappingProxyType({})
    if not isinstance(value, Mapping):
        raise PeerError("E-FORMAT", f"{what}: annotations are not an object")
    found: dict[str, str] = {}
    for key, text in value.items():
        if not isinstance(text, str):
            raise PeerError("E-FORMAT", f"{what}: annotation {_shown(key)} is not a string")
        found[key] = text
    return MappingProxyType(found)


def _optional_text(fields: Mapping[str, JsonValue], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise PeerError("E-FORMAT", f"{name} is {_shown(value)}, expected a string")
    return value or None


def _texts(value: JsonValue, what: str) -> list[str]:
    if not isinstance(value, list):
        raise PeerError("E-FORMAT", f"{what}: a list of strings was expected")
    found: list[str] = []
    for item in value:
        if not isinstance(item, str):
            raise PeerError("E-FORMAT", f"{what}: a list of strings was expected")
        found.append(item)
    return found


def _shown(value: object) -> str:
    """Return what an error may say of a hostile value: short, and ASCII only."""
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        return "a list or object"
    return ascii(value)[:_SHOWN_CHARS_MAX]
