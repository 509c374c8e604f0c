"""curl to nginx over mutual TLS: the quickest way to put one file elsewhere. Not sealed at rest, nothing checked on arrival."""

from pathlib import Path
from typing import ClassVar

from benchmarks.measuring import Command
from benchmarks.rivals.nginx import NginxTool


class CurlNginx(NginxTool):
    """`curl -T FILE` to a throw-away nginx."""

    name: ClassVar[str] = "curl-nginx"
    programs: ClassVar[dict[str, str]] = {"curl": "curl", "nginx": "nginx-light"}
    version_of: ClassVar[tuple[str, ...]] = ("nginx", "-v")

    def push(self, source: Path, version: str) -> Command:
        """Put a file."""
        del version
        return Command(self.curl(str(source)))
