"""T8: what is inside an artifact is hostile: archives that leave their directory, bombs, documents of impossible size."""

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from agent.push import PushOrder, push
from agent.session import open_session
from agent.sources.files import BytesReader
from agent.sources.one_blob import one_blob_parts
from carnet.errors import CarnetError
from carnet.flow.progress import Progress
from carnet.identifiers import Digest, Repository, SiteName, Tag
from carnet.limits import MANIFEST_BYTES_MAX
from carnet.oci import OCI_INDEX, OCI_MANIFEST, TITLE, ArtifactKind
from carnet.waybill import Declarations
from tests.agent.layouts import Layout, encode, simple_image
from tests.attacks.parties import Lie, lying, noise
from tests.crossing.sites import LANE, World, push_in

TAR = "application/vnd.oci.image.layer.v1.tar"


class BlobSource:
    """A directory artifact whose archive is whatever somebody made up: the agent that sends it is the attacker's."""

    kind = ArtifactKind.DIRECTORY
    media_type = OCI_MANIFEST
    digest = None
    is_rereadable = True
    title = "tree"

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size_hint = len(content)

    def parts(self) -> Any:
        return one_blob_parts(
            self.kind,
            media_type=TAR,
            annotations={TITLE: "tree"},
            size=len(self._content),
            open_blob=lambda: BytesReader(self._content),
        )

    def check_unchanged(self) -> None:
        """Nothing changes."""


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o777 if kind == tarfile.SYMTYPE else 0o644
    return info


def archive(*members: tarfile.TarInfo, content: bytes = b"pwned") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info in members:
            info.size = len(content) if info.type == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content) if info.size else None)
    return buffer.getvalue()


ARCHIVES = {
    "a path upwards": archive(member("../escaped")),
    "an absolute path": archive(member("/var/escaped")),
    "a path through a link": archive(member("link", tarfile.SYMTYPE, ".."), member("link/escaped")),
    "a hard link outside": archive(member("hard", tarfile.LNKTYPE, "../../outside")),
    "a device": archive(member("device", tarfile.CHRTYPE)),
    "a pipe": archive(member("pipe", tarfile.FIFOTYPE)),
    "a name twice": archive(member("a"), member("a")),
    "a name of 10 000 characters": archive(member("x" * 10_000)),
    "bytes after the end": archive(member("a")) + b"hidden",
    "no archive": b"\0" * 100 + b"x" * 900,
    "cut": archive(member("a"))[:700],
}


async def push_source(world: World, source: Any, name: str) -> Any:
    declared = Declarations.model_validate({"classification": "internal", "purpose": "deploy"})
    order = PushOrder(
        lane=LANE, destinations=(SiteName("eu"),), repository=Repository(name), tag=Tag("v1"), declarations=declared, timeout_s=30
    )
    async with open_session(world.us.agent) as session:
        return await push(session, source, order, Progress())


async def test_an_archive_that_leaves_its_directory_writes_nothing(world: World, tmp_path: Path) -> None:
    """Gateways never unpack; the sink that does refuses all but the canonical archive, before anything has its name."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    for number, (name, content) in enumerate(ARCHIVES.items()):
        place = tmp_path / str(number)
        place.mkdir()
        await push_source(world, BlobSource(content), f"tree-{number}")
        await world.until((await _transfer(world, f"tree-{number}")), lambda view: view.deliveries[0].state == "delivered")
        with pytest.raises(CarnetError) as caught:
            await world.pull(world.eu, f"tree-{number}:v1", f"dir:{place / 'out'}")

        assert caught.value.remedy, name
        assert str(caught.value).isprintable(), name
        assert os.listdir(place) == [], name
    assert outside.read_bytes() == b"untouched"
    assert not (tmp_path / "escaped").exists()
    assert not Path("/var/escaped").exists()


async def _transfer(world: World, repository: str) -> str:
    async with open_session(world.us.agent) as session:
        return next(str(one.transfer) for one in (await session.client.list()).transfers if one.repository == repository)


def layouts(root: Path) -> dict[str, Path]:
    """Make layouts that are wrong, each in its own way."""
    made: dict[str, Layout] = {name: simple_image(root / name.replace(" ", "-")) for name in (
        "another digest", "another size", "a missing blob", "a linked blob", "a huge manifest", "a key twice",
        "two documents in one",
    )}  # fmt: skip
    blobs = {name: sorted(layout.blobs.iterdir(), key=lambda path: path.stat().st_size) for name, layout in made.items()}
    blobs["another digest"][0].write_bytes(b"other")
    blobs["another size"][0].write_bytes(b"layer and more")
    blobs["a missing blob"][0].unlink()
    blobs["a linked blob"][0].unlink()
    blobs["a linked blob"][0].symlink_to("/etc/passwd")
    huge = made["a huge manifest"]
    huge.entries = []
    huge.tag(huge.blob(b'{"schemaVersion":2}' + b" " * MANIFEST_BYTES_MAX, OCI_MANIFEST), "v1")
    twice = made["a key twice"]
    twice.entries = []
    twice.tag(twice.blob(b'{"schemaVersion":2,"layers":[],"layers":[],"config":{}}', OCI_MANIFEST), "v1")
    both = made["two documents in one"]
    both.entries = []
    both.tag(both.blob(encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "layers": []}), OCI_INDEX), "v1")
    return {name: layout.path for name, layout in made.items()}


async def test_a_layout_that_is_not_what_it_says_is_refused_and_nothing_is_visible(world: World, tmp_path: Path) -> None:
    async with open_session(world.us.agent) as session:
        for name, path in layouts(tmp_path).items():
            with pytest.raises(CarnetError) as caught:
                await push_in(session, f"oci:{path}:v1", "eu:app:v1")

            assert caught.value.remedy, name
            assert "root:" not in str(caught.value), name
            assert str(caught.value).isprintable(), name
        assert (await session.client.artifacts()).artifacts == ()
    assert world.eu.stored() == []


async def test_content_that_is_not_what_its_manifest_says_is_denied_at_the_origin(world: World, tmp_path: Path) -> None:
    """The agent is the attacker's: it signs for parts whose digests are made up, under an index that is canonical."""

    def other_digest(raw: bytes) -> bytes:
        at = 1 + 1 + 4 + 32 + 32 + 1 + 16
        place = at + 1 + raw[at]  # the digest of the first part
        return raw[:place] + Digest.of(b"something else").raw + raw[place + 32 :]

    async with open_session(world.us.agent) as session:
        result = await push_in(lying(session, Lie(index=other_digest)), f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")

    assert result.view.state == "denied"
    assert world.eu.stored() == []
