"""A throw-away OpenSSH server with a key and port of its own, for the rivals that go over ssh."""

import getpass
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from benchmarks.processes import Server
from benchmarks.tool import Place, Tool, program

_SEPARATION = Path("/run/sshd")


class SshTool(Tool):
    """What scp and rsync share."""

    def __init__(self, place: Place) -> None:
        """Take the place."""
        super().__init__(place)
        self.store = place.scratch / "store"
        self._made_separation = False

    def serve(self) -> Server:
        """Start sshd for this user alone."""
        self.store.mkdir()
        for name in ("host", "user"):
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.place.scratch / name]
            subprocess.run(key, check=True, stdout=subprocess.DEVNULL)
        self.port = self.place.network.free_port()
        config = self.place.write("sshd_config", self._config())
        if not _SEPARATION.exists():
            with suppress(PermissionError):
                _SEPARATION.mkdir(mode=0o755)
                self._made_separation = True
        return Server(self.place.network, [program("sshd"), "-D", "-e", "-f", config], self.place.scratch / "sshd.log", self.port)

    def stop(self) -> None:
        """Stop sshd and remove what it wants to exist."""
        super().stop()
        if self._made_separation:
            _SEPARATION.rmdir()
            self._made_separation = False

    @property
    def options(self) -> list[str]:
        """The options of any ssh client, but for the port."""
        key = self.place.scratch / "user"
        known = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        return ["-F", "none", "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", *known]

    @property
    def remote_shell(self) -> str:
        """The ssh command as rsync wants it."""
        return shlex.join(["ssh", "-p", str(self.port), *self.options])

    def remote(self, name: str) -> str:
        """Return the name of a file in the far store."""
        return f"{getpass.getuser()}@{self.place.network.address}:{self.store / name}"

    def _config(self) -> str:
        return f"""ListenAddress {self.place.network.address}
Port {self.port}
HostKey {self.place.scratch / "host"}
AuthorizedKeysFile {shutil.copy(self.place.scratch / "user.pub", self.place.scratch / "authorized_keys")}
AllowUsers {getpass.getuser()}
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
UseDNS no
PidFile none
LogLevel ERROR
Subsystem sftp internal-sftp
"""
