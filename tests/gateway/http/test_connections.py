"""Connections: each identity has its share, there are not too many, and whoever says nothing makes room for who does."""

import asyncio
import contextlib
import ssl

from carnet.flow.tls import client_context
from carnet.paths import transfer_segment
from gateway.http.bounds import Bounds
from gateway.http.connections import ConnectionServer
from tests.carnet.samples import TRANSFER, US, segment
from tests.gateway.http.wire import Wire
from tests.gateway.http.world import Pki, agent_id, gateway_id, running

SEGMENT_PATH = transfer_segment(TRANSFER, segment(1))


async def authenticated(world):
    """Return a connection on which an agent has been answered."""
    wire = await Wire.agent(world)
    wire.send("GET /v1/trust HTTP/1.1\nHost: localhost")
    assert (await wire.answer())[0] == 200
    return wire


async def test_each_identity_has_its_share_of_connections(tmp_path):
    async with running(tmp_path, bounds=Bounds(connections_per_identity_max=2, reload_s=0.05)) as world:
        credential = world.pki.client(world.pki.us, agent_id())
        wires = [await Wire.open(world, credential) for _ in range(3)]
        statuses = []
        for wire in wires:
            wire.send("GET /v1/trust HTTP/1.1\nHost: localhost")
            statuses.append((await wire.answer())[0])
        other = await Wire.open(world, world.pki.client(world.pki.us, agent_id(name="build-2")))
        other.send("GET /v1/trust HTTP/1.1\nHost: localhost")

        assert statuses == [200, 200, 429]
        assert (await other.answer())[0] == 200


async def test_connections_are_bounded_in_all(tmp_path):
    async with running(tmp_path, bounds=Bounds(connections_max=2)) as world:
        kept = [await authenticated(world) for _ in range(2)]
        try:
            over = await Wire.agent(world)
            assert await over.is_closed()
        except OSError:
            pass
        kept[0].send("GET /v1/trust HTTP/1.1\nHost: localhost")

        assert (await kept[0].answer())[0] == 200


async def test_a_connection_that_never_asked_for_anything_makes_room_for_the_next(tmp_path):
    async with running(tmp_path, bounds=Bounds(connections_max=3)) as world:
        known = await authenticated(world)
        oldest, silent = await Wire.open(world), await Wire.open(world)
        next_one = await authenticated(world)

        assert await oldest.is_closed()
        for wire in (known, next_one):
            wire.send("GET /v1/trust HTTP/1.1\nHost: localhost")
            assert (await wire.answer())[0] == 200
        silent.send("GET /healthz HTTP/1.1\nHost: localhost")
        assert (await silent.answer())[0] == 200


async def test_a_socket_that_says_nothing_makes_room_for_the_next_handshake(tmp_path):
    async with running(tmp_path, bounds=Bounds(handshakes_max=2, handshake_s=60)) as world:
        silent = [Wire(*await asyncio.open_connection("127.0.0.1", world.port)) for _ in range(2)]
        known = await authenticated(world)

        assert await silent[0].is_closed()
        assert not silent[1].reader.at_eof()
        known.send("GET /v1/trust HTTP/1.1\nHost: localhost")
        assert (await known.answer())[0] == 200


async def test_what_comes_with_the_end_of_the_handshake_is_not_lost(tmp_path):
    """A client may send its first request together with its last message of TLS."""
    async with running(tmp_path) as world:
        context = client_context(None, None, world.pki.us.pem.decode())
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("localhost", world.port)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65_536))
        tls.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        writer.write(outgoing.read())
        answer = b""
        while b"\r\n\r\n" not in answer:
            incoming.write(await reader.read(65_536))
            with contextlib.suppress(ssl.SSLWantReadError):
                answer += tls.read()
        writer.transport.abort()

        assert answer.startswith(b"HTTP/1.1 200")


async def test_a_server_that_stops_does_not_wait_for_handshakes(tmp_path):
    async with asyncio.timeout(60):
        async with running(tmp_path, bounds=Bounds(handshake_s=3_600)) as world:
            wire = Wire(*await asyncio.open_connection("127.0.0.1", world.port))
            # Another one has been served, so that the first was taken in.
            await authenticated(world)
        assert await wire.is_closed()


async def test_a_handshake_that_was_pushed_out_is_over_when_the_server_has_stopped(tmp_path):
    before = asyncio.all_tasks()
    async with running(tmp_path, bounds=Bounds(handshakes_max=1, handshake_s=60)) as world:
        for _ in range(20):
            Wire(*await asyncio.open_connection("127.0.0.1", world.port))
        await authenticated(world)

    assert asyncio.all_tasks() == before


async def test_a_slow_head_is_cut(tmp_path):
    async with running(tmp_path, bounds=Bounds(header_s=0.2)) as world:
        silent, slow = await Wire.agent(world), await Wire.agent(world)
        slow.writer.write(b"GET /v1/trust HTTP/1.1\r\nHost:")

        assert await silent.is_closed()
        assert await slow.is_closed()


async def test_a_slow_second_head_is_cut_too(tmp_path):
    async with running(tmp_path, bounds=Bounds(header_s=0.3)) as world:
        wire = await Wire.agent(world)
        wire.send("GET /v1/trust HTTP/1.1\nHost: localhost")
        await wire.answer()
        wire.writer.write(b"GET /v1/tr")

        assert await wire.is_closed()


async def test_a_body_slower_than_the_floor_is_cut(tmp_path):
    bounds = Bounds(body_grace_s=0.2, body_bytes_per_s_min=1_000_000, linger_s=0.1)
    async with running(tmp_path, bounds=bounds) as world:
        wire = await Wire.agent(world)
        wire.send(f"PUT {SEGMENT_PATH} HTTP/1.1\nHost: localhost\nContent-Length: 1000000", b"only this")
        status, problem = await wire.problem()

        assert (status, problem["code"]) == (503, "E-BUSY")
        assert "body_bytes_per_s_min" in problem["detail"]
        assert await wire.is_closed()
        assert world.gateway.receive.calls == []


async def test_a_handshake_that_never_comes_is_cut(tmp_path):
    async with running(tmp_path, bounds=Bounds(handshake_s=0.2)) as world:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", world.port))
        assert await wire.is_closed()


def test_a_connection_of_asyncio_that_was_closed_twice_keeps_no_server_from_stopping(tmp_path):
    """Its transport has forgotten what to abort while it waits for a goodbye that never comes (Python 3.11.2)."""

    async def stop() -> None:
        pki = Pki(tmp_path)
        own = pki.gateway(pki.us, gateway_id(US))
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(own.certificate, own.key)
        accepted = asyncio.get_running_loop().create_future()
        listener = await asyncio.start_server(
            lambda _reader, writer: accepted.set_result(writer.transport), "127.0.0.1", 0, ssl=serving
        )
        port = listener.sockets[0].getsockname()[1]
        context = client_context(None, None, pki.us.pem.decode())
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.transport.pause_reading()
        transport = await accepted
        transport.close()
        transport.close()
        server = ConnectionServer(None, Bounds())
        server.transports.add(transport)
        await server.end(0.05)
        writer.transport.abort()
        listener.close()

    asyncio.run(stop())
