import asyncio
import threading

import pytest

from carnet.errors import Unavailable
from gateway import batching
from gateway.batching import BatchThread


def doubling(batch):
    for item in batch:
        item.result = item.work * 2


@pytest.fixture
def doubler():
    group = BatchThread("double", doubling)
    yield group
    group.close()


async def test_each_caller_gets_the_answer_to_its_own_work(doubler):
    assert await asyncio.gather(*(doubler.submit(number) for number in range(50))) == [2 * number for number in range(50)]


async def test_work_that_waits_is_done_as_one_batch():
    gate, sizes = threading.Event(), []

    def process(batch):
        gate.wait(5)
        sizes.append(len(batch))

    group = BatchThread("slow", process, items_max=64)
    waiting = [asyncio.ensure_future(group.submit(number)) for number in range(101)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*waiting)
    group.close()

    assert sum(sizes) == 101
    assert len(sizes) <= 4
    assert max(sizes) == 64


async def test_an_error_of_the_batch_is_everyones_and_the_thread_goes_on():
    def process(batch):
        if any(item.work == "bad" for item in batch):
            raise ValueError("bad batch")
        for item in batch:
            item.result = "done"

    group = BatchThread("failing", process)
    with pytest.raises(ValueError, match="bad batch"):
        await group.submit("bad")

    assert await group.submit("good") == "done"
    group.close()


async def test_a_caller_that_gave_up_does_not_disturb_the_others(doubler):
    given_up = asyncio.ensure_future(doubler.submit(1))
    await asyncio.sleep(0)
    given_up.cancel()

    assert await doubler.submit(2) == 4


async def test_listeners_are_told_before_the_callers_go_on():
    order = []
    group = BatchThread("told", lambda _: "changed", notify=order.append)

    await group.submit(1)
    order.append("answered")
    group.close()

    assert order == ["changed", "answered"]


async def test_closing_finishes_what_was_submitted_and_refuses_the_rest(doubler):
    waiting = asyncio.ensure_future(doubler.submit(21))
    await asyncio.sleep(0)
    doubler.close()
    doubler.close()

    assert await waiting == 42
    with pytest.raises(Unavailable):
        await doubler.submit(1)


async def test_more_work_than_the_bound_is_told_to_come_again(monkeypatch):
    gate, started = threading.Event(), threading.Event()

    def process(batch):
        started.set()
        gate.wait(5)

    group = BatchThread("full", process)
    monkeypatch.setattr(batching, "WAITING_ITEMS_MAX", 3)
    first = asyncio.ensure_future(group.submit(0))
    await asyncio.sleep(0)
    await asyncio.to_thread(started.wait, 5)
    waiting = [asyncio.ensure_future(group.submit(number)) for number in range(4)]
    await asyncio.sleep(0)

    refused = waiting[3]
    gate.set()
    with pytest.raises(Unavailable):
        await refused
    await asyncio.gather(first, *waiting[:3])
    group.close()
