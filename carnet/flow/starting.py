"""What a program imports at its start, without what takes a third of that time and serves nobody.

A few thousand classes and functions come to be and none goes, so looking for garbage meanwhile finds none. aiohttp, when it is
imported, reads the system's certificate authorities, and we trust none of them. structlog loads a library that colours
tracebacks for terminals, while a server's log is JSON.

Rules:      1. what a program does is the same without it  2. a server's process is afterwards as it was before
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_AUTHORITIES: Final = "SSL_CERT_FILE"
"""The variable that tells OpenSSL which file of authorities to read by itself."""
_PLUGINS: Final = "PYDANTIC_DISABLE_PLUGINS"
"""The variable that keeps pydantic from reading the metadata of every installed distribution; we have no plugins for it."""
_ALLOCATIONS: Final = 100_000
"""New objects between two looks at the youngest of them, in a command that ends soon; Python's own number is 700."""


def begin_command() -> None:
    """Prepare this process for one command: called before it imports what it needs."""
    gc.set_threshold(_ALLOCATIONS)
    os.environ[_AUTHORITIES] = os.devnull
    os.environ.setdefault(_PLUGINS, "true")


def end_command() -> None:
    """Let the interpreter end without a last search for garbage among all that the command made: the system takes it back."""
    gc.freeze()


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import a server's parts; afterwards everything is as before, and what was imported is left out of later collections."""
    has_colours = "rich" in sys.modules
    was_collecting = gc.isenabled()
    authorities = os.environ.get(_AUTHORITIES)
    gc.disable()
    os.environ[_AUTHORITIES] = os.devnull
    if not has_colours:
        sys.modules["rich"] = None  # type: ignore[assignment]  # what Python takes for "not installed"
    try:
        yield
    finally:
        if not has_colours:
            del sys.modules["rich"]
        if authorities is None:
            del os.environ[_AUTHORITIES]
        else:
            os.environ[_AUTHORITIES] = authorities
        gc.freeze()
        if was_collecting:
            gc.enable()
