"""Syncs what a sink writes while it still writes, so that the end does not wait for a disk that was idle until then.

Rules:      1. the system tells of a failed sync once, to whoever asks first: so what failed here is kept, and raised by `end`
            2. one thread, made when first needed; after `end` there is none, and every file that was handed over is closed
"""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from carnet.limits import MIB

_SYNC_BYTES = 64 * MIB
"""After so many bytes what is written so far is synced."""
_CLOSING_MAX = 32
"""Files that wait to be synced and closed; one more waits for the first of them."""


class Syncing:
    """The syncs of one sink; it is called from one thread at a time."""

    def __init__(self) -> None:
        """Begin with nothing to sync."""
        self._thread: ThreadPoolExecutor | None = None
        self._running: deque[Future[None]] = deque()
        self._unsynced = 0
        self._failure: OSError | None = None

    def written(self, descriptor: int, count: int) -> None:
        """Be told that `count` bytes more of an open file are written. It stays open until `close`, or `end`, returns."""
        self._unsynced += count
        if self._unsynced >= _SYNC_BYTES and (not self._running or self._running[-1].done()):
            self._unsynced = 0
            self._begin(os.fdatasync, descriptor)

    def close(self, descriptor: int) -> None:
        """Take over a file that is complete, to sync and close it."""
        self._begin(_sync_and_close, descriptor)

    def end(self) -> None:
        """Wait for everything; raise the first `OSError` that there was. Idempotent but for that."""
        while self._running:
            self._take_first()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _begin(self, work: Callable[[int], None], descriptor: int) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="carnet-sync")
        self._running.append(self._thread.submit(work, descriptor))
        while len(self._running) > _CLOSING_MAX or (self._running and self._running[0].done()):
            self._take_first()

    def _take_first(self) -> None:
        try:
            self._running.popleft().result()
        except OSError as error:
            self._failure = self._failure or error


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
