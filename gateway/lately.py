"""Which transfers took a segment a moment ago: the next one need not be asked for before its bytes are stored.

A segment is judged when it is recorded, in the transaction that records it. Asking before, too, only keeps bytes from being
stored in vain, and it costs a change of threads for each; a transfer that was judged a fraction of a second ago is not asked.

Rules:      1. it spares a question, it never answers one  2. few are remembered, and not for long
"""

import asyncio
from collections import OrderedDict
from typing import Final

from carnet.identifiers import SpiffeId, TransferId

_MOMENT_S: Final = 0.5
_KNOWN_MAX: Final = 1_024


class Lately:
    """Transfers and their senders, by when a segment was last taken on the clock of the event loop, which owns this."""

    def __init__(self) -> None:
        """Remember none."""
        self._times: OrderedDict[tuple[SpiffeId, TransferId], float] = OrderedDict()

    def has(self, identity: SpiffeId, transfer: TransferId) -> bool:
        """Tell whether the transfer took a segment of this identity within the last half second."""
        at = self._times.get((identity, transfer))
        return at is not None and asyncio.get_running_loop().time() - at < _MOMENT_S

    def remember(self, identity: SpiffeId, transfer: TransferId) -> None:
        """Note that it took one now."""
        self._times[identity, transfer] = asyncio.get_running_loop().time()
        self._times.move_to_end((identity, transfer))
        if len(self._times) > _KNOWN_MAX:
            self._times.popitem(last=False)

    def forget(self, identity: SpiffeId, transfer: TransferId) -> None:
        """Ask again before its next segment."""
        self._times.pop((identity, transfer), None)
