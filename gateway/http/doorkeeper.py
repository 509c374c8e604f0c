"""The doorkeeper: listens, takes connections in, and does the TLS handshake with each before anything else is spent on it.

Whoever has not finished the handshake is nobody yet, so there are few of them: one more makes the one that has waited longest go.
A caller who means it is through in two round trips; one who opens thousands of sockets and says nothing pushes out only his own.

Rules:      1. at most `handshakes_max` connections are in their handshake  2. when `end` returns, nothing listens and none is
Source:     asyncio's `connect_accepted_socket`; a listener that does TLS itself bounds nothing before the handshake is done
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

from gateway.descriptors import OUT_OF_FILES
from gateway.http.bounds import Bounds
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger

_BACKLOG: Final = 512
_AT_ONCE: Final = 32
"""Connections taken in before others have their turn."""
_REST_S: Final = 1.0
"""How long nothing is taken in when the system has no open file or no memory left for it."""
_EXHAUSTED: Final = OUT_OF_FILES | {errno.ENOBUFS, errno.ENOMEM}


class Doorkeeper:
    """Owns the listening sockets and every handshake; itself owned by the event loop."""

    def __init__(
        self, make: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext, bounds: Bounds, *, close_s: float
    ) -> None:
        """`make` returns the protocol of a connection; `close_s` is the time for TLS to say goodbye."""
        self._make = make
        self._context = context
        self._bounds = bounds
        self._close_s = close_s
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}
        self._waiting: dict[asyncio.Task[None], socket.socket] = {}
        """Connections in their handshake, the oldest first."""
        self._leaving: set[asyncio.Task[None]] = set()
        """Handshakes that were broken off and are not over yet."""

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening socket, in the order of `listen`."""
        return [listener.getsockname()[:2] for listener in self._listeners]

    async def listen(self, host: str, port: int) -> None:
        """Listen on every address of `host`; raise `OSError` if one cannot be had."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, (name, _, *rest) in dict.fromkeys((one[0], one[4]) for one in found):
            listener = socket.create_server((name, port, *rest), family=family, backlog=_BACKLOG)
            listener.setblocking(False)
            # Where any free port was asked for, all addresses of the name have the one that the first was given.
            port = port or listener.getsockname()[1]
            self._listeners.append(listener)
            self._loop.add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Listen no more."""
        for timer in self._resting.values():
            timer.cancel()
        self._resting.clear()
        while self._listeners:
            listener = self._listeners.pop()
            self._loop.remove_reader(listener)
            listener.close()

    async def end(self) -> None:
        """Listen no more, break off every handshake and wait until each is over."""
        self.close()
        while self._waiting:
            self._break_off(next(iter(self._waiting)))
        await asyncio.gather(*self._leaving, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _ = listener.accept()
            except OSError as error:
                # All else is about the one connection, which is gone already, or says that there is none.
                if error.errno not in _EXHAUSTED:
                    return
                get_logger().warning(events.CONNECTION_CUT, reason="exhausted", error=error.strerror)
                self._loop.remove_reader(listener)
                self._resting[listener] = self._loop.call_later(_REST_S, self._resume, listener)
                return
            accepted.setblocking(False)
            self._admit(accepted)

    def _resume(self, listener: socket.socket) -> None:
        del self._resting[listener]
        self._loop.add_reader(listener, self._accept, listener)

    def _admit(self, accepted: socket.socket) -> None:
        if len(self._waiting) >= self._bounds.handshakes_max:
            self._break_off(next(iter(self._waiting)))
            get_logger().debug(events.CONNECTION_CUT, reason="handshakes_max")
        self._waiting[self._loop.create_task(self._shake_hands(accepted))] = accepted

    def _break_off(self, task: asyncio.Task[None]) -> None:
        """Shut the socket, which ends the handshake; cancel one that does not notice, because it was only about to begin."""
        accepted = self._waiting.pop(task)
        self._leaving.add(task)
        with contextlib.suppress(OSError):
            accepted.shutdown(socket.SHUT_RDWR)
        # Not at once: a task that has not begun would leave its socket open.
        self._loop.call_later(self._close_s, task.cancel)

    async def _shake_hands(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._bounds.handshake_s,
                ssl_shutdown_timeout=self._close_s,
            )
        except OSError as error:
            # Errors of TLS are of this kind too; whoever it was has been told by an alert.
            get_logger().debug(events.CONNECTION_CUT, reason="handshake", error=type(error).__name__)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._waiting.pop(task, None)
                self._leaving.discard(task)
