"""An OCI image from files of this machine: gzip layers of libraries, a plain layer of an application that changes."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_ROOTS = ("/usr/lib", "/usr/share", str(Path(os.__file__).parent), "/usr/bin")
_FILE_BYTES_MAX = 8_000_000


def build_image(layout: Path, tag: str, size: int) -> tuple[int, int]:
    """Write an image of about `size` bytes of layers; return how many layers and bytes it has."""
    (layout / "blobs" / "sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}', encoding="utf-8")
    files = _files()
    # gzip shrinks to about two fifths, so these two carry half of the image; the plain one the other half.
    layers = [_write_layer(layout, list(_take(files, int(size * 0.25 * 2.5))), compressed=True) for _ in range(2)]
    application = list(_take(files, int(size * 0.5)))
    layers.append(_write_layer(layout, application, compressed=False))
    (layout / "application.json").write_text(json.dumps([str(path) for path in application]), encoding="utf-8")
    return len(layers), _write_image(layout, tag, layers)


def change_image(layout: Path, old: str, new: str) -> int:
    """Write the next version: three files of a hundred in the application layer differ; return how many."""
    manifest = _manifest(layout, old)
    application = [Path(path) for path in json.loads((layout / "application.json").read_text(encoding="utf-8"))]
    changed = {path for number, path in enumerate(application) if number % 33 == 0}
    layer = _write_layer(layout, application, compressed=False, changed=changed)
    _write_image(layout, new, [*manifest["layers"][:-1], layer])
    return len(changed)


def digests_of(layout: Path, tag: str) -> list[str]:
    """Return the digests of an image's manifest, config and layers, recomputed from the bytes."""
    manifest = _manifest(layout, tag)
    found = [_recomputed(layout, _descriptor(layout, tag)["digest"])]
    found += [_recomputed(layout, one["digest"]) for one in (manifest["config"], *manifest["layers"])]
    return found


def _recomputed(layout: Path, digest: str) -> str:
    hasher = hashlib.sha256()
    with (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return "sha256:" + hasher.hexdigest()


def _files() -> Iterator[Path]:
    """Yield regular files of this machine that anyone may read, in a fixed order."""
    for root in _ROOTS:
        for directory, names, files in os.walk(root):
            names.sort()
            for name in sorted(files):
                path = Path(directory, name)
                if (
                    path.is_file()
                    and not path.is_symlink()
                    and os.access(path, os.R_OK)
                    and path.stat().st_size <= _FILE_BYTES_MAX
                ):
                    yield path


def _take(files: Iterator[Path], size: int) -> Iterator[Path]:
    taken = 0
    while taken < size:
        path = next(files, None)
        if path is None:
            return
        taken += path.stat().st_size + 1024
        yield path


def _write_layer(layout: Path, files: list[Path], *, compressed: bool, changed: set[Path] | None = None) -> dict[str, Any]:
    temporary = layout / "layer.tmp"
    with temporary.open("wb") as raw:
        packed = gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) if compressed else raw
        with tarfile.open(fileobj=packed, mode="w|") as archive:
            for path in files:
                data = path.read_bytes()
                if changed and path in changed:
                    data = data[: len(data) // 2] + b"changed in v2\n" + data[len(data) // 2 :]
                member = tarfile.TarInfo(str(path).lstrip("/"))
                member.size, member.mode = len(data), 0o644
                archive.addfile(member, io.BytesIO(data))
        if packed is not raw:
            packed.close()
    media_type = _LAYER + "+gzip" if compressed else _LAYER
    return _keep(layout, temporary, media_type)


def _write_image(layout: Path, tag: str, layers: list[dict[str, Any]]) -> int:
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _keep_json(layout, config, _CONFIG),
        "layers": layers,
    }
    root = {**_keep_json(layout, manifest, _MANIFEST), "annotations": {"org.opencontainers.image.ref.name": tag}}
    path = layout / "index.json"
    index = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"schemaVersion": 2, "manifests": []}
    index["manifests"].append(root)
    path.write_text(json.dumps(index), encoding="utf-8")
    return sum(int(layer["size"]) for layer in layers)


def _keep_json(layout: Path, value: dict[str, Any], media_type: str) -> dict[str, Any]:
    temporary = layout / "json.tmp"
    temporary.write_text(json.dumps(value), encoding="utf-8")
    return _keep(layout, temporary, media_type)


def _keep(layout: Path, temporary: Path, media_type: str) -> dict[str, Any]:
    hasher = hashlib.sha256()
    with temporary.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    size = temporary.stat().st_size
    temporary.rename(layout / "blobs" / "sha256" / hasher.hexdigest())
    return {"mediaType": media_type, "digest": f"sha256:{hasher.hexdigest()}", "size": size}


def _descriptor(layout: Path, tag: str) -> dict[str, Any]:
    index = json.loads((layout / "index.json").read_text(encoding="utf-8"))
    for one in index["manifests"]:
        if one.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag:
            found: dict[str, Any] = one
            return found
    raise KeyError(tag)


def _manifest(layout: Path, tag: str) -> dict[str, Any]:
    digest = _descriptor(layout, tag)["digest"].removeprefix("sha256:")
    manifest: dict[str, Any] = json.loads((layout / "blobs" / "sha256" / digest).read_text(encoding="utf-8"))
    return manifest
