"""Handlers of the paths below /v1/passages: what the neighbours on a passage hand over."""

from aiohttp import web

from carnet.identifiers import PassageId, SiteName
from carnet.letter import Direction
from carnet.messages import SlipRequest
from carnet.paths import BINARY_TYPE
from gateway.http.bodies import read_into
from gateway.http.exchange import Exchange, number

_CREATED, _OK, _NO_CONTENT = 201, 200, 204
_NUMBER_MAX = 1 << 31


async def take_slip(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/passages/{passage}/slips: a routing slip of the site before, with its log proof; 204."""
    request = await exchange.message(SlipRequest)
    await exchange.gateway.passages.take_slip(exchange.caller, _passage(exchange), request)
    return exchange.answer_empty(_NO_CONTENT)


async def put_segment(exchange: Exchange) -> web.StreamResponse:
    """PUT /v1/passages/{passage}/segments/{sid}: a segment that a slip names; 201 if new, 200 if present."""
    length = exchange.segment_length
    async with exchange.context.buffers.borrow(exchange.caller) as buffer:
        await read_into(exchange.request, buffer, length, exchange.context.bounds)
        data = memoryview(buffer)[:length]
        new = await exchange.gateway.passages.put_segment(exchange.caller, _passage(exchange), exchange.segment, data)
    return exchange.answer_empty(_CREATED if new else _OK)


async def put_letter(exchange: Exchange) -> web.StreamResponse:
    """PUT /v1/passages/{passage}/letters/{direction}/{number}: a sealed letter; query `slips`; 204."""
    slips = number(exchange.query("slips"), "slips", default=0, maximum=_NUMBER_MAX)
    direction = Direction(exchange.names["direction"])
    body = await exchange.octets()
    await exchange.gateway.passages.take_letter(
        exchange.caller, _passage(exchange), direction, int(exchange.names["number"]), slips, body
    )
    return exchange.answer_empty(_NO_CONTENT)


async def far_tile(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/sites/{site}/log/tile/...: a tile of the log of a site that this relay leads to."""
    site, name = SiteName(exchange.names["site"]), f"tile/{exchange.names['tile']}"
    data = await exchange.gateway.far_logs.file(exchange.caller, site, name)
    return await exchange.answer_bytes(data, BINARY_TYPE, headers={"Cache-Control": "no-store"})


def _passage(exchange: Exchange) -> PassageId:
    return PassageId(exchange.names["passage"])
