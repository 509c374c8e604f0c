"""T2: a relay that holds real keys and lies. Not one wrong byte is released, each lie is an alarm, and another route is taken.

The liar is a whole site whose hands were replaced: what it passes on goes through `Hands` of the test. The lane has a second
route, over jp, which is honest.
"""

# ruff: noqa: ARG002 - hands that drop what they are given have no use for it

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.push import Wait
from agent.session import open_session
from carnet.identifiers import PassageId, SegmentId
from carnet.letter import Direction, Letter, LetterKind, seal_letter
from carnet.messages import ForwardResponse
from gateway import assembly
from gateway.passages.passing import Passing
from gateway.passages.post import place_of
from gateway.settings import Timeouts
from tests.attacks.parties import Replacing, noise
from tests.crossing.sites import LiveSite, World, know_each_other, make_template, world_from

RELAY_S = 4.0


@pytest.fixture(scope="session")
def two_routes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """us and eu, and a relay on each of two routes between them."""
    root = tmp_path_factory.mktemp("two-routes")
    asyncio.run(make_template(root, "us-eu=us:eu:inspected:sg/jp", ("sg", "jp")))
    return root


@dataclass
class Hands:
    """What the liar does with what it should pass on; by default what it should."""

    client: Any = None
    services: Any = None
    record: Any = None
    kept: list[Any] = field(default_factory=list)

    async def slip(self, passage: PassageId, request: Any) -> None:
        await self.client.pass_slip(passage, request)

    async def segment(self, passage: PassageId, segment: SegmentId, data: bytes) -> bool:
        return bool(await self.client.pass_segment(passage, segment, data))

    async def letter(self, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes) -> None:
        await self.client.pass_letter(passage, direction, number, slips, body)


def liar(hands: Hands) -> type[Passing]:
    """Return what passes on at a site whose hands these are."""

    class Lying(Passing):
        def _client(self, record: Any, direction: Direction) -> Any:
            hands.client, hands.services, hands.record = super()._client(record, direction), self._services, record
            return Replacing(hands.client, pass_slip=hands.slip, pass_segment=hands.segment, pass_letter=hands.letter)

    return Lying


@asynccontextmanager
async def lied_to(
    template: Path, root: Path, monkeypatch: pytest.MonkeyPatch, hands: Hands, *, relay_s: float = RELAY_S
) -> AsyncIterator[World]:
    """Yield the sites, running, sg with these hands."""
    async with world_from(template, root, start=False) as world:
        for site in (world.us, world.eu):
            site.timeouts = Timeouts(drain_s=1.0, relay_s=relay_s, route_rest_s=600.0)
        await world.eu.start()
        await world.relays["jp"].start()
        with monkeypatch.context() as patched:
            patched.setattr(assembly, "Passing", liar(hands))
            await world.relays["sg"].start()
        await world.us.start()
        await know_each_other(world)
        yield world


def alarms(site: LiveSite) -> list[tuple[list[str], str]]:
    """Return relays and reason of every alarm in the log of a site."""
    connection = sqlite3.connect(f"file:{site.paths.catalog}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT r.value, w.value FROM log_entries e JOIN log_openings r ON r.number = e.number AND r.field = 'relays'"
            " JOIN log_openings w ON w.number = e.number AND w.field = 'why'"
            ' WHERE CAST(e.entry AS TEXT) LIKE \'%"type":"alarm"%\''
        ).fetchall()
    finally:
        connection.close()
    return [(json.loads(relays), json.loads(why)) for relays, why in rows]


class Flips(Hands):
    async def segment(self, passage: PassageId, segment: SegmentId, data: bytes) -> bool:
        return await super().segment(passage, segment, data[:-1] + bytes([data[-1] ^ 1]))


class FlipsLetters(Hands):
    async def letter(self, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes) -> None:
        await super().letter(passage, direction, number, slips, body[:-1] + bytes([body[-1] ^ 1]))


class LosesSegments(Hands):
    async def segment(self, passage: PassageId, segment: SegmentId, data: bytes) -> bool:
        return True


class LosesOne(Hands):
    async def segment(self, passage: PassageId, segment: SegmentId, data: bytes) -> bool:
        self.kept.append(segment)
        return True if len(self.kept) == 1 else await super().segment(passage, segment, data)


class DropsLetters(Hands):
    async def letter(self, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes) -> None:
        return


class DropsAnswers(Hands):
    async def letter(self, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes) -> None:
        if direction is Direction.ONWARD:
            await super().letter(passage, direction, number, slips, body)


class DropsTheKey(Hands):
    """The last letter onward is the one with the key."""

    async def letter(self, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes) -> None:
        if direction is Direction.BACK or number < 2:
            await super().letter(passage, direction, number, slips, body)


class Delays(Hands):
    async def segment(self, passage: PassageId, segment: SegmentId, data: bytes) -> bool:
        await asyncio.Event().wait()
        return True


class DuplicatesLetters(Hands):
    """Each letter also as the next one."""

    async def letter(self, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes) -> None:
        await super().letter(passage, direction, number, slips, body)
        await super().letter(passage, direction, number + 1, slips, body)


class Reorders(Hands):
    """The letter that ends the segments first, then the segments."""

    async def segment(self, passage: PassageId, segment: SegmentId, data: bytes) -> bool:
        self.kept.append((passage, segment, data))
        return True

    async def letter(self, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes) -> None:
        await super().letter(passage, direction, number, slips, body)
        if direction is Direction.ONWARD and number == 1:
            await asyncio.gather(*(super(Reorders, self).segment(*kept) for kept in self.kept), return_exceptions=True)


class SwapsSegments(Hands):
    """Each segment under the id of the one before."""

    async def segment(self, passage: PassageId, segment: SegmentId, data: bytes) -> bool:
        self.kept.append(data)
        return await super().segment(passage, segment, self.kept[0] if len(self.kept) > 1 else data[::-1])


class AnswersItself(Hands):
    """`I have all`, signed by the relay, sealed for the origin."""

    async def letter(self, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes) -> None:
        if direction is Direction.ONWARD:
            return await super().letter(passage, direction, number, slips, body)
        origin = self.services.trust.kem(self.record.way[0], self.services.clock.now())
        said = ForwardResponse(state="stored").encode()
        lie = Letter.at(place_of(self.record, direction, number), LetterKind.ANSWER, said, answers=0)
        sealed = seal_letter(lie, self.services.keyring.signing, number=origin.number, public=origin.key)
        return await super().letter(passage, direction, number, slips, sealed)


class ServesStale(Hands):
    """Every answer is the first one."""

    async def letter(self, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes) -> None:
        if direction is Direction.BACK:
            self.kept.append(body)
            body = self.kept[0]
        await super().letter(passage, direction, number, slips, body)


LIES: dict[str, Callable[[], Hands]] = {
    kind.__name__: kind
    for kind in (
        *(Flips, FlipsLetters, LosesSegments, LosesOne, DropsLetters, DropsAnswers, DropsTheKey, Delays),
        *(DuplicatesLetters, Reorders, SwapsSegments, AnswersItself, ServesStale),
    )
}


SAMPLE = {"Flips"}


@pytest.mark.parametrize("lie", [lie if lie in SAMPLE else pytest.param(lie, marks=pytest.mark.full) for lie in LIES])
async def test_a_relay_that_lies_is_found_out_and_gone_around(
    two_routes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    source = noise(tmp_path / "a", 300_000)
    async with lied_to(two_routes, tmp_path / "world", monkeypatch, LIES[lie]()) as world:
        result = await world.push(f"file:{source}", "eu:app:v1", timeout_s=60)
        await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")
        raised = alarms(world.us) + alarms(world.eu)

    assert result.view.deliveries[0].state == "delivered"
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert raised
    assert all(relays == ["sg"] for relays, _why in raised)


async def test_what_is_withdrawn_is_deleted_at_the_relay_that_holds_it(
    two_routes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = noise(tmp_path / "a", 300_000)
    async with lied_to(two_routes, tmp_path / "world", monkeypatch, Delays(), relay_s=600.0) as world:
        relay = world.relays["sg"]
        result = await world.push(f"file:{source}", "eu:app:v1", wait=Wait.DECIDED)
        async with asyncio.timeout(60):
            while len(relay.stored()) < 2:
                await asyncio.sleep(0)
        async with open_session(world.us.agent, connections=1) as session:
            await session.client.cancel(result.view.transfer)
        async with asyncio.timeout(60):
            while relay.stored():
                await asyncio.sleep(0)

    assert world.eu.stored() == []
