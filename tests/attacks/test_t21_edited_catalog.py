"""T21: whoever edits the catalog or the store of a site is found out by whoever uses what it serves, and offline by its log."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.session import open_session
from carnet.errors import CarnetError
from tests.attacks.parties import new_agent, noise
from tests.crossing.sites import LiveSite, World, push_in


def edit(site: LiveSite, *statements: str) -> None:
    """Change rows of the catalog of a site that does not run."""
    with closing(sqlite3.connect(site.paths.catalog)) as database:
        for statement in statements:
            assert database.execute(statement).rowcount > 0, statement
        database.commit()


async def two_artifacts(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'good', 50_000)}", "app:v1")
    await world.push(f"file:{noise(tmp_path / 'evil', 50_000, 2)}", "evil:v1")
    await world.us.stop()


EDITS = {
    "the tag points to another transfer": (
        "update artifacts set transfer = (select transfer from artifacts where repository = 'evil') where repository = 'app'",
    ),
    "the tag says another digest": (
        "update artifacts set digest = (select digest from artifacts where repository = 'evil') where repository = 'app'",
    ),
    "the tag is another artifact altogether": (
        "delete from artifacts where repository = 'app'",
        "update artifacts set repository = 'app' where repository = 'evil'",
    ),
}


@pytest.mark.parametrize("name", EDITS)
async def test_a_consumer_refuses_what_an_edited_row_would_hand_out(world: World, tmp_path: Path, name: str) -> None:
    await two_artifacts(world, tmp_path)
    edit(world.us, *EDITS[name])
    await world.us.start()
    with pytest.raises(CarnetError) as caught:
        await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")

    assert caught.value.exit_status == 6
    assert not (tmp_path / "out").exists()


async def test_a_segment_swapped_in_the_store_is_found_before_anything_is_written(world: World, tmp_path: Path) -> None:
    await two_artifacts(world, tmp_path)
    paths = sorted(world.us.stored())
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    await world.us.start()
    with pytest.raises(CarnetError):
        await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")

    assert not (tmp_path / "out").exists()


async def test_a_grant_that_somebody_wrote_into_the_catalog_gives_nothing_and_is_named(world: World, tmp_path: Path) -> None:
    """Root without the at-rest key gives an agent a right; the agent is told, and the check names the row."""
    from gateway.catalog.migrate import require_own_rows
    from gateway.offline import row_seal

    weak = await new_agent(world.us, "weak", "inspect:nothing@home")
    await world.us.stop()
    edit(world.us, "update identities set grants = '[\"push,pull,admin:*@*\"]' where identity like '%/agent/weak'")
    await world.us.start()

    with pytest.raises(CarnetError) as caught:
        async with open_session(weak, connections=1) as session:
            await push_in(session, f"file:{noise(tmp_path / 'file', 1_000)}", "app:v1")
    assert (caught.value.code, caught.value.exit_status) == ("E-ROW", 6)
    with pytest.raises(CarnetError, match=r"identities .*agent/weak"):
        require_own_rows(world.us.paths.catalog, row_seal(world.us.paths))


async def test_a_site_does_not_start_on_a_trust_bundle_that_it_did_not_import(world: World) -> None:
    await world.us.stop()
    edit(
        world.us,
        "update site_documents set body = (select body from site_documents where name = 'trust/root-fingerprint') "
        "where name = 'trust/bundle'",
    )

    with pytest.raises(CarnetError) as caught:
        await world.us.start()
    assert caught.value.code == "E-ROW"
