"""Handlers of the paths below /v1/transfers: what agents and peers send, and what is asked about it."""

import asyncio
import hashlib

from aiohttp import web

from carnet.errors import CallerError
from carnet.identifiers import Digest, Repository, SegmentId, Tag
from carnet.messages import (
    ApproveRequest,
    CancelRequest,
    CommitRequest,
    DeclareRequest,
    ForwardRequest,
    RecallRequest,
    RewrapRequest,
    SiteMessage,
    TransferList,
    TransferView,
)
from carnet.paths import BINARY_TYPE, NEXT_HEADER, WAIT_S_MAX
from carnet.rowpage import ROWS_MAX, SentRow, encode_row_page
from gateway.http.bodies import read_into
from gateway.http.exchange import Exchange, number, one, page_size

_CREATED, _OK, _NO_CONTENT, _NOT_MODIFIED = 201, 200, 204, 304


async def declare(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/transfers: declare, or find the transfer that is open for the same lane, repository and tag."""
    request = await exchange.message(DeclareRequest)
    return await exchange.answer(await exchange.gateway.receive.declare(exchange.caller, request))


async def forward(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/transfers: declare what a site forwards; answered with the missing segments."""
    request = await exchange.message(ForwardRequest)
    return await exchange.answer(await exchange.gateway.inbound.declare(exchange.caller, request))


async def rows(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/transfers/{id}/rows: a page of sealed rows, to resume with; query `after`."""
    after = one(exchange.query("after"), "after")
    found = await exchange.gateway.receive.rows(
        exchange.caller, exchange.transfer, SegmentId(after) if after is not None else None
    )
    page = encode_row_page(SentRow(stored.id, stored.size, stored.row) for stored in found if stored.row is not None)
    headers = {NEXT_HEADER: str(found[-1].id)} if len(found) >= ROWS_MAX else {}
    return await exchange.answer_bytes(page, BINARY_TYPE, headers={"Cache-Control": "no-store", **headers})


async def put_segment(exchange: Exchange) -> web.StreamResponse:
    """PUT /v1/transfers/{id}/segments/{sid}: a segment, its row in a header; 201 if new, 200 if present."""
    length, row = exchange.segment_length, exchange.row
    async with exchange.context.buffers.borrow(exchange.caller) as buffer:
        await read_into(exchange.request, buffer, length, exchange.context.bounds)
        data = memoryview(buffer)[:length]
        new = await exchange.gateway.receive.put_segment(exchange.caller, exchange.transfer, exchange.segment, data, row)
    return exchange.answer_empty(_CREATED if new else _OK)


async def put_forwarded(exchange: Exchange) -> web.StreamResponse:
    """PUT /v1/transfers/{id}/segments/{sid}: a segment, without row; 201 if new, 200 if present."""
    length = exchange.segment_length
    async with exchange.context.buffers.borrow(exchange.caller) as buffer:
        await read_into(exchange.request, buffer, length, exchange.context.bounds)
        data = memoryview(buffer)[:length]
        new = await exchange.gateway.inbound.put_segment(exchange.caller, exchange.transfer, exchange.segment, data)
    return exchange.answer_empty(_CREATED if new else _OK)


async def commit(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/transfers/{id}/commit: bind waybill and packing list, or learn what is missing."""
    request = await exchange.message(CommitRequest)
    return await exchange.answer(await exchange.gateway.receive.commit(exchange.caller, exchange.transfer, request))


async def commit_forwarded(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/transfers/{id}/commit: end the segments; answered with the `stored` receipt, or what is missing."""
    return await exchange.answer(await exchange.gateway.inbound.commit(exchange.caller, exchange.transfer))


async def message(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/transfers/{id}/messages: a numbered message; a repeated number changes nothing; 204."""
    received = await exchange.message(SiteMessage)
    await exchange.gateway.inbound.message(exchange.caller, exchange.transfer, received)
    return exchange.answer_empty(_NO_CONTENT)


async def list_transfers(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/transfers: transfers without receipts, newest first; query `state` (repeatable), `limit`, `before`."""
    query = exchange.query("state", "limit", "before")
    found = await exchange.gateway.transfers.list(
        exchange.caller, states=tuple(query.get("state", ())), limit=page_size(query), before=one(query, "before")
    )
    return await exchange.answer(found)


async def show(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/transfers/{id}: the view; with `If-None-Match` and query `wait` the next other one, 304 if none comes."""
    wait_s = number(exchange.query("wait"), "wait", default=0, maximum=WAIT_S_MAX)
    known = exchange.request.headers.get("If-None-Match")
    view, tag = _tagged(await exchange.gateway.transfers.show(exchange.caller, exchange.transfer))
    if tag == known and wait_s:
        view, tag = await _next(exchange, known, wait_s)
    headers = {"ETag": tag}
    if tag == known:
        return exchange.answer_empty(_NOT_MODIFIED, headers=headers)
    return await exchange.answer(view, headers=headers)


async def cancel(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/transfers/{id}/cancel: give it up; the body may be absent."""
    request = await exchange.message(CancelRequest) if exchange.request.can_read_body else CancelRequest()
    return await exchange.answer(await exchange.gateway.transfers.cancel(exchange.caller, exchange.transfer, request.reason))


async def recallable(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/recalls: what a recall would withdraw; query `digest` of an artifact, or `name` (`repository:tag`)."""
    query = exchange.query("digest", "name")
    digest, name = one(query, "digest"), one(query, "name")
    if (digest is None) == (name is None):
        raise CallerError("E-USAGE", "name an artifact by the query parameter digest, or by name, and not by both")
    found = await exchange.gateway.recalls.find(
        exchange.caller,
        digest=None if digest is None else Digest(digest),
        name=None if name is None else _parse_name(name),
    )
    views = [await exchange.gateway.transfers.show(exchange.caller, transfer) for transfer in found]
    return await exchange.answer(TransferList(transfers=tuple(views)))


def _parse_name(text: str) -> tuple[Repository, Tag]:
    repository, _, tag = text.rpartition(":")
    return Repository(repository), Tag(tag)


async def recall(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/transfers/{id}/recall: withdraw it here and wherever it went; each site there answers in its own time."""
    request = await exchange.message(RecallRequest)
    await exchange.gateway.recalls.recall(exchange.caller, exchange.transfer, request.reason)
    return await exchange.answer(await exchange.gateway.transfers.show(exchange.caller, exchange.transfer))


async def retry(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/transfers/{id}/retry: try now what waits."""
    return await exchange.answer(await exchange.gateway.transfers.retry(exchange.caller, exchange.transfer))


async def sealed(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/transfers/{id}/releases: what the agent sealed itself, with the key release to itself."""
    return await exchange.answer(await exchange.gateway.needs_rewrap.sealed(exchange.caller, exchange.transfer))


async def rewrap(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/transfers/{id}/releases: the key, wrapped again where a delivery needs it; answered with the transfer."""
    request = await exchange.message(RewrapRequest)
    await exchange.gateway.needs_rewrap.take(exchange.caller, exchange.transfer, request)
    return await exchange.answer(await exchange.gateway.transfers.show(exchange.caller, exchange.transfer))


async def approval_requests(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/transfers/{id}/approvals: what is open for approval, as the signed documents to build the requests from."""
    return await exchange.answer(await exchange.gateway.approvals.requests(exchange.caller, exchange.transfer))


async def approve(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/transfers/{id}/approvals: a person's signed approval or rejection; answered with the transfer."""
    request = await exchange.message(ApproveRequest)
    return await exchange.answer(await exchange.gateway.approvals.take(exchange.caller, exchange.transfer, request))


async def _next(exchange: Exchange, known: str, wait_s: float) -> tuple[TransferView, str]:
    """Return the first view whose tag is not `known`, or the last one at the deadline or when the server stops.

    The wait for a change begins before the view is read, so a change in between is not missed.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    stopping = asyncio.ensure_future(exchange.context.stopping.wait())
    try:
        while True:
            remaining_s = deadline - loop.time()
            changed = asyncio.ensure_future(exchange.gateway.transfers.changed(exchange.transfer, max(remaining_s, 0)))
            try:
                view, tag = _tagged(await exchange.gateway.transfers.show(exchange.caller, exchange.transfer))
                if tag != known or remaining_s <= 0 or stopping.done():
                    return view, tag
                await asyncio.wait((changed, stopping), timeout=remaining_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
    finally:
        stopping.cancel()


def _tagged(view: TransferView) -> tuple[TransferView, str]:
    """Return the view and its entity tag."""
    return view, f'"{hashlib.sha256(view.encode()).hexdigest()[:32]}"'
