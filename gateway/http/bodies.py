"""Reading request bodies and writing answers: bounded in bytes, in time, and in memory held.

A slow client costs a timer, not a thread; a large body goes into one pooled buffer, never into a growing list of pieces.

Rules:      1. what is longer than the route allows is refused before it is read  2. a body slower than the floor is cut
            3. a buffer goes back to the pool only after the use case has returned: a thread may still read it after an error
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

from aiohttp import HttpVersion11, web
from aiohttp.web_protocol import RequestPayloadError

from carnet.errors import CapacityError, PeerError, Unavailable
from carnet.flow.intake import TooSlow
from carnet.identifiers import SpiffeId
from carnet.limits import KIB, SEGMENT_BYTES_MAX
from gateway.http.admission import SEGMENT_COST_BYTES, Admission
from gateway.http.bounds import Bounds
from gateway.http.connections import Connection
from gateway.http.problems import SERVER

_PIECE_BYTES: Final = 256 * KIB
_READ_BYTES: Final = 64 * KIB
_BUFFERS_KEPT: Final = 16


async def read_body(request: web.BaseRequest, bytes_max: int, bounds: Bounds) -> bytes:
    """Return the whole body of at most `bytes_max` bytes; its deadline moves with what has come (rule 2).

    Raises:
        CapacityError: E-LIMIT when it is longer (only without Content-Length; else the edge has refused it).
        Unavailable: E-BUSY when it comes slower than the floor.
        PeerError: E-REQUEST when it ends early.
    """
    await _continue(request)
    start = asyncio.get_running_loop().time()
    body = bytearray()
    # Until now the connection stopped reading at READ_BUFFER_BYTES; from here on larger pieces save turns of the loop.
    request.content.set_read_chunk_size(_READ_BYTES)
    try:
        async with asyncio.timeout_at(start + bounds.body_deadline_s(0)) as deadline:
            while piece := await request.content.readany():
                if len(body) + len(piece) > bytes_max:
                    raise too_long(bytes_max)
                body += piece
                deadline.reschedule(start + bounds.body_deadline_s(len(body)))
    except TimeoutError:
        raise _too_slow(len(body), bounds) from None
    except (RequestPayloadError, OSError):
        raise _broke_off(len(body)) from None
    return bytes(body)


async def read_into(request: web.BaseRequest, buffer: bytearray, length: int, bounds: Bounds) -> None:
    """Fill the first `length` bytes of `buffer` with the body, whose Content-Length is `length`; raises like `read_body`.

    What the parser has of it is copied; the rest goes from TLS into `buffer` at once.
    """
    await _continue(request)
    connection, content, view = cast("Connection", request.protocol), request.content, memoryview(buffer)
    start = asyncio.get_running_loop().time()
    received = 0
    try:
        while piece := content.read_nowait():
            view[received : received + len(piece)] = piece
            received += len(piece)
        if received < length and not content.is_eof():
            had = received
            received += await connection.intake.fill(
                view[received:length],
                lambda: connection.body_taken(content),
                lambda more: start + bounds.body_deadline_s(had + more),
            )
    except TooSlow as late:
        raise _too_slow(received + late.received, bounds) from None
    except (RequestPayloadError, OSError):
        raise _broke_off(received) from None
    if received != length:
        raise _broke_off(received)


def _too_slow(received: int, bounds: Bounds) -> Unavailable:
    slower = f"slower than body_bytes_per_s_min ({bounds.body_bytes_per_s_min})"
    return Unavailable("E-BUSY", f"the request body was cut after {received} bytes: {slower}")


def _broke_off(received: int) -> PeerError:
    return PeerError("E-REQUEST", f"the request body broke off after {received} bytes")


async def _continue(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send the body: it is read now, so that what waits for its share is not here yet."""
    if request.version == HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def too_long(bytes_max: int) -> CapacityError:
    """Return the error for a body longer than its route allows."""
    return CapacityError("E-LIMIT", f"request body longer than {bytes_max} bytes", limit="request_body_bytes_max")


async def send_bytes(
    request: web.BaseRequest, body: bytes, content_type: str, *, bounds: Bounds, headers: dict[str, str]
) -> web.StreamResponse:
    """Send `body` in pieces; a client that takes nothing for `write_idle_s` is cut."""
    response = web.StreamResponse(headers={**headers, **SERVER, "Content-Type": content_type})
    response.content_length = len(body)
    view = memoryview(body)
    try:
        async with asyncio.timeout(bounds.write_idle_s) as deadline:
            await response.prepare(request)
            for position in range(0, len(view), _PIECE_BYTES):
                await response.write(view[position : position + _PIECE_BYTES])
                deadline.reschedule(asyncio.get_running_loop().time() + bounds.write_idle_s)
            await response.write_eof()
    except TimeoutError:
        # The head is sent, so there is no other answer to give; the client sees a broken connection and asks again.
        response.force_close()
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client took nothing of the answer") from None
    return response


class SegmentBuffers:
    """The pool of segment buffers; a segment counts in full as bytes in flight, however short it is."""

    def __init__(self, admission: Admission) -> None:
        """Make an empty pool; buffers are made when first needed."""
        self._admission = admission
        self._idle: list[bytearray] = []

    @asynccontextmanager
    async def borrow(self, identity: SpiffeId) -> AsyncIterator[bytearray]:
        """Lend a buffer of SEGMENT_BYTES_MAX bytes; raises as `Admission.hold`."""
        async with self._admission.hold(identity, SEGMENT_COST_BYTES):
            buffer = self._idle.pop() if self._idle else bytearray(SEGMENT_BYTES_MAX)
            yield buffer
            # Not in a finally: after an error or a cancellation a thread may still be reading it (rule 3).
            if len(self._idle) < _BUFFERS_KEPT:
                self._idle.append(buffer)
