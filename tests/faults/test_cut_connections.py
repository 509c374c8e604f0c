"""A connection between agent and site that is cut at every kind of boundary: the transfer ends whole, or with one error."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.session import open_session
from carnet.errors import NotFound, Unavailable
from tests.crossing.sites import LiveSite
from tests.faults.alone import ONCE, gauge, pull_as, push_as, us_alone
from tests.faults.cutting import Cut, Place, double_for_agent, handshake_cut, port_of, sampled
from tests.faults.leftovers import Held, held, nothing_left, temporary_files
from tests.promises.kills import noise

SIZE = 3_500_000
SEGMENT = "PUT /v1/transfers/"
PUSHED = [
    *((SEGMENT, place) for place in Place if place is not Place.WITHIN_ANSWER),
    *(("/commit", place) for place in (Place.WITHIN_HEAD, Place.WITHIN_BODY, Place.BEFORE_ANSWER, Place.WITHIN_ANSWER)),
    ("POST /v1/transfers", Place.BEFORE_ANSWER),
]
PUSHED_SAMPLE = [
    *((SEGMENT, place) for place in (Place.BEFORE_HEAD, Place.WITHIN_HEAD, Place.WITHIN_BODY, Place.BEFORE_ANSWER)),
    (SEGMENT, Place.WITHIN_ANSWER_HEAD),
    ("/commit", Place.BEFORE_ANSWER),
]
PULLED = [
    *(("/v1/segments/", place) for place in Place if place not in {Place.BEFORE_BODY, Place.WITHIN_BODY}),
    *(("/v1/artifacts/", place) for place in (Place.WITHIN_HEAD, Place.BEFORE_ANSWER, Place.WITHIN_ANSWER)),
]
PULLED_SAMPLE = [
    *(("/v1/segments/", place) for place in (Place.WITHIN_HEAD, Place.BEFORE_ANSWER, Place.WITHIN_ANSWER)),
    ("/v1/artifacts/", Place.BEFORE_ANSWER),
]


@pytest.fixture
async def us(template: Path, tmp_path: Path) -> AsyncIterator[LiveSite]:
    async with us_alone(template, tmp_path / "world") as site:
        await site.start()
        yield site


async def settled(site: LiveSite, before: Held) -> None:
    """Check that the site holds nothing of what was cut, and that this process, which is agent and site, does not either."""
    await nothing_left(before, site.directory, site.agent_dir)
    assert await gauge(site, "carnet_bytes_in_flight") == 0
    assert await gauge(site, "carnet_connections_open") == 0


@pytest.mark.parametrize(("what", "place"), sampled(PUSHED, PUSHED_SAMPLE))
async def test_a_push_whose_connection_is_cut_once_completes(us: LiveSite, tmp_path: Path, what: str, place: Place) -> None:
    source = noise(tmp_path / "source", SIZE)
    async with double_for_agent(us) as (double, agent):
        await push_as(agent, noise(tmp_path / "first", 5_000), "first:v1")
        before = held()
        double.cut = Cut(what, place, first=2 if what == SEGMENT else 1)
        result = await push_as(agent, source, "app:v1")

        assert double.cut.done == 1
        assert result.view.deliveries[0].state == "delivered"
        assert max(double.segments(double.answered).values()) == 1, "what was acknowledged is not sent again"
        assert double.segments(double.begun).total() - double.segments(double.answered).total() <= 1
        await settled(us, before)
        assert await pull_as(agent, "app:v1", tmp_path / "out") == source.read_bytes()


@pytest.mark.parametrize(("what", "place"), sampled(PULLED, PULLED_SAMPLE))
async def test_a_pull_whose_connection_is_cut_once_completes(us: LiveSite, tmp_path: Path, what: str, place: Place) -> None:
    source = noise(tmp_path / "source", SIZE)
    async with double_for_agent(us) as (double, agent):
        await push_as(agent, source, "app:v1")
        before = held()
        double.answered.clear()
        double.cut = Cut(what, place, first=2 if "segments" in what else 1)

        assert await pull_as(agent, "app:v1", tmp_path / "out") == source.read_bytes()
        assert double.cut.done == 1
        assert max(double.segments(double.answered).values()) == 1, "what has come is not fetched again"
        await settled(us, before)
        assert temporary_files(tmp_path) == []


@pytest.mark.parametrize("place", [Place.WITHIN_BODY, Place.BEFORE_ANSWER])
async def test_a_push_that_is_always_cut_ends_with_one_error_and_continues_where_it_was(
    us: LiveSite, tmp_path: Path, place: Place
) -> None:
    source = noise(tmp_path / "source", SIZE)
    async with double_for_agent(us) as (double, agent):
        await push_as(agent, noise(tmp_path / "first", 5_000), "first:v1")
        before = held()
        double.answered.clear()
        double.cut = Cut(SEGMENT, place, first=3, times=1_000)
        with pytest.raises(Unavailable) as failed:
            await push_as(agent, source, "app:v1", ONCE, connections=1)
        acknowledged = double.segments(double.answered)
        await settled(us, before)
        with pytest.raises(NotFound):
            await pull_as(agent, "app:v1", tmp_path / "out")
        double.cut = None
        result = await push_as(agent, source, "app:v1")

        assert (failed.value.code, failed.value.exit_status) == ("E-UNREACHABLE", 5)
        assert failed.value.remedy
        assert result.resumed
        assert result.view.deliveries[0].state == "delivered"
        assert acknowledged
        assert max(double.segments(double.answered).values()) == 1, "what was acknowledged stays"
        assert await pull_as(agent, "app:v1", tmp_path / "out") == source.read_bytes()


@pytest.mark.parametrize("place", [Place.BEFORE_ANSWER, Place.WITHIN_ANSWER])
async def test_a_pull_that_is_always_cut_ends_with_one_error_and_leaves_nothing(
    us: LiveSite, tmp_path: Path, place: Place
) -> None:
    source = noise(tmp_path / "source", SIZE)
    async with double_for_agent(us) as (double, agent):
        await push_as(agent, source, "app:v1")
        before = held()
        double.cut = Cut("/v1/segments/", place, first=3, times=1_000)
        with pytest.raises(Unavailable) as failed:
            await pull_as(agent, "app:v1", tmp_path / "out", ONCE)

        assert failed.value.code == "E-UNREACHABLE"
        assert failed.value.remedy
        assert not (tmp_path / "out").exists()
        assert temporary_files(tmp_path) == []
        await settled(us, before)
        double.cut = None
        assert await pull_as(agent, "app:v1", tmp_path / "out") == source.read_bytes()


async def test_a_handshake_that_is_cut_anywhere_is_begun_again(us: LiveSite, tmp_path: Path) -> None:
    """Half of each flight, and its end: hello, the gateway's answer with its certificate, the agent's certificate."""
    async with handshake_cut(port_of(us)) as clean:
        await hello(us, clean.port)
    [hello_bytes, answer_bytes, finish_bytes] = [size for _, size in clean.flights[:3]]
    assert [way for way, _ in clean.flights[:3]] == ["up", "down", "up"]
    ups = [0, hello_bytes // 2, hello_bytes, hello_bytes + finish_bytes // 2]
    downs = [0, answer_bytes // 2, answer_bytes]
    before = held()

    for up_max, down_max in [*((up, None) for up in ups), *((None, down) for down in downs)]:
        async with handshake_cut(port_of(us)) as cutting:
            cutting.up_max, cutting.down_max = up_max, down_max
            await hello(us, cutting.port)
            assert cutting.connections >= 2, (up_max, down_max)
    await settled(us, before)


async def hello(site: LiveSite, port: int) -> None:
    """Ask the site one thing."""
    agent = site.agent.model_copy(update={"url": f"https://localhost:{port}"})
    async with asyncio.timeout(60), open_session(agent, connections=1):
        pass
