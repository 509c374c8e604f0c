"""The one place where an error becomes an answer: a problem document with its status, and the defect's traceback in the log.

Rules:      1. an error of ours tells what it says, anything else is E-INTERNAL and tells only the request id
            2. a refusal before the body was read closes the connection, so that the rest of the body is not taken for a request
Source:     RFC 9457; docs/protocol.md section "Problems"
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiohttp import web

from carnet.errors import CarnetError, InternalError, Unavailable
from carnet.paths import PROBLEM_TYPE, REQUEST_HEADER
from carnet.problems import problem_of
from gateway.descriptors import OUT_OF_FILES
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger

Answer = TypeVar("Answer")
SERVER: Final = {"Server": "carnet"}
"""In every answer; the library would tell its version and the interpreter's instead."""


def problem_response(error: CarnetError, *, request_id: str) -> web.Response:
    """Return the answer for `error`."""
    headers = {REQUEST_HEADER: request_id, "Content-Type": PROBLEM_TYPE, "Cache-Control": "no-store", **SERVER}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
    return web.Response(status=error.http_status, headers=headers, body=problem_of(error, request=request_id).encode())


async def guard(
    answer: Callable[[], Awaitable[Answer]], *, request_id: str, is_connected: Callable[[], bool]
) -> Answer | CarnetError:
    """Return what `answer` returns, or the `CarnetError` to tell the client; cancellation and a lost client pass through."""
    try:
        return await answer()
    except InternalError as error:
        get_logger().error(events.REQUEST_FAILED, request=request_id, exc_info=True)
        return error
    except CarnetError as error:
        return error
    except Exception as error:
        if isinstance(error, ConnectionError) and not is_connected():
            raise
        get_logger().error(events.REQUEST_FAILED, request=request_id, exc_info=True)
        if isinstance(error, OSError) and error.errno in OUT_OF_FILES:
            return Unavailable("E-BUSY", "the gateway has no open file left for this request", limit="open_files")
        return InternalError("E-INTERNAL", f"the gateway failed; its log has the cause under request {request_id}")
