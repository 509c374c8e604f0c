"""How the stages of a push hand their work on: bounded queues between threads, and from threads to the event loop.

A place in the queue is a token. A thread that finds none waits for one; a stop wakes one waiter of each queue, and each wakes the
next. So hundreds of threads may wait, and none of them runs meanwhile. Both queues are of C: those of `queue.Queue` and of
futures wake each waiter through locks made in Python, a tenth of what a client's interpreter did in a push of bytes that do not
compress.

Rules:      1. at most `places` things are between the two sides  2. nobody waits past a stop
            3. what was put is taken in the order it was put
"""

import asyncio
import queue
import threading
from typing import Any, Final, Generic, TypeVar

from carnet.errors import Unavailable

Thing = TypeVar("Thing")

_WAKE: Final = None


class Stopped(Unavailable):
    """A stage ends because another one failed."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("E-INTERRUPTED", "the push was stopped")


class Stop:
    """Whether the stages of one push must end; set once, from any thread."""

    def __init__(self) -> None:
        """Nothing is stopped yet."""
        self._event = threading.Event()
        self._queues: list[queue.SimpleQueue[Any]] = []

    def is_set(self) -> bool:
        """Tell whether to stop."""
        return self._event.is_set()

    def set(self) -> None:
        """Stop, and wake whoever waits at one of the queues."""
        self._event.set()
        for one in self._queues:
            one.put(_WAKE)

    def new_queue(self) -> "queue.SimpleQueue[Any]":
        """Return a queue whose waiters a stop wakes; made before anything can be stopped."""
        made: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._queues.append(made)
        return made

    def take(self, waited_for: "queue.SimpleQueue[Any]") -> Any:
        """Wait for what is in the queue; raise `Stopped` once there is a stop, whatever is in it."""
        if not self.is_set():
            found = waited_for.get()
            if not self.is_set():
                return found
            waited_for.put(_WAKE)  # for the next who waits
        raise Stopped


class _Places:
    """Room for so many things; a thread waits for some until there is a stop."""

    def __init__(self, places: int, stop: Stop) -> None:
        self._stop = stop
        self._free = stop.new_queue()
        for _ in range(places):
            self._free.put(None)

    def take(self) -> bool:
        """Wait for a place, and tell whether that was necessary; raise `Stopped` when there will be none."""
        waited = self._free.empty()
        self._stop.take(self._free)
        return waited

    def give(self) -> None:
        """Give a place back."""
        self._free.put(None)


class ThreadQueue(Generic[Thing]):
    """From threads to threads."""

    def __init__(self, places: int, stop: Stop) -> None:
        """Hold at most `places` things; once `stop` is set, both sides raise `Stopped`."""
        self._places = _Places(places, stop)
        self._stop = stop
        self._things = stop.new_queue()

    def put(self, thing: Thing) -> None:
        """Hand on `thing`, waiting for room."""
        self._places.take()
        self._things.put(thing)

    def take(self) -> Thing:
        """Return the next thing, waiting for one."""
        thing: Thing = self._stop.take(self._things)
        self._places.give()
        return thing


class LoopQueue(Generic[Thing]):
    """From threads to one task of the event loop that is running when it is made."""

    def __init__(self, places: int, stop: Stop) -> None:
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
