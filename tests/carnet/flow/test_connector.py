"""A client's connections: a large answer comes whole, its connection is used again, and one that breaks off is not."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from carnet.errors import Unavailable
from carnet.flow.intake import SCRATCH_BYTES
from carnet.flow.link import Timeouts
from carnet.limits import SEGMENT_BYTES_MAX
from carnet.paths import BINARY_TYPE
from tests.carnet.samples import segment
from tests.gateway.http.world import World, running

NOISE = random.Random(1).randbytes(SEGMENT_BYTES_MAX)
ONCE = Timeouts(connect_s=5, read_s=0.3, send_s=5, retry_s=0)
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def world(tmp_path):
    async with running(tmp_path) as found:
        yield found


@asynccontextmanager
async def answering(world: World, answer: Answer) -> AsyncIterator[World]:
    """Yield the world with another server in place of its own, which has the same certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(world.server.certificate, world.server.key)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield replace(world, port=server.sockets[0].getsockname()[1])


def head(length: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {BINARY_TYPE}\r\nContent-Length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize("length", [1, SCRATCH_BYTES, SCRATCH_BYTES + 1, 300_000, SEGMENT_BYTES_MAX])
async def test_a_segment_comes_whole_and_the_next_one_over_the_same_connection(world, length):
    for number in (1, 2, 3):
        world.gateway.artifacts.segments[segment(number)] = NOISE[:length]
    async with world.agent() as client:
        for number in (1, 2, 3):
            assert bytes(await client.segment(segment(number))) == NOISE[:length]
            assert world.gauge("carnet_connections_open") == 1


async def test_an_answer_that_breaks_off_is_asked_for_again_over_another_connection(world):
    asked = 0

    async def answer(reader, writer):
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(1_000_000) + NOISE[: 1_000_000 if asked > 1 else 700_000])
        await writer.drain()
        writer.close()

    async with answering(world, answer) as other, other.agent(timeouts=Timeouts(retry_s=20)) as client:
        assert bytes(await client.segment(segment(1))) == NOISE[:1_000_000]

    assert asked == 2


async def test_an_answer_that_comes_slowly_but_steadily_is_waited_for(world):
    """It takes longer than the silence that is borne, all together."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(200_000))
        for start in range(0, 200_000, 25_000):
            writer.write(NOISE[start : start + 25_000])
            await writer.drain()
            await asyncio.sleep(0.25)  # what is tested: a link that gives a piece now and then

    async with answering(world, answer) as other, other.agent(timeouts=replace(ONCE, read_s=1.5)) as client:
        assert bytes(await client.segment(segment(1))) == NOISE[:200_000]


async def test_an_answer_that_stops_in_the_middle_is_given_up(world):
    gone = asyncio.Event()

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(1_000_000) + NOISE[:700_000])
        await writer.drain()
        await reader.read()
        gone.set()
        writer.close()

    async with asyncio.timeout(60), answering(world, answer) as other:
        async with other.agent(timeouts=ONCE) as client:
            with pytest.raises(Unavailable, match="timed out"):
                await client.segment(segment(1))
        await gone.wait()
