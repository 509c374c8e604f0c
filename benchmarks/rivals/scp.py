"""scp with AES-256-GCM: what most people move one file with. Not compressed, not sealed at rest, nothing checked on arrival."""

from pathlib import Path
from typing import ClassVar

from benchmarks.measuring import Command
from benchmarks.rivals.sshd import SshTool


class Scp(SshTool):
    """`scp` to a throw-away sshd."""

    name: ClassVar[str] = "scp"
    programs: ClassVar[dict[str, str]] = {"scp": "openssh-client", "sshd": "openssh-server"}
    version_of: ClassVar[tuple[str, ...]] = ("ssh", "-V")

    def push(self, source: Path, version: str) -> Command:
        """Copy a file."""
        words = ["scp", "-q", "-P", str(self.port), "-c", "aes256-gcm@openssh.com", *self.options, source, self.remote(version)]
        return Command(words)
