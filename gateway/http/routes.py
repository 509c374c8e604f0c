"""Every path the gateway answers: one line each, with who may ask and how long a body may be.

Rules:      1. a path that is not here is 404 for everybody  2. paths match as they came on the wire, nothing is decoded
            3. a line without an audience is open to all and listed in docs/protocol.md as such (a test compares)
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import web

from carnet import paths
from carnet.errors import NotAuthorised, NotFound
from carnet.identifiers import SpiffeId
from carnet.limits import COMMIT_BYTES_MAX, ENROLL_BYTES_MAX, REQUEST_JSON_BYTES_MAX, SEGMENT_BYTES_MAX
from carnet.messages import SiteMessage, SlipRequest
from gateway.http import artifacts, enrolment, health, log, passages, transfers
from gateway.http.exchange import Exchange

Handler: TypeAlias = Callable[[Exchange], Awaitable[web.StreamResponse]]

PEOPLE: Final = frozenset({"agent", "person"})
PEERS: Final = frozenset({"gateway"})
ALL: Final = PEOPLE | PEERS
OPEN: Final[frozenset[str]] = frozenset()
"""Nobody is asked for a certificate."""


@dataclass(frozen=True)
class Route:
    """A line of the table; `body_bytes_max` 0 means that a body is refused."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler
    audience: frozenset[str]
    body_bytes_max: int = 0

    @property
    def name(self) -> str:
        """The handler's name, as metrics call the route."""
        return f"{self.handler.__module__.rpartition('.')[2]}.{self.handler.__name__}"


def _route(method: str, pattern: str, handler: Handler, audience: frozenset[str], body_bytes_max: int = 0) -> Route:
    return Route(method, re.compile(pattern, re.ASCII), handler, audience, body_bytes_max)


_ONE = paths.TRANSFER_PATTERN
_PASSAGE = paths.PASSAGE_PATTERN
_SEGMENT_OF_TRANSFER = f"{_ONE}/segments/{paths.SEGMENT_COMPONENT}"

ROUTES: Final = (
    _route("POST", paths.TRANSFERS, transfers.declare, PEOPLE, REQUEST_JSON_BYTES_MAX),
    _route("POST", paths.TRANSFERS, transfers.forward, PEERS, COMMIT_BYTES_MAX),
    _route("GET", paths.TRANSFERS, transfers.list_transfers, PEOPLE),
    _route("GET", _ONE, transfers.show, ALL),
    _route("GET", f"{_ONE}/rows", transfers.rows, PEOPLE),
    _route("PUT", _SEGMENT_OF_TRANSFER, transfers.put_segment, PEOPLE, SEGMENT_BYTES_MAX),
    _route("PUT", _SEGMENT_OF_TRANSFER, transfers.put_forwarded, PEERS, SEGMENT_BYTES_MAX),
    _route("POST", f"{_ONE}/commit", transfers.commit, PEOPLE, COMMIT_BYTES_MAX),
    _route("POST", f"{_ONE}/commit", transfers.commit_forwarded, PEERS),
    _route("POST", f"{_ONE}/messages", transfers.message, PEERS, SiteMessage.bytes_max),
    _route("POST", f"{_ONE}/cancel", transfers.cancel, PEOPLE, REQUEST_JSON_BYTES_MAX),
    _route("POST", f"{_ONE}/recall", transfers.recall, PEOPLE, REQUEST_JSON_BYTES_MAX),
    _route("POST", f"{_ONE}/retry", transfers.retry, PEOPLE),
    _route("GET", f"{_ONE}/releases", transfers.sealed, PEOPLE),
    _route("POST", f"{_ONE}/releases", transfers.rewrap, PEOPLE, REQUEST_JSON_BYTES_MAX),
    _route("GET", f"{_ONE}/approvals", transfers.approval_requests, PEOPLE),
    _route("POST", f"{_ONE}/approvals", transfers.approve, PEOPLE, REQUEST_JSON_BYTES_MAX),
    _route("GET", paths.RECALLS, transfers.recallable, PEOPLE),
    _route("POST", f"{_PASSAGE}/slips", passages.take_slip, PEERS, SlipRequest.bytes_max),
    _route("PUT", f"{_PASSAGE}/segments/{paths.SEGMENT_COMPONENT}", passages.put_segment, PEERS, SEGMENT_BYTES_MAX),
    _route("PUT", f"{_PASSAGE}/{paths.LETTER_COMPONENT}", passages.put_letter, PEERS, COMMIT_BYTES_MAX),
    _route("GET", paths.FAR_TILE_PATTERN, passages.far_tile, PEERS),
    _route("GET", paths.ARTIFACTS, artifacts.list_artifacts, PEOPLE),
    _route("GET", paths.ARTIFACT_PATTERN, artifacts.show, PEOPLE),
    _route("DELETE", paths.ARTIFACT_PATTERN, artifacts.delete, PEOPLE),
    _route("GET", f"{paths.SEGMENTS}/{paths.SEGMENT_COMPONENT}", artifacts.segment, PEOPLE),
    _route("GET", paths.TRUST, enrolment.trust, ALL),
    _route("GET", paths.REVOCATIONS, enrolment.revocations, PEERS),
    _route("POST", paths.ENROLL, enrolment.enroll, OPEN, ENROLL_BYTES_MAX),
    _route("POST", paths.RENEW, enrolment.renew, PEOPLE, REQUEST_JSON_BYTES_MAX),
    _route("GET", paths.CHECKPOINT, log.checkpoint, ALL),
    _route("GET", paths.TILE_PATTERN, log.tile, ALL),
    _route("GET", paths.HEALTH, health.alive, OPEN),
    _route("GET", paths.READY, health.ready, OPEN),
)
_OPEN_ROUTES: Final = tuple(route for route in ROUTES if not route.audience)


@dataclass(frozen=True)
class Match:
    """A route and the parts of the path by name."""

    route: Route
    names: dict[str, str]


def open_match(method: str, path: str) -> Match | None:
    """Return the route that needs no certificate, or None."""
    return next(_matches(method, path, _OPEN_ROUTES), None)


def match_for(identity: SpiffeId, method: str, path: str) -> Match:
    """Return the route for who asks.

    Raises:
        NotFound: E-PATH-UNKNOWN if no line has method and path.
        NotAuthorised: E-NOT-ALLOWED if lines have, but none for this kind of identity.
    """
    is_known = False
    for match in _matches(method, path, ROUTES):
        if identity.kind in match.route.audience:
            return match
        is_known = True
    if not is_known:
        raise NotFound("E-PATH-UNKNOWN", f"no such path: {method[:10]} {ascii(path)[:200]}")
    raise NotAuthorised("E-NOT-ALLOWED", f"a {identity.kind} may not {method} {ascii(path)[:200]}")


def _matches(method: str, path: str, routes: Iterable[Route]) -> Iterator[Match]:
    for route in routes:
        if route.method == method and (match := route.pattern.fullmatch(path)) is not None:
            yield Match(route, match.groupdict())
