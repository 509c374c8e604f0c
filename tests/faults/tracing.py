"""Faults of system calls in a process that runs: strace attaches to it and lets chosen calls fail."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def failing(strace: str, pid: int, calls: str, fault: str, *, path: Path | None = None) -> AsyncIterator[None]:
    """Let `calls` of the process fail as `fault` says (`error=EIO:when=3+`), those on `path` only if it is given.

    Yields once strace is attached to every thread; detaches at the end, when the process is still there.
    """
    only = [] if path is None else ["-P", str(path)]
    command = [strace, "-f", "-o", "/dev/null", "-p", str(pid), *only, "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    said: list[str] = []
    try:
        async with asyncio.timeout(60):
            await _attached(process, said)
        reading = asyncio.create_task(_drain(process))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        await process.wait()
    await reading


async def _attached(process: asyncio.subprocess.Process, said: list[str]) -> None:
    assert process.stderr is not None
    while line := await process.stderr.readline():
        said.append(line.decode(errors="replace"))
        if "attached" in said[-1]:
            return
    raise AssertionError("strace did not attach:\n" + "".join(said))


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    while await process.stderr.readline():
        pass
