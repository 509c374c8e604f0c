"""Turns at the processors: how many threads of this process compute at once, however many pushes it runs.

Fifty pushes have two hundred threads that want to compute. If all may, each is slow, none has its first segment ready, and who
shares the machine, a gateway at whose other end they wait or the loop that sends, waits behind two hundred. So a thread takes a
turn for a piece of work that only computes, a few milliseconds, and gives it back before it waits for anything.

Rules:      1. a turn is never held while waiting for bytes, for room or for the loop
            2. as many turns as processors, and at least two: one push alone cuts and seals side by side
"""

import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PROCESSORS: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_EACH: Final = max(2, _PROCESSORS)
_free: "Final[queue.SimpleQueue[None]]" = queue.SimpleQueue()
for _ in range(_EACH):
    _free.put(None)


@contextmanager
def turn() -> Iterator[None]:
    """Wait for a turn, and have it as long as the context."""
    _free.get()
    try:
        yield
    finally:
        _free.put(None)


@contextmanager
def turn_given_back() -> Iterator[None]:
    """Within a turn: be without it as long as the context, to wait for something."""
    _free.put(None)
    try:
        yield
    finally:
        _free.get()
