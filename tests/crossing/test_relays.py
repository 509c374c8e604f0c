"""An artifact crosses over relays that can open nothing: us > sg > eu, and us > sg > jp > eu."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.push import Wait
from agent.session import open_session
from carnet.errors import NotFound
from carnet.identifiers import PassageId, SegmentId
from carnet.letter import Direction
from gateway import assembly
from gateway.settings import Limits
from tests.agent.layouts import blobs_of, simple_image
from tests.attacks.parties import gateway_client
from tests.crossing.ports import free_port
from tests.crossing.sites import ROOTS, LiveSite, World, world_from
from tests.crossing.templates import ROUTES, Templates
from tests.crossing.test_crossing import noise
from tests.promises.border import verified_log


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Sites for each kind of route, made once."""
    return Templates(tmp_path_factory.mktemp("relays"))


@pytest.fixture(params=["transit", pytest.param("store", marks=pytest.mark.full), pytest.param("two", marks=pytest.mark.full)])
async def relayed(request: pytest.FixtureRequest, templates: Templates, tmp_path: Path) -> AsyncIterator[World]:
    """The sites of one kind of route, running."""
    async with world_from(await templates.of(request.param), tmp_path / "world") as running:
        yield running


async def test_a_file_arrives_over_relays_as_it_was_sent(relayed: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 5_000_000)

    result = await relayed.push(f"file:{source}", "eu:app:v1", timeout_s=90)
    await relayed.pull(relayed.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert [one.state for one in result.view.deliveries] == ["delivered"]
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert all(relay.stored() == [] for relay in relayed.relays.values())


async def test_an_image_keeps_every_digest_over_relays(relayed: World, tmp_path: Path) -> None:
    layout = simple_image(tmp_path / "layout")

    await relayed.push(f"oci:{layout.path}:v1", "eu:app:v1", timeout_s=90)
    await relayed.pull(relayed.eu, "app:v1", f"oci:{tmp_path / 'out'}:v1")

    assert blobs_of(tmp_path / "out") == blobs_of(layout.path)


async def test_a_sealed_lane_leads_over_a_relay(templates: Templates, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 2_000_000)
    async with world_from(await templates.of("sealed"), tmp_path / "world") as world:
        world.us.root_fingerprint = ROOTS
        result = await world.push(f"file:{source}", "eu:app:v1", sealed=True, timeout_s=90)
        await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert (result.view.deliveries[0].state, result.mode) == ("delivered", "sealed")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


async def test_the_next_version_sends_only_what_is_new_over_relays(relayed: World, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(4_000_000)
    (tmp_path / "v1").write_bytes(data)
    (tmp_path / "v2").write_bytes(data[:2_000_000] + b"inserted" + data[2_000_000:])
    await relayed.push(f"file:{tmp_path / 'v1'}", "eu:app:v1", timeout_s=90)

    result = await relayed.push(f"file:{tmp_path / 'v2'}", "eu:app:v2", timeout_s=90)
    await relayed.pull(relayed.eu, "app:v2", f"file:{tmp_path / 'out'}")

    assert result.view.deliveries[0].bytes_sent < 400_000
    assert (tmp_path / "out").read_bytes() == (tmp_path / "v2").read_bytes()


@pytest.mark.parametrize(("purpose", "state"), [("quarantine-me", "quarantined"), ("deny-me", "denied"), ("hold-me", "held")])
async def test_the_destination_decides_and_its_word_comes_back_over_relays(
    relayed: World, tmp_path: Path, purpose: str, state: str
) -> None:
    source = noise(tmp_path / "a", 1000)

    result = await relayed.push(
        f"file:{source}", "eu:app:v1", declare={"classification": "public", "purpose": purpose}, timeout_s=90
    )

    assert result.view.deliveries[0].state == state
    assert result.view.deliveries[0].reasons[0].text


async def test_each_site_on_the_way_logs_what_it_had(relayed: World, tmp_path: Path) -> None:
    await relayed.push(f"file:{noise(tmp_path / 'a', 2_000_000)}", "eu:app:v1", timeout_s=90)
    await relayed.stop()

    for relay in relayed.relays.values():
        entries = await verified_log(relay)
        assert entries["slip-taken"] == entries["slip-signed"] == 2
        assert (entries["segments-received"], entries["segments-sent"], entries["segments-deleted"]) == (1, 1, 1)
    assert (await verified_log(relayed.us))["segments-sent"] >= 1
    assert (await verified_log(relayed.eu))["segments-received"] == 1


@pytest.fixture
async def waiting(templates: Templates, tmp_path: Path) -> AsyncIterator[World]:
    """The sites of the lane over sg, not started."""
    async with world_from(await templates.of("transit"), tmp_path / "world", start=False) as cold:
        yield cold


async def stuck(world: World, source: Path) -> str:
    """Push, and return what the delivery says when no route is left."""
    result = await world.push(f"file:{source}", "eu:app:v1", wait=Wait.DECIDED, timeout_s=90)
    view = await world.until(result.view.transfer, lambda one: "no route" in (one.deliveries[0].error or ""), 60)
    assert view.deliveries[0].state == "retrying"
    return view.deliveries[0].error or ""


async def test_a_site_may_refuse_to_relay_and_the_delivery_says_so(waiting: World, tmp_path: Path) -> None:
    waiting.relays["sg"].relaying = False
    await waiting.start()

    said = await stuck(waiting, noise(tmp_path / "a", 1000))
    await waiting.stop()

    assert "sg" in said
    assert "relays nothing" in said
    assert (await verified_log(waiting.us))["alarm"] == 1


@pytest.mark.parametrize(("limit", "value"), [("relay_bytes_max", 100_000), ("relay_transfers_max", 1)])
async def test_what_a_relay_takes_for_one_peer_is_bounded_by_name(waiting: World, tmp_path: Path, limit: str, value: int) -> None:
    waiting.relays["sg"].limits = Limits.model_validate({limit: value})
    await waiting.start()
    if limit == "relay_transfers_max":
        await waiting.push(f"file:{noise(tmp_path / 'first', 1000)}", "eu:first:v1", timeout_s=90)

    said = await stuck(waiting, noise(tmp_path / "a", 500_000))

    assert "sg" in said
    assert limit in said
    assert waiting.relays["sg"].stored() == []


async def test_a_passage_is_not_there_for_whoever_is_no_neighbour_on_it(templates: Templates, tmp_path: Path) -> None:
    async with world_from(await templates.of("two"), tmp_path / "world") as world:
        await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", timeout_s=90)
        relay = world.relays["sg"]
        with closing(sqlite3.connect(relay.paths.catalog)) as catalog:
            [(known,)] = catalog.execute("SELECT id FROM passages").fetchall()
        async with open_session(world.us.agent, connections=1) as session:
            client = gateway_client(world.eu, relay, session.bundle)
        told = []
        for passage in (PassageId(known), PassageId("0" * 32)):
            for direction in Direction:
                with pytest.raises(NotFound, match="E-TRANSFER-UNKNOWN") as caught:
                    await client.pass_letter(passage, direction, 0, 0, bytes(6_000))
                told.append(caught.value.problem.replace(passage, "P"))
            with pytest.raises(NotFound, match="E-TRANSFER-UNKNOWN") as caught:
                await client.pass_segment(passage, SegmentId("b3-" + "0" * 64), b"x")
            told.append(caught.value.problem.replace(passage, "P"))
        await client.close()

    assert set(told) == {"no passage P of yours"}


async def test_what_a_relay_could_not_pass_on_is_gone_at_its_delete_by(waiting: World, tmp_path: Path) -> None:
    relay = waiting.relays["sg"]
    await waiting.start()
    await waiting.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", timeout_s=90)
    await waiting.eu.stop()
    result = await waiting.push(f"file:{noise(tmp_path / 'b', 500_000, 2)}", "eu:app:v2", wait=Wait.DECIDED, timeout_s=90)
    await until_state(relay, result.view.transfer, "open")
    await relay.stop()
    with closing(sqlite3.connect(relay.paths.catalog)) as catalog:
        catalog.execute("UPDATE passages SET delete_by = 1 WHERE transfer = ?", (result.view.transfer,))
        catalog.commit()
    await relay.start()
    await until_state(relay, result.view.transfer, "ended")
    with closing(sqlite3.connect(relay.paths.catalog)) as catalog:
        left = catalog.execute("SELECT count(*) FROM letters JOIN passages ON id = passage WHERE state = 'ended'").fetchone()

    assert relay.stored() == []
    assert left == (0,)


@pytest.mark.parametrize("route", ["two", pytest.param("transit", marks=pytest.mark.full)])
async def test_two_ends_that_cannot_reach_each_other_deliver_over_relays(
    templates: Templates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    make = assembly._peer_client
    neighbours = {*zip(ROUTES[route][1], ROUTES[route][1][1:], strict=False)} | {("us", "sg"), (ROUTES[route][1][-1], "eu")}
    reach = neighbours | {(there, here) for here, there in neighbours}

    def client(settings: Any, paths: Any, site: Any, *more: Any, **named: Any) -> Any:
        if (str(settings.site), str(site.name)) not in reach:
            site = site.model_copy(update={"urls": (f"https://localhost:{free_port()}",)})
        return make(settings, paths, site, *more, **named)

    monkeypatch.setattr(assembly, "_peer_client", client)
    source = noise(tmp_path / "a", 2_000_000)
    async with world_from(await templates.of(route), tmp_path / "world") as world:
        for number in range(2):  # the second time heads of logs are compared
            await world.push(f"file:{source}", f"eu:app:v{number}", timeout_s=90)
        await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert (tmp_path / "out").read_bytes() == source.read_bytes()


async def until_state(relay: LiveSite, transfer: str, state: str) -> None:
    """Return when the one passage of the transfer at the relay is in this state."""
    async with asyncio.timeout(60):
        with closing(sqlite3.connect(relay.paths.catalog)) as catalog:
            while catalog.execute("SELECT state FROM passages WHERE transfer = ?", (transfer,)).fetchall() != [(state,)]:
                await asyncio.sleep(0.01)
