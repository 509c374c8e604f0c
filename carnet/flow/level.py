"""How hard to compress: what the link takes and how much is new decide, segment by segment.

Where the next stage always has room, compressing is what the push waits for, and the level is the base: 1 where most is new, 3
where little is. Where segments wait to be sent, time is left, and the level rises one step a second, as far as the measured rate
of the link makes it worth. The rates are those at which a level pays on two cores: above 50 MB/s the sum of processor time is
the limit, not the link.

Rules:      1. a level that the caller fixed stays  2. up one step at most each `_WINDOW_S`, down one as soon as nothing waits
Spec:       docs/performance.md section "The level of compression"; RFC 8878 (levels are the writer's own affair)
Example:    >>> control = LevelControl(None, has_bases=True, progress=Progress(), clock=lambda: 0.0)
            >>> control.level
            3
"""

import threading
from collections.abc import Callable
from typing import Final

from carnet.flow.progress import Progress
from carnet.limits import MIB

_LADDER: Final = ((1, float("inf")), (3, 50e6), (6, 15e6), (9, 4e6), (12, 1e6))
"""Levels, and the rate of the link (sealed bytes a second) below which each pays."""
_WINDOW_S: Final = 1.0
_JUDGED_BYTES: Final = 16 * MIB
"""Read before what is new is compared with what was there."""


class LevelControl:
    """The level of one push; any of its threads may ask and tell."""

    def __init__(self, fixed: int | None, *, has_bases: bool, progress: Progress, clock: Callable[[], float]) -> None:
        """Use `fixed` always, if given. `clock` gives seconds and never goes back."""
        self._fixed = fixed
        self._has_bases = has_bases
        self._progress = progress
        self._clock = clock
        self._lock = threading.Lock()
        self._raised = 0  # steps of the ladder above the base
        self._since: tuple[float, int] | None = None
        """Since when segments have been waiting, and how many sealed bytes had been sent then."""

    @property
    def level(self) -> int:
        """The zstd level for the next segment."""
        if self._fixed is not None:
            return self._fixed
        return _LADDER[min(self._base + self._raised, len(_LADDER) - 1)][0]

    @property
    def _base(self) -> int:
        """The step of the ladder for a link that takes everything."""
        if not self._has_bases:
            return 0
        done, saved = self._progress.done, self._progress.saved
        return 0 if done >= _JUDGED_BYTES and 2 * saved < done else 1

    def sealed(self, *, waited: bool) -> None:
        """Learn that a segment was handed on, and whether it had to wait for room."""
        if self._fixed is not None:
            return
        with self._lock:
            if not waited:
                self._since = None
                self._raised = max(0, self._raised - 1)
                return
            moment, sent = self._clock(), self._progress.wire_bytes
            if self._since is None:
                self._since = moment, sent
                return
            elapsed = moment - self._since[0]
            if elapsed < _WINDOW_S:
                return
            rate = (sent - self._since[1]) / elapsed
            self._since = moment, sent
            wanted = max(step for step, (_, below) in enumerate(_LADDER) if rate < below)
            if self._base + self._raised < wanted:
                self._raised += 1
