"""What stages hand each other is bounded, in order, and ends when the work is stopped."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from carnet.flow.handover import LoopQueue, Stop, Stopped, ThreadQueue


def test_what_one_thread_puts_another_takes_in_that_order() -> None:
    things: ThreadQueue[int] = ThreadQueue(3, Stop())

    with ThreadPoolExecutor(1) as other:
        putting = other.submit(lambda: [things.put(number) for number in range(100)])
        taken = [things.take() for _ in range(100)]
        putting.result()

    assert taken == list(range(100))


def test_a_thread_that_finds_no_room_goes_on_once_something_was_taken() -> None:
    things: ThreadQueue[int] = ThreadQueue(2, Stop())
    things.put(0)
    things.put(1)

    with ThreadPoolExecutor(1) as other:
        putting = other.submit(things.put, 2)
        assert not putting.done()
        assert things.take() == 0
        putting.result()

    assert [things.take(), things.take()] == [1, 2]


@pytest.mark.parametrize("side", ["put", "take"])
def test_whoever_waits_when_the_work_is_stopped_ends(side: str) -> None:
    stop = Stop()
    things: ThreadQueue[int] = ThreadQueue(1, stop)
    if side == "put":
        things.put(0)

    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(things.put, 1) if side == "put" else other.submit(things.take)
        stop.set()
        with pytest.raises(Stopped):
            waiting.result()


@pytest.mark.parametrize("side", ["put", "take"])
def test_a_stop_ends_however_many_wait(side: str) -> None:
    stop = Stop()
    things: ThreadQueue[int] = ThreadQueue(1, stop)
    if side == "put":
        things.put(0)

    with ThreadPoolExecutor(20) as others:
        waiting = [others.submit(things.put, 1) if side == "put" else others.submit(things.take) for _ in range(20)]
        stop.set()
        ended = [isinstance(one.exception(), Stopped) for one in waiting]

    assert ended == [True] * 20


def test_after_a_stop_nothing_is_taken_any_more() -> None:
    stop = Stop()
    things: ThreadQueue[int] = ThreadQueue(2, stop)
    things.put(0)
    stop.set()

    with pytest.raises(Stopped):
        things.take()
    with pytest.raises(Stopped):
        things.put(1)


async def test_a_task_takes_what_threads_put_and_learns_of_the_end() -> None:
    loop = asyncio.get_running_loop()
    things: LoopQueue[int] = LoopQueue(2, Stop())
    taken: list[int] = []

    async def take_all() -> None:
        while (thing := await things.take()) is not None:
            taken.append(thing)

    with ThreadPoolExecutor(2) as others:
        taker = asyncio.create_task(take_all())
        await asyncio.gather(*(loop.run_in_executor(others, put_each, things, start, start + 50) for start in (0, 50)))
        things.end()
        await taker

    assert sorted(taken) == list(range(100))


def put_each(things: LoopQueue[int], start: int, end: int) -> None:
    for number in range(start, end):
        things.put(number)


async def test_a_thread_that_finds_no_room_before_the_loop_goes_on_once_something_was_taken() -> None:
    things: LoopQueue[int] = LoopQueue(2, Stop())
    put_each(things, 0, 2)

    with ThreadPoolExecutor(1) as other:
        putting = other.submit(things.put, 2)
        assert not putting.done()
        assert await things.take() == 0
        await asyncio.wrap_future(putting)

    assert [await things.take(), await things.take()] == [1, 2]


async def test_a_thread_that_waits_for_the_loop_ends_when_the_work_is_stopped() -> None:
    stop = Stop()
    things: LoopQueue[int] = LoopQueue(1, stop)
    things.put(0)

    with ThreadPoolExecutor(1) as other:
        putting = other.submit(things.put, 1)
        stop.set()
        with pytest.raises(Stopped):
            await asyncio.wrap_future(putting)
