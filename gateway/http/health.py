"""Handlers for whoever runs the process: is it alive, and should it get traffic."""

from aiohttp import web

from carnet.errors import IntegrityError, Unavailable
from carnet.paths import JSON_TYPE
from gateway.http.exchange import Exchange


async def alive(exchange: Exchange) -> web.StreamResponse:
    """GET /healthz: the event loop turns."""
    return await exchange.answer_bytes(b'{"status":"alive"}', JSON_TYPE, headers={"Cache-Control": "no-store"})


async def ready(exchange: Exchange) -> web.StreamResponse:
    """GET /readyz: 200 when requests are served; 503 while stopping, and before the first trust bundle."""
    try:
        exchange.gateway.trust.state()
    except IntegrityError as error:
        raise Unavailable("E-BUSY", error.problem, remedy=error.remedy, retry_after_s=10) from None
    return await exchange.answer_bytes(b'{"status":"ready"}', JSON_TYPE, headers={"Cache-Control": "no-store"})
