"""Wakes whoever waits for a transfer to change: the long poll behind `carnet push --wait`.

The catalog tells which transfers a commit touched; waiters are futures by transfer, all on the event loop.
"""

import asyncio

from carnet.identifiers import TransferId


class Changes:
    """Who waits for what; owned by the event loop."""

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._waiting: dict[TransferId, set[asyncio.Future[None]]] = {}

    def tell(self, transfers: frozenset[TransferId]) -> None:
        """Wake everyone who waits for one of `transfers`."""
        for transfer in transfers & self._waiting.keys():
            for waiter in self._waiting.pop(transfer):
                if not waiter.done():
                    waiter.set_result(None)

    async def wait(self, transfer: TransferId, timeout_s: float) -> None:
        """Return at the next change of the transfer, or after `timeout_s` seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(transfer, set()).add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return
        finally:
            waiting = self._waiting.get(transfer)
            if waiting is not None:
                waiting.discard(waiter)
                if not waiting:
                    del self._waiting[transfer]
