"""What the allocator does with large pieces of memory: each is the system's own, and goes back to it at once when it is freed.

The C library raises, by itself, the size from which it does that; after the first segment it would keep everything of the size of
a TLS buffer, in pieces that fit nothing else. A crowd of connections then left a third more behind than it ever needed.

Rules:      1. where the C library is another, nothing is changed and nothing fails
Source:     mallopt(3)
"""

import ctypes
from typing import Final

from carnet.limits import KIB

_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
LARGE_BYTES: Final = 256 * KIB
"""What uvloop takes for the TLS of each connection; a segment is larger."""
_ARENAS: Final = 2
"""Heaps that threads share; more let less be used again."""


def give_back_early() -> bool:
    """Set up this process's allocator; return whether it has what is set."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)) and bool(mallopt(_M_ARENA_MAX, _ARENAS))
