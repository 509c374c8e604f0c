"""A connection between two sites that is cut at every kind of boundary: the delivery arrives, once, and nothing is sent twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.session import open_session
from gateway.settings import Telemetry
from tests.crossing.ports import free_port
from tests.crossing.sites import World, world_from
from tests.faults.alone import gauge, pull_in
from tests.faults.cutting import Cut, Double, Place, double_of, gateway_context, sampled
from tests.promises.border import verified_log
from tests.promises.kills import noise

SEGMENT = "PUT /v1/transfers/"
CUTS = [
    *((SEGMENT, place) for place in Place if place is not Place.WITHIN_ANSWER),
    *((what, Place.BEFORE_ANSWER) for what in ("POST /v1/transfers", "/commit", "/messages")),
]
SAMPLE = [(SEGMENT, Place.WITHIN_BODY), (SEGMENT, Place.BEFORE_ANSWER), ("/commit", Place.BEFORE_ANSWER)]


@asynccontextmanager
async def world_with_double(template: Path, root: Path) -> AsyncIterator[tuple[World, Double, int]]:
    """Yield both sites running, what stands before eu for us, and the port that eu really listens on."""
    async with world_from(template, root, start=False) as world:
        eu, back = world.eu, free_port()
        front = urlsplit(eu.settings.url).port
        settings = eu.directory / "gateway.toml"
        settings.write_text(settings.read_text().replace(f'"127.0.0.1:{front}"', f'"127.0.0.1:{back}"'))
        eu.telemetry = Telemetry(listen=f"127.0.0.1:{free_port()}")
        async with double_of(eu, back, gateway_context(world.us, eu), port=front or 0) as double:
            await world.start()
            yield world, double, back
            await world.stop()


@pytest.mark.parametrize(("what", "place"), sampled(CUTS, SAMPLE))
async def test_a_delivery_whose_connection_is_cut_arrives_once(template: Path, tmp_path: Path, what: str, place: Place) -> None:
    source, out = noise(tmp_path / "source", 3_500_000), tmp_path / "out"
    async with world_with_double(template, tmp_path / "world") as (world, double, back):
        double.cut = Cut(what, place, first=2 if what == SEGMENT else 1)
        result = await world.push(f"file:{source}", "eu:app:v1")
        async with open_session(world.eu.agent.model_copy(update={"url": f"https://localhost:{back}"})) as session:
            await pull_in(session, "app:v1", f"file:{out}")

        assert double.cut.done == 1
        assert result.view.deliveries[0].state == "delivered"
        assert out.read_bytes() == source.read_bytes()
        assert max(double.segments(double.answered).values()) == 1, "what was acknowledged is not sent again"
        assert await gauge(world.eu, "carnet_bytes_in_flight") == 0
    entries = await verified_log(world.eu)
    assert entries["artifact-visible"] == entries["receipt-delivered"] == 1
