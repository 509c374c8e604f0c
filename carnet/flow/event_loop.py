"""Which event loop a program runs on: uvloop where there is one, whose TLS does not run in Python for each record.

Rules:      1. what a program does is the same on either
"""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop, not yet running."""
    try:
        import uvloop
    except ImportError:  # not on Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
