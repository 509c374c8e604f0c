"""OCI layouts made by hand, for tests: whatever a test needs to be wrong with them can be."""

import json
from pathlib import Path

from carnet.identifiers import Digest
from carnet.oci import OCI_CONFIG, OCI_INDEX, OCI_LAYER_TAR, OCI_MANIFEST


def encode(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


class Layout:
    """A layout being made at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = path / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.entries: list[dict[str, object]] = []

    def blob(self, content: bytes, media_type: str, **more: object) -> dict[str, object]:
        """Store a blob and return its descriptor."""
        digest = Digest.of(content)
        (self.blobs / digest.hex).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content), **more}

    def image(self, *layers: tuple[bytes, str], config: bytes = b'{"os":"linux"}', **more: object) -> dict[str, object]:
        """Store an image and return its manifest's descriptor."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.blob(config, OCI_CONFIG),
            "layers": [self.blob(content, media_type) for content, media_type in layers],
            **more,
        }
        return self.blob(encode(manifest), OCI_MANIFEST)

    def index(self, *manifests: dict[str, object], **more: object) -> dict[str, object]:
        """Store an image index and return its descriptor."""
        return self.blob(encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests, **more}), OCI_INDEX)

    def referrer(self, subject: dict[str, object], content: bytes = b"signature") -> dict[str, object]:
        """Store an artifact that refers to `subject`."""
        return self.image((content, "application/x-signature"), config=b"{}", artifactType="application/x-sig", subject=subject)

    def tag(self, descriptor: dict[str, object], name: str | None) -> None:
        """List a descriptor in `index.json`, under a tag if one is given."""
        annotations = {} if name is None else {"annotations": {"org.opencontainers.image.ref.name": name}}
        self.entries.append({**descriptor, **annotations})
        (self.path / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": self.entries}))


def blobs_of(path: Path) -> dict[str, bytes]:
    """Return every blob of a layout by name."""
    return {blob.name: blob.read_bytes() for blob in (path / "blobs" / "sha256").iterdir()}


def simple_image(path: Path, content: bytes = b"layer", tag: str = "v1") -> Layout:
    """Make a layout of one image with one layer."""
    layout = Layout(path)
    layout.tag(layout.image((content, OCI_LAYER_TAR)), tag)
    return layout
