"""P6: cut or killed again and again, a push ends by running it again, and the wire carries no acknowledged segment twice."""

import asyncio
from pathlib import Path

import pytest

from agent.push import Wait
from agent.session import open_session
from carnet.errors import CarnetError
from carnet.flow.progress import Progress
from tests.crossing.test_resume import push_and_stop
from tests.promises.border import Border
from tests.promises.kills import Acknowledged, noise, push_once, served

SIZE = 32_000_000
IN_FLIGHT = 6 * 2_240_000
"""Bytes of the segments that may be under way, unacknowledged, when a connection breaks."""
OVERHEAD = 600_000
"""TLS, requests, rows, and the questions of one run of the command."""


async def test_cut_connections_cost_no_more_than_what_was_in_flight(border: Border, tmp_path: Path) -> None:
    source = noise(tmp_path / "source", SIZE)
    wire, cuts = border.wires["us"], 0

    def cut(total: int) -> None:
        nonlocal cuts
        if total > (cuts + 1) * 10_000_000 and cuts < 3:
            cuts += 1
            wire.cut()

    wire.on_up = cut
    before = wire.up
    acknowledged = Acknowledged()
    for _ in range(5):
        try:
            result = await push_once(border.world, source, acknowledged)
            break
        except CarnetError:
            continue
    await border.world.pull(border.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert cuts == 3
    assert result.view.deliveries[0].state == "delivered"
    assert len(acknowledged.segments) == len(set(acknowledged.segments))
    assert SIZE < wire.up - before < SIZE + cuts * IN_FLIGHT + (cuts + 1) * OVERHEAD
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


async def test_a_gateway_killed_again_and_again_gets_each_acknowledged_segment_once(
    served_border: Border, tmp_path: Path
) -> None:
    border = served_border
    await border.start()
    us, wire = served(border, "us"), border.wires["us"]
    source = noise(tmp_path / "source", SIZE)
    sent = []
    before = wire.up
    for _ in range(2):
        async with open_session(us.agent) as session:
            sent += await push_and_stop(session, 4, source, "eu:app:v1")
        us.kill()
        await us.dead()
        await us.start()
    acknowledged = Acknowledged()
    result = await push_once(border.world, source, acknowledged)

    assert result.resumed
    assert not set(sent) & set(acknowledged.segments)
    assert len(sent) == len(set(sent)) == 8
    assert wire.up - before < SIZE + 3 * OVERHEAD + 2 * IN_FLIGHT


async def test_a_destination_killed_in_the_middle_is_sent_only_what_it_misses(served_border: Border, tmp_path: Path) -> None:
    border = served_border
    await border.start()
    eu, wire = served(border, "eu"), border.wires["eu"]
    before, kills = wire.up, 0

    def kill(total: int) -> None:
        nonlocal kills
        if total - before > (kills + 1) * 16_000_000 and kills < 1:
            kills += 1
            eu.kill()

    wire.on_up = kill
    source = noise(tmp_path / "source", SIZE)
    result = await border.world.push(f"file:{source}", "eu:app:v1", wait=Wait.DECIDED)
    assert eu.process is not None
    await asyncio.wait_for(eu.process.wait(), 60)
    await eu.dead()
    await eu.start()
    view = await border.world.until(result.view.transfer, lambda one: one.deliveries[0].state == "delivered", 60)

    assert kills == 1
    assert view.deliveries[0].state == "delivered"
    assert SIZE < wire.up - before < SIZE + IN_FLIGHT + 2 * OVERHEAD


async def test_pushed_again_when_all_is_there_the_wire_carries_next_to_nothing(border: Border, tmp_path: Path) -> None:
    source = noise(tmp_path / "source", SIZE)
    said = {"classification": "public", "purpose": "wait-at-release"}
    first = await border.world.push(f"file:{source}", "eu:app:v1", declare=said)
    before = border.wires["us"].up, border.wires["eu"].up
    progress = Progress()

    again = await border.world.push(f"file:{source}", "eu:app:v1", declare=said, progress=progress)

    assert again.view.transfer == first.view.transfer
    assert progress.wire_bytes == 0
    assert border.wires["us"].up - before[0] < OVERHEAD
    assert border.wires["eu"].up - before[1] < OVERHEAD


@pytest.mark.full
async def test_twenty_cuts_in_one_push(border: Border, tmp_path: Path) -> None:
    size, wire, cuts = 60_000_000, border.wires["us"], 0
    source = noise(tmp_path / "source", size)

    def cut(total: int) -> None:
        nonlocal cuts
        if total > (cuts + 1) * 5_000_000 and cuts < 20:
            cuts += 1
            wire.cut()

    wire.on_up = cut
    acknowledged = Acknowledged()
    for _ in range(25):
        try:
            result = await push_once(border.world, source, acknowledged)
            break
        except CarnetError:
            continue

    assert result.view.deliveries[0].state == "delivered"
    assert len(acknowledged.segments) == len(set(acknowledged.segments))
    assert wire.up < size + cuts * IN_FLIGHT + 25 * OVERHEAD
