"""Open files: how many the process may have, and how many connections that leaves room for.

Each connection is an open file, and a process that has used up its share can open neither its catalog nor a segment. So the share
is raised to what the settings ask for; where the system gives less, fewer connections are taken, and files stay openable.
"""

import errno
import resource
from contextlib import suppress
from typing import Final

FILES: Final = 512
"""Open files of a site besides its callers' connections: catalog, store, log, connections to peers, segments being read."""
CONNECTIONS_MIN: Final = 16
OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""What the system says when there is no open file left; it passes when others are closed."""


def connections_that_fit(connections: int, handshakes: int) -> int:
    """Return how many of `connections` there is room for beside `handshakes` and our own files, raising the soft limit first."""
    needed = connections + handshakes + FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        # A sandbox may forbid the call; then what we have is what there is.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    return max(CONNECTIONS_MIN, connections - (needed - soft))
