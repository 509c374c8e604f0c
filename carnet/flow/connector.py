"""A client's connections: refused unless they lead to the gateway expected, and large answers are read past the parser of HTTP.

Rules:      1. nothing is sent before the certificate was looked at  2. one whose answer was not read to its end is closed
"""

import asyncio
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest

from carnet.errors import NotAuthenticated
from carnet.flow.intake import SCRATCH_BYTES, Intake
from carnet.flow.tls import check_gateway
from carnet.identifiers import SpiffeId


class _Answers(ResponseHandler):
    """What comes over one connection, and where it comes from."""

    def __init__(self, scratch: memoryview) -> None:
        super().__init__(asyncio.get_running_loop())
        self.intake = Intake(self, scratch)

    async def fill(self, content: aiohttp.StreamReader, view: memoryview, silence_s: float) -> int:
        """Fill `view` with all that is missing of the body of `content`; return how much came, less if the connection was lost.

        Raises:
            TooSlow: nothing came for `silence_s`, or for up to twice as long.
        """
        loop = asyncio.get_running_loop()
        heard, came = loop.time(), 0

        def deadline(filled: int) -> float:
            nonlocal heard, came
            if filled != came:
                heard, came = loop.time(), filled
            return heard + silence_s

        def taken() -> None:
            self._parser = None  # it waits for the body in vain; the next request brings another
            content.feed_eof()

        self._drop_timeout()
        return await self.intake.fill(view, taken, deadline)


class Connector(aiohttp.TCPConnector):
    """Refuses a connection whose certificate is not the expected gateway's, before anything is sent over it."""

    def __init__(self, gateway: SpiffeId, **settings: Any) -> None:
        """Expect `gateway`; `settings` are aiohttp's own."""
        super().__init__(**settings)
        self._gateway = gateway
        scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._factory = lambda: _Answers(scratch).intake  # type: ignore[assignment]

    async def _wrap_create_connection(self, *arguments: Any, **settings: Any) -> Any:
        """Connect, and return what is behind the intake: aiohttp asks that."""
        transport, intake = await super()._wrap_create_connection(*arguments, **settings)
        return transport, cast("Intake", intake).connection

    # The parameter is aiohttp's: this method is the documented place to make connections otherwise.
    async def _create_connection(self, req: ClientRequest, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:  # noqa: ASYNC109
        protocol = await super()._create_connection(req, traces, timeout)
        transport = protocol.transport
        try:
            check_gateway(transport.get_extra_info("peercert") if transport is not None else None, self._gateway)
        except NotAuthenticated:
            protocol.close()
            raise
        return protocol


async def read_large(response: aiohttp.ClientResponse, length: int, silence_s: float) -> bytearray:
    """Return the body of `length` bytes: what the parser has is copied, the rest goes from TLS into its place at once.

    Raises `aiohttp.ClientError` if the connection is lost before, `TooSlow` if nothing comes for `silence_s`, or twice that.
    """
    content, body = response.content, bytearray(length)
    view, received = memoryview(body), 0
    while piece := content.read_nowait():
        view[received : received + len(piece)] = piece
        received += len(piece)
    if received < length and not content.is_eof() and response.connection is not None:
        answers = cast("_Answers", response.connection.protocol)
        received += await answers.fill(content, view[received:], silence_s)
    if received != length:
        raise aiohttp.ClientPayloadError(f"{received} of {length} bytes came")
    return body
