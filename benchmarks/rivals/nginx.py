"""A throw-away nginx that takes PUT over mutual TLS 1.3, for the rivals that go over curl."""

import os
import shlex

from benchmarks.processes import Server
from benchmarks.tool import Tool, program


class NginxTool(Tool):
    """What both curl rivals share."""

    def serve(self) -> Server:
        """Start nginx with an empty store."""
        for name in ("store", "temporary"):
            (self.place.scratch / name).mkdir()
        self.port = self.place.network.free_port()
        config = self.place.write("nginx.conf", self._config())
        words = [program("nginx"), "-p", self.place.scratch, "-e", self.place.scratch / "error.log", "-c", config]
        return Server(self.place.network, words, self.place.scratch / "nginx.log", self.port)

    def curl(self, source: str) -> str:
        """Return the shell command that puts `source` (`-`: standard input)."""
        pki = self.place.pki
        words = ["curl", "-sSf", "--cacert", pki.ca, "--cert", pki.client_certificate, "--key", pki.client_key]
        url = f"https://{self.place.network.address}:{self.port}/item"
        return shlex.join([*map(str, words), "--tlsv1.3", "-o", "/dev/null", "-T", source, url])

    def _config(self) -> str:
        pki, scratch = self.place.pki, self.place.scratch
        user = "user root;" if os.geteuid() == 0 else ""
        return f"""{user}
daemon off;
worker_processes auto;
pid {scratch}/nginx.pid;
error_log {scratch}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {scratch}/temporary;
  proxy_temp_path {scratch}/temporary/proxy;
  fastcgi_temp_path {scratch}/temporary/fastcgi;
  uwsgi_temp_path {scratch}/temporary/uwsgi;
  scgi_temp_path {scratch}/temporary/scgi;
  client_max_body_size 0;
  server {{
    listen {self.place.network.address}:{self.port} ssl;
    ssl_protocols TLSv1.3;
    ssl_certificate {pki.server_certificate};
    ssl_certificate_key {pki.server_key};
    ssl_client_certificate {pki.ca};
    ssl_verify_client on;
    root {scratch}/store;
    location / {{ dav_methods PUT; }}
  }}
}}
"""
