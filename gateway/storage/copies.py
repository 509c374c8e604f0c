"""Writes copies of decisions to places of other regions: storage that is mounted here, whose failure does not end the site.

Rules:      1. the directory of the site at a place is made by the operator, on the storage itself: where it is missing the
               storage is not there, and nothing is written beside it
            2. storage that does not answer is given up after `WRITE_S`, and asked for nothing more before it does
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from carnet.errors import CarnetError, InternalError
from gateway.settings import CopyPlace
from gateway.storage.durable import SyncFailure, write_durable

WRITE_S: Final = 60.0


class CopyStore:
    """Writes at places. One of these belongs to a site: it knows what has not answered yet."""

    def __init__(self, *, write_s: float = WRITE_S, write: Callable[[Path, bytes], None] = write_durable) -> None:
        """Give each write `write_s` seconds; `write` blocks until bytes are durable under a path."""
        self._write_s = write_s
        self._write = write
        self._writing: dict[Path, threading.Event] = {}

    async def put(self, place: CopyPlace, site: str, name: str, data: bytes) -> None:
        """Put `data` under `name` in the directory of `site` at the place; durable when this returns.

        Raises:
            StorageFull: E-DISK-FULL. InternalError: E-DISK: the directory is not there, or does not answer, or a sync failed.
        """
        directory = place.directory / site
        before = self._writing.get(directory)
        if before is not None and not before.is_set():
            raise InternalError("E-DISK", f"the storage of {directory} has not answered yet")
        ended, loop, result = threading.Event(), asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        self._writing[directory] = ended

        def work() -> None:
            error: CarnetError | None = None
            try:
                self._write_there(directory, name, data)
            except CarnetError as failure:
                error = failure
            finally:
                ended.set()
            with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile, and nobody waits
                loop.call_soon_threadsafe(_settle, result, error)

        # A thread of its own, which no stop of the process waits for: storage that hangs must not keep a site from ending.
        threading.Thread(target=work, name="copies", daemon=True).start()
        try:
            async with asyncio.timeout(self._write_s):
                await asyncio.shield(result)
        except TimeoutError:
            result.cancel()
            said = f"the storage of {directory} has not answered for {self._write_s:.0f} s"
            raise InternalError("E-DISK", said) from None

    def _write_there(self, directory: Path, name: str, data: bytes) -> None:
        if not directory.is_dir():
            remedy = f"see that the storage is mounted; once, on the storage itself: mkdir {directory}"
            raise InternalError("E-DISK", f"{directory} is not there", remedy=remedy)
        try:
            self._write(directory / name, data)
        except SyncFailure as failure:
            raise InternalError("E-DISK", f"a copy in {directory} could not be made durable: {failure.problem}") from None
        except OSError as error:
            raise InternalError("E-DISK", f"a copy in {directory} could not be written: {error.strerror}") from None


def _settle(result: "asyncio.Future[None]", error: CarnetError | None) -> None:
    if result.done():
        return
    if error is None:
        result.set_result(None)
    else:
        result.set_exception(error)
