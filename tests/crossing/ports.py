"""Ports for sites: each is one worker's alone, and none that the system gives to a connection by itself.

A site that is stopped must find its port free when it starts again, for its address is in a signed bundle.
"""

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path


def _ports() -> Iterator[int]:
    """Yield the ports of this worker, again and again."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first_of_connections = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    mine = range(min(10_000, first_of_connections // 2) + worker, first_of_connections, workers)
    start = random.randrange(len(mine))
    return itertools.cycle([*mine[start:], *mine[:start]])


_PORTS = _ports()


def free_port() -> int:
    """Return a port of loopback that nobody uses now, and that nobody else is given in this run of the tests."""
    while True:
        port = next(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
