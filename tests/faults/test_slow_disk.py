"""A disk that does not answer: all else is answered, memory is bounded, nothing is acknowledged before it is durable."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from agent.identity import load_identity
from agent.push import PushResult
from agent.session import open_session
from carnet.flow.tls import client_context
from gateway.http.admission import SEGMENT_COST_BYTES
from tests.crossing.sites import LiveSite, push_in
from tests.faults.alone import gauge, pull_as, push_as, us_alone
from tests.faults.cutting import port_of
from tests.faults.disks import GatedDisk, store_on
from tests.faults.leftovers import held, nothing_left
from tests.promises.kills import Acknowledged, noise

SIZE = 3_000_000
SENDERS = 4
IN_FLIGHT = "carnet_bytes_in_flight"


@pytest.fixture
async def us(template: Path, tmp_path: Path) -> AsyncIterator[LiveSite]:
    async with us_alone(template, tmp_path / "world") as site:
        yield site


@pytest.fixture
def gated(us: LiveSite, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[GatedDisk]:
    """The disk of us; whatever still waits is let go before the site is stopped."""
    disk = GatedDisk(request.param)
    store_on(disk, monkeypatch)
    yield disk
    disk.release()


async def health(site: LiveSite) -> bytes:
    """Return the first line of what the site says of its health."""
    context = client_context(None, None, load_identity(site.agent.identity_dir).authority_pem)
    reader, writer = await asyncio.open_connection("localhost", port_of(site), ssl=context)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    line = await reader.readline()
    writer.transport.abort()
    return line


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await is_so():
            await asyncio.sleep(0.01)


async def push_each(us: LiveSite, tmp_path: Path, senders: int, acknowledged: Acknowledged) -> list[PushResult]:
    """Push so many files at once, each as a command of its own would: each has one segment on its way from the first."""

    async def push(number: int) -> PushResult:
        source = noise(tmp_path / f"source-{number}", SIZE, number)
        async with open_session(us.agent) as session:
            return await push_in(acknowledged.watch(session), f"file:{source}", f"app/{number}:v1", timeout_s=60)

    return await asyncio.gather(*(push(number) for number in range(senders)))


@pytest.mark.parametrize("gated", ["sync", "sync_directory", "write"], indirect=True)
async def test_while_a_disk_does_not_answer_all_else_is_answered_and_no_segment_is_acknowledged(
    us: LiveSite, gated: GatedDisk, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    await us.start()
    first = noise(tmp_path / "first", 5_000)
    await push_as(us.agent, first, "first:v1")
    before, acknowledged = held(), Acknowledged()
    async with asyncio.timeout(60), open_session(us.agent) as other:
        gated.shut()
        pushing = asyncio.create_task(push_each(us, tmp_path, SENDERS, acknowledged))
        assert await asyncio.to_thread(gated.reached.wait, 20)
        await until(lambda: all_in_flight(us))

        assert (await health(us)).startswith(b"HTTP/1.1 200")
        assert [one.repository for one in (await other.client.artifacts()).artifacts] == ["first"]
        assert "receiving" not in {one.state for one in (await other.client.list(states=["admitted"])).transfers}
        if "write" not in request.node.callspec.id:
            assert await pull_as(us.agent, "first:v1", tmp_path / "out") == first.read_bytes()
        assert acknowledged.segments == []
        assert len(us.stored()) < SENDERS + 3, "the files of the first, and at most what is being named"
        gated.release()
        results = await pushing
    assert {result.view.deliveries[0].state for result in results} == {"delivered"}
    assert len(acknowledged.segments) == len(set(acknowledged.segments)) > SENDERS
    await nothing_left(before, us.directory, us.agent_dir)
    assert await gauge(us, IN_FLIGHT) == 0


async def all_in_flight(site: LiveSite) -> bool:
    """Tell whether each sender has a segment at the site, which holds it in full."""
    return await gauge(site, IN_FLIGHT) == SENDERS * SEGMENT_COST_BYTES


@pytest.mark.parametrize("gated", ["sync"], indirect=True)
async def test_what_waits_for_a_disk_is_bounded_by_the_share_of_who_sends(us: LiveSite, gated: GatedDisk, tmp_path: Path) -> None:
    """The others of many senders wait in their connections, unread."""
    share = SENDERS * SEGMENT_COST_BYTES
    us.limits = us.limits.model_copy(update={"bytes_in_flight_per_identity_max": share})
    await us.start()
    async with asyncio.timeout(60):
        gated.shut()
        pushing = asyncio.create_task(push_each(us, tmp_path, 3 * SENDERS, Acknowledged()))
        await until(lambda: all_in_flight(us))
        seen = [await gauge(us, IN_FLIGHT) for _ in range(20)]
        gated.release()
        results = await pushing

    assert set(seen) == {share}
    assert {result.view.deliveries[0].state for result in results} == {"delivered"}
