import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.errors import PeerError
from carnet.identifiers import Digest
from carnet.limits import PART_BYTES_MAX
from carnet.oci import (
    ARTIFACT_TYPES,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    EMPTY_CONFIG,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    OCTET_STREAM,
    TITLE,
    ArtifactKind,
    Descriptor,
    ImageIndex,
    Manifest,
    artifact_manifest,
    image_manifest,
    kind_of,
    parse_manifest,
)

BLOB: dict[str, object] = {"mediaType": OCTET_STREAM, "digest": "sha256:" + "0" * 64, "size": 3}


def manifest(**fields: object) -> bytes:
    whole = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": BLOB, "layers": [BLOB], **fields}
    return json.dumps({key: value for key, value in whole.items() if value is not ...}).encode()


def test_a_manifest_says_its_config_layers_subject_and_annotations() -> None:
    document = parse_manifest(manifest(subject=BLOB, annotations={"a": "b"}, artifactType="a/b"), OCI_MANIFEST)

    assert isinstance(document, Manifest)
    assert document.layers == (document.config,) == (document.subject,)
    assert document.annotations == {"a": "b"}
    assert document.artifact_type == "a/b"


def test_without_an_artifact_type_the_configs_media_type_counts() -> None:
    document = parse_manifest(manifest(), OCI_MANIFEST)

    assert document.artifact_type == OCTET_STREAM
    assert kind_of(document) is ArtifactKind.IMAGE


def test_the_media_type_may_be_absent_or_dockers() -> None:
    assert parse_manifest(manifest(mediaType=...), OCI_MANIFEST).media_type == OCI_MANIFEST
    assert parse_manifest(manifest(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST).media_type == DOCKER_MANIFEST


def test_an_index_says_its_platforms() -> None:
    arm = {**BLOB, "mediaType": OCI_MANIFEST, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}
    data = json.dumps({"schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": [arm]}).encode()

    document = parse_manifest(data, DOCKER_INDEX)

    assert isinstance(document, ImageIndex)
    assert document.manifests[0].platform == "linux/arm/v7"
    assert kind_of(document) is ArtifactKind.INDEX


@pytest.mark.parametrize(
    "data",
    [
        manifest(schemaVersion=1),
        manifest(schemaVersion=True),
        manifest(schemaVersion="2"),
        manifest(mediaType=OCI_INDEX),
        manifest(mediaType=DOCKER_MANIFEST),
        manifest(manifests=[]),
        manifest(layers=...),
        manifest(layers={}),
        manifest(config=...),
        manifest(config=[]),
        manifest(subject="sha256:" + "0" * 64),
        manifest(annotations=["a"]),
        manifest(annotations={"a": 1}),
        manifest(artifactType=1),
        manifest(extension=1.5),
        manifest(layers=[{**BLOB, "size": -1}]),
        manifest(layers=[{**BLOB, "size": PART_BYTES_MAX + 1}]),
        manifest(layers=[{**BLOB, "size": True}]),
        manifest(layers=[{**BLOB, "size": "3"}]),
        manifest(layers=[{**BLOB, "digest": "sha512:" + "0" * 128}]),
        manifest(layers=[{**BLOB, "digest": "sha256:" + "A" * 64}]),
        manifest(layers=[{**BLOB, "digest": "sha256:../../x"}]),
        manifest(layers=[{**BLOB, "mediaType": "no slash"}]),
        manifest(layers=[{**BLOB, "mediaType": "a/" + "b" * 128}]),
        manifest(layers=[{**BLOB, "urls": "https://example.com"}]),
        manifest(layers=[{**BLOB, "urls": [1]}]),
        manifest(layers=[{**BLOB, "platform": "linux"}]),
        manifest(layers=[BLOB] * 20_001),
        manifest()[:-1],
        manifest()[:-1] + b',"config":{}}',
        manifest() + b" " * (4 * 1024 * 1024),
        b"[" * 100_000,
        b"[]",
        b"",
    ],
)
def test_a_document_that_two_readers_may_read_differently_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        parse_manifest(data, OCI_MANIFEST)
    assert caught.value.code == "E-FORMAT"


def test_an_unknown_document_is_refused() -> None:
    with pytest.raises(PeerError, match="expected an OCI or Docker schema 2 type"):
        parse_manifest(manifest(), "application/vnd.docker.distribution.manifest.v1+prettyjws")


def test_what_an_error_shows_of_a_hostile_value_is_short_and_ascii() -> None:
    with pytest.raises(PeerError) as caught:
        parse_manifest(manifest(layers=[{**BLOB, "mediaType": "\x1b[31m\u202e" * 1000}]), OCI_MANIFEST)
    assert caught.value.problem.isascii()
    assert "\x1b" not in caught.value.problem
    assert len(caught.value.problem) < 200


@pytest.mark.parametrize("kind", list(ARTIFACT_TYPES))
def test_a_manifest_that_we_make_reads_back(kind: ArtifactKind) -> None:
    layer = Descriptor(OCTET_STREAM, Digest.of(b"x"), 1, annotations={TITLE: "日本語"})

    document = parse_manifest(artifact_manifest(kind, layer), OCI_MANIFEST)

    assert isinstance(document, Manifest)
    assert document.layers == (layer,)
    assert document.config.digest == Digest.of(EMPTY_CONFIG)
    assert kind_of(document) is kind


def test_an_image_manifest_that_we_make_reads_back() -> None:
    config, layer = Descriptor(OCI_CONFIG, Digest.of(b"{}"), 2), Descriptor(OCI_LAYER_GZIP, Digest.of(b""), 0)

    document = parse_manifest(image_manifest(config, [layer, layer]), OCI_MANIFEST)

    assert isinstance(document, Manifest)
    assert (document.config, document.layers) == (config, (layer, layer))


def test_the_manifest_of_a_file_never_changes() -> None:
    """A vector: the digest of a pushed file is a promise to everybody who noted it down."""
    layer = Descriptor(OCTET_STREAM, Digest.of(b"hello\n"), 6, annotations={TITLE: "hello.txt"})

    assert Digest.of(artifact_manifest(ArtifactKind.FILE, layer)) == (
        "sha256:cb496d283a395f1ae8063eadbb70e817a0f63c98f1f55945c0751e01b82a782a"
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_read_or_refused(value: object) -> None:
    for fields in ({"config": value}, {"layers": [value]}, {"subject": value}, {"annotations": value}, {"artifactType": value}):
        with suppress(PeerError):
            parse_manifest(manifest(**fields), OCI_MANIFEST)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for media_type in (OCI_MANIFEST, OCI_INDEX):
        with pytest.raises(PeerError):
            parse_manifest(data, media_type)
