"""Many transfers in one process, which is sites and agents: what the last one leaves behind is what the first one did."""

from pathlib import Path

import pytest

from tests.crossing.sites import World, world_from
from tests.faults.alone import pull_as, push_as, us_alone
from tests.faults.leftovers import held, nothing_left
from tests.promises.kills import noise

AT_HOME, ACROSS = 30, 12
PEER_CONNECTIONS = 2 * 3
"""Sites keep up to four connections to each other open, and have one each from the beginning; they are made when needed."""


async def test_thirty_pushes_and_pulls_leave_threads_tasks_descriptors_and_files_as_the_first_did(
    template: Path, tmp_path: Path
) -> None:
    async with us_alone(template, tmp_path / "world") as us:
        await us.start()
        after_the_first = None
        for number in range(AT_HOME):
            source = noise(tmp_path / "source", 20_000, number)
            await push_as(us.agent, source, f"app:v{number}")
            assert await pull_as(us.agent, f"app:v{number}", tmp_path / "out") == source.read_bytes()
            after_the_first = after_the_first or held()

        await nothing_left(after_the_first, us.directory, us.agent_dir)


@pytest.mark.full
async def test_transfers_to_another_site_leave_both_sites_as_the_first_did(template: Path, tmp_path: Path) -> None:
    """But for connections between them, which are fewer than the transfers."""
    async with world_from(template, tmp_path / "world") as world:
        await there_and_out(world, tmp_path, 0)
        after_the_first = held().with_connections(PEER_CONNECTIONS)
        for number in range(1, ACROSS):
            await there_and_out(world, tmp_path, number)

        await nothing_left(after_the_first, *(site.directory for site in world.sites), world.us.agent_dir, world.eu.agent_dir)


async def test_sites_that_end_give_everything_back(template: Path, tmp_path: Path) -> None:
    """But for the one descriptor that libuv keeps in reserve from the first connection on."""
    async with world_from(template, tmp_path / "first"):
        pass
    before = held()
    async with world_from(template, tmp_path / "world") as world:
        await there_and_out(world, tmp_path, 0)
        directories = [site.directory for site in world.sites]

    await nothing_left(before, *directories)


async def there_and_out(world: World, tmp_path: Path, number: int) -> None:
    """Push something across and pull it there."""
    source, out = noise(tmp_path / "source", 20_000, number), tmp_path / "out"
    result = await world.push(f"file:{source}", f"eu:app:v{number}")
    assert result.view.deliveries[0].state == "delivered"
    await world.pull(world.eu, f"app:v{number}", f"file:{out}")
    assert out.read_bytes() == source.read_bytes()
