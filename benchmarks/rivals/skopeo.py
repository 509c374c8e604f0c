"""skopeo and docker-registry over mutual TLS: how images move. Layers go whole or not at all; not sealed at rest."""

from pathlib import Path
from typing import ClassVar

from benchmarks.measuring import Command
from benchmarks.processes import Server
from benchmarks.tool import Tool, program

_SOMEBODY = "1000"
"""With this user id in its environment skopeo keeps its cache where XDG says, not in the system's own directory."""


class Skopeo(Tool):
    """`skopeo copy` to and from a throw-away docker-registry."""

    name: ClassVar[str] = "skopeo"
    programs: ClassVar[dict[str, str]] = {"skopeo": "skopeo", "docker-registry": "docker-registry"}
    version_of: ClassVar[tuple[str, ...]] = ("skopeo", "--version")

    def serve(self) -> Server:
        """Start a registry with an empty store."""
        self.port = self.place.network.free_port()
        pki, scratch = self.place.pki, self.place.scratch
        certificates = scratch / "certificates"
        certificates.mkdir()
        for name, path in (("ca.crt", pki.ca), ("client.cert", pki.client_certificate), ("client.key", pki.client_key)):
            (certificates / name).write_bytes(path.read_bytes())
        config = self.place.write("registry.yml", self._config())
        return Server(self.place.network, [program("docker-registry"), "serve", config], scratch / "registry.log", self.port)

    def push(self, source: Path, version: str) -> Command:
        """Copy an image to the registry."""
        certificates = ["--dest-cert-dir", self.place.scratch / "certificates"]
        return self._copy(*certificates, f"oci:{source}:{version}", self._remote(version))

    def pull(self, version: str, name: str, target: Path) -> Command:
        """Copy an image from the registry; skopeo checks the digests."""
        del name
        certificates = ["--src-cert-dir", self.place.scratch / "certificates"]
        return self._copy(*certificates, self._remote(version), f"oci:{target}:{version}")

    def _copy(self, *arguments: str | Path) -> Command:
        cache = {"_CONTAINERS_ROOTLESS_UID": _SOMEBODY, "XDG_DATA_HOME": str(self.place.scratch / "cache")}
        return Command(["skopeo", "copy", "-q", "--insecure-policy", *arguments], cache)

    def _remote(self, version: str) -> str:
        return f"docker://{self.place.network.address}:{self.port}/item:{version}"

    def _config(self) -> str:
        pki = self.place.pki
        return f"""version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {self.place.scratch / "store"}}}}}
http:
  addr: {self.place.network.address}:{self.port}
  tls:
    certificate: {pki.server_certificate}
    key: {pki.server_key}
    clientcas: [{pki.ca}]
    minimumtls: tls1.3
"""
