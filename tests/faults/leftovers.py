"""What a process has and must give back, counted before and after: threads, tasks, open descriptors, temporary files, buffers.

Rules:      1. a pool keeps its threads, so they count as one as long as they are no more than the pool may have
            2. what differs is shown by name, so that a failure says what leaked
"""

import asyncio
import gc
import os
import re
import threading
import weakref
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from carnet.flow import buffers

POOL_THREADS_MAX = min(32, (os.cpu_count() or 1) + 4)
POOLS = {
    "asyncio": POOL_THREADS_MAX,
    "uvloop": POOL_THREADS_MAX,
    "store": 4,
    "store-write": 8,
    "store-name": 8,
    "catalog-read": 2,
}
"""The pools that live as long as the event loop or a site, and how many threads each may have."""
SITES_MAX = 2
"""Sites that a test runs in this process; each has its own pools."""
DEADLINE_S = 20.0


@dataclass(frozen=True)
class Held:
    """How much of what this process has now."""

    threads: Counter[str]
    tasks: Counter[str]
    descriptors: Counter[str]

    def with_connections(self, count: int) -> "Held":
        """Return this with `count` more connections between sites of this process, each with its task and both its ends."""
        tasks = self.tasks + Counter({"task RequestHandler.start": count})
        return Held(self.threads, tasks, self.descriptors + Counter({"descriptor socket": 2 * count}))

    def beyond(self, before: "Held") -> dict[str, int]:
        """Return what is more than `before`."""
        return dict((self.threads - before.threads) + (self.tasks - before.tasks) + (self.descriptors - before.descriptors))


def held() -> Held:
    """Count; called on the event loop, by a task that is not counted."""
    return Held(_threads(), _tasks(), _descriptors())


async def nothing_left(before: Held, *directories: Path) -> None:
    """Return once this process has no more than `before`, and the directories no file that is not under its final name.

    The other end of a connection closes in its own time, and a site publishes its log in its own.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while left := (held().beyond(before) or temporary_files(*directories)):
        assert loop.time() < deadline, f"left over: {left}"
        await asyncio.sleep(0.01)


def temporary_files(*directories: Path) -> list[Path]:
    """Return every file below the directories that is not under its final name."""
    return [
        Path(parent, name)
        for directory in directories
        for parent, names, files in os.walk(directory)
        for name in (*names, *files)
        if parent.endswith("/incoming") or name.startswith(".carnet-") or name.endswith(".tmp")
    ]


class TrackedBuffers:
    """Every buffer that pipelines made while this was in place: how many in all, and how many there are still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the memory of `carnet.flow.buffers` made by a class that can be referred to weakly; it is the same otherwise."""
        made: list[weakref.ref[bytearray]] = []

        class Tracked(bytearray):
            def __init__(self, size: int) -> None:
                super().__init__(size)
                made.append(weakref.ref(self))

        monkeypatch.setattr(buffers, "bytearray", Tracked, raising=False)
        self._made = made

    @property
    def made(self) -> int:
        return len(self._made)

    @property
    def alive(self) -> int:
        gc.collect()
        return sum(one() is not None for one in self._made)


def _threads() -> Counter[str]:
    counted = Counter(re.sub(r"_\d+$", "", thread.name) for thread in threading.enumerate())
    for pool, most in POOLS.items():
        assert counted.pop(pool, 0) <= most * SITES_MAX, counted
    return Counter({f"thread {name}": count for name, count in counted.items()})


def _tasks() -> Counter[str]:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return Counter(f"task {getattr(task.get_coro(), '__qualname__', task)}" for task in others)


def _descriptors() -> Counter[str]:
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the listing's own
        found["descriptor " + re.sub(r":\[\d+\]$", "", target)] += 1
    return found
