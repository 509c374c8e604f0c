"""T1: somebody on the network between an agent and its site, or between two sites."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.identity import load_identity
from agent.session import open_session
from carnet.errors import CarnetError, NotAuthenticated, Unavailable
from carnet.flow.link import Timeouts
from carnet.flow.tls import client_context
from carnet.identifiers import SiteName, SpiffeId
from gateway.offline import open_site
from gateway.pki import Authority, encode_chain, encode_key, new_key
from tests.crossing.sites import LiveSite, World

AT_ONCE = Timeouts(connect_s=5, read_s=5, send_s=5, retry_s=0)


def identity(site: str, kind: str, name: str, domain: str = "test.example") -> SpiffeId:
    return SpiffeId.make(domain, SiteName(site), kind, name)  # type: ignore[arg-type]


async def authority_of(site: LiveSite) -> Authority:
    async with open_site(site.directory) as opened:
        return opened.authority()


def write_leaf(authority: Authority, name: SpiffeId, path: Path, *, hours: int = 0, hosts: tuple[str, ...] = ()) -> Path:
    """Write a certificate and its key; `hours` moves its start and with it its end."""
    key, at = new_key(), datetime.now(UTC) + timedelta(hours=hours)
    leaf = (
        authority.issue_gateway(name, key.public_key(), hosts, at)
        if hosts
        else authority.issue_client(name, key.public_key(), at)
    )
    path.write_bytes(encode_chain(leaf, authority.certificate) + encode_key(key))
    return path


@asynccontextmanager
async def in_the_middle(context: ssl.SSLContext | None) -> AsyncIterator[tuple[int, bytearray]]:
    """Yield the port of somebody who answers instead of the site, and every byte of application data it got."""
    heard = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.extend(await reader.read(65_536))
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()


def server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def refusal_of(world: World, pem: Path) -> tuple[NotAuthenticated, bytearray]:
    """Return why an agent of us does not talk to whoever serves with `pem`, and what it told before."""
    async with in_the_middle(server_context(pem)) as (port, heard):
        settings = world.us.agent.model_copy(update={"url": f"https://localhost:{port}"})
        with pytest.raises(NotAuthenticated) as caught:
            async with open_session(settings, timeouts=AT_ONCE):
                pass
    return caught.value, heard


async def test_an_agent_tells_nothing_to_a_gateway_under_a_ca_of_the_same_name(world: World, tmp_path: Path) -> None:
    false = Authority.create(SiteName("us"), datetime.now(UTC))
    pem = write_leaf(false, identity("us", "gateway", "us"), tmp_path / "false.pem", hosts=("localhost",))

    error, heard = await refusal_of(world, pem)

    assert (error.code, bytes(heard)) == ("E-CERTIFICATE", b"")
    assert "trust bundle" in error.remedy


async def test_an_agent_tells_nothing_to_another_site_of_the_same_bundle(world: World, tmp_path: Path) -> None:
    pem = write_leaf(await authority_of(world.eu), identity("us", "gateway", "us"), tmp_path / "eu.pem", hosts=("localhost",))

    error, heard = await refusal_of(world, pem)

    assert (error.code, bytes(heard)) == ("E-CERTIFICATE", b"")


async def test_an_agent_tells_nothing_to_another_identity_under_the_right_ca(world: World, tmp_path: Path) -> None:
    pem = write_leaf(await authority_of(world.us), identity("us", "gateway", "other"), tmp_path / "us.pem", hosts=("localhost",))

    error, heard = await refusal_of(world, pem)

    assert (error.code, bytes(heard)) == ("E-CERTIFICATE", b"")


async def test_an_agent_tells_nothing_to_the_right_gateway_under_another_host_name(world: World, tmp_path: Path) -> None:
    pem = write_leaf(await authority_of(world.us), identity("us", "gateway", "us"), tmp_path / "us.pem", hosts=("elsewhere",))

    error, heard = await refusal_of(world, pem)

    assert (error.code, bytes(heard)) == ("E-CERTIFICATE", b"")


async def test_an_agent_does_not_fall_back_to_plain_http(world: World) -> None:
    async with in_the_middle(None) as (port, heard):
        settings = world.us.agent.model_copy(update={"url": f"https://localhost:{port}"})
        with pytest.raises((NotAuthenticated, Unavailable)) as caught:
            async with open_session(settings, timeouts=AT_ONCE):
                pass

    assert caught.value.remedy
    assert b"HTTP" not in heard


async def answer_of(site: LiveSite, context: ssl.SSLContext | None, request: bytes | None = None) -> bytes:
    """Return what the site answers to a request, or nothing if it refuses the connection."""
    port = int(site.settings.url.rsplit(":", 1)[1])
    said = request or b"GET /v1/transfers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    name = None if context is None else "localhost"
    try:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context, server_hostname=name)
        writer.write(said)
        async with asyncio.timeout(60):
            data = await reader.read(65_536)
        writer.close()
    except OSError:
        return b""
    return data


async def test_a_site_answers_nobody_whom_its_bundle_does_not_name(world: World, tmp_path: Path) -> None:
    """Each certificate is sound by itself; what is wrong is who vouches for whom, or when."""
    us, eu = await authority_of(world.us), await authority_of(world.eu)
    stranger = Authority.create(SiteName("us"), datetime.now(UTC))
    made = {
        "another CA of the same name": (stranger, identity("us", "agent", "agent"), 0),
        "CA of eu for an agent of us": (eu, identity("us", "agent", "agent"), 0),
        "CA of eu for the gateway of us": (eu, identity("us", "gateway", "us"), 0),
        "CA of eu for an agent of eu": (eu, identity("eu", "agent", "agent"), 0),
        "another gateway of eu": (eu, identity("eu", "gateway", "other"), 0),
        "another trust domain": (us, identity("us", "agent", "agent", "evil.example"), 0),
        "expired": (us, identity("us", "agent", "agent"), -48),
        "not yet valid": (us, identity("us", "agent", "agent"), 2),
    }
    ca = us.pem.decode()
    for number, (name, (authority, who, hours)) in enumerate(made.items()):
        pem = write_leaf(authority, who, tmp_path / f"{number}.pem", hours=hours)
        data = await answer_of(world.us, client_context(pem, None, ca))

        assert not data.startswith(b"HTTP/1.1 2"), name
        assert not data or b'"code":"E-' in data, name


async def test_a_site_speaks_tls_1_3_or_nothing(world: World) -> None:
    found = load_identity(world.us.agent.identity_dir)
    old = ssl.create_default_context(cadata=found.authority_pem)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.load_cert_chain(world.us.agent.identity_dir / "tls.pem")

    assert await answer_of(world.us, old) == b""
    assert not (await answer_of(world.us, None)).startswith(b"HTTP/1.1 2")
    assert b"E-NO-CERTIFICATE" in await answer_of(world.us, client_context(None, None, found.authority_pem))


async def with_certificate(world: World, tmp_path: Path, authority: Authority, who: SpiffeId, hours: int) -> CarnetError:
    """Return how an agent fails that has this certificate, all else being as it was enrolled."""
    tmp_path.mkdir(exist_ok=True)
    directory = tmp_path / f"{who.name}-{hours}"
    shutil.copytree(world.us.agent.identity_dir, directory)
    pem = write_leaf(authority, who, tmp_path / "leaf.pem", hours=hours).read_bytes()
    key_at = pem.index(b"-----BEGIN PRIVATE")
    (directory / "tls.pem").write_bytes(pem[key_at:] + pem[:key_at])
    with pytest.raises(CarnetError) as caught:
        async with open_session(world.us.agent.model_copy(update={"identity_dir": directory}), timeouts=AT_ONCE) as session:
            await session.client.list()
    return caught.value


async def test_each_certificate_that_is_not_right_is_one_clear_error_at_the_agent(world: World, tmp_path: Path) -> None:
    us, eu = await authority_of(world.us), await authority_of(world.eu)
    agent = identity("us", "agent", "agent")

    expired = await with_certificate(world, tmp_path, us, agent, -48)
    early = await with_certificate(world, tmp_path, us, agent, 2)
    other_name = await with_certificate(world, tmp_path, us, identity("us", "agent", "other"), 0)
    other_ca = await with_certificate(world, tmp_path / "ca", eu, agent, 0)

    assert (expired.code, expired.exit_status) == ("E-CERTIFICATE", 7)
    assert "ended at" in expired.problem
    assert "carnet enroll" in expired.remedy
    assert (early.code, early.remedy) == ("E-CLOCK", "set the clock of this machine")
    assert (other_name.code, other_name.exit_status) == ("E-TRUST", 6)
    assert (other_ca.code, other_ca.exit_status) == ("E-CERTIFICATE", 7)
    for error in (expired, early, other_name, other_ca):
        assert error.remedy


async def test_an_agent_does_not_speak_tls_1_2_to_a_gateway_that_knows_no_better(world: World, tmp_path: Path) -> None:
    pem = write_leaf(await authority_of(world.us), identity("us", "gateway", "us"), tmp_path / "us.pem", hosts=("localhost",))
    context = server_context(pem)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with in_the_middle(context) as (port, heard):
        settings = world.us.agent.model_copy(update={"url": f"https://localhost:{port}"})
        with pytest.raises((NotAuthenticated, Unavailable)) as caught:
            async with open_session(settings, timeouts=AT_ONCE):
                pass

    assert caught.value.remedy
    assert bytes(heard) == b""
