"""restic to `rclone serve restic` over mutual TLS: chunked, compressed and encrypted, as ours is; a backup, not a delivery."""

from pathlib import Path
from typing import ClassVar

from benchmarks.measuring import Command, execute
from benchmarks.processes import Server
from benchmarks.tool import Tool, program


class Restic(Tool):
    """`restic backup` and `restic restore` of one file."""

    name: ClassVar[str] = "restic"
    programs: ClassVar[dict[str, str]] = {"restic": "restic", "rclone": "rclone"}
    version_of: ClassVar[tuple[str, ...]] = ("restic", "version")

    def serve(self) -> Server:
        """Start rclone with an empty store."""
        self.port = self.place.network.free_port()
        pki, scratch = self.place.pki, self.place.scratch
        tls = ["--cert", pki.server_certificate, "--key", pki.server_key, "--client-ca", pki.ca]
        config = ["--config", self.place.write("rclone.conf", "")]
        address = ["--addr", f"{self.place.network.address}:{self.port}"]
        words = [program("rclone"), *config, "serve", "restic", *address, *tls, scratch / "store"]
        (scratch / "store").mkdir()
        return Server(self.place.network, words, scratch / "rclone.log", self.port)

    def start(self) -> None:
        """Start the server and make a repository."""
        super().start()
        execute(self.place.network, self._restic("init", "--repository-version", "2"), self.place.scratch / "init.log")

    def push(self, source: Path, version: str) -> Command:
        """Back up a file under its own name."""
        return self._restic("backup", "--tag", version, source.name, directory=source.parent)

    def pull(self, version: str, name: str, target: Path) -> Command:
        """Restore it; restic checks every blob that it reads."""
        del name
        return self._restic("restore", "latest", "--tag", version, "--target", str(target))

    def _restic(self, *arguments: str, directory: Path | None = None) -> Command:
        pki = self.place.pki
        url = f"rest:https://{self.place.network.address}:{self.port}/item/"
        tls = ["--cacert", pki.ca, "--tls-client-cert", pki.client_both]
        words = [program("restic"), "-q", *tls, "--cache-dir", self.place.scratch / "cache", "-r", url, *arguments]
        return Command(words, {"RESTIC_PASSWORD": "bench"}, directory)
