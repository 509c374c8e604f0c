"""Backup and restore of a site that serves; a backup that was tampered with; a backup that is too old to be signed onwards."""

import asyncio
import os
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carnet.errors import CallerError, IntegrityError, Unavailable
from gateway.backing_up.restoring import restore_backup
from gateway.backing_up.writing import write_backup
from tests.crossing.sites import LiveSite, World


def back_up(site: LiveSite, out: Path, *, with_keys: bool = True):
    return write_backup(site.settings, out, with_keys=with_keys, now=datetime.now(UTC))


def source(path: Path, size: int = 300_000) -> str:
    path.write_bytes(os.urandom(size))
    return f"file:{path}"


async def replace_by(site: LiveSite, backup: Path) -> None:
    await site.stop()
    shutil.rmtree(site.directory)
    restore_backup(backup, site.directory)


async def test_a_backup_taken_while_pushes_go_on_is_whole_and_restores(world: World, tmp_path: Path):
    first = source(tmp_path / "first")
    await world.push(first, "eu:app:v1")

    async def load():
        for number in range(3):
            await world.push(source(tmp_path / f"more-{number}"), f"eu:more:v{number}")

    pushing = asyncio.create_task(load())
    backup = await asyncio.to_thread(back_up, world.eu, tmp_path / "backup")
    await pushing
    restored = tmp_path / "restored"
    await asyncio.to_thread(restore_backup, tmp_path / "backup", restored)

    assert backup.log_size > 0
    assert stat.S_IMODE((restored / "keys").stat().st_mode) == 0o700
    assert (restored / "restored.json").is_file()
    assert not any(path.samefile(one) for path in world.eu.stored() for one in restored.rglob(path.name))


async def test_a_restored_site_serves_what_was_backed_up(world: World, tmp_path: Path):
    await world.push(source(tmp_path / "file"), "eu:app:v1")
    await world.us.stop()
    await world.eu.stop()
    back_up(world.eu, tmp_path / "backup")
    await replace_by(world.eu, tmp_path / "backup")
    await world.us.start()
    await world.eu.start()

    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert (tmp_path / "out").read_bytes() == (tmp_path / "file").read_bytes()
    assert not world.eu.paths.restored.exists()


async def test_an_old_backup_is_not_signed_onwards_when_a_peer_knows_more(world: World, tmp_path: Path):
    await asyncio.to_thread(back_up, world.us, tmp_path / "backup")
    await world.push(source(tmp_path / "file"), "eu:app:v1")
    await replace_by(world.us, tmp_path / "backup")
    before = (world.us.paths.log / "checkpoint").read_bytes()

    with pytest.raises(IntegrityError, match="eu has seen") as refusal:
        await world.us.start()

    world.us._task = None
    assert refusal.value.code == "E-LOG"
    assert (world.us.paths.log / "checkpoint").read_bytes() == before


async def test_a_restored_site_signs_nothing_while_a_peer_is_away(world: World, tmp_path: Path):
    await asyncio.to_thread(back_up, world.us, tmp_path / "backup")
    await world.eu.stop()
    await replace_by(world.us, tmp_path / "backup")

    with pytest.raises(Unavailable, match="signs nothing before eu"):
        await world.us.start()

    world.us._task = None


@pytest.mark.parametrize("victim", ["catalog.sqlite", "log/checkpoint", "keys/at-rest.key", "segment", "manifest.json", "extra"])
async def test_a_backup_that_was_tampered_with_is_refused(world: World, tmp_path: Path, victim: str):
    await world.push(source(tmp_path / "file"), "app:v1")
    backup = tmp_path / "backup"
    await asyncio.to_thread(back_up, world.us, backup)
    path = next((backup / "store").rglob("b3-*")) if victim == "segment" else backup / victim
    data = bytearray(path.read_bytes()) if path.exists() else bytearray(b"more")
    data[len(data) // 2] ^= 1
    path.unlink(missing_ok=True)  # a linked segment stays as it is in the site
    path.write_bytes(data)

    with pytest.raises(IntegrityError) as refusal:
        restore_backup(backup, tmp_path / "restored")

    assert refusal.value.code in {"E-BACKUP", "E-LOG"}
    assert not (tmp_path / "restored" / "gateway.toml").exists()


async def test_a_backup_has_no_keys_unless_asked_and_nothing_is_overwritten(world: World, tmp_path: Path):
    await asyncio.to_thread(lambda: back_up(world.us, tmp_path / "backup", with_keys=False))

    assert not list((tmp_path / "backup").rglob("*.key"))
    with pytest.raises(CallerError):
        back_up(world.us, tmp_path / "backup")
