"""A gateway's double that passes every request on and cuts a connection at a named place of a chosen one.

It ends TLS on both sides, so that the place is exact: to its callers it shows the gateway's certificate, to the gateway the
certificate of the one caller it stands for. `HandshakeCut` passes bytes on as they are, for places before there is a request.
"""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from agent.identity import load_identity
from agent.settings import AgentSettings
from carnet.flow.tls import client_context
from tests.crossing.sites import LiveSite

_HEAD_BYTES_MAX = 1 << 16


class Place(StrEnum):
    """Where in a request a connection ends."""

    BEFORE_HEAD = "before the head"
    WITHIN_HEAD = "within the head"
    BEFORE_BODY = "between head and body"
    WITHIN_BODY = "within the body"
    BEFORE_ANSWER = "after the request, which the gateway has answered"
    WITHIN_ANSWER_HEAD = "within the head of the answer"
    WITHIN_ANSWER = "within the body of the answer"


Case = tuple[str, Place]
"""What request is cut, and where."""


def sampled(cases: Iterable[Case], sample: Collection[Case]) -> list[Any]:
    """Return the cases as parameters of a test; those that are not in the sample are for whole counts only."""
    return [pytest.param(*case, marks=() if case in sample else pytest.mark.full) for case in cases]


@dataclass
class Cut:
    """Cuts the requests whose line has `what` in it, from the `first` one on (from 1), `times` times."""

    what: str
    place: Place
    first: int = 1
    times: int = 1
    seen: int = 0
    done: int = 0

    def strikes(self, line: str) -> bool:
        """Tell whether this request is one to cut; each is asked about once."""
        if self.what not in line:
            return False
        self.seen += 1
        if self.seen < self.first or self.done >= self.times:
            return False
        self.done += 1
        return True


@dataclass
class Double:
    """Passes on to the gateway behind it; `cut` is what to do next, `begun` and `answered` the requests by their line."""

    port: int
    cut: Cut | None = None
    begun: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)

    def segments(self, counted: Counter[str]) -> Counter[str]:
        """Return how often each segment was sent or fetched, by its id."""
        return Counter({line.rpartition("/segments/")[2]: count for line, count in counted.items() if "/segments/" in line})

    async def _exchange(self, here: "_Side", there: "_Side") -> bool:
        """Pass one request and its answer on; False where the connection is to be cut."""
        head = await here.head()
        line = b" ".join(head.split(b" ", 2)[:2]).decode()
        self.begun[line] += 1
        place = self.cut.place if self.cut is not None and self.cut.strikes(line) else None
        if not await _through(there, head, place, Place.BEFORE_HEAD, Place.WITHIN_HEAD):
            return False
        if b"\nexpect: 100-continue" in head.lower() and not await self._asked(here, there):
            return False
        if not await _through(there, await here.body(head), place, Place.BEFORE_BODY, Place.WITHIN_BODY):
            return False
        answer = await there.head()
        rest = await there.body(answer)
        if not await _through(here, answer, place, Place.BEFORE_ANSWER, Place.WITHIN_ANSWER_HEAD):
            return False
        if not await _through(here, rest, place, None, Place.WITHIN_ANSWER):
            return False
        self.answered[line] += 1
        return True

    async def _asked(self, here: "_Side", there: "_Side") -> bool:
        """Pass on what is said to a caller that asked before it sends its body; False if that was the answer already."""
        told = await there.head()
        await here.send(told)
        if told.startswith(b"HTTP/1.1 100 "):
            return True
        await here.send(await there.body(told))
        return False

    async def pass_on(self, here: "_Side", there: "_Side") -> None:
        """Pass requests on until one side ends, or the cut strikes."""
        while await self._exchange(here, there):
            pass


@dataclass
class _Side:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def body(self, head: bytes) -> bytes:
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        assert b"transfer-encoding" not in head.lower()
        return await self.reader.readexactly(int(lengths[0]) if lengths else 0)

    async def send(self, data: bytes) -> None:
        """Return when the bytes have left this process, so that a cut that follows does not take them back."""
        self.writer.write(data)
        while self.writer.transport.get_write_buffer_size() and not self.writer.transport.is_closing():
            await asyncio.sleep(0)


async def _through(to: _Side, data: bytes, place: Place | None, before: Place | None, within: Place) -> bool:
    """Pass `data` on; False if it is cut before it, or within it, which is after half of it."""
    if place is not None and place is before:
        return False
    await to.send(data[: len(data) // 2] if place is within else data)
    return place is not within


class _Listener:
    """Listens, and at its end breaks whatever is open: the tasks of its connections end by themselves then."""

    def __init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, port: int, tls: ssl.SSLContext | None) -> _Side:
        """Return a connection to what is behind."""
        host = "localhost" if tls is not None else "127.0.0.1"
        side = _Side(*await asyncio.open_connection(host, port, ssl=tls, limit=_HEAD_BYTES_MAX))
        self._writers.add(side.writer)
        return side

    @asynccontextmanager
    async def listening(
        self, serve: Callable[[_Side], Awaitable[None]], *, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[int]:
        """Yield the port; each connection is given to `serve`, and broken when that returns."""

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            self._writers.add(writer)
            try:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await serve(_Side(reader, writer))
            finally:
                writer.transport.abort()
                self._writers.discard(writer)
                self._tasks.discard(task)

        server = await asyncio.start_server(take, "127.0.0.1", port, ssl=tls, limit=_HEAD_BYTES_MAX)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for writer in tuple(self._writers):
                writer.transport.abort()
            await asyncio.gather(*self._tasks)

    def drop(self, side: _Side) -> None:
        """Break a connection to what is behind."""
        side.writer.transport.abort()
        self._writers.discard(side.writer)


@asynccontextmanager
async def double_of(site: LiveSite, back: int, caller: ssl.SSLContext, *, port: int = 0) -> AsyncIterator[Double]:
    """Yield a double of the gateway of `site`, which listens on `back`, for whoever has the certificate in `caller`."""
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.minimum_version = ssl.TLSVersion.TLSv1_3
    shown.load_cert_chain(site.paths.tls_certificate, site.paths.tls_key)
    listener = _Listener()

    async def serve(here: _Side) -> None:
        there = await listener.connect(back, caller)
        try:
            await made.pass_on(here, there)
        finally:
            listener.drop(there)

    async with listener.listening(serve, port=port, tls=shown) as listening:
        made = Double(listening)
        yield made


@asynccontextmanager
async def double_for_agent(site: LiveSite) -> AsyncIterator[tuple[Double, AgentSettings]]:
    """Yield a double of a site that runs, and the settings with which its agent asks the double instead of the site."""
    agent = site.agent
    context = client_context(agent.identity_dir / "tls.pem", None, load_identity(agent.identity_dir).authority_pem)
    async with double_of(site, port_of(site), context) as made:
        yield made, agent.model_copy(update={"url": f"https://localhost:{made.port}"})


def port_of(site: LiveSite) -> int:
    """Return the port that the agent of a site asks."""
    return int(site.agent.url.rsplit(":", 1)[1])


def gateway_context(site: LiveSite, of: LiveSite) -> ssl.SSLContext:
    """Return what the gateway of `site` asks the gateway `of` another site with."""
    authority = Path(of.paths.authority_certificate).read_text("ascii")
    return client_context(site.paths.tls_certificate, site.paths.tls_key, authority)


@dataclass
class HandshakeCut:
    """Passes bytes on, and cuts the first connection after so many of them; `flights` are the sizes of what went, in turn."""

    port: int
    up_max: int | None = None
    down_max: int | None = None
    connections: int = 0
    flights: list[tuple[str, int]] = field(default_factory=list)

    async def pump(self, reader: asyncio.StreamReader, target: "_Side", way: str, most: int | None) -> None:
        """Pass on at most `most` bytes; ends at the end, or there."""
        passed = 0
        with contextlib.suppress(OSError):
            while most is None or passed < most:
                data = await reader.read(1 << 16 if most is None else min(1 << 16, most - passed))
                if not data:
                    return
                passed += len(data)
                self.flights.append((way, len(data)))
                await target.send(data)


@asynccontextmanager
async def handshake_cut(back: int) -> AsyncIterator[HandshakeCut]:
    """Yield what stands before the port `back`."""
    listener = _Listener()

    async def serve(here: _Side) -> None:
        made.connections += 1
        up_max, down_max = (made.up_max, made.down_max) if made.connections == 1 else (None, None)
        there = await listener.connect(back, None)

        async def pump(source: _Side, target: _Side, way: str, most: int | None) -> None:
            try:
                await made.pump(source.reader, target, way, most)
            finally:
                here.writer.transport.abort()
                listener.drop(there)

        await asyncio.gather(pump(here, there, "up", up_max), pump(there, here, "down", down_max))

    async with listener.listening(serve) as listening:
        made = HandshakeCut(listening)
        yield made
