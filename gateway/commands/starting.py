"""What a server imports at its start, without what takes a quarter of that time and serves nobody.

A few thousand classes and functions come to be and none goes, so looking for garbage meanwhile finds none; and structlog loads a
library that colours tracebacks for terminals, while a server's log is JSON.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import within this context; afterwards everything is as before, and what was imported is left out of later collections."""
    has_colours = "rich" in sys.modules
    was_collecting = gc.isenabled()
    gc.disable()
    if not has_colours:
        sys.modules["rich"] = None  # type: ignore[assignment]  # what Python takes for "not installed"
    try:
        yield
    finally:
        if not has_colours:
            del sys.modules["rich"]
        gc.freeze()
        if was_collecting:
            gc.enable()
