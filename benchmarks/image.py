"""A container image in two versions, as OCI layouts with gzip layers; the next version rebuilds the upper two of four layers."""

import gzip
import hashlib
import json
import os
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tree import Versions

SHARES = (0.5, 0.25, 0.15, 0.1)
"""Of the tree's bytes, per layer from the base up."""
REBUILT_FROM = 2
"""Layers from this one on are of the second version of the tree."""
_LEVEL = 6
_BLOCK_BYTES = 1 << 20
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Layer:
    """One compressed layer in a file, and its two digests."""

    path: Path
    digest: str
    diff_id: str


def bounds(sizes: list[tuple[str, int]], shares: tuple[float, ...]) -> list[str]:
    """Return the first name of every layer but the base: names sort, and each layer has about its share of the bytes."""
    total, passed, ends, result = sum(size for _, size in sizes), 0, [0.0], []
    for share in shares[:-1]:
        ends.append(ends[-1] + share)
    for name, size in sizes:
        if len(result) < len(shares) - 1 and passed >= ends[len(result) + 1] * total:
            result.append(name)
        passed += size
    return result


def make_images(directory: Path, tree: Versions) -> Versions:
    """Write both layouts into `directory`, which is kept if it is complete."""
    record = directory / "facts.json"
    first, second = directory / "v1", directory / "v2"
    if not record.exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        old, new = _layers(directory, tree)
        _write_layout(first, old, "v1")
        _write_layout(second, old[:REBUILT_FROM] + new, "v2")
        facts = {f"v{number}_bytes": sum(layer.path.stat().st_size for layer in layers)
                 for number, layers in ((1, old), (2, old[:REBUILT_FROM] + new))}  # fmt: skip
        for layer in old + new:
            layer.path.unlink()
        facts["layers"], facts["layers_unchanged"] = len(old), REBUILT_FROM
        record.write_text(json.dumps(facts), encoding="ascii")
    return Versions(first, second, json.loads(record.read_text(encoding="ascii")))


def _layers(directory: Path, tree: Versions) -> tuple[list[Layer], list[Layer]]:
    """Make all layers of the first version, and those of the second that it rebuilds; two at a time."""
    with tarfile.open(tree.first) as source:
        starts = bounds([(member.name, member.size) for member in source], SHARES)
    orders = [(tree.first, number) for number in range(len(SHARES))]
    orders += [(tree.second, number) for number in range(REBUILT_FROM, len(SHARES))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = list(pool.map(lambda one: _make_layer(directory, one[0], one[1], starts), orders))
    return made[: len(SHARES)], made[len(SHARES) :]


def _make_layer(directory: Path, source: Path, number: int, starts: list[str]) -> Layer:
    """Cut layer `number` out of the tar `source` and compress it."""
    plain = directory / f"{source.stem}-{number}.tar"
    low = starts[number - 1] if number else ""
    high = starts[number] if number < len(starts) else None
    with tarfile.open(source) as old, tarfile.open(plain, "w") as new:
        for member in old:
            if member.name >= low and (high is None or member.name < high):
                new.addfile(member, old.extractfile(member))
    packed = plain.with_suffix(".tar.gz")
    diff_id = hashlib.sha256()
    with plain.open("rb") as read, packed.open("wb") as out, gzip.GzipFile("", "wb", _LEVEL, out, mtime=0) as zipped:
        while block := read.read(_BLOCK_BYTES):
            diff_id.update(block)
            zipped.write(block)
    plain.unlink()
    with packed.open("rb") as read:
        digest = hashlib.file_digest(read, "sha256").hexdigest()
    return Layer(packed, digest, diff_id.hexdigest())


def _write_layout(directory: Path, layers: list[Layer], tag: str) -> None:
    """Write an OCI layout of one image; layers are hard links."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for layer in layers:
        (blobs / layer.digest).hardlink_to(layer.path)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": _put(blobs, config, _CONFIG_TYPE),
        "layers": [
            {"mediaType": _LAYER_TYPE, "digest": f"sha256:{layer.digest}", "size": layer.path.stat().st_size} for layer in layers
        ],
    }
    top = _put(blobs, manifest, _MANIFEST_TYPE) | {"annotations": {"org.opencontainers.image.ref.name": tag}}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}), encoding="ascii")
    (directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}), encoding="ascii")


def _put(blobs: Path, document: dict[str, Any], media_type: str) -> dict[str, Any]:
    data = json.dumps(document).encode("ascii")
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
