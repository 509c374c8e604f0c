"""The way of a connection's bytes in: to the parser of HTTP, or, for the body of a segment, from TLS into its buffer at once.

The parser would make an object of every piece of a body, and its reader would copy it a second time; a segment is two megabytes.
Both ends use it: a gateway for what it is sent, a client for what it fetches.

Rules:      1. only a body whose length is known is taken past the parser, and never a byte more than that
            2. a body that was not taken whole leaves its parser waiting for the rest, so no byte of it is ever read as a request
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from carnet.limits import KIB

SCRATCH_BYTES: Final = 64 * KIB
"""Bytes that go to the parser at once, which it takes before the loop goes on: so all connections share them."""


class TooSlow(TimeoutError):
    """The bytes of a body came too slowly, or not at all."""

    def __init__(self, received: int) -> None:
        """Keep how many had come."""
        super().__init__(f"given up after {received} bytes")
        self.received = received


class _Connection(Protocol):
    """What an intake serves: the protocol of the connection, as aiohttp has it."""

    def connection_made(self, transport: asyncio.BaseTransport, /) -> None: ...
    def connection_lost(self, exc: BaseException | None, /) -> None: ...
    def data_received(self, data: bytes, /) -> None: ...
    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class _Body:
    """A body on its way in."""

    __slots__ = ("ended", "filled", "taken", "view")

    def __init__(self, view: memoryview, taken: Callable[[], None], ended: "asyncio.Future[None]") -> None:
        self.view = view
        self.filled = 0
        self.taken = taken
        self.ended = ended


class Intake(asyncio.BufferedProtocol):
    """One connection's; owned by the event loop."""

    __slots__ = ("_body", "_scratch", "connection")

    def __init__(self, connection: _Connection, scratch: memoryview) -> None:
        """Serve `connection`; `scratch` is a buffer of `SCRATCH_BYTES` for all connections of the event loop."""
        self.connection = connection
        self._scratch = scratch
        self._body: _Body | None = None

    async def fill(self, view: memoryview, taken: Callable[[], None], deadline: Callable[[int], float]) -> int:
        """Fill `view` with the next bytes of the connection, unparsed; return how many came: fewer if the connection was lost.

        `view` is not empty.
        `taken` is called with the last of them, before what follows is parsed. `deadline` gives, for how many of them have come,
        the time of the loop's clock at which they are given up.

        Raises:
            TooSlow: their time was up.
        """
        loop = asyncio.get_running_loop()
        self._body = body = _Body(view, taken, loop.create_future())
        try:
            while not body.ended.done():
                left_s = deadline(body.filled) - loop.time()
                if left_s <= 0:
                    raise TooSlow(body.filled)
                await asyncio.wait((body.ended,), timeout=left_s)
            return body.filled
        finally:
            self._body = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go; asked by the transport."""
        del sizehint
        body = self._body
        return self._scratch if body is None or body.ended.done() else body.view[body.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Be told by the transport that so many bytes are there."""
        body = self._body
        if body is None or body.ended.done():
            self.connection.data_received(bytes(self._scratch[:nbytes]))
            return
        body.filled += nbytes
        if body.filled == len(body.view):
            body.ended.set_result(None)
            body.taken()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass on."""
        self.connection.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End a body that is on its way, and pass on."""
        if self._body is not None and not self._body.ended.done():
            self._body.ended.set_result(None)
        self.connection.connection_lost(exc)

    def eof_received(self) -> None:
        """Pass on: None has the transport close itself."""
        self.connection.eof_received()

    def pause_writing(self) -> None:
        """Pass on."""
        self.connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self.connection.resume_writing()
