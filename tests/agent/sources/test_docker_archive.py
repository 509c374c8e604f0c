import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from agent.sinks import open_sink
from agent.sources import open_source
from carnet.errors import CallerError, CarnetError, IntegrityError
from carnet.oci import OCI_LAYER_GZIP, OCI_LAYER_TAR, ArtifactKind, Manifest, Role, parse_manifest
from tests.agent.layouts import blobs_of, simple_image
from tests.agent.moving import move, read_all


def hex_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Archive:
    """What an old `docker save` writes."""

    def __init__(self, path: Path, form: int = tarfile.USTAR_FORMAT) -> None:
        self.path = path
        self.tar = tarfile.open(path, "w", format=form)  # noqa: SIM115 - closed by close
        self.images: list[dict[str, object]] = []

    def file(self, name: str, content: bytes) -> str:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self.tar.addfile(member, io.BytesIO(content))
        return name

    def link(self, name: str, target: str) -> str:
        member = tarfile.TarInfo(name)
        member.type = tarfile.SYMTYPE
        member.linkname = target
        self.tar.addfile(member)
        return name

    def image(self, names: list[str] | None, layers: list[str], diff_ids: list[str]) -> bytes:
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": diff_ids}, "float": 1.5}).encode()
        self.images.append({"Config": self.file(hex_of(config) + ".json", config), "RepoTags": names, "Layers": layers})
        return config

    def close(self) -> None:
        self.file("manifest.json", json.dumps(self.images).encode())
        self.tar.close()


def old_archive(path: Path) -> list[bytes]:
    archive = Archive(path)
    one, two = b"layer one" * 100, b"layer two"
    layers = [
        archive.file("aa/layer.tar", one),
        archive.link("bb/layer.tar", "../aa/layer.tar"),
        archive.file("cc/layer.tar", two),
    ]
    archive.image(["app:v1"], layers, ["sha256:" + hex_of(content) for content in (one, one, two)])
    archive.close()
    return [one, two]


def test_an_old_archive_becomes_an_image_and_its_digest_is_known(tmp_path: Path) -> None:
    layers = old_archive(tmp_path / "app.tar")

    source = open_source(f"docker-archive:{tmp_path}/app.tar")
    parts = list(read_all(source))

    assert source.kind is ArtifactKind.IMAGE
    assert source.title == "app:v1"
    assert source.digest == parts[0][0].digest
    assert source.size_hint == sum(head.size for head, _ in parts)
    assert [content for head, content in parts if head.role is Role.LAYER] == layers
    document = parse_manifest(parts[0][1], parts[0][0].media_type)
    assert isinstance(document, Manifest)
    assert [layer.digest.hex for layer in document.layers] == [hex_of(layers[0]), hex_of(layers[0]), hex_of(layers[1])]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_compressed_layers_are_kept_and_the_manifest_comes_last(tmp_path: Path, form: int) -> None:
    archive = Archive(tmp_path / "app.tar", form)
    packed = gzip.compress(b"layer", mtime=0)
    archive.image(["app:v1"], [archive.file("long/" * 40 + "layer.tar", packed)], ["sha256:" + hex_of(b"layer")])
    archive.close()

    source = open_source(f"docker-archive:{tmp_path}/app.tar:app:v1")
    parts = list(read_all(source))

    assert source.digest is None
    assert source.size_hint == sum(len(content) for _, content in parts)
    assert [head.role for head, _ in parts] == [Role.CONFIG, Role.LAYER, Role.ARTIFACT]
    assert parts[1] == (parts[1][0], packed)
    document = parse_manifest(parts[2][1], parts[2][0].media_type)
    assert isinstance(document, Manifest)
    assert document.layers[0].media_type == OCI_LAYER_GZIP


def test_an_archive_with_two_images_needs_a_name(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "two.tar")
    layer = archive.file("layer.tar", b"")
    archive.image(["app:v1", "app:latest"], [layer], [])
    archive.image(["docker.io/library/other:v2"], [layer], [])
    archive.close()

    with pytest.raises(CallerError, match=r"it has: app:v1, docker\.io/library/other:v2"):
        open_source(f"docker-archive:{tmp_path}/two.tar")
    assert open_source(f"docker-archive:{tmp_path}/two.tar:app").title == "app:v1"
    assert open_source(f"docker-archive:{tmp_path}/two.tar:other:v2").title == "docker.io/library/other:v2"


def test_an_image_keeps_its_digest_through_an_archive(tmp_path: Path) -> None:
    simple_image(tmp_path / "layout", b"layer" * 50_000)
    heads = move(
        open_source(f"oci:{tmp_path}/layout"), open_sink(f"docker-archive:{tmp_path}/app.tar:app:v1", ArtifactKind.IMAGE)
    )

    source = open_source(f"docker-archive:{tmp_path}/app.tar:app:v1")
    again = move(source, open_sink(f"oci:{tmp_path}/to:v1", source.kind))

    assert source.digest == heads[0].digest
    assert heads == again
    assert blobs_of(tmp_path / "to") == blobs_of(tmp_path / "layout")
    assert OCI_LAYER_TAR in {head.media_type for head in again}


def test_a_layer_that_is_not_what_its_config_says_is_found(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "app.tar")
    archive.image(None, [archive.file("layer.tar", b"layer")], ["sha256:" + hex_of(b"other")])
    archive.close()

    part = next(part for part in open_source(f"docker-archive:{tmp_path}/app.tar").parts() if part.role is Role.LAYER)

    assert part.digest == "sha256:" + hex_of(b"other")  # so that the pipeline compares


def test_an_index_over_an_archive_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="image index cannot be written to docker-archive") as caught:
        open_sink(f"docker-archive:{tmp_path}/x.tar", ArtifactKind.INDEX)
    assert "oci:" in caught.value.remedy


@pytest.mark.parametrize("length", [0, 100, 512, 1024, 1600, 2048, 3000])
def test_a_truncated_archive_is_refused(tmp_path: Path, length: int) -> None:
    old_archive(tmp_path / "app.tar")
    content = (tmp_path / "app.tar").read_bytes()
    (tmp_path / "app.tar").write_bytes(content[:length])

    with pytest.raises(CarnetError) as caught:
        open_source(f"docker-archive:{tmp_path}/app.tar")
    assert caught.value.code == "E-SOURCE"


def test_damage_to_any_header_is_an_error_of_ours(tmp_path: Path) -> None:
    old_archive(tmp_path / "app.tar")
    content = bytearray((tmp_path / "app.tar").read_bytes())
    for position in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[position] ^= 0x55
        (tmp_path / "bad.tar").write_bytes(damaged)
        try:
            source = open_source(f"docker-archive:{tmp_path}/bad.tar")
        except CarnetError:
            continue
        assert source.kind is ArtifactKind.IMAGE


def test_links_that_go_round_end(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "app.tar")
    archive.link("a", "b")
    archive.image(None, [archive.link("b", "a")], [])
    archive.close()

    with pytest.raises(CallerError, match="has no file"):
        open_source(f"docker-archive:{tmp_path}/app.tar")


def test_a_blob_in_the_archive_with_other_bytes_than_its_name_is_found(tmp_path: Path) -> None:
    simple_image(tmp_path / "layout")
    move(open_source(f"oci:{tmp_path}/layout"), open_sink(f"docker-archive:{tmp_path}/app.tar", ArtifactKind.IMAGE))
    content = (tmp_path / "app.tar").read_bytes()
    (tmp_path / "app.tar").write_bytes(content.replace(b'"layers"', b'"Layers"', 1))

    with pytest.raises(IntegrityError, match="does not have the digest in its name"):
        open_source(f"docker-archive:{tmp_path}/app.tar")
