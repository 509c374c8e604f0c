"""A client that is gone in the middle of a request: what the server held for it is given back, and others are served."""

import asyncio
import socket

import pytest

from carnet.flow.tls import client_context
from carnet.limits import SEGMENT_BYTES_MAX
from carnet.paths import segment as segment_path
from carnet.paths import transfer_segment
from gateway.http.admission import SEGMENT_COST_BYTES
from tests.carnet.samples import TRANSFER, US, segment
from tests.gateway.http.wire import Wire
from tests.gateway.http.world import agent_id, running

PUT = f"PUT {transfer_segment(TRANSFER, segment(1))} HTTP/1.1\nHost: localhost\nContent-Length: 1000000"
IN_FLIGHT = "carnet_bytes_in_flight"
BEGINNINGS = {
    "before the head": b"",
    "within the head": PUT[:40].encode(),
    "between head and body": PUT.replace("\n", "\r\n").encode() + b"\r\n\r\n",
    "within the body": PUT.replace("\n", "\r\n").encode() + b"\r\n\r\n" + bytes(600_000),
}


@pytest.fixture
async def world(tmp_path):
    async with running(tmp_path) as found:
        yield found


async def until(is_so):
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.005)


def tasks():
    return len(asyncio.all_tasks())


async def nothing_held(world, before):
    """Return once the server has no connection, no byte and no task more than before, and serves somebody else."""
    await until(lambda: (world.gauge(IN_FLIGHT), world.gauge("carnet_connections_open"), tasks()) == (0, 0, before))
    async with world.agent() as client:
        await client.show(TRANSFER)


@pytest.mark.parametrize("place", BEGINNINGS)
async def test_a_request_that_breaks_off_gives_back_what_it_held_and_reaches_no_use_case(world, place):
    before = tasks()
    wires = [await Wire.agent(world) for _ in range(4)]
    for wire in wires:
        wire.writer.write(BEGINNINGS[place])
    admitted = len(wires) * SEGMENT_COST_BYTES if "body" in place else 0
    await until(lambda: (world.gauge(IN_FLIGHT), world.gauge("carnet_connections_open")) == (admitted, len(wires)))
    for wire in wires:
        wire.writer.transport.abort()

    await nothing_held(world, before)
    assert world.gateway.receive.calls == []


async def test_a_client_that_is_gone_before_its_answer_gives_its_bytes_back_when_the_segment_is_kept(world):
    """Until then a thread may read the buffer."""
    receive, before = world.gateway.receive, tasks()
    receive.may_finish.clear()
    wire = await Wire.agent(world)
    wire.send(PUT, bytes(1_000_000))
    await receive.entered.wait()
    wire.writer.transport.abort()
    async with world.agent() as client:
        await client.show(TRANSFER)
    assert world.gauge(IN_FLIGHT) == SEGMENT_COST_BYTES
    receive.may_finish.set()

    await nothing_held(world, before)
    assert list(receive.segments) == [segment(1)]


async def test_a_client_that_is_gone_within_its_answer_gives_back_what_it_did_not_take(world):
    """It asks for more than any socket buffers, and takes a few KiB, so that the rest waits at the server."""
    before, count = tasks(), 24
    world.gateway.artifacts.segments[segment(1)] = bytes(SEGMENT_BYTES_MAX)
    credential = world.pki.client(world.pki.us, agent_id(US))
    context = client_context(credential.certificate, credential.key, world.pki.us.pem.decode())
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", world.port))
    wire = Wire(*await asyncio.open_connection(sock=narrow, ssl=context, server_hostname="localhost", limit=4_096))
    for _ in range(count):
        wire.send(f"GET {segment_path(segment(1))} HTTP/1.1\nHost: localhost")
    await wire.reader.readuntil(b"\r\n\r\n")
    await until(lambda: world.gauge(IN_FLIGHT) == SEGMENT_COST_BYTES)
    wire.writer.transport.abort()

    await nothing_held(world, before)
