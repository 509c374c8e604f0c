"""Asks a gateway for /healthz again and again, as whoever balances load would, and keeps how long each answer took.

Each question has a connection that is kept; the time is that of an answer from a loop that others keep busy.
"""

import http.client
import ssl
import threading
import time
from pathlib import Path
from typing import Self

from benchmarks.processes import Failed

_TIMEOUT_S = 30.0


class HealthPoll(threading.Thread):
    """Asks every `interval_s` seconds until `finish`; a context that begins and ends it."""

    def __init__(self, host: str, port: int, ca: Path, *, interval_s: float = 0.05) -> None:
        """`ca` is the certificate of the authority that the gateway's own is from."""
        super().__init__(daemon=True)
        self._address = (host, port)
        self._context = ssl.create_default_context(cafile=str(ca))
        self._interval_s = interval_s
        self._done = threading.Event()
        self.seconds: list[float] = []
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; nothing is asked any more."""
        self._done.set()
        self.join()

    def run(self) -> None:
        """Ask; a failure counts as one, and the next question has a new connection."""
        connection = self._connect()
        while not self._done.wait(self._interval_s):
            started = time.monotonic()
            try:
                self._ask(connection)
            except (OSError, http.client.HTTPException, Failed) as failure:
                self.failures.append(f"{type(failure).__name__}: {failure}")
                connection.close()
                connection = self._connect()
            self.seconds.append(time.monotonic() - started)
        connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(*self._address, timeout=_TIMEOUT_S, context=self._context)

    @staticmethod
    def _ask(connection: http.client.HTTPSConnection) -> None:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise Failed(f"/healthz answered {answer.status}")
