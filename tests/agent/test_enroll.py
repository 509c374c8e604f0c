"""Enrolment over real TLS: pins before secrets, checks before files; and renewal."""

import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.enroll import enroll, fetch_chain, renew_if_due, renewal_time
from agent.identity import load_identity
from carnet.envelope import parse_envelope
from carnet.errors import IntegrityError, NotAuthorised, Unavailable
from carnet.flow.client import PeerClient
from carnet.flow.link import Timeouts
from carnet.flow.tls import ClientContext
from carnet.identifiers import Digest, SpiffeId
from carnet.trust import open_agent_statement

GATEWAY = SpiffeId("spiffe://example.com/site/us/gateway/us")


def now():
    return datetime.now(UTC)


def client_of(live, directory, identity, *, url=None):
    context = ClientContext(directory / "tls.pem", None, identity.authority_pem)
    return PeerClient([url or live.url], context, gateway=GATEWAY, timeouts=Timeouts(retry_s=0))


async def used_at(live, invite):
    return (await live.site.catalog.read(lambda transaction: transaction.invite(invite.id))).used_at


async def test_an_enrolled_agent_is_known_to_its_site(live, tmp_path):
    identity = await enroll(await live.invite(), tmp_path / "identity", now())

    assert load_identity(tmp_path / "identity") == identity
    statement = open_agent_statement(identity.statement, live.site.trust.current())
    assert statement.signing_key == identity.signing_key.public
    async with client_of(live, tmp_path / "identity", identity) as client:
        assert (await client.trust()).site == "us"


async def test_a_gateway_under_another_ca_gets_nothing(live, tmp_path):
    """Rule 1: the invite is still good afterwards."""
    invite = replace(await live.invite(), ca="0" * 64)

    with pytest.raises(IntegrityError) as caught:
        await enroll(invite, tmp_path / "identity", now())

    assert caught.value.code == "E-TRUST"
    assert await used_at(live, invite) is None
    assert not (tmp_path / "identity").exists()


async def test_a_gateway_that_only_shows_the_pinned_ca_gets_nothing(live, tmp_path):
    """It has the public certificates of the site, as anyone can, and a key of its own: the handshake needs the leaf's."""
    from gateway.pki import encode_chain, encode_key, new_key
    from gateway.sitedir import load_authority

    authority = load_authority(live.site.paths)
    key = new_key()
    stranger = type(authority).create(live.site.settings.site, now())
    leaf = stranger.issue_gateway(GATEWAY, key.public_key(), ["localhost"], now())
    (tmp_path / "fake.crt").write_bytes(encode_chain(leaf, authority.certificate))
    (tmp_path / "fake.key").write_bytes(encode_key(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "fake.crt", tmp_path / "fake.key")
    invite = await live.invite()
    received = bytearray()

    async with SilentServer(context, received) as port:
        with pytest.raises(NotAuthorised):
            await enroll(replace(invite, url=f"https://localhost:{port}"), tmp_path / "identity", now())

    assert received == b""
    assert await used_at(live, invite) is None


class SilentServer:
    """A TLS server that keeps what it is sent and answers nothing."""

    def __init__(self, context, received):
        self.context, self.received = context, received

    async def __aenter__(self):
        import asyncio

        async def keep(reader, writer):
            self.received.extend(await reader.read(65_536))
            writer.close()

        self.server = await asyncio.start_server(keep, "127.0.0.1", 0, ssl=self.context)
        return self.server.sockets[0].getsockname()[1]

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()


async def test_the_gateway_of_another_site_gets_nothing(live, tmp_path):
    invite = replace(await live.invite(), site=type(live.site.settings.site)("eu"))

    with pytest.raises(IntegrityError, match="expected the gateway of site eu"):
        await enroll(invite, tmp_path / "identity", now())

    assert await used_at(live, invite) is None


async def test_configured_roots_that_differ_from_the_invites_stop_it_before_anything_is_sent(live, tmp_path):
    invite = await live.invite()

    with pytest.raises(IntegrityError):
        await enroll(invite, tmp_path / "identity", now(), root_fingerprint=Digest.of(b"others"))

    assert await used_at(live, invite) is None


async def test_a_bundle_of_other_roots_than_pinned_is_not_kept(live, tmp_path):
    invite = replace(await live.invite(), root=Digest.of(b"others"))

    with pytest.raises(IntegrityError) as caught:
        await enroll(invite, tmp_path / "identity", now())

    assert caught.value.code == "E-TRUST"
    assert not (tmp_path / "identity").exists()


async def test_an_invite_that_was_used_is_refused(live, tmp_path):
    invite = await live.invite()
    await enroll(invite, tmp_path / "one", now())

    with pytest.raises(NotAuthorised) as caught:
        await enroll(invite, tmp_path / "two", now())

    assert caught.value.code == "E-INVITE"


async def test_nobody_at_the_address_is_temporary(live, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"https://localhost:{unused.getsockname()[1]}"
        with pytest.raises(Unavailable) as caught:
            await enroll(replace(await live.invite(), url=url), tmp_path / "identity", now())

    assert caught.value.code == "E-UNREACHABLE"


async def test_the_chain_shown_is_leaf_and_issuing_ca(live):
    import asyncio

    leaf, issuer = await asyncio.to_thread(fetch_chain, live.url)

    leaf.verify_directly_issued_by(issuer)
    assert issuer == live.site.authority().certificate


async def test_renewal_falls_due_near_two_thirds_of_the_life(live, tmp_path):
    identity = await enroll(await live.invite(), tmp_path / "identity", now())
    start, end = identity.leaf.not_valid_before_utc, identity.leaf.not_valid_after_utc

    part = (renewal_time(identity) - start) / (end - start)

    assert 0.56 < part < 0.78


async def test_a_certificate_that_is_not_due_is_left_alone(live, tmp_path):
    identity = await enroll(await live.invite(), tmp_path / "identity", now())
    async with client_of(live, tmp_path / "identity", identity) as client:
        same = await renew_if_due(identity, tmp_path / "identity", client, renewal_time(identity) - timedelta(seconds=1))

    assert same is identity


async def test_a_due_certificate_is_renewed_for_a_new_key_and_the_next_connection_uses_it(live, tmp_path):
    directory = tmp_path / "identity"
    identity = await enroll(await live.invite(), directory, now())
    async with client_of(live, directory, identity) as client:
        renewed = await renew_if_due(identity, directory, client, renewal_time(identity))

    assert renewed.leaf.public_key() != identity.leaf.public_key()
    assert renewed.statement == identity.statement
    assert load_identity(directory) == renewed
    async with client_of(live, directory, renewed) as client:
        assert (await client.trust()).site == "us"


async def test_a_failed_renewal_costs_nothing_while_the_certificate_is_valid(live, tmp_path):
    directory = tmp_path / "identity"
    identity = await enroll(await live.invite(), directory, now())
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"https://localhost:{unused.getsockname()[1]}"
        async with client_of(live, directory, identity, url=url) as client:
            assert await renew_if_due(identity, directory, client, renewal_time(identity)) is identity
            with pytest.raises(Unavailable):
                await renew_if_due(identity, directory, client, identity.leaf.not_valid_after_utc)

    assert load_identity(directory) == identity


async def test_what_the_site_knows_survives_in_its_statement(live, tmp_path):
    identity = await enroll(await live.invite(), tmp_path / "identity", now())

    record = await live.site.catalog.read(lambda transaction: transaction.identity(identity.id))

    assert parse_envelope(record.statement) == identity.statement
