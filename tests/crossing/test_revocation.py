"""A revoked agent: refused at home, refused by the other site, its deliveries stopped; all within five seconds (T7)."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.enroll import enroll
from agent.session import open_session
from carnet.errors import CarnetError, Held
from gateway.commands.agents import _revoke
from gateway.offline import open_site
from tests.crossing.sites import World, invite_agent

SECONDS = 5.0


async def code_within(seconds: float, attempt: Callable[[], Awaitable[object]], code: str) -> None:
    """Attempt until it fails with `code`; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await attempt()
            except CarnetError as error:
                if error.code == code:
                    return
            await asyncio.sleep(0.05)


async def test_a_revoked_agent_is_refused_on_its_open_connection_and_on_new_ones_within_five_seconds(world: World) -> None:
    async with open_session(world.us.agent, connections=1) as session:
        await session.client.list()
        await _revoke(world.us.directory, "agent", "key-stolen")

        await code_within(SECONDS, session.client.list, "E-REVOKED")

    with pytest.raises(CarnetError) as caught:
        async with open_session(world.us.agent, connections=1) as session:
            await session.client.list()
    assert caught.value.code == "E-REVOKED"


async def test_a_new_invite_lets_the_agent_work_again_with_new_keys(world: World, tmp_path: Path) -> None:
    await _revoke(world.us.directory, "agent", "key-stolen")
    invite = await invite_agent(world.us, "agent")
    world.us.agent_dir = tmp_path / "again"
    await enroll(invite, world.us.agent_dir / "identity", datetime.now(UTC))
    (tmp_path / "file").write_bytes(b"content")

    result = await world.push(f"file:{tmp_path / 'file'}", "eu:app:v1")

    assert result.view.deliveries[0].state == "delivered"


async def test_the_other_site_knows_within_five_seconds_and_gives_out_nothing_the_agent_signed(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    await world.push(f"file:{tmp_path / 'file'}", "eu:app:v1")
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'before'}")

    await _revoke(world.us.directory, "agent", "key-stolen")

    await code_within(SECONDS, lambda: world.pull(world.eu, "app:v1", f"file:{tmp_path / 'between'}"), "E-HELD")
    with pytest.raises(Held):
        await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'after'}")
    assert not (tmp_path / "after").exists()


async def test_a_delivery_under_way_stops_when_its_originator_is_revoked(world: World, tmp_path: Path) -> None:
    """The key waits for somebody; the agent is revoked meanwhile; the wait never ends in a release."""
    (tmp_path / "file").write_bytes(b"content")
    await world.eu.stop()
    said = {"classification": "internal", "purpose": "deploy"}
    from agent.push import Wait

    result = await world.push(f"file:{tmp_path / 'file'}", "eu:app:v1", declare=said, wait=Wait.RECEIVED)
    await _revoke(world.us.directory, "agent", "key-stolen")
    await asyncio.sleep(1.5)
    await world.eu.start()

    async def state() -> str:
        async with open_site(world.us.directory) as site:
            deliveries = await site.catalog.read(lambda tx: tx.deliveries(result.view.transfer))
        return deliveries[0].state

    async with asyncio.timeout(60):
        while await state() != "offer-hold":
            await asyncio.sleep(0.1)
    async with open_site(world.eu.directory) as site:
        assert await site.catalog.read(lambda tx: tx.artifacts()) == []


async def test_a_consumers_agent_does_not_take_what_a_revoked_agent_signed_from_its_own_site(
    world: World, tmp_path: Path
) -> None:
    """The home site of the consumer may lie; the set is signed by the originator's site."""
    from dataclasses import replace

    from agent.pull import verify_release
    from carnet.identifiers import Repository, Tag

    (tmp_path / "file").write_bytes(b"content")
    await world.push(f"file:{tmp_path / 'file'}", "eu:app:v1")
    async with open_session(world.eu.agent, connections=1) as session:
        release = await session.client.artifact_release(Repository("app"), Tag("v1"))
    verify_release(session, release)
    await _revoke(world.us.directory, "agent", "key-stolen")
    async with open_site(world.us.directory) as site:
        newest = site.trust.revocations.state

    with pytest.raises(Held) as caught:
        verify_release(replace(session, revocations=newest), release)

    assert caught.value.code == "E-REVOKED"
