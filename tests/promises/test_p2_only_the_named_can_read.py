"""P2: the wire, a stolen disk, the published log and the program's own log are searched for content, names, digests and keys."""

import base64
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

from agent.session import open_session
from tests.crossing.sites import LiveSite
from tests.promises.border import Border, ServedSite

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
