"""P2 at a relay: what it stores, logs and passes on is searched for content, names and digests; known files are guessed."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.session import open_session
from carnet.envelope import parse_envelope
from carnet.errors import NotFound
from carnet.identifiers import TransferId
from carnet.letter import Direction
from carnet.routing import RoutingSlip
from gateway import assembly
from gateway.passages.passing import Passing
from tests.attacks.parties import Replacing, gateway_client
from tests.crossing.sites import know_each_other
from tests.crossing.templates import Templates
from tests.promises.border import Border, border_from
from tests.promises.test_p2_only_the_named_can_read import (
    REPOSITORY,
    digests_of,
    files_below,
    found_in,
    names,
    pieces_of,
    secret_file,
)


@pytest.fixture(scope="session")
def relay_templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """us, eu and a relay between them, made once for each carriage."""
    return Templates(tmp_path_factory.mktemp("p2-relays"))


class Seen:
    """All that the relay passed on, in the clear of its own TLS: slips, segments, letters."""

    def __init__(self) -> None:
        self.slips: list[RoutingSlip] = []
        self.segments: dict[str, bytes] = {}
        self.letters: list[bytes] = []

    @property
    def everything(self) -> list[bytes]:
        return [*(slip.payload() for slip in self.slips), *self.segments.values(), *self.letters]

    def watching(self) -> type[Passing]:
        """Return what passes on and lets this see it."""
        seen = self

        class Watched(Passing):
            def _client(self, record: Any, direction: Direction) -> Any:
                client = super()._client(record, direction)

                async def slip(passage: Any, request: Any) -> None:
                    seen.slips.append(RoutingSlip.read_unverified(parse_envelope(request.slip)))
                    await client.pass_slip(passage, request)

                async def segment(passage: Any, name: Any, data: bytes) -> bool:
                    seen.segments[str(name)] = data
                    return await client.pass_segment(passage, name, data)

                async def letter(passage: Any, way: Any, number: int, slips: int, body: bytes) -> None:
                    seen.letters.append(body)
                    await client.pass_letter(passage, way, number, slips, body)

                return Replacing(client, pass_slip=slip, pass_segment=segment, pass_letter=letter)

        return Watched


@pytest.fixture(params=["store", pytest.param("transit", marks=pytest.mark.full)])
async def watched(
    request: pytest.FixtureRequest, relay_templates: Templates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Border, Seen]]:
    """The sites, running, with everything seen that the relay passes on."""
    seen = Seen()
    async with border_from(await relay_templates.of(request.param), tmp_path / "world") as border:
        for wire in border.wires.values():
            wire.keeps = True
        await border.eu.start()
        with monkeypatch.context() as patched:
            patched.setattr(assembly, "Passing", seen.watching())
            await border.world.relays["sg"].start()
        await border.us.start()
        await know_each_other(border.world)
        yield border, seen


async def test_a_relay_learns_neither_content_nor_names_nor_digests(watched: tuple[Border, Seen], tmp_path: Path) -> None:
    border, seen = watched
    relay, source = border.world.relays["sg"], secret_file(tmp_path)

    result = await border.world.push(f"file:{source}", f"eu:{REPOSITORY}:v1")
    await relay.stop()

    waybill = str(result.view.waybill_digest).removeprefix("sha256:")
    artifact = str(result.view.digest).removeprefix("sha256:")
    encoded = [base64.b64encode(bytes.fromhex(one)) for one in (waybill, artifact)]
    wanted = [*pieces_of(source), *digests_of(source), *names(), waybill.encode(), artifact.encode(), *encoded]
    assert result.view.deliveries[0].state == "delivered"
    assert sum(map(len, seen.segments.values())) > 1_500_000
    assert len(seen.letters) >= 6
    for data in seen.everything:
        assert found_in(data, wanted) == []
    for path, data in files_below(relay.directory):
        assert found_in(data, wanted) == [], path
    for wire in border.wires.values():
        assert found_in(bytes(wire.kept), wanted) == []


async def test_what_a_relay_passes_on_looks_like_noise_and_is_padded(watched: tuple[Border, Seen], tmp_path: Path) -> None:
    border, seen = watched
    await border.world.push(f"file:{secret_file(tmp_path)}", f"eu:{REPOSITORY}:v1")

    for data in (*seen.segments.values(), *seen.letters):
        body = data[32:]
        counts = [0] * 256
        for byte in body:
            counts[byte] += 1
        expected = len(body) / 256
        deviation = sum((count - expected) ** 2 / expected for count in counts)
        assert deviation < 400, "chi-squared of 255 degrees: 400 is one in ten million"
    assert len({len(letter) for letter in seen.letters}) <= 6


async def test_a_relay_cannot_recognise_a_known_file(watched: tuple[Border, Seen], tmp_path: Path) -> None:
    """It has the file itself, and guesses: no id is a hash of it, and the same file twice shares no segment."""
    border, seen = watched
    source = secret_file(tmp_path)
    await border.world.push(f"file:{source}", "eu:one:v1")
    first = set(seen.segments)
    await border.world.push(f"file:{source}", "eu:two:v1")
    second = set(seen.segments) - first

    known = {hashlib.sha256(source.read_bytes()).hexdigest()}
    assert len(first) == len(second) > 1
    assert not {one.partition("-")[2] for one in first | second} & known
    assert {entry.id for slip in seen.slips for entry in slip.segment_list()} == first | second


async def test_a_relay_has_no_transfer_to_show_and_keeps_nothing_that_arrived(
    watched: tuple[Border, Seen], tmp_path: Path
) -> None:
    border, _seen = watched
    result = await border.world.push(f"file:{secret_file(tmp_path)}", f"eu:{REPOSITORY}:v1")
    bundle = await _bundle_of(border)
    client = gateway_client(border.us, border.world.relays["sg"], bundle)
    try:
        with pytest.raises(NotFound):
            await client.show(TransferId(result.view.transfer))
    finally:
        await client.close()

    assert border.world.relays["sg"].stored() == []


async def _bundle_of(border: Border) -> Any:
    async with open_session(border.us.agent, connections=1) as session:
        return session.bundle
