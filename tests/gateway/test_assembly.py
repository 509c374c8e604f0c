"""A site ends although something in it did not hear that it should."""

import asyncio

from gateway.assembly import _end


async def test_a_task_whose_cancellation_was_swallowed_is_cancelled_again():
    begun, swallowed = asyncio.Event(), 0

    async def deaf() -> None:
        nonlocal swallowed
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(deaf())
    await begun.wait()
    await _end(task)

    assert (swallowed, task.cancelled()) == (1, True)
