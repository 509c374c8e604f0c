"""Handlers of the paths below /v1/artifacts and /v1/segments: what was delivered here, and how a consumer gets it."""

from aiohttp import web

from carnet.errors import CallerError
from carnet.paths import BINARY_TYPE
from gateway.http.admission import SEGMENT_COST_BYTES
from gateway.http.exchange import Exchange, one, page_size

_NO_CONTENT = 204


async def list_artifacts(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/artifacts: delivered artifacts by name; query `repository`, `limit`, `after`."""
    query = exchange.query("repository", "limit", "after")
    found = await exchange.gateway.artifacts.list(
        exchange.caller, repository=one(query, "repository"), limit=page_size(query), after=one(query, "after")
    )
    return await exchange.answer(found)


async def show(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/artifacts/{repository}:{tag}: all that a pull needs; with query `view=summary` only what it is."""
    view = one(exchange.query("view"), "view")
    if view not in {None, "summary"}:
        raise CallerError("E-USAGE", f"query parameter view: got {ascii(view)[:40]}, expected summary")
    repository, tag = exchange.artifact
    if view is not None:
        return await exchange.answer(await exchange.gateway.artifacts.show(exchange.caller, repository, tag))
    return await exchange.answer(await exchange.gateway.artifacts.release(exchange.caller, repository, tag))


async def delete(exchange: Exchange) -> web.StreamResponse:
    """DELETE /v1/artifacts/{repository}:{tag}: remove the tag and what only it needs; 204."""
    repository, tag = exchange.artifact
    await exchange.gateway.artifacts.delete(exchange.caller, repository, tag)
    return exchange.answer_empty(_NO_CONTENT)


async def segment(exchange: Exchange) -> web.StreamResponse:
    """GET /v1/segments/{sid}: the sealed bytes, which never change under their id."""
    async with exchange.context.admission.hold(exchange.caller, SEGMENT_COST_BYTES):
        data = await exchange.gateway.artifacts.segment(exchange.caller, exchange.segment)
        return await exchange.answer_bytes(data, BINARY_TYPE, headers={"Cache-Control": "private, immutable"})
