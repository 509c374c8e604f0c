"""A disk near its end at one site: nothing new is begun, what is there stays usable, and nothing is lost."""

from pathlib import Path

import pytest

from agent.push import Wait
from agent.session import open_session
from carnet.errors import StorageFull
from carnet.flow.link import Timeouts
from gateway.settings import Limits
from tests.crossing.sites import World, know_each_other, push_in

ALL_OF_IT = Limits(disk_reserve_bytes=1 << 60)
ONCE = Timeouts(retry_s=0.0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"x" * 100_000)
    return path


async def test_a_full_origin_refuses_new_pushes_and_serves_what_it_has(cold_world: World, source: Path, tmp_path: Path):
    world = cold_world
    await world.us.start()
    await world.push(f"file:{source}", "app:v1")
    await world.us.stop()
    world.us.limits = ALL_OF_IT
    await world.us.start()

    async with open_session(world.us.agent, timeouts=ONCE) as session:
        with pytest.raises(StorageFull, match=r"limits\.disk_reserve_bytes") as refusal:
            await push_in(session, f"file:{source}", "app:v2")

    assert refusal.value.code == "E-DISK-FULL"
    await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


@pytest.mark.full
async def test_a_delivery_to_a_full_destination_waits_and_arrives_when_there_is_room(
    cold_world: World, source: Path, tmp_path: Path
):
    world = cold_world
    world.eu.limits = ALL_OF_IT
    await world.eu.start()
    await world.us.start()
    await know_each_other(world)
    pushed = await world.push(f"file:{source}", "eu:app:v1", wait=Wait.RECEIVED)
    await world.until(pushed.view.transfer, lambda view: view.deliveries[0].state == "sending", 60)
    assert not world.eu.stored()
    await world.eu.stop()
    world.eu.limits = Limits(disk_reserve_bytes=0)
    await world.eu.start()

    await world.until(pushed.view.transfer, lambda view: view.deliveries[0].state == "delivered", 100)

    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
