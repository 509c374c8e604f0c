"""Handlers of enrolment, renewal and trust."""

from aiohttp import web

from carnet.messages import EnrollRequest, RenewRequest
from gateway.http.exchange import Exchange


async def enroll(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/enroll: use an invite up; its secret stands in for a certificate."""
    request = await exchange.message(EnrollRequest)
    return await exchange.answer(await exchange.gateway.enrolment.enroll(request))


async def renew(exchange: Exchange) -> web.StreamResponse:
    """POST /v1/renew: obtain the next certificate."""
    request = await exchange.message(RenewRequest)
    return await exchange.answer(await exchange.gateway.enrolment.renew(exchange.caller, request))


async def trust(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/trust: the bundle, KEM statements and checkpoints; all signed."""
    return await exchange.answer(await exchange.gateway.trust.response())
