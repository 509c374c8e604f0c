"""Layouts and archives that skopeo and umoci make, and whether they take ours: every digest and every blob must stay."""

import json
from pathlib import Path

import pytest

from agent.sinks import open_sink
from agent.sources import open_source
from carnet.identifiers import Digest
from carnet.oci import ArtifactKind, Role
from tests.agent.layouts import Layout, blobs_of
from tests.agent.moving import move
from tests.interop.real_clients import check_blobs, make_umoci_layout, run, skopeo_copy


@pytest.fixture
def umoci_layout(tmp_path: Path) -> Path:
    """A layout that umoci made: an image of two gzip layers, the second with links and odd modes."""
    return make_umoci_layout(tmp_path)


@pytest.mark.needs("umoci")
def test_a_layout_by_umoci_keeps_every_digest(umoci_layout: Path, tmp_path: Path) -> None:
    source = open_source(f"oci:{umoci_layout}:v1")
    heads = move(source, open_sink(f"oci:{tmp_path}/to:v1", source.kind))

    assert blobs_of(tmp_path / "to") == blobs_of(umoci_layout)
    assert [head.role for head in heads].count(Role.LAYER) == 2
    stat = json.loads(run("umoci", "stat", "--image", f"{tmp_path}/to:v1", "--json"))
    assert len([entry for entry in stat["history"] if not entry.get("empty_layer")]) == 2


@pytest.mark.needs("umoci", "skopeo")
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_layout_by_skopeo_keeps_every_digest(umoci_layout: Path, tmp_path: Path, compression: str) -> None:
    skopeo_copy(f"oci:{umoci_layout}:v1", f"dir:{tmp_path}/plain", "--dest-decompress")
    skopeo_copy(f"dir:{tmp_path}/plain", f"oci:{tmp_path}/from:v1", "--dest-compress-format", compression)

    source = open_source(f"oci:{tmp_path}/from:v1")
    heads = move(source, open_sink(f"oci:{tmp_path}/to:v1", source.kind))

    assert blobs_of(tmp_path / "to") == blobs_of(tmp_path / "from")
    assert any(head.media_type.endswith(f"tar+{compression}") for head in heads)
    raw = run("skopeo", "inspect", "--raw", f"oci:{tmp_path}/to:v1")
    assert Digest.of(raw) == source.digest


@pytest.mark.needs("umoci", "skopeo")
def test_several_tags_in_one_layout_by_skopeo(umoci_layout: Path, tmp_path: Path) -> None:
    for tag in ("v1", "v2", "latest"):
        run("umoci", "config", "--image", f"{umoci_layout}:v1", "--tag", tag, "--config.label", f"tag={tag}")
        skopeo_copy(f"oci:{umoci_layout}:{tag}", f"oci:{tmp_path}/from:{tag}")
    for tag in ("v1", "v2", "latest"):
        source = open_source(f"oci:{tmp_path}/from:{tag}")
        move(source, open_sink(f"oci:{tmp_path}/to:{tag}", source.kind))

    assert blobs_of(tmp_path / "to") == blobs_of(tmp_path / "from")
    for tag in ("v1", "v2", "latest"):
        inspected = json.loads(run("skopeo", "inspect", f"oci:{tmp_path}/to:{tag}"))
        assert inspected["Labels"] == {"tag": tag}


@pytest.mark.needs("umoci", "skopeo")
def test_an_index_of_two_platforms_with_referrers_is_read_by_skopeo(umoci_layout: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "from")
    for name, content in blobs_of(umoci_layout).items():
        (layout.blobs / name).write_bytes(content)
    (entry,) = json.loads((umoci_layout / "index.json").read_bytes())["manifests"]
    image = {key: entry[key] for key in ("mediaType", "digest", "size")}
    other = layout.image(
        (b"", "application/vnd.oci.image.layer.v1.tar"), config=b'{"architecture":"arm64","os":"linux","rootfs":{}}'
    )
    index = layout.index(
        {**image, "platform": {"os": "linux", "architecture": "amd64"}},
        {**other, "platform": {"os": "linux", "architecture": "arm64"}},
    )
    layout.tag(index, "v1")
    layout.tag(layout.referrer(index, b"signature"), None)
    layout.tag(layout.referrer(image, b"sbom"), None)

    source = open_source(f"oci:{tmp_path}/from:v1")
    move(source, open_sink(f"oci:{tmp_path}/to:v1", source.kind))

    assert source.kind is ArtifactKind.INDEX
    assert blobs_of(tmp_path / "to") == blobs_of(tmp_path / "from")
    skopeo_copy(f"oci:{tmp_path}/to:v1", f"oci:{tmp_path}/again:v1", "--all", "--preserve-digests")
    assert Digest.of(run("skopeo", "inspect", "--raw", f"oci:{tmp_path}/again:v1")) == source.digest
    check_blobs(tmp_path / "again")


@pytest.mark.needs("umoci", "skopeo")
def test_an_archive_by_skopeo_becomes_an_image_that_skopeo_reads(umoci_layout: Path, tmp_path: Path) -> None:
    skopeo_copy(f"oci:{umoci_layout}:v1", f"docker-archive:{tmp_path}/app.tar:app:v1")

    source = open_source(f"docker-archive:{tmp_path}/app.tar:app:v1")
    move(source, open_sink(f"oci:{tmp_path}/to:v1", source.kind))

    before = json.loads(run("skopeo", "inspect", "--config", f"docker-archive:{tmp_path}/app.tar"))
    after = json.loads(run("skopeo", "inspect", "--config", f"oci:{tmp_path}/to:v1"))
    assert before["rootfs"] == after["rootfs"]
    assert source.digest is not None
    check_blobs(tmp_path / "to")


@pytest.mark.needs("umoci", "skopeo")
def test_an_archive_of_ours_is_read_by_skopeo(umoci_layout: Path, tmp_path: Path) -> None:
    source = open_source(f"oci:{umoci_layout}:v1")
    move(source, open_sink(f"docker-archive:{tmp_path}/app.tar:app:v1", source.kind))

    skopeo_copy(f"docker-archive:{tmp_path}/app.tar:docker.io/library/app:v1", f"oci:{tmp_path}/from-docker:v1")
    config = json.loads(run("skopeo", "inspect", "--config", f"oci:{umoci_layout}:v1"))
    assert json.loads(run("skopeo", "inspect", "--config", f"oci:{tmp_path}/from-docker:v1"))["rootfs"] == config["rootfs"]

    run("tar", "-xf", tmp_path / "app.tar", "-C", tmp_path, "--one-top-level=unpacked")
    skopeo_copy(f"oci:{tmp_path}/unpacked", f"oci:{tmp_path}/from-layout:v1")
    assert blobs_of(tmp_path / "from-layout") == blobs_of(umoci_layout)


@pytest.mark.needs("tar")
def test_gnu_tar_unpacks_our_directories(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/日本語").write_bytes(b"content")
    (tree / "long").mkdir()
    (tree / "long" / ("n" * 200)).write_bytes(b"")
    (tree / "link").symlink_to("d/日本語")
    (tree / "hard").hardlink_to(tree / "d/日本語")
    source = open_source(f"dir:{tree}")
    heads = move(source, open_sink(f"oci:{tmp_path}/layout:v1", source.kind))
    (layer,) = (head for head in heads if head.role is Role.LAYER)

    (tmp_path / "out").mkdir()
    run("tar", "-xf", tmp_path / "layout/blobs/sha256" / layer.digest.hex, "-C", tmp_path / "out")

    run("diff", "-r", "--no-dereference", tree, tmp_path / "out")
    assert open_source(f"dir:{tmp_path}/out").size_hint == source.size_hint
