import os
from pathlib import Path

import pytest

from agent.sinks import open_sink
from agent.sources import open_source
from carnet.errors import CallerError, CapacityError, CarnetError, IntegrityError
from carnet.oci import OCI_CONFIG, OCI_LAYER_GZIP, OCI_LAYER_TAR, OCI_LAYER_ZSTD, OCI_MANIFEST, ArtifactKind, Role
from tests.agent.layouts import Layout, blobs_of, encode, simple_image
from tests.agent.moving import move, read_all


def two_platforms(path: Path) -> Layout:
    """An image index of two platforms that share a layer, with a signature, a signature of that, and an SBOM of one platform."""
    layout = Layout(path)
    shared = (b"shared", OCI_LAYER_GZIP)
    amd64 = layout.image(shared, (b"amd64", OCI_LAYER_ZSTD), config=b'{"architecture":"amd64"}')
    arm64 = layout.image(shared, (b"", OCI_LAYER_TAR), config=b'{"architecture":"arm64"}')
    platforms = [
        {**amd64, "platform": {"os": "linux", "architecture": "amd64"}},
        {**arm64, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
    ]
    index = layout.index(*platforms)
    layout.tag(index, "v1")
    signature = layout.referrer(index, b"signature of the index")
    layout.tag(signature, None)
    layout.tag(layout.referrer(signature, b"countersignature"), None)
    layout.tag(layout.index(layout.referrer(arm64, b"sbom of arm64")), "sha256-" + str(arm64["digest"])[7:])
    return layout


def test_an_index_moves_with_all_that_refers_to_it(tmp_path: Path) -> None:
    two_platforms(tmp_path / "from")

    source = open_source(f"oci:{tmp_path}/from:v1")
    heads = move(source, open_sink(f"oci:{tmp_path}/to:v1", source.kind))

    assert source.kind is ArtifactKind.INDEX
    assert source.size_hint == sum(head.size for head in heads)
    sent, came = blobs_of(tmp_path / "from"), blobs_of(tmp_path / "to")
    assert sent.items() >= came.items()
    # Only the index behind the referrers tag stays: it says nothing that the subjects do not say.
    assert len(sent) - len(came) == 1
    roles = [head.role for head in heads]
    assert roles.count(Role.MANIFEST) == 2
    assert roles.count(Role.REFERRER) == 3
    assert roles.count(Role.CONFIG) == 2
    assert roles.count(Role.LAYER) == 3
    assert roles.count(Role.BLOB) == 4


def test_what_came_can_be_sent_on_and_is_the_same_closure(tmp_path: Path) -> None:
    two_platforms(tmp_path / "a")
    first = move(open_source(f"oci:{tmp_path}/a:v1"), open_sink(f"oci:{tmp_path}/b:v1", ArtifactKind.INDEX))
    second = move(open_source(f"oci:{tmp_path}/b:v1"), open_sink(f"oci:{tmp_path}/c:v1", ArtifactKind.INDEX))

    assert sorted(first, key=lambda head: head.digest) == sorted(second, key=lambda head: head.digest)
    assert blobs_of(tmp_path / "b") == blobs_of(tmp_path / "c")
    assert (tmp_path / "b/index.json").read_bytes() == (tmp_path / "c/index.json").read_bytes()


def test_manifests_come_before_blobs_and_the_root_first(tmp_path: Path) -> None:
    two_platforms(tmp_path / "from")

    roles = [head.role for head, _ in read_all(open_source(f"oci:{tmp_path}/from:v1"))]

    documents = {Role.ARTIFACT, Role.MANIFEST, Role.REFERRER}
    assert roles[0] is Role.ARTIFACT
    assert [role in documents for role in roles] == sorted((role in documents for role in roles), reverse=True)


def test_the_only_artifact_needs_no_tag_even_beside_its_signature(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "from")
    image = layout.image((b"layer", OCI_LAYER_TAR))
    layout.tag(image, "v1")
    layout.tag(layout.referrer(image), None)

    assert open_source(f"oci:{tmp_path}/from").digest == image["digest"]


def test_several_tags_and_none_named_are_listed(tmp_path: Path) -> None:
    layout = simple_image(tmp_path / "from")
    layout.tag(layout.image((b"other", OCI_LAYER_TAR)), "v2")

    with pytest.raises(CallerError, match="it has: v1, v2"):
        open_source(f"oci:{tmp_path}/from")
    with pytest.raises(CallerError, match="no artifact tagged v3"):
        open_source(f"oci:{tmp_path}/from:v3")
    assert open_source(f"oci:{tmp_path}/from:v2").title == "v2"
    assert open_source(f"oci:{tmp_path}/from@{layout.entries[0]['digest']}").title == "v1"


def test_two_tags_of_one_image_are_one_artifact(tmp_path: Path) -> None:
    layout = simple_image(tmp_path / "from")
    layout.tag(layout.entries[0], "latest")

    assert open_source(f"oci:{tmp_path}/from").digest == layout.entries[0]["digest"]


def test_a_blob_used_twice_appears_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "from")
    layout.tag(layout.image((b"same", OCI_LAYER_TAR), (b"same", OCI_LAYER_TAR), (b"{}", OCI_LAYER_TAR), config=b"{}"), "v1")

    heads = [head for head, _ in read_all(open_source(f"oci:{tmp_path}/from"))]

    assert [head.role for head in heads] == [Role.ARTIFACT, Role.CONFIG, Role.LAYER]


def test_docker_media_types_are_kept(tmp_path: Path) -> None:
    docker = "application/vnd.docker.distribution.manifest.v2+json"
    layout = Layout(tmp_path / "from")
    layer = layout.blob(b"layer", "application/vnd.docker.image.rootfs.diff.tar.gzip")
    config = layout.blob(b"{}", "application/vnd.docker.container.image.v1+json")
    manifest = encode({"schemaVersion": 2, "mediaType": docker, "config": config, "layers": [layer]})
    layout.tag(layout.blob(manifest, docker), "v1")

    move(open_source(f"oci:{tmp_path}/from"), open_sink(f"oci:{tmp_path}/to:v1", ArtifactKind.IMAGE))

    assert blobs_of(tmp_path / "from") == blobs_of(tmp_path / "to")
    assert open_source(f"oci:{tmp_path}/to").media_type == docker


def only_layer(layout: Layout) -> Path:
    return next(blob for blob in layout.blobs.iterdir() if blob.read_bytes() == b"layer")


def test_a_missing_blob_is_refused_by_name(tmp_path: Path) -> None:
    layer = only_layer(simple_image(tmp_path / "from"))
    layer.unlink()

    with pytest.raises(CallerError, match=f"lacks blob sha256:{layer.name}"):
        open_source(f"oci:{tmp_path}/from")


def test_a_blob_of_another_size_is_refused(tmp_path: Path) -> None:
    only_layer(simple_image(tmp_path / "from")).write_bytes(b"layers")

    with pytest.raises(IntegrityError, match="has 6 bytes, expected 5"):
        open_source(f"oci:{tmp_path}/from")


def test_a_blob_that_is_a_link_or_a_pipe_is_refused(tmp_path: Path) -> None:
    layer = only_layer(simple_image(tmp_path / "from"))
    layer.rename(tmp_path / "elsewhere")
    layer.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CallerError, match="cannot read"):
        open_source(f"oci:{tmp_path}/from")

    layer.unlink()
    os.mkfifo(layer)
    with pytest.raises(CallerError, match="not a regular file"):
        open_source(f"oci:{tmp_path}/from")


def test_a_manifest_with_other_bytes_than_its_digest_is_refused(tmp_path: Path) -> None:
    layout = simple_image(tmp_path / "from")
    manifest = layout.blobs / str(layout.entries[0]["digest"])[7:]
    manifest.write_bytes(manifest.read_bytes().replace(b"application", b"Application"))

    with pytest.raises(CallerError):
        open_source(f"oci:{tmp_path}/from")


def test_a_foreign_layer_that_is_not_there_is_explained(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "from")
    layer = layout.blob(
        b"windows", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", urls=["https://example.com/l"]
    )
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": layout.blob(b"{}", OCI_CONFIG), "layers": [layer]}
    layout.tag(layout.blob(encode(manifest), OCI_MANIFEST), "v1")
    assert open_source(f"oci:{tmp_path}/from").kind is ArtifactKind.IMAGE

    (layout.blobs / str(layer["digest"])[7:]).unlink()
    with pytest.raises(CallerError, match="publisher keeps elsewhere"):
        open_source(f"oci:{tmp_path}/from")


def test_a_blob_that_changes_while_it_is_read_is_found(tmp_path: Path) -> None:
    layer = only_layer(simple_image(tmp_path / "from"))
    source = open_source(f"oci:{tmp_path}/from")
    layer.write_bytes(b"LAYER")
    os.utime(layer, ns=(1, 1))

    with pytest.raises(IntegrityError) as caught:
        source.check_unchanged()
    assert caught.value.code == "E-SOURCE-CHANGED"
    with pytest.raises(IntegrityError):
        list(read_all(source))


def test_indexes_nested_too_deep_are_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "from")
    inner = layout.image((b"layer", OCI_LAYER_TAR))
    for _ in range(5):
        inner = layout.index(inner)
    layout.tag(inner, "v1")

    with pytest.raises(CapacityError) as caught:
        open_source(f"oci:{tmp_path}/from")
    assert caught.value.limit == "INDEX_DEPTH_MAX"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("index.json", b"{"),
        ("index.json", b'{"schemaVersion":2,"manifests":[],"manifests":[]}'),
        ("index.json", b'{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"sha512:00","size":1}]}'),
        ("index.json", b'{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"sha256:../../etc/passwd","size":1}]}'),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}'),
        ("oci-layout", b"[]"),
        ("index.json", b" " * (4 * 1024 * 1024 + 1)),
    ],
)
def test_a_malformed_layout_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    simple_image(tmp_path / "from")
    (tmp_path / "from" / name).write_bytes(content)

    with pytest.raises(CallerError) as caught:
        open_source(f"oci:{tmp_path}/from")
    assert caught.value.code == "E-SOURCE"


@pytest.mark.parametrize(
    "text", ["oci:", "oci:nowhere", "", "nowhere", "ftp:x", "docker://alpine", "file:", "dir:nowhere", "file:nowhere"]
)
def test_what_is_no_source_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(CarnetError) as caught:
        open_source(text)
    assert caught.value.code == "E-SOURCE"
    assert caught.value.exit_status == 2


def test_a_path_with_colons_is_found(tmp_path: Path) -> None:
    simple_image(tmp_path / "a:b")

    assert open_source(f"oci:{tmp_path}/a:b").title == "v1"
    assert open_source(f"oci:{tmp_path}/a:b:v1").title == "v1"
