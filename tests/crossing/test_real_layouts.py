"""Layouts by skopeo and umoci cross the border and come out with every digest, and the real clients read them."""

import json
import os
import random
from pathlib import Path

import pytest

from tests.agent.layouts import Layout, blobs_of
from tests.crossing.sites import World
from tests.interop.real_clients import check_blobs, make_umoci_layout, run, skopeo_copy


async def cross(world: World, source: str, kind_dir: Path, tag: str = "v1") -> Path:
    """Push `source` from us to eu, pull it at eu into a layout, and return the layout."""
    result = await world.push(source, f"eu:app:{tag}")
    assert result.view.deliveries[0].state == "delivered"
    await world.pull(world.eu, f"app:{tag}", f"oci:{kind_dir}:{tag}")
    return kind_dir


@pytest.mark.needs("umoci", "skopeo")
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
async def test_an_image_by_skopeo_crosses_with_every_digest(world: World, tmp_path: Path, compression: str) -> None:
    made = make_umoci_layout(tmp_path)
    skopeo_copy(f"oci:{made}:v1", f"dir:{tmp_path}/plain", "--dest-decompress")
    skopeo_copy(f"dir:{tmp_path}/plain", f"oci:{tmp_path}/from:v1", "--dest-compress-format", compression)

    out = await cross(world, f"oci:{tmp_path}/from:v1", tmp_path / "to")

    assert blobs_of(out) == blobs_of(tmp_path / "from")
    check_blobs(out)
    assert run("skopeo", "inspect", "--raw", f"oci:{out}:v1") == run("skopeo", "inspect", "--raw", f"oci:{tmp_path}/from:v1")


@pytest.mark.needs("umoci", "skopeo")
async def test_an_index_of_two_platforms_with_referrers_and_an_empty_layer_crosses_whole(world: World, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "from")
    made = make_umoci_layout(tmp_path)
    for name, content in blobs_of(made).items():
        (layout.blobs / name).write_bytes(content)
    (entry,) = json.loads((made / "index.json").read_bytes())["manifests"]
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

    out = await cross(world, f"oci:{tmp_path}/from:v1", tmp_path / "to")

    assert blobs_of(out) == blobs_of(tmp_path / "from")
    skopeo_copy(f"oci:{out}:v1", f"oci:{tmp_path}/again:v1", "--all", "--preserve-digests")


async def test_a_directory_with_links_and_odd_modes_comes_back_equal(world: World, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "empty").mkdir(mode=0o700)
    (tree / "deep" / "файл").write_bytes(b"text")
    (tree / "deep" / "文件").write_bytes(b"")
    (tree / "one").write_bytes(b"1")
    (tree / "one").chmod(0o4711)
    os.link(tree / "one", tree / "deep" / "hard")
    (tree / "soft").symlink_to("deep/nowhere")
    with (tree / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    (tree / b"not-utf8-\xff".decode("utf-8", "surrogateescape")).write_bytes(b"x")

    result = await world.push(f"dir:{tree}", "eu:tree:v1")
    await world.pull(world.eu, "tree:v1", f"dir:{tmp_path / 'out'}")

    assert result.view.deliveries[0].state == "delivered"
    assert described(tmp_path / "out") == described(tree)
    assert (tmp_path / "out" / "one").stat().st_ino == (tmp_path / "out" / "deep" / "hard").stat().st_ino


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Return what must be equal of every file below `root`."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (status.st_mode, status.st_mtime_ns if not path.is_symlink() else 0, content)
    return found


async def test_a_sparse_file_stays_sparse(world: World, tmp_path: Path) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.write(random.Random(1).randbytes(1000))
        file.truncate(64_000_000)

    await world.push(f"file:{source}", "eu:sparse:v1")
    await world.pull(world.eu, "sparse:v1", f"file:{tmp_path / 'out'}")

    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert (tmp_path / "out").stat().st_blocks * 512 < 8_000_000
