"""What the allocator does with large pieces of memory: a segment is the system's own, and goes back to it when it is freed.

The C library raises, by itself, the size from which it does that; after the first segments it would keep everything of their
size, in pieces that fit nothing else. A crowd of connections then left a third more behind than it ever needed. What TLS writes
at once is smaller and is kept: the system would clear each of these pieces again.

Rules:      1. where the C library is another, nothing is changed and nothing fails
Source:     mallopt(3)
"""

import ctypes
from typing import Final

from carnet.limits import KIB, MIB

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
LARGE_BYTES: Final = 512 * KIB
"""Less than a segment, more than a piece of an answer in TLS."""
_FREE_BYTES: Final = 2 * MIB
"""What may lie free at the end of a heap before it goes back."""
_ARENAS: Final = 2
"""Heaps that threads share; more let less be used again."""


def give_back_early() -> bool:
    """Set up this process's allocator; return whether it has what is set."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = {_M_MMAP_THRESHOLD: LARGE_BYTES, _M_TRIM_THRESHOLD: _FREE_BYTES, _M_ARENA_MAX: _ARENAS}
    return all(bool(mallopt(parameter, value)) for parameter, value in wanted.items())
