"""Slots: how many segments one client has on their way at once, given out in the order in which they are asked for.

Whoever sends segments takes a slot before he reads the next one, so that what waits is on the disk and not in memory, and two
transfers to one gateway go on side by side, segment by segment, whichever is larger.

Rules:      1. first come, first served  2. whoever is cancelled while he waits holds none
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol


class Slots(Protocol):
    """What a sender needs; an `asyncio.Semaphore` is one whose number never changes."""

    async def acquire(self) -> object:
        """Wait for a slot and take it."""
        ...

    def release(self) -> None:
        """Give one back."""
        ...


class ChangingSlots:
    """Implements `Slots` with a number that may change at any time; owned by one event loop."""

    def __init__(self, allowed: Callable[[], int]) -> None:
        """Give out `allowed()` at once; call `offer` when that has become more."""
        self._allowed = allowed
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    async def acquire(self) -> None:
        """Wait for a slot and take it; see `Slots`."""
        if not self._waiting and self._taken < self._allowed():
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove(turn)
            else:
                self.release()
            raise

    def release(self) -> None:
        """Give one back; see `Slots`."""
        self._taken -= 1
        self.offer()

    def offer(self) -> None:
        """Give out what is free."""
        for turn in list(self._waiting):
            if self._taken >= self._allowed():
                return
            if not turn.done():
                self._waiting.remove(turn)
                self._taken += 1
                turn.set_result(None)
