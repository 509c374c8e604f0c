"""zstd, age and curl as a pipeline: compressed and sealed like ours, without chunks, so that every version goes whole."""

import shlex
import subprocess
from pathlib import Path
from typing import ClassVar

from benchmarks.measuring import Command
from benchmarks.processes import Server
from benchmarks.rivals.nginx import NginxTool


class ZstdAgeCurl(NginxTool):
    """`zstd -3 -T0 | age | curl` to a throw-away nginx."""

    name: ClassVar[str] = "zstd-age-curl"
    programs: ClassVar[dict[str, str]] = {"zstd": "zstd", "age": "age", "curl": "curl", "nginx": "nginx-light"}
    version_of: ClassVar[tuple[str, ...]] = ("age", "--version")

    def serve(self) -> Server:
        """Make a recipient and start nginx."""
        key = self.place.scratch / "age.key"
        subprocess.run(["age-keygen", "-o", key], check=True, stderr=subprocess.DEVNULL)
        told = subprocess.run(["age-keygen", "-y", key], check=True, capture_output=True, text=True)
        self._recipient = told.stdout.strip()
        return super().serve()

    def push(self, source: Path, version: str) -> Command:
        """Compress, encrypt and put a file."""
        del version
        return Command(f"zstd -3 -T0 -q -c {shlex.quote(str(source))} | age -r {self._recipient} | {self.curl('-')}")
