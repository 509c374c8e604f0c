"""Refusals in the log: each with its code and who it was, but no faster than a disk and a reader can bear.

A client that is refused a thousand times a second must not fill the log with it. So an identity has a few lines a second; the
next one that is written tells how many were left out.
"""

from collections.abc import Callable
from typing import Final

RATE_PER_S: Final = 5.0
BURST: Final = 50.0
_KNOWN_MAX: Final = 1_024


class RefusalLog:
    """Decides which refusals are written."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Take a clock that never goes back."""
        self._monotonic = monotonic
        self._buckets: dict[str, tuple[float, float, int]] = {}

    def admit(self, who: str) -> int | None:
        """Return how many refusals of `who` were left out before this one, which is to be written; None to leave it out."""
        now = self._monotonic()
        tokens, since, left_out = self._buckets.get(who, (BURST, now, 0))
        tokens = min(BURST, tokens + (now - since) * RATE_PER_S)
        if tokens < 1:
            self._buckets[who] = (tokens, now, left_out + 1)
            return None
        if len(self._buckets) >= _KNOWN_MAX and who not in self._buckets:
            self._buckets.clear()
        self._buckets[who] = (tokens - 1, now, 0)
        return left_out
