"""Admission: how many bytes of bodies may be in memory at once, in all and by identity, and how many requests a second.

A body that was not admitted yet waits in its connection, which stops reading after a few tens of KiB: so what a peer can make us
hold is the sum here, and a little for each connection.

Rules:      1. who is within its own share waits only for the sum, never behind another identity that used up its share
            2. what is larger than a share counts as a whole share, so that it passes alone  3. a refusal names the limit
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from carnet.errors import Throttled, Unavailable
from carnet.identifiers import SpiffeId
from carnet.limits import MIB
from gateway.http.bounds import Bounds

Holder = SpiffeId | None
"""Who asks; None stands for everybody without a certificate, together."""
SEGMENT_COST_BYTES: Final = 3 * MIB
"""What a segment on its way takes, measured: its buffer, and what TLS and the reader of its connection hold meanwhile."""
_KNOWN_MAX: Final = 4_096


@dataclass(frozen=True)
class _Waiter:
    holder: Holder
    size: int
    admitted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def is_admitted(self) -> bool:
        """Whether it was given its room, which somebody must give back."""
        return self.admitted.done() and not self.admitted.cancelled()


class Admission:
    """The bytes in flight; one a server, on its event loop."""

    def __init__(self, bounds: Bounds) -> None:
        """Begin with nothing in flight."""
        self._bytes_max = bounds.bytes_in_flight_max
        self._share_max = min(bounds.bytes_in_flight_per_identity_max, self._bytes_max)
        self._wait_s = bounds.buffer_wait_s
        self._held: dict[Holder, int] = {}
        self._in_flight = 0
        self._waiting: deque[_Waiter] = deque()

    @property
    def in_flight(self) -> int:
        """Bytes admitted now."""
        return self._in_flight

    @asynccontextmanager
    async def hold(self, holder: Holder, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes for as long as the context lasts.

        Raises:
            Throttled: E-BUSY naming bytes_in_flight_per_identity_max, if the share is still used up after `buffer_wait_s`.
            Unavailable: E-BUSY naming bytes_in_flight_max, if the sum is.
        """
        counted = min(size, self._share_max)
        await self._admit(holder, counted)
        try:
            yield
        finally:
            self._give_back(holder, counted)

    async def _admit(self, holder: Holder, size: int) -> None:
        if self._fits(holder, size):
            self._take(holder, size)
            return
        waiter = _Waiter(holder, size)
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._wait_s):
                await waiter.admitted
        except TimeoutError:
            # Admitted in the turn of the loop in which its time ran out: it has its room, and goes on.
            if not waiter.is_admitted:
                raise self._refusal(holder, size) from None
        except BaseException:
            if waiter.is_admitted:
                self._give_back(holder, size)
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _refusal(self, holder: Holder, size: int) -> Unavailable:
        if self._held.get(holder, 0) + size > self._share_max:
            text = f"{holder or 'clients without a certificate'}: too many bytes of bodies are on their way at once"
            return Throttled("E-BUSY", text, limit="bytes_in_flight_per_identity_max", retry_after_s=1)
        text = "too many bytes of bodies are on their way at once"
        return Unavailable("E-BUSY", text, limit="bytes_in_flight_max", retry_after_s=1)

    def _fits(self, holder: Holder, size: int) -> bool:
        return self._in_flight + size <= self._bytes_max and self._held.get(holder, 0) + size <= self._share_max

    def _take(self, holder: Holder, size: int) -> None:
        self._in_flight += size
        self._held[holder] = self._held.get(holder, 0) + size

    def _give_back(self, holder: Holder, size: int) -> None:
        self._in_flight -= size
        self._held[holder] -= size
        if not self._held[holder]:
            del self._held[holder]
        for waiter in tuple(self._waiting):
            # One that has given up stays here until its task has its turn: what it got now nobody would give back.
            if not waiter.admitted.done() and self._fits(waiter.holder, waiter.size):
                self._waiting.remove(waiter)
                self._take(waiter.holder, waiter.size)
                waiter.admitted.set_result(None)


class Throttle:
    """A token bucket for each identity: `rate` requests a second, twice as many in a burst. 0 means no limit."""

    def __init__(self, rate: float, monotonic: Callable[[], float]) -> None:
        """Take the rate and a clock that never goes back."""
        self._rate = rate
        self._burst = max(1.0, 2 * rate)
        self._monotonic = monotonic
        self._buckets: dict[SpiffeId, tuple[float, float]] = {}

    def require(self, identity: SpiffeId) -> None:
        """Count one request; raise `Throttled` E-BUSY if `identity` has made too many."""
        if not self._rate:
            return
        now = self._monotonic()
        tokens, since = self._buckets.get(identity, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        if tokens < 1:
            wait_s = max(1, round((1 - tokens) / self._rate))
            raise Throttled(
                "E-BUSY", f"{identity} makes more than {self._rate:g} requests a second", limit="requests_per_s_max",
                retry_after_s=wait_s,
            )  # fmt: skip
        self._buckets[identity] = (tokens - 1, now)
        if len(self._buckets) > _KNOWN_MAX:
            self._forget_full(now)

    def _forget_full(self, now: float) -> None:
        """Forget who has not asked for so long that its bucket is full: it starts with a full one."""
        self._buckets = {
            identity: (tokens, since)
            for identity, (tokens, since) in self._buckets.items()
            if tokens + (now - since) * self._rate < self._burst
        }
