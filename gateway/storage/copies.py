"""Writes copies of decisions to places of other regions: storage that is mounted here, whose failure does not end the site.

Rules:      1. the directory of the site at a place is made by the operator, on the storage itself: where it is missing the
               storage is not there, and nothing is written beside it
            2. storage that does not answer is given up after `WRITE_S`, and asked for nothing more before it does
            3. whatever the storage answers ends the wait at once, in words that name region, directory and reason
"""

import asyncio
import stat
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from carnet.errors import CarnetError, InternalError, StorageFull
from gateway.settings import CopyPlace
from gateway.storage.durable import SyncFailure, write_durable

WRITE_S: Final = 60.0
LOOK_S: Final = 5.0


class NotThere(InternalError):
    """The directory of the site is not at a place: its storage is not mounted, or nobody made it."""

    exit_status = 2


class CopyStore:
    """Writes at places. One of these belongs to a site: it knows what has not answered yet."""

    def __init__(self, *, write_s: float = WRITE_S, write: Callable[[Path, bytes], None] = write_durable) -> None:
        """Give each write `write_s` seconds; `write` blocks until bytes are durable under a path."""
        self._write_s = write_s
        self._write = write
        self._writing: dict[Path, Future[None]] = {}

    async def put(self, place: CopyPlace, site: str, name: str, data: bytes) -> None:
        """Put `data` under `name` in the directory of `site` at the place; durable when this returns.

        Raises:
            StorageFull: E-DISK-FULL. InternalError: E-DISK: the directory is not there, or does not answer, or a sync failed.
        """
        directory = place.directory / site
        before = self._writing.get(directory)
        if before is not None and not before.done():
            raise _broken(place, directory, "has not answered yet")
        ended = Future[None]()
        ended.set_running_or_notify_cancel()  # nobody can take back what the storage is doing

        def work() -> None:
            try:
                self._write_there(place, directory, name, data)
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                ended.set_exception(error)
            else:
                ended.set_result(None)

        # A thread of its own, which no stop of the process waits for: storage that hangs must not keep a site from ending.
        threading.Thread(target=work, name="copies", daemon=True).start()
        self._writing[directory] = ended
        try:
            async with asyncio.timeout(self._write_s):
                await asyncio.wrap_future(ended)
        except TimeoutError:
            raise _broken(place, directory, f"has not answered for {self._write_s:.0f} s") from None

    def _write_there(self, place: CopyPlace, directory: Path, name: str, data: bytes) -> None:
        _require_there(place, directory)
        try:
            self._write(directory / name, data)
        except SyncFailure as failure:
            raise _broken(place, directory, f"did not make a copy durable: {failure.problem}") from None
        except StorageFull as failure:
            said = _words(place, directory, f"is full: {failure.problem}")
            raise StorageFull(failure.code, said, remedy="free space there", retry_after_s=failure.retry_after_s) from None
        except InternalError as failure:
            raise _broken(place, directory, f"did not take a copy: {failure.problem}") from None
        except OSError as error:
            raise _broken(place, directory, f"did not take a copy: {_reason(error)}") from None


def problems_at(places: Sequence[CopyPlace], site: str, *, look_s: float = LOOK_S) -> list[CarnetError]:
    """Look at the directory of `site` at all places at once and return what is wrong. Blocks for `look_s` at most."""
    found: list[CarnetError | None] = [
        _broken(place, place.directory / site, f"has not answered for {look_s:.0f} s") for place in places
    ]

    def look(number: int, place: CopyPlace) -> None:
        try:
            _require_there(place, place.directory / site)
        except CarnetError as error:
            found[number] = error
        else:
            found[number] = None

    # Threads that nobody waits for, as above.
    looks = [threading.Thread(target=look, args=one, name="copies", daemon=True) for one in enumerate(places)]
    for thread in looks:
        thread.start()
    ends = time.monotonic() + look_s
    for thread in looks:
        thread.join(max(0.0, ends - time.monotonic()))
    return [error for error in found if error is not None]


def _require_there(place: CopyPlace, directory: Path) -> None:
    """Raise `NotThere` E-DISK if the directory is missing, `InternalError` E-DISK if the storage does not tell."""
    try:
        is_there = stat.S_ISDIR(directory.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_there = False
    except OSError as error:
        raise _broken(place, directory, f"cannot be looked at: {_reason(error)}") from None
    if not is_there:
        remedy = f"see that the storage is mounted; once, on the storage itself: mkdir {directory}"
        raise NotThere("E-DISK", _words(place, directory, "is not there"), remedy=remedy)


def _broken(place: CopyPlace, directory: Path, what: str) -> InternalError:
    remedy = f"see that the storage at {place.directory} is mounted, answers and can be written"
    return InternalError("E-DISK", _words(place, directory, what), remedy=remedy)


def _words(place: CopyPlace, directory: Path, what: str) -> str:
    return f"{directory}, for copies in {place.region}, {what}"


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
