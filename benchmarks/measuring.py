"""One command, measured by the same means for every tool: wall time, processor time of both ends, bytes on the wire, memory."""

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.network import Network
from benchmarks.processes import Failed, Server, cpu_s, family, last_lines, peak_bytes, stop_group

_SAMPLE_S = 0.05
_SETTLE_S = 1.0


@dataclass(frozen=True)
class Command:
    """What a client runs; `argv` that is one string is for a shell, as a pipeline is."""

    argv: Sequence[str | Path] | str
    environment: dict[str, str] = field(default_factory=dict)
    directory: Path | None = None

    @property
    def words(self) -> list[str | Path]:
        """The argument list."""
        return ["bash", "-o", "pipefail", "-c", self.argv] if isinstance(self.argv, str) else list(self.argv)


@dataclass(frozen=True)
class Sample:
    """What one run took; `rss_bytes` is that of the larger end's largest process."""

    wall_s: float
    cpu_s: float
    client_cpu_s: float
    """The part of it that the near end took."""
    wire_bytes: int
    rss_bytes: int
    started_at: float
    """Seconds since 1970."""


class _PeakMemory(threading.Thread):
    """Looks at the processes of both ends twenty times a second: what has ended no longer says its peak."""

    def __init__(self, pids: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self._pids = pids
        self._done = threading.Event()
        self.bytes = 0

    def run(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            self.look()

    def look(self) -> None:
        self.bytes = max(self.bytes, *map(peak_bytes, self._pids))

    def finish(self) -> int:
        self._done.set()
        self.join()
        return self.bytes


def execute(network: Network, command: Command, log: Path) -> None:
    """Run a command at the near end, unmeasured; raise `Failed` if it fails."""
    _finish(_start(network, command, log), command, log)


def measure(network: Network, command: Command, server: Server, log: Path) -> Sample:
    """Run a command at the near end against `server` and measure both; its output is in `log`. Raises `Failed`."""
    os.sync()  # so that no tool pays for what another left to be written
    wire, before, kin = network.counters(), cpu_s(server.pid), set(family(server.pid))
    started_at, started = time.time(), time.monotonic()
    process = _start(network, command, log)
    memory = _PeakMemory((process.pid, server.pid))
    memory.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        stop_group(process)
        raise
    finally:
        peak = memory.finish()
    wall_s = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    _check(process, command, log)
    _settle(server, kin)
    client_cpu_s = usage.ru_utime + usage.ru_stime
    server_cpu_s = cpu_s(server.pid) - before
    sent = [new - old for new, old in zip(network.counters(), wire, strict=True)]
    return Sample(
        wall_s=wall_s,
        cpu_s=client_cpu_s + server_cpu_s,
        client_cpu_s=client_cpu_s,
        wire_bytes=max(sent),
        rss_bytes=max(peak, peak_bytes(server.pid)),
        started_at=started_at,
    )


def _start(network: Network, command: Command, log: Path) -> "subprocess.Popen[bytes]":
    environment = os.environ | command.environment
    with log.open("wb") as out:
        return subprocess.Popen(
            [*network.near, *command.words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            cwd=command.directory,
            start_new_session=True,
        )


def _finish(process: "subprocess.Popen[bytes]", command: Command, log: Path) -> None:
    try:
        process.wait()
    except BaseException:
        stop_group(process)
        raise
    _check(process, command, log)


def _check(process: "subprocess.Popen[bytes]", command: Command, log: Path) -> None:
    if process.returncode != 0:
        first = " ".join(map(str, command.words))[:160]
        raise Failed(f"{first}: ended with {process.returncode}: {last_lines(log)}")


def _settle(server: Server, kin: set[int]) -> None:
    """Wait until the server has waited for what it forked for this client: then its time is counted."""
    deadline = time.monotonic() + _SETTLE_S
    while not set(family(server.pid)) <= kin and time.monotonic() < deadline:
        time.sleep(0.01)
