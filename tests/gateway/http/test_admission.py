import asyncio
from contextlib import AsyncExitStack

import pytest

from carnet.errors import Throttled, Unavailable
from gateway.http.admission import Admission, Throttle
from gateway.http.bounds import Bounds
from tests.gateway.http.test_server import Wire
from tests.gateway.http.world import agent_id, running

ONE, OTHER = agent_id(name="one"), agent_id(name="other")


def admission(*, total=100, share=60, wait_s=0.05):
    return Admission(Bounds(bytes_in_flight_max=total, bytes_in_flight_per_identity_max=share, buffer_wait_s=wait_s))


async def test_a_share_that_is_used_up_is_told_by_name_and_others_go_on():
    bytes_held = admission()
    async with bytes_held.hold(ONE, 50):
        with pytest.raises(Throttled) as caught:
            async with bytes_held.hold(ONE, 20):
                pass
        async with bytes_held.hold(OTHER, 50):
            pass

    assert (caught.value.limit, caught.value.http_status) == ("bytes_in_flight_per_identity_max", 429)
    assert bytes_held.in_flight == 0


async def test_a_sum_that_is_used_up_is_told_by_name():
    bytes_held = admission()
    async with bytes_held.hold(ONE, 60), bytes_held.hold(OTHER, 40):
        with pytest.raises(Unavailable) as caught:
            async with bytes_held.hold(None, 10):
                pass

    assert (caught.value.limit, caught.value.http_status) == ("bytes_in_flight_max", 503)


async def test_what_is_larger_than_a_share_passes_alone():
    bytes_held = admission()
    async with bytes_held.hold(ONE, 1_000):
        assert bytes_held.in_flight == 60
    assert bytes_held.in_flight == 0


async def test_who_waits_is_admitted_when_there_is_room_and_not_behind_a_used_up_share():
    bytes_held = admission(wait_s=5)
    order = []

    async def come(holder, size, name):
        async with bytes_held.hold(holder, size):
            order.append(name)

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        await stack.enter_async_context(bytes_held.hold(ONE, 60))
        await stack.enter_async_context(bytes_held.hold(OTHER, 30))
        group.create_task(come(ONE, 30, "one"))
        await asyncio.sleep(0)
        group.create_task(come(None, 20, "nobody"))
        await asyncio.sleep(0)
        assert order == []
        await stack.aclose()

    assert sorted(order) == ["nobody", "one"]
    assert bytes_held.in_flight == 0


async def test_a_waiter_that_is_cancelled_leaves_nothing_held():
    bytes_held = admission(wait_s=5)
    async with bytes_held.hold(ONE, 60):
        waiting = asyncio.create_task(bytes_held.hold(ONE, 30).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert bytes_held.in_flight == 0

    async with bytes_held.hold(ONE, 60):
        waiting = asyncio.create_task(bytes_held.hold(ONE, 30).__aenter__())
        await asyncio.sleep(0)
    waiting.cancel()  # admitted in this very turn
    await asyncio.gather(waiting, return_exceptions=True)
    assert bytes_held.in_flight == 0


async def test_a_waiter_that_gives_up_in_the_turn_in_which_there_is_room_leaves_nothing_held():
    """Its future is cancelled before its task has run: what gives room away then must pass it over, and must not fail."""
    bytes_held = admission(wait_s=5)
    async with bytes_held.hold(ONE, 60):
        waiting = asyncio.create_task(bytes_held.hold(ONE, 30).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()

    await asyncio.gather(waiting, return_exceptions=True)
    assert bytes_held.in_flight == 0


async def test_a_waiter_whose_time_runs_out_in_the_turn_in_which_it_is_admitted_goes_on():
    bytes_held = admission(wait_s=0)
    held = bytes_held.hold(ONE, 30)
    async with bytes_held.hold(ONE, 60):
        waiting = asyncio.create_task(held.__aenter__())
        await asyncio.sleep(0)

    await waiting
    assert bytes_held.in_flight == 30
    await held.__aexit__(None, None, None)
    assert bytes_held.in_flight == 0


def test_an_identity_that_asks_too_often_waits_and_another_does_not():
    now = [0.0]
    throttle = Throttle(10, lambda: now[0])
    for _ in range(20):
        throttle.require(ONE)
    with pytest.raises(Throttled) as caught:
        throttle.require(ONE)
    throttle.require(OTHER)
    now[0] += 0.5
    for _ in range(5):
        throttle.require(ONE)
    with pytest.raises(Throttled):
        throttle.require(ONE)

    assert (caught.value.limit, caught.value.retry_after_s) == ("requests_per_s_max", 1)


def test_a_rate_of_zero_is_no_limit():
    throttle = Throttle(0, lambda: 0.0)
    for _ in range(10_000):
        throttle.require(ONE)


def test_the_memory_of_a_throttle_is_bounded_by_those_who_asked_of_late():
    now = [0.0]
    throttle = Throttle(1, lambda: now[0])
    for number in range(10_000):
        now[0] += 0.01
        throttle.require(agent_id(name=f"a{number}"))

    assert len(throttle._buckets) <= 4_097


async def test_a_request_beyond_the_rate_is_answered_429_with_its_limit(tmp_path):
    async with running(tmp_path, bounds=Bounds(requests_per_s_max=0.5)) as world:
        wire = await Wire.agent(world)
        wire.send("GET /v1/trust HTTP/1.1\nHost: localhost")
        await wire.answer()
        wire.send("GET /v1/trust HTTP/1.1\nHost: localhost")
        status, problem = await wire.problem()

        assert (status, problem["limit"], problem["family"]) == (429, "requests_per_s_max", "Throttled")
        assert problem["retry_after_s"] >= 1
