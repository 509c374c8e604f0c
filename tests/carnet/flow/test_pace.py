"""The pace: what a client allows itself at once, by what its gateway answers."""

import asyncio

import pytest

from carnet.errors import NotFound, Unavailable
from carnet.flow.pace import Pace

BUSY = Unavailable("E-BUSY", "not now", limit="connections_per_identity_max")


async def ask(pace: Pace, count: int, error: Exception | None = None) -> int:
    """Have `count` requests at once; return how many were under way together at most."""
    running, most = 0, 0

    async def one() -> None:
        nonlocal running, most
        async with pace.turn():
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            if error is not None:
                raise error

    await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
    return most


async def test_a_client_begins_with_one_request_and_comes_to_all_it_may_have_after_as_many_answers():
    pace = Pace(4, 4)

    assert await ask(pace, 1) == 1
    assert await ask(pace, 20) == 4
    assert pace.allowed == 4


async def test_who_asks_one_thing_after_another_asks_for_no_more_at_once():
    pace = Pace(4, 4)
    for _ in range(50):
        await ask(pace, 1)

    assert pace.allowed == 1


async def test_a_busy_gateway_gets_half_at_once_and_one_at_least():
    pace = Pace(8, 8)
    await ask(pace, 40)
    await ask(pace, 1, BUSY)
    assert pace.allowed == 1
    assert await ask(pace, 5) == 1

    await ask(pace, 3, BUSY)
    assert pace.allowed == 1


async def test_after_a_gateway_was_busy_growth_is_slow():
    pace = Pace(4, 4)
    await ask(pace, 20)
    await ask(pace, 4, BUSY)
    await ask(pace, 16)
    assert pace.allowed == 1
    await ask(pace, 20)
    assert pace.allowed == 3


async def test_an_answer_that_took_long_counts_little(monkeypatch):
    pace, loop = Pace(4, 4), asyncio.get_running_loop()

    async def one(number: int) -> None:
        async with pace.turn():
            hours = loop.time() + 3_600 * (number + 1)
            await asyncio.sleep(0)
            monkeypatch.setattr(loop, "time", lambda: hours)

    await asyncio.gather(*(one(number) for number in range(4)))
    assert pace.allowed == 1

    await asyncio.gather(*(one(number) for number in range(4, 12)))
    assert pace.allowed == 3


@pytest.mark.parametrize(("until_wanted_s", "allowed"), [(0.1, 4), (5.0, 1)])
async def test_a_slow_link_to_a_gateway_that_wants_each_body_at_once_gets_more_at_once(monkeypatch, until_wanted_s, allowed):
    pace, loop = Pace(4, 4), asyncio.get_running_loop()

    async def one() -> None:
        async with pace.turn(is_large=True) as turn:
            pass_time(monkeypatch, loop, until_wanted_s)
            turn.body_begins()
            pass_time(monkeypatch, loop, 60.0)
            await asyncio.sleep(0)

    await asyncio.gather(*(one() for _ in range(4)))
    assert pace.allowed == allowed


def pass_time(monkeypatch, loop, seconds: float) -> None:
    then = loop.time() + seconds
    monkeypatch.setattr(loop, "time", lambda: then)


async def test_the_first_large_body_is_asked_for_first_and_each_while_the_gateway_is_late(monkeypatch):
    pace, loop, asked = Pace(1, 1), asyncio.get_running_loop(), list[bool]()

    async def one(seconds: float) -> None:
        async with pace.turn():
            pass  # what is small says nothing about it
        async with pace.turn(is_large=True) as turn:
            asked.append(turn.asks_first)
            then = loop.time() + seconds
            monkeypatch.setattr(loop, "time", lambda: then)

    for seconds in (0.1, 5.0, 0.1, 0.1):
        await one(seconds)

    assert asked == [True, False, True, False]


async def test_other_failures_say_nothing_about_the_pace():
    pace = Pace(4, 4)
    await ask(pace, 20)
    await ask(pace, 8, NotFound("E-SEGMENT-UNKNOWN", "no such segment"))
    await ask(pace, 8, Unavailable("E-UNREACHABLE", "no route"))

    assert pace.allowed == 4


async def test_one_that_waits_and_is_cancelled_holds_no_turn():
    pace = Pace(1, 1)
    async with pace.turn():
        waiting = asyncio.create_task(ask(pace, 1))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    assert await asyncio.wait_for(ask(pace, 2), 60) >= 1


async def test_only_who_tries_for_more_at_once_than_was_answered_before_asks_first():
    pace, tries = Pace(2, 2), list[bool]()

    async def one() -> None:
        async with pace.turn(is_large=True) as turn:
            tries.append(turn.asks_first)
            await asyncio.sleep(0)

    await one()
    tries.clear()
    await asyncio.gather(*(one() for _ in range(6)))
    assert tries.count(True) == 1


async def far(monkeypatch, pace: Pace, round_trip_s: float, answers: int) -> None:
    """Have a small answer and then large ones, all at that distance."""
    loop = asyncio.get_running_loop()
    async with pace.turn():
        pass_time(monkeypatch, loop, round_trip_s)

    async def one() -> None:
        async with pace.turn(is_large=True) as turn:
            turn.body_begins()
            await asyncio.sleep(0)
        pace.slots.release()

    for _ in range(answers):
        await pace.slots.acquire()
        await asyncio.gather(one(), asyncio.sleep(0))


@pytest.mark.parametrize(("round_trip_s", "most"), [(0.0005, 4), (0.03, 4), (0.06, 5), (0.1, 8), (0.2, 16), (0.9, 24)])
async def test_a_gateway_that_is_far_away_may_get_more_at_once(monkeypatch, round_trip_s, most):
    pace = Pace(4, 24)
    assert pace.most == 4

    await far(monkeypatch, pace, round_trip_s, 1)
    assert pace.most == most


async def test_the_quickest_small_answer_says_how_far_away_a_gateway_is(monkeypatch):
    pace = Pace(4, 24)
    for seconds in (3.0, 0.1, 2.0):
        await far(monkeypatch, pace, seconds, 0)

    assert pace.most == 8


async def test_senders_get_their_slots_in_the_order_in_which_they_asked():
    pace, order = Pace(2, 2), list[str]()

    async def send(name: str) -> None:
        await pace.slots.acquire()
        order.append(name)
        async with pace.turn(is_large=True):
            await asyncio.sleep(0)
        pace.slots.release()

    async def send_all(name: str, count: int) -> None:
        for _ in range(count):
            await send(name)

    await asyncio.gather(send_all("large", 30), send_all("small", 5))
    assert len(order) == 35
    assert order.index("small") < 3
    last = max(place for place, name in enumerate(order) if name == "small")
    assert last < 14, "the smaller one is not behind all of the larger"


async def test_a_sender_that_waits_lets_more_go_at_once():
    pace = Pace(4, 4)

    async def send() -> None:
        async with pace.turn(is_large=True):
            await asyncio.sleep(0)
        pace.slots.release()

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            await pace.slots.acquire()
            group.create_task(send())

    assert pace.allowed == 4


@pytest.mark.parametrize("has_its_turn", [False, True])
async def test_a_sender_that_is_cancelled_holds_no_slot(has_its_turn):
    pace = Pace(1, 1)
    await pace.slots.acquire()
    waiting = asyncio.create_task(pace.slots.acquire())
    behind = asyncio.create_task(pace.slots.acquire())
    await asyncio.sleep(0)
    if has_its_turn:
        pace.slots.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not has_its_turn:
        pace.slots.release()

    await asyncio.wait_for(behind, 60)
    assert not pace.slots.is_wanted
