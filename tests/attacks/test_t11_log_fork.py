"""T11: a log with two histories: a copied database, an old backup. Nobody signs the second, or nobody uses it."""

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.push import Wait
from carnet.errors import CarnetError, IntegrityError, Unavailable
from gateway.backing_up.restoring import restore_backup
from gateway.backing_up.writing import write_backup
from gateway.offline import open_site
from gateway.settings import GatewaySettings
from gateway.sitedir import hold_site
from tests.attacks.parties import noise
from tests.crossing.ports import free_port
from tests.crossing.sites import LiveSite, World
from tests.promises.border import verified_log


class Elsewhere(LiveSite):
    """A second server of a site, on a port of its own."""

    @property
    def settings(self) -> GatewaySettings:
        return super().settings.model_copy(update={"listen": (f"127.0.0.1:{free_port()}",)})


def copy_of(site: LiveSite, path: Path) -> LiveSite:
    """Return a second replica of a site that does not run: the same keys, catalog and address."""
    shutil.copytree(site.directory, path)
    return LiveSite(site.name, path, site.agent_dir)


async def head_of(site: LiveSite) -> bytes:
    return (site.paths.log / "checkpoint").read_bytes()


async def kept_at_eu(world: World) -> bytes | None:
    async with open_site(world.eu.directory) as site:
        return await site.catalog.read(lambda tx: tx.site_document("head/us"))


async def test_a_replica_on_a_copied_database_does_not_sign_behind_what_a_peer_saw(world: World, tmp_path: Path) -> None:
    await world.us.stop()
    replica = copy_of(world.us, tmp_path / "replica")
    await world.us.start()
    await world.push(f"file:{noise(tmp_path / 'a', 10_000)}", "eu:app:v1")
    await world.us.stop()
    before = await head_of(replica)

    with pytest.raises(IntegrityError) as caught:
        await replica.start()

    assert caught.value.code == "E-LOG"
    assert "eu has seen" in caught.value.problem
    assert await head_of(replica) == before


async def test_a_replica_that_forked_while_its_peer_was_away_is_used_by_nobody_and_ends(world: World, tmp_path: Path) -> None:
    """Both copies extend the log; eu saw the first one. The second signs onwards unseen, until it meets eu."""
    await world.us.stop()
    replica = copy_of(world.us, tmp_path / "replica")
    await world.us.start()
    await world.push(f"file:{noise(tmp_path / 'a', 10_000)}", "eu:app:v1")
    await world.us.stop()
    await world.eu.stop()
    seen = await kept_at_eu(world)
    await replica.start()
    world.us = replica
    result = await world.push(f"file:{noise(tmp_path / 'b', 10_000, 2)}", "eu:app:v2", wait=Wait.RECEIVED)
    for number in range(3, 8):
        await world.push(f"file:{noise(tmp_path / 'c', 1_000, number)}", f"home:v{number}")

    await world.eu.start()
    assert replica._task is not None
    async with asyncio.timeout(60):
        ended = await asyncio.gather(replica._task, return_exceptions=True)
    replica._task = None

    assert any(one.code == "E-LOG" for one in errors_in(ended[0]))
    assert await kept_at_eu(world) == seen
    async with open_site(world.eu.directory) as site:
        record = await site.catalog.read(lambda tx: tx.transfer(result.view.transfer))
    assert record is None


def errors_in(error: object) -> list[CarnetError]:
    """Return the errors of ours in a group, however deep."""
    if isinstance(error, BaseExceptionGroup):
        return [one for inner in error.exceptions for one in errors_in(inner)]
    return [error] if isinstance(error, CarnetError) else []


async def test_an_old_backup_whose_peer_is_silent_signs_nothing_at_all(world: World, tmp_path: Path) -> None:
    await asyncio.to_thread(write_backup, world.us.settings, tmp_path / "backup", with_keys=True, now=datetime.now(UTC))
    await world.push(f"file:{noise(tmp_path / 'a', 10_000)}", "eu:app:v1")
    await world.us.stop()
    await world.eu.stop()
    shutil.rmtree(world.us.directory)
    restore_backup(tmp_path / "backup", world.us.directory)
    before = await head_of(world.us)

    with pytest.raises(Unavailable) as caught:
        await world.us.start()

    assert caught.value.code == "E-UNREACHABLE"
    assert await head_of(world.us) == before
    assert world.us.paths.restored.exists()


async def test_two_processes_do_not_serve_one_directory(world: World) -> None:
    with hold_site(world.us.paths), pytest.raises(Unavailable) as caught, hold_site(world.us.paths):
        pass

    assert caught.value.code == "E-BUSY"


async def test_two_servers_on_one_catalog_make_one_log(world: World, tmp_path: Path) -> None:
    """The lock was got round: a second server on the same files. One of them ends, or both go on with one history."""
    second = Elsewhere(world.us.name, world.us.directory, world.us.agent_dir)
    await second.start()
    for number in range(5):
        try:
            await world.push(f"file:{noise(tmp_path / 'a', 1_000, number)}", f"eu:app:v{number}", wait=Wait.RECEIVED)
        except CarnetError:
            break
    for site in (second, world.us):
        site._stop.set()
        assert site._task is not None
        await asyncio.wait([site._task])
        site._task = None

    await world.us.start()
    await world.us.stop()
    assert (await verified_log(world.us))["site-created"] == 1
