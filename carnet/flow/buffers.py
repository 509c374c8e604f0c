"""Buffers that are used again: the memory of a pipeline is made once, not for each segment.

Fresh memory costs a page fault for every 4 KiB that is touched: a pass over the bytes that nobody asked for.

Rules:      1. who takes a buffer gives it back once nobody reads it any more; one that is not given back is merely lost
            2. what a buffer held before is still in it: the taker knows how much of it he has written
"""

from collections import deque


class Buffers:
    """Buffers of one size, made when first needed; any thread may take and give."""

    def __init__(self, size: int) -> None:
        """Lend buffers of `size` bytes; as many are made as are out at once."""
        self._size = size
        self._idle: deque[bytearray] = deque()

    def take(self) -> bytearray:
        """Return a buffer that nobody else has."""
        try:
            return self._idle.pop()
        except IndexError:
            return bytearray(self._size)

    def give(self, buffer: bytearray) -> None:
        """Take back a buffer, which its taker does not touch again."""
        self._idle.append(buffer)
