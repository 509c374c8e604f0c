"""A crowd: many pushes at once to one site, more than it takes at once. All end, and none is lost."""

import asyncio
from pathlib import Path

import pytest

from agent.push import PushResult
from agent.session import open_session
from gateway.settings import Limits
from tests.crossing.sites import World, push_in
from tests.promises.kills import noise

MIB = 1 << 20
NARROW = Limits(connections_per_identity_max=16, bytes_in_flight_max=16 * MIB, bytes_in_flight_per_identity_max=8 * MIB)
"""Four segments at once, and a third of the connections that a crowd of twelve would open."""


async def push_crowd(world: World, tmp_path: Path, count: int, size: int) -> None:
    """Push `count` files at once, each as a command of its own would; every one is delivered, and listed as what it is."""

    async def push(number: int) -> PushResult:
        source = noise(tmp_path / f"source-{number}", size, number)
        async with open_session(world.us.agent) as session:
            return await push_in(session, f"file:{source}", f"crowd/{number}:v1", timeout_s=240)

    results = await asyncio.gather(*(push(number) for number in range(count)))
    async with open_session(world.us.agent) as session:
        listed = await session.client.artifacts(limit=count)

    assert {result.view.deliveries[0].state for result in results} == {"delivered"}
    pushed = {result.view.repository: result.view.digest for result in results}
    assert {artifact.repository: artifact.digest for artifact in listed.artifacts} == pushed
    assert len(set(pushed.values())) == count


async def test_a_crowd_that_is_larger_than_the_limits_all_ends(cold_world: World, tmp_path: Path) -> None:
    cold_world.us.limits = NARROW
    await cold_world.us.start()

    await push_crowd(cold_world, tmp_path, 12, 3_000_000)


@pytest.mark.full
async def test_a_crowd_of_one_identity_all_ends_under_the_usual_limits(cold_world: World, tmp_path: Path) -> None:
    """Sixty at once, each with four connections to open if it may: a site lets one identity have 64."""
    await cold_world.us.start()

    await push_crowd(cold_world, tmp_path, 60, 4_000_000)
