"""The cause: the request, or the attempt at background work, on whose behalf code runs; log lines and peers are told it.

It is a random id of ours; a peer's, which has the same form, stands beside it in the line of the exchange. So lines of two sites
that belong together can be found by one search.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_ID_BYTES: Final = 8
_ID: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_CURRENT: Final[ContextVar[str | None]] = ContextVar("carnet_cause", default=None)


def new_cause() -> str:
    """Return a new id."""
    return secrets.token_hex(_ID_BYTES)


def is_cause(text: str) -> bool:
    """Tell whether `text`, from outside, has the form of an id."""
    return _ID.fullmatch(text) is not None


def current_cause() -> str | None:
    """Return the id on whose behalf the caller runs, or None."""
    return _CURRENT.get()


@contextmanager
def caused_by(cause: str) -> Iterator[None]:
    """Let everything within, tasks begun there too, run on behalf of `cause`."""
    token = _CURRENT.set(cause)
    try:
        yield
    finally:
        _CURRENT.reset(token)
