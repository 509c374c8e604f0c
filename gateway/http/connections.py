"""Connections: how many there may be, how long a request may take to arrive, and whose they are.

aiohttp bounds the size of one header and the idle time; the rest is here. A connection counts for the identity of its first
authenticated request until it is gone.

Rules:      1. every open connection has a timer or a request being handled  2. no byte from a peer is logged
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol, cast, runtime_checkable

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web_protocol import RequestPayloadError

from carnet.errors import CapacityError, CarnetError, PeerError, Throttled
from carnet.flow.intake import SCRATCH_BYTES, Intake
from carnet.identifiers import SpiffeId
from carnet.limits import KIB
from gateway.http.bounds import Bounds
from gateway.http.problems import problem_response
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger

READ_BUFFER_BYTES: Final = 32 * KIB
"""A body that nobody reads yet stops its connection at twice this; reading it raises the mark (`gateway.http.bodies`)."""
TLS_BUFFER_BYTES: Final = 64 * KIB
"""Bytes that TLS keeps, still encrypted, for a connection that is not read."""
HEADERS_MAX: Final = 48
"""Header lines of one request; ours have about ten."""
HEADER_LINE_BYTES_MAX: Final = 8_190
"""One header line: a row of 8 000 characters with its name."""


@runtime_checkable
class _SecureTransport(Protocol):
    """A transport of TLS, which keeps bytes of its own; asyncio's and uvloop's both say how many."""

    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Bound what is kept while reading is paused."""
        ...


class Connection(web.RequestHandler):
    """One connection; owned by the event loop, counted by its `ConnectionServer`."""

    __slots__ = ("_bounds", "_header_timer", "_held", "_owner", "_server", "intake", "leaf")

    def __init__(self, server: "ConnectionServer", bounds: Bounds, **settings: Any) -> None:
        """`settings` are aiohttp's own."""
        super().__init__(server, **settings)
        self.intake = Intake(self, server.scratch)
        """Where its bytes come from."""
        self._bounds = bounds
        self._server = server
        self._header_timer: asyncio.TimerHandle | None = None
        self._held: asyncio.Transport | None = None
        self._owner: SpiffeId | None = None
        self.leaf: bytes | None = None
        """DER of the client's certificate; None without one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the client's certificate; cut the connection if there are too many."""
        super().connection_made(transport)
        self._held = cast("asyncio.Transport", transport)
        self._server.transports.add(self._held)
        ssl_object = transport.get_extra_info("ssl_object")
        self.leaf = ssl_object.getpeercert(binary_form=True) if ssl_object is not None else None
        if isinstance(transport, _SecureTransport):
            # Above the mark TLS stops reading too; else it would gather a quarter of a MiB more than we read.
            transport.set_read_buffer_limits(high=TLS_BUFFER_BYTES)
        if self._server.open_connections > self._bounds.connections_max and not self._server.make_room(self):
            self._cut("connections_max")
            return
        self._start_header_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the timer and give the identity's share back."""
        self._stop_header_timer()
        if self._held is not None:
            self._server.forget(self._held)
        if self._owner is not None:
            self._server.release(self._owner)
            self._owner = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a request whose headers are not complete has `header_s` from its first byte."""
        parsed = self._request_count
        super().data_received(data)
        if self._request_count != parsed:
            self._stop_header_timer()
        elif self._header_timer is None and self._is_idle():
            self._start_header_timer()

    def body_taken(self, content: StreamReader) -> None:
        """Be told that the whole rest of the body of `content` was taken past the parser, which waits for it in vain.

        So the next request has a parser of its own: that of aiohttp cannot be told.
        """
        self._parser = HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=self._max_msg_queue_size,
        )
        content.feed_eof()

    @property
    def owner(self) -> SpiffeId | None:
        """Whose connection this is, once it made an authenticated request."""
        return self._owner

    def cut(self, reason: str) -> None:
        """Close the connection now, whatever it is doing."""
        self._cut(reason)

    def claim(self, identity: SpiffeId) -> None:
        """Count this connection for `identity`; raise `Throttled` E-BUSY beyond its share."""
        if self._owner is None:
            self._server.claim(identity, self._bounds.connections_per_identity_max)
            self._owner = identity

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is no HTTP request, in one line and without echoing it."""
        del request, message, status
        get_logger().debug(events.REQUEST_MALFORMED, error=type(exc).__name__)
        problem: CarnetError = PeerError("E-REQUEST", "what came is no HTTP/1.1 request")
        if isinstance(exc, LineTooLong):
            problem = CapacityError("E-LIMIT", "the headers are too long", limit="header_bytes_max")
        response = problem_response(problem, request_id="")
        response.force_close()
        return response

    @property
    def is_anonymous(self) -> bool:
        """Whether it is open, nothing is asked on it and nothing authenticated ever was."""
        return self._owner is None and self.transport is not None and self._is_idle()

    def evict(self, reason: str) -> None:
        """Close the connection without waiting for the other side's goodbye."""
        self._cut(reason)
        if self._held is not None:
            self._held.abort()

    def _is_idle(self) -> bool:
        return self._current_request is None and not self._request_in_progress and not self._messages

    def _start_header_timer(self) -> None:
        self._header_timer = self._loop.call_later(self._bounds.header_s, self._header_late)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _header_late(self) -> None:
        self._header_timer = None
        if self._is_idle():
            self._cut("header_s")

    def _cut(self, reason: str) -> None:
        get_logger().debug(events.CONNECTION_CUT, reason=reason)
        self.force_close()


class ConnectionServer(web.Server):
    """Makes connections and counts them."""

    def __init__(self, handler: Any, bounds: Bounds) -> None:
        """`handler` answers requests; it never raises but `ConnectionError` and cancellation."""
        super().__init__(handler)
        self._bounds = bounds
        self._shares: dict[SpiffeId, int] = {}
        self._ended: asyncio.Event | None = None
        self.transports: set[asyncio.Transport] = set()
        """Every transport that is not lost yet; kept by the connections."""
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        """Where bytes are between TLS and the parser of their connection."""

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self.connections)

    def make_room(self, newcomer: Connection) -> bool:
        """Close the oldest connection but this one on which nothing was authenticated; return whether there was one."""
        for connection in self.connections:
            if isinstance(connection, Connection) and connection is not newcomer and connection.is_anonymous:
                connection.evict("connections_max")
                return True
        return False

    def claim(self, identity: SpiffeId, limit: int) -> None:
        """Count one more connection of `identity`; raise `Throttled` E-BUSY beyond `limit`."""
        count = self._shares.get(identity, 0)
        if count >= limit:
            raise Throttled("E-BUSY", f"{identity} has {count} connections open", limit="connections_per_identity_max")
        self._shares[identity] = count + 1

    def release(self, identity: SpiffeId) -> None:
        """Count one connection of `identity` less."""
        count = self._shares[identity] - 1
        if count:
            self._shares[identity] = count
        else:
            del self._shares[identity]

    def cut_unless(self, is_admitted: Callable[[Connection], bool]) -> None:
        """Close every connection that is not admitted any more."""
        for connection in tuple(self.connections):
            if isinstance(connection, Connection) and not is_admitted(connection):
                connection.cut("revoked")

    async def end(self, close_s: float) -> None:
        """Close every connection, with `close_s` for its last bytes; then no socket of ours is open.

        A TLS transport that is closed still waits for the other side's goodbye, so what is left is aborted. One of asyncio that
        was closed twice has forgotten what to abort (Python 3.11.2): its goodbye is awaited for `close_s`, and it ends with the
        process.
        """
        open_now = self.transports.copy()
        await self.shutdown(close_s)
        for transport in open_now & self.transports:
            with suppress(AttributeError):
                transport.abort()
        if self.transports:
            self._ended = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(close_s):
                    await self._ended.wait()

    def forget(self, transport: asyncio.Transport) -> None:
        """Be told that a transport is lost."""
        self.transports.discard(transport)
        if self._ended is not None and not self.transports:
            self._ended.set()

    def __call__(self) -> Intake:  # type: ignore[override] # aiohttp's own returns what we have behind it
        """Return the protocol object of a new connection."""
        return Connection(
            self,
            self._bounds,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._bounds.idle_s,
            lingering_time=self._bounds.linger_s,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=HEADER_LINE_BYTES_MAX,
            max_field_size=HEADER_LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
            auto_decompress=False,
            access_log=None,
        ).intake
