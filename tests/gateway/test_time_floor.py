"""The time floor: what is past is past, whatever the clock says."""

from datetime import UTC, datetime, timedelta

import pytest

from carnet.errors import Held
from carnet.identifiers import SiteName
from gateway.time_floor import APART, TimeFloor

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
EU, SG = SiteName("eu"), SiteName("sg")


def after(**by: float) -> datetime:
    return NOON + timedelta(**by)


def test_a_clock_behind_the_floor_by_more_than_thirty_seconds_holds():
    floor = TimeFloor()
    floor.raise_to(NOON)

    floor.require(after(seconds=-30), with_peers=False)
    with pytest.raises(Held) as caught:
        floor.require(after(seconds=-31), with_peers=False)
    assert caught.value.code == "E-CLOCK"


def test_the_floor_only_rises_and_expiry_is_judged_at_the_later_of_clock_and_floor():
    floor = TimeFloor()
    floor.raise_to(NOON)
    floor.raise_to(after(hours=-1))

    assert floor.require(after(seconds=-20), with_peers=False) == NOON
    assert floor.require(after(seconds=5), with_peers=False) == after(seconds=5)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_clock_apart_from_every_peer_holds_on_lanes_with_peers_only(minutes):
    floor = TimeFloor()
    floor.hear(EU, after(minutes=minutes), NOON)
    floor.hear(SG, after(minutes=2 * minutes), NOON)

    floor.require(NOON, with_peers=False)
    with pytest.raises(Held) as caught:
        floor.require(NOON, with_peers=True)
    assert caught.value.code == "E-CLOCK"


def test_one_peer_with_a_wrong_clock_among_others_holds_nothing():
    floor = TimeFloor()
    floor.hear(EU, after(hours=2), NOON)
    floor.hear(SG, after(seconds=1), NOON)

    floor.require(NOON, with_peers=True)


def test_what_a_peer_said_long_ago_counts_no_more():
    floor = TimeFloor()
    floor.hear(EU, after(hours=2), NOON)

    floor.require(after(minutes=11), with_peers=True)


def test_a_peer_proves_no_more_than_our_own_clock_shows_and_less_by_what_its_clock_may_be_ahead():
    floor = TimeFloor()
    floor.hear(EU, after(hours=2), NOON)
    assert floor.moment == NOON

    floor.hear(EU, after(hours=1), after(hours=3))
    assert floor.moment == after(minutes=55)


async def test_the_floor_outlasts_a_restart_and_is_written_once_a_minute(world):
    from gateway.trusting import Trust

    world.trust.floor.hear(EU, world.clock.now() + APART, world.clock.now())
    world.clock.advance(hours=2)
    world.trust.floor.hear(EU, world.clock.now() + APART, world.clock.now())
    await world.trust.keep_floor()
    kept = world.trust.floor.moment
    world.clock.advance(seconds=59)
    world.trust.floor.hear(EU, world.clock.now() + APART, world.clock.now())
    await world.trust.keep_floor()

    restarted = Trust(world.catalog, None, world.clock, world.settings.site)
    await restarted.refresh()

    assert restarted.floor.moment == kept
    world.clock.advance(hours=-1)
    with pytest.raises(Held) as caught:
        restarted.ground()
    assert caught.value.code == "E-CLOCK"


async def test_upkeep_does_nothing_by_a_clock_that_cannot_be_right(world):
    from tests.gateway.test_kem_ending import upkeep_of

    await upkeep_of(world).run()
    before = world.trust.revocations.own()
    world.clock.advance(days=-40)

    with pytest.raises(Held) as caught:
        await upkeep_of(world).run()

    assert caught.value.code == "E-CLOCK"
    assert world.trust.revocations.own() == before
