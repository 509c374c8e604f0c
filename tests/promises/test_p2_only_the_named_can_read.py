"""P2: the wire, a stolen disk, the published log and the program's own log are searched for content, names, digests and keys."""

import asyncio
import base64
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.session import open_session
from carnet.errors import IntegrityError
from carnet.identifiers import TransferId
from carnet.release import open_release
from gateway import documents
from gateway.offline import open_site
from tests.crossing.sites import ROOTS, LiveSite, make_template
from tests.promises.border import Border, ServedSite, border_from

REPOSITORY = "payroll-of-the-board"
FILE_NAME = "salaries-2026.bin"
PIECE = 24
"""Bytes of content that are looked for; shorter ones would be found by chance."""


def secret_file(directory: Path) -> Path:
    """Return a file of text that compresses and bytes that do not."""
    text = b"the board earns forty-two million a year; " * 2_000
    path = directory / FILE_NAME
    path.write_bytes(text + random.Random(1).randbytes(1_500_000) + text)
    return path


def pieces_of(source: Path) -> list[bytes]:
    """Return what of the content must not be found: its beginning, its end, and places in between."""
    data = source.read_bytes()
    places = [0, len(data) - PIECE, *range(5_000, len(data) - PIECE, 100_003)]
    return [data[place : place + PIECE] for place in places]


def digests_of(source: Path) -> list[bytes]:
    """Return the digest that anybody computes from a known file, as bytes, hex and base64."""
    digest = hashlib.sha256(source.read_bytes())
    return [digest.digest(), digest.hexdigest().encode(), base64.b64encode(digest.digest())]


def names() -> list[bytes]:
    """Return the names that only the ends may see."""
    return [REPOSITORY.encode(), FILE_NAME.encode()]


def files_below(directory: Path) -> Iterator[tuple[Path, bytes]]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def found_in(data: bytes, wanted: list[bytes]) -> list[bytes]:
    return [one for one in wanted if one in data]


def secrets_of(site: LiveSite) -> list[bytes]:
    """Return the private keys of the site as they might be written somewhere."""
    found = []
    for _path, data in files_below(site.paths.keys):
        body = b"".join(line for line in data.splitlines() if not line.startswith(b"-----")).strip()
        found += [body, base64.b64decode(body, validate=False)[-32:], base64.b64decode(body, validate=False)[-32:].hex().encode()]
    assert len(found) > 3
    return [one for one in found if len(one) >= PIECE]


async def test_the_wire_shows_neither_content_nor_names_nor_digests(border: Border, tmp_path: Path) -> None:
    source = secret_file(tmp_path)
    for wire in border.wires.values():
        wire.keeps = True

    result = await border.world.push(f"file:{source}", f"eu:{REPOSITORY}:v1")
    await border.world.pull(border.eu, f"{REPOSITORY}:v1", f"file:{tmp_path / 'out'}")

    wanted = [*pieces_of(source), *digests_of(source), *names(), str(result.view.digest).encode(), result.view.transfer.encode()]
    for wire in border.wires.values():
        assert len(wire.kept) > 1_500_000
        assert found_in(bytes(wire.kept), wanted) == []


async def test_before_the_key_comes_the_disk_of_the_destination_holds_nothing_that_opens(border: Border, tmp_path: Path) -> None:
    source = secret_file(tmp_path)
    said = {"classification": "public", "purpose": "wait-at-release"}

    result = await border.world.push(f"file:{source}", f"eu:{REPOSITORY}:v1", declare=said)
    await border.eu.stop()

    assert result.view.deliveries[0].state == "release-hold"
    assert sum(path.stat().st_size for path in border.eu.stored()) > 1_500_000
    for path, data in files_below(border.eu.directory):
        assert found_in(data, pieces_of(source)) == [], path


async def test_a_stolen_disk_without_its_at_rest_key_shows_no_content(border: Border, tmp_path: Path) -> None:
    source = secret_file(tmp_path)
    await border.world.push(f"file:{source}", f"eu:{REPOSITORY}:v1")
    await border.us.stop()
    await border.eu.stop()

    for site in (border.us, border.eu):
        for path, data in files_below(site.directory):
            assert found_in(data, pieces_of(source)) == [], path
            if path.is_relative_to(site.paths.store):
                assert found_in(data, [*digests_of(source), *names()]) == [], path
            if not path.is_relative_to(site.paths.keys):
                assert found_in(data, secrets_of(site)) == [], path


@pytest.fixture(scope="module")
def sealed_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sites, with a sealed lane between them."""
    root = tmp_path_factory.mktemp("sealed")
    asyncio.run(make_template(root, "us-eu=us:eu:sealed"))
    return root


async def keys_at(site: LiveSite, transfer: TransferId) -> list[bytes]:
    """Return every secret that the catalog of a site that does not run gives under its at-rest key: the artifact key."""
    async with open_site(site.directory) as opened:
        sealed = await opened.catalog.read(lambda tx: tx.artifact_key(transfer))
        return [] if sealed is None else [opened.keyring().open(sealed, transfer.raw)]


async def test_the_whole_disk_of_the_origin_of_a_sealed_lane_opens_nothing(sealed_template: Path, tmp_path: Path) -> None:
    """Catalog, store, log, and its own keys used where they fit: no content, no name inside, no artifact key."""
    inside = tmp_path / "inside"
    inside.mkdir()
    source = secret_file(inside)
    async with border_from(sealed_template, tmp_path / "world") as border:
        border.us.root_fingerprint = ROOTS
        await border.start()
        first = await border.world.push(f"dir:{inside}", f"eu:{REPOSITORY}:v1", sealed=True)
        with source.open("ab") as file:
            file.write(b"and so on")
        second = await border.world.push(f"dir:{inside}", f"eu:{REPOSITORY}:v2", sealed=True)
        await border.us.stop()
        await border.eu.stop()
        transfers = [TransferId(one.view.transfer) for one in (first, second)]
        secrets = [key for transfer in transfers for key in await keys_at(border.eu, transfer)]
        there = [await keys_at(border.us, transfer) for transfer in transfers]
        disk = list(files_below(border.us.directory))

        async with open_site(border.us.directory) as site:
            packing = await site.catalog.read(lambda tx: documents.read_packing(tx, transfers[0]))
            bodies = await site.catalog.read(lambda tx: list(tx.documents(transfers[0], "release/").values()))
            keyring = site.keyring()
            privates = [keyring.kem(number) for number in keyring.kem_numbers()]

    assert len(secrets) == 2
    assert there == [[], []]
    wanted = [*pieces_of(source), *digests_of(source), FILE_NAME.encode()]
    for key in secrets:
        wanted += [key, key.hex().encode(), base64.b64encode(key).rstrip(b"=")]
    assert sum(len(data) for _path, data in disk) > 1_500_000
    for path, data in disk:
        assert found_in(data, wanted) == [], path
    for release in map(documents.read_release, bodies):
        for private in privates:
            with pytest.raises(IntegrityError, match="E-KEY-RELEASE"):
                open_release(release, packing, private, recipient=release.recipient)


async def test_the_published_log_gives_away_no_name_and_no_digest(border: Border, tmp_path: Path) -> None:
    source = secret_file(tmp_path)
    result = await border.world.push(f"file:{source}", f"eu:{REPOSITORY}:v1")
    wanted = [*digests_of(source), *names(), str(result.view.digest).encode(), result.view.transfer.encode(), b"internal"]

    for site in (border.us, border.eu):
        tiles = list(files_below(site.paths.log))
        assert len(tiles) >= 3
        for path, data in tiles:
            assert found_in(data, wanted) == [], path


async def test_a_known_public_file_cannot_be_recognised_by_what_is_stored(border: Border, tmp_path: Path) -> None:
    source = secret_file(tmp_path)
    async with open_session(border.us.agent) as session:
        before = set(border.us.stored())
        await border.world.push(f"file:{source}", "one:v1")
        first = {path.name for path in set(border.us.stored()) - before}
        await border.world.push(f"file:{source}", "two:v1")
        second = {path.name for path in set(border.us.stored()) - before} - first
        listed = (await session.client.list()).transfers

    assert len(listed) == 2
    assert len(first) == len(second) > 1
    assert not first & second


async def test_the_log_of_the_program_holds_no_content_and_no_secret(served_border: Border, tmp_path: Path) -> None:
    border = served_border
    for site in (border.us, border.eu):
        assert isinstance(site, ServedSite)
        site.verbose = True
    await border.start()
    source = secret_file(tmp_path)
    await border.world.push(f"file:{source}", f"eu:{REPOSITORY}:v1")
    await border.us.stop()
    await border.eu.stop()

    for site in (border.us, border.eu):
        assert isinstance(site, ServedSite)
        text = "".join(site.said).encode()
        assert len(site.said) > 1
        assert found_in(text, [*pieces_of(source), *secrets_of(site)]) == []
