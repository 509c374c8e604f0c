"""The pace towards one gateway: how many requests go at once; more while all is well, fewer once the gateway says it is busy.

Hundreds of senders cannot know of each other. What each can know is whether its gateway takes what it sends: so everybody begins
with one request at a time, adds one for each prompt answer while more wait, and halves once the gateway says that it is busy. A
crowd then has few connections each and all get on, instead of a few that have all of them. Who begins, tries for one more, or was
answered late, asks before it sends a body: what a hundred of them wait for then costs a gateway a hundred heads, not a hundred
megabytes at once. A gateway that wanted a body at once is not the one that is slow: then the link is, which more at once fill.

A few requests keep a gateway that is near busy; more would only take memory on both sides. One that is far away spends most of a
request's time on the way: how many are the most follows from how long the quickest answer took.

Rules:      1. between 1 and `most`  2. what only waits for news takes no turn  3. once the gateway was busy, growth is slow
Precedent:  TCP's slow start, and its additive increase and multiplicative decrease (RFC 5681)
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from carnet.errors import Unavailable
from carnet.flow.slots import ChangingSlots

NEAR: Final = 6
"""Requests at once that keep a gateway busy which answers without delay."""
FAR: Final = 16
"""The most, however far: what a gateway takes of one identity by default."""
_ONE_MORE_S: Final = 0.013
"""Of the quickest answer's time, for each request at once: at a round trip of 200 ms, 16 segments of 2 MiB are 80 MiB/s."""
_ANSWERS_A_STEP: Final = 16
"""Answers for one more request at once, after the gateway was busy."""
_PROMPT_S: Final = 1.0
"""What took longer, the answer or the gateway's word that it wants the body, is little reason to ask for more at once."""
_SLOW_WEIGHT: Final = 0.25
"""What it counts."""
_LATE_S: Final = 2.0
"""After an answer that took longer, the next body is sent once the gateway asks for it: until then it waits here, not there."""


class Turn:
    """One request's turn."""

    def __init__(self, begun: float, *, asks_first: bool) -> None:
        """Begin at `begun`, on the loop's clock."""
        self.asks_first = asks_first
        """Whether a large body is sent only once the gateway wants it."""
        self._begun = begun
        self._wanted: float | None = None

    def body_begins(self) -> None:
        """Note that the first byte of the body goes: a gateway that was asked first wants it."""
        if self.asks_first:
            self._wanted = asyncio.get_running_loop().time()

    def is_prompt(self, answered: float) -> bool:
        """Tell whether the gateway lost no time, however long the body was on its way; `answered` is when the answer came."""
        return (answered if self._wanted is None else self._wanted) - self._begun < _PROMPT_S


class Pace:
    """The turns of one client's requests to one gateway; owned by one event loop."""

    def __init__(self, near: int, far: int) -> None:
        """Allow up to `near` at once, and up to `far` if the gateway turns out to be far away."""
        self._near, self._far = near, far
        self._quickest_s = 0.0
        self.slots = ChangingSlots(lambda: self._allowed)
        """For the senders of segments."""
        self._allowed = 1
        self._running = 0
        self._waiting = 0
        self._proven = 1  # as many at once as were answered together
        self._asks = True
        self._is_late = True  # nothing is known yet
        self._answers_a_step = 1
        self._answers = 0.0
        self._changed = asyncio.Event()

    @property
    def allowed(self) -> int:
        """How many requests may be under way now."""
        return self._allowed

    @property
    def most(self) -> int:
        """How many it may become, by what is known now."""
        return max(self._near, min(self._far, math.ceil(self._quickest_s / _ONE_MORE_S)))

    @asynccontextmanager
    async def turn(self, *, is_large: bool = False) -> AsyncIterator[Turn]:
        """Wait for a turn and hold it for as long as the context lasts.

        A large body is asked for first at the very beginning, when this turn tries for more at once than was answered before, and
        while the gateway is late. E-BUSY that passes through it slows down the others.
        """
        while self._running >= self._allowed:
            self._changed.clear()
            self._waiting += 1
            try:
                await self._changed.wait()
            finally:
                self._waiting -= 1
        self._running += 1
        beside = self._running
        begun = asyncio.get_running_loop().time()
        turn = Turn(begun, asks_first=is_large and self._asks and (beside > self._proven or self._is_late))
        try:
            yield turn
        except Unavailable as error:
            if error.code == "E-BUSY":
                self._slow_down()
            raise
        else:
            self._proven = max(self._proven, min(beside, self._allowed))
            answered = asyncio.get_running_loop().time()
            if is_large:
                self._is_late = answered - begun >= _LATE_S
            elif not self._quickest_s or answered - begun < self._quickest_s:
                self._quickest_s = answered - begun
            self._speed_up(is_prompt=turn.is_prompt(answered))
        finally:
            self._running -= 1
            self._changed.set()
            self.slots.offer()

    def stop_asking(self) -> None:
        """Ask first no more: nobody answers such a question."""
        self._asks = False

    def _slow_down(self) -> None:
        self._allowed = max(1, min(self._allowed, self._running) // 2)
        self._answers_a_step, self._answers = _ANSWERS_A_STEP, 0.0
        self._proven = self._allowed

    def _speed_up(self, *, is_prompt: bool) -> None:
        """Count an answer; one that nobody waited for says nothing about how many the gateway would take."""
        if not (self._waiting or self.slots.is_wanted) or self._allowed >= self.most:
            return
        self._answers += 1.0 if is_prompt else _SLOW_WEIGHT
        if self._answers >= self._answers_a_step:
            self._allowed, self._answers = self._allowed + 1, 0.0
