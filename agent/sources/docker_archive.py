"""What `docker save` writes, as an OCI image: config and layers bit for bit, read where they lie in the archive.

An archive made by Docker 25 or later (or by Carnet) holds the image's own manifest too; it is found by its config and layers and
kept, so that the image keeps its digest. An older archive has none; then one is made, the same for the same content.

Rules:      1. `manifest.json` says which config and layers belong to an image  2. a layer's media type is told by its first bytes
            3. nothing is extracted  4. a layer whose digest the archive itself states is announced with it, and so checked
Spec:       Docker image specification v1.2 and v1.3 (`manifest.json`); OCI image-spec 1.1
"""

import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.names import base_name, display_title, shown
from agent.ports import BinaryReader, PartSpec
from agent.sources.files import BytesReader, WatchedFiles, open_file, open_regular, source_errors
from agent.sources.tar_members import TarMember, TarMembers
from carnet.encoding import JsonValue, parse_json
from carnet.errors import CallerError, CapacityError, CarnetError, IntegrityError, InternalError, PeerError
from carnet.identifiers import Digest
from carnet.limits import CONFIG_BYTES_MAX, INDEX_DEPTH_MAX, MANIFEST_BYTES_MAX, MANIFESTS_MAX, PARTS_MAX
from carnet.oci import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_LAYER_TAR,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    ArtifactKind,
    Descriptor,
    ImageIndex,
    Manifest,
    Role,
    image_manifest,
    parse_manifest,
)

_MAGIC = ((b"\x1f\x8b", OCI_LAYER_GZIP), (b"\x28\xb5\x2f\xfd", OCI_LAYER_ZSTD))
_MAGIC_BYTES = 4
_BLOB_NAME = re.compile(r"(?:.*/)?blobs/sha256/([0-9a-f]{64})", re.ASCII)
_NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer in the archive; its digest where the archive states it."""

    member: TarMember
    media_type: str
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class _Image:
    """One entry of `manifest.json`."""

    config: str
    names: tuple[str, ...]
    layers: tuple[str, ...]


class DockerArchiveSource:
    """One image of an archive made by `docker save`."""

    kind = ArtifactKind.IMAGE
    is_rereadable = True

    def __init__(self, path: str, *, name: str | None = None) -> None:
        """Find the image called `name` (`repository:tag`); without it the archive must hold one image.

        Raises `CallerError` E-SOURCE for an archive that is malformed or lacks a file.
        """
        self._path = path
        self._watched = WatchedFiles()
        self._before = self._watched.watch(path, shown(path), follow=True)
        examined = _examine(path, self._before.size, name)
        self.title = display_title(examined.image.names[0] if examined.image.names else base_name(path))
        self.media_type = examined.media_type
        self._examined = examined
        self._manifest = examined.manifest

    @property
    def digest(self) -> Digest | None:
        """Digest of the manifest, if the archive states the digests of all layers."""
        return None if self._manifest is None else Digest.of(self._manifest)

    @property
    def size_hint(self) -> int | None:
        """Bytes of all parts, layers that turn out to be equal counted as often as they are read."""
        examined, manifest = self._examined, self._manifest
        if manifest is None:  # as long as it will be: every digest is equally long
            manifest = _canonical_manifest(examined.config, examined.layers, [Digest.of(b"")] * len(examined.layers)) or b""
        return len(examined.config) + sum(layer.member.size for layer in self._distinct_layers()) + len(manifest)

    def parts(self) -> Iterator[PartSpec]:
        """Return the manifest first if it is known, else last; the config; each layer once."""
        examined = self._examined
        read: dict[int, Digest] = {}  # by where a layer lies in the archive
        if self._manifest is not None:
            yield _in_memory(self._manifest, self.media_type, Role.ARTIFACT)
        yield _in_memory(examined.config, examined.config_type, Role.CONFIG)
        for layer in self._distinct_layers():
            yield self._layer_part(layer, read)
        if self._manifest is None:
            yield PartSpec(OCI_MANIFEST, None, None, Role.ARTIFACT, lambda: BytesReader(self._make_manifest(read)))

    def check_unchanged(self) -> None:
        """Raise `IntegrityError` E-SOURCE-CHANGED if the archive is not what it was."""
        self._watched.check()

    def _distinct_layers(self) -> Iterator["_Layer"]:
        """Yield each layer once, as far as digests are known before reading."""
        seen: set[int | Digest] = {Digest.of(self._examined.config)}
        for layer in self._examined.layers:
            known = {layer.member.offset, layer.digest or layer.member.offset}
            if known.isdisjoint(seen):
                yield layer
            seen |= known

    def _layer_part(self, layer: "_Layer", read: dict[int, Digest]) -> PartSpec:
        member = layer.member

        def completed(digest: Digest, _size: int, /) -> None:
            read[member.offset] = digest

        def open_layer() -> BinaryReader:
            return open_file(self._path, self._before, offset=member.offset, size=member.size, follow=True)

        return PartSpec(layer.media_type, layer.digest, member.size, Role.LAYER, open_layer, completed)

    def _make_manifest(self, read: Mapping[int, Digest]) -> bytes:
        digests = [layer.digest or read.get(layer.member.offset) for layer in self._examined.layers]
        manifest = _canonical_manifest(self._examined.config, self._examined.layers, digests)
        if manifest is None:
            raise InternalError("E-INTERNAL", "the manifest was opened before all layers were read")
        return manifest


@dataclass(frozen=True, slots=True)
class _Examined:
    """What an archive holds of one image; `manifest` where it can be known without reading layers."""

    image: _Image
    config: bytes
    config_type: str
    layers: tuple[_Layer, ...]
    manifest: bytes | None
    media_type: str


def _in_memory(data: bytes, media_type: str, role: Role) -> PartSpec:
    return PartSpec(media_type, Digest.of(data), len(data), role, lambda: BytesReader(data))


def _examine(path: str, size: int, name: str | None) -> _Examined:
    """Walk the archive and read its small documents."""
    where = shown(path)
    descriptor = open_regular(path, where, follow=True)

    def read_at(offset: int, count: int) -> bytes:
        with source_errors(where):
            return os.pread(descriptor, count, offset)

    try:
        return _Archive(TarMembers(read_at, size, where), read_at, where).examine(name)
    except PeerError as error:
        raise CallerError("E-SOURCE", f"{where}: {error.problem}") from None
    finally:
        os.close(descriptor)


class _Archive:
    """An archive while it is examined."""

    def __init__(self, members: TarMembers, read_at: Callable[[int, int], bytes], where: str) -> None:
        self._members = members
        self._read_at = read_at
        self._where = where

    def examine(self, name: str | None) -> _Examined:
        image = _choose(self._images(), name, self._where)
        config = self._read(image.config, CONFIG_BYTES_MAX)
        layers = self._layers(image, config)
        original = self._original_manifest(Digest.of(config), [layer.digest for layer in layers])
        if original is None:
            manifest = _canonical_manifest(config, layers, [layer.digest for layer in layers])
            return _Examined(image, config, OCI_CONFIG, layers, manifest, OCI_MANIFEST)
        document, data = original
        typed = tuple(
            _Layer(layer.member, said.media_type, said.digest) for layer, said in zip(layers, document.layers, strict=True)
        )
        return _Examined(image, config, document.config.media_type, typed, data, document.media_type)

    def _images(self) -> list[_Image]:
        value = parse_json(self._read("manifest.json", MANIFEST_BYTES_MAX), bytes_max=MANIFEST_BYTES_MAX)
        if not isinstance(value, list):
            raise CallerError("E-SOURCE", f"{self._where}: manifest.json is not a list of images")
        return [_parse_image(item, self._where) for item in value]

    def _layers(self, image: _Image, config: bytes) -> tuple[_Layer, ...]:
        if len(image.layers) > PARTS_MAX:
            raise CapacityError("E-LIMIT", f"{self._where} has more than {PARTS_MAX} layers", limit="PARTS_MAX")
        diff_ids = _diff_ids(config, self._where)
        stated = diff_ids if len(diff_ids) == len(image.layers) else [None] * len(image.layers)
        return tuple(self._layer(name, diff_id) for name, diff_id in zip(image.layers, stated, strict=True))

    def _layer(self, name: str, diff_id: Digest | None) -> _Layer:
        member = self._members.get(name)
        start = self._read_at(member.offset, min(_MAGIC_BYTES, member.size))
        media_type = next((found for magic, found in _MAGIC if start.startswith(magic)), OCI_LAYER_TAR)
        named = _BLOB_NAME.fullmatch(name)
        if named is not None:
            return _Layer(member, media_type, Digest("sha256:" + named[1]))
        return _Layer(member, media_type, diff_id if media_type == OCI_LAYER_TAR else None)

    def _original_manifest(self, config: Digest, layers: Sequence[Digest | None]) -> tuple[Manifest, bytes] | None:
        """Return the manifest in the archive that has just this config and these layers, if there is one."""
        if self._members.find("index.json") is None or None in layers:
            return None
        index = parse_manifest(self._read("index.json", MANIFEST_BYTES_MAX), OCI_INDEX)
        pending = deque([(index, 0)])
        seen: set[Digest] = set()
        while pending:
            document, depth = pending.popleft()
            if isinstance(document, Manifest):
                continue
            for entry in document.manifests:
                if not entry.is_manifest or entry.digest in seen or len(seen) >= MANIFESTS_MAX:
                    continue
                seen.add(entry.digest)
                data = self._blob(entry)
                found = None if data is None else parse_manifest(data, entry.media_type)
                if isinstance(found, ImageIndex) and depth < INDEX_DEPTH_MAX:
                    pending.append((found, depth + 1))
                if isinstance(found, Manifest) and data is not None and _is_of(found, config, layers):
                    return found, data
        return None

    def _blob(self, entry: Descriptor) -> bytes | None:
        """Return a manifest in the archive; None if it is absent, as those of other platforms are."""
        name = f"blobs/sha256/{entry.digest.hex}"
        if self._members.find(name) is None:
            return None
        data = self._read(name, MANIFEST_BYTES_MAX)
        if Digest.of(data) != entry.digest:
            raise IntegrityError("E-DIGEST", f"{self._where}: {name} does not have the digest in its name")
        return data

    def _read(self, name: str, bytes_max: int) -> bytes:
        member = self._members.get(name)
        if member.size > bytes_max:
            raise CallerError("E-SOURCE", f"{self._where}: {shown(name)} has {member.size} bytes, at most {bytes_max} are read")
        return self._read_at(member.offset, member.size)


def _is_of(manifest: Manifest, config: Digest, layers: Sequence[Digest | None]) -> bool:
    return manifest.config.digest == config and [layer.digest for layer in manifest.layers] == list(layers)


def _canonical_manifest(config: bytes, layers: Sequence[_Layer], digests: Sequence[Digest | None]) -> bytes | None:
    """Return the manifest that is made for an image without one; None while a digest is unknown."""
    described: list[Descriptor] = []
    for layer, digest in zip(layers, digests, strict=True):
        if digest is None:
            return None
        described.append(Descriptor(layer.media_type, digest, layer.member.size))
    return image_manifest(Descriptor(OCI_CONFIG, Digest.of(config), len(config)), described)


def _choose(images: Sequence[_Image], name: str | None, where: str) -> _Image:
    """Return the image that is meant; raise `CallerError` E-SOURCE with the choices if there is not exactly one."""
    found = list(images) if name is None else [image for image in images if _full_name(name) in map(_full_name, image.names)]
    if len(found) == 1:
        return found[0]
    names = [shown(image.names[0]) if image.names else "an image without a name" for image in images]
    listed = ", ".join(names[:_NAMES_SHOWN]) + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")
    asked = "" if name is None else f" named {shown(name)}"
    number = "no image" if not found else f"{len(found)} images"
    raise CallerError(
        "E-SOURCE",
        f"{where} holds {number}{asked}; it has: {listed or 'nothing'}",
        remedy="name one as docker-archive:PATH:NAME:TAG",
    )


def _full_name(name: str) -> str:
    """Return a name as Docker means it: of Docker Hub and `latest` unless it says otherwise."""
    short = name.removeprefix("docker.io/").removeprefix("library/")
    return short if ":" in short.rpartition("/")[2] else short + ":latest"


def _parse_image(value: JsonValue, where: str) -> _Image:
    if not isinstance(value, Mapping) or not isinstance(config := value.get("Config"), str):
        raise CallerError("E-SOURCE", f"{where}: manifest.json has an entry without a config")
    return _Image(config, _names(value.get("RepoTags"), where), _names(value.get("Layers"), where))


def _names(value: JsonValue, where: str) -> tuple[str, ...]:
    items = [] if value is None else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise CallerError("E-SOURCE", f"{where}: manifest.json has a list that is not of names")
    return tuple(str(item) for item in items)


def _diff_ids(config: bytes, where: str) -> list[Digest | None]:
    """Return the digests of the unpacked layers that a config states; the rest of a config is nobody's business here."""
    try:
        value = json.loads(config)
    except (ValueError, RecursionError):
        raise CallerError("E-SOURCE", f"{where}: the image's config is not JSON") from None
    rootfs = value.get("rootfs") if isinstance(value, dict) else None
    items = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    return [_digest(item) for item in items] if isinstance(items, list) else []


def _digest(value: object) -> Digest | None:
    try:
        return Digest(value) if isinstance(value, str) else None
    except CarnetError:
        return None
