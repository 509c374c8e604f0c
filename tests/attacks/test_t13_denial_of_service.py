"""T13: what one identity or one peer costs is bounded, and others are served meanwhile. Slow bodies are tested by unit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.identity import load_identity
from agent.push import Wait
from agent.session import open_session
from carnet.errors import CapacityError, CarnetError
from carnet.flow.tls import client_context
from carnet.identifiers import TransferId
from carnet.messages import CommitRequest
from gateway.offline import open_site
from tests.attacks.parties import new_agent, noise
from tests.crossing.sites import LiveSite, World, push_in


@asynccontextmanager
async def silent(site: LiveSite) -> AsyncIterator[list[int]]:
    """Stand in for a site that stopped: accept every connection at its address and never say a word."""
    taken, writers = [0], list[asyncio.StreamWriter]()

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken[0] += 1
        writers.append(writer)
        with contextlib.suppress(OSError):
            await _reader.read()

    server = await asyncio.start_server(take, "127.0.0.1", int(site.settings.url.rsplit(":", 1)[1]))
    try:
        yield taken
    finally:
        for writer in writers:
            writer.transport.abort()
        server.close()


async def test_a_destination_that_never_answers_does_not_hold_up_the_home_site(world: World, tmp_path: Path) -> None:
    """More deliveries than there are workers wait for a silent peer; a push within the site is decided all the same."""
    source = noise(tmp_path / "a", 10_000)
    await world.eu.stop()
    async with silent(world.eu) as taken, open_session(world.us.agent) as session:
        for number in range(12):
            await push_in(session, f"file:{source}", f"eu:x{number}:v1", wait=Wait.DECIDED)
        result = await push_in(session, f"file:{source}", "home:v1", wait=Wait.DELIVERED, timeout_s=20)

        assert result.view.deliveries[0].state == "delivered"
        assert taken[0] > 0


async def test_bytes_before_a_commit_are_bounded_by_a_limit_with_a_name(world: World, tmp_path: Path) -> None:
    await world.us.stop()
    world.us.limits = world.us.limits.model_copy(update={"uncommitted_bytes_max": 2_000_000})
    await world.us.start()
    async with open_session(world.us.agent) as session:
        with pytest.raises(CapacityError) as caught:
            await push_in(session, f"file:{noise(tmp_path / 'a', 6_000_000)}", "app:v1")
        await push_in(session, f"file:{noise(tmp_path / 'b', 1000)}", "other:v1")

    assert (caught.value.code, caught.value.limit) == ("E-LIMIT", "uncommitted_bytes_max")
    # The second push is small and of its own limit: not one segment of the first one more than the limit has stayed.
    await world.us.stop()
    assert sum(path.stat().st_size for path in world.us.stored()) < 2_000_000 + 300_000


async def test_a_hundred_connections_that_say_nothing_cost_an_agent_nothing(world: World, tmp_path: Path) -> None:
    """Strangers without a certificate open connections and stop in the middle of the handshake or of a request."""
    port = int(world.us.settings.url.rsplit(":", 1)[1])
    context = client_context(None, None, (await _authority(world)))
    writers = []
    for number in range(100):
        with contextlib.suppress(OSError):
            if number % 2:
                _, writer = await asyncio.open_connection("localhost", port, ssl=context)
                writer.write(b"POST /v1/enroll HTTP/1.1\r\nHost: loc")
            else:
                _, writer = await asyncio.open_connection("localhost", port)
                writer.write(b"\x16\x03\x01")
            writers.append(writer)
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "app:v1")
    for writer in writers:
        writer.transport.abort()

    assert len(writers) > 50
    assert result.view.deliveries[0].state == "delivered"


async def _authority(world: World) -> str:
    async with open_site(world.us.directory) as site:
        return site.authority().pem.decode()


async def test_a_commit_of_a_transfer_that_is_not_there_is_refused_whatever_its_size(world: World) -> None:
    async with open_session(world.us.agent) as session:
        for size in (1_000, 8_000_000):
            request = CommitRequest(waybill={}, packing_list={}, segment_list="A" * size, releases=())
            with pytest.raises(CarnetError) as caught:
                await session.client.commit(TransferId("0" * 32), request)
            assert caught.value.http_status < 500


async def test_a_good_agent_works_while_others_send_a_byte_at_a_time(world: World, tmp_path: Path) -> None:
    """Strangers and an enrolled agent alike send slow heads and slow bodies; none of it takes a share of others."""
    other = await new_agent(world.us, "slow", "push,pull:*@*")
    context = client_context(other.identity_dir / "tls.pem", None, load_identity(other.identity_dir).authority_pem)
    stranger = client_context(None, None, await _authority(world))
    port = int(world.us.settings.url.rsplit(":", 1)[1])
    put = f"PUT /v1/transfers/{'0' * 32}/segments/b3-{'0' * 64} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    beginnings = [(stranger, b"GET /healthz HTT"), (context, b"GET /v1/trust HT"), (context, put.encode() + b"x")]
    stopped = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def drip(number: int) -> None:
        tls, first = beginnings[number % len(beginnings)]
        _, writer = await asyncio.open_connection("localhost", port, ssl=tls)
        writers.append(writer)
        writer.write(first)
        while not stopped.is_set() and not writer.is_closing():
            writer.write(b"x")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), 0.5)

    tasks = [asyncio.create_task(drip(number)) for number in range(60)]
    while len(writers) < 60:
        await asyncio.sleep(0)
    result = await world.push(f"file:{noise(tmp_path / 'a', 3_000_000)}", "app:v1")
    await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")
    stopped.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    for writer in writers:
        writer.transport.abort()

    assert result.view.deliveries[0].state == "delivered"
    assert (tmp_path / "out").read_bytes() == (tmp_path / "a").read_bytes()
