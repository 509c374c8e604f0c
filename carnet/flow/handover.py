"""How the stages of a push hand their work on: bounded queues between threads, and from threads to the event loop.

A place in the queue is a token. A thread that finds none waits for one, and looks now and then whether it should stop instead.
Both queues are of C: those of `queue.Queue` and of futures wake each waiter through locks made in Python, which cost a
tenth of what a client's interpreter did in a push of bytes that do not compress.

Rules:      1. at most `places` things are between the two sides  2. nobody waits longer than `_PATIENCE_S` past a stop
            3. what was put is taken in the order it was put
"""

import asyncio
import queue
import threading
from typing import Final, Generic, TypeVar

from carnet.errors import Unavailable

Thing = TypeVar("Thing")

_PATIENCE_S: Final = 0.2


class Stopped(Unavailable):
    """A stage ends because another one failed."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("E-INTERRUPTED", "the push was stopped")


class _Places:
    """Room for so many things; a thread waits for some until `stop` is set."""

    def __init__(self, places: int, stop: threading.Event) -> None:
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stop = stop
        for _ in range(places):
            self._free.put(None)

    def take(self) -> bool:
        """Wait for a place, and tell whether that was necessary; raise `Stopped` when there will be none."""
        waited = self._free.empty()
        while not self._stop.is_set():
            try:
                self._free.get(timeout=_PATIENCE_S)
            except queue.Empty:
                continue
            return waited
        raise Stopped

    def give(self) -> None:
        """Give a place back."""
        self._free.put(None)


class ThreadQueue(Generic[Thing]):
    """From threads to threads."""

    def __init__(self, places: int, stop: threading.Event) -> None:
        """Hold at most `places` things; once `stop` is set, both sides raise `Stopped`."""
        self._places = _Places(places, stop)
        self._stop = stop
        self._things: queue.SimpleQueue[Thing] = queue.SimpleQueue()

    def put(self, thing: Thing) -> None:
        """Hand on `thing`, waiting for room."""
        self._places.take()
        self._things.put(thing)

    def take(self) -> Thing:
        """Return the next thing, waiting for one."""
        while not self._stop.is_set():
            try:
                thing = self._things.get(timeout=_PATIENCE_S)
            except queue.Empty:
                continue
            self._places.give()
            return thing
        raise Stopped


class LoopQueue(Generic[Thing]):
    """From threads to one task of the event loop that is running when it is made."""

    def __init__(self, places: int, stop: threading.Event) -> None:
        """Hold at most `places` things; once `stop` is set, `put` raises `Stopped`."""
        self._places = _Places(places, stop)
        self._loop = asyncio.get_running_loop()
        self._things: asyncio.Queue[Thing | None] = asyncio.Queue()

    def put(self, thing: Thing) -> bool:
        """Hand on `thing` from a thread; return whether it had to wait for room."""
        waited = self._places.take()
        self._loop.call_soon_threadsafe(self._things.put_nowait, thing)
        return waited

    async def take(self) -> Thing | None:
        """Return the next thing, or None at the end."""
        thing = await self._things.get()
        if thing is not None:
            self._places.give()
        return thing

    def end(self) -> None:
        """Say that nothing follows; called on the loop, after the last `put` has returned."""
        self._things.put_nowait(None)
