"""T22: somebody has a backup of a site, taken without its keys: no content, no key, and no site that could be run from it."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.session import open_session
from carnet.errors import CarnetError
from carnet.identifiers import TransferId
from gateway.backing_up.restoring import restore_backup
from gateway.backing_up.writing import write_backup
from gateway.keyring import create_keys
from gateway.offline import open_site
from tests.crossing.sites import LiveSite, World
from tests.promises.test_p2_only_the_named_can_read import files_below, found_in, pieces_of, secret_file, secrets_of


async def stolen(world: World, tmp_path: Path) -> tuple[Path, TransferId, Path]:
    """Return the backup of eu, where an artifact was delivered; its transfer; and the file that it came from."""
    source = secret_file(tmp_path)
    result = await world.push(f"file:{source}", "eu:team/app:v1")
    out = tmp_path / "backup"
    await asyncio.to_thread(write_backup, world.eu.settings, out, with_keys=False, now=datetime.now(UTC))
    return out, result.view.transfer, source


async def test_a_backup_without_keys_holds_no_content_and_no_secret(world: World, tmp_path: Path) -> None:
    out, _, source = await stolen(world, tmp_path)

    files = list(files_below(out))
    assert any(path.parent.parent.name == "store" for path, _ in files)
    for path, data in files:
        assert found_in(data, pieces_of(source)) == [], path
        assert found_in(data, secrets_of(world.eu)) == [], path
    assert not (out / "keys").exists()


async def test_what_is_restored_without_its_keys_runs_nowhere_and_names_what_is_missing(world: World, tmp_path: Path) -> None:
    out, _, _ = await stolen(world, tmp_path)
    await world.eu.stop()
    restore_backup(out, tmp_path / "restored")
    thief = LiveSite(world.eu.name, tmp_path / "restored", tmp_path / "agent-eu")

    with pytest.raises(CarnetError) as caught:
        await thief.start()

    assert caught.value.code == "E-CONFIG"


async def test_with_keys_of_his_own_a_thief_opens_no_artifact_and_is_no_site_to_anybody(world: World, tmp_path: Path) -> None:
    out, transfer, _ = await stolen(world, tmp_path)
    restored = tmp_path / "restored"
    restore_backup(out, restored)
    for path in (restored / "keys").glob("*"):
        path.unlink()
    create_keys(restored / "keys")

    thief = LiveSite(world.eu.name, restored, tmp_path / "agent-eu")
    from gateway.catalog.engine import SqliteCatalog
    from gateway.catalog.row_seal import keyless
    from gateway.clock import SystemClock
    from gateway.keyring import FileKeyring

    catalog = SqliteCatalog(thief.paths.catalog, clock=SystemClock(), seal=keyless(), readers=1)
    try:
        sealed = await catalog.read(lambda tx: tx.artifact_key(transfer))
    finally:
        catalog.close()
    assert sealed is not None
    with pytest.raises(CarnetError):
        FileKeyring.load(thief.paths.keys).open(sealed, transfer.raw)
    with pytest.raises(CarnetError) as caught:
        async with open_site(restored):
            pass
    assert caught.value.code == "E-ROW"


async def test_the_true_site_goes_on_and_its_agents_with_it(world: World, tmp_path: Path) -> None:
    """A backup that was stolen changes nothing: what was in it is void without the keys."""
    await stolen(world, tmp_path)

    async with open_session(world.eu.agent, connections=1) as session:
        assert (await session.client.artifacts()).artifacts
