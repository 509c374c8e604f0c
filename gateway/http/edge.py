"""The way of every request: let in or refused, matched, answered, written down.

Steps of `Edge.handle`, in this order, so that a refusal costs as little as it can:
1. while draining: come back later          2. header bytes       3. path without certificate, or identity from the leaf
4. its share of connections and requests    5. path and audience  6. what the head says of the body
7. the handler                              8. one log line

Rules:      1. the body is unread until step 7  2. every answer has a Carnet-Request header
            3. an unknown path needs a certificate too, so that a scanner learns nothing
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from aiohttp import web

from carnet.errors import CapacityError, CarnetError, NotAuthenticated, PeerError, Unavailable
from carnet.identifiers import SpiffeId
from carnet.paths import REQUEST_HEADER
from gateway.http import artifacts, transfers
from gateway.http.admission import Throttle
from gateway.http.bodies import too_long
from gateway.http.connections import Connection
from gateway.http.exchange import Context, Exchange
from gateway.http.identity import Authenticator
from gateway.http.problems import SERVER, guard, problem_response
from gateway.http.routes import Route, match_for, open_match
from gateway.telemetry import events
from gateway.telemetry.causes import caused_by, is_cause, new_cause
from gateway.telemetry.logs import get_logger
from gateway.telemetry.metrics import AGENTS
from gateway.telemetry.refusals import RefusalLog

_SEGMENT_HANDLERS: Final = frozenset({transfers.put_segment, transfers.put_forwarded, artifacts.segment})


class Edge:
    """Answers requests; one a server."""

    def __init__(self, context: Context, authenticator: Authenticator, throttle: Throttle, now: Callable[[], datetime]) -> None:
        """`now` is the clock that certificates are judged by."""
        self._context = context
        self._authenticator = authenticator
        self._throttle = throttle
        self._now = now
        self._in_flight = 0
        self.refusals = RefusalLog(asyncio.get_running_loop().time)
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """Requests being handled now."""
        return self._in_flight

    async def drained(self) -> None:
        """Return when no request is being handled."""
        await self._idle.wait()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; raises nothing but cancellation and `ConnectionError` for a client that is gone."""
        self._in_flight += 1
        self._idle.clear()
        try:
            return await self._handle(request)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        started = asyncio.get_running_loop().time()
        visit = _Visit(request, self)
        with caused_by(visit.request_id):
            result = await guard(visit.answer, request_id=visit.request_id, is_connected=lambda: _is_connected(request))
        if isinstance(result, CarnetError):
            response: web.StreamResponse = problem_response(result, request_id=visit.request_id)
            if not request.content.is_eof():
                response.force_close()
        else:
            response = result
            if not response.prepared:
                response.headers.update(SERVER)
        if self._context.stopping.is_set() and not response.prepared:
            response.force_close()
        error = result if isinstance(result, CarnetError) else None
        visit.count(response, error, asyncio.get_running_loop().time() - started)
        return response

    def refuse_while_stopping(self) -> None:
        """Step 1: raise `Unavailable` E-BUSY once the server drains."""
        if self._context.stopping.is_set():
            raise Unavailable("E-BUSY", "the gateway is stopping", retry_after_s=1)

    def authenticate(self, request: web.BaseRequest) -> SpiffeId:
        """Steps 3 and 4: return who asks; raise `NotAuthenticated`, or `Throttled` beyond its share."""
        connection = request.protocol
        leaf = connection.leaf if isinstance(connection, Connection) else None
        identity = self._authenticator.identify(leaf, self._now())
        if isinstance(connection, Connection):
            connection.claim(identity)
        self._throttle.require(identity)
        return identity

    def is_admitted(self, connection: Connection) -> bool:
        """Tell whether the connection may stay open: not if its identity was revoked. Expiry shows at the next request."""
        if connection.owner is None:
            return True
        try:
            self._authenticator.identify(connection.leaf, self._now())
        except NotAuthenticated as error:
            return error.code != "E-REVOKED"
        return True

    def check_headers(self, request: web.BaseRequest) -> None:
        """Step 2: raise `CapacityError` E-LIMIT if the headers together are too long."""
        size = sum(len(name) + len(value) for name, value in request.raw_headers)
        if size > self._context.bounds.header_bytes_max:
            raise CapacityError("E-LIMIT", f"headers of {size} bytes", limit="header_bytes_max")

    @property
    def context(self) -> Context:
        """What exchanges share."""
        return self._context


class _Visit:
    """One request's way through the steps, and what the log line says of it."""

    def __init__(self, request: web.BaseRequest, edge: Edge) -> None:
        self.request = request
        self.request_id = new_cause()
        self.path = request.raw_path.partition("?")[0]
        self.identity: SpiffeId | None = None
        self.route: Route | None = None
        self.transfer: str | None = None
        self._edge = edge

    async def answer(self) -> web.StreamResponse:
        request, edge = self.request, self._edge
        edge.refuse_while_stopping()
        edge.check_headers(request)
        match = open_match(request.method, self.path)
        if match is None:
            self.identity = edge.authenticate(request)
            match = match_for(self.identity, request.method, self.path)
        self.route = match.route
        self.transfer = match.names.get("transfer")
        _check_body(request, match.route)
        exchange = Exchange(request, self.request_id, self.identity, match.names, match.route.body_bytes_max, edge.context)
        return await match.route.handler(exchange)

    def count(self, response: web.StreamResponse, error: CarnetError | None, elapsed_s: float) -> None:
        """Write down what became of the request."""
        self._log(response, error, round(elapsed_s * 1_000, 1))
        metrics = self._edge.context.metrics
        method = self.request.method if self.route is not None else "other"
        metrics.answered(
            route=self.route.name if self.route is not None else "none",
            method=method,
            status=response.status,
            seconds=elapsed_s,
        )
        if isinstance(error, CapacityError | Unavailable) and error.limit is not None:
            metrics.refused(error.limit)
        if error is None and self.identity is not None and self.route is not None:
            self._count_segment(response, self.identity, self.route)

    def _count_segment(self, response: web.StreamResponse, identity: SpiffeId, route: Route) -> None:
        peer = identity.site if identity.kind == "gateway" else AGENTS
        if route.handler in {transfers.put_segment, transfers.put_forwarded}:
            self._edge.context.metrics.received(peer, self.request.content_length or 0)
        elif route.handler is artifacts.segment:
            self._edge.context.metrics.sent(peer, response.content_length or 0)

    def _log(self, response: web.StreamResponse, error: CarnetError | None, elapsed_ms: float) -> None:
        """Write one line; never the path, which holds names of artifacts."""
        fields: dict[str, object] = {
            "request": self.request_id,
            "caller_request": self._caller_request(),
            "method": self.request.method[:10],
            "route": self.route.name if self.route is not None else None,
            "status": response.status,
            "identity": self.identity,
            "transfer": self.transfer,
            "bytes_in": self.request.content_length or 0,
            "bytes_out": response.content_length or 0,
            "elapsed_ms": elapsed_ms,
        }
        if error is None:
            is_segment = self.route is not None and self.route.handler in _SEGMENT_HANDLERS
            say = get_logger().debug if is_segment else get_logger().info
            say(events.REQUEST_ANSWERED, **fields)
            return
        left_out = self._edge.refusals.admit(str(self.identity))
        if left_out is not None:
            limit = error.limit if isinstance(error, CapacityError | Unavailable) else None
            get_logger().info(events.REQUEST_REFUSED, code=error.code, limit=limit, left_out=left_out, **fields)

    def _caller_request(self) -> str | None:
        """Return a peer's own id of this request, if it has the form of one."""
        told = self.request.headers.get(REQUEST_HEADER, "")
        is_peer = self.identity is not None and self.identity.kind == "gateway"
        return told if is_peer and is_cause(told) else None


def _check_body(request: web.BaseRequest, route: Route) -> None:
    """Step 6: refuse a body by its head alone."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise PeerError("E-REQUEST", "bodies come as they are, without Content-Encoding")
    if not request.body_exists:
        return
    if route.body_bytes_max == 0:
        raise PeerError("E-REQUEST", "this request has no body")
    if request.content_length is not None and request.content_length > route.body_bytes_max:
        raise too_long(route.body_bytes_max)


def _is_connected(request: web.BaseRequest) -> bool:
    return request.transport is not None and not request.transport.is_closing()
