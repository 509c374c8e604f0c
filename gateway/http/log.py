"""Handlers of the paths below /log: the site's published checkpoint and tiles, as files.

The path has matched the tile grammar, which has no dots but one `.p/`; nothing else from the request becomes a file name.
"""

import asyncio
from pathlib import Path
from typing import Final

from aiohttp import web

from carnet.errors import NotFound
from carnet.limits import LOG_ENTRY_BYTES_MAX
from carnet.paths import BINARY_TYPE
from gateway.http.exchange import Exchange

_TILE_ENTRIES: Final = 256
_FILE_BYTES_MAX: Final = _TILE_ENTRIES * (LOG_ENTRY_BYTES_MAX + 2)
"""An entry bundle: the largest file of a log."""


async def checkpoint(exchange: Exchange) -> web.StreamResponse:
    """GET /log/checkpoint: the newest signed checkpoint."""
    return await _file(exchange, "checkpoint", "text/plain; charset=utf-8", "no-cache")


async def tile(exchange: Exchange) -> web.StreamResponse:
    """GET /log/tile/...: a tile or entry bundle, full or partial; its content never changes."""
    return await _file(exchange, f"tile/{exchange.names['tile']}", BINARY_TYPE, "public, max-age=31536000, immutable")


async def _file(exchange: Exchange, name: str, content_type: str, cache: str) -> web.StreamResponse:
    data = await asyncio.to_thread(_read, exchange.gateway.log.directory / name)
    if data is None:
        raise NotFound("E-PATH-UNKNOWN", f"the log has no file {name}")
    return await exchange.answer_bytes(data, content_type, headers={"Cache-Control": cache})


def _read(path: Path) -> bytes | None:
    """Return the file's bytes, or None if there is no such file."""
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
