"""Log lines: one JSON object a line, on standard error.

structlog is imported at first use: it costs a tenth of a second that `--help` need not spend.

Rules:      1. no secret and no plaintext is a field  2. standard output is never written to
"""

import logging
import sys
from typing import Any, Final, Literal, Protocol, TextIO

Level = Literal["debug", "info", "warning", "error"]
_NUMBERS: Final[dict[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class Logger(Protocol):
    """What the edges log through; `event` is a name of `gateway.telemetry.events`."""

    def debug(self, event: str, **fields: object) -> object:
        """Log a detail."""
        ...

    def info(self, event: str, **fields: object) -> object:
        """Log a fact."""
        ...

    def warning(self, event: str, **fields: object) -> object:
        """Log what an operator should look at."""
        ...

    def error(self, event: str, **fields: object) -> object:
        """Log what an operator must look at; `exc_info=True` adds the traceback."""
        ...


def configure(level: Level = "info", stream: TextIO | None = None) -> None:
    """Send all log lines from `level` on to `stream` (standard error); called once, by the process's entry."""
    import structlog

    output = stream or sys.stderr
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_NUMBERS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=output),
        cache_logger_on_first_use=False,
    )
    # Libraries log through the standard module; only their warnings matter here, and they go to the same stream.
    logging.basicConfig(
        level=logging.WARNING, stream=output, format='{"level": "%(levelname)s", "logger": "%(name)s", "event": "%(message)r"}'
    )


def get_logger() -> Logger:
    """Return the logger; what it writes is decided by `configure`."""
    import structlog

    found: Any = structlog.get_logger()
    logger: Logger = found
    return logger
