"""The listener for whoever runs the site: /metrics, /healthz and /readyz in plain HTTP, on an address of its own.

It is for loopback or a network that only operators reach: nobody is asked who he is, so nothing here names an artifact, an agent
or a person.

Rules:      1. these three paths and GET only  2. a request has no body and a short head  3. it has few connections
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from carnet.errors import CallerError, CarnetError
from carnet.limits import KIB
from carnet.paths import HEALTH, JSON_TYPE, METRICS, READY
from gateway.http.problems import SERVER
from gateway.http.surface import Reading
from gateway.telemetry.metrics import CONTENT_TYPE

_HEAD_BYTES_MAX: Final = 4 * KIB
_CONNECTIONS_MAX: Final = 32
_IDLE_S: Final = 75.0
_NOT_FOUND, _BUSY, _NOT_READY = 404, 429, 503


@asynccontextmanager
async def watched(address: tuple[str, int] | None, reading: Reading, require_ready: Callable[[], object]) -> AsyncIterator[int]:
    """Listen on `address` for as long as the context lasts; yields the port, or 0 without an address.

    `require_ready` raises a `CarnetError` while the site serves nobody.

    Raises:
        CallerError: E-CONFIG if the address cannot be listened on.
    """
    if address is None:
        yield 0
        return

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if len(server.connections) > _CONNECTIONS_MAX:
            return _closing(web.Response(status=_BUSY))
        response = await _answer(request, reading, require_ready)
        response.headers.update(SERVER)
        return response

    server = web.Server(
        answer,
        access_log=None,
        keepalive_timeout=_IDLE_S,
        max_line_size=_HEAD_BYTES_MAX,
        max_field_size=_HEAD_BYTES_MAX,
    )
    try:
        listener = await asyncio.get_running_loop().create_server(server, *address)
    except OSError as error:
        host, port = address
        raise CallerError("E-CONFIG", f"cannot listen on {host}:{port} (telemetry.listen): {error.strerror}") from None
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await server.shutdown(0.5)


async def _answer(request: web.BaseRequest, reading: Reading, require_ready: Callable[[], object]) -> web.StreamResponse:
    if request.method != "GET" or request.body_exists:
        return _closing(web.Response(status=_NOT_FOUND))
    if request.path == METRICS:
        return web.Response(body=await reading.text(), headers={"Content-Type": CONTENT_TYPE})
    if request.path == HEALTH:
        return web.Response(body=b'{"status":"alive"}', headers={"Content-Type": JSON_TYPE})
    if request.path == READY:
        try:
            require_ready()
        except CarnetError:
            return web.Response(status=_NOT_READY)
        return web.Response(body=b'{"status":"ready"}', headers={"Content-Type": JSON_TYPE})
    return web.Response(status=_NOT_FOUND)


def _closing(response: web.Response) -> web.Response:
    response.force_close()
    return response
