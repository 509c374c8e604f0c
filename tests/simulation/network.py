"""The network between simulated parties: the messages are the product's, encoded and parsed; what the wire does is the seed's.

A request may be lost, its answer may be lost, both may be slow, and a copy of it may arrive much later. A way may be cut in one
direction. Whoever relays bytes may change those of a segment, or put another transfer's proof before a declaration: receivers
must see it. A new kind of request is one line in `_SERVED` and one method of `Client`.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from carnet.errors import CarnetError, InternalError, NotFound, Unavailable
from carnet.identifiers import Repository, SegmentId, SpiffeId, Tag, TransferId
from carnet.messages import (
    ArtifactRelease,
    CommitRequest,
    CommitResponse,
    DeclareRequest,
    DeclareResponse,
    ForwardRequest,
    ForwardResponse,
    Problem,
    RevocationResponse,
    SiteMessage,
    TransferView,
    TrustResponse,
)
from carnet.problems import error_of, problem_of
from carnet.rowpage import SentRow, encode_row_page, parse_row_page
from tests.simulation.loop import PROCESS, Process

LOST_S = 5.0
_SLOW_S = 20.0
_STALE_S = 40.0


@dataclass(frozen=True)
class Request:
    """One request as it lies on the wire."""

    caller: SpiffeId
    source: str
    to: str
    verb: str
    names: tuple[str, ...] = ()
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.source}>{self.to} {self.verb} {' '.join(name[:12] for name in self.names)}"


@dataclass
class Weather:
    """How likely each misfortune is, a request."""

    lost: float = 0.0
    answer_lost: float = 0.0
    copied: float = 0.0
    slow: float = 0.0
    changed: float = 0.0
    swapped: float = 0.0


class Host:
    """Where requests arrive: a site that runs."""

    process: Process
    gateway: Any
    read_log: Callable[[str], bytes | None]


@dataclass
class Network:
    """Carries requests between hosts."""

    choice: random.Random
    note: Callable[[str], None]
    hosts: dict[str, Host] = field(default_factory=dict)
    weather: Weather = field(default_factory=Weather)
    cut: set[tuple[str, str]] = field(default_factory=set)
    arriving: Callable[[Request], None] = lambda _request: None
    """Is told of every request before its receiver is."""
    asking: Callable[[Request], None] = lambda _request: None
    """Is told of every request when its asker sends it."""
    answered: Callable[[Request, bytes], None] = lambda _request, _answer: None
    """Is told of every good answer when the asker gets it."""
    _pending: dict[Process, dict["asyncio.Future[bytes]", None]] = field(default_factory=dict)
    _offers: dict[tuple[str, str], Any] = field(default_factory=dict)

    async def ask(self, request: Request) -> bytes:
        """Return the answer; raise what the receiver raised, or `Unavailable` for what the network did."""
        loop, weather, choice = asyncio.get_running_loop(), self.weather, self.choice
        self.asking(request)
        fate = choice.random()
        request = self._changed(request) if choice.random() < weather.changed else request
        request = self._swapped(request) if request.verb == "forward-declare" else request
        answer: asyncio.Future[bytes] = loop.create_future()
        delay = choice.random() * (_SLOW_S if choice.random() < weather.slow else 0.05)
        if choice.random() < weather.copied:
            loop.call_later(choice.random() * _STALE_S, self._arrive, request, None, context=_NOWHERE)
        if fate < weather.lost or (request.source, request.to) in self.cut:
            self.note(f"lost {request}")
        else:
            kept = None if fate < weather.lost + weather.answer_lost or (request.to, request.source) in self.cut else answer
            loop.call_later(delay, self._arrive, request, kept, context=_NOWHERE)
        try:
            async with asyncio.timeout(LOST_S + _SLOW_S):
                body = await answer
        except TimeoutError:
            raise Unavailable("E-UNREACHABLE", f"no answer: {request}", retry_after_s=1) from None
        self.answered(request, body)
        return body

    def died(self, process: Process) -> None:
        """Break the connections to a process that is dead."""
        for answer in self._pending.pop(process, ()):
            _refuse(answer)

    def _arrive(self, request: Request, answer: "asyncio.Future[bytes] | None") -> None:
        host = self.hosts.get(request.to)
        if host is None or not host.process.alive:
            return _refuse(answer)
        self.note(str(request))
        self.arriving(request)
        loop = asyncio.get_running_loop()
        task = loop.create_task(_serve(host, request), context=host.process.context.copy())
        pending = self._pending.setdefault(host.process, {})
        if answer is not None:
            pending[answer] = None

        def done(task: "asyncio.Task[bytes | CarnetError]") -> None:
            if answer is None:
                if not task.cancelled():
                    task.exception()
                return
            pending.pop(answer, None)
            loop.call_later(self.choice.random() * 0.05, _settle, answer, task, context=_NOWHERE)

        task.add_done_callback(done, context=_NOWHERE)
        return None

    def _swapped(self, request: Request) -> Request:
        """Keep the proof of a declaration; sometimes return it with that of another one."""
        message = ForwardRequest.parse(request.body)
        key = (str(message.transfer), request.to)
        others = [offer for about, offer in self._offers.items() if about != key]
        self._offers[key] = message.offer
        if not others or self.choice.random() >= self.weather.swapped:
            return request
        self.note(f"swapped {request}")
        return replace(request, body=message.model_copy(update={"offer": others[-1]}).encode())

    def _changed(self, request: Request) -> Request:
        """Return the request as a dishonest wire hands it on."""
        if request.verb in {"put", "forward-put"}:
            spot = self.choice.randrange(len(request.body))
            self.note(f"changed {request}")
            return replace(request, body=request.body[:spot] + bytes([request.body[spot] ^ 1]) + request.body[spot + 1 :])
        return request


_NOWHERE = Process("network").context


def _refuse(answer: "asyncio.Future[bytes] | None") -> None:
    if answer is not None and not answer.done():
        answer.set_exception(Unavailable("E-UNREACHABLE", "connection refused", retry_after_s=1))


def _settle(answer: "asyncio.Future[bytes]", task: "asyncio.Task[bytes | CarnetError]") -> None:
    if answer.done() or task.cancelled():
        return
    result = task.result()
    if isinstance(result, CarnetError):
        document = problem_of(result, request="0" * 16).encode()
        answer.set_exception(error_of(Problem.parse(document)))
    else:
        answer.set_result(result)


async def _serve(host: Host, request: Request) -> bytes | CarnetError:
    try:
        host.gateway.trust.revocations.check_leaf(request.caller, ENROLLED)
        return await _SERVED[request.verb](host, request)
    except CarnetError as error:
        return error
    except Exception as error:  # noqa: BLE001 - as the edge does; a defect must not pass for a refusal
        DEFECTS.append(error)
        return InternalError("E-INTERNAL", f"{type(error).__name__}: {error}")


DEFECTS: list[Exception] = []
"""Exceptions that no use case may raise."""
ENROLLED: Any = None
"""When the certificates of all were issued; set by the scenario."""

Served = Callable[[Any, Request], Awaitable[bytes]]


async def _declare(host: Any, request: Request) -> bytes:
    return (await host.gateway.receive.declare(request.caller, DeclareRequest.parse(request.body))).encode()


async def _rows(host: Any, request: Request) -> bytes:
    found = await host.gateway.receive.rows(request.caller, TransferId(request.names[0]), None)
    return encode_row_page(SentRow(one.id, one.size, one.row) for one in found if one.row is not None)


async def _put(host: Any, request: Request) -> bytes:
    transfer, segment, row = TransferId(request.names[0]), SegmentId(request.names[1]), request.names[2]
    body = bytearray(request.body)
    return b"%d" % await host.gateway.receive.put_segment(request.caller, transfer, segment, body, bytes.fromhex(row) or None)


async def _commit(host: Any, request: Request) -> bytes:
    message = CommitRequest.parse(request.body)
    return (await host.gateway.receive.commit(request.caller, TransferId(request.names[0]), message)).encode()


async def _show(host: Any, request: Request) -> bytes:
    return (await host.gateway.transfers.show(request.caller, TransferId(request.names[0]))).encode()


async def _cancel(host: Any, request: Request) -> bytes:
    return (await host.gateway.transfers.cancel(request.caller, TransferId(request.names[0]), "not wanted")).encode()


async def _retry(host: Any, request: Request) -> bytes:
    return (await host.gateway.transfers.retry(request.caller, TransferId(request.names[0]))).encode()


async def _recall(host: Any, request: Request) -> bytes:
    await host.gateway.recalls.recall(request.caller, TransferId(request.names[0]), "found to be bad")
    return b""


async def _release(host: Any, request: Request) -> bytes:
    return (await host.gateway.artifacts.release(request.caller, Repository(request.names[0]), Tag(request.names[1]))).encode()


async def _segment(host: Any, request: Request) -> bytes:
    found: bytes = await host.gateway.artifacts.segment(request.caller, SegmentId(request.names[0]))
    return found


async def _trust(host: Any, request: Request) -> bytes:
    return (await host.gateway.trust.response()).encode()


async def _revocations(host: Any, request: Request) -> bytes:
    return host.gateway.trust.own_revocations(int(request.names[0])).encode()


async def _log_file(host: Any, request: Request) -> bytes:
    data = host.read_log(request.names[0])
    if data is None:
        raise NotFound("E-PATH-UNKNOWN", f"the log has no file {request.names[0]}")
    return data


async def _forward_declare(host: Any, request: Request) -> bytes:
    return (await host.gateway.inbound.declare(request.caller, ForwardRequest.parse(request.body))).encode()


async def _forward_put(host: Any, request: Request) -> bytes:
    transfer, segment = TransferId(request.names[0]), SegmentId(request.names[1])
    return b"%d" % await host.gateway.inbound.put_segment(request.caller, transfer, segment, bytearray(request.body))


async def _forward_commit(host: Any, request: Request) -> bytes:
    return (await host.gateway.inbound.commit(request.caller, TransferId(request.names[0]))).encode()


async def _message(host: Any, request: Request) -> bytes:
    await host.gateway.inbound.message(request.caller, TransferId(request.names[0]), SiteMessage.parse(request.body))
    return b""


_SERVED: dict[str, Served] = {
    "declare": _declare,
    "rows": _rows,
    "put": _put,
    "commit": _commit,
    "show": _show,
    "cancel": _cancel,
    "retry": _retry,
    "recall": _recall,
    "release": _release,
    "segment": _segment,
    "trust": _trust,
    "revocations": _revocations,
    "log": _log_file,
    "forward-declare": _forward_declare,
    "forward-put": _forward_put,
    "forward-commit": _forward_commit,
    "message": _message,
}


_SLOTS = 4


class Client:
    """`carnet.flow.client.PeerClient` as far as sites and agents use it, over the simulated network."""

    def __init__(self, network: Network, caller: SpiffeId, source: str, to: str) -> None:
        self._network, self._caller, self._source, self._to = network, caller, source, to
        self.slots = asyncio.Semaphore(_SLOTS)

    async def _ask(self, verb: str, *names: object, body: bytes = b"") -> bytes:
        request = Request(self._caller, self._source, self._to, verb, tuple(map(str, names)), body)
        return await self._network.ask(request)

    async def close(self) -> None:
        """Nothing is open."""

    async def declare(self, request: DeclareRequest) -> DeclareResponse:
        return DeclareResponse.parse(await self._ask("declare", body=request.encode()))

    async def rows(self, transfer: TransferId) -> AsyncIterator[SentRow]:
        for sent in parse_row_page(await self._ask("rows", transfer)):
            yield sent

    async def put_segment(self, transfer: TransferId, segment: SegmentId, body: Any, row: bytes | None = None) -> bool:
        if PROCESS.get() is None or row is not None or self._source == "agent":
            return await self._ask("put", transfer, segment, (row or b"").hex(), body=bytes(body)) == b"1"
        return await self._ask("forward-put", transfer, segment, body=bytes(body)) == b"1"

    async def commit(self, transfer: TransferId, request: CommitRequest) -> CommitResponse:
        return CommitResponse.parse(await self._ask("commit", transfer, body=request.encode()))

    async def show(self, transfer: TransferId) -> TransferView:
        return TransferView.parse(await self._ask("show", transfer))

    async def cancel(self, transfer: TransferId) -> TransferView:
        return TransferView.parse(await self._ask("cancel", transfer))

    async def retry(self, transfer: TransferId) -> TransferView:
        return TransferView.parse(await self._ask("retry", transfer))

    async def recall(self, transfer: TransferId) -> None:
        await self._ask("recall", transfer)

    async def artifact_release(self, repository: Repository, tag: Tag) -> ArtifactRelease:
        return ArtifactRelease.parse(await self._ask("release", repository, tag))

    async def segment(self, segment: SegmentId) -> bytes:
        return await self._ask("segment", segment)

    async def trust(self) -> TrustResponse:
        return TrustResponse.parse(await self._ask("trust"))

    async def revocations(self, after: int) -> RevocationResponse:
        return RevocationResponse.parse(await self._ask("revocations", after))

    async def log_file(self, name: str) -> bytes:
        return await self._ask("log", name)

    async def forward_declare(self, request: ForwardRequest) -> ForwardResponse:
        return ForwardResponse.parse(await self._ask("forward-declare", body=request.encode()))

    async def forward_commit(self, transfer: TransferId) -> ForwardResponse:
        return ForwardResponse.parse(await self._ask("forward-commit", transfer))

    async def message(self, transfer: TransferId, message: SiteMessage) -> None:
        await self._ask("message", transfer, body=message.encode())
