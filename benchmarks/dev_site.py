"""A site to measure: `carnet-gateway dev` as a process of its own, and what the two processes took."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

BIN = Path(sys.executable).parent
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """One command: what it printed, and what it and the gateway took."""

    answer: dict[str, Any]
    wall_s: float
    client_cpu_s: float
    client_rss_bytes: int
    server_cpu_s: float
    server_rss_bytes: int


class DevSite:
    """A fresh site in a directory; stopped with the context."""

    def __init__(self, directory: Path) -> None:
        """Name the directory; it is made at the start."""
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None
        self.config = ""

    def __enter__(self) -> Self:
        """Start and wait for the line."""
        self._process = subprocess.Popen(
            [BIN / "carnet-gateway", "dev", self._directory], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.config = json.loads(self._process.stdout.readline())["config"]
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.communicate(timeout=30)

    def carnet(self, *arguments: str) -> Run:
        """Run `carnet` and measure it and the gateway meanwhile; peak memory of the gateway is since its start."""
        before = self._server_cpu_s()
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        process = subprocess.Popen(
            [BIN / "carnet", "--config", self.config, *arguments, "--json", "--progress", "none"],
            stdout=subprocess.PIPE,
            text=True,
        )
        output, _ = process.communicate()
        wall_s = time.monotonic() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode != 0:
            raise RuntimeError(f"carnet {' '.join(arguments[:1])} ended with {process.returncode}: {output}")
        return Run(
            answer=json.loads(output),
            wall_s=wall_s,
            client_cpu_s=after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime,
            client_rss_bytes=after.ru_maxrss * 1024,
            server_cpu_s=self._server_cpu_s() - before,
            server_rss_bytes=self._server_status("VmHWM") * 1024,
        )

    def wait(self, transfer: str) -> None:
        """Wait until a transfer is delivered."""
        command = [BIN / "carnet", "--config", self.config, "transfer", "wait", transfer, "-q"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def _server_status(self, name: str) -> int:
        assert self._process is not None
        for line in Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise KeyError(name)

    def _server_cpu_s(self) -> float:
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
