"""Processes of both ends as /proc shows them, and servers that end with their context."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.network import Network

_TICKS = os.sysconf("SC_CLK_TCK")
_READY_S = 30
_END_S = 10.0
_TIMES = slice(11, 15)
"""utime, stime, cutime, cstime among the fields of /proc/PID/stat after the name."""


class Failed(RuntimeError):
    """A command or server of one tool did not do what it should; the others go on."""


class Server:
    """One server process at the far end, with all that it forks."""

    def __init__(self, network: Network, argv: Sequence[str | Path], log: Path, port: int) -> None:
        """Start it and wait until it listens on `port`."""
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen([*network.far, *argv], stdout=out, stderr=out, process_group=0)
        try:
            self._wait(network, port)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The process that all others come from."""
        return self._process.pid

    def stop(self) -> None:
        """End it and all its children; again is harmless."""
        stop_group(self._process)

    def _wait(self, network: Network, port: int) -> None:
        ready = f"exec 3<>/dev/tcp/{network.address}/{port}"
        deadline = time.monotonic() + _READY_S
        while subprocess.run([*network.near, "bash", "-c", ready], check=False, stderr=subprocess.DEVNULL).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"a server does not listen: {last_lines(self.log)}")
            time.sleep(0.05)


def stop_group(process: "subprocess.Popen[bytes]") -> None:
    """Ask the group of `process` to end, then make it."""
    for number, patience_s in ((signal.SIGTERM, _END_S), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)


def last_lines(log: Path) -> str:
    """Return the end of a log, for a message."""
    return log.read_text(encoding="utf-8", errors="replace")[-800:].strip()


def family(pid: int) -> list[int]:
    """Return `pid` and all its descendants that live; without it, none."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        with suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (thread / "children").read_text(encoding="ascii").split())
            found.append(one)
    return found


def parse_cpu_s(stat: str, ticks: int = _TICKS) -> float:
    """Return the processor time in /proc/PID/stat, in seconds, with that of children that were waited for."""
    return sum(map(int, stat.rsplit(")", 1)[1].split()[_TIMES])) / ticks


def cpu_s(pid: int) -> float:
    """Return the processor time that `pid` and its descendants have taken, in seconds."""
    total = 0.0
    for one in family(pid):
        with suppress(OSError):
            total += parse_cpu_s(Path(f"/proc/{one}/stat").read_text(encoding="utf-8", errors="replace"))
    return total


def waited_s(pid: int) -> float:
    """Return how long the first thread of `pid` was ready to run while others had the processors, in seconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9


def parse_peak_bytes(status: str) -> int:
    """Return the peak resident memory that /proc/PID/status says, in bytes; a process that ended has none."""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory of the largest of `pid` and its descendants, in bytes, since each started."""
    peak = 0
    for one in family(pid):
        with suppress(OSError):
            peak = max(peak, parse_peak_bytes(Path(f"/proc/{one}/status").read_text(encoding="utf-8", errors="replace")))
    return peak
