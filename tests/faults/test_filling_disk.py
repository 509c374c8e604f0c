"""A disk that fills up in the middle of a push: one error, nothing half kept or shown; with room the same push goes on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.session import open_session
from carnet.errors import CarnetError, NotFound
from tests.crossing.sites import LiveSite, push_in
from tests.faults.alone import ONCE, gauge, pull_as, push_as, us_alone
from tests.faults.disks import FillingDisk, store_on
from tests.faults.leftovers import held, nothing_left
from tests.promises.kills import Acknowledged, noise

SIZE = 8_000_000
ROOM = 3_000_000
"""Of some segments of a little more than a MiB each: the last of them is cut short by the end of the disk."""


@pytest.fixture
async def us(template: Path, tmp_path: Path, filling: FillingDisk) -> AsyncIterator[LiveSite]:
    async with us_alone(template, tmp_path / "world") as site:
        await site.start()
        yield site


@pytest.fixture
def filling(monkeypatch: pytest.MonkeyPatch) -> FillingDisk:
    disk = FillingDisk()
    store_on(disk, monkeypatch)
    return disk


@pytest.mark.parametrize("senders", [1, 4])
async def test_a_push_onto_a_disk_that_fills_up_is_told_so_and_continues_when_there_is_room(
    us: LiveSite, filling: FillingDisk, tmp_path: Path, senders: int
) -> None:
    first, source = noise(tmp_path / "first", 5_000), noise(tmp_path / "source", SIZE)
    await push_as(us.agent, first, "first:v1")
    before, acknowledged, stored = held(), Acknowledged(), set(us.stored())
    filling.room = ROOM
    async with open_session(us.agent, timeouts=ONCE, connections=senders) as session:
        with pytest.raises(CarnetError) as refused:
            await push_in(acknowledged.watch(session), f"file:{source}", "app:v1")
    kept = {path.name for path in set(us.stored()) - stored}

    assert (refused.value.code, refused.value.exit_status) == ("E-DISK-FULL", 5)
    assert refused.value.remedy
    assert set(acknowledged.segments) <= kept
    assert len(kept) <= ROOM // 1_000_000
    await nothing_left(before, us.directory, us.agent_dir)
    assert await gauge(us, "carnet_bytes_in_flight") == 0
    with pytest.raises(NotFound):
        await pull_as(us.agent, "app:v1", tmp_path / "out")
    assert await pull_as(us.agent, "first:v1", tmp_path / "first-out") == first.read_bytes()

    filling.room = None
    async with open_session(us.agent, connections=senders) as session:
        result = await push_in(acknowledged.watch(session), f"file:{source}", "app:v1")

    assert result.resumed
    assert result.view.deliveries[0].state == "delivered"
    assert len(acknowledged.segments) == len(set(acknowledged.segments)), "what was acknowledged is not sent again"
    assert await pull_as(us.agent, "app:v1", tmp_path / "out") == source.read_bytes()
    await nothing_left(before, us.directory, us.agent_dir)
