"""One request on its way through the edge: who asks, what the path names, and what a handler may use.

Rules:      1. a handler never reads a header, query or body but through here, so that every bound is in one place
            2. query parameters that a route does not know are refused, not ignored
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from carnet.encoding import decode_base64
from carnet.errors import CallerError, NotAuthenticated, PeerError, Unavailable
from carnet.identifiers import Repository, SegmentId, SpiffeId, Tag, TransferId
from carnet.limits import KIB, MIB, ROW_HEADER_CHARS_MAX, SEGMENT_BYTES_MAX, TEXT_CHARS_MAX
from carnet.messages import Message
from carnet.paths import BINARY_TYPE, JSON_TYPE, PAGE_DEFAULT, PAGE_MAX, REQUEST_HEADER, ROW_HEADER
from gateway.http.admission import Admission
from gateway.http.bodies import SegmentBuffers, read_body, send_bytes
from gateway.http.bounds import Bounds
from gateway.http.surface import Gateway
from gateway.telemetry.metrics import Metrics

MessageT = TypeVar("MessageT", bound=Message)
_SMALL_BYTES = 64 * KIB
_COPIES = 2
"""A body is in memory twice while it is put together."""
_LARGE_BYTES = MIB
"""Bodies above this, or of unknown length, are read few at a time and parsed beside the event loop."""


@dataclass(frozen=True)
class Context:
    """What all exchanges of a server share."""

    gateway: Gateway
    bounds: Bounds
    admission: Admission
    buffers: SegmentBuffers
    metrics: Metrics
    stopping: asyncio.Event
    large_bodies: asyncio.Semaphore


@dataclass(frozen=True)
class Exchange:
    """A request that was let in, with the parts of its path by name."""

    request: web.BaseRequest
    request_id: str
    identity: SpiffeId | None
    names: Mapping[str, str]
    body_bytes_max: int
    context: Context

    @property
    def gateway(self) -> Gateway:
        """The use cases."""
        return self.context.gateway

    @property
    def caller(self) -> SpiffeId:
        """The identity that asks; raises `NotAuthenticated` on a path that is open to all."""
        if self.identity is None:
            raise NotAuthenticated("E-NO-CERTIFICATE", "no client certificate was presented")
        return self.identity

    @property
    def transfer(self) -> TransferId:
        """The transfer that the path names."""
        return TransferId(self.names["transfer"])

    @property
    def segment(self) -> SegmentId:
        """The segment that the path names."""
        return SegmentId(self.names["segment"])

    @property
    def artifact(self) -> tuple[Repository, Tag]:
        """The repository and tag that the path names; raises `CallerError` E-NAME if they break their grammar."""
        return Repository(self.names["repository"]), Tag(self.names["tag"])

    @property
    def segment_length(self) -> int:
        """The Content-Length of a segment, which is required; raises `PeerError` E-REQUEST without it."""
        length = self.request.content_length
        if length is None or not 0 < length <= SEGMENT_BYTES_MAX:
            raise PeerError("E-REQUEST", f"a segment needs a Content-Length of 1 to {SEGMENT_BYTES_MAX}, got {length}")
        return length

    @property
    def row(self) -> bytes | None:
        """The sealed row in the header, or None; raises `PeerError` E-REQUEST if it is too long or no base64."""
        text = self.request.headers.get(ROW_HEADER)
        if text is None:
            return None
        if len(text) > ROW_HEADER_CHARS_MAX:
            raise PeerError("E-REQUEST", f"{ROW_HEADER}: {len(text)} characters, at most {ROW_HEADER_CHARS_MAX} are read")
        row = decode_base64(text)
        if not row:
            raise PeerError("E-REQUEST", f"{ROW_HEADER} is empty")
        return row

    def query(self, *known: str) -> dict[str, list[str]]:
        """Return the query parameters, values in order; raise `CallerError` E-USAGE for one that is not in `known`."""
        found: dict[str, list[str]] = {}
        for name, value in self.request.query.items():
            if name not in known:
                raise CallerError("E-USAGE", f"unknown query parameter {ascii(name)[:40]}, known: {', '.join(known) or 'none'}")
            if len(value) > TEXT_CHARS_MAX:
                raise CallerError(
                    "E-USAGE", f"query parameter {name} has {len(value)} characters, at most {TEXT_CHARS_MAX} are read"
                )
            found.setdefault(name, []).append(value)
        return found

    async def body(self) -> bytes:
        """Return the whole body, within the route's bound and the bytes in flight; raises as `Admission.hold`."""
        length = self.request.content_length
        size = self.body_bytes_max if length is None else length
        async with self.context.admission.hold(self.identity, _COPIES * size):
            return await read_body(self.request, self.body_bytes_max, self.context.bounds)

    async def message(self, kind: type[MessageT]) -> MessageT:
        """Return the body as a message; raise `PeerError` E-REQUEST or E-FORMAT if it is none."""
        content_type = self.request.content_type
        if content_type != JSON_TYPE:
            raise PeerError("E-REQUEST", f"Content-Type: got {ascii(content_type)[:80]}, expected {JSON_TYPE}")
        length = self.request.content_length
        if length is not None and length <= _LARGE_BYTES:
            return kind.parse(await self.body(), bytes_max=self.body_bytes_max)
        async with self._large_body():
            body = await self.body()
            return await asyncio.to_thread(kind.parse, body, bytes_max=self.body_bytes_max)

    async def octets(self) -> bytes:
        """Return the body as bytes; raise `PeerError` E-REQUEST if it is called anything else."""
        content_type = self.request.content_type
        if content_type != BINARY_TYPE:
            raise PeerError("E-REQUEST", f"Content-Type: got {ascii(content_type)[:80]}, expected {BINARY_TYPE}")
        length = self.request.content_length
        if length is not None and length <= _LARGE_BYTES:
            return await self.body()
        async with self._large_body():
            return await self.body()

    @asynccontextmanager
    async def _large_body(self) -> AsyncIterator[None]:
        """Hold one of the few places for a body that takes much memory to read and parse; raise `Unavailable` E-BUSY if none."""
        try:
            async with asyncio.timeout(self.context.bounds.buffer_wait_s):
                await self.context.large_bodies.acquire()
        except TimeoutError:
            raise Unavailable("E-BUSY", "too many large bodies at once", limit="large_bodies_max", retry_after_s=1) from None
        try:
            yield
        finally:
            self.context.large_bodies.release()

    async def answer(self, message: Message, *, headers: Mapping[str, str] | None = None) -> web.StreamResponse:
        """Answer 200 with a message."""
        return await self.answer_bytes(message.encode(), JSON_TYPE, headers={"Cache-Control": "no-store", **(headers or {})})

    async def answer_bytes(
        self, body: bytes, content_type: str, *, headers: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        """Answer 200 with bytes; large ones go out in pieces."""
        named = {REQUEST_HEADER: self.request_id, **(headers or {})}
        if len(body) > _SMALL_BYTES:
            return await send_bytes(self.request, body, content_type, bounds=self.context.bounds, headers=named)
        return web.Response(body=body, headers={**named, "Content-Type": content_type})

    def answer_empty(self, status: int, *, headers: Mapping[str, str] | None = None) -> web.StreamResponse:
        """Answer with a status alone."""
        return web.Response(status=status, headers={REQUEST_HEADER: self.request_id, **(headers or {})})


def one(query: Mapping[str, list[str]], name: str) -> str | None:
    """Return the single value of a query parameter, or None; raise `CallerError` E-USAGE if it is there more than once."""
    values = query.get(name, [])
    if len(values) > 1:
        raise CallerError("E-USAGE", f"query parameter {name} is there {len(values)} times")
    return values[0] if values else None


def number(query: Mapping[str, list[str]], name: str, *, default: int, maximum: int, minimum: int = 0) -> int:
    """Return a decimal query parameter within its range; raise `CallerError` E-USAGE otherwise."""
    text = one(query, name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(maximum)) and minimum <= int(text) <= maximum):
        raise CallerError("E-USAGE", f"query parameter {name}: got {ascii(text)[:20]}, expected {minimum} to {maximum}")
    return int(text)


def page_size(query: Mapping[str, list[str]]) -> int:
    """Return the `limit` of a listing."""
    return number(query, "limit", default=PAGE_DEFAULT, minimum=1, maximum=PAGE_MAX)
