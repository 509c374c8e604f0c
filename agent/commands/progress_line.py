"""How a running push or pull is shown: a line on a terminal, JSON lines when asked, nothing otherwise.

Whatever is shown goes to standard error; results alone go to standard output.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

from carnet.flow.progress import Progress

_EVERY_S = 0.25
_JSON_EVERY_S = 1.0
_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000


class ProgressMode(StrEnum):
    """When progress is shown."""

    AUTO = "auto"
    JSON = "json"
    NONE = "none"


@asynccontextmanager
async def shown(progress: Progress, mode: ProgressMode, verb: str) -> AsyncIterator[None]:
    """Show `progress` while the body runs; the line is cleared at the end."""
    is_line = mode is ProgressMode.AUTO and sys.stderr.isatty()
    if not is_line and mode is not ProgressMode.JSON:
        yield
        return
    started = time.monotonic()
    show = _show_line if is_line else _show_json
    task = asyncio.create_task(_repeat(lambda: show(progress, verb, time.monotonic() - started), is_line=is_line))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        show(progress, verb, time.monotonic() - started)
        if is_line:
            _write("\r\x1b[K")


async def _repeat(show: Callable[[], None], *, is_line: bool) -> None:
    while True:
        await asyncio.sleep(_EVERY_S if is_line else _JSON_EVERY_S)
        show()


def _show_line(progress: Progress, verb: str, elapsed_s: float) -> None:
    rate = progress.done / elapsed_s if elapsed_s > 0 else 0.0
    total = f" of {format_bytes(progress.total)}" if progress.total else ""
    left = ""
    if progress.total and rate > 0:
        left = f", {format_seconds(max(0.0, (progress.total - progress.done) / rate))} left"
    text = (
        f"{verb} {format_bytes(progress.done)}{total}, {format_bytes(int(rate))}/s, "
        f"{format_bytes(progress.wire_bytes)} sent, {format_bytes(progress.saved)} saved{left}"
    )
    _write(f"\r\x1b[K{text[:200]}")


def _show_json(progress: Progress, verb: str, elapsed_s: float) -> None:
    rate = int(progress.done / elapsed_s) if elapsed_s > 0 else 0
    remaining = None
    if progress.total and rate:
        remaining = int(max(0, progress.total - progress.done) / rate)
    document = {
        "type": "progress",
        "verb": verb,
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
