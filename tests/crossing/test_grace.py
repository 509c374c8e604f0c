"""Pulls go on for a while after trust expired; nothing else does, and controlled content does not."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent import pull as agent_pull
from agent import session as agent_session
from agent.pull import Granted, pull
from agent.session import open_session
from agent.sinks import open_sink
from carnet.errors import CarnetError, Held
from carnet.flow.progress import Progress
from carnet.identifiers import Repository, Tag
from carnet.keys import SigningKey
from carnet.timestamps import format_time
from gateway.offline import open_site
from tests.crossing.sites import World, invite_agent


@dataclass(frozen=True)
class LaterClock:
    """The system's clock, so much ahead."""

    by: timedelta

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


async def expire_bundle(world: World, in_minutes: int) -> None:
    """Give us, and its agent, a bundle that ends soon."""
    async with open_site(world.us.directory) as site:
        current = site.trust.state().current
        short = current.model_copy(
            update={
                "version": current.version + 1,
                "expires": format_time(datetime.now(UTC) + timedelta(minutes=in_minutes)),
            }
        )
        await site.trust.import_bundle(short.sign(SigningKey(bytes(range(32)))).encode())
    async with asyncio.timeout(60):
        while True:
            async with open_session(world.us.agent, connections=1) as session:
                if session.bundle.version == short.version:
                    return
            await asyncio.sleep(0.1)


async def pull_later(world: World, tmp_path: Path, name: str, grace: timedelta) -> Granted:
    async with open_session(world.us.agent, grace=grace) as session:
        return await pull(
            session,
            Repository(name),
            Tag("v1"),
            lambda kind: open_sink(f"file:{tmp_path / name}", kind, tag="v1", name=name),
            Progress(),
        )


async def later(world: World, monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Let the site and the agent live so much later; eu stays away, as it would not be awake."""
    await world.us.stop()
    world.us.clock = LaterClock(by)
    for module in (agent_session, agent_pull):
        monkeypatch.setattr(module, "now", LaterClock(by).now)
    await world.us.start()


async def test_with_an_expired_bundle_pulls_go_on_for_the_grace_are_logged_and_controlled_ones_stop(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    await world.push(f"file:{tmp_path / 'file'}", "plain:v1")
    await world.push(f"file:{tmp_path / 'file'}", "controlled:v1", declare={"classification": "export-controlled"})
    await expire_bundle(world, in_minutes=60)
    await world.eu.stop()
    await later(world, monkeypatch, timedelta(hours=3))
    day = timedelta(hours=20)

    await pull_later(world, tmp_path, "plain", day)
    assert (tmp_path / "plain").read_bytes() == b"content"
    for attempt in (
        pull_later(world, tmp_path, "controlled", day),
        pull_later(world, tmp_path, "plain", timedelta(0)),
        world.push(f"file:{tmp_path / 'file'}", "other:v1"),
    ):
        with pytest.raises(Held) as caught:
            await attempt
        assert caught.value.code == "E-TRUST-EXPIRED"
    assert not (tmp_path / "controlled").exists()
    async with open_site(world.us.directory) as site:
        size = await site.catalog.read(lambda tx: tx.log_size())
        entries = [entry for entry, _ in await site.catalog.read(lambda tx: tx.log_range(0, size))]
    assert sum(b'"expired":' in entry and b"key-released" in entry for entry in entries) == 1


async def test_beyond_the_grace_nothing_is_given_out_and_nobody_enrols(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    await world.push(f"file:{tmp_path / 'file'}", "plain:v1")
    await expire_bundle(world, in_minutes=60)
    world.us.limits = world.us.limits.model_copy(update={"pull_grace_hours": 1})
    await world.eu.stop()
    invite = await invite_agent(world.us, "late")
    await later(world, monkeypatch, timedelta(hours=3))

    with pytest.raises(Held) as caught:
        await pull_later(world, tmp_path, "plain", timedelta(hours=20))
    assert caught.value.code == "E-TRUST-EXPIRED"
    from agent.enroll import enroll

    with pytest.raises(CarnetError) as refused:
        await enroll(invite, tmp_path / "identity", datetime.now(UTC))
    assert refused.value.code == "E-TRUST-EXPIRED"
