"""Handlers of enrolment, renewal and trust."""

from aiohttp import web

from carnet.encoding import INTEGER_MAX
from carnet.messages import EnrollRequest, RenewRequest
from gateway.http.exchange import Exchange, number


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


async def revocations(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/revocations: the site's own set, if it is newer than `after`."""
    after = number(exchange.query("after"), "after", default=0, maximum=INTEGER_MAX)
    return await exchange.answer(exchange.gateway.trust.own_revocations(after))
