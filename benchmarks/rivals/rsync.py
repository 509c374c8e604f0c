"""rsync over ssh with zstd: the least bytes for a next version, as long as the far end keeps the old one in the clear."""

from pathlib import Path
from typing import ClassVar

from benchmarks.measuring import Command
from benchmarks.rivals.sshd import SshTool


class Rsync(SshTool):
    """`rsync -z` to a throw-away sshd; every version goes to the same name."""

    name: ClassVar[str] = "rsync-z"
    programs: ClassVar[dict[str, str]] = {"rsync": "rsync", "ssh": "openssh-client", "sshd": "openssh-server"}
    version_of: ClassVar[tuple[str, ...]] = ("rsync", "--version")

    def push(self, source: Path, version: str) -> Command:
        """Bring the far file to this version."""
        del version
        shell = ("-e", self.remote_shell)
        return Command(["rsync", "-z", "--zc=zstd", "--zl=3", *shell, source, self.remote("item")])
