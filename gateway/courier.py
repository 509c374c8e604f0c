"""How one site speaks to another about a transfer, whatever lies between them: the port, and the way without relays.

Use cases ask the courier for a line and speak over it; whether that is a connection to the other site or a passage over relays
is the lane's affair. Over relays an answer takes its time: the line then raises `Awaiting`, the job ends, and it runs again from
its beginning when the answer is here.

Rules:      1. what a line returned once it returns again: a handler may run any number of times
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from carnet.flow.client import PeerClient
from carnet.flow.slots import Slots
from carnet.identifiers import SegmentId, SiteName, TransferId
from carnet.messages import ForwardRequest, ForwardResponse, SiteMessage
from gateway.ports import BlobReader
from gateway.records import JobRecord

_COUNT_EVERY: Final = 32
"""Segments between two updates of the delivery's counters."""

Count = Callable[[int, int], Awaitable[None]]
"""Is told how many more segments, and how many bytes of them, the other side acknowledged; may raise to stop."""


class Line(Protocol):
    """One site's line to another about one transfer. Every call may raise `Awaiting`, and what the other site raised."""

    async def declare(self, request: ForwardRequest) -> ForwardResponse:
        """Declare the transfer; the answer says what is missing there."""
        ...

    async def send(self, segments: Mapping[SegmentId, int], count: Count) -> None:
        """Send segments, given with their sizes; `count` is told now and then how much went."""
        ...

    async def commit(self) -> ForwardResponse:
        """End the sending; the answer has the receipt, or what is missing."""
        ...

    async def message(self, message: SiteMessage) -> None:
        """Have the other site take a message."""
        ...


class Courier(Protocol):
    """Gives lines."""

    async def line(self, transfer: TransferId, site: SiteName, job: JobRecord) -> Line:
        """Return a line to `site`; `job` is the one that is queued again when an answer comes."""
        ...


class Direct:
    """Implements `Line` over connections to the other site itself."""

    def __init__(self, client: PeerClient, store: BlobReader, transfer: TransferId) -> None:
        """Speak through `client` about `transfer`, whose segments are in `store`."""
        self._client = client
        self._store = store
        self._transfer = transfer

    async def declare(self, request: ForwardRequest) -> ForwardResponse:
        """Declare the transfer; see `Line`."""
        return await self._client.forward_declare(request)

    async def send(self, segments: Mapping[SegmentId, int], count: Count) -> None:
        """Send segments, several at once; see `Line`."""

        async def put(segment: SegmentId) -> int:
            data = await self._store.get(segment)
            await self._client.put_segment(self._transfer, segment, data, None)
            return len(data)

        await in_parallel(segments, put, count, self._client.slots)

    async def commit(self) -> ForwardResponse:
        """End the sending; see `Line`."""
        return await self._client.forward_commit(self._transfer)

    async def message(self, message: SiteMessage) -> None:
        """Have the other site take a message; see `Line`."""
        await self._client.message(self._transfer, message)


class DirectCourier:
    """Implements `Courier` for whoever knows no routes: every line is direct."""

    def __init__(self, peer: Callable[[SiteName], PeerClient], store: BlobReader) -> None:
        """Take the clients of the other sites, and the store that segments are read from."""
        self._peer = peer
        self._store = store

    async def line(self, transfer: TransferId, site: SiteName, job: JobRecord) -> Line:  # noqa: ARG002 - no answer is awaited
        """Return the direct line to `site`; see `Courier`."""
        return Direct(self._peer(site), self._store, transfer)


async def in_parallel(
    segments: Mapping[SegmentId, int], send: Callable[[SegmentId], Awaitable[int]], count: Count, slots: Slots
) -> None:
    """Send every segment, as many at once as there are `slots`; `count` is told now and then how much went."""
    done = sent = 0

    async def send_one(segment: SegmentId) -> None:
        nonlocal done, sent
        size = await send(segment)
        sent += size  # one step after the await: several of these run at once
        done += 1
        if done >= _COUNT_EVERY:
            segments_done, bytes_sent, done, sent = done, sent, 0, 0
            await count(segments_done, bytes_sent)

    try:
        async with asyncio.TaskGroup() as group:
            for segment in segments:
                await slots.acquire()
                # Not within the task: one that is cancelled before it began runs nothing.
                group.create_task(send_one(segment)).add_done_callback(lambda _: slots.release())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        if done:
            await count(done, sent)
