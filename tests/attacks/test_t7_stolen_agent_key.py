"""T7: somebody has the keys of an agent. Once that is known, they are worth nothing anywhere within seconds."""

import asyncio
import shutil
from pathlib import Path

import pytest

from agent.push import Wait
from agent.session import open_session
from carnet.errors import CarnetError, NotAuthenticated, Unavailable
from carnet.flow.client import PeerClient
from carnet.messages import ForwardRequest
from gateway.commands.agents import _revoke
from gateway.commands.keys import _revoke_key
from gateway.offline import open_site
from tests.attacks.parties import Peers, noise
from tests.crossing.sites import POLICIES, World, push_in
from tests.crossing.test_revocation import SECONDS, code_within


async def test_a_request_that_runs_ends_when_its_identity_is_revoked(world: World, tmp_path: Path) -> None:
    """A long poll of a minute, in the middle of which the agent is revoked."""
    result = await world.push(f"file:{noise(tmp_path / 'file', 10_000)}", "app:v1")
    async with open_session(world.us.agent, connections=1) as session:
        waiting = asyncio.create_task(session.client.wait(result.view.transfer, lambda _view: False, 60))
        await session.client.list()
        await _revoke(world.us.directory, "agent", "key-stolen")

        async with asyncio.timeout(SECONDS + 5):
            with pytest.raises(CarnetError) as caught:
                await waiting
    assert caught.value.code == "E-REVOKED"


async def test_a_thief_with_the_whole_identity_directory_is_refused_with_its_owner(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.us.agent.identity_dir, tmp_path / "stolen")
    stolen = world.us.agent.model_copy(update={"identity_dir": tmp_path / "stolen"})
    async with open_session(stolen, connections=1) as session:
        await session.client.list()
        await _revoke(world.us.directory, "agent", "key-stolen")
        await code_within(SECONDS, session.client.list, "E-REVOKED")

        with pytest.raises(NotAuthenticated) as caught:
            await push_in(session, f"file:{noise(tmp_path / 'file', 10_000)}", "eu:app:v1")
    assert (caught.value.code, caught.value.exit_status) == ("E-REVOKED", 7)


async def test_what_a_stolen_signing_key_signs_is_taken_nowhere_once_the_key_is_revoked(
    world: World, peers: Peers, tmp_path: Path
) -> None:
    """The thief has the signing key, and whoever runs us helps: eu alone refuses, within seconds."""
    result = await world.push(f"file:{noise(tmp_path / 'file', 10_000)}", "eu:app:v1")
    declared = await peers.declared(result.view.transfer)
    await _revoke_key(world.us.directory, "agent", "key-stolen")

    async def tell() -> None:
        await _declare_anew(peers.clients["us"], peers, declared)

    await code_within(SECONDS + 5, tell, "E-REVOKED")


async def _declare_anew(client: PeerClient, peers: Peers, declared: ForwardRequest) -> None:
    told, _ = peers.retold(declared, tag="stolen")
    await client.forward_declare(told)


async def test_the_agent_whose_signing_key_was_revoked_is_told_so_at_its_own_site(world: World, tmp_path: Path) -> None:
    await _revoke_key(world.us.directory, "agent", "key-stolen")

    seeds = iter(range(2, 1_000))

    async def push() -> None:
        await world.push(f"file:{noise(tmp_path / 'file', 10_000, next(seeds))}", "eu:app:v1", wait=Wait.RECEIVED)

    await code_within(SECONDS + 5, push, "E-REVOKED")


async def until_eu_has_key(world: World, number: int) -> None:
    """Return once an agent of us would seal to this KEM key of eu."""
    async with asyncio.timeout(60):
        while True:
            async with open_session(world.us.agent, connections=1) as session:
                try:
                    if session.kem_key(world.eu.name)[0] == number:
                        return
                except Unavailable:  # the old one is known to be revoked, the next one is not known yet
                    await asyncio.sleep(0.1)


async def test_a_key_wrapped_to_a_revoked_kem_key_is_wrapped_anew_before_it_leaves(world: World, tmp_path: Path) -> None:
    """The release waits; the KEM key of eu is stolen; what eu gets then is wrapped to its next key."""
    said = {"classification": "internal", "purpose": "wait-at-release"}
    result = await world.push(f"file:{noise(tmp_path / 'file', 10_000)}", "eu:app:v1", wait=Wait.RECEIVED, declare=said)
    await world.until(result.view.transfer, lambda view: view.deliveries[0].state == "release-hold")
    await _revoke_key(world.eu.directory, "kem-1", "key-stolen")
    await until_eu_has_key(world, 2)
    await world.us.stop()
    held = "effect: hold\n    reason: the key waits"
    assert held in POLICIES["us"]
    world.us.set_policy(POLICIES["us"].replace(held, "effect: allow\n    reason: the key waits"))
    await world.us.start()

    async with open_session(world.us.agent, connections=1) as session:
        await session.client.retry(result.view.transfer)
        await session.client.wait(result.view.transfer, lambda view: view.deliveries[0].state == "delivered", 30)

    async with open_site(world.us.directory) as site:
        releases = await site.catalog.read(lambda tx: tx.documents(result.view.transfer, "release/"))
    (kept,) = (body for name, body in releases.items() if name.endswith("/gateway/eu"))
    assert b'"key_number":2' in kept


async def test_a_sealer_uses_no_revoked_kem_key(world: World, tmp_path: Path) -> None:
    await _revoke_key(world.eu.directory, "kem-1", "key-stolen")
    await until_eu_has_key(world, 2)

    result = await world.push(f"file:{noise(tmp_path / 'file', 10_000)}", "eu:app:v1")

    assert result.view.deliveries[0].state == "delivered"
