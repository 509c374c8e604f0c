"""How a running push or pull is shown: a line on a terminal, JSON lines when asked, nothing otherwise.

Whatever is shown goes to standard error; results alone go to standard output.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from agent.commands.connection import saying, until, waiting_words
from carnet.flow.commandline import Terminal
from carnet.flow.progress import Progress
from carnet.timestamps import format_time

if TYPE_CHECKING:
    from carnet.flow.link import OnWait, Waiting

_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000


class ProgressMode(StrEnum):
    """When progress is shown."""

    AUTO = "auto"
    JSON = "json"
    NONE = "none"


@asynccontextmanager
async def shown(progress: Progress, mode: ProgressMode, verb: str, terminal: Terminal) -> "AsyncIterator[OnWait]":
    """Show `progress` while the body runs, cleared at the end; yield what shows that the gateway is waited for."""
    is_line = mode is ProgressMode.AUTO and sys.stderr.isatty()
    if not is_line and mode is not ProgressMode.JSON:
        yield saying(terminal)
        return
    display = _Line(progress, verb) if is_line else _Events(progress, verb)
    task = asyncio.create_task(display.repeat())
    try:
        yield display.waits
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        display.end()


class _Display:
    """Shows how far a push or pull is, at intervals."""

    every_s: ClassVar[float]

    def __init__(self, progress: Progress, verb: str) -> None:
        self._progress = progress
        self._verb = verb
        self._started = time.monotonic()

    async def repeat(self) -> None:
        """Show until cancelled."""
        while True:
            await asyncio.sleep(self.every_s)
            self.show()

    def show(self) -> None:
        """Show how far it is now."""
        raise NotImplementedError

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started


class _Line(_Display):
    """One line of a terminal, written over again and again."""

    every_s = 0.25
    _waiting = ""

    def waits(self, waiting: "Waiting | None") -> None:
        """Show for whom we wait in place of the progress, until it answers."""
        self._waiting = "" if waiting is None else waiting_words(waiting, until(waiting))
        self.show()

    def show(self) -> None:
        """Write the line."""
        progress, elapsed_s = self._progress, self._elapsed_s
        rate = progress.done / elapsed_s if elapsed_s > 0 else 0.0
        total = f" of {format_bytes(progress.total)}" if progress.total else ""
        left = ""
        if progress.total and rate > 0:
            left = f", {format_seconds(max(0.0, (progress.total - progress.done) / rate))} left"
        text = self._waiting or (
            f"{self._verb} {format_bytes(progress.done)}{total}, {format_bytes(int(rate))}/s, "
            f"{format_bytes(progress.wire_bytes)} sent, {format_bytes(progress.saved)} saved{left}"
        )
        _write(f"\r\x1b[K{text[:200]}")

    def end(self) -> None:
        """Clear the line: what follows is the result."""
        _write("\r\x1b[K")


class _Events(_Display):
    """JSON lines, for the program that started us."""

    every_s = 1.0

    def waits(self, waiting: "Waiting | None") -> None:
        """Tell for whom we wait; None that it answers again."""
        document: dict[str, Any] = {"type": "waiting" if waiting else "answering", "verb": self._verb}
        if waiting is not None:
            end = format_time(until(waiting).astimezone(UTC))
            document |= {"gateway": waiting.gateway, "problem": waiting.problem, "until": end}
        _write(json.dumps(document, sort_keys=True) + "\n")

    def show(self) -> None:
        """Tell how far it is."""
        progress, elapsed_s = self._progress, self._elapsed_s
        rate = int(progress.done / elapsed_s) if elapsed_s > 0 else 0
        remaining = None
        if progress.total and rate:
            remaining = int(max(0, progress.total - progress.done) / rate)
        document = {
            "type": "progress",
            "verb": self._verb,
            "bytes_done": progress.done,
            "bytes_total": progress.total,
            "bytes_sent": progress.wire_bytes,
            "bytes_saved": progress.saved,
            "segments_sent": progress.segments_sent,
            "bytes_per_s": rate,
            "elapsed_ms": int(elapsed_s * 1000),
            "remaining_s": remaining,
        }
        _write(json.dumps(document, sort_keys=True) + "\n")

    def end(self) -> None:
        """Tell the last of it."""
        self.show()


def format_bytes(count: int | None) -> str:
    """Return a size for people: decimal units, three digits."""
    if count is None:
        return "?"
    value, unit = float(count), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.3g} {_UNITS[unit]}"


def format_seconds(seconds: float) -> str:
    """Return a duration for people."""
    whole = int(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min"  # noqa: PLR2004 - minutes read better from two on


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
