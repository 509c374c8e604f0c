"""T19: a document that two readers may read as two things is refused; one that only looks odd keeps its bytes and its digest."""

from pathlib import Path

import pytest

from agent.session import open_session
from carnet.errors import CarnetError
from carnet.identifiers import Digest
from carnet.oci import OCI_CONFIG, OCI_INDEX, OCI_LAYER_TAR, OCI_MANIFEST
from tests.agent.layouts import Layout, blobs_of
from tests.crossing.sites import World, push_in

HEX = "0" * 64


def of_layer(digest: str, size: int = 1) -> bytes:
    """Return a manifest of one layer."""
    return f'{{"schemaVersion":2,%C,"layers":[{{"mediaType":"a/b","size":{size},"digest":"{digest}"}}]}}'.encode()


CONFUSED = {
    "manifest and index in one": (OCI_MANIFEST, b'{"schemaVersion":2,%C,"layers":[],"manifests":[]}'),
    "index and manifest in one": (OCI_INDEX, b'{"schemaVersion":2,"manifests":[],%C}'),
    "another media type than its descriptor": (OCI_MANIFEST, b'{"schemaVersion":2,"mediaType":"a/b",%C,"layers":[]}'),
    "a key twice": (OCI_MANIFEST, b'{"schemaVersion":2,%C,"layers":[],"layers":[]}'),
    "a key twice, spelt by an escape": (OCI_MANIFEST, b'{"schemaVersion":2,%C,"layers":[],"l\\u0061yers":[]}'),
    "the config twice": (OCI_MANIFEST, b'{"schemaVersion":2,%C,%C,"layers":[]}'),
    "a byte order mark": (OCI_MANIFEST, b'\xef\xbb\xbf{"schemaVersion":2,%C,"layers":[]}'),
    "a comment": (OCI_MANIFEST, b'{"schemaVersion":2,%C,"layers":[]/**/}'),
    "a second document after it": (OCI_MANIFEST, b'{"schemaVersion":2,%C,"layers":[]}{}'),
    "NaN": (OCI_MANIFEST, b'{"schemaVersion":2,%C,"layers":[],"x":NaN}'),
    "an integer that floats cannot hold": (OCI_MANIFEST, b'{"schemaVersion":2,%C,"layers":[],"x":9007199254740993}'),
    "half a surrogate pair": (OCI_MANIFEST, b'{"schemaVersion":2,%C,"layers":[],"annotations":{"a":"\\ud800"}}'),
    "version 1": (OCI_MANIFEST, b'{"schemaVersion":1,%C,"layers":[]}'),
    "a digest in capitals": (OCI_MANIFEST, of_layer("SHA256:" + HEX)),
    "a digest that is a path": (OCI_MANIFEST, of_layer("sha256:../../x")),
    "a size below nothing": (OCI_MANIFEST, of_layer("sha256:" + HEX, -1)),
    "deep": (OCI_MANIFEST, b'{"schemaVersion":2,%C,"layers":[],"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
}  # fmt: skip


def layout_of(path: Path, media_type: str, text: bytes) -> Layout:
    layout = Layout(path)
    config = layout.blob(b"{}", OCI_CONFIG)
    said = b'"config":{"mediaType":"%s","digest":"%s","size":2}' % (OCI_CONFIG.encode(), str(config["digest"]).encode())
    layout.tag(layout.blob(text.replace(b"%C", said), media_type), "v1")
    return layout


async def test_a_document_with_two_readings_does_not_leave_the_machine(world: World, tmp_path: Path) -> None:
    async with open_session(world.us.agent) as session:
        for number, (name, (media_type, text)) in enumerate(CONFUSED.items()):
            layout = layout_of(tmp_path / str(number), media_type, text)
            with pytest.raises(CarnetError) as caught:
                await push_in(session, f"oci:{layout.path}:v1", "eu:app:v1")

            assert caught.value.remedy, name
            assert str(caught.value).isprintable(), name
            assert len(str(caught.value)) < 500, name
    assert world.us.stored() == []


async def test_odd_but_unambiguous_bytes_cross_with_their_own_digest(world: World, tmp_path: Path) -> None:
    """Digests are of the bytes as they came, never of what a parser would write again."""
    layout = Layout(tmp_path / "odd")
    config, layer = layout.blob(b"{}", OCI_CONFIG), layout.blob(b"layer", OCI_LAYER_TAR)
    text = (
        '{ "x-unknown" : {"b":1,"a":[]},\t'
        f'"layers":[{{"size":5, "digest":"{layer["digest"]}","mediaType":"{OCI_LAYER_TAR}"}}],\r\n'
        f'"config":{{"size":2,"digest":"{config["digest"]}","mediaType":"{OCI_CONFIG}"}},'
        '"annotations":{"\\u00e9":"\\u2028"},"schemaVersion":2 }\n'
    )
    layout.tag(layout.blob(text.encode(), OCI_MANIFEST), "v1")
    await world.push(f"oci:{layout.path}:v1", "eu:app:v1")
    await world.pull(world.eu, "app:v1", f"oci:{tmp_path / 'out'}")

    assert blobs_of(tmp_path / "out") == blobs_of(layout.path)
    assert Digest.of(text.encode()).hex in blobs_of(tmp_path / "out")
