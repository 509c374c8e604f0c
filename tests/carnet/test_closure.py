import json
from collections.abc import Mapping

import pytest

from carnet.closure import Closure, walk_closure
from carnet.errors import CapacityError, PeerError
from carnet.identifiers import Digest
from carnet.oci import OCI_CONFIG, OCI_INDEX, OCI_LAYER_TAR, OCI_MANIFEST, OCTET_STREAM, Descriptor, Role


class Store:
    """Manifests by digest, and who refers to whom."""

    def __init__(self) -> None:
        self.documents: dict[Digest, bytes] = {}
        self.referrers: dict[Digest, list[Descriptor]] = {}

    def put(self, media_type: str, **fields: object) -> Descriptor:
        data = json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode()
        self.documents[Digest.of(data)] = data
        return Descriptor(media_type, Digest.of(data), len(data))

    def image(self, layer: bytes, **more: object) -> Descriptor:
        return self.put(OCI_MANIFEST, config=value(blob(b"{}", OCI_CONFIG)), layers=[value(blob(layer))], **more)

    def index(self, *children: Descriptor) -> Descriptor:
        return self.put(OCI_INDEX, manifests=[value(child) for child in children])

    def refer(self, subject: Descriptor, content: bytes) -> Descriptor:
        referrer = self.image(content, subject=value(subject))
        self.referrers.setdefault(subject.digest, []).append(referrer)
        return referrer

    def walk(self, root: Descriptor) -> Closure:
        return walk_closure(root, lambda d: self.documents[d.digest], lambda digest: self.referrers.get(digest, []))


def blob(content: bytes, media_type: str = OCI_LAYER_TAR) -> Descriptor:
    return Descriptor(media_type, Digest.of(content), len(content))


def value(descriptor: Descriptor) -> Mapping[str, object]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def test_referrers_of_referrers_belong_to_the_closure() -> None:
    store = Store()
    image = store.image(b"layer")
    sbom = store.refer(image, b"sbom")
    signature = store.refer(sbom, b"signature")

    closure = store.walk(image)

    roles = {part.descriptor.digest: part.role for part in closure.parts}
    assert roles[image.digest] is Role.ARTIFACT
    assert roles[sbom.digest] is roles[signature.digest] is Role.REFERRER
    assert roles[blob(b"layer").digest] is Role.LAYER
    assert roles[blob(b"sbom").digest] is roles[blob(b"signature").digest] is Role.BLOB
    assert closure.size == sum(part.descriptor.size for part in closure.parts)


def test_referrers_that_refer_to_each_other_end() -> None:
    store = Store()
    image = store.image(b"layer")
    sbom = store.refer(image, b"sbom")
    store.referrers[sbom.digest] = [image, sbom]

    assert len([part for part in store.walk(image).parts if part.role is Role.REFERRER]) == 1


def test_what_an_index_lists_that_is_no_manifest_is_a_blob() -> None:
    store = Store()
    cache = blob(b"cache", OCTET_STREAM)

    closure = store.walk(store.index(store.image(b"layer"), cache))

    assert [part.role for part in closure.parts if part.descriptor.digest == cache.digest] == [Role.BLOB]


def test_a_manifest_with_other_bytes_is_refused() -> None:
    store = Store()
    image = store.image(b"layer")
    for wrong in (store.documents[image.digest] + b" ", store.documents[image.digest].replace(b"2", b"3", 1), b""):
        store.documents[image.digest] = wrong
        with pytest.raises(PeerError, match="other bytes than its digest says"):
            store.walk(image)


def test_a_digest_with_two_sizes_is_refused() -> None:
    store = Store()
    image = store.image(b"layer")
    larger = Descriptor(image.media_type, image.digest, image.size + 1)

    with pytest.raises(PeerError, match="two sizes"):
        store.walk(store.index(image, larger))


def test_a_digest_that_is_two_documents_is_refused() -> None:
    store = Store()
    data = json.dumps({"schemaVersion": 2, "config": value(blob(b"{}")), "layers": []}).encode()
    store.documents[Digest.of(data)] = data
    docker = "application/vnd.docker.distribution.manifest.v2+json"

    with pytest.raises(PeerError, match="two documents"):
        store.walk(store.index(*(Descriptor(kind, Digest.of(data), len(data)) for kind in (OCI_MANIFEST, docker))))


def test_role_and_media_type_do_not_depend_on_the_order_of_meeting() -> None:
    store = Store()
    image = store.image(b"layer")
    first, second = (
        store.put(OCI_MANIFEST, config=value(blob(b"shared", name)), layers=[], subject=value(image)) for name in ("a/b", "a/c")
    )
    inner = store.refer(image, b"inner")
    outer = store.put(OCI_INDEX, manifests=[value(inner)], subject=value(image))
    found = []
    for order in ([first, second, inner, outer], [outer, inner, second, first]):
        store.referrers[image.digest] = order
        found.append({(part.descriptor.media_type, part.descriptor.digest, part.role) for part in store.walk(image).parts})

    assert found[0] == found[1]
    assert (OCI_MANIFEST, inner.digest, Role.MANIFEST) in found[0]


def test_a_malformed_manifest_is_named() -> None:
    store = Store()
    broken = store.put(OCI_MANIFEST)

    with pytest.raises(PeerError, match=f"manifest {broken.digest}"):
        store.walk(store.index(broken))


@pytest.mark.parametrize("limit", ["INDEX_DEPTH_MAX", "MANIFESTS_MAX", "MANIFEST_BYTES_MAX"])
def test_an_artifact_without_bounds_is_refused_by_the_name_of_the_limit(limit: str) -> None:
    store = Store()
    root = store.image(b"layer")
    if limit == "INDEX_DEPTH_MAX":
        for _ in range(4):
            root = store.index(root)
    elif limit == "MANIFESTS_MAX":
        root = store.index(*(store.image(b"%d" % number) for number in range(2_000)))
    else:
        root = Descriptor(OCI_MANIFEST, root.digest, 4 * 1024 * 1024 + 1)

    with pytest.raises(CapacityError) as caught:
        store.walk(root)
    assert caught.value.limit == limit


def test_three_indexes_deep_is_allowed() -> None:
    store = Store()
    root = store.image(b"layer")
    for _ in range(3):
        root = store.index(root)

    assert len(store.walk(root).parts) == 6
