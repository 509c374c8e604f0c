"""T12: a clock that is two hours wrong, at the origin, at the destination, at an agent: nothing goes out, nothing is lost."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent import push as agent_push
from agent import session as agent_session
from agent.push import Wait
from carnet.errors import CarnetError, Held
from carnet.messages import TransferView
from gateway.offline import open_site
from tests.attacks.parties import noise
from tests.crossing.sites import LiveSite, World, know_each_other

BEHIND, AHEAD = timedelta(hours=-2), timedelta(hours=2)
BY = {"behind": BEHIND, "ahead": AHEAD}
HOLDS = {"E-CLOCK", "E-REVOCATION-EXPIRED"}


@dataclass(frozen=True)
class WrongClock:
    """The system's clock, so much ahead."""

    by: timedelta

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


async def restart(site: LiveSite, by: timedelta | None) -> None:
    """Restart a site under a clock that is wrong by `by`, or under the right one."""
    await site.stop()
    site.clock = None if by is None else WrongClock(by)
    await site.start()


def error_of(view: TransferView) -> str:
    return view.deliveries[0].error or ""


@pytest.mark.parametrize("side", BY)
async def test_an_origin_with_a_wrong_clock_sends_nothing_and_forgets_nothing_that_it_signed(
    world: World, tmp_path: Path, side: str
) -> None:
    """One that was behind goes on when it is right; one that was ahead has signed entries of two hours from now, which stand."""
    await world.push(f"file:{noise(tmp_path / 'before', 10_000, 9)}", "eu:app:v0")
    await restart(world.us, BY[side])

    codes: set[str] = set()
    async with asyncio.timeout(60):
        while not codes:
            codes = await refusals(world, tmp_path)
    await restart(world.us, None)
    await know_each_other(world)

    assert codes <= HOLDS
    if side == "behind":
        result = await world.push(f"file:{noise(tmp_path / 'last', 10_000, 7)}", "eu:app:v2")
        assert result.view.deliveries[0].state == "delivered"
    else:
        with pytest.raises(Held) as caught:
            await world.push(f"file:{noise(tmp_path / 'last', 10_000, 7)}", "eu:app:v2")
        assert caught.value.code == "E-CLOCK"
        assert await artifacts_of(world.eu) == {"v0"}


async def refusals(world: World, tmp_path: Path) -> set[str]:
    """Push, and return the codes with which it is held, at once or in its delivery."""
    source = f"file:{noise(tmp_path / 'file', 10_000)}"
    try:
        result = await world.push(source, "eu:app:v1", wait=Wait.RECEIVED)
        view = await world.until(result.view.transfer, lambda view: bool(error_of(view)), 30)
    except Held as error:
        return {error.code}
    assert view.deliveries[0].state not in {"stored", "released", "delivered"}
    return {code for code in HOLDS if code in error_of(view)}


@pytest.mark.parametrize("side", BY)
async def test_a_destination_with_a_wrong_clock_takes_nothing_and_what_waits_goes_on_when_it_is_right(
    world: World, tmp_path: Path, side: str
) -> None:
    await world.push(f"file:{noise(tmp_path / 'before', 10_000, 9)}", "eu:app:v0")
    await restart(world.eu, BY[side])

    result = await world.push(f"file:{noise(tmp_path / 'file', 10_000)}", "eu:app:v1", wait=Wait.RECEIVED)
    view = await world.until(result.view.transfer, lambda view: any(code in error_of(view) for code in HOLDS), 30)

    assert view.deliveries[0].state in {"sending", "retrying"}
    assert await artifacts_of(world.eu) == {"v0"}
    await restart(world.eu, None)
    await world.until(result.view.transfer, lambda view: view.deliveries[0].state == "delivered", 60)
    assert await artifacts_of(world.eu) == {"v0", "v1"}


async def artifacts_of(site: LiveSite) -> set[str]:
    async with open_site(site.directory) as opened:
        return {str(record.tag) for record in await opened.catalog.read(lambda tx: tx.artifacts())}


@pytest.mark.parametrize("side", BY)
async def test_a_site_with_a_wrong_clock_signs_no_revocation_set_and_ends_no_transfer(
    world: World, tmp_path: Path, side: str
) -> None:
    """Ahead it would expire what waits, and sign a set that outlives the truth; behind, one that is void at birth."""
    world.us.limits = world.us.limits.model_copy(update={"transfer_hours": 1})
    await restart(world.us, None)
    await know_each_other(world)
    await world.eu.stop()
    result = await world.push(f"file:{noise(tmp_path / 'file', 10_000)}", "eu:app:v1", wait=Wait.RECEIVED)
    await world.eu.start()
    before = await own_set(world.us)
    await world.us.stop()
    world.us.clock = WrongClock(BY[side])
    await world.us.start()
    async with asyncio.timeout(60):
        while not await hears_that_its_clock_is_wrong(world.us, BY[side]):
            await asyncio.sleep(0.2)
    await world.us.stop()
    async with open_site(world.us.directory) as site:
        record = await site.catalog.read(lambda tx: tx.transfer(result.view.transfer))
    assert record is not None
    assert record.state not in {"expired", "cancelled"}
    assert await own_set(world.us) == before


async def own_set(site: LiveSite) -> int:
    async with open_site(site.directory) as opened:
        own = opened.trust.revocations.own()
        assert own is not None
        return own.content.number


async def hears_that_its_clock_is_wrong(site: LiveSite, by: timedelta) -> bool:
    """Tell whether what the site keeps says that it is later, or earlier, than its clock shows."""
    async with open_site(site.directory) as opened:
        floor = opened.trust.floor.moment
        return floor is not None and (by > timedelta(0) or floor > datetime.now(UTC) + by + timedelta(minutes=1))


async def test_a_restart_under_a_wrong_clock_knows_at_once_how_late_it_is(world: World) -> None:
    """No peer answers, nothing was logged for a while: what was kept is enough."""
    await world.eu.stop()
    await world.us.stop()

    async with open_site(world.us.directory) as site:
        floor = site.trust.floor.moment

        assert floor is not None
        with pytest.raises(Held) as caught:
            site.trust.floor.require(floor - timedelta(minutes=1), with_peers=False)
    assert caught.value.code == "E-CLOCK"


@pytest.mark.parametrize("side", BY)
async def test_an_agent_with_a_wrong_clock_is_told_to_set_it_and_nothing_leaves(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    for module in (agent_session, agent_push):
        monkeypatch.setattr(module, "now", WrongClock(BY[side]).now)

    with pytest.raises(CarnetError) as caught:
        await world.push(f"file:{noise(tmp_path / 'file', 10_000)}", "eu:app:v1", wait=Wait.RECEIVED)

    assert caught.value.code == "E-CLOCK"
    assert caught.value.remedy == "set the clock of this machine"
    assert await artifacts_of(world.eu) == set()
