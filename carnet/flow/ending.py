"""Ending: whoever is cancelled goes on only when the threads that work for him have ended.

A thread cannot be cancelled. One that is left behind still reads a buffer, or writes to a file that somebody else closes
meanwhile; its number may be another file's by then.

Rules:      1. what was begun here is awaited to its end, however often the caller is cancelled  2. its error is looked at
Spec:       docs/life-of-a-chunk.md
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


def begin_in_thread(function: Callable[[*Arguments], Result], *arguments: *Arguments) -> "asyncio.Future[Result]":
    """Begin to run `function` in a thread, in the caller's context; who begins awaits the end."""
    context = contextvars.copy_context()
    return asyncio.get_running_loop().run_in_executor(None, context.run, function, *arguments)


async def in_thread(function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Return what `function` returns in a thread; when cancelled, raise that once the thread has left it."""
    work = begin_in_thread(function, *arguments)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await ended([work])
        raise


async def ended(work: "Sequence[asyncio.Future[Any]]") -> None:
    """Return when all of `work` has ended, however often we are cancelled meanwhile; what failed in it counts as looked at."""
    ending = asyncio.gather(*work, return_exceptions=True)
    cancelled: asyncio.CancelledError | None = None
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
