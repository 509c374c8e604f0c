"""HTTP to one gateway: connections kept warm, every answer bounded, failures translated and tried again within a budget.

All requests of the protocol may be repeated, so a lost answer is asked for again. Nothing is sent before the gateway's identity
has been checked.

Rules:      1. only `Unavailable` is tried again, and never past the caller's budget
            2. an answer longer than its bound is refused  3. no redirect, cookie, proxy or compression
            4. nobody waits in silence: the second failure in a row is told to whoever asked to know
            5. a gateway that is busy gets fewer requests at once (`carnet.flow.pace`)
Spec:       docs/protocol.md sections "Transport", "Problems"
"""

import asyncio
import functools
import os
import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Self, TypeAlias, cast
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_reqrep import ClientRequest
from aiohttp.payload import Payload

from carnet.errors import CallerError, CarnetError, PeerError, Unavailable
from carnet.flow.connector import Connector, read_large
from carnet.flow.intake import SCRATCH_BYTES
from carnet.flow.pace import FAR, NEAR, Pace, Turn
from carnet.flow.slots import Slots
from carnet.flow.tls import explain_tls
from carnet.identifiers import SpiffeId
from carnet.limits import KIB, REQUEST_JSON_BYTES_MAX
from carnet.messages import Problem
from carnet.paths import BINARY_TYPE, JSON_TYPE, PROBLEM_TYPE, REQUEST_HEADER
from carnet.problems import error_of, error_of_status

_PIECE_BYTES: Final = 256 * KIB
_READ_BUFFER_BYTES: Final = 256 * KIB
_IDLE_S: Final = 30.0
"""Below the server's own, so that we never send on a connection that it is about to close."""
_SENT_BYTES_PER_S_MIN: Final = 8 * KIB
_WAIT_INITIAL_S, _WAIT_MAX_S, _WAIT_JITTER_S = 0.1, 5.0, 0.5
_WAITS_MIN: Final = 10
"""A short budget is not spent on one long wait."""
_UNHEARD_S: Final = 15.0
"""Longer than a gateway lets a body wait for its share before it says that it is busy."""
_ERROR_STATUS: Final = 400
_PROBLEM_S: Final = 10.0
"""Silence in the middle of a problem document."""


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Deadlines of one attempt, in seconds."""

    connect_s: float = 10.0
    """TCP and TLS together."""
    read_s: float = 60.0
    """Silence while an answer is awaited or read."""
    send_s: float = 60.0
    """To send a body, beside the time it takes at 8 KiB/s."""
    retry_s: float = 60.0
    """The budget: no new attempt is begun after this; 0 means one attempt."""
    busy_s: float = 0.0
    """The budget while the gateway answers, if only that it is busy, where that is longer than `retry_s`."""

    @classmethod
    def within(cls, seconds: float) -> Self:
        """Return the deadlines of a person who asks something and gives up after about so many seconds."""
        attempt_s = max(1.0, seconds)
        return cls(
            connect_s=min(cls.connect_s, attempt_s),
            read_s=min(cls.read_s, attempt_s),
            send_s=min(cls.send_s, attempt_s),
            retry_s=seconds,
        )


@dataclass(frozen=True)
class Waiting:
    """A gateway is not at our service, and it is tried again."""

    gateway: str
    """Its `host:port`."""
    problem: str
    """Why not, in the words of the machine or of the gateway."""
    left_s: float
    """How much longer it is tried, in seconds."""


OnWait: TypeAlias = Callable[[Waiting | None], None]
"""Told when we begin to wait, and None when the gateway is at our service again."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request; `statuses` are the answers that are no error, `bytes_max` bounds the body of such an answer."""

    method: str
    path: str
    body: bytes | bytearray | memoryview | None = None
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Sequence[tuple[str, str]] = ()
    statuses: frozenset[int] = frozenset({200})
    bytes_max: int = REQUEST_JSON_BYTES_MAX
    wait_s: float = 0.0
    """How much longer than `read_s` the answer may take, because the request asks to wait."""

    @property
    def what(self) -> str:
        """The request in a problem text."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Reply:
    """An answer that is no error."""

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray


class Link:
    """Connections to one gateway; made when first needed, closed by `close`."""

    def __init__(
        self,
        base_urls: Sequence[str],
        context: Callable[[], ssl.SSLContext],
        *,
        gateway: SpiffeId,
        connections: int | None,
        user_agent: str,
        timeouts: Timeouts,
        request_id: Callable[[], str | None] = lambda: None,
        on_wait: OnWait | None = None,
    ) -> None:
        """Use at most so many `connections`, or as many as suit the gateway's distance, if None.

        `request_id` is asked before each request, and told to the gateway as our own id of it, for its log.

        `context` is asked before every request, so that a renewed certificate is used by the next new connection. `on_wait` is
        called once for each time that the gateway is out of reach, and once for each other reason to wait.
        """
        if not base_urls:
            raise CallerError("E-CONFIG", "a gateway needs at least one url")
        self._urls = tuple(url.rstrip("/") for url in base_urls)
        self._at = 0  # index of the url in use; moved on when it cannot be reached
        self._context = context
        self._gateway = gateway
        self._headers = {"User-Agent": user_agent, "Accept": f"{JSON_TYPE}, {BINARY_TYPE}", "Accept-Encoding": "identity"}
        self._timeouts = timeouts
        self._request_id = request_id
        self._on_wait = on_wait
        self._told: set[str] = set()  # codes of what was told; E-UNREACHABLE only until it answers again
        self._session: aiohttp.ClientSession | None = None
        self._pace = Pace(connections or NEAR, connections or FAR)
        self._connections = connections or FAR

    @property
    def slots(self) -> Slots:
        """For whoever sends segments: one for each that may be on its way."""
        return self._pace.slots

    async def close(self) -> None:
        """Close every connection; the link may be used again afterwards."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, call: Call) -> Reply:
        """Return the answer to `call`, trying again within the budget.

        Raises:
            CarnetError: what the gateway answered, as the same family and code.
            Unavailable: E-UNREACHABLE if it cannot be reached, E-BUSY if it asks to come back, and the budget is used up.
            NotAuthenticated: E-CERTIFICATE if it is not the gateway expected, or refused our certificate.
            PeerError: E-REQUEST if it does not keep to the protocol.
        """
        begun = asyncio.get_running_loop().time()
        try:
            reply = await self._attempt(call)
        except Unavailable as error:
            return await self._again(call, error, begun)
        self._answered()
        return reply

    async def _again(self, call: Call, first: Unavailable, begun: float) -> Reply:
        """Return the answer to `call`, which was begun at `begun` (on the loop's clock) and failed with `first` once.

        It is tried for `retry_s`; a gateway that says it is busy is there, and is tried for `retry_s` from then on, for `busy_s`
        in all.
        """
        import stamina  # nearly every command ends without

        # stamina would log through structlog, to standard output; the core does not log.
        stamina.instrumentation.set_on_retry_hooks(())
        loop, retry_s = asyncio.get_running_loop(), self._timeouts.retry_s
        deadline = begun + retry_s
        last = max(deadline, begun + self._timeouts.busy_s) if retry_s > 0 else deadline
        budget_s = max(0.0, last - loop.time())
        failures = 0
        failed: Unavailable | None = first

        def again(error: Exception) -> bool | float:
            nonlocal failures, deadline
            failures += 1
            is_busy = isinstance(error, Unavailable) and error.code == "E-BUSY"
            if is_busy:
                deadline = max(deadline, min(last, loop.time() + retry_s))
            verdict = _backoff(error, last if is_busy else deadline, failures)
            # One lost connection is nobody's affair.
            if verdict is not False and failures > 1 and isinstance(error, Unavailable):
                self._tell(error, (last if is_busy else deadline) - loop.time())
            return verdict

        async for attempt in stamina.retry_context(
            on=again,
            attempts=None if budget_s > 0 else 1,
            timeout=budget_s if budget_s > 0 else None,
            wait_initial=_WAIT_INITIAL_S,
            wait_max=min(_WAIT_MAX_S, max(_WAIT_INITIAL_S, budget_s / _WAITS_MIN)),
            wait_jitter=min(_WAIT_JITTER_S, budget_s / _WAITS_MIN),
        ):
            with attempt:
                if failed is not None:
                    error, failed = failed, None
                    raise error
                reply = await self._attempt(call)
                self._answered()
                return reply
        raise AssertionError("stamina either returns or raises")

    def _tell(self, error: Unavailable, left_s: float) -> None:
        if self._on_wait is None or left_s <= 0 or error.code in self._told:
            return
        self._told.add(error.code)
        words = error.reason if isinstance(error, _Unreachable) else error.problem
        self._on_wait(Waiting(urlsplit(self._urls[self._at]).netloc, words, left_s))

    def _answered(self) -> None:
        if "E-UNREACHABLE" in self._told:
            self._told.discard("E-UNREACHABLE")
            if self._on_wait is not None:
                self._on_wait(None)

    async def _attempt(self, call: Call) -> Reply:
        url = self._urls[self._at]
        try:
            if call.wait_s:
                return await self._send(url, call)
            async with self._pace.turn(is_large=_is_large(call)) as turn:
                return await self._send(url, call, turn)
        except (aiohttp.ClientError, OSError) as error:
            self._at = (self._urls.index(url) + 1) % len(self._urls)
            _translate(error, url, call)

    async def _send(self, url: str, call: Call, turn: Turn | None = None) -> Reply:
        """Send once; if its `turn` asks first, the body waits until the gateway has seen the head and wants it."""
        length = len(call.body) if call.body is not None else 0
        timeouts = self._timeouts
        headers = {**call.headers, "Content-Type": call.content_type} if call.body is not None else dict(call.headers)
        own_id = self._request_id()
        if own_id is not None:
            headers[REQUEST_HEADER] = own_id
        async with self._opened().request(
            call.method,
            url + call.path,
            data=_Pieces(call.body, call.content_type, turn) if call.body is not None else None,
            headers=headers,
            params=list(call.query) or None,
            expect100=turn is not None and turn.asks_first,
            ssl=self._context(),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=timeouts.send_s + timeouts.read_s + call.wait_s + length / _SENT_BYTES_PER_S_MIN if length else None,
                sock_connect=timeouts.connect_s,
                sock_read=timeouts.read_s + call.wait_s,
            ),
        ) as response:
            if response.status in call.statuses:
                body = await _read(response, call.bytes_max, call.what, timeouts.read_s + call.wait_s)
                return Reply(response.status, response.headers, body)
            raise await _error(response, call.what)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=Connector(self._gateway, limit=self._connections, keepalive_timeout=_IDLE_S),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=_READ_BUFFER_BYTES,
                request_class=cast("type[ClientRequest]", functools.partial(_Request, unheard=self._pace.stop_asking)),
            )
        return self._session


class _Request(ClientRequest):
    """A request that asked first and hears nothing goes on all the same, as RFC 9110 section 10.1.1 wants it.

    Something in between may not know the question; `unheard` is told.
    """

    def __init__(self, *arguments: Any, unheard: Callable[[], None], **settings: Any) -> None:
        self._unheard = unheard
        super().__init__(*arguments, **settings)

    def update_expect_continue(self, expect: bool = False) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        super().update_expect_continue(expect)
        if self._continue is not None:
            self.loop.call_later(_UNHEARD_S, self._go_on, self._continue)

    def _go_on(self, told: "asyncio.Future[bool]") -> None:
        if not told.done():
            self._unheard()
            told.set_result(False)


class _Pieces(Payload):
    """A body in memory, written in pieces, so that one large body neither is copied nor holds up the loop."""

    def __init__(self, body: bytes | bytearray | memoryview, content_type: str, turn: Turn | None) -> None:
        super().__init__(body, content_type=content_type)
        self._turn = turn
        self._view = memoryview(body)
        self._length = len(self._view)
        self._size = self._length  # what aiohttp makes Content-Length of

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text; aiohttp asks for it only to show it."""
        return bytes(self._view).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write all of it."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write the first `content_length` bytes, or all."""
        if self._turn is not None:
            self._turn.body_begins()
        end = self._length if content_length is None else min(content_length, self._length)
        for position in range(0, end, _PIECE_BYTES):
            await writer.write(self._view[position : min(position + _PIECE_BYTES, end)])


def _is_large(call: Call) -> bool:
    """Tell whether the body is more than what is sent in one piece."""
    return call.body is not None and len(call.body) > _PIECE_BYTES


async def _read(response: aiohttp.ClientResponse, bytes_max: int, what: str, silence_s: float) -> bytes | bytearray:
    """Return the body; raise `PeerError` E-REQUEST beyond `bytes_max`, before it is held."""
    announced = response.content_length
    if announced is not None and announced > bytes_max:
        response.close()
        raise PeerError("E-REQUEST", f"{what} was answered with {announced} bytes, at most {bytes_max} are read")
    if announced is not None and announced > SCRATCH_BYTES:
        return await read_large(response, announced, silence_s)
    pieces: list[bytes] = []
    received = 0
    while piece := await response.content.readany():
        received += len(piece)
        if received > bytes_max:
            response.close()
            raise PeerError("E-REQUEST", f"{what} was answered with more than {bytes_max} bytes")
        pieces.append(piece)
    return b"".join(pieces)


async def _error(response: aiohttp.ClientResponse, what: str) -> CarnetError:
    """Return the error that an answer stands for."""
    if response.status < _ERROR_STATUS or response.content_type != PROBLEM_TYPE:
        response.close()
        return error_of_status(response.status, what, _retry_after(response))
    try:
        return error_of(Problem.parse(bytes(await _read(response, REQUEST_JSON_BYTES_MAX, what, _PROBLEM_S))))
    except PeerError:
        return error_of_status(response.status, what, _retry_after(response))


def _retry_after(response: aiohttp.ClientResponse) -> int | None:
    text = response.headers.get("Retry-After", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < len("86400") else None


def _backoff(error: Exception, deadline: float, failures: int) -> bool | float:
    """Tell stamina whether to try again: after the time that the gateway named, or by its own growing waits.

    stamina looks at its timeout when an attempt has failed, not at the wait that follows, so a wait past the deadline is ours to
    refuse.
    """
    if not isinstance(error, Unavailable) or error.code == "E-TIMEOUT":
        return False
    now = asyncio.get_running_loop().time()
    if error.code == "E-UNREACHABLE":
        return now < deadline
    # Everybody who was sent away would come back at once otherwise, and again and again.
    spread_s = min(_WAIT_MAX_S, _WAIT_JITTER_S * 2 ** (failures - 1))
    wait_s = error.retry_after_s + random.uniform(0, spread_s)  # noqa: S311 - spreads load, guards nothing
    return wait_s if now + wait_s < deadline else False


def _translate(error: Exception, url: str, call: Call) -> NoReturn:
    """Raise what a failed attempt means to us."""
    cause = _tls_cause(error)
    if cause is not None:
        raise explain_tls(cause, url) from None
    if isinstance(error, aiohttp.InvalidURL):
        raise CallerError("E-CONFIG", f"not a url: {url}") from None
    raise _Unreachable(f"{call.what} at {url}", "timed out" if isinstance(error, TimeoutError) else _words(error)) from None


class _Unreachable(Unavailable):
    """No answer came; `reason` is what the machine says."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__("E-UNREACHABLE", f"{what}: {reason}")
        self.reason = reason


def _tls_cause(error: BaseException | None) -> ssl.SSLError | None:
    """Return the TLS failure behind an error of aiohttp, if a certificate is what it is about."""
    while error is not None:
        # aiohttp's errors are TLS errors too, by inheritance, but have none of their attributes; theirs is the cause.
        own = isinstance(error, aiohttp.ClientError)
        if isinstance(error, ssl.SSLCertVerificationError) and not own:
            return error
        if isinstance(error, ssl.SSLError) and not own and "ALERT" in str(error.reason):
            return error
        error = error.__cause__ or error.__context__
    return None


def _words(error: Exception) -> str:
    """Return the system's words for a failure; aiohttp and asyncio leave them out more often than not."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        # Neither asyncio nor uvloop sends the alert when a client certificate does not verify: it looks like this instead.
        return "the connection was closed without an answer; if that repeats, the gateway does not know this certificate's CA"
    failed = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    words: str | None = getattr(failed, "strerror", None)
    if isinstance(failed, OSError) and failed.errno is not None and failed.errno > 0:
        words = os.strerror(failed.errno)  # asyncio's own words name a call and an address instead
    return words.lower() if words else "the connection was lost"
