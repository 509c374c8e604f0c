"""Carnet as a tool of the comparison: a site of its own at the far end, one agent at the near one.

The site is that of `carnet-gateway dev`, made once, copied for each run while it is empty, and told the address of the wire.
The clock of a push stops at `received`: everything is durable at the gateway and every id was checked. The gateway's log says
when the delivery was done: opened, all digests recomputed, the stored bytes read back.
"""

import json
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from benchmarks.measuring import Command, Sample, execute
from benchmarks.processes import Failed, Server, cpu_s
from benchmarks.site import BIN, make_site, set_keys
from benchmarks.tool import Place, Tool

_DELIVERY_S = 600
_QUIET = ("--json", "--progress", "none")


class Carnet(Tool):
    """`carnet` and `carnet-gateway serve`."""

    name: ClassVar[str] = "carnet"
    programs: ClassVar[dict[str, str]] = {}
    version_of: ClassVar[tuple[str, ...]] = (str(BIN / "carnet"), "--version")

    def __init__(self, place: Place) -> None:
        """Take the place."""
        super().__init__(place)
        self._site = place.scratch / "site"
        self._config = self._site / "agent" / "carnet.toml"

    def serve(self) -> Server:
        """Start a copy of the empty site."""
        template = self.place.shared / "site"
        if not template.exists():
            make_site(template)
        shutil.copytree(template, self._site)
        port = self.place.network.free_port()
        address = f"{self.place.network.address}:{port}"
        set_keys(self._site / "gateway.toml", url=f"https://{address}", listen=[address], hosts=[self.place.network.address])
        set_keys(self._config, url=f"https://{address}")
        return Server(self.place.network, [BIN / "carnet-gateway", "serve", self._site], self.place.scratch / "gateway.log", port)

    def push(self, source: Path, version: str) -> Command:
        """Push and wait for `received`."""
        return self._push(source, version, "received")

    def pull(self, version: str, name: str, target: Path) -> Command:
        """Pull: every signature, proof and digest is checked."""
        where = f"file:{target / name}" if name else f"oci:{target}:{version}"
        return Command([BIN / "carnet", "--config", self._config, "pull", f"bench/item:{version}", where, *_QUIET])

    def prepare(self, source: Path, version: str) -> None:
        """Push and wait for the delivery."""
        execute(self.place.network, self._push(source, version, "delivered"), self.place.scratch / "prepare.log")

    def after_push(self, sample: Sample) -> dict[str, float]:
        """Wait for the delivery; return when it was done and what the site took until then."""
        before = cpu_s(self.server.pid)
        deadline = time.monotonic() + _DELIVERY_S
        while (at := delivered_at(self.server.log.read_text(encoding="utf-8"), sample.started_at)) is None:
            if time.monotonic() > deadline:
                raise Failed(f"nothing was delivered within {_DELIVERY_S} s")
            time.sleep(0.05)
        return {"delivered_s": at - sample.started_at, "delivered_cpu_s": sample.cpu_s + cpu_s(self.server.pid) - before}

    def _push(self, source: Path, version: str, until: str) -> Command:
        what = f"oci:{source}:{version}" if source.is_dir() else f"file:{source}"
        command = [BIN / "carnet", "--config", self._config, "push", what, f"bench/item:{version}", "--wait", until]
        return Command([*command, *_QUIET], {"XDG_CACHE_HOME": str(self.place.scratch / "cache")})


def delivered_at(log: str, since: float) -> float | None:
    """Return when a gateway's log says a delivery was done, in seconds since 1970, if it was after `since`."""
    for line in reversed(log.splitlines()):
        if '"delivery_changed"' in line and '"delivered"' in line:
            event = json.loads(line)
            at = datetime.fromisoformat(event["at"]).timestamp()
            if event["after"] == "delivered" and at >= since:
                return at
    return None
